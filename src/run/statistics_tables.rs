//! Rows of `neurons.parquet` and `histograms.parquet`, from the merged statistics.

use std::collections::BTreeSet;

use crate::accumulate::summary::SiteSummary;
use crate::artifact::rows::{HistogramRow, NeuronRow};
use crate::corpus::block::Labels;
use crate::error::Result;
use crate::id::{NeuronId, Site};
use crate::methods::source::Source as _;
use crate::methods::{Evidence, SummarySource};

/// Levels of [`NeuronRow::quantiles`].
pub(super) const LEVELS: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// A site's name and layer, as tables hold them.
pub(super) fn place(site: Site) -> (String, Option<i32>) {
    (site.to_string(), site.layer.map(|layer| i32::try_from(layer).expect("few layers")))
}

/// Counts stay below 2^63.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).expect("counts are below 2^63")
}

/// Every neuron of some summaries.
pub(super) fn all_neurons(summaries: &[SiteSummary]) -> Vec<NeuronId> {
    let of = |summary: &SiteSummary| {
        let site = summary.site;
        (0..u32::try_from(summary.neurons).expect("columns are counted in u32"))
            .map(move |index| NeuronId { site, index })
    };
    summaries.iter().flat_map(of).collect()
}

/// One row per watched neuron.
pub(super) fn neurons(summaries: &[SiteSummary]) -> Result<impl Iterator<Item = NeuronRow>> {
    let ids = all_neurons(summaries);
    let source = SummarySource::unlabelled(summaries, &ids)?;
    let ordered = summaries.iter().all(|summary| summary.bins > 0);
    let mut rows = Vec::with_capacity(ids.len());
    source.visit(0..ids.len(), ordered, &mut |i, evidence| {
        rows.push(neuron_row(ids[i], summaries, evidence));
    });
    Ok(rows.into_iter())
}

fn neuron_row(id: NeuronId, summaries: &[SiteSummary], evidence: &Evidence) -> NeuronRow {
    let summary = summaries.iter().find(|s| s.site == id.site).expect("made from the summaries");
    let n = id.index as usize;
    let (site, layer) = place(id.site);
    let count = summary.count[n];
    #[expect(clippy::cast_possible_truncation, reason = "quantiles are stored as f32")]
    let quantile = |level: &f64| evidence.cells.quantile(*level, None).map(|x| x as f32);
    NeuronRow {
        site,
        layer,
        neuron: i32::try_from(id.index).expect("columns are counted in i32"),
        n: signed(count),
        non_finite: signed(summary.rows[0] - count),
        mean: summary.mean[n],
        sd: summary.variance[n].sqrt(),
        min: summary.min[n],
        max: summary.max[n],
        firing_rate: summary.firing[n] as f64 / count.max(1) as f64,
        constant: evidence.constant(),
        quantiles: LEVELS.iter().filter_map(quantile).collect(),
    }
}

/// The distribution of each shown neuron, over all rows and by class.
pub(super) fn histograms<'a>(
    summaries: &'a [SiteSummary],
    labels: &'a Labels,
    shown: &'a BTreeSet<NeuronId>,
) -> impl Iterator<Item = HistogramRow> + 'a {
    let with_bins = |id: &&NeuronId| {
        summaries.iter().any(|summary| summary.site == id.site && summary.bins > 0)
    };
    shown.iter().filter(with_bins).flat_map(move |id| {
        let classes = labels.columns.iter().flat_map(|column| {
            let groups = column.first_group as usize + 1..;
            groups.zip(&column.classes).map(|(group, class)| (group, &*column.name, &**class))
        });
        let groups = std::iter::once((0, "", "*")).chain(classes);
        groups.map(|(group, label, concept)| histogram_row(*id, summaries, group, (label, concept)))
    })
}

fn histogram_row(
    id: NeuronId,
    summaries: &[SiteSummary],
    group: usize,
    (label, concept): (&str, &str),
) -> HistogramRow {
    let summary = summaries.iter().find(|s| s.site == id.site).expect("made from the summaries");
    let (n, bins) = (id.index as usize, summary.bins);
    let inner = &summary.edges[n * (bins - 1)..][..bins - 1];
    let (low, high) = (summary.min[n], summary.max[n]);
    let mut edges = vec![low];
    edges.extend(inner.iter().map(|edge| if low <= high { edge.clamp(low, high) } else { *edge }));
    edges.push(high);
    let counts = &summary.histogram[(n * (summary.groups + 1) + group) * bins..][..bins];
    let (site, layer) = place(id.site);
    HistogramRow {
        site,
        layer,
        neuron: i32::try_from(id.index).expect("columns are counted in i32"),
        label: label.to_owned(),
        concept: concept.to_owned(),
        edges,
        counts: counts.iter().map(|count| i64::from(*count)).collect(),
    }
}
