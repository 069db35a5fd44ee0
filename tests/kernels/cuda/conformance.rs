//! The wrappers of `kernels/device.cuh` and `device_sm90.cuh`, and what kernels rely on of the
//! language itself, one small kernel each (`conformance/*.cu`). The rest of the tests believes the
//! fake driver's twins of these; here the twins are held to the hardware's documented behaviour,
//! and a real GPU is as well, by the same kernels and the same laws (`ELECTRODE_TEST_GPU=real`,
//! images from `ELECTRODE_CONFORMANCE_IMAGES`, see benches/gpu.sh).
//! Oracle: for each word its law in Rust, from the PTX manual and IEEE 754 alone: exact bits, or a
//! value in f64 and the documented bound. And what real GPUs wrote: `ELECTRODE_CONFORMANCE_SAVE`
//! names a folder for it; files put into `conformance/` are compared with the twins from then on.
#![expect(unsafe_code, reason = "launches kernels through the driver")]

mod case;
mod hopper;
mod machine;
mod matrices;
mod numbers;
mod saved;
mod threads;

use case::Case;
use machine::Machine;
use saved::Saved;

fn cases() -> Vec<Case> {
    [numbers::cases(), threads::cases(), matrices::cases(), hopper::cases()].concat()
}

#[test]
fn every_word_obeys_its_law() {
    let Some(machine) = Machine::new() else { return };
    let mut outputs = Saved::new(machine.name());
    let mut problems = Vec::new();
    for case in cases().iter().filter(|case| machine.runs(case)) {
        let out = machine.run(case);
        outputs.add(case, &out);
        problems.extend(case.check(&out).err());
    }
    // Also what is not as it should be: that is what one wants to look at.
    if let Some(folder) = std::env::var_os("ELECTRODE_CONFORMANCE_SAVE") {
        let path = outputs.save(folder.as_ref());
        eprintln!("{} outputs saved: {}", outputs.len(), path.display());
    }
    assert!(problems.is_empty(), "on {}:\n{}", machine.name(), problems.join("\n"));
    eprintln!("{} cases conform on {}", outputs.len(), machine.name());
}

#[test]
fn twins_do_what_gpus_did() {
    let files = saved::files();
    if files.is_empty() {
        eprintln!(
            "skipped: twins against outputs of real GPUs: none are saved yet (benches/gpu.sh)"
        );
    }
    let Some(machine) = Machine::fake() else { return };
    for saved in files.iter().map(|path| Saved::open(path)) {
        for case in &cases() {
            let Some(theirs) = saved.output(case) else {
                let what = case.name();
                eprintln!("skipped: {what} against {}: none saved of this input", saved.device());
                continue;
            };
            let alike = case.compare(&machine.run(case), &theirs);
            assert_eq!(alike, Ok(()), "twin and {}", saved.device());
        }
    }
}

#[test]
fn a_change_of_any_word_is_seen() {
    let Some(machine) = Machine::fake() else { return };
    for case in &cases() {
        let out = machine.run(case);
        assert_eq!(case.check(&out), Ok(()));
        assert_eq!(case.compare(&out, &out), Ok(()));
        assert!(case.check(&out[1..]).is_err(), "{}: a word is missing", case.name());
        for at in 0..out.len() {
            let mut wrong = out.clone();
            wrong[at] = case.spoiled(at, out[at]);
            let seen = [case.check_word(at, wrong[at]), case.compare_word(at, out[at], wrong[at])];
            assert_eq!(seen, [false; 2], "{}: word {at} is {:#x}", case.name(), wrong[at]);
        }
    }
}

#[test]
fn planted_mistakes_are_seen() {
    let Some(machine) = Machine::mutants() else { return };
    let wrong = [
        "number_pack",
        "number_exp2",
        "number_doubles",
        "number_positive",
        "thread_shuffles",
        "thread_copies",
        "matrix_load",
        "matrix_multiply",
    ];
    for case in cases().iter().filter(|case| case.stem != "hopper_sm90") {
        let seen = case.check(&machine.run(case)).is_err();
        assert_eq!(seen, wrong.contains(&case.kernel), "{}", case.name());
    }
}

/// Functions that a file of wrappers defines: the word before `(` on lines that begin one.
fn wrappers(text: &str) -> Vec<&str> {
    let heads = text.split("__device__ __forceinline__ ").skip(1);
    let names = heads.filter_map(|head| head.split('(').next()?.split_whitespace().last());
    names.collect()
}

#[test]
fn every_wrapper_has_a_kernel() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("readable");
    let ours = ["conformance.cuh", "numbers.cu", "threads.cu", "matrices.cu", "hopper_sm90.cu"];
    let ours = ours.map(|name| read(&format!("tests/kernels/cuda/conformance/{name}"))).concat();
    let used = |name: &&str| [" ", "(", "!"].iter().any(|c| ours.contains(&format!("{c}{name}")));
    for (file, count) in [("kernels/device.cuh", 15), ("kernels/device_sm90.cuh", 14)] {
        let text = read(file);
        let names = wrappers(&text);
        assert!(names.len() >= count, "{file}: {names:?}");
        let unused: Vec<_> = names.into_iter().filter(|name| !used(name)).collect();
        assert!(unused.is_empty(), "{file}: no conformance kernel uses {unused:?}");
    }
    assert!(!used(&"copy_async_32"));
}

#[test]
fn outputs_come_back_from_their_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, other] = [7, 8].map(|word| Case::new("numbers", "number_bits", vec![word; 3]));
    let mut saved = Saved::new("Some GPU (fake)");
    saved.add(&one, &[1, 0xffff_ffff, 0]);
    let path = saved.save(folder.path());
    assert_eq!(path.file_name().expect("a name"), "some-gpu-fake.json.zst");
    let back = Saved::open(&path);
    assert_eq!(back.output(&one), Some(vec![1, 0xffff_ffff, 0]));
    assert_eq!(back.output(&other), None, "of another input");
}
