//! `electrode methods`: the registry as a table.

use serde_json::{Value, json};

use super::output;
use crate::error::Result;
use crate::methods::METHODS;

/// List the methods, their settings and their papers
#[derive(clap::Args, Debug)]
pub struct MethodsArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: MethodsArgs) -> Result<()> {
    if args.json {
        return output::print_json(&as_json());
    }
    let rows: Vec<Vec<String>> = METHODS
        .iter()
        .map(|method| {
            let settings: Vec<String> =
                method.params.iter().map(|p| format!("{}={}", p.name, p.default)).collect();
            vec![
                method.name.to_owned(),
                method.family.name().to_owned(),
                method.summary.to_owned(),
                settings.join(","),
                method.paper.to_owned(),
            ]
        })
        .collect();
    output::print(&output::table(&["method", "family", "what", "settings", "source"], &rows))
}

fn as_json() -> Value {
    METHODS
        .iter()
        .map(|method| {
            let params: Vec<Value> = method
                .params
                .iter()
                .map(|p| json!({"name": p.name, "default": p.default, "meaning": p.meaning}))
                .collect();
            json!({
                "name": method.name,
                "family": method.family.name(),
                "summary": method.summary,
                "paper": method.paper,
                "needs_labels": method.needs_labels,
                "parameters": params,
            })
        })
        .collect()
}
