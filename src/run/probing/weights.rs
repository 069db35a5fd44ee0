//! `probes.safetensors`: the chosen probes' weights, and what is done to columns before they are read.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::measured::SiteResults;
use super::tasks::Tasks;
use crate::artifact::atomic::write_bytes_atomic;
use crate::artifact::manifest::sorted;
use crate::error::{Error, Result};
use crate::probe::scale::Scale;

/// One tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Array {
    /// Its name in the file.
    pub(super) name: String,
    /// Its axes.
    pub(super) shape: Vec<u64>,
    /// Row-major.
    pub(super) values: Vec<f32>,
}

impl Array {
    fn new(name: String, shape: &[usize], values: &[f32]) -> Self {
        let shape = shape.iter().map(|axis| *axis as u64).collect();
        Self { name, shape, values: values.to_vec() }
    }
}

/// `SITE/LABEL/seed-N/weight` `[classes, columns]` and `…/bias` of the chosen penalties of a site, and
/// `SITE/shift` and `SITE/scale` `[columns]`: a probe reads `(x - shift) * scale`.
pub(super) fn arrays(site: &SiteResults<'_>, scale: Option<&Scale>) -> Vec<Array> {
    let (width, mut arrays) = (site.place.width, Vec::new());
    let place = if site.place.is_all() { "all" } else { &site.place.name };
    if let Some(scale) = scale {
        arrays.push(Array::new(format!("{place}/shift"), &[width], &scale.shift));
        arrays.push(Array::new(format!("{place}/scale"), &[width], &scale.scale));
    }
    for (number, label) in site.tasks.labels.iter().enumerate() {
        for (which, trained) in site.chosen_of(number, false) {
            let seed = site.config.probes.seeds[which.seed];
            let name = format!("{place}/{}/seed-{seed}", label.title());
            let own = &trained.weights;
            let columns = own.biases.len();
            arrays.push(Array::new(format!("{name}/weight"), &[columns, width], &own.weights));
            arrays.push(Array::new(format!("{name}/bias"), &[columns], &own.biases));
        }
    }
    arrays
}

/// Writes the weights of all sites, and the classes of each label as metadata.
pub(super) fn write<'a>(
    path: &Path,
    arrays: impl Iterator<Item = &'a Array>,
    tasks: &Tasks,
) -> Result<()> {
    let contradiction = |what: String| Error::Contradiction { what };
    let mut views = BTreeMap::new();
    for Array { name, shape, values } in arrays {
        let shape = shape.iter().map(|axis| usize::try_from(*axis).expect("values are in memory"));
        let view = TensorView::new(Dtype::F32, shape.collect(), bytemuck::cast_slice(values));
        views.insert(name, view.map_err(|error| contradiction(format!("{name}: {error}")))?);
    }
    let classes = |label: &super::tasks::Label| (label.title(), label.classes.join("\n"));
    let names: HashMap<String, String> = tasks.labels.iter().map(classes).collect();
    let mut bytes = safetensors::serialize(views, Some(names))
        .map_err(|error| contradiction(format!("probes.safetensors: {error}")))?;
    sort_metadata(&mut bytes);
    write_bytes_atomic(path, &bytes)
}

/// The crate writes metadata in the order of a hash table, which is another one each time: here they stand
/// in the order of their names, so that equal weights are equal bytes. The header keeps its length.
fn sort_metadata(file: &mut [u8]) {
    let (length, rest) = file.split_at_mut(8);
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
    let header = &mut rest[..usize::try_from(length).expect("the file is in memory")];
    let mut read: serde_json::Value = serde_json::from_slice(header).expect("just written");
    if let Some(metadata) = read.get_mut("__metadata__") {
        *metadata = sorted(metadata);
    }
    let mut sorted = serde_json::to_vec(&read).expect("plain data");
    assert!(sorted.len() <= header.len(), "another order is as long");
    sorted.resize(header.len(), b' ');
    header.copy_from_slice(&sorted);
}
