//! Files of weights that lose their bytes while they are mapped, for which the system raises SIGBUS.
//! Oracle: the exit code of damaged input with the file named, or tables of the whole file; never a signal.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use electrode::model::end_where_files_shrink;
use electrode::model::stored::MappedTensors;

use crate::bench::{Bench, finish, tables};
use crate::checkpoints::{safetensors_bytes, with_header};
use crate::data::Random;
use crate::figures::{cases, folder, hold};

const FILE: &str = "model.safetensors";

fn cut_to(path: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("it is there");
    file.set_len(length).expect("cut");
}

#[test]
#[ignore = "half of another test, which starts it as a process"]
fn read_after_a_cut() {
    let path = PathBuf::from(std::env::var_os("ELECTRODE_SHRINKS").expect("where"));
    let length = std::env::var("ELECTRODE_LENGTH").expect("how long").parse().expect("a number");
    end_where_files_shrink();
    // Others are open beside it, and one is closed: it is the right one that is named.
    let [first, second, third] = [0, 1, 2].map(|at| {
        let path = path.with_file_name(format!("{at}.safetensors"));
        fs::write(&path, safetensors_bytes(&[("wide".to_owned(), vec![4], vec![1.0; 4])]))
            .expect("written");
        MappedTensors::open(&path).expect("whole")
    });
    drop(second);
    let mapped = MappedTensors::open(&path).expect("whole as yet");
    cut_to(&path, length);
    let sum: u64 = mapped.tensor("wide").expect("there").bytes.iter().map(|&x| u64::from(x)).sum();
    drop((first, third));
    panic!("{sum} was read");
}

#[test]
fn files_that_lose_bytes() {
    let place = folder();
    let path = place.path().join(FILE);
    let floats = 1 << 18;
    let whole = safetensors_bytes(&[("wide".to_owned(), vec![floats], vec![1.0; floats])]);
    let (mut wrong, mut random, count) = (Vec::new(), Random(11), cases(20, 1_000));
    for _ in 0..count {
        fs::write(&path, &whole).expect("written");
        // Whole pages are lost: what remains of the last one reads as zeros, without a signal.
        let length = random.below(whole.len() as u64 - 8192);
        let mut command = Command::new(std::env::current_exe().expect("this one"));
        command.args(["--exact", "shrunk::read_after_a_cut", "--ignored", "--nocapture"]);
        command.env("ELECTRODE_SHRINKS", &path).env("ELECTRODE_LENGTH", length.to_string());
        let done = finish(&mut command);
        let named = format!("error: {}: it lost bytes", path.display());
        if done.code != Some(65) || !done.stderr.contains(&named) {
            wrong.push(format!("{length} bytes: {:?}, {}", done.code, done.stderr));
        }
    }
    hold("mapped files cut under their reader: 65, the file named", count, &wrong);
}

#[test]
fn runs_whose_weights_are_cut() {
    let bench = Bench::in_memory(120);
    let path = bench.path("model").join(FILE);
    // More to open and to hash than the run itself takes: a tensor that no model asks for.
    let bytes = fs::read(&path).expect("the tiny model");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let more = 64 << 20;
    let (begin, end) = (data.len(), data.len() + more);
    let header = std::str::from_utf8(header).expect("JSON").trim_end();
    let header = header.strip_suffix('}').expect("an object");
    let header = format!(
        "{header},\"unused\":{{\"dtype\":\"U8\",\"shape\":[{more}],\"data_offsets\":[{begin},{end}]}}}}"
    );
    let whole = with_header(&header, &[data, &vec![1; more]].concat());
    fs::write(&path, &whole).expect("written");
    let clock = Instant::now();
    let right = bench.tables("right", &[]);
    let whole_run = clock.elapsed().as_secs_f64();
    let (mut wrong, mut random, count) = (Vec::new(), Random(12), cases(20, 1_000));
    let mut cut = 0;
    for number in 0..count {
        fs::write(&path, &whole).expect("written");
        let out = format!("cut-{number}");
        let child = bench.command(&out, &[]).spawn().expect("it starts");
        let share = random.below(1_000) as f64 / 1_000.0;
        std::thread::sleep(Duration::from_secs_f64(whole_run * share));
        cut_to(&path, 4096);
        let done = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&done.stderr);
        let holds = match done.status.code() {
            Some(0) => tables(&bench.path(&out)) == right,
            Some(65) => said.contains(FILE) && !bench.path(&out).join("neurons.parquet").exists(),
            _ => false,
        };
        cut += u64::from(done.status.code() == Some(65));
        if !holds {
            wrong.push(format!("after {share} of the run: {:?}, {said}", done.status));
        }
        let _ = fs::remove_dir_all(bench.path(&out));
    }
    assert!(cut > 0, "no run noticed");
    hold("runs whose weights are cut while they go on: 65, or the right tables", count, &wrong);
}
