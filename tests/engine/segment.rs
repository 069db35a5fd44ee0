//! Segment files: what is written comes back, and nothing else does.
//! Oracle: the records that were appended; every change of a file is tried, byte by byte.

use std::fs;
use std::path::{Path, PathBuf};

use electrode::corpus::block::Counts;
use electrode::engine::merge::Node;
use electrode::engine::segment::{RunId, SegmentWriter};
use electrode::engine::segment_reader::{SegmentReader, load_folder};

const RUN: RunId = [7; 32];

fn counts(rows: u64) -> Counts {
    Counts { rows, documents: 3, bad: 1, ..Counts::default() }
}

fn payload(index: u32) -> Vec<u8> {
    (0..60 + index).map(|i| (i * i + index) as u8).collect()
}

fn write(folder: &Path, nodes: &[Node]) -> PathBuf {
    let mut writer = SegmentWriter::create(folder, RUN).unwrap();
    for node in nodes {
        writer.append(*node, &counts(node.index.into()), &payload(node.index)).unwrap();
    }
    writer.sync().unwrap();
    writer.path().to_path_buf()
}

fn blocks(range: std::ops::Range<u32>) -> Vec<Node> {
    range.map(Node::block).collect()
}

/// Nodes of a folder, with their payloads checked.
fn read(folder: &Path) -> Vec<Node> {
    let loaded = load_folder(folder, RUN).unwrap();
    for stored in &loaded.nodes {
        assert_eq!(stored.counts, counts(stored.node.index.into()));
        assert_eq!(stored.payload(RUN).unwrap(), payload(stored.node.index));
    }
    loaded.nodes.iter().map(|stored| stored.node).collect()
}

#[test]
fn records_come_back() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(&folder.path().join("not there")).is_empty());
    write(folder.path(), &blocks(0..3));
    write(folder.path(), &blocks(2..5));
    write(folder.path(), &[]);
    assert_eq!(read(folder.path()), blocks(0..5));
    assert!(load_folder(folder.path(), RUN).unwrap().damage.is_empty());
}

#[test]
fn larger_nodes_cover_smaller_ones() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Node { level: 1, index: 0 };
    write(folder.path(), &blocks(0..3));
    write(folder.path(), &[pair]);
    assert_eq!(read(folder.path()), [pair, Node::block(2)]);
}

#[test]
fn every_changed_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &blocks(0..3));
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            fs::write(&path, &bytes).unwrap();
            match load_folder(folder.path(), RUN) {
                Ok(loaded) => {
                    assert!(!loaded.damage.is_empty(), "byte {at} is not missed");
                    let left = read(folder.path());
                    // In the header, all records are lost; elsewhere just one.
                    let want = if at < 48 { 0 } else { 2 };
                    assert_eq!(left.len(), want, "byte {at}");
                }
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_keeps_its_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &blocks(0..3));
    let whole = fs::read(&path).unwrap();
    let mut ends = vec![];
    for count in 0..=3 {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), &blocks(0..count));
        ends.push(fs::metadata(path).unwrap().len() as usize);
    }
    assert_eq!(ends[3], whole.len());
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let kept = ends[1..].iter().filter(|&&end| end <= length).count() as u32;
        assert_eq!(read(folder.path()), blocks(0..kept), "{length} bytes");
        let clean = ends.contains(&length);
        assert_eq!(load_folder(folder.path(), RUN).unwrap().damage.is_empty(), clean);
    }
}

#[test]
fn other_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &blocks(0..1));
    let error = load_folder(folder.path(), [8; 32]).unwrap_err();
    assert_eq!(error.exit_code(), 65);
    assert!(error.to_string().contains("another run"), "{error}");
    assert_eq!(SegmentReader::open(&path, [8; 32]).err().unwrap().exit_code(), 65);
}

#[test]
fn doubles_must_agree() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &blocks(0..2));
    write(folder.path(), &blocks(1..2));
    assert_eq!(read(folder.path()), blocks(0..2));
    for (counts, payload) in [(counts(2), payload(1)), (counts(1), payload(2))] {
        let mut writer = SegmentWriter::create(folder.path(), RUN).unwrap();
        writer.append(Node::block(1), &counts, &payload).unwrap();
        writer.sync().unwrap();
        let error = load_folder(folder.path(), RUN).unwrap_err();
        assert_eq!(error.exit_code(), 70);
        assert!(error.to_string().contains(writer.path().to_str().unwrap()), "{error}");
        fs::remove_file(writer.path()).unwrap();
    }
}

#[test]
fn rotation_keeps_what_lives() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(folder.path(), RUN).unwrap();
    let mut rotated = 0;
    for block in 0..64_u32 {
        let mut node = Node::block(block);
        // As a task does: a block, then each larger node that it completes.
        loop {
            writer.append(node, &counts(node.index.into()), &payload(node.index)).unwrap();
            if node.index.is_multiple_of(2) {
                break;
            }
            node = Node { level: node.level + 1, index: node.index / 2 };
        }
        if writer.should_rotate() {
            let old = writer.path().to_path_buf();
            writer = writer.rotate().unwrap();
            assert!(!old.exists() && !writer.should_rotate());
            rotated += 1;
        }
        writer.sync().unwrap();
        let left = read(folder.path());
        assert_eq!(left.len(), (block + 1).count_ones() as usize);
        assert_eq!(left.last().unwrap().blocks().end, u64::from(block) + 1);
    }
    assert!(rotated > 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// One attempt has read a folder when another puts its segment into a new file: what lives is found
/// there, and what was merged into a larger node ends the attempt as one to be begun again.
#[test]
fn readers_outlive_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(folder.path(), RUN).unwrap();
    let append = |writer: &mut SegmentWriter, node: Node| {
        writer.append(node, &counts(node.index.into()), &payload(node.index)).unwrap();
        writer.sync().unwrap();
    };
    blocks(0..3).into_iter().for_each(|node| append(&mut writer, node));
    let before = load_folder(folder.path(), RUN).unwrap().nodes;
    append(&mut writer, Node { level: 1, index: 0 });
    let mut writer = writer.rotate().unwrap();
    assert_eq!(before[2].payload(RUN).unwrap(), payload(2));
    for dead in &before[..2] {
        assert_eq!(dead.payload(RUN).unwrap_err().exit_code(), 75);
    }
    // And while it is read.
    let reading = std::thread::spawn({
        let path = folder.path().to_path_buf();
        move || (0..300).map(|_| read(&path).len()).collect::<Vec<_>>()
    });
    while !reading.is_finished() {
        writer = writer.rotate().unwrap();
    }
    assert_eq!(reading.join().unwrap(), [2; 300]);
}

#[test]
fn large_payloads_and_strange_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(folder.path(), RUN).unwrap();
    // A segment inside a segment: its records must not come out by themselves.
    let other = tempfile::tempdir().unwrap();
    let inner = fs::read(write(other.path(), &blocks(5..6))).unwrap();
    let zeros = vec![0; 3_000_000];
    let cases = [(0, &zeros), (1, &inner), (2, &Vec::new())];
    for (index, bytes) in cases {
        writer.append(Node::block(index), &counts(0), bytes).unwrap();
    }
    writer.sync().unwrap();
    let loaded = load_folder(folder.path(), RUN).unwrap();
    assert_eq!(loaded.nodes.len(), 3);
    for (stored, (_, bytes)) in loaded.nodes.iter().zip(cases) {
        assert!(stored.payload(RUN).unwrap() == *bytes);
    }
    assert!(fs::metadata(writer.path()).unwrap().len() < 10_000, "zeros shrink");
}
