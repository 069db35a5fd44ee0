//! How far a sweep is, as a file for the textfile collector of Prometheus' node exporter: there is no
//! server in a batch job. The format is version 0.0.4 of the exposition formats.

use std::fmt::Write as _;

use super::plan::SweepPlan;
use super::status::{STATES, Status};

/// A metric: its name without prefix, its type and what it means.
type Metric = (&'static str, &'static str, &'static str);

/// The text of the file. Every sample has the label `sweep`; gauges that are not known yet have no
/// sample.
pub fn prometheus(plan: &SweepPlan, status: &Status) -> String {
    let mut page = Page { text: String::new(), sweep: escape(&plan.name) };
    let (done, all) = status.blocks();
    page.one(("blocks_done", "gauge", "Blocks whose states are on the disk."), Some(done as f64));
    page.one(("blocks_total", "gauge", "Blocks of all passes."), Some(all as f64));
    let tokens = Some(status.tokens() as f64);
    page.one(("tokens", "gauge", "Tokens of the blocks that are done."), tokens);
    let states = STATES.iter().zip(status.by_state());
    let states = states.map(|(state, count)| (*state, count as f64));
    page.by(("tasks", "gauge", "Tasks by what they are."), "state", states);
    let exits = status.by_exit();
    let exits: Vec<_> =
        exits.iter().map(|(exit, count)| (exit.to_string(), *count as f64)).collect();
    let exits = exits.iter().map(|(exit, count)| (exit.as_str(), *count));
    page.by(("attempts", "gauge", "Attempts that ended, by their exit code."), "exit", exits);
    let help = "Seconds that an attempt takes for a block, as of late.";
    page.one(("seconds_per_block", "gauge", help), status.seconds_per_block());
    let help = "Seconds until all blocks are done with as many attempts at work as now.";
    page.one(("eta_seconds", "gauge", help), status.seconds_left());
    let nodes = status.nodes();
    let rates = nodes.iter().map(|(node, does)| (*node, does.tokens_per_second));
    let help = "Tokens per second of the attempts at work, by machine.";
    page.by(("tokens_per_second", "gauge", help), "node", rates);
    let help = "Energy that the GPUs of all attempts have used, by NVML.";
    page.one(("energy_joules", "gauge", help), Some(status.energy_joules()));
    page.text
}

struct Page {
    text: String,
    sweep: String,
}

impl Page {
    fn head(&mut self, (name, kind, help): Metric) {
        let _ =
            write!(self.text, "# HELP electrode_{name} {help}\n# TYPE electrode_{name} {kind}\n");
    }

    fn one(&mut self, metric: Metric, value: Option<f64>) {
        self.head(metric);
        if let Some(value) = value {
            let _ =
                writeln!(self.text, "electrode_{}{{sweep=\"{}\"}} {value}", metric.0, self.sweep);
        }
    }

    fn by<'a>(
        &mut self,
        metric: Metric,
        label: &str,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) {
        self.head(metric);
        for (which, value) in values {
            let (name, sweep, which) = (metric.0, &self.sweep, escape(which));
            let _ = writeln!(
                self.text,
                "electrode_{name}{{sweep=\"{sweep}\",{label}=\"{which}\"}} {value}"
            );
        }
    }
}

/// The value of a label.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
