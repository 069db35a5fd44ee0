//! Blocks: shared memory, barriers, warps. Oracle: mutants/block.cu says what each kernel does
//! wrong; the right one is checked against the same sums in Rust.

use crate::support::{Bench, Caught, Launch, expect_caught, orders, run_child};
use fake_cuda::{Fake, Flavour};

#[repr(C)]
struct BlockArgs {
    input: u64,
    out: u64,
    rows: u64,
}

/// How far a run is from the right sums, or the report.
fn turn(bench: &Bench, kernel: &'static str) -> Result<bool, String> {
    let rows: Vec<f32> = (0..3 * 64).map(|i| (i * i % 97) as f32).collect();
    let want: Vec<f32> =
        (0..64).map(|i| (0..3).map(|r| rows[r * 64 + 63 - i]).sum::<f32>()).collect();
    let report = |_| bench.fake.report(bench.ordinal);
    let input = bench.upload(&rows).map_err(report)?;
    let out = bench.room(64 * 4).map_err(report)?;
    let image = fake_cuda::mutants().join("block.bin");
    let launch = Launch { image, kernel, blocks: 1, threads: 64, shared: 0 };
    bench.run(&launch, &BlockArgs { input, out, rows: 3 }).map_err(report)?;
    let got: Vec<f32> = bench.download(out, 64).map_err(report)?;
    Ok(got == want)
}

#[test]
fn right_in_any_order() {
    let Some(bench) = Bench::new() else { return };
    for order in orders() {
        bench.fake.set_order(Some(order));
        assert_eq!(turn(&bench, "block_right"), Ok(true), "{order:?}");
    }
}

#[test]
fn mistakes_are_caught() {
    use Caught::{Report, Wrong};
    const LINE: &str = "mutants/block.cu";
    for (kernel, caught) in [
        ("block_no_barrier", Wrong),
        ("block_no_second_barrier", Wrong),
        ("block_diverged", Report(&["__syncthreads", LINE])),
        ("block_early_return", Report(&["deadlock", "32 threads", "returned", LINE])),
        ("block_uninitialised", Wrong),
        ("block_missing_lane", Report(&["lanes 0-15", "__shfl_xor_sync", LINE])),
        ("block_stuck", Report(&["deadlock", "named_barrier", LINE])),
    ] {
        expect_caught(kernel, caught, |bench| turn(bench, kernel));
    }
    if fake_cuda::flavour() != Flavour::Address {
        expect_caught("block_shared_end", Wrong, |bench| turn(bench, "block_shared_end"));
        if fake_cuda::flavour() == Flavour::Plain {
            let fault = Report(&["illegal access", "thread (33, 0, 0)", LINE]);
            expect_caught("block_wild", fault, |bench| turn(bench, "block_wild"));
        }
        let guard = Report(&["written outside its allocation"]);
        expect_caught("block_global_end", guard, |bench| turn(bench, "block_global_end"));
    }
}

#[test]
fn the_address_sanitizer_names_the_line() {
    if !crate::support::needs(Flavour::Address) {
        return;
    }
    for (kernel, what) in
        [("block_global_end", "heap-buffer-overflow"), ("block_shared_end", "block.cu")]
    {
        let stderr = run_child("block::child", kernel);
        assert!(stderr.contains(what) && stderr.contains("block.cu"), "{kernel}: {stderr}");
    }
    let stderr = run_child("block::child", "block_right");
    assert!(!stderr.contains("Sanitizer") && !stderr.contains("runtime error"), "{stderr}");
}

#[test]
fn the_thread_sanitizer_sees_races_that_did_not_show() {
    if !crate::support::needs(Flavour::Thread) {
        return;
    }
    for kernel in ["block_no_barrier", "block_no_second_barrier", "block_same_word"] {
        let stderr = run_child("block::child", kernel);
        let seen = stderr.contains("data race") && stderr.contains("block.cu");
        assert!(seen, "{kernel}: {stderr}");
    }
    let stderr = run_child("block::child", "block_right");
    assert!(!stderr.contains("ThreadSanitizer"), "{stderr}");
}

/// Runs one kernel in a process that may be stopped by a sanitizer.
#[test]
fn child() {
    let Ok(kernel) = std::env::var("FAKE_CUDA_CHILD") else { return };
    let Some(bench) = Bench::new() else { return };
    let right = turn(&bench, Box::leak(kernel.into_boxed_str()));
    eprintln!("{right:?} on {}", Fake::images().display());
}
