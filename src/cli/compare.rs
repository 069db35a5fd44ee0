//! `electrode compare`: finished runs beside each other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::output;
use crate::error::{Error, Result};
use crate::run::compare::{CompareRequest, Tables, compare};

/// Lines of a table on stdout.
const SHOWN: usize = 30;

/// Compare rankings, layer profiles and probes of finished runs
#[derive(clap::Args, Debug)]
pub struct CompareArgs {
    /// Folders of finished runs, experiments or runs of probes
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Write tables and a page into this folder, which must not exist yet
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Neurons of each top that is compared [default: those of 10,50,100 that the tables keep]
    #[arg(long, value_name = "N,…", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..))]
    sizes: Option<Vec<u32>>,
    /// Share of the neurons that count as top in layer profiles [default: 0.01]
    #[arg(long, value_name = "SHARE")]
    share: Option<f64>,
}

pub(super) fn run(args: CompareArgs) -> Result<()> {
    if let Some(share) = args.share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
        let what = format!("{share} is no share of the neurons");
        return Err(Error::config("--share", what, "give a number above 0 and up to 1, as 0.01"));
    }
    let sizes = args.sizes.map(|sizes| sizes.into_iter().map(|size| size as usize).collect());
    let request = CompareRequest { folders: args.runs, sizes, share: args.share };
    let tables = compare(&request)?;
    let mut text = rankings(&tables) + &probes(&tables);
    if let Some(out) = &args.out {
        text += &format!("{}\n", tables.write(out)?.display());
    }
    output::print(&text)
}

/// Pairs of rankings, as means over what both rank: of two sources where there are any by one method,
/// else of all.
fn rankings(tables: &Tables) -> String {
    let across = tables.overlaps.iter().any(|row| {
        row.source_b != "*" && row.source_a != row.source_b && row.method_a == row.method_b
    });
    let mut pairs: BTreeMap<[String; 5], (usize, f64, f64)> = BTreeMap::new();
    for row in &tables.overlaps {
        let between = row.source_a != row.source_b && row.method_a == row.method_b;
        if row.source_b == "*" || across && !between {
            continue;
        }
        let key = [
            row.source_a.clone(),
            row.method_a.clone(),
            row.source_b.clone(),
            row.method_b.clone(),
            format!("{:6}", row.size),
        ];
        let sum = pairs.entry(key).or_default();
        *sum = (sum.0 + 1, sum.1 + row.overlap, sum.2 + row.chance);
    }
    if pairs.is_empty() {
        return String::new();
    }
    let line = |(key, (count, overlap, chance)): (&[String; 5], &(usize, f64, f64))| {
        let mean = |sum: f64| format!("{:.3}", sum / *count as f64);
        let mut cells: Vec<String> = key.iter().map(|cell| cell.trim().to_owned()).collect();
        cells.extend([count.to_string(), mean(*overlap), mean(*chance)]);
        cells
    };
    let rows: Vec<Vec<String>> = pairs.iter().take(SHOWN).map(line).collect();
    let heads = ["run", "method", "other run", "method", "top", "rankings", "overlap", "chance"];
    output::table(&heads, &rows) + &more(pairs.len(), "pairs")
}

/// The first site within 1 % of the best, of each label and source.
fn probes(tables: &Tables) -> String {
    let best: Vec<_> = tables.layers.iter().filter(|row| row.first).collect();
    if best.is_empty() {
        return String::new();
    }
    let line = |row: &&crate::artifact::comparison::ProbedLayerRow| {
        vec![
            row.label.clone(),
            row.source.clone(),
            row.site.clone(),
            format!("{:.3}", row.accuracy),
            row.selectivity.map_or_else(String::new, |share| format!("{share:.3}")),
            format!("{:.3}", row.information),
        ]
    };
    let rows: Vec<Vec<String>> = best.iter().take(SHOWN).map(line).collect();
    let heads = ["label", "run", "first good site", "accuracy", "selectivity", "bits"];
    output::table(&heads, &rows) + &more(best.len(), "probes")
}

fn more(count: usize, what: &str) -> String {
    match count.saturating_sub(SHOWN) {
        0 => String::new(),
        left => format!("{left} more {what}: see the tables of --out\n"),
    }
}
