//! Taking a direction out of the stream: `W := (I - u u^T) W` for every matrix that writes to it,
//! with `u` of length 1 (the weight orthogonalisation of Arditi et al. 2024).

use std::fs;
use std::path::Path;

use safetensors::{Dtype as Stored, SafeTensors};
use serde_json::json;

use super::checkpoint::Rewrite;
use super::tensor::{Dtype, Step};
use crate::disk;
use crate::error::{Error, Result};
use crate::model::{BlockSpec, LayerParam, Model, Param};

/// A JSON list larger than this is no direction.
const MAX_LIST: u64 = 100 << 20;

/// Reads `FILE.json`, a list of numbers, or `FILE.safetensors[:NAME]`, one tensor of `D` values; the
/// name may be left out where the file has one tensor.
pub fn read_direction(text: &str) -> Result<Vec<f64>> {
    let (path, name) = match text.rsplit_once(':') {
        Some((path, name)) if path.ends_with(".safetensors") => (Path::new(path), Some(name)),
        _ => (Path::new(text), None),
    };
    let wrong = |what: String| {
        let remedy = "give FILE.safetensors:NAME with one value for each column of the stream, or \
                      FILE.json with a list of them";
        Error::input(path, what, remedy)
    };
    if fs::metadata(path).map_err(Error::io(path, "read"))?.len() > MAX_LIST {
        return Err(wrong(format!("more than {MAX_LIST} bytes are too many for a direction")));
    }
    let bytes = disk::read(path).map_err(Error::io(path, "read"))?;
    if path.extension().is_some_and(|suffix| suffix == "json") {
        return serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("not a list of numbers: {error}")));
    }
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| wrong(format!("not a safetensors file, or damaged: {error}")))?;
    let mut names = file.names();
    names.sort_unstable();
    let list = names.iter().take(12).copied().collect::<Vec<_>>().join(", ");
    let name = match (name, &names[..]) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => return Err(wrong(format!("holds {} tensors: {list}", names.len()))),
    };
    let tensor =
        file.tensor(name).map_err(|_| wrong(format!("no tensor '{name}'; it holds {list}")))?;
    match tensor.dtype() {
        Stored::F64 => {
            let eights = tensor.data().as_chunks::<8>().0.iter();
            Ok(eights.map(|&bytes| f64::from_le_bytes(bytes)).collect())
        }
        Stored::F32 => Ok(Dtype::F32.decode(tensor.data())),
        Stored::F16 => Ok(Dtype::F16.decode(tensor.data())),
        Stored::BF16 => Ok(Dtype::Bf16.decode(tensor.data())),
        other => Err(wrong(format!("tensor '{name}' is of type {other:?}"))),
    }
}

/// The checkpoint whose stream has nothing along `direction`. With `untie`, a head that shares the
/// token table keeps the table as it was.
pub fn ablate<'a>(model: &'a Model, direction: &[f64], untie: bool) -> Result<Rewrite<'a>> {
    check_architecture(model)?;
    let unit = unit(model, direction)?;
    let mut rewrite = Rewrite::new(model, json!({"dir_ablate": unit, "untie": untie}))?;
    if model.has(Param::Head) {
        match (model.head_is_tied(), untie) {
            (true, true) => {
                let name = model.head_name().ok_or_else(|| Error::Contradiction {
                    what: "a tied head has a name of its own".to_owned(),
                })?;
                rewrite.copy_of(Param::Tokens, &name)?;
                rewrite.set("tie_word_embeddings", false);
            }
            (true, false) => tracing::warn!(
                "the head shares the token table and loses the direction too; --untie keeps it"
            ),
            // A head of its own stays as it is, whatever the configuration says of it.
            (false, _) => rewrite.set("tie_word_embeddings", false),
        }
    }
    for param in writers(model) {
        rewrite.change(param, |place, dimensions| {
            // Tables have a row for each token or position.
            let table = matches!(param, Param::Tokens | Param::Positions | Param::TokenTypes);
            let axis = if table { 1 } else { place.output_axis(dimensions) };
            Step::Project { axis, direction: unit.clone() }
        })?;
    }
    Ok(rewrite)
}

/// Every weight that is added to the stream.
fn writers(model: &Model) -> Vec<Param> {
    let layer = [LayerParam::Out, LayerParam::OutBias, LayerParam::Down, LayerParam::DownBias];
    let before = match model.spec.embedding.project {
        None => vec![Param::Tokens, Param::Positions, Param::TokenTypes],
        Some(project) if project.before_positions => {
            vec![Param::EmbeddingProject, Param::EmbeddingProjectBias, Param::Positions]
        }
        Some(_) => vec![Param::EmbeddingProject, Param::EmbeddingProjectBias],
    };
    let layers =
        (0..model.spec.layers).flat_map(|number| layer.map(|param| Param::Layer(number, param)));
    before.into_iter().chain(layers).filter(|param| model.has(*param)).collect()
}

/// A norm between a matrix and the stream turns what it writes back towards the direction.
fn check_architecture(model: &Model) -> Result<()> {
    let spec = &model.spec;
    let why = match spec.block {
        BlockSpec::PostNorm => Some("the stream is normalised after every addition"),
        BlockSpec::ResidualAfterNorm => Some("each block adds to its normalised input"),
        BlockSpec::Sandwich => Some("what each branch adds is normalised first"),
        _ if spec.embedding.norm.is_some() => Some("the embeddings are normalised"),
        _ if model.beside().is_some() => Some("a decoder in the checkpoint shares the embeddings"),
        _ => None,
    };
    match why {
        None => Ok(()),
        Some(why) => Err(Error::config(
            model.folder.display().to_string(),
            format!("{why}: no change of the matrices keeps the direction out of the stream"),
            "project it out while the model runs: an intervention of kind `project` at the \
             resid_post of each layer",
        )),
    }
}

fn unit(model: &Model, direction: &[f64]) -> Result<Vec<f64>> {
    let place = "--direction";
    if direction.len() != model.spec.width {
        let what = format!("{} values, the stream has {}", direction.len(), model.spec.width);
        return Err(Error::config(place, what, "give one value for each column of the stream"));
    }
    let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
    if !(length.is_finite() && length > 0.0) {
        let what = format!("its length is {length}");
        return Err(Error::config(place, what, "give a direction that is finite and not 0"));
    }
    Ok(direction.iter().map(|x| x / length).collect())
}
