//! `electrode extract` and `electrode rank` with the real binary, from files to files.

mod bad_edits;
mod bad_input;
mod edits;
mod gpus;
mod ids;
mod moments;
mod rank;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use safetensors::{Dtype, SafeTensors};

use crate::run::{Finished, electrode, finish};

/// A tensor of a file: shape and bytes.
type Raw = (Dtype, Vec<usize>, Vec<u8>);

fn read(path: &Path) -> BTreeMap<String, Raw> {
    let bytes = std::fs::read(path).expect("it was written");
    let file = SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
    let raw = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(raw).collect()
}

fn floats(raw: &Raw) -> Vec<f32> {
    assert_eq!(raw.0, Dtype::F32);
    raw.2.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect()
}

/// Writes int64 tensors.
fn write_ids(path: &Path, tensors: &[(&str, &[usize], &[i64])]) {
    let raw: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape, values)| {
            (*name, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = raw.iter().map(|(name, shape, data)| {
        let view = safetensors::tensor::TensorView::new(Dtype::I64, shape.clone(), data);
        (*name, view.expect("sizes agree"))
    });
    let bytes = safetensors::serialize(views, None).expect("it serialises");
    std::fs::write(path, bytes).expect("written");
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/forward").join(name)
}

fn extract(model: &Path, arguments: &[&str], out: &Path) -> Finished {
    let mut command: Command = electrode();
    command.arg("extract").arg("--model").arg(model).args(arguments).arg("--out").arg(out);
    finish(&mut command)
}
