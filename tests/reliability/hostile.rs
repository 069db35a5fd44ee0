//! Damaged and hostile checkpoints.
//! Oracle: the file as it was written: whatever was cut or claimed is refused with 65 (a description that
//! contradicts itself with 2), soon and in little memory; files outside the folder are never opened.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use electrode::disk::{self, Act, Watcher};
use electrode::model::Model;
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::bench::tiny;
use crate::checkpoints::{gpt2_config, gpt2_tensors, safetensors_bytes, with_header};
use crate::data::Random;
use crate::figures::{cases, folder, hold};
use crate::memory::peak_of;

const FILE: &str = "model.safetensors";

fn open(folder: &Path) -> electrode::error::Result<Model> {
    Model::open(folder.to_str().expect("a path"))
}

/// Opens and reads every weight.
fn read(folder: &Path) -> electrode::error::Result<()> {
    let model = open(folder)?;
    let mut params = model.spec.params();
    params.try_for_each(|(param, _)| model.tensor(param).map(drop))
}

/// The smallest GPT-2 in a file of 4 KiB: its header is padded with blanks, as writers do.
fn of_4_kib() -> Vec<u8> {
    let bytes = safetensors_bytes(&gpt2_tensors());
    let data: usize = gpt2_tensors().iter().map(|(.., values)| 4 * values.len()).sum();
    let (header, data) = bytes[8..].split_at(bytes.len() - 8 - data);
    let header = std::str::from_utf8(header).expect("JSON");
    let padded = format!("{header}{}", " ".repeat(4096 - bytes.len()));
    with_header(&padded, data)
}

/// A folder in which files are put in turn.
fn with_config(config: &Value) -> tempfile::TempDir {
    let folder = folder();
    fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    folder
}

/// Whether opening a cut file is refused with 65, without a panic.
fn cut(folder: &Path, bytes: &[u8]) -> Option<String> {
    fs::write(folder.join(FILE), bytes).expect("written");
    let answer = std::panic::catch_unwind(|| open(folder).err().map(|error| error.exit_code()));
    match answer {
        Ok(Some(65)) => None,
        other => Some(format!("{} bytes: {other:?}", bytes.len())),
    }
}

#[test]
fn truncated_safetensors() {
    let whole = of_4_kib();
    assert_eq!(whole.len(), 4096);
    let place = with_config(&gpt2_config());
    fs::write(place.path().join(FILE), &whole).expect("written");
    read(place.path()).expect("whole, it is a model");
    let every = (0..whole.len()).filter_map(|length| cut(place.path(), &whole[..length]));
    let mut wrong: Vec<String> = every.collect();
    let larger = tiny::safetensors_bytes(&tiny::tensors());
    let by_chance = cases(1_000, 100_000);
    let (place, mut random) = (with_config(&tiny::config()), Random(3));
    for _ in 0..by_chance {
        let length = random.below(larger.len() as u64) as usize;
        wrong.extend(cut(place.path(), &larger[..length]));
    }
    hold("truncated safetensors: 65, no panic", 4096 + by_chance, &wrong);
}

#[test]
fn flipped_bits_of_weights() {
    let whole = of_4_kib();
    let place = with_config(&gpt2_config());
    let path = place.path().join(FILE);
    fs::write(&path, &whole).expect("written");
    let want = open(place.path()).expect("a model").hashes().expect("hashed");
    let (count, mut random, mut wrong) = (cases(1_000, 100_000), Random(5), Vec::new());
    for _ in 0..count {
        let bit = random.below(8 * whole.len() as u64) as usize;
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).expect("written");
        // Known by its hash (a run resumed, a task of a sweep) the change is always found; without it, what
        // opens is some model, and what does not is refused.
        let answer = std::panic::catch_unwind(|| {
            let known = open(place.path()).and_then(|model| model.hashes());
            let found = known.as_ref().map_or(true, |hashes| *hashes != want);
            let codes = [known.err(), read(place.path()).err()];
            let refused =
                codes.into_iter().flatten().all(|error| matches!(error.exit_code(), 2 | 65));
            found && refused
        });
        if !matches!(answer, Ok(true)) {
            wrong.push(format!("bit {bit}"));
        }
    }
    hold("bits of weights changed: found by hash, never a crash", count, &wrong);
}

/// Files whose headers claim what they do not hold.
fn claims() -> Vec<Vec<u8>> {
    let tensor = |shape: String, begin: u64, end: u64| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}")
    };
    let one = |tensor: String| with_header(&format!("{{\"wte.weight\":{tensor}}}"), &[0; 40]);
    let mut files = Vec::new();
    for bit in 5..64 {
        // The length of the header; the end of a tensor; a dimension; two that overflow together.
        let huge = 1_u64 << bit;
        files.push([&huge.to_le_bytes()[..], b"{}", &[b' '; 22]].concat());
        files.push(one(tensor("[5,2]".to_owned(), 0, huge + 8)));
        files.push(one(tensor(format!("[{huge},2]"), 0, 40)));
    }
    for deep in [5, 10, 100, 1_000, 100_000] {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(deep), "]".repeat(deep));
        files.push(with_header(&text, &[]));
    }
    let two = |a: [u64; 2], b: [u64; 2]| {
        let (a, b) = (tensor("[1]".to_owned(), a[0], a[1]), tensor("[1]".to_owned(), b[0], b[1]));
        with_header(&format!("{{\"a\":{a},\"b\":{b}}}"), &[0; 8])
    };
    for [a, b] in [
        [[0, 4], [0, 4]],
        [[0, 4], [2, 6]],
        [[0, 4], [5, 9]],
        [[0, 4], [8, 4]],
        [[4, 8], [0, 3]],
        [[1, 5], [5, 9]],
        [[u64::MAX - 3, u64::MAX], [0, 4]],
        [[0, 4], [4, 12]],
    ] {
        files.push(two(a, b));
    }
    let entry = tensor("[0]".to_owned(), 0, 0);
    for count in [100_001, 1_000_000] {
        let entries: Vec<String> = (0..count).map(|at| format!("\"{at}\":{entry}")).collect();
        files.push(with_header(&format!("{{{}}}", entries.join(",")), &[]));
    }
    for text in
        ["", "{", "[]", "null", "{\"a\":1}", "{\"a\":{}}", "\u{feff}{}", "{\"a\":\"", "{}{}"]
    {
        files.push(with_header(text, &[]));
    }
    files
}

/// What this thread has had of a processor: other work of the machine does not count.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let first = text.split_whitespace().next().expect("a number");
    Duration::from_nanos(first.parse().expect("nanoseconds"))
}

#[test]
fn headers_that_claim() {
    let place = with_config(&gpt2_config());
    let (mut wrong, mut slowest, mut largest) = (Vec::new(), Duration::ZERO, 0);
    let files = claims();
    for (at, bytes) in files.iter().enumerate() {
        fs::write(place.path().join(FILE), bytes).expect("written");
        let before = processor_time();
        let (code, peak) = peak_of(|| open(place.path()).err().map(|error| error.exit_code()));
        let time = processor_time() - before;
        (slowest, largest) = (slowest.max(time), largest.max(peak));
        if code != Some(65) || peak > 64 << 20 || time > Duration::from_millis(100) {
            let what = format!("{code:?}, {peak} bytes, {time:?}");
            wrong.push(format!("file {at} of {} bytes: {what}", bytes.len()));
        }
    }
    eprintln!("slowest {slowest:?}, most memory {largest} bytes");
    assert!(files.len() >= 190, "{} claims", files.len());
    hold("claims of headers: 65, in less than 100 ms and 64 MB", files.len() as u64, &wrong);
}

/// Names that lead out of a folder, in the index of a checkpoint.
fn names(outside: &Path) -> Vec<String> {
    let file = outside.join("secret.safetensors").display().to_string();
    let mut names: Vec<String> = [
        "../secret.safetensors",
        "../../secret.safetensors",
        "./../secret.safetensors",
        "x/../../secret.safetensors",
        "..\\secret.safetensors",
        "..",
        ".",
        "",
        "/",
        "//",
        "../outside/secret.safetensors",
        "inner/secret.safetensors",
        "./a.safetensors",
        "a.safetensors/",
        "a.safetensors/.",
        "a.safetensors/..",
        "%2e%2e%2fsecret.safetensors",
        "..%2fsecret.safetensors",
        "..;/secret.safetensors",
        "\u{2025}/secret.safetensors",
        "\u{ff0e}\u{ff0e}/secret.safetensors",
        "..\u{2215}secret.safetensors",
        "..\u{2044}secret.safetensors",
        "..\u{0}/secret.safetensors",
        "a.safetensors\u{0}",
        "\u{0}",
        "~/secret.safetensors",
        "~root/secret.safetensors",
        "$HOME/secret.safetensors",
        "file:///secret.safetensors",
        "http://host/secret.safetensors",
        "C:\\secret.safetensors",
        "C:secret.safetensors",
        "\\\\host\\secret.safetensors",
        "CON",
        "NUL",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        "/proc/self/fd/0",
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "secret.safetensors ",
        " secret.safetensors",
        "*.safetensors",
        "a.safetensors\n",
        "....//secret.safetensors",
        "..././secret.safetensors",
        "-",
        "a.bin",
        "a.pt",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend([
        file.clone(),
        format!("file://{file}"),
        file.replace('/', "//"),
        format!("./{file}"),
    ]);
    names
}

/// Every file that one thread asks to open, wherever it lies.
struct Opened(ThreadId, Mutex<Vec<PathBuf>>);

impl Watcher for Opened {
    fn before(&self, path: &Path, act: Act<'_>) -> std::io::Result<Option<usize>> {
        if std::thread::current().id() == self.0 && matches!(act, Act::Open | Act::Map) {
            self.1.lock().expect("nobody panics").push(path.to_path_buf());
        }
        Ok(None)
    }
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let place = folder();
    let (outside, inside) = (place.path().join("outside"), place.path().join("model"));
    let weights = safetensors_bytes(&gpt2_tensors());
    for path in [&outside, &inside, &inside.join("inner")] {
        fs::create_dir_all(path).expect("made");
    }
    for path in [&outside, place.path(), &inside.join("inner")] {
        fs::write(path.join("secret.safetensors"), &weights).expect("written");
    }
    fs::write(inside.join("config.json"), gpt2_config().to_string()).expect("written");
    let keys: Vec<String> = gpt2_tensors().into_iter().map(|(name, ..)| name).collect();
    let opens = |name: &str| {
        let map: serde_json::Map<_, _> =
            keys.iter().map(|key| (key.clone(), json!(name))).collect();
        let index = json!({"weight_map": map}).to_string();
        fs::write(inside.join("model.safetensors.index.json"), index).expect("written");
        let opened = Arc::new(Opened(std::thread::current().id(), Mutex::default()));
        // Every path begins with no name at all.
        let watch = disk::watch(Path::new(""), Arc::<Opened>::clone(&opened));
        let accepted = open(&inside).err().is_none_or(|error| error.exit_code() != 65);
        drop(watch);
        let opened = opened.1.lock().expect("nobody panics");
        let described =
            ["config.json", "model.safetensors.index.json"].map(|file| inside.join(file));
        assert!(described.iter().all(|file| opened.contains(file)), "{opened:?}");
        accepted || opened.iter().any(|file| !described.contains(file))
    };
    let list = names(&outside);
    let mut wrong: Vec<String> = list.iter().filter(|name| opens(name)).cloned().collect();
    let targets = [
        "../secret.safetensors",
        "../outside/secret.safetensors",
        "inner/secret.safetensors",
        "/dev/zero",
        "/proc/self/environ",
        "link.safetensors",
    ];
    for target in targets {
        let link = inside.join("link.safetensors");
        symlink(target, &link).expect("linked");
        wrong.extend(opens("link.safetensors").then(|| format!("link to {target}")));
        fs::remove_file(link).expect("removed");
    }
    // A file of its own does open, so that what is refused above is the name.
    fs::write(inside.join("own.safetensors"), &weights).expect("written");
    assert!(opens("own.safetensors"), "the file beside the index opens");
    let count = list.len() + targets.len();
    assert!(count >= 60, "{count} forms");
    hold("names and links out of a checkpoint's folder: none opened", count as u64, &wrong);
}

/// The same of the commits and names of the Hub's cache.
#[test]
fn names_of_models_stay_in_the_cache() {
    let place = folder();
    let cache = place.path().join("hub");
    fs::create_dir_all(cache.join("models--a--b/refs")).expect("made");
    fs::create_dir_all(cache.join("models--a--b/snapshots")).expect("made");
    let environment = electrode::model::hub::HubEnvironment {
        hub_cache: Some(cache.clone()),
        ..Default::default()
    };
    fs::write(place.path().join("config.json"), gpt2_config().to_string()).expect("written");
    fs::write(place.path().join(FILE), safetensors_bytes(&gpt2_tensors())).expect("written");
    for commit in ["..", "../..", "../../..", "/", "", "\0", "..\n", "%2e%2e"] {
        fs::write(cache.join("models--a--b/refs/main"), commit).expect("written");
        let error = Model::open_in("a/b", &environment).err().expect("no commit");
        assert_eq!(error.exit_code(), 65, "{commit:?}: {error}");
    }
    let names = [
        "a/..",
        "../b",
        "a/b@..",
        "a/b@../../..",
        "a--b/c",
        "a/b/c",
        ".a/b",
        "a/b@/",
        "a/b@x/../..",
    ];
    names.into_par_iter().for_each(|name| {
        let error = Model::open_in(name, &environment).err().expect("no name");
        assert!(matches!(error.exit_code(), 2 | 65), "{name}: {error}");
    });
}
