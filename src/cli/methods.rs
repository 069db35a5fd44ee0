//! `electrode methods`: the registry as a table.

use serde_json::{Value, json};

use super::output;
use crate::error::Result;
use crate::methods;
use crate::methods::registry::Param;

/// List the methods, their settings and their papers
#[derive(clap::Args, Debug)]
pub struct MethodsArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// As the page docs/methods.md
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

pub(super) fn run(args: MethodsArgs) -> Result<()> {
    if args.json {
        return output::print_json(&as_json());
    }
    if args.markdown {
        return output::print(&as_markdown());
    }
    let rows: Vec<Vec<String>> = methods::all()
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

/// Stands above the methods in docs/methods.md.
const INTRODUCTION: &str = "\
# Methods

Made by `electrode methods --markdown` from the registry; change that, not this page.

μ, σ and s are the mean, population and sample deviation of a neuron's activation x; + is the rows of
a class, - all others, g and h are classes, G their number, n rows. A ranking puts the largest score
first, constant neurons last, and ties by layer and neuron; the sign says whether the class has the
larger or the smaller values. p is that of the test named here, q the false discovery rate over all
neurons of the ranking (Benjamini and Hochberg 1995). In a run, methods that need the order of the
values read it from histograms; `electrode rank` has it exactly.
";

fn as_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for method in methods::all() {
        page +=
            &format!("\n## {}\n\n{}: {}.\n\n", method.name, method.family.name(), method.summary);
        page += &format!("- score: `{}`\n", method.formula);
        if !method.test.is_empty() {
            page += &format!("- p: {}\n", method.test);
        }
        page += &format!("- source: {}\n", method.paper);
        if !method.needs_labels {
            page += "- needs no labels\n";
        }
        for param in method.params {
            let Param { name, default, meaning, .. } = param;
            page += &format!("- `{name}` = `{default}`: {meaning}\n");
        }
    }
    page
}

fn as_json() -> Value {
    methods::all()
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
                "formula": method.formula,
                "test": method.test,
                "paper": method.paper,
                "needs_labels": method.needs_labels,
                "parameters": params,
            })
        })
        .collect()
}
