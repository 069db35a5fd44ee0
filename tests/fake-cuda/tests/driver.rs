//! The driver as the program's host code meets it. Oracle: the CUDA driver's manual, by hand.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use crate::support::{Bench, Launch, orders, run_child_with};

#[repr(C)]
#[derive(Clone, Copy)]
struct ResidualArgs {
    y: u64,
    x: u64,
    elements: u64,
}

fn add(blocks: u32) -> Launch {
    let image = fake_cuda::Fake::images().join("residual.bin");
    Launch { image, kernel: "add_f32", blocks, threads: 256, shared: 0 }
}

fn code<T>(outcome: Result<T, result::DriverError>) -> i32 {
    outcome.map_or_else(|error| error.0 as i32, |_| 0)
}

#[test]
fn a_kernel_of_the_program_runs() {
    let Some(bench) = Bench::new() else { return };
    let x: Vec<f32> = (0..1000).map(|i| i as f32 * 0.25).collect();
    let y: Vec<f32> = (0..1000).map(|i| 3.0 - i as f32).collect();
    for order in orders() {
        bench.fake.set_order(Some(order));
        let (to, from) = (bench.upload(&x).expect("room"), bench.upload(&y).expect("room"));
        bench
            .run(&add(2), &ResidualArgs { y: from, x: to, elements: 1000 })
            .expect("a right kernel");
        let got: Vec<f32> = bench.download(to, 1000).expect("a copy");
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        assert_eq!(got, want, "{order:?}");
    }
}

#[test]
fn memory_ends_and_is_counted() {
    let Some(bench) = Bench::new() else { return };
    bench.fake.set_memory(bench.ordinal, 1000);
    let first = bench.room(600).expect("it fits");
    assert_eq!(code(bench.room(600)), 2, "out of memory");
    assert_eq!(result::mem_get_info().expect("a device"), (400, 1000));
    assert_eq!(bench.download::<u8>(first, 600).expect("a copy"), [0xff; 600], "NaN at first");
    // SAFETY: not used afterwards.
    unsafe { result::free_sync(first) }.expect("it was allocated");
    let counters = bench.fake.counters(bench.ordinal);
    assert_eq!((counters.launches, counters.copied, counters.allocated), (0, 600, 0));
    bench.room(1000).expect("the memory is free again");
}

#[test]
fn wrong_ranges_are_refused_and_reported() {
    let Some(bench) = Bench::new() else { return };
    let at = bench.upload(&[1.0f32; 8]).expect("room");
    assert_eq!(code(bench.download::<f32>(at, 9)), 1);
    assert!(bench.fake.report(bench.ordinal).contains("runs past the end"));
    assert_eq!(code(bench.download::<f32>(64, 1)), 1);
    // SAFETY: freed once too often, on purpose.
    unsafe {
        result::free_sync(at).expect("it was allocated");
        assert_eq!(code(result::free_sync(at)), 1);
    }
    assert_eq!(code(bench.download::<f32>(at, 8)), 1);
    assert!(bench.fake.last_report().contains("was freed"));
}

#[test]
fn a_kernel_that_gets_freed_memory_fails() {
    let Some(bench) = Bench::new() else { return };
    let (x, y) = (bench.room(4096).expect("room"), bench.room(4096).expect("room"));
    // SAFETY: used afterwards, on purpose.
    unsafe { result::free_sync(y) }.expect("it was allocated");
    assert_eq!(code(bench.run(&add(1), &ResidualArgs { y, x, elements: 16 })), 700);
    assert!(bench.fake.report(bench.ordinal).contains("add_f32 is given memory that was freed"));
    assert_eq!(code(bench.room(16)), 700, "the device stays broken");
    bench.fake.reset(bench.ordinal);
    bench.room(16).expect("it is mended");
}

#[test]
fn a_device_breaks_when_told() {
    let Some(bench) = Bench::new() else { return };
    let (x, y) = (bench.room(4096).expect("room"), bench.room(4096).expect("room"));
    bench.fake.fail(bench.ordinal, 2, 719);
    let args = ResidualArgs { y, x, elements: 16 };
    bench.run(&add(1), &args).expect("the first launch");
    assert_eq!(code(bench.run(&add(1), &args)), 719, "seen by the wait after the second");
    assert_eq!(code(bench.download::<u8>(x, 1)), 719, "and by everything else");
    assert_eq!(bench.fake.counters(bench.ordinal).launches, 2);
}

#[test]
fn launches_are_checked() {
    let Some(bench) = Bench::new() else { return };
    let (x, y) = (bench.room(4096).expect("room"), bench.room(4096).expect("room"));
    let args = ResidualArgs { y, x, elements: 16 };
    for (launch, why) in [
        (Launch { threads: 512, ..add(1) }, "more threads than"),
        (Launch { threads: 40, ..add(1) }, "whole warps"),
        (Launch { blocks: 0, ..add(1) }, "no blocks"),
        (Launch { shared: 49 * 1024, ..add(1) }, ""),
    ] {
        let outcome = bench.run(&launch, &args);
        if why.is_empty() {
            outcome.expect("the function was allowed so much");
            continue;
        }
        assert_eq!(code(outcome), 1, "{why}");
        assert!(bench.fake.report(bench.ordinal).contains(why), "{why}");
    }
    let too_much = Launch { shared: 228 * 1024, ..add(1) };
    assert_eq!(code(bench.run(&too_much, &args)), 1, "more than any block may have");
}

#[test]
fn images_of_other_machines_are_refused() {
    let Some(_bench) = Bench::new() else { return };
    let load = |bytes: &[u8]| {
        // SAFETY: the driver looks at the first 64 bytes.
        code(unsafe { result::module::load_data(bytes.as_ptr().cast::<c_void>()) })
    };
    let mut cubin = [0; 64];
    cubin[..5].copy_from_slice(b"\x7fELF\x02");
    cubin[18] = 190;
    assert_eq!(load(&cubin), 209);
    let mut fatbin = [0; 64];
    fatbin[..4].copy_from_slice(&[0x50, 0xed, 0x55, 0xba]);
    assert_eq!(load(&fatbin), 209);
    assert_eq!(load(&[b'.'; 64]), 200);
}

#[test]
fn an_image_publishes_its_arguments() {
    let Some(bench) = Bench::new() else { return };
    let module = bench.load(&fake_cuda::Fake::images().join("residual.bin")).expect("an image");
    let mut out = [0u32; 2];
    // SAFETY: the module lives on, and the variable is two words long.
    unsafe {
        let (at, bytes) = result::module::get_global(module, c"add_f32_published".to_owned())
            .expect("a variable");
        assert_eq!(bytes, 8);
        result::memcpy_dtoh_sync(&mut out, at).expect("it is device memory");
    }
    assert_eq!(out, [24, 256]);
}

#[test]
fn threads_of_the_host_launch_at_once() {
    let Some(_) = Bench::new() else { return };
    std::thread::scope(|scope| {
        for i in 0..4 {
            scope.spawn(move || {
                let bench = Bench::new().expect("it is there");
                let x = bench.upload(&vec![i as f32; 4096]).expect("room");
                let y = bench.upload(&vec![1.0f32; 4096]).expect("room");
                for _ in 0..5 {
                    bench.run(&add(4), &ResidualArgs { y, x, elements: 4096 }).expect("right");
                }
                let got = bench.download::<f32>(x, 4096).expect("a copy");
                assert_eq!(got, vec![i as f32 + 5.0; 4096]);
                assert_eq!(bench.fake.counters(bench.ordinal).launches, 5);
            });
        }
    });
}

#[test]
fn a_graph_replays_what_was_captured() {
    let Some(bench) = Bench::new() else { return };
    let (x, y) =
        (bench.upload(&[0.0f32; 8]).expect("room"), bench.upload(&[1.0f32; 8]).expect("room"));
    let module = bench.load(&add(1).image).expect("an image");
    let args = ResidualArgs { y, x, elements: 8 };
    let mut parameters = [std::ptr::from_ref(&args).cast_mut().cast::<c_void>()];
    // SAFETY: the struct that the kernel takes; the stream and the graph live to the end.
    unsafe {
        let function = result::module::get_function(module, c"add_f32".to_owned()).expect("there");
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).expect("one");
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        sys::cuStreamBeginCapture_v2(stream, mode).result().expect("it begins");
        for _ in 0..3 {
            result::launch_kernel(function, (1, 1, 1), (256, 1, 1), 0, stream, &mut parameters)
                .expect("captured");
        }
        let (mut graph, mut made) = (std::ptr::null_mut(), std::ptr::null_mut());
        sys::cuStreamEndCapture(stream, &mut graph).result().expect("it ends");
        assert_eq!(bench.download::<f32>(x, 8).expect("a copy"), [0.0; 8], "nothing ran yet");
        sys::cuGraphInstantiateWithFlags(&mut made, graph, 0).result().expect("it is a graph");
        for _ in 0..2 {
            sys::cuGraphLaunch(made, stream).result().expect("it is made");
        }
        result::stream::synchronize(stream).expect("nothing failed");
    }
    assert_eq!(bench.download::<f32>(x, 8).expect("a copy"), [6.0; 8]);
    assert_eq!(bench.fake.counters(bench.ordinal).launches, 6);
}

/// A producer and a consumer on two streams; whether the consumer saw what was produced.
fn two_streams(with_event: bool) -> bool {
    let bench = Bench::new().expect("it is there");
    let zeros = bench.upload(&[0.0f32; 64]).expect("room");
    let ones = bench.upload(&[1.0f32; 64]).expect("room");
    let module = bench.load(&add(1).image).expect("an image");
    let mut out = [0.0f32; 64];
    // SAFETY: everything lives until the last wait.
    unsafe {
        let function = result::module::get_function(module, c"add_f32".to_owned()).expect("there");
        let stream =
            || result::stream::create(result::stream::StreamKind::NonBlocking).expect("one");
        let (first, second) = (stream(), stream());
        let event =
            result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).expect("one");
        let args = ResidualArgs { y: ones, x: zeros, elements: 64 };
        let mut parameters = [std::ptr::from_ref(&args).cast_mut().cast::<c_void>()];
        for _ in 0..3 {
            result::launch_kernel(function, (1, 1, 1), (256, 1, 1), 0, first, &mut parameters)
                .expect("launched");
        }
        result::event::record(event, first).expect("recorded");
        if with_event {
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            result::stream::wait_event(second, event, flags).expect("it waits");
        }
        result::memcpy_dtoh_async(&mut out, zeros, second).expect("queued");
        result::stream::synchronize(second).expect("nothing failed");
        result::stream::synchronize(first).expect("nothing failed");
    }
    out == [3.0; 64]
}

/// Pinned memory overwritten right after its copy was queued; whether the copy had the old values.
fn overwritten_upload() -> bool {
    let bench = Bench::new().expect("it is there");
    let to = bench.room(256).expect("room");
    // SAFETY: 64 floats, allocated as such; the early write is the mistake.
    unsafe {
        let pinned = result::malloc_host(256, 0).expect("memory").cast::<f32>();
        let values = std::slice::from_raw_parts_mut(pinned, 64);
        values.fill(1.0);
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).expect("one");
        result::memcpy_htod_async(to, values, stream).expect("queued");
        values.fill(2.0);
        result::stream::synchronize(stream).expect("nothing failed");
    }
    bench.download::<f32>(to, 64).expect("a copy") == [1.0; 64]
}

#[test]
fn lazy_streams_show_missing_events() {
    let Some(_) = Bench::new() else { return };
    let mut seen = [0; 3];
    for seed in 1..=8 {
        let seed = seed.to_string();
        let lazy = [("FAKECUDA_LAZY", "1"), ("FAKECUDA_SEED", seed.as_str())];
        let lines = run_child_with("driver::lazy_child", "yes", &lazy);
        for (i, what) in ["event true", "none false", "upload false"].iter().enumerate() {
            seen[i] += usize::from(lines.contains(what));
        }
    }
    assert_eq!(seen[0], 8, "an event orders two streams");
    assert!(seen[1] >= 2, "without it the order shows in {} of 8 runs", seen[1]);
    assert_eq!(seen[2], 8, "a copy that is still under way reads what was written over it");
}

#[test]
fn lazy_child() {
    if std::env::var("FAKE_CUDA_CHILD").is_err() {
        return;
    }
    eprintln!("event {}", two_streams(true));
    eprintln!("none {}", two_streams(false));
    eprintln!("upload {}", overwritten_upload());
}

#[test]
fn the_library_is_found_by_its_names() {
    let Some(_) = Bench::new() else { return };
    // SAFETY: loads a library that is loaded already.
    assert!(unsafe { sys::is_culib_present() });
    let out = run_child_with("driver::no_device_child", "yes", &[("FAKECUDA_DEVICES", "0")]);
    assert!(out.contains("init 100"), "{out}");
}

#[test]
fn no_device_child() {
    if std::env::var("FAKE_CUDA_CHILD").is_err() {
        return;
    }
    let _fake = fake_cuda::install();
    eprintln!("init {}", code(result::init()));
}

#[test]
fn other_drivers_can_be_told_apart() {
    let Some(_) = Bench::new() else { return };
    for (folder, said) in [
        (fake_cuda::library_dir().to_owned(), "init 0, launch true"),
        (fake_cuda::stub_dir(), "init 34, launch false"),
        (fake_cuda::old_dir(), "init 0, launch false"),
    ] {
        let folder = folder.to_str().expect("a UTF-8 path");
        let out = run_child_with("driver::probe_child", "yes", &[("LD_LIBRARY_PATH", folder)]);
        assert!(out.contains(said), "{folder}: {out}");
    }
}

#[test]
fn probe_child() {
    if std::env::var("FAKE_CUDA_CHILD").is_err() {
        return;
    }
    // SAFETY: asks for symbols by name, and calls only what every driver has.
    unsafe {
        assert!(sys::is_culib_present());
        let library = sys::culib();
        let launch = library.get::<*const ()>(b"cuLaunchKernel\0").is_ok();
        eprintln!("init {}, launch {launch}", sys::cuInit(0) as i32);
    }
}
