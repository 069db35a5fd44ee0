//! A task that was told to end asks to be queued again: Slurm does not by itself where a job reached
//! its time limit, or ended on a notice of pre-emption before it was put out.

use super::ask::ask;

/// Asks that the job of this process be queued again; false where nobody should, or it has been often
/// enough, or this is no job at all. `further`: this attempt put blocks on the disk.
///
/// A job that a user takes off the queue is told to end in the same way as one whose time is up, and
/// Slurm would begin it again if asked: so the job's own state is looked at first. One without progress
/// is only begun again if it was pre-empted, for it would reach its limit each time.
pub fn queue_again(limit: u32, further: bool) -> bool {
    let variable = |name| std::env::var(name).ok();
    // Unset in the first attempt.
    let again: u32 =
        variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
    // The number of an array's last task is the array's as well: that would be all of them.
    let job = match (variable("SLURM_ARRAY_JOB_ID"), variable("SLURM_ARRAY_TASK_ID")) {
        (Some(job), Some(task)) => format!("{job}_{task}"),
        _ => match variable("SLURM_JOB_ID") {
            Some(job) => job,
            None => return false,
        },
    };
    let shown = match ask("scontrol", &["show", "job", &job]) {
        Ok(shown) => shown,
        Err(error) => {
            tracing::warn!(%error, "the job's state cannot be asked, so it is not queued again");
            return false;
        }
    };
    if !wanted(&shown, further) {
        return false;
    }
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

/// Whether a job in this state (`scontrol show job`) that was told to end should begin again.
fn wanted(shown: &str, further: bool) -> bool {
    let field = |name: &str| {
        let mut fields = shown.split_whitespace().filter_map(|field| field.split_once('='));
        fields.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    };
    let preempted = !matches!(field("PreemptTime"), "" | "None");
    match field("JobState") {
        // A notice: the job is still its own master.
        "RUNNING" | "SIGNALING" => further || preempted,
        // The limit itself; cancelled and queued again by others, it ends for no such reason.
        "COMPLETING" | "TIMEOUT" => further && field("Reason") == "TimeLimit",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    //! Oracle: what Slurm 22.05 showed of jobs that were told to end.

    use super::wanted;

    #[test]
    fn only_a_limit_or_pre_emption_begins_again() {
        let notice = "JobId=5 JobName=x\n   JobState=RUNNING Reason=None Dependency=(null)\n";
        assert!(wanted(notice, true) && !wanted(notice, false));
        let preempted = format!("{notice}   PreemptTime=2026-11-24T03:01:22\n");
        assert!(wanted(&preempted, false));
        let limit = "   JobState=COMPLETING Reason=TimeLimit Dependency=(null)\n";
        assert!(wanted(limit, true) && !wanted(limit, false));
        // scancel, and scontrol requeue of somebody else.
        let cancelled = "   JobState=COMPLETING Reason=None Dependency=(null)\n   Restarts=1\n";
        assert!(!wanted(cancelled, true));
        assert!(!wanted("   JobState=CANCELLED Reason=None\n", true) && !wanted("", true));
    }
}
