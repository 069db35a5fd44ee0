//! The methods of a file, checked: what cannot be run on rows is refused before a model is.

use std::collections::BTreeSet;

use super::pairs_of;
use crate::error::{Error, Result};
use crate::methods::MethodCall;
use crate::methods::registry::{Kind, Probing};
use crate::probe::split::Part;
use crate::run::probing::config::{ProbingConfig, Target};
use crate::run::probing::tasks::Tasks;

/// Parses the methods of a file; those that cannot be run on rows are refused.
pub(in super::super) fn parse(config: &ProbingConfig) -> Result<Vec<MethodCall>> {
    let mut calls = Vec::with_capacity(config.methods.len());
    for (at, text) in config.methods.iter().enumerate() {
        let call = MethodCall::parse(text)?;
        if config.methods[..at].contains(text) {
            return Err(call.wrong("is listed twice", "list each method once"));
        }
        check_kind(config, &call)?;
        calls.push(call);
    }
    let pairs = pair_columns(&calls);
    if config.concepts.iter().all(|concept| pairs.contains(&concept.column)) {
        let what = "its columns only pair rows, so there are no labels to learn";
        return Err(Error::config("concepts", what, "add the column that the pairs differ in"));
    }
    Ok(calls)
}

fn check_kind(config: &ProbingConfig, call: &MethodCall) -> Result<()> {
    match call.method.kind {
        Kind::Causal(_) => Err(call.needs_a_model()),
        Kind::Probing(Probing::Weights) => Err(call.wrong(
            "ranks by the weights of the probes, which are ranked in any case",
            "leave it out of methods; l1 and l2 of [[penalties]] say which probes are trained",
        )),
        Kind::Probing(_) if config.probes.target == Target::Number => Err(call.wrong(
            "tells classes apart, and the target is a number",
            "use target = \"classes\", or leave it out",
        )),
        Kind::Probing(Probing::Ccs) if call.text("pair").is_empty() => Err(call.wrong(
            "needs to know which rows are the two forms of a statement",
            "name a label column that is the same for both: ccs:pair=COLUMN",
        )),
        Kind::PerNeuron(_) | Kind::Whole(_) if !call.needs_labels() => {
            let what = format!("method '{}' ranks no neurons for a label", call.method.name);
            Err(Error::config("methods", what, "use probeless, ap, mi, …"))
        }
        Kind::Probing(_) | Kind::PerNeuron(_) | Kind::Whole(_) => Ok(()),
    }
}

/// Label columns that say which rows belong together, and are learned by nobody.
pub(in super::super) fn pair_columns(calls: &[MethodCall]) -> BTreeSet<String> {
    let pairs = |call: &&MethodCall| matches!(call.method.kind, Kind::Probing(Probing::Ccs));
    calls.iter().filter(pairs).map(|call| call.text("pair")).collect()
}

/// Refuses, before anything is trained, labels that a method cannot use.
pub(in super::super) fn check(calls: &[MethodCall], tasks: &Tasks) -> Result<()> {
    for call in calls {
        if !matches!(call.method.kind, Kind::Probing(Probing::Ccs)) {
            continue;
        }
        for label in &tasks.labels {
            if label.classes.len() != 2 {
                let what = format!("{} has {} classes", label.title(), label.classes.len());
                let remedy = "statements are true or false: give a column of two classes";
                return Err(call.wrong(&what, remedy));
            }
            let sampled = pairs_of(call, tasks, label);
            let count = |part: Part, kind: bool| {
                sampled[part as usize].iter().filter(|pair| pair.label() == kind).count()
            };
            for part in [Part::Train, Part::Dev] {
                if count(part, true) == 0 || count(part, false) == 0 {
                    let what = format!(
                        "of the {} pairs of {}, {} begin with '{}' and {} with '{}'",
                        part.name(),
                        label.title(),
                        count(part, true),
                        label.classes[1],
                        count(part, false),
                        label.classes[0],
                    );
                    let remedy = "pairs of both kinds are needed, both rows in one part: keep them \
                                  in one document, and let either class come first";
                    return Err(call.wrong(&what, remedy));
                }
            }
        }
    }
    Ok(())
}
