//! Sweeps that are looked at. Oracle: folders made by hand, whose rates, counts and times are worked
//! out here; the exposition format of Prometheus, by a reader of its grammar.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::bench::{Bench, Finished, electrode, finish};

fn sweep(arguments: &[&str]) -> Finished {
    finish(electrode().arg("sweep").args(arguments))
}

fn status(out: &str) -> Value {
    let done = sweep(&["status", out, "--json"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    serde_json::from_str(&done.stdout).expect("one JSON object")
}

/// A plan of one pass with many tasks of two blocks.
fn planned(bench: &Bench) -> String {
    let path = bench.path("sweep.toml");
    let out = bench.path("sweep").display().to_string();
    let text = format!(
        "name = \"tiny\"\nout = \"{out}\"\nrun = \"{}\"\ntask_blocks = 2\n\
         [[axis]]\nkey = \"methods\"\nvalues = [[\"probeless\"], [\"auroc\", \"mi\"]]\n\
         names = [\"probeless\", \"order\"]\n",
        bench.path("run.toml").display()
    );
    fs::write(&path, text).expect("written");
    let done = sweep(&["plan", &path.display().to_string()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    out
}

fn task_folder(out: &str, task: usize) -> PathBuf {
    let folder = Path::new(out).join(format!("passes/0000/tasks/{task:06}"));
    fs::create_dir_all(&folder).expect("made");
    folder
}

/// What an attempt says when it ends.
fn ended(out: &str, (task, node): (usize, &str), (seconds, blocks, exit): (f64, u32, u8)) {
    let error = (exit != 0).then_some("no room\non the disk");
    let note = json!({
        "start": "2026-11-24T00:00:00Z", "seconds": seconds, "tokens": 100 * blocks,
        "blocks": blocks, "node": node, "devices": ["cpu"], "exit": exit, "error": error,
    });
    fs::write(task_folder(out, task).join("attempt-01.json"), note.to_string()).expect("written");
}

/// Lines of metrics, the last of them torn.
fn metrics(out: &str, (task, node): (usize, &str), blocks_done: f64) -> PathBuf {
    let line = |stage: &str, seconds: f64, rate: f64| {
        json!({
            "time": "2026-11-24T00:00:00Z", "seconds": seconds, "stage": stage,
            "blocks_done": blocks_done, "blocks": 2, "attempt_blocks": blocks_done,
            "attempt_seconds": seconds - 1.0, "tokens": 70, "tokens_per_second": rate,
            "mean_tokens_per_second": rate, "resident_bytes": 1, "state_bytes": 1, "node": node,
            "devices": ["gpu"],
            "gpus": [{ "uuid": "GPU-1", "power_watts": 250.0, "energy_joules": 1000.0 * seconds }],
        })
    };
    let (first, last) = (line("calibrating", 3.0, 0.0), line("reading", 8.0, 12.5));
    let path = task_folder(out, task).join("attempt-02.metrics.jsonl");
    fs::write(&path, format!("{first}\n{last}\n{{\"time\": \"20")).expect("written");
    path
}

fn by_hand(bench: &Bench) -> (String, usize) {
    let out = planned(bench);
    let kind = json!({ "run_id": "0".repeat(64), "kind": null });
    fs::create_dir_all(Path::new(&out).join("passes/0000")).expect("made");
    let path = Path::new(&out).join("passes/0000/kind.json");
    electrode::artifact::sealed::write_sealed(&path, &kind).expect("written");
    ended(&out, (0, "n\"1\\"), (4.0, 0, 74));
    metrics(&out, (1, "n2"), 1.5);
    let stale = metrics(&out, (2, "n3"), 0.5);
    let old = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().append(true).open(stale).expect("there").set_modified(old).expect("set");
    ended(&out, (3, "n2"), (10.0, 2, 0));
    fs::write(task_folder(&out, 3).join("attempt-05.json"), "{\"start\": ").expect("written");
    let plan = fs::read(Path::new(&out).join("sweep.json")).expect("a plan");
    let plan: Value = serde_json::from_slice(&plan).expect("JSON");
    (out, plan["tasks"].as_array().expect("a list").len())
}

/// Seconds of a block: 10 s for 2 blocks, and 8 s for 1.5 of the attempt at work.
const SECONDS_PER_BLOCK: f64 = 18.0 / 3.5;

#[test]
fn a_status_tells_who_works_what_failed_and_when_it_ends() {
    let bench = Bench::new(700);
    let (out, tasks) = by_hand(&bench);
    assert!(tasks >= 5, "{tasks} tasks");
    let told = status(&out);
    let states: Vec<_> = told["tasks"].as_array().expect("a list")[..5]
        .iter()
        .map(|task| task["state"].as_str().expect("a state"))
        .collect();
    // The third wrote its last line a minute ago; the fourth ended with 0 and its states are gone.
    assert_eq!(states, ["failed", "working", "waiting", "waiting", "waiting"]);
    assert_eq!(told["working"], 1);
    let close = |value: &Value, wanted: f64| {
        let value = value.as_f64().expect("a number");
        assert!((value - wanted).abs() <= 1e-9 * wanted, "{value} is not {wanted}");
    };
    close(&told["seconds_per_block"], SECONDS_PER_BLOCK);
    let blocks = told["blocks"].as_f64().expect("a number");
    close(&told["seconds_left"], SECONDS_PER_BLOCK * (blocks - 1.5));
    close(&told["energy_joules"], 16_000.0);
    let n2 = &told["nodes"]["n2"];
    let wanted = json!({ "working": 1, "tokens_per_second": 12.5, "ended": 1,
                         "mean_tokens_per_second": 20.0 });
    assert_eq!(*n2, wanted);
    assert_eq!(told["nodes"]["n3"], Value::Null, "it does nothing, and nothing ended there");
    let failed = json!([{ "task": 0, "missing": "0-1", "node": "n\"1\\", "exit": 74,
                          "error": "no room\non the disk" }]);
    assert_eq!(told["failed"], failed);
    let text = sweep(&["status", &out]).stdout;
    for words in [
        "5.1 s a block",
        "with 1 tasks at work",
        "0.004 kWh",
        "n2: 1 tasks at work, 12 tokens/s",
        "task 1 on n2: reading, 1.5 of 2 blocks, 12 tokens/s, 250 W",
        "ended with 74: no room on the disk (blocks 0-1 are missing)",
    ] {
        assert!(text.contains(words), "'{words}' is not in\n{text}");
    }
}

/// Name and labels of a sample, with its value.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// Reads the exposition format 0.0.4, and holds it to its rules.
fn exposition(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line ends as well");
    let (mut samples, mut head) = (Samples::new(), (String::new(), String::new()));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            head.0 = help.split_once(' ').expect("a name and a text").0.to_owned();
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(name, head.0, "HELP and TYPE belong together");
            assert_ne!(name, head.1, "once for each name");
            head.1 = name.to_owned();
            continue;
        }
        let (name, rest) = line.split_once('{').expect("labels");
        assert_eq!(name, head.1, "a sample stands under its TYPE");
        let (labels, value) = labels(rest);
        let value: f64 = value.strip_prefix(' ').expect("a blank").parse().expect("a number");
        let new = samples.insert((name.to_owned(), labels), value).is_none();
        assert!(new, "twice: {line}");
    }
    samples
}

/// The labels up to `}`, and what follows.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let (mut labels, mut rest) = (BTreeMap::new(), text);
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label");
        let legal = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(!name.is_empty() && name.chars().all(legal), "{name}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().expect("a closing quote") {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("\\{c} is no escape"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (labels, rest.strip_prefix('}').expect("the labels end")),
        }
    }
}

#[test]
fn prometheus_reads_the_same() {
    let bench = Bench::new(700);
    let (out, tasks) = by_hand(&bench);
    let file = bench.path("electrode.prom");
    for _ in 0..2 {
        let done = sweep(&["status", &out, "--prometheus", &file.display().to_string()]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let samples = exposition(&fs::read_to_string(&file).expect("a file"));
    let get = |name: &str, label: &[(&str, &str)]| {
        let mut labels = BTreeMap::from([("sweep".to_owned(), "tiny".to_owned())]);
        labels.extend(label.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let name = format!("electrode_{name}");
        samples.get(&(name.clone(), labels)).copied().unwrap_or_else(|| panic!("no {name}"))
    };
    let told = status(&out);
    assert_eq!(get("blocks_done", &[]), 0.0);
    assert_eq!(Some(get("blocks_total", &[])), told["blocks"].as_f64());
    assert_eq!(Some(get("eta_seconds", &[])), told["seconds_left"].as_f64());
    assert_eq!(Some(get("seconds_per_block", &[])), told["seconds_per_block"].as_f64());
    assert_eq!(get("energy_joules", &[]), 16_000.0);
    assert_eq!(get("tasks", &[("state", "failed")]), 1.0);
    assert_eq!(get("tasks", &[("state", "working")]), 1.0);
    assert_eq!(get("tasks", &[("state", "waiting")]), (tasks - 2) as f64);
    assert_eq!(get("attempts", &[("exit", "74")]), 1.0);
    assert_eq!(get("attempts", &[("exit", "0")]), 1.0);
    assert_eq!(get("tokens_per_second", &[("node", "n2")]), 12.5);
    assert_eq!(get("tokens_per_second", &[("node", "n\"1\\")]), 0.0);
}

/// Every line of a file of metrics.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect()
}

#[test]
fn attempts_and_runs_write_how_they_went() {
    let bench = Bench::new(700);
    let out = planned(&bench);
    let done = sweep(&["submit", &out, "--local", "2"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let told = status(&out);
    let tasks = told["tasks"].as_array().expect("a list");
    let text = sweep(&["status", &out]).stdout;
    assert!(text.contains("about 0.00 device-hours are left\n"), "{text}");
    for (number, task) in tasks.iter().enumerate() {
        assert_eq!((&task["state"], &task["missing"]), (&json!("done"), &json!("")));
        let folder = task_folder(&out, number);
        let names = fs::read_dir(&folder).expect("there").map(|entry| entry.expect("read").path());
        let mut files: Vec<_> =
            names.filter(|path| path.to_string_lossy().ends_with(".metrics.jsonl")).collect();
        let lines = lines(&files.pop().expect("one attempt"));
        assert!(files.is_empty() && lines.len() >= 2, "{number}: {lines:?}");
        let last = lines.last().expect("a line");
        assert_eq!(last["stage"], "ended");
        assert_eq!(last["blocks_done"], task["blocks"].as_f64().expect("a number"));
        assert_eq!(last["blocks"], task["blocks"]);
        assert_eq!(last["tokens"], task["tokens"], "{last}");
        assert!(last["state_bytes"].as_u64() > Some(1000), "{last}");
        assert!(last["resident_bytes"].as_u64() > Some(1 << 20), "{last}");
        assert!(last["mean_tokens_per_second"].as_f64() > Some(0.0), "{last}");
        let seconds: Vec<_> = lines.iter().map(|line| line["seconds"].as_f64()).collect();
        assert!(seconds.is_sorted(), "{seconds:?}");
    }
    let page = fs::read_to_string(Path::new(&out).join("overview.html")).expect("a page");
    for words in ["sweep tiny", "Where methods find concepts", "merged", "<h3>auroc</h3>"] {
        assert!(page.contains(words), "{words}");
    }
    let html = bench.path("again.html");
    let again = sweep(&["status", &out, "--html", &html.display().to_string()]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(html.exists());
    // A run does the same, behind the lines of its attempts before.
    bench.tables("out", &[]);
    let once = lines(&bench.path("out/metrics.jsonl"));
    let last = once.last().expect("a line");
    assert_eq!(
        (&last["stage"], &last["blocks_done"]),
        (&json!("ended"), &json!(told["blocks"].as_f64()))
    );
    bench.tables("out", &[]);
    let twice = lines(&bench.path("out/metrics.jsonl"));
    assert_eq!(twice[..once.len()], once[..]);
    assert_eq!(twice.last().expect("a line")["tokens"], 0, "nothing was left to read");
}

#[test]
fn a_plan_says_what_its_estimate_is_from() {
    let bench = Bench::new(700);
    let out = planned(&bench);
    let file = bench.path("sweep.toml").display().to_string();
    let plan: Value =
        serde_json::from_slice(&fs::read(Path::new(&out).join("sweep.json")).expect("a plan"))
            .expect("JSON");
    let bytes = plan["passes"][0]["bytes"].as_u64().expect("a number");
    let unknown = sweep(&["plan", &file]).stdout;
    assert!(unknown.contains(&format!("about {} tokens (4 bytes", bytes / 4)), "{unknown}");
    assert!(unknown.contains("device-hours: unknown (nothing has run yet"), "{unknown}");
    let rate = format!("{}", bytes as f64 / 4.0 / 7200.0);
    let given = sweep(&["plan", &file, "--dry-run", "--tokens-per-second", &rate]).stdout;
    assert!(given.contains("device-hours: 2.00 ("), "{given}");
    for wrong in ["0", "-1", "NaN", "inf"] {
        let flag = format!("--tokens-per-second={wrong}");
        let refused = sweep(&["plan", &file, &flag]);
        assert_eq!(refused.code, Some(2), "{wrong}: {}", refused.stderr);
    }
    assert_eq!(sweep(&["submit", &out, "--local", "2"]).code, Some(0));
    let tokens = status(&out)["tokens"].as_u64().expect("a number");
    let measured = sweep(&["plan", &file]).stdout;
    assert!(measured.contains(&format!("about {tokens} tokens (those of")), "{measured}");
    assert!(measured.contains("as attempts in this folder took"), "{measured}");
}

/// The events of a task with the fields of the spans around them.
fn events(stderr: &str) -> Vec<(Value, Value)> {
    let line = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let spans = event["spans"].as_array().cloned().unwrap_or_default();
        let mut fields = serde_json::Map::new();
        spans.into_iter().for_each(|span| fields.extend(span.as_object().expect("fields").clone()));
        (event, Value::Object(fields))
    };
    stderr.lines().map(line).collect()
}

#[test]
fn json_logs_say_which_task_and_block_they_are_of() {
    let bench = Bench::new(700);
    let out = planned(&bench);
    let task = |task: &str| sweep(&["task", &out, task, "--log-format", "json", "-v"]);
    let done = task("1");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let events = events(&done.stderr);
    let said = |message: &str| {
        let found: Vec<_> =
            events.iter().filter(|(event, _)| event["message"] == message).cloned().collect();
        assert!(!found.is_empty(), "no '{message}' in {}", done.stderr);
        found
    };
    let taken = said("block taken");
    let blocks: Vec<_> = taken.iter().map(|(_, fields)| fields["block"].as_u64()).collect();
    assert_eq!(blocks, [Some(2), Some(3)]);
    let ended = said("attempt ended");
    assert_eq!((&ended[0].0["blocks"], &ended[0].0["exit"]), (&json!(2), &json!(0)));
    for (_, fields) in taken.iter().chain(&ended) {
        assert_eq!(
            (&fields["sweep"], &fields["pass"], &fields["task"]),
            (&json!("tiny"), &json!(0), &json!(1))
        );
        let attempt = fields["attempt"].as_str().expect("a name");
        assert!(task_folder(&out, 1).join(format!("{attempt}.json")).exists(), "{attempt}");
    }
}
