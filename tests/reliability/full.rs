//! Disks that are really full: small file systems in memory, limits of file sizes, /dev/full.
//! Oracle: the same run undisturbed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{Bench, leftovers, tables};
use crate::figures::{cases, say};
use crate::undisturbed::whole_or_absent;

const SMALL: [&str; 2] = ["corpus.block_bytes=1024", "output.keep=3"];

/// A file system of so many bytes; taken away when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// None where one may not mount.
    fn new(folder: &Path, kibibytes: u64) -> Option<Self> {
        fs::create_dir_all(folder).expect("made");
        let size = format!("size={kibibytes}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Self(folder.to_path_buf()))
    }

    fn grow(&self) {
        let done = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).status();
        assert!(done.expect("mount starts").success(), "room can be made");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_74_and_with_room_it_goes_on() {
    let bench = Bench::new(120);
    let right = bench.tables("right", &SMALL);
    let needed: u64 = {
        let run = bench.path("right");
        let of = |path: &PathBuf| fs::metadata(path).expect("there").len();
        crate::bench::snapshot(&run).keys().map(of).sum::<u64>() / 1024
    };
    let sizes = cases(20, 200);
    let (mut tried, mut wrong) = (0, Vec::new());
    for number in 0..sizes {
        // From nothing at all to just too little for the page, which is written last.
        let kibibytes = 4 + number * needed.saturating_sub(12) / sizes;
        let out = format!("full-{number}");
        let Some(mounted) = Mounted::new(&bench.path(&out), kibibytes) else {
            say_skipped("no file system may be mounted here");
            return;
        };
        tried += 1;
        let done = bench.run(&out, &SMALL);
        let folder = bench.path(&out);
        if done.code != Some(74) || !done.stderr.contains(&out) {
            wrong.push(format!("{kibibytes} KiB: {:?}: {}", done.code, done.stderr));
        }
        if !whole_or_absent(&folder, &right) {
            wrong.push(format!("{kibibytes} KiB: a part of a table"));
        }
        mounted.grow();
        if bench.tables(&out, &SMALL) != right || !leftovers(&folder).is_empty() {
            wrong.push(format!("{kibibytes} KiB: other tables, or something left"));
        }
    }
    say("runs on a full disk, then with room", tried, wrong.len() as u64);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Files may not grow beyond a limit: a write fails with EFBIG, and a signal ends who does not mind.
#[test]
fn a_limit_of_file_sizes_is_74() {
    let bench = Bench::new(120);
    let right = bench.tables("right", &SMALL);
    let largest = tables(&bench.path("right")).values().map(Vec::len).max().expect("tables") / 512;
    let (limits, mut wrong) = ([0, 1, 2, largest / 4, largest / 2], Vec::new());
    for (number, blocks) in limits.into_iter().enumerate() {
        let out = format!("limited-{number}");
        let command = bench.command(&out, &SMALL);
        // The shell's unit is 512 bytes; SIGXFSZ is ignored so that the write itself fails.
        let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(line).arg("sh").arg(command.get_program()).args(command.get_args());
        shell.current_dir(env!("CARGO_MANIFEST_DIR"));
        let done = crate::bench::finish(&mut shell);
        if done.code != Some(74) {
            wrong.push(format!("{blocks} blocks: {:?}: {}", done.code, done.stderr));
        }
        if bench.tables(&out, &SMALL) != right {
            wrong.push(format!("{blocks} blocks: other tables"));
        }
    }
    say("runs under a limit of file sizes", limits.len() as u64, wrong.len() as u64);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn say_skipped(why: &str) {
    use std::io::Write as _;
    let line = format!("skipped full disks: {why}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("stdout takes a line");
}
