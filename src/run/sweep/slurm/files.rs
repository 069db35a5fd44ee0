//! Job files: what people read and change before they submit.

use std::fmt::Write as _;
use std::path::Path;

use super::job_name;
use crate::error::{Error, Result};
use crate::run::sweep::config::SlurmConfig;
use crate::run::sweep::plan::{Folder, SweepPlan};

/// Stem of the merge's file.
pub(super) const MERGE: &str = "merge";
/// Options that leave nodes out, of which only the last would count.
const EXCLUDE: [&str; 2] = ["--exclude=", "-x="];

/// What all job files of a submission are made of.
pub(super) struct Asked<'a> {
    pub(super) plan: &'a SweepPlan,
    pub(super) out: &'a Path,
    pub(super) slurm: &'a SlurmConfig,
    pub(super) program: &'a str,
    /// Nodes whose devices were at fault.
    pub(super) left_out: &'a [String],
}

/// Stem of an array's files.
pub(super) fn stem(number: usize) -> String {
    format!("array-{number:03}")
}

/// The command that a node runs.
pub(super) fn program(slurm: &SlurmConfig) -> Result<String> {
    match &slurm.program {
        Some(program) => Ok(program.clone()),
        None => {
            let program = std::env::current_exe().map_err(Error::io("this program", "find"))?;
            Ok(quoted(&program))
        }
    }
}

/// An array of tasks. The program takes the shell's place, so that signals reach it and nothing is
/// left behind when it is killed.
pub(super) fn array_text(asked: &Asked<'_>, (list, count): (&Path, usize)) -> String {
    let Asked { out, slurm, program, .. } = asked;
    let limit = slurm.limit.map(|limit| format!("%{limit}")).unwrap_or_default();
    let more = [
        format!("--array=0-{}{limit}", count - 1),
        "--requeue".to_owned(),
        format!("--signal=B:USR1@{}", slurm.notice),
    ];
    format!(
        "{}exec {program} --log-format json sweep task {} --list {} \
         --index \"$SLURM_ARRAY_TASK_ID\" --requeues {} --threads {}\n",
        header(asked, &job_name(asked.plan), ("%A_%a.log", &more)),
        quoted(out),
        quoted(list),
        slurm.requeues,
        slurm.cpus.max(1),
    )
}

/// The merge. It begins anew when its node is lost.
pub(super) fn merge_text(asked: &Asked<'_>) -> String {
    let Asked { out, slurm, program, .. } = asked;
    let name = format!("{}-merge", job_name(asked.plan));
    format!(
        "{}exec {program} --log-format json sweep merge {} --threads {}\n",
        header(asked, &name, ("merge-%j.log", &["--requeue".to_owned()])),
        quoted(out),
        slurm.cpus.max(1),
    )
}

/// Options and lines of shell that every job has.
fn header(asked: &Asked<'_>, name: &str, (log, more): (&str, &[String])) -> String {
    let slurm = asked.slurm;
    let mut text = String::from("#!/bin/bash\n");
    let mut line = |option: &str| writeln!(text, "#SBATCH {option}").expect("a String takes text");
    line(&format!("--job-name={name}"));
    line(&format!("--comment=\"electrode sweep {}\"", asked.plan.name));
    line(&format!("--output={}", pattern(&Folder(asked.out).logs(), log)));
    line("--open-mode=append");
    line("--ntasks=1");
    line("--kill-on-invalid-dep=yes");
    let options = [
        ("partition", slurm.partition.clone()),
        ("account", slurm.account.clone()),
        ("time", slurm.time.clone()),
        ("mem", slurm.memory.clone()),
        ("cpus-per-task", Some(slurm.cpus.max(1).to_string())),
        ("gpus-per-task", (slurm.gpus > 0).then(|| slurm.gpus.to_string())),
    ];
    for (option, value) in options {
        if let Some(value) = value {
            line(&format!("--{option}={value}"));
        }
    }
    more.iter().for_each(|option| line(option));
    let mut nodes: Vec<&str> = slurm.extra.iter().filter_map(|extra| excluded(extra)).collect();
    nodes.extend(asked.left_out.iter().map(String::as_str));
    slurm.extra.iter().filter(|extra| excluded(extra).is_none()).for_each(|extra| line(extra));
    if !nodes.is_empty() {
        line(&format!("--exclude={}", nodes.join(",")));
    }
    text.push('\n');
    for setup in &slurm.setup {
        text.push_str(setup);
        text.push('\n');
    }
    text
}

/// The nodes that a line of `slurm.extra` leaves out.
fn excluded(extra: &str) -> Option<&str> {
    EXCLUDE.iter().find_map(|option| extra.strip_prefix(option))
}

/// A path that the shell leaves alone.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// A file name with Slurm's placeholders, in a folder that has none.
fn pattern(folder: &Path, name: &str) -> String {
    let folder = folder.display().to_string().replace('%', "%%");
    match folder.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+,=@%".contains(c)) {
        true => format!("{folder}/{name}"),
        false => format!("\"{}/{name}\"", folder.replace('"', "\\\"")),
    }
}
