//! Lists on their way to a device, with streams that are as late as they may be.
//! Oracle: by hand.

use std::process::Command;

use electrode::device::cuda::Element;
use electrode::device::ops::Ops as _;

use crate::cuda::{device, real};

/// In the environment of the process that does the work.
const CHILD: &str = "ELECTRODE_TEST_LATE";
/// Columns of a tensor that has as many bytes as the chunk that lists are copied to.
const CHUNK_COLS: usize = (4 << 20) / 4 / 16;

/// Memory that a tensor leaves, and that work still under way writes, takes the lists of a batch.
#[test]
fn a_list_is_not_copied_into_memory_that_is_still_written() {
    if real() || device(Element::F32).is_none() {
        return;
    }
    for seed in 1..=8 {
        let program = std::env::current_exe().expect("this program has a path");
        let name = "kernels::cuda::upload::child";
        let done = Command::new(program)
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .envs([(CHILD, "1"), ("FAKECUDA_LAZY", "1"), ("FAKECUDA_SEED", &seed.to_string())])
            .output()
            .expect("this program runs again");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("rows are right"), "turns of {seed}: {said}");
    }
}

#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let device = device(Element::F32).expect("the parent has one");
    let zeros = vec![0.0; 16 * CHUNK_COLS];
    let (mut from, mut to) = (
        device.tensor(16, CHUNK_COLS).expect("room"),
        device.tensor(16, CHUNK_COLS).expect("room"),
    );
    device.set_rows(&mut from, 16);
    device.set_rows(&mut to, 16);
    device.write(&mut from, &zeros).expect("written");
    let rows: Vec<f32> = (0..8).flat_map(|row| vec![row as f32; 8]).collect();
    let table = device.table(8, rows).expect("room");
    let mut out = device.tensor(4, 8).expect("room");
    device.set_rows(&mut out, 4);
    device.copy(&from, &mut to);
    drop(to);
    device.embed(&table, &[7, 1, 5, 2], 1.0, &mut out);
    device.check().expect("nothing failed");
    let mut values = Vec::new();
    device.read(&out, &mut values).expect("read");
    let first: Vec<f32> = values.chunks_exact(8).map(|row| row[0]).collect();
    assert_eq!(first, [7.0, 1.0, 5.0, 2.0]);
    eprintln!("rows are right");
}
