//! Power cuts, on a file system that keeps what was forced to the disk and any part of the rest.
//! Oracle: the same run undisturbed, and what its segments held.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use electrode::disk::{Act, Watcher, watch};
use electrode::engine::segment_reader::load_folder;

use crate::bench::{Bench, tables};
use crate::figures::{cases, say};
use crate::noise::Noise;
use crate::undisturbed::{SENTENCES, in_threads, run_id_of, run_into, whole_or_absent};

/// A call that went well; paths below the run folder.
#[derive(Clone, Debug)]
enum Event {
    Create(PathBuf),
    Write(PathBuf, Vec<u8>),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveFolder(PathBuf),
    SyncFolder(PathBuf),
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Watcher for Recorder {
    fn after(&self, path: &Path, act: Act<'_>) {
        let path = path.to_path_buf();
        let event = match act {
            Act::Create => Event::Create(path),
            Act::Write(bytes) => Event::Write(path, bytes.to_vec()),
            Act::Sync => Event::Sync(path),
            Act::Rename(to) => Event::Rename(path, to.to_path_buf()),
            Act::Remove => Event::Remove(path),
            Act::RemoveFolder => Event::RemoveFolder(path),
            Act::SyncFolder => Event::SyncFolder(path),
            // Folders are made again where files are; nothing is written at a place, linked or
            // by a run: that would be missing here.
            // What is appended are metrics, which nobody relies on.
            Act::Open | Act::Map | Act::CreateFolder | Act::Append => return,
            Act::WriteAt(..) | Act::Link(_) => unreachable!("{act:?} by a run"),
        };
        self.0.lock().expect("nobody panics").push(event);
    }
}

/// What one file holds: the bytes, and how many of them were forced to the disk.
#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
}

/// A change of names that its folder has not been forced to keep.
#[derive(Clone)]
struct Pending {
    gone: Option<PathBuf>,
    there: Option<(PathBuf, usize)>,
}

#[derive(Default)]
struct Disk {
    inodes: Vec<Inode>,
    /// As programs see it.
    names: BTreeMap<PathBuf, usize>,
    /// As the disk has it.
    kept: BTreeMap<PathBuf, usize>,
    pending: Vec<Pending>,
}

impl Disk {
    fn at(&mut self, path: &Path) -> Option<&mut Inode> {
        self.names.get(path).map(|inode| &mut self.inodes[*inode])
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(path) => {
                self.inodes.push(Inode::default());
                let inode = self.inodes.len() - 1;
                self.names.insert(path.clone(), inode);
                self.pending.push(Pending { gone: None, there: Some((path.clone(), inode)) });
            }
            Event::Write(path, bytes) => {
                if let Some(inode) = self.at(path) {
                    inode.bytes.extend_from_slice(bytes);
                }
            }
            Event::Sync(path) => {
                if let Some(inode) = self.at(path) {
                    inode.synced = inode.bytes.len();
                }
            }
            Event::Rename(from, to) => {
                if let Some(inode) = self.names.remove(from) {
                    self.names.insert(to.clone(), inode);
                    let there = Some((to.clone(), inode));
                    self.pending.push(Pending { gone: Some(from.clone()), there });
                }
            }
            Event::Remove(path) => {
                self.names.remove(path);
                self.pending.push(Pending { gone: Some(path.clone()), there: None });
            }
            Event::RemoveFolder(path) => {
                let inside: Vec<PathBuf> =
                    self.names.keys().filter(|name| name.starts_with(path)).cloned().collect();
                inside.iter().for_each(|name| self.apply(&Event::Remove(name.clone())));
            }
            Event::SyncFolder(folder) => {
                let (done, left) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|pending: &Pending| pending.folder() == Some(folder.as_path()));
                self.pending = left;
                done.iter().for_each(|pending: &Pending| pending.keep(&mut self.kept));
            }
        }
    }

    /// What is found when the power is back: any of the changes of names that nobody forced, and of
    /// each file what was forced with any part of the rest.
    fn cut(mut self, random: &mut Noise) -> BTreeMap<PathBuf, Vec<u8>> {
        for pending in std::mem::take(&mut self.pending) {
            if random.below(2) == 0 {
                pending.keep(&mut self.kept);
            }
        }
        let content = |inode: usize, random: &mut Noise| {
            let Inode { bytes, synced } = &self.inodes[inode];
            let length = synced + random.below(bytes.len() - synced + 1);
            let mut bytes = bytes[..length].to_vec();
            // Sectors that were not forced may be there as zeros, or as anything.
            for sector in bytes[*synced..].chunks_mut(512) {
                match random.below(4) {
                    0 => sector.fill(0),
                    1 => sector.iter_mut().for_each(|byte| *byte ^= random.next() as u8),
                    _ => {}
                }
            }
            bytes
        };
        self.kept.iter().map(|(path, inode)| (path.clone(), content(*inode, random))).collect()
    }
}

impl Pending {
    /// The folder whose names change: one alone, for nothing is moved between folders.
    fn folder(&self) -> Option<&Path> {
        self.there.as_ref().map(|(path, _)| path).or(self.gone.as_ref())?.parent()
    }

    fn keep(&self, kept: &mut BTreeMap<PathBuf, usize>) {
        if let Some(gone) = &self.gone {
            kept.remove(gone);
        }
        if let Some((path, inode)) = &self.there {
            kept.insert(path.clone(), *inode);
        }
    }
}

/// Puts what was found into a folder of a bench.
fn restore(found: &BTreeMap<PathBuf, Vec<u8>>, (from, to): (&Path, &Path)) {
    for (path, bytes) in found {
        let path = to.join(path.strip_prefix(from).expect("only the run folder is recorded"));
        fs::create_dir_all(path.parent().expect("below a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}

/// What one power cut left must be right as far as it goes, and go on to the same end.
fn cut(
    bench: &Bench,
    (events, from): (&[Event], &Path),
    (right, run_id): (&crate::bench::Tables, [u8; 32]),
    seed: u64,
) -> Option<String> {
    let mut random = Noise::new(seed);
    let at = random.below(events.len() + 1);
    let mut disk = Disk::default();
    events[..at].iter().for_each(|event| disk.apply(event));
    let found = disk.cut(&mut random);
    let out = format!("cut-{seed}");
    let folder = bench.path(&out);
    restore(&found, (from, &folder));
    let mut wrong = Vec::new();
    if !whole_or_absent(&folder, right) {
        wrong.push("a part of a table stands under its name".to_owned());
    }
    if let Err(error) = load_folder(&folder.join("states"), run_id) {
        wrong.push(format!("states: {error}"));
    }
    // A run takes long beside a look: one in ten goes on, and those after the tables began.
    if seed.is_multiple_of(10) {
        match run_into(bench, &out) {
            Err(error) => wrong.push(format!("did not go on: {error}")),
            Ok(()) if tables(&folder) != *right => wrong.push("other tables".to_owned()),
            Ok(()) => {}
        }
    }
    let _ = fs::remove_dir_all(&folder);
    (!wrong.is_empty()).then(|| format!("seed {seed}, after {at} calls: {}", wrong.join("; ")))
}

#[test]
fn power_cuts_leave_a_valid_part_or_nothing() {
    let bench = Bench::in_memory(SENTENCES);
    let recorder = Arc::new(Recorder::default());
    let from = bench.path("out");
    let watching = watch(&from, Arc::clone(&recorder) as Arc<dyn Watcher>);
    run_into(&bench, "out").expect("nothing is in its way");
    drop(watching);
    let right = tables(&from);
    let events = std::mem::take(&mut *recorder.0.lock().expect("nobody panics"));
    assert!(events.iter().filter(|event| matches!(event, Event::Sync(_))).count() > 10);
    // The model of a disk itself: all that is forced is kept.
    let mut disk = Disk::default();
    events.iter().for_each(|event| disk.apply(event));
    let all = disk.cut(&mut Noise::new(0));
    for (name, bytes) in &right {
        assert!(all.get(&from.join(name)) == Some(bytes), "{name} is on the disk in the end");
    }
    let run_id = run_id_of(&from);
    // What this test sees: without the fsync of files, tables would be torn under their names.
    let forgets: Vec<Event> =
        events.iter().filter(|event| !matches!(event, Event::Sync(_))).cloned().collect();
    let seen = (1..300)
        .filter(|seed| seed % 10 != 0)
        .any(|seed| cut(&bench, (&forgets, &from), (&right, run_id), seed).is_some());
    assert!(seen, "a program that forces nothing to the disk is found out");
    let seeds = cases(2_000, 200_000);
    let wrong = in_threads(seeds, |_, seed| {
        cut(&bench, (&events, &from), (&right, run_id), seed).into_iter().collect()
    });
    say("power cuts, with torn and reordered writes", seeds, wrong.len() as u64);
    assert!(wrong.is_empty(), "{}: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}
