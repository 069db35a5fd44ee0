//! `generate`, `steer`, `maximize` and `sparsity` that are told to stop, killed, or find what others
//! began. Oracle: the same command undisturbed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use electrode::artifact::manifest::Manifest;
use electrode::config::Dtype;
use electrode::corpus::config::CorpusConfig;
use electrode::error::Error;
use electrode::id::{NeuronId, Site, SiteKind};
use electrode::run::generate::{Generation, TextArm, TextConfig};
use electrode::run::maximize::{MaximizeConfig, maximize_neurons};
use electrode::run::sparsity::{SparsityConfig, measure_sparsity};
use electrode::stimulate::maximize::Settings;

use super::stopped::{signal, wait};
use super::{Finished, electrode, finish, leftovers, snapshot};
use crate::generate::steer::{OF_WAR, by_hand};

fn root(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

fn corpus() -> String {
    root("corpora/en_ewt/en_ewt-dev-half.conllu")
}

/// A command and what it writes.
struct Job {
    arguments: Vec<String>,
    /// `--out`, a file or a folder.
    out: PathBuf,
    is_file: bool,
    /// Something else that it could be asked.
    other: &'static [&'static str],
}

impl Job {
    fn new(arguments: &[&str], (out, is_file): (PathBuf, bool), other: &'static [&str]) -> Self {
        let model = root("models/tiny-gpt2-en");
        let first = [arguments[0], "--model", &model, "--device", "cpu", "--threads", "2"];
        let all = [&first[..], &arguments[1..]].concat();
        Self { arguments: all.into_iter().map(str::to_owned).collect(), out, is_file, other }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = electrode();
        command.args(&self.arguments).arg("--out").arg(&self.out).args(more);
        command
    }

    fn run(&self, more: &[&str]) -> Finished {
        finish(&mut self.command(more))
    }

    /// Where the pieces are.
    fn states(&self) -> PathBuf {
        self.parts().join("states")
    }

    fn parts(&self) -> PathBuf {
        match self.is_file {
            true => PathBuf::from(format!("{}.parts", self.out.display())),
            false => self.out.clone(),
        }
    }

    /// Bytes of all that must not change; manifest and page tell how long it took.
    fn outputs(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        if self.is_file {
            return BTreeMap::from([("".into(), fs::read(&self.out).expect("written"))]);
        }
        let mut all = snapshot(&self.out);
        all.retain(|path, _| {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            !["manifest.json", "report.html", "run.lock"].contains(&name.as_str())
        });
        all.into_iter().map(|(path, bytes)| (name_in(&self.out, &path), bytes)).collect()
    }
}

fn name_in(folder: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).to_path_buf()
}

/// The same command into `whole` and `out`.
fn jobs(folder: &Path, name: &str) -> [Job; 2] {
    ["whole", "out"].map(|out| {
        let place = folder.join(format!("{name}-{out}"));
        match name {
            "generate" => {
                let arguments = ["generate", "--prompt", "She", "The war", "--judge"];
                let more = ["--samples", "2400", "--max-tokens", "8"];
                Job::new(&[&arguments[..], &more].concat(), (place, true), &["--seed", "1"])
            }
            "steer" => {
                let (run, words) = (folder.join("by_hand"), folder.join("words.txt"));
                fs::write(&words, "war\n").expect("written");
                if !run.exists() {
                    by_hand(folder);
                }
                let (run, words) = (run.display().to_string(), words.display().to_string());
                let first = ["steer", "--run", &run, "--presence", &words, "--prompt", "The"];
                let more = ["--top", "2", "--random", "4", "--samples", "600", "--max-tokens", "6"];
                let all = [&first[..], &OF_WAR, &more].concat();
                Job::new(&all, (place, false), &["--seed", "1"])
            }
            "maximize" => {
                let neurons: Vec<String> =
                    (0..12).map(|n| format!("layers.{}.mlp_act.{n}", n % 3)).collect();
                let arguments =
                    ["maximize", "--neurons", &neurons.join(","), "--steps", "20", "--refine", "1"];
                Job::new(&arguments, (place, true), &["--seed", "1"])
            }
            "sparsity" => {
                let corpus = corpus();
                let arguments = ["sparsity", "--corpus", &corpus, "--tokens", "2000"];
                let more = ["--batch-tokens", "500", "--tolerance", "0.1", "--ppl", "0.5"];
                Job::new(&[&arguments[..], &more].concat(), (place, false), &["--eps", "0.5"])
            }
            other => panic!("no command {other}"),
        }
    })
}

fn stored(folder: &Path) -> usize {
    if folder.exists() { snapshot(folder).values().map(Vec::len).sum() } else { 0 }
}

/// Stopped by TERM, refused to another, killed, torn, and done.
fn goes_on(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let [whole, job] = jobs(folder.path(), name);
    let done = whole.run(&[]);
    assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
    let want = whole.outputs();
    let mut stopped = false;
    for _ in 0..5 {
        let mut child = job.command(&[]).spawn().expect("the program starts");
        wait(&mut child, || stored(&job.states()) > 0);
        signal(&child, "TERM");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(75) {
            assert!(said.contains("run the same command again, it resumes"), "{name}: {said}");
            stopped = true;
            break;
        }
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
    }
    assert!(stopped, "{name}: five attempts ended before a signal reached them");
    let other = job.run(job.other);
    assert_eq!(other.code, Some(2), "{name}: {}", other.stderr);
    let parts = job.parts().display().to_string();
    assert!(other.stderr.contains(&parts), "{name}: {}", other.stderr);
    assert!(other.stderr.contains("delete this folder"), "{name}: {}", other.stderr);
    let mut child = job.command(&[]).spawn().expect("the program starts");
    std::thread::sleep(std::time::Duration::from_millis(400));
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    if job.states().exists() {
        tear(&job.states());
        let done = job.run(&[]);
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
        assert!(done.stderr.contains("a stored state is unusable"), "{name}: {}", done.stderr);
    }
    assert!(job.outputs() == want, "{name}: other bytes than undisturbed");
    assert!(!job.states().exists(), "{name}: its pieces are removed");
    assert!(!job.is_file || !job.parts().exists(), "{name}: and their folder");
    assert_eq!(leftovers(folder.path()), [] as [PathBuf; 0], "{name}");
}

/// Takes the end off the last record of every segment.
fn tear(states: &Path) {
    for (path, bytes) in snapshot(states) {
        let path = if path.is_absolute() { path } else { states.join(path) };
        fs::write(&path, &bytes[..bytes.len() - 3]).expect("written");
    }
}

#[test]
fn generate_goes_on_after_term_kill_and_a_torn_record() {
    goes_on("generate");
}

#[test]
fn steer_goes_on_after_term_kill_and_a_torn_record() {
    goes_on("steer");
}

#[test]
fn maximize_goes_on_after_term_kill_and_a_torn_record() {
    goes_on("maximize");
}

#[test]
fn sparsity_goes_on_after_term_kill_and_a_torn_record() {
    goes_on("sparsity");
}

/// Works until the share told passes each of these, then to the end; gives the first share of the
/// last attempt.
fn stopped_at<T>(
    shares: &[f64],
    mut work: impl FnMut(&AtomicBool, &mut dyn FnMut(f64)) -> Result<T, Error>,
) -> (T, f64) {
    for &share in shares {
        let stop = AtomicBool::new(false);
        let ended = work(&stop, &mut |told| stop.store(told >= share, Ordering::Relaxed));
        let error = ended.err().expect("it is told to stop before its end");
        assert_eq!(error.exit_code(), 75, "{error}");
    }
    let mut first = None;
    let done = work(&AtomicBool::new(false), &mut |told| {
        first.get_or_insert(told);
    });
    (done.expect("it goes on"), first.expect("something was left to do"))
}

/// What was done is not done again: the last attempt begins where the one before it ended.
#[test]
fn attempts_begin_where_the_last_one_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = root("models/tiny-gpt2-en");
    let texts = TextConfig {
        model: model.clone(),
        samples: 900,
        max_tokens: 8,
        ..crate::generate::texts::config()
    };
    let generation = Generation::open(texts).expect("opens");
    let (arms, out) = ([TextArm::default()], folder.path().join("texts.jsonl"));
    let (texts, first) = stopped_at(&[0.1, 0.6], |stop, told| {
        generation.write(&out, (&arms, false), stop, &mut |_, _, share| told(share))
    });
    assert!(first > 0.55, "began again at {first}");
    assert!(texts == generation.run(&arms, false, &mut |_, _, _| {}).expect("runs"));
    let config = MaximizeConfig {
        model: model.clone(),
        neurons: (0..24)
            .map(|index| NeuronId { site: Site::of_layer(0, SiteKind::MlpAct), index })
            .collect(),
        settings: Settings { steps: 3, nearest: 2, ..Settings::default() },
        variant: "embed",
        add_bos: true,
        run: None,
        batch_tokens: None,
        device: Some("cpu".into()),
        dtype: Dtype::F32,
        out: folder.path().join("climbed.jsonl"),
    };
    let (best, first) = stopped_at(&[0.1, 0.6], |stop, told| maximize_neurons(&config, stop, told));
    assert!(best.len() == 24 && first > 0.65, "began again at {first}");
    let manifest = folder.path().join("climbed.jsonl.manifest.json");
    assert!(fs::read_to_string(manifest).expect("written").contains("layers.0.mlp_act"));
    let config = SparsityConfig {
        model,
        corpus: CorpusConfig::of_file(Path::new(&corpus())),
        tokens: 1200,
        eps: None,
        cett: vec![0.1],
        ppl: None,
        thresholds: 4,
        tolerance: 0.1,
        batch_tokens: Some(300),
        device: Some("cpu".into()),
        dtype: Dtype::F32,
        out: folder.path().join("sparsity"),
    };
    let (_, first) = stopped_at(&[0.1, 0.6], |stop, told| {
        measure_sparsity(&config, stop, &mut |_, _, share| told(share))
    });
    assert!(first > 0.55, "began again at {first}");
    let manifest = Manifest::read(&config.out).expect("a manifest");
    assert_eq!(manifest.sites.len(), 4);
    assert!(manifest.corpus.counts.tokens >= 1200 && manifest.outputs.len() == 3);
}
