//! `probes.safetensors`: the chosen probes' weights, and what is done to columns before they are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::measured::SiteResults;
use super::tasks::Tasks;
use crate::artifact::atomic::write_bytes_atomic;
use crate::artifact::manifest::sorted;
use crate::disk;
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

/// A probe as its file has it.
pub(in crate::run) struct Stored {
    /// Its label there: `upos`, `upos=NOUN`.
    pub(in crate::run) label: String,
    /// Names of its classes; none for numbers.
    pub(in crate::run) classes: Vec<String>,
    /// `[outputs, columns]`: an output for each class, one for a yes-no probe or a number.
    pub(in crate::run) weights: Vec<f32>,
    /// `[outputs]`.
    pub(in crate::run) biases: Vec<f32>,
    /// `[columns]` each: the probe reads `(x - shift) * scale`.
    pub(in crate::run) scale: Scale,
}

/// Which probe of a file is wanted.
pub(in crate::run) struct Wanted<'a> {
    /// As tables have it.
    pub(in crate::run) site: &'a str,
    /// A label, or the column of yes-no labels of `class`; the only one of the site if none.
    pub(in crate::run) label: Option<&'a str>,
    pub(in crate::run) class: Option<&'a str>,
    /// The only one if none.
    pub(in crate::run) seed: Option<u64>,
}

/// Reads one probe of a file that [`write()`] wrote; refuses to guess where several fit.
pub(in crate::run) fn read(path: &Path, wanted: &Wanted<'_>) -> Result<Stored> {
    let refuse = |what: String, remedy: &str| Error::input(path, what, remedy);
    let bytes = disk::read(path).map_err(Error::io(path, "read"))?;
    let not = |error: safetensors::SafeTensorError| {
        let remedy = "give the probes.safetensors of a folder that `electrode probe` wrote";
        refuse(format!("not a file of probes: {error}"), remedy)
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(not)?;
    let file = SafeTensors::deserialize(&bytes).map_err(not)?;
    let probes: Vec<(&str, &str, u64)> = file.names().into_iter().filter_map(parts).collect();
    if probes.is_empty() {
        let remedy = "give the probes.safetensors of a folder that `electrode probe` wrote";
        return Err(refuse("not a file of probes: none is in it".into(), remedy));
    }
    let sites: BTreeSet<&str> = probes.iter().map(|(site, ..)| *site).collect();
    if !sites.contains(wanted.site) {
        let what = format!("no probe at metric.site = \"{}\"", wanted.site);
        return Err(refuse(what, &format!("it has {}", listed(&sites))));
    }
    let here = || probes.iter().filter(|(site, ..)| *site == wanted.site);
    let labels: BTreeSet<&str> = here().map(|(_, label, _)| *label).collect();
    let label = one(
        path,
        ("metric.label", &labels),
        wanted.label.map(|label| label_of(label, wanted, &labels)),
    )?;
    let seeds: BTreeSet<u64> = here().filter(|of| of.1 == label).map(|(.., seed)| *seed).collect();
    let seed = one(path, ("metric.seed", &seeds), wanted.seed)?;
    let floats = |name: String| floats(path, &file, &name);
    let (probe, site) = (format!("{}/{label}/seed-{seed}", wanted.site), wanted.site);
    let (shape, weights) = floats(format!("{probe}/weight"))?;
    let (_, biases) = floats(format!("{probe}/bias"))?;
    let [outputs, columns] = shape[..] else {
        return Err(refuse(format!("'{probe}/weight' is no matrix"), "train the probes again"));
    };
    // Probes on columns as they are have no scaling beside them.
    let scaled = file.names().contains(&format!("{site}/shift").as_str());
    let scale = match scaled {
        false => Scale { shift: vec![0.0; columns], scale: vec![1.0; columns] },
        true => Scale {
            shift: floats(format!("{site}/shift"))?.1,
            scale: floats(format!("{site}/scale"))?.1,
        },
    };
    let lengths = [biases.len(), scale.shift.len(), scale.scale.len()];
    let classes = header.metadata().as_ref().and_then(|names| names.get(&label));
    let classes = classes.map(|names| names.lines().map(str::to_owned).collect::<Vec<_>>());
    let classes = classes.ok_or_else(|| {
        refuse(format!("it does not name the classes of '{label}'"), "train the probes again")
    })?;
    let fits = outputs == classes.len() || (outputs == 1 && [0, 2].contains(&classes.len()));
    if lengths != [outputs, columns, columns] || outputs == 0 || !fits {
        let what = format!("'{probe}' has shapes that do not fit each other");
        return Err(refuse(what, "train the probes again"));
    }
    Ok(Stored { label, classes, weights, biases, scale })
}

/// The label that a user means: by its title, or a class of a column asked about alone.
fn label_of(label: &str, wanted: &Wanted<'_>, labels: &BTreeSet<&str>) -> String {
    match wanted.class.map(|class| format!("{label}={class}")) {
        Some(title) if !labels.contains(label) && labels.contains(title.as_str()) => title,
        _ => label.to_owned(),
    }
}

/// Site, label and seed of the weight of a probe.
fn parts(name: &str) -> Option<(&str, &str, u64)> {
    let (probe, seed) = name.strip_suffix("/weight")?.rsplit_once("/seed-")?;
    let (site, label) = probe.split_once('/')?;
    Some((site, label, seed.parse().ok()?))
}

fn listed<T: ToString>(all: &BTreeSet<T>) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// The value asked for, if it is there; the only one, if none is asked for.
fn one<T: ToString + Ord>(
    path: &Path,
    (key, all): (&str, &BTreeSet<T>),
    asked: Option<impl ToString>,
) -> Result<String> {
    let found = listed(all);
    match asked.map(|asked| asked.to_string()) {
        Some(asked) if all.iter().any(|one| one.to_string() == asked) => Ok(asked),
        Some(asked) => {
            let what = format!("no probe there with {key} = {asked}");
            Err(Error::input(path, what, format!("it has {found}")))
        }
        None if all.len() == 1 => Ok(found),
        None => {
            let what = format!("several probes fit: {found}");
            Err(Error::input(path, what, format!("choose one by {key}")))
        }
    }
}

/// A tensor of f32, finite.
fn floats(path: &Path, file: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let wrong = |what: &str| {
        let remedy = "train the probes again, or take the file of another run";
        Error::input(path, format!("'{name}' {what}"), remedy)
    };
    let view = file.tensor(name).map_err(|_| wrong("is not there"))?;
    if view.dtype() != Dtype::F32 {
        return Err(wrong("is not float32"));
    }
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let values: Vec<f32> = view.data().chunks_exact(4).map(number).collect();
    match values.iter().all(|x| x.is_finite()) {
        true => Ok((view.shape().to_vec(), values)),
        false => Err(wrong("is NaN or infinite somewhere")),
    }
}
