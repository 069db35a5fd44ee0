//! Run files and sweep files that are wrong in one place, by hand and by chance.
//! Oracle: the tables of `config_table.rs` and below; whatever is generated is a configuration or an
//! error with exit code 2, never a panic.

use std::fs;
use std::path::Path;

use electrode::config::RunConfig;
use electrode::error::Error;
use electrode::run::sweep::{SweepConfig, SweepPlan};
use rayon::prelude::*;

use crate::bench::{electrode, finish};
use crate::config_table::{ROWS, named, plain, with_value, write};
use crate::data::Random;
use crate::figures::{cases, folder, hold};

/// A sweep file with every key once.
const SWEEP: &str = r#"name = "tiny"
out = "sweep"
run = "run.toml"
task_blocks = 2
exclude = [{ seed = "1" }]
[[axis]]
key = "statistics.seed"
name = "seed"
values = [0, 1, 2]
names = ["0", "1", "2"]
[[override]]
when = { seed = "2" }
set = { "output.keep" = 7 }
[slurm]
partition = "gpu"
account = "a"
time = "1:00:00"
gpus = 1
cpus = 4
memory = "8G"
limit = 5
notice = 180
requeues = 20
extra = ["--constraint=h100"]
setup = ["module load cuda"]
program = "electrode"
"#;

/// A line of the sweep file, what is put in its place, and what the message must name.
const WRONG: &[(&str, &[&str], &str)] = &[
    (
        "name = \"tiny\"",
        &[
            "name = \"a b\"",
            "name = \"\"",
            "name = \"../x\"",
            "name = \"a;b\"",
            "name = 1",
            "name = \"$(x)\"",
            "name = \".a\"",
            "name = [\"a\"]",
            "name = \"a\\nb\"",
        ],
        "name",
    ),
    ("name = \"tiny\"", &["", "nam = \"tiny\"", "name = tiny"], "na"),
    ("out = \"sweep\"", &["", "out = 1", "out = [\"a\"]", "out = true"], "out"),
    ("run = \"run.toml\"", &["", "run = 1", "runs = \"run.toml\""], "run"),
    (
        "task_blocks = 2",
        &[
            "task_blocks = 3",
            "task_blocks = 0",
            "task_blocks = -2",
            "task_blocks = 2.0",
            "task_blocks = \"2\"",
            "task_blocks = 5000000000",
            "task_blocks = []",
            "task_block = 2",
        ],
        "task_block",
    ),
    (
        "exclude = [{ seed = \"1\" }]",
        &[
            "exclude = [{ sed = \"1\" }]",
            "exclude = [{ seed = \"9\" }]",
            "exclude = { seed = \"1\" }",
            "exclude = [1]",
            "exclude = [{ seed = 1 }]",
            "exclude = [{}]",
            "exlude = []",
        ],
        "exclud",
    ),
    (
        "key = \"statistics.seed\"",
        &[
            "",
            "key = 1",
            "key = \"statistics.sed\"",
            "key = \"\"",
            "key = \"statistics..seed\"",
            "key = \"out\"",
            "key = \"name\"",
            "kye = \"a\"",
        ],
        "key",
    ),
    (
        "key = \"statistics.seed\"",
        &["key = \"statistics\"", "key = \"statistics.seed.x\""],
        "statistics",
    ),
    (
        "name = \"seed\"",
        &["name = \"a b\"", "name = \"../seed\"", "name = 1", "name = \"\"", "name = \"a=b\""],
        "name",
    ),
    (
        "values = [0, 1, 2]",
        &[
            "",
            "values = []",
            "values = [0]\nrange = [0, 1]",
            "range = [1, 0]",
            "range = [0]",
            "range = [0, 9223372036854775807]",
            "range = [-9223372036854775808, 9223372036854775807]",
            "range = [0, 200000]",
            "range = [0.0, 1.0]",
            "range = \"0-1\"",
            "glob = \"no/such/*\"",
            "glob = \"[\"",
            "glob = 1",
            "values = 3",
            "values = [-1, 0, 1]",
            "values = [0.5, 1, 2]",
            "value = [0, 1, 2]",
        ],
        "a",
    ),
    (
        "names = [\"0\", \"1\", \"2\"]",
        &[
            "names = [\"0\"]",
            "names = []",
            "names = [\"0\", \"0\", \"2\"]",
            "names = [\"a/b\", \"1\", \"2\"]",
            "names = [\"..\", \"1\", \"2\"]",
            "names = [\"\", \"1\", \"2\"]",
            "names = [0, 1, 2]",
            "names = \"a\"",
            "nams = []",
        ],
        "nam",
    ),
    ("when = { seed = \"2\" }", &["when = { sed = \"2\" }", "when = { seed = \"7\" }"], "override"),
    ("when = { seed = \"2\" }", &["", "when = { seed = 2 }", "when = 1", "wen = {}"], "when"),
    (
        "set = { \"output.keep\" = 7 }",
        &[
            "",
            "set = { \"output.kep\" = 7 }",
            "set = { \"output.keep\" = -7 }",
            "set = { \"output.keep\" = \"7\" }",
            "set = { \"out\" = \"x\" }",
            "set = 7",
            "set = { output = 7 }",
            "sets = {}",
        ],
        "",
    ),
    (
        "partition = \"gpu\"",
        &["partition = 1", "partition = \"a\\nb\"", "partitions = \"gpu\""],
        "partition",
    ),
    ("account = \"a\"", &["account = 1", "account = \"a\\nb\"", "acount = \"a\""], "ac"),
    ("time = \"1:00:00\"", &["time = 60", "time = \"1\\n#SBATCH --uid=0\"", "tim = \"1\""], "tim"),
    ("gpus = 1", &["gpus = -1", "gpus = 1.5", "gpus = \"1\"", "gpu = 1"], "gpu"),
    ("cpus = 4", &["cpus = -1", "cpus = \"4\"", "cpus = []", "cpu = 4"], "cpu"),
    ("memory = \"8G\"", &["memory = 8", "memory = \"8\\rG\"", "mem = \"8G\""], "mem"),
    ("limit = 5", &["limit = -1", "limit = 0.5", "limit = \"5\"", "limits = 5"], "limit"),
    ("notice = 180", &["notice = -1", "notice = \"3 min\"", "notices = 1"], "notice"),
    ("requeues = 20", &["requeues = -1", "requeues = true", "requeue = 1"], "requeue"),
    (
        "extra = [\"--constraint=h100\"]",
        &["extra = \"x\"", "extra = [1]", "extra = [\"a\\nb\"]", "extras = []"],
        "extra",
    ),
    (
        "setup = [\"module load cuda\"]",
        &[
            "setup = \"x\"",
            "setup = [\"a\\nb\"]",
            "setup = [\"export HF_TOKEN=hf_abcdefgh1234\"]",
            "setup = [\"git clone https://me:pw@host/x\"]",
            "setups = []",
        ],
        "",
    ),
    ("program = \"electrode\"", &["program = 1", "program = []", "programs = \"x\""], "program"),
];

/// A run file of the repository's own model and of two sentences, which a plan can be made of.
fn run_file(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(folder.join("a.word"), "the cat\na dog runs\n").expect("written");
    fs::write(folder.join("a.label"), "x y\nx y x\n").expect("written");
    let text = format!(
        "name = \"r\"\nout = \"o\"\nmethods = [\"meandiff\"]\n[model]\npath = \"{}\"\n[corpus]\nformat = \"parallel\"\n\
         files = [\"a.word\"]\nlabel_files = [\"a.label\"]\n[[concepts]]\ncolumn = \"label\"\n\
         [capture]\nsites = [\"layers.0.mlp_act\"]\n",
        root.join("models/tiny-gpt2-en").display()
    );
    fs::write(folder.join("run.toml"), text).expect("written");
}

/// The program with this sweep file: 2, the key named, nothing written.
fn refused(place: &Path, text: &str, word: &str) -> Option<String> {
    fs::write(place.join("sweep.toml"), text).expect("written");
    let before = fs::read_dir(place).expect("a folder").count();
    let done = finish(electrode().current_dir(place).args(["sweep", "plan", "sweep.toml"]));
    let left = fs::read_dir(place).expect("a folder").count();
    let good = done.code == Some(2)
        && done.stderr.contains(word)
        && done.stderr.contains("remedy: ")
        && done.stdout.is_empty()
        && left == before;
    (!good).then(|| format!("'{word}', {:?}: {}\n{text}", done.code, done.stderr))
}

/// A wrong value of a key of the run file, given by an axis: as in the run file itself.
fn by_axis(place: &Path, path: &str, value: &str) -> Option<String> {
    let (text, _) = write("", plain);
    fs::write(place.join("every.toml"), text).expect("written");
    let key = named(path);
    let sweep = format!(
        "name = \"x\"\nout = \"s\"\nrun = \"{}\"\n[[axis]]\nkey = \"{key}\"\nname = \"a\"\nvalues = [{value}]\n\
         names = [\"n\"]\n",
        place.join("every.toml").display()
    );
    let file = place.join("axis.toml");
    fs::write(&file, &sweep).expect("written");
    let answer = SweepConfig::load(&file).and_then(|config| SweepPlan::make(&config));
    match answer {
        Err(error) if error.exit_code() == 2 && error.to_string().contains(&key) => None,
        Err(error) => Some(format!("{key} = {value}: {error}")),
        Ok(_) => Some(format!("{key} = {value} is taken")),
    }
}

#[test]
fn one_mistake_is_named() {
    let place = folder();
    run_file(place.path());
    let done = {
        fs::write(place.path().join("sweep.toml"), SWEEP).expect("written");
        let arguments = ["sweep", "plan", "sweep.toml", "--dry-run"];
        finish(electrode().current_dir(place.path()).args(arguments))
    };
    assert_eq!(done.code, Some(0), "without a mistake: {}", done.stderr);
    let list: Vec<_> = WRONG
        .iter()
        .flat_map(|(line, others, word)| others.iter().map(move |other| (line, other, word)))
        .collect();
    let of_sweeps = list.len();
    let mut wrong: Vec<String> = list
        .into_par_iter()
        .filter_map(|(line, other, word)| {
            assert!(SWEEP.contains(line), "{line}");
            let place = folder();
            run_file(place.path());
            refused(place.path(), &SWEEP.replacen(line, other, 1), word)
        })
        .collect();
    // A bare number or flag is a text where a text is wanted, as on the command line.
    let bare = |good: &str, bad: &str| {
        good.starts_with('"') && bad.parse::<toml::Value>().is_ok_and(|v| !v.is_str())
    };
    let rows: Vec<(&str, &str)> = ROWS
        .iter()
        .flat_map(|row| {
            row.bad.iter().filter(|bad| !bare(row.good, bad)).map(|bad| (row.path, *bad))
        })
        .filter(|(path, _)| !["name", "out"].contains(path))
        .collect();
    let of_axes = rows.len();
    wrong.extend(rows.iter().filter_map(|(path, bad)| by_axis(place.path(), path, bad)));
    let count = of_sweeps + of_axes;
    assert!(count >= 300, "{of_sweeps} + {of_axes} cases");
    hold("wrong run and sweep files: 2, the key named, nothing begun", count as u64, &wrong);
}

/// Values that somebody might type, and some that nobody would.
const ODD: &[&str] = &[
    "",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "-0.0",
    "9223372036854775807",
    "-9223372036854775808",
    "0x7fff",
    "99999999999999999999",
    "true",
    "\"\"",
    "\"a\"",
    "\"\\u0000\"",
    "\"../..\"",
    "[]",
    "[[]]",
    "[{}]",
    "{}",
    "{ a = 1 }",
    "[1, \"a\"]",
    "1979-05-27",
    "07:32:00",
    "\"",
    "'''",
    "[",
    "=",
    "#",
    "\u{feff}",
    "\"名詞\"",
];

/// A text with some of its lines gone, doubled, exchanged, or with other values or bytes.
fn changed(text: &str, random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=random.below(3) {
        let at = random.below(lines.len() as u64) as usize;
        let odd = ODD[random.below(ODD.len() as u64) as usize];
        match random.below(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = random.below(lines.len() as u64) as usize;
                lines.swap(at, other);
            }
            3 => lines[at].push_str(odd),
            _ => {
                let key = lines[at].split('=').next().unwrap_or_default().to_owned();
                lines[at] = format!("{key}= {odd}");
            }
        }
        if lines.is_empty() {
            return Vec::new();
        }
    }
    let mut bytes = lines.join("\n").into_bytes();
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let end = (at + random.below(4) as usize).min(bytes.len());
        bytes
            .splice(at..end, (0..random.below(4)).map(|_| random.next() as u8).collect::<Vec<_>>());
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Some generated files of both kinds, in a folder of their own.
fn generated(first: u64, count: u64) -> Vec<String> {
    let (place, mut random) = (folder(), Random(first));
    let good: Vec<String> = vec![write("", plain).0, with_value("statistics.bins", "0").0];
    let (run, sweep) = (place.path().join("run.toml"), place.path().join("sweep.toml"));
    let mut wrong = Vec::new();
    for at in 0..count {
        let is_run = at % 2 == 0;
        let text = if is_run { &good[random.below(2) as usize] } else { SWEEP };
        let bytes = changed(text, &mut random);
        let path = if is_run { &run } else { &sweep };
        fs::write(path, &bytes).expect("written");
        let answer = std::panic::catch_unwind(|| match is_run {
            true => RunConfig::load(path, &[]).map(drop),
            // The run file that it names is not there: all before it is expanded.
            false => SweepConfig::load(path).and_then(|config| SweepPlan::make(&config)).map(drop),
        });
        if !matches!(answer, Ok(Ok(()) | Err(Error::Config { .. } | Error::Io { .. }))) {
            wrong.push(format!("{}", String::from_utf8_lossy(&bytes)));
        }
    }
    wrong
}

#[test]
fn generated_files_never_panic() {
    const SHARE: u64 = 500;
    let count = cases(100_000, 10_000_000);
    let shares: Vec<u64> = (0..count / SHARE).collect();
    let wrong: Vec<String> =
        shares.into_par_iter().flat_map_iter(|share| generated(share, SHARE)).collect();
    hold("generated run and sweep files: a configuration or 2, no panic", count, &wrong);
}
