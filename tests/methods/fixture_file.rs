//! Tensors of the method fixture. Oracle: none of its own, the fixture's values are.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// One file of the fixture.
pub(crate) struct File(Vec<u8>);

impl File {
    pub(crate) fn open(folder: &Path, name: &str) -> Self {
        Self(std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")))
    }

    pub(crate) fn f64(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).expect("the fixture is whole");
        let tensor = file.tensor(name).expect("the fixture holds it");
        let data = tensor.data();
        match tensor.dtype() {
            Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            Dtype::F32 => {
                data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect()
            }
            Dtype::I64 => {
                data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect()
            }
            Dtype::I32 => {
                data.as_chunks().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.f64(name).into_iter().map(|x| x as f32).collect()
    }

    pub(crate) fn table(&self, name: &str, rows: usize) -> Vec<Vec<f64>> {
        let all = self.f64(name);
        all.chunks(all.len() / rows).map(<[f64]>::to_vec).collect()
    }
}
