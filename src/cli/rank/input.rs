//! The matrix and the labels of `electrode rank`, from safetensors or JSON.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::disk;
use crate::error::{Error, Result, did_you_mean};
use crate::methods::matrix::{Matrix, RowLabels, Values};

/// Which part of the matrix is asked for.
pub(in crate::cli) struct Part {
    pub(in crate::cli) rows: Option<Range<usize>>,
    pub(in crate::cli) columns: Option<Range<usize>>,
}

/// Which part of the matrix was read, and how tall the whole is.
pub(in crate::cli) struct Place {
    pub(in crate::cli) rows: Range<usize>,
    pub(in crate::cli) columns: Range<usize>,
    all_rows: usize,
}

/// `FILE.safetensors:TENSOR`.
pub(in crate::cli) struct Tensor {
    pub(in crate::cli) path: PathBuf,
    name: String,
}

impl Tensor {
    pub(in crate::cli) fn parse(place: &str, text: &str) -> Result<Self> {
        match text.rsplit_once(':') {
            Some((path, name)) if !path.is_empty() && !name.is_empty() => {
                Ok(Self { path: PathBuf::from(path), name: name.to_owned() })
            }
            _ => Err(Error::config(
                place,
                format!("'{text}' names no tensor"),
                "write FILE.safetensors:TENSOR",
            )),
        }
    }

    /// Opens the file and shows the tensor to `see`.
    fn open<T>(&self, see: impl FnOnce(&TensorView<'_>) -> Result<T>) -> Result<T> {
        let bytes = disk::read(&self.path).map_err(Error::io(&self.path, "read"))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| {
            Error::input(
                &self.path,
                format!("not a safetensors file, or a damaged one: {error}"),
                "write it again, for example with `electrode extract`",
            )
        })?;
        let tensor = file.tensor(&self.name).map_err(|_| {
            let mut names: Vec<&str> = file.names();
            names.sort_unstable();
            let near = did_you_mean(&self.name, names.iter().copied());
            names.truncate(20);
            let remedy = format!("it holds {}", names.join(", "));
            Error::input(&self.path, format!("no tensor '{}'{near}", self.name), remedy)
        })?;
        see(&tensor)
    }

    fn wrong(&self, what: String, remedy: &str) -> Error {
        Error::input(&self.path, format!("tensor '{}' {what}", self.name), remedy)
    }

    /// Reads the part asked for.
    pub(in crate::cli) fn matrix(&self, part: &Part) -> Result<(Matrix, Place)> {
        self.open(|tensor| {
            let &[rows, columns] = tensor.shape() else {
                let what = format!("has shape {:?}", tensor.shape());
                return Err(self.wrong(what, "give a matrix (rows, neurons)"));
            };
            let place = Place {
                rows: within("--rows", part.rows.as_ref(), rows)?,
                columns: within("--columns", part.columns.as_ref(), columns)?,
                all_rows: rows,
            };
            if u32::try_from(columns).is_err() {
                let what = format!("has {columns} columns, more than fit 32 bits");
                return Err(self.wrong(what, "rank a part of the columns from a smaller file"));
            }
            let values = self.values(tensor, &place, columns)?;
            Ok((Matrix::new(place.rows.len(), place.columns.len(), values), place))
        })
    }

    fn values(&self, tensor: &TensorView<'_>, place: &Place, stride: usize) -> Result<Values> {
        let data = tensor.data();
        Ok(match tensor.dtype() {
            Dtype::F32 => Values::F32(cut(data, place, stride, f32::from_le_bytes)),
            Dtype::F64 => Values::F64(cut(data, place, stride, f64::from_le_bytes)),
            Dtype::F16 => Values::F32(cut(data, place, stride, |bytes| {
                half::f16::from_le_bytes(bytes).to_f32()
            })),
            Dtype::BF16 => Values::F32(cut(data, place, stride, |bytes| {
                half::bf16::from_le_bytes(bytes).to_f32()
            })),
            other => {
                let what = format!("is of type {other:?}");
                return Err(self.wrong(what, "activations are f32, f16, bf16 or f64"));
            }
        })
    }

    fn integers(&self) -> Result<Vec<i64>> {
        self.open(|tensor| {
            if tensor.shape().len() != 1 {
                let what = format!("has shape {:?}", tensor.shape());
                return Err(self.wrong(what, "labels have one dimension"));
            }
            let data = tensor.data();
            let all =
                Place { rows: 0..tensor.shape()[0], columns: 0..1, all_rows: tensor.shape()[0] };
            Ok(match tensor.dtype() {
                Dtype::I64 => cut(data, &all, 1, i64::from_le_bytes),
                Dtype::I32 => cut(data, &all, 1, |b| i64::from(i32::from_le_bytes(b))),
                Dtype::I16 => cut(data, &all, 1, |b| i64::from(i16::from_le_bytes(b))),
                Dtype::I8 => cut(data, &all, 1, |b| i64::from(i8::from_le_bytes(b))),
                Dtype::U32 => cut(data, &all, 1, |b| i64::from(u32::from_le_bytes(b))),
                Dtype::U16 => cut(data, &all, 1, |b| i64::from(u16::from_le_bytes(b))),
                Dtype::U8 => cut(data, &all, 1, |b| i64::from(u8::from_le_bytes(b))),
                other => {
                    let what = format!("is of type {other:?}");
                    return Err(self.wrong(what, "labels are integers, -1 for rows without one"));
                }
            })
        })
    }
}

/// The part of a row-major matrix that `place` names.
fn cut<const W: usize, T>(
    data: &[u8],
    place: &Place,
    stride: usize,
    read: impl Fn([u8; W]) -> T,
) -> Vec<T> {
    let mut values = Vec::with_capacity(place.rows.len() * place.columns.len());
    for row in place.rows.clone() {
        let start = row * stride;
        let bytes = (start + place.columns.start) * W..(start + place.columns.end) * W;
        let (numbers, _) = data[bytes].as_chunks::<W>();
        values.extend(numbers.iter().map(|&bytes| read(bytes)));
    }
    values
}

fn within(place: &str, wanted: Option<&Range<usize>>, size: usize) -> Result<Range<usize>> {
    match wanted {
        None if size > 0 => Ok(0..size),
        Some(range) if range.end <= size => Ok(range.clone()),
        None => Err(Error::config("--activations", "the matrix is empty", "give one with numbers")),
        Some(range) => Err(Error::config(
            place,
            format!("{}..{} passes the end of the matrix", range.start, range.end),
            format!("it has {size}"),
        )),
    }
}

/// Labels of all rows, before a part is taken.
pub(in crate::cli) struct AllLabels {
    path: PathBuf,
    labels: RowLabels,
}

/// Reads `FILE.safetensors:TENSOR` or `FILE.json`.
pub(in crate::cli) fn labels(text: &str) -> Result<AllLabels> {
    let json = Path::new(text);
    if json.extension().is_some_and(|extension| extension == "json") {
        return Ok(AllLabels { path: json.to_path_buf(), labels: strings(json)? });
    }
    let tensor = Tensor::parse("--labels", text)?;
    let labels = numbered(&tensor)?;
    Ok(AllLabels { path: tensor.path, labels })
}

fn strings(path: &Path) -> Result<RowLabels> {
    let bytes = disk::read(path).map_err(Error::io(path, "read"))?;
    let rows: Vec<Option<String>> = serde_json::from_slice(&bytes).map_err(|error| {
        let remedy = "write [\"NOUN\", null, \"VERB\", …], one entry a row";
        Error::input(path, format!("not a list of strings and nulls: {error}"), remedy)
    })?;
    let names: BTreeSet<&String> = rows.iter().flatten().collect();
    let names: Vec<&String> = names.into_iter().collect();
    let class = |name: &String| {
        let place = names.binary_search(&name).expect("every name was collected");
        u32::try_from(place).expect("a file of 2^32 labels was not read")
    };
    let of_row = rows.iter().map(|name| name.as_ref().map(class)).collect();
    let classes = (0..).zip(names.iter().map(|name| name.to_string())).collect();
    Ok(RowLabels { name: "labels".to_owned(), classes, of_row, min_count: 1 })
}

fn numbered(tensor: &Tensor) -> Result<RowLabels> {
    let rows = tensor.integers()?;
    let id = |(row, &label): (usize, &i64)| match u32::try_from(label) {
        Ok(id) => Ok(Some(id)),
        Err(_) if label == -1 => Ok(None),
        Err(_) => Err(tensor.wrong(
            format!("holds {label} in row {row}"),
            "labels count from 0, and -1 is no label",
        )),
    };
    let ids: Vec<Option<u32>> = rows.iter().enumerate().map(id).collect::<Result<_>>()?;
    let known: BTreeSet<u32> = ids.iter().flatten().copied().collect();
    let known: Vec<u32> = known.into_iter().collect();
    let place = |id: u32| {
        let place = known.binary_search(&id).expect("every id was collected");
        u32::try_from(place).expect("there are at most 2^32 ids")
    };
    Ok(RowLabels {
        name: tensor.name.clone(),
        classes: known.iter().map(|&id| (id, id.to_string())).collect(),
        of_row: ids.iter().map(|id| id.map(place)).collect(),
        min_count: 1,
    })
}

impl AllLabels {
    /// The labels of the rows that were read. Classes without a row among them are left out, and
    /// the others keep their ids, so that parts of one file agree.
    pub(in crate::cli) fn select(self, place: &Place, activations: &Tensor) -> Result<RowLabels> {
        let mut labels = self.labels;
        if labels.of_row.len() != place.all_rows {
            return Err(Error::input(
                &self.path,
                format!(
                    "{} labels, but {} of {} has {} rows",
                    labels.of_row.len(),
                    activations.name,
                    activations.path.display(),
                    place.all_rows
                ),
                "give one label for each row of the activations",
            ));
        }
        let of_row = labels.of_row[place.rows.clone()].to_vec();
        let used: BTreeSet<u32> = of_row.iter().flatten().copied().collect();
        let used: Vec<u32> = used.into_iter().collect();
        let moved = |class: u32| {
            let place = used.binary_search(&class).expect("it was collected");
            u32::try_from(place).expect("no more than before")
        };
        labels.classes = used.iter().map(|&c| labels.classes[c as usize].clone()).collect();
        labels.of_row = of_row.iter().map(|class| class.map(moved)).collect();
        Ok(labels)
    }
}
