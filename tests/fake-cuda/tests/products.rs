//! Products of matrices over cp.async and mma, and over bulk copies and wgmma. Oracle: sums in f64
//! over the same bf16 values; mutants/*.cu say what each wrong kernel does.

use crate::support::{Bench, Caught, Launch, expect_caught, orders, run_child};
use cudarc::driver::sys;
use fake_cuda::Flavour;

/// Rows of small bf16 numbers.
fn matrix(rows: usize, columns: usize, seed: u32) -> Vec<u16> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) as f32 / 32768.0 - 1.0).to_bits().wrapping_add(0x8000) >> 16
    };
    (0..rows * columns).map(|_| next() as u16).collect()
}

fn value(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// Whether `out` is x w^T, as far as float sums can tell.
fn is_product(out: &[f32], x: &[u16], w: &[u16], inner: usize) -> bool {
    let columns = w.len() / inner;
    out.iter().enumerate().all(|(i, got)| {
        let (row, column) = (i / columns, i % columns);
        let pairs = x[row * inner..][..inner].iter().zip(&w[column * inner..][..inner]);
        let want: f64 = pairs.map(|(a, b)| value(*a) * value(*b)).sum();
        (f64::from(*got) - want).abs() < 1e-4
    })
}

#[repr(C)]
struct TilesArgs {
    x: u64,
    w: u64,
    out: u64,
    inner: u64,
}

fn tiles(bench: &Bench, kernel: &'static str) -> Result<bool, String> {
    const INNER: usize = 160;
    let report = |_| bench.fake.report(bench.ordinal);
    let (x, w) = (matrix(16, INNER, 1), matrix(8, INNER, 2));
    let args = TilesArgs {
        x: bench.upload(&x).map_err(report)?,
        w: bench.upload(&w).map_err(report)?,
        out: bench.room(16 * 8 * 4).map_err(report)?,
        inner: INNER as u64,
    };
    let image = fake_cuda::mutants().join("tiles.bin");
    let launch = Launch { image, kernel, blocks: 1, threads: 32, shared: 0 };
    bench.run(&launch, &args).map_err(report)?;
    let out: Vec<f32> = bench.download(args.out, 16 * 8).map_err(report)?;
    Ok(is_product(&out, &x, &w, INNER))
}

#[repr(C, align(64))]
struct RingArgs {
    x_map: sys::CUtensorMap,
    w_map: sys::CUtensorMap,
    out: u64,
    steps: u32,
    swizzle: u32,
}

/// A map of [rows, columns] bf16 with boxes of all rows and `wide` columns.
fn map(start: u64, rows: u64, columns: u64, wide: u32) -> Result<sys::CUtensorMap, sys::CUresult> {
    let mut map = std::mem::MaybeUninit::<sys::CUtensorMap>::zeroed();
    let swizzle = match wide {
        8 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
        16 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_32B,
        32 => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_64B,
        _ => sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
    };
    let rows_32 = u32::try_from(rows).expect("a small matrix");
    // SAFETY: arrays of rank 2 (strides: 1) that live through the call; zeros are a valid map.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            map.as_mut_ptr(),
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            2,
            start as *mut std::ffi::c_void,
            [columns, rows].as_ptr(),
            [columns * 2].as_ptr(),
            [wide, rows_32].as_ptr(),
            [1, 1].as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
        .result()
        .map_err(|error| error.0)?;
        Ok(map.assume_init())
    }
}

/// `span`: elements of a row of a box. The matrices end inside the last step: zeros come instead.
fn ring(bench: &Bench, kernel: &'static str, span: u32) -> Result<bool, String> {
    const INNER: usize = 4 * 64 + 24;
    let report = |_| bench.fake.report(bench.ordinal);
    let (x, w) = (matrix(64, INNER, 3), matrix(128, INNER, 4));
    let start = |values: &[u16]| bench.upload(values).map_err(report);
    let maps = |at, rows| map(at, rows, INNER as u64, span).map_err(|code| format!("{code:?}"));
    let args = RingArgs {
        x_map: maps(start(&x)?, 64)?,
        w_map: maps(start(&w)?, 128)?,
        out: bench.room(64 * 128 * 4).map_err(report)?,
        steps: 5,
        swizzle: match span {
            64 => 1,
            32 => 2,
            16 => 3,
            _ => 0,
        },
    };
    let image = fake_cuda::mutants().join("ring_sm90.bin");
    let launch = Launch { image, kernel, blocks: 1, threads: 160, shared: 2 * 192 * 128 };
    bench.run(&launch, &args).map_err(report)?;
    let out: Vec<f32> = bench.download(args.out, 64 * 128).map_err(report)?;
    Ok(is_product(&out, &x, &w, INNER))
}

#[test]
fn right_in_any_order() {
    let Some(bench) = Bench::new() else { return };
    for order in orders() {
        bench.fake.set_order(Some(order));
        assert_eq!(tiles(&bench, "tiles_right"), Ok(true), "{order:?}");
        for span in [64, 32, 16, 8] {
            assert_eq!(ring(&bench, "ring_right", span), Ok(true), "{order:?}, {span}");
        }
    }
}

#[test]
fn mistakes_with_copies_are_caught() {
    for kernel in ["tiles_no_wait", "tiles_short_wait", "tiles_few_slots", "tiles_wrong_chunk"] {
        expect_caught(kernel, Caught::Wrong, |bench| tiles(bench, kernel));
    }
}

#[test]
fn mistakes_with_rings_are_caught() {
    use Caught::{Report, Wrong};
    for (kernel, caught) in [
        ("ring_no_empty_wait", Wrong),
        ("ring_wrong_parity", Report(&["deadlock", "barrier_wait", "ring_sm90.cu"])),
        ("ring_few_bytes", Wrong),
        ("ring_extra_arrival", Report(&["more arrivals", "ring_sm90.cu"])),
        ("ring_no_group_wait", Report(&["no group_wait", "ring_sm90.cu"])),
        ("ring_early_release", Wrong),
        ("ring_no_fence", Report(&["group_fence", "ring_sm90.cu"])),
        ("ring_wrong_swizzle", Wrong),
        ("ring_wrong_stride", Wrong),
        ("ring_one_lane", Report(&["different descriptors", "ring_sm90.cu"])),
        ("ring_no_init", Report(&["not initialised as a barrier", "ring_sm90.cu"])),
    ] {
        expect_caught(kernel, caught, |bench| ring(bench, kernel, 64));
    }
}

#[test]
fn the_thread_sanitizer_sees_races_in_pipelines() {
    if !crate::support::needs(Flavour::Thread) {
        return;
    }
    for kernel in ["tiles_few_slots", "tiles_no_warp_sync", "ring_early_release"] {
        let stderr = run_child("products::child", kernel);
        assert!(stderr.contains("data race"), "{kernel}: {stderr}");
    }
    for kernel in ["tiles_right", "ring_right"] {
        let stderr = run_child("products::child", kernel);
        assert!(!stderr.contains("ThreadSanitizer"), "{kernel}: {stderr}");
    }
}

/// Runs one kernel in a process that may be stopped by a sanitizer.
#[test]
fn child() {
    let Ok(kernel) = std::env::var("FAKE_CUDA_CHILD") else { return };
    let Some(bench) = Bench::new() else { return };
    let kernel: &'static str = Box::leak(kernel.into_boxed_str());
    let right =
        if kernel.starts_with("ring") { ring(&bench, kernel, 64) } else { tiles(&bench, kernel) };
    eprintln!("{right:?}");
}
