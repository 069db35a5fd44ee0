//! Tokens and passwords in the environment, in paths and in URLs.
//! Oracle: the secrets that were planted, looked for in every file that a run and a sweep leave, in tables
//! value by value.

use std::fs;
use std::path::Path;
use std::process::Command;

use parquet::file::reader::{FileReader as _, SerializedFileReader};

use crate::bench::{Bench, finish, snapshot};
use crate::figures::hold;
use crate::sweeps::Small;

/// Variables that people have, and what stands in them here; the part in question is after the last `~`.
const PLANTED: [(&str, &str); 16] = [
    ("HF_TOKEN", "hf_~Planted01aBcDeFgH"),
    ("HUGGING_FACE_HUB_TOKEN", "hf_~Planted02aBcDeFgH"),
    ("HF_HUB_CACHE", "https://me:~Planted03aBcDeFgH@host/cache"),
    ("HF_HOME", "/nowhere/hf_~Planted04aBcDeFgH"),
    ("OPENAI_API_KEY", "sk-~Planted05aBcDeFgH"),
    ("ANTHROPIC_API_KEY", "sk-ant-~Planted06aBcDeFgH"),
    ("GITHUB_TOKEN", "ghp_~Planted07aBcDeFgH"),
    ("GH_TOKEN", "github_pat_~Planted08aBcDeFgH"),
    ("GITLAB_TOKEN", "glpat-~Planted09aBcDeFgH"),
    ("SLACK_TOKEN", "xoxb-~Planted10aBcDeFgH"),
    ("AWS_SECRET_ACCESS_KEY", "~Planted11aBcDeFgH/+x"),
    ("WANDB_API_KEY", "~Planted12aBcDeFgH"),
    ("DATABASE_URL", "postgres://me:~Planted13aBcDeFgH@host/x"),
    ("HTTPS_PROXY", "http://me:~Planted14aBcDeFgH@proxy:80"),
    ("LANG", "hf_~Planted15aBcDeFgH"),
    ("SLURM_JOB_PARTITION", "api_org_~Planted16aBcDeFgH"),
];
/// In the path of a model, of a corpus, as a password in such a path, and in the title of a run.
const IN_PATHS: [&str; 4] = [
    "hf_Planted17aBcDeFgH",
    "ghp_Planted18aBcDeFgH",
    "me:Planted19aBcDeFgH@host",
    "sk-Planted20aBcDeFgH",
];

fn planted(command: &mut Command) -> &mut Command {
    command.envs(PLANTED.map(|(name, value)| (name, value.replace('~', ""))))
}

/// Every file of a folder that a planted secret stands in: all have one word in common.
fn found(folder: &Path) -> Vec<String> {
    let files = snapshot(folder);
    assert!(files.len() >= 5, "{} files are too few", files.len());
    let holds = |path: &Path, bytes: &[u8]| {
        let text = match path.extension().is_some_and(|suffix| suffix == "parquet") {
            true => rows(path),
            false => String::from_utf8_lossy(bytes).into_owned(),
        };
        let name = path.strip_prefix(folder).expect("below").display().to_string();
        (text + &name).contains("Planted")
    };
    let files = files.iter().filter(|(path, bytes)| holds(path, bytes));
    files.map(|(path, _)| path.display().to_string()).collect()
}

/// Everything in a table, and in its metadata.
fn rows(path: &Path) -> String {
    let file = fs::File::open(path).expect("it is there");
    let reader = SerializedFileReader::new(file).expect("a table");
    let mut text = format!("{:?}", reader.metadata().file_metadata().key_value_metadata());
    for row in reader.get_row_iter(None).expect("rows") {
        text += &row.expect("a row").to_string();
    }
    text
}

#[test]
fn no_secret_is_in_any_file() {
    let bench = Bench::new(40);
    let model = bench.path(IN_PATHS[0]);
    fs::rename(bench.path("model"), &model).expect("moved");
    // A path with the user and password of a URL in it: `…//me:password@host/c.word`.
    let corpus = bench.path(IN_PATHS[1]).join(IN_PATHS[2]);
    fs::create_dir_all(&corpus).expect("made");
    fs::rename(bench.path("c.word"), corpus.join("c.word")).expect("moved");
    let words = format!("{}//{}/c.word", bench.path(IN_PATHS[1]).display(), IN_PATHS[2]);
    let settings = [
        format!("model.path={}", model.display()),
        format!("corpus.files=[\"{words}\"]"),
        format!("name=a run with {}", IN_PATHS[3]),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let done = finish(planted(&mut bench.command("out", &settings)));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut wrong = found(&bench.path("out"));
    // The same with an end that is no good one: what it says of it is not kept either.
    let settings =
        [settings[0], settings[2], "corpus.max_documents=1", "concepts.0.min_count=1000"];
    finish(planted(&mut bench.command("ended", &settings)));
    if bench.path("ended/manifest.json").exists() {
        wrong.extend(found(&bench.path("ended")));
    }
    let small = Small::planned();
    let mut submit = small.command("submit");
    let done = finish(planted(submit.args(["--local", "2"])));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut submit = small.command("submit");
    let done = finish(planted(submit.arg("--dry-run")));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    wrong.extend(found(&small.out()));
    hold("planted secrets, looked for in every file of a run and a sweep", 20, &wrong);
}

/// What would go into the plan and the job files is refused before anything is written.
#[test]
fn a_sweep_with_a_secret_is_refused() {
    let small = Small::planned();
    fs::remove_dir_all(small.out()).expect("removed");
    for line in [
        "[slurm]\nsetup = [\"export HF_TOKEN=hf_Planted17aBcDeFgH\"]\n",
        "[slurm]\nextra = [\"--comment=https://me:Planted19aBcDeFgH@host\"]\n",
    ] {
        small.write_file(line);
        let done = small.sweep(&["plan", &small.file().display().to_string()]);
        assert_eq!(done.code, Some(2), "{line}: {}", done.stderr);
        assert!(!done.stderr.contains("aBcDeFgH"), "the message repeats it: {}", done.stderr);
        assert!(!small.out().exists(), "{line}: something was written");
    }
}
