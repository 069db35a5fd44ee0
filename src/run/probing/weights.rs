//! `probes.safetensors`: the chosen probes' weights, and what is done to columns before they are read.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::measured::SiteResults;
use crate::artifact::atomic::write_bytes_atomic;
use crate::error::{Error, Result};
use crate::probe::scale::Scale;

/// One tensor: its shape and values.
type Array = (Vec<usize>, Vec<f32>);

/// Writes `SITE/LABEL/seed-N/weight` `[classes, columns]` and `…/bias` of the chosen penalties, and
/// `SITE/shift` and `SITE/scale` `[columns]`: a probe reads `(x - shift) * scale`.
pub(super) fn write(path: &Path, sites: &[SiteResults<'_>], scaling: &[Scale]) -> Result<()> {
    let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
    let mut names = HashMap::new();
    for site in sites {
        let place = if site.place.is_all() { "all" } else { &site.place.name };
        if let Some(scale) = scaling.get(site.at) {
            let shape = vec![site.place.width];
            arrays.insert(format!("{place}/shift"), (shape.clone(), scale.shift.clone()));
            arrays.insert(format!("{place}/scale"), (shape, scale.scale.clone()));
        }
        for (number, label) in site.tasks.labels.iter().enumerate() {
            names.insert(label.title(), label.classes.join("\n"));
            for (which, trained) in site.chosen_of(number, false) {
                let seed = site.config.probes.seeds[which.seed];
                let name = format!("{place}/{}/seed-{seed}", label.title());
                let columns = trained.weights.biases.len();
                let shape = vec![columns, site.place.width];
                arrays.insert(format!("{name}/weight"), (shape, trained.weights.weights.clone()));
                arrays.insert(
                    format!("{name}/bias"),
                    (vec![columns], trained.weights.biases.clone()),
                );
            }
        }
    }
    let views = arrays.iter().map(|(name, (shape, values))| {
        let bytes = bytemuck::cast_slice(values);
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.expect("the shape is that of the values"))
    });
    let bytes = safetensors::serialize(views, Some(names))
        .map_err(|error| Error::Contradiction { what: format!("probes.safetensors: {error}") })?;
    write_bytes_atomic(path, &bytes)
}
