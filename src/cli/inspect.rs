//! `electrode inspect`: what a model is, before anything is run.

use serde_json::{Value, json};

use super::output;
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::{Cost, Model};

/// Tokens of a sequence whose cost is told, if the model allows as many.
const LENGTH: usize = 512;

/// Show the architecture, sites, parameters and cost of a model
#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    /// Folder with config.json, or org/name in the local Hub cache
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: InspectArgs) -> Result<()> {
    let model = Model::open(&args.model)?;
    let length = model.spec.max_tokens.map_or(LENGTH, |limit| limit.min(LENGTH));
    let cost = model.cost(length)?;
    if args.json {
        output::print_json(&as_json(&model, &cost, length))
    } else {
        output::print(&as_text(&model, &cost, length)?)
    }
}

fn as_json(model: &Model, cost: &Cost, length: usize) -> Value {
    let sites: Vec<Value> = model
        .spec
        .sites()
        .into_iter()
        .map(|site| json!({"site": site.to_string(), "neurons": model.spec.site_width(site)}))
        .collect();
    json!({
        "folder": model.folder,
        "spec": model.spec,
        "parameters": cost.parameters,
        "embedding_parameters": cost.embedding_parameters,
        "stored_bytes": cost.stored_bytes,
        "f32_bytes": cost.f32_bytes,
        "sequence_tokens": length,
        "flops_per_token": {
            "total": cost.flops.total(),
            "projections": cost.flops.projections,
            "attention": cost.flops.attention,
            "mlp": cost.flops.mlp,
            "head": cost.flops.head,
        },
        "sites": sites,
    })
}

fn as_text(model: &Model, cost: &Cost, length: usize) -> Result<String> {
    let spec = &model.spec;
    let attention = &spec.attention;
    let limit = spec.max_tokens.map_or("no limit".to_owned(), |n| format!("at most {n} tokens"));
    let types: Vec<String> = model
        .stored_types()?
        .iter()
        .map(|(name, bytes)| format!("{name} {}", size(*bytes)))
        .collect();
    let flops = &cost.flops;
    let lines = [
        ("folder", model.folder.display().to_string()),
        ("architecture", spec.architecture.clone()),
        ("layers", format!("{} of width {}", spec.layers, spec.width)),
        (
            "attention",
            format!(
                "{} heads of {}, {} for keys and values",
                attention.heads, attention.head_width, attention.kv_heads
            ),
        ),
        ("mlp", format!("{} neurons a layer", spec.mlp.width)),
        ("positions", format!("{}, {limit}", model.positions())),
        ("vocabulary", spec.vocab.to_string()),
        (
            "parameters",
            format!(
                "{}, {} of them in tables",
                grouped(cost.parameters),
                grouped(cost.embedding_parameters)
            ),
        ),
        ("memory", format!("{}; as f32 {}", types.join(", "), size(cost.f32_bytes))),
        (
            "per token",
            format!(
                "{} MFLOP in sequences of {length}: projections {}, attention {}, MLP {}, head {}",
                mega(flops.total()),
                mega(flops.projections),
                mega(flops.attention),
                mega(flops.mlp),
                mega(flops.head)
            ),
        ),
    ];
    let head: String = lines.iter().map(|(name, value)| format!("{name:14}{value}\n")).collect();
    Ok(head + "\n" + &sites(model))
}

/// One line per kind of site.
fn sites(model: &Model) -> String {
    let all = model.spec.sites();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut seen: Vec<SiteKind> = Vec::new();
    for site in &all {
        if seen.contains(&site.kind) {
            continue;
        }
        seen.push(site.kind);
        let count = all.iter().filter(|other| other.kind == site.kind).count();
        let width = model.spec.site_width(*site);
        rows.push(vec![
            glob(*site),
            count.to_string(),
            width.to_string(),
            (count * width).to_string(),
        ]);
    }
    output::table(&["site", "count", "neurons", "in all"], &rows)
}

fn glob(site: Site) -> String {
    match site.layer {
        Some(_) => format!("layers.*.{}", site.kind.name()),
        None => site.kind.name().to_owned(),
    }
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1, "bytes"));
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Millions with two digits.
fn mega(n: u64) -> String {
    let hundredths = n / 10_000;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123_456), "123,456");
        assert_eq!(size(10), "10.0 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(mega(12_345_678), "12.34");
    }
}
