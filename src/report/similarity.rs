//! `report.html` of a comparison of layers and models, drawn from its tables alone: a page without script.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::html::escape;
use super::sheet::{sheet, table};
use crate::artifact::manifest::Manifest;
use crate::artifact::similarity::{
    REDUNDANCY, RedundancyRow, SHARED, SIMILARITY, SharedRow, SimilarityRow,
};
use crate::artifact::table::read_table;
use crate::error::Result;

/// Sites of a heat map; more are in the table alone.
const LISTED: usize = 80;

/// The page of the comparison in a folder.
pub(super) fn page(folder: &Path) -> Result<String> {
    let manifest = Manifest::read(folder)?;
    let name = manifest.config["name"].as_str().unwrap_or("similarity");
    let mut body = String::new();
    for note in &manifest.notes {
        let _ = write!(body, "<p>{}.</p>", escape(note));
    }
    maps(&mut body, &read_table(&folder.join(SIMILARITY))?);
    shared(&mut body, &read_table(&folder.join(SHARED))?);
    redundancy(&mut body, &read_table(&folder.join(REDUNDANCY))?);
    Ok(sheet(name, &body))
}

/// A measure of two sites.
type Measure = (&'static str, &'static str, fn(&SimilarityRow) -> Option<f64>);

const MEASURES: [Measure; 6] = [
    ("Linear CKA", "", |row| Some(row.cka)),
    ("Debiased CKA", "Independent sites are near 0, however wide they are.", |row| {
        row.cka_debiased
    }),
    ("RBF-CKA", "With Gaussian kernels: likeness of neighbourhoods.", |row| row.cka_rbf),
    ("SVCCA", "Mean canonical correlation of the leading directions.", |row| row.svcca),
    ("PWCCA", "As the site of the row sees that of the column.", |row| row.pwcca),
    ("Best partners", "Mean over the row's neurons of the largest |r| in the column.", |row| {
        Some(row.max_corr)
    }),
];

/// Each measure of every two sites that were compared.
fn maps(body: &mut String, rows: &[SimilarityRow]) {
    let mut sites: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        for site in [(&*row.model_a, &*row.site_a), (&*row.model_b, &*row.site_b)] {
            if !sites.contains(&site) {
                sites.push(site);
            }
        }
    }
    // Pairs come first by first: models together, in the order of the first row of each.
    let mut models: Vec<&str> = Vec::new();
    for (model, _) in &sites {
        if !models.contains(model) {
            models.push(model);
        }
    }
    sites.sort_by_key(|(model, _)| models.iter().position(|known| known == model));
    if sites.len() > LISTED {
        let _ = write!(body, "<p>{} sites: see {SIMILARITY}.</p>", sites.len());
        return;
    }
    for (title, meaning, measure) in MEASURES {
        let values: BTreeMap<_, f64> = rows
            .iter()
            .filter_map(|row| {
                let key = ((&*row.model_a, &*row.site_a), (&*row.model_b, &*row.site_b));
                Some((key, measure(row)?))
            })
            .collect();
        if values.is_empty() {
            continue;
        }
        let _ = write!(body, "<h2>{title}</h2><p>{meaning}</p>");
        let at = |a: usize, b: usize| values.get(&(sites[a], sites[b])).copied();
        let named: Vec<String> =
            sites.iter().map(|(model, site)| format!("{model} {site}")).collect();
        heat(body, &named, at);
    }
}

/// A table with shades: the rows' names stand in full, the columns' by number.
fn heat(body: &mut String, names: &[String], at: impl Fn(usize, usize) -> Option<f64>) {
    body.push_str("<table><thead><tr><th class=\"name\"></th>");
    for column in 1..=names.len() {
        let _ = write!(body, "<th>{column}</th>");
    }
    body.push_str("</tr></thead><tbody>");
    for (row, name) in names.iter().enumerate() {
        let _ = write!(body, "<tr><td class=\"name\">{} {}</td>", row + 1, escape(name));
        for column in 0..names.len() {
            match at(row, column) {
                Some(value) => {
                    let shade = 70.0 * value.clamp(0.0, 1.0);
                    let _ = write!(
                        body,
                        "<td style=\"background:color-mix(in srgb,var(--accent) {shade:.0}%,\
                         transparent)\">{value:.2}</td>",
                    );
                }
                None => body.push_str("<td></td>"),
            }
        }
        body.push_str("</tr>");
    }
    body.push_str("</tbody></table>");
}

/// What other models have of each site.
fn shared(body: &mut String, rows: &[SharedRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Neurons that other models have too</h2><p>Means over the neurons of a site: of the largest \
         |r| in any other model, in all of them, and of the multiple correlation R with all neurons of \
         a site.</p>",
    );
    let cells = rows.iter().map(|row| {
        vec![
            format!("{} {}", row.model, row.site),
            row.neurons.to_string(),
            format!("{:.3}", row.max),
            format!("{:.3}", row.min),
            row.linreg.map_or_else(String::new, |r| format!("{r:.3}")),
        ]
    });
    table(body, &["site", "neurons", "in any", "in all", "linear"], cells);
}

/// How many neurons others speak for.
fn redundancy(body: &mut String, rows: &[RedundancyRow]) {
    if rows.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Redundancy</h2><p>Neurons of a site joined by average linkage of 1 - |r|, cut at a \
         distance; the share of neurons that another one speaks for; CKA with the next layer.</p>",
    );
    let cells = rows.iter().map(|row| {
        vec![
            format!("{} {}", row.model, row.site),
            row.neurons.to_string(),
            format!("{}", row.threshold),
            row.clusters.to_string(),
            format!("{:.1} %", 100.0 * row.redundancy),
            row.cka_next.map_or_else(String::new, |cka| format!("{cka:.3}")),
        ]
    });
    table(body, &["site", "neurons", "distance", "clusters", "redundant", "next layer"], cells);
}
