//! Mean activations of neurons, from the table of a run or from activations themselves.

use std::collections::BTreeMap;
use std::path::Path;

use super::activations::Activations;
use super::neurons::Means;
use crate::artifact::tables::read_neurons;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::Model;

/// Reads the means of `layers.*.mlp_act` from `neurons.parquet`, or takes them over the rows of a
/// safetensors file of activations. Layers without all of their means are left out.
pub fn read_means(path: &Path, model: &Model) -> Result<Means> {
    let means = match path.extension().is_some_and(|suffix| suffix == "safetensors") {
        true => of_activations(path, model)?,
        false => of_table(path, model)?,
    };
    match means.is_empty() {
        true => Err(Error::input(path, "no layer has its means", "watch layers.*.mlp_act")),
        false => Ok(means),
    }
}

fn of_table(path: &Path, model: &Model) -> Result<Means> {
    let width = model.spec.mlp.width;
    let mut found: BTreeMap<usize, BTreeMap<usize, f64>> = BTreeMap::new();
    for row in read_neurons(path)? {
        let site: Site = row.site.parse()?;
        if let (SiteKind::MlpAct, Some(layer), Ok(neuron)) =
            (site.kind, site.layer, usize::try_from(row.neuron))
        {
            found.entry(layer as usize).or_default().insert(neuron, row.mean);
        }
    }
    let whole = |means: &BTreeMap<usize, f64>| means.keys().copied().eq(0..width);
    found.retain(|_, means| whole(means));
    Ok(found.into_iter().map(|(layer, means)| (layer, means.into_values().collect())).collect())
}

fn of_activations(path: &Path, model: &Model) -> Result<Means> {
    let file = Activations::open(path)?;
    let mut means = Means::new();
    for layer in 0..model.spec.layers {
        if !file.has(layer) {
            continue;
        }
        let matrix = file.layer(layer, model.spec.mlp.width)?;
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 rows")]
        let rows = matrix.rows as f64;
        let mut sums = vec![0.0; matrix.columns];
        for row in matrix.values.chunks_exact(matrix.columns) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        means.insert(layer, sums.into_iter().map(|sum| sum / rows).collect());
    }
    Ok(means)
}
