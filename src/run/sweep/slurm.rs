//! A sweep as Slurm jobs: arrays of tasks, and a merge behind them. Files are written to be read and
//! changed by people; a task ends with a code that says whether to begin it again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::config::SlurmConfig;
use super::plan::{Folder, SweepPlan};
use super::status::status;
use crate::artifact::atomic::write_bytes_atomic;
use crate::error::{Error, Result};

/// Tasks of an array where the cluster does not say.
const ARRAY: usize = 1001;

/// Jobs of a submission.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Files of arrays, in order, and the merge's last.
    pub files: Vec<PathBuf>,
    /// Their job numbers; none of a dry run.
    pub jobs: Vec<String>,
    /// Tasks in them.
    pub tasks: usize,
}

/// What the cluster calls the jobs of a sweep.
pub fn job_name(plan: &SweepPlan) -> String {
    format!("electrode-{}", &plan.sweep_id[..12])
}

/// Writes job files for every task that is not done and, unless this is a rehearsal, submits them. A
/// sweep with jobs in the queue is refused, so that nothing is submitted twice.
pub fn submit(
    (plan, out): (&SweepPlan, &Path),
    slurm: &SlurmConfig,
    dry_run: bool,
) -> Result<Submission> {
    let out = &std::fs::canonicalize(out).map_err(Error::io(out, "read"))?;
    let missing = status(plan, out)?.missing();
    if !dry_run {
        let queued = queued(plan)?;
        if !queued.is_empty() {
            let what = format!("{} of its jobs are in the queue", queued.len());
            let remedy = "wait for them, or `electrode sweep cancel`";
            return Err(Error::config(out.display().to_string(), what, remedy));
        }
    }
    for folder in [Folder(out).jobs(), Folder(out).logs()] {
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    }
    let program = program(slurm)?;
    let most = if dry_run { ARRAY } else { largest_array() };
    let mut submission = Submission { files: Vec::new(), jobs: Vec::new(), tasks: missing.len() };
    for (number, tasks) in missing.chunks(most.max(2) - 1).enumerate() {
        let list = Folder(out).jobs().join(format!("array-{number:03}.tasks"));
        let lines: String = tasks.iter().map(|task| format!("{task}\n")).collect();
        write_bytes_atomic(&list, lines.as_bytes())?;
        let file = Folder(out).jobs().join(format!("array-{number:03}.sbatch"));
        let text = array((plan, out), slurm, (&list, tasks.len(), &program));
        write_bytes_atomic(&file, text.as_bytes())?;
        submission.files.push(file);
    }
    let file = Folder(out).jobs().join("merge.sbatch");
    write_bytes_atomic(&file, merge((plan, out), slurm, &program).as_bytes())?;
    if !dry_run {
        for array in &submission.files {
            submission.jobs.push(sbatch(array, &[])?);
        }
        // Behind all of them however they end: it sees for itself whether anything is missing.
        let after = format!("--dependency=afterany:{}", submission.jobs.join(":"));
        let after = if submission.jobs.is_empty() { Vec::new() } else { vec![after.as_str()] };
        submission.jobs.push(sbatch(&file, &after)?);
    }
    submission.files.push(file);
    Ok(submission)
}

/// Jobs of a sweep that are waiting or running, as the cluster lists them.
pub fn queued(plan: &SweepPlan) -> Result<Vec<String>> {
    let name = job_name(plan);
    let names = format!("{name},{name}-merge");
    let text = ask("squeue", &["--noheader", "--name", &names, "--format", "%i %T %R"])?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Takes every job of a sweep off the queue; what tasks have put on the disk stays.
pub fn cancel(plan: &SweepPlan) -> Result<usize> {
    let count = queued(plan)?.len();
    let name = job_name(plan);
    for name in [format!("{name}-merge"), name] {
        ask("scancel", &["--name", &name])?;
    }
    Ok(count)
}

/// Asks that the job of this process be queued again; false where it has been often enough, or is no
/// job at all.
pub fn queue_again(limit: u32) -> bool {
    let variable = |name| std::env::var(name).ok();
    // Unset in the first attempt.
    let again: u32 =
        variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
    let job = match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(task)) => format!("{job}_{task}"),
        _ => match variable("SLURM_JOB_ID") {
            Some(job) => job,
            None => return false,
        },
    };
    if again >= limit {
        tracing::warn!(job, again, "queued again often enough (slurm.requeues)");
        return false;
    }
    match ask("scontrol", &["requeue", &job]) {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, "the job could not be queued again");
            false
        }
    }
}

/// The command that a node runs.
fn program(slurm: &SlurmConfig) -> Result<String> {
    match &slurm.program {
        Some(program) => Ok(program.clone()),
        None => {
            let program = std::env::current_exe().map_err(Error::io("this program", "find"))?;
            Ok(quoted(&program))
        }
    }
}

/// A path that the shell leaves alone.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Lines that every job has.
fn header((plan, out): (&SweepPlan, &Path), slurm: &SlurmConfig, merge: bool) -> String {
    let name = job_name(plan);
    let name = if merge { format!("{name}-merge") } else { name };
    let log = if merge { "merge-%j.log" } else { "%A_%a.log" };
    let mut text = String::from("#!/bin/bash\n");
    let mut line =
        |option: String| writeln!(text, "#SBATCH {option}").expect("a String takes text");
    line(format!("--job-name={name}"));
    line(format!("--comment=\"electrode sweep {}\"", plan.name));
    line(format!("--output={}", Folder(out).logs().join(log).display()));
    line("--open-mode=append".to_owned());
    line("--ntasks=1".to_owned());
    line("--kill-on-invalid-dep=yes".to_owned());
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
            line(format!("--{option}={value}"));
        }
    }
    if !merge {
        line("--requeue".to_owned());
        line(format!("--signal=B:USR1@{}", slurm.notice));
    }
    slurm.extra.iter().for_each(|extra| line(extra.clone()));
    text.push('\n');
    for setup in &slurm.setup {
        text.push_str(setup);
        text.push('\n');
    }
    text
}

/// An array of tasks. The program takes the shell's place, so that signals reach it and nothing is
/// left behind when it is killed.
fn array(
    (plan, out): (&SweepPlan, &Path),
    slurm: &SlurmConfig,
    (list, count, program): (&Path, usize, &str),
) -> String {
    let limit = slurm.limit.map(|limit| format!("%{limit}")).unwrap_or_default();
    let head = header((plan, out), slurm, false);
    let array = format!("#SBATCH --array=0-{}{limit}\n", count - 1);
    let (first, rest) = head.split_at(head.find('\n').expect("a first line") + 1);
    format!(
        "{first}{array}{rest}exec {program} --log-format json sweep task {} --list {} \
         --index \"$SLURM_ARRAY_TASK_ID\" --requeues {} --threads {}\n",
        quoted(out),
        quoted(list),
        slurm.requeues,
        slurm.cpus.max(1),
    )
}

fn merge((plan, out): (&SweepPlan, &Path), slurm: &SlurmConfig, program: &str) -> String {
    let head = header((plan, out), slurm, true);
    let threads = slurm.cpus.max(1);
    format!(
        "{head}exec {program} --log-format json sweep merge {} --threads {threads}\n",
        quoted(out)
    )
}

/// Tasks that an array may have: its largest index is one below `MaxArraySize`.
fn largest_array() -> usize {
    let shown = ask("scontrol", &["show", "config"]).unwrap_or_default();
    let line = shown.lines().find(|line| line.trim_start().starts_with("MaxArraySize"));
    let size = line.and_then(|line| line.split('=').nth(1)?.trim().parse().ok());
    size.unwrap_or(ARRAY)
}

fn sbatch(file: &Path, more: &[&str]) -> Result<String> {
    let path = file.display().to_string();
    let mut arguments = vec!["--parsable"];
    arguments.extend(more);
    arguments.push(&path);
    let text = ask("sbatch", &arguments)?;
    // JOB, or JOB;CLUSTER.
    Ok(text.trim().split(';').next().unwrap_or_default().to_owned())
}

/// What a command of the cluster says.
fn ask(command: &str, arguments: &[&str]) -> Result<String> {
    let output = match Command::new(command).args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = "is not to be found: is this a login node of a Slurm cluster?";
            let remedy = "run the tasks here with --local N, or look at the files with --dry-run";
            return Err(Error::config(command, what, remedy));
        }
        Err(error) => return Err(Error::io(command, "start")(error)),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("{} {}: {}", command, arguments.join(" "), said.trim());
    Err(Error::Unfinished { what })
}
