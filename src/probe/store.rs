//! Activations kept for training (A12): on a device, or in files that every device reads in pieces.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::source::{GoOn, Source, Streamed, Take};
use crate::artifact::manifest::write_json_atomic;
use crate::device::ops::Ops;
use crate::device::suffix_ops::SuffixOps;
use crate::disk::{self, File};
use crate::error::{Error, Result};

/// Rows that are read from a file at once.
const PIECE: usize = 16_384;
/// Written when every file is whole.
const WHOLE: &str = "whole.json";

/// Every row of some sites, on a device that holds them or reads them.
pub struct Store<'a, O: Ops> {
    /// Tensors of whole sites, or room for a piece of each.
    tensors: BTreeMap<usize, O::Tensor>,
    rows: usize,
    files: Option<Reading<'a>>,
}

/// Files that are read, and what was read.
struct Reading<'a> {
    files: &'a Files,
    values: Vec<f32>,
    /// Those of one site.
    own: Vec<f32>,
}

/// A file for each site, row after row in f32.
#[derive(Debug)]
pub struct Files {
    files: Vec<(PathBuf, File)>,
    widths: Vec<usize>,
    rows: usize,
}

/// Whose files they are.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Whole {
    run_id: String,
    rows: usize,
    widths: Vec<usize>,
}

/// A store and the device that reads it.
pub struct Stored<'a, 'f, O: Ops> {
    store: &'a mut Store<'f, O>,
    ops: &'a O,
    go_on: GoOn<'a>,
}

impl<O: SuffixOps> Store<'_, O> {
    /// Runs the model once and keeps every row of these sites on the device, in full. The site behind the
    /// last of the source is all of them side by side.
    pub fn in_memory(source: &mut Streamed<'_, O>, rows: usize, sites: &[usize]) -> Result<Self> {
        let joined = source.widths().len();
        let needed: Vec<usize> =
            if sites.contains(&joined) { (0..joined).collect() } else { sites.to_vec() };
        let mut tensors = BTreeMap::new();
        for &site in &needed {
            let mut tensor = source.ops().tensor(rows, source.widths()[site])?;
            source.ops().set_rows(&mut tensor, rows);
            tensors.insert(site, tensor);
        }
        source.each(&needed, &mut |ops, site, x, at| {
            let number = |row| u32::try_from(row).expect("rows are counted in u32");
            let places: Vec<u32> = at.map(number).collect();
            ops.put_rows(&places, x, tensors.get_mut(&site).expect("made for every site"));
            Ok(())
        })?;
        if sites.contains(&joined) {
            tensors.insert(joined, join(source.ops(), &tensors, (rows, source.widths()))?);
        }
        tensors.retain(|site, _| sites.contains(site));
        Ok(Self { tensors, rows, files: None })
    }
}

/// All sites side by side, by way of the host.
fn join<O: Ops>(
    ops: &O,
    sites: &BTreeMap<usize, O::Tensor>,
    (rows, widths): (usize, &[usize]),
) -> Result<O::Tensor> {
    let total: usize = widths.iter().sum();
    let mut values = vec![0.0; rows * total];
    let (mut own, mut first) = (Vec::new(), 0);
    for (tensor, width) in sites.values().zip(widths) {
        ops.read(tensor, &mut own)?;
        for (to, from) in values.chunks_exact_mut(total).zip(own.chunks_exact(*width)) {
            to[first..first + width].copy_from_slice(from);
        }
        first += width;
    }
    let mut joined = ops.tensor(rows, total)?;
    ops.set_rows(&mut joined, rows);
    ops.write(&mut joined, &values)?;
    Ok(joined)
}

impl<'f, O: Ops> Store<'f, O> {
    /// Files as a device reads them, these sites of them.
    pub fn of_files(ops: &O, files: &'f Files, sites: &[usize]) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for &site in sites {
            let total = || files.widths.iter().sum();
            let width = files.widths.get(site).copied().unwrap_or_else(total);
            tensors.insert(site, ops.tensor(files.rows.min(PIECE), width)?);
        }
        let reading = Reading { files, values: Vec::new(), own: Vec::new() };
        Ok(Self { tensors, rows: files.rows, files: Some(reading) })
    }

    /// The store as a source; passes end between pieces when `go_on` says so.
    pub fn on<'a>(&'a mut self, ops: &'a O, go_on: GoOn<'a>) -> Stored<'a, 'f, O> {
        Stored { store: self, ops, go_on }
    }
}

impl<O: Ops> Source<O> for Stored<'_, '_, O> {
    fn ops(&self) -> &O {
        self.ops
    }

    fn together(&self, sites: usize) -> Vec<Vec<usize>> {
        (0..sites).map(|site| vec![site]).collect()
    }

    fn keeps(&self) -> bool {
        self.store.files.is_none()
    }

    fn each(&mut self, sites: &[usize], take: Take<'_, O>) -> Result<()> {
        let rows = self.store.rows;
        for &site in sites {
            (self.go_on)()?;
            let tensor = self.store.tensors.get_mut(&site).expect("the store was made for it");
            let Some(reading) = &mut self.store.files else {
                take(self.ops, site, tensor, 0..rows)?;
                continue;
            };
            for first in (0..rows).step_by(PIECE) {
                (self.go_on)()?;
                let at = first..rows.min(first + PIECE);
                reading.load(site, &at)?;
                self.ops.set_rows(tensor, at.len());
                self.ops.write(tensor, &reading.values)?;
                take(self.ops, site, tensor, at)?;
            }
        }
        self.ops.check()
    }
}

impl Files {
    /// The files that an earlier attempt of this run left whole in `folder`, if it did.
    pub fn open(folder: &Path, run_id: &str, (rows, widths): (usize, &[usize])) -> Option<Self> {
        let due = Whole { run_id: run_id.to_owned(), rows, widths: widths.to_vec() };
        let found: Whole = serde_json::from_slice(&disk::read(folder.join(WHOLE)).ok()?).ok()?;
        if found != due {
            return None;
        }
        let mut files = Vec::new();
        for (site, width) in widths.iter().enumerate() {
            let path = path(folder, site);
            let file = File::open(&path).ok()?;
            if file.metadata().ok()?.len() != bytes(rows, *width) {
                return None;
            }
            files.push((path, file));
        }
        Some(Self { files, widths: due.widths, rows })
    }

    /// Runs the model once and keeps every row of every site in files of `folder`, for this attempt and
    /// for those after it.
    pub fn fill<O: Ops>(
        source: &mut Streamed<'_, O>,
        folder: &Path,
        (run_id, rows): (&str, usize),
    ) -> Result<Self> {
        remove(folder)?;
        disk::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let widths = source.widths().to_vec();
        let (mut files, mut writers) = (Vec::new(), Vec::new());
        for site in 0..widths.len() {
            let path = path(folder, site);
            let file = File::create(&path).map_err(Error::io(&path, "create"))?;
            let copy = file.try_clone().map_err(Error::io(&path, "open"))?;
            writers.push(BufWriter::with_capacity(1 << 20, copy));
            files.push((path, file));
        }
        let all: Vec<usize> = (0..widths.len()).collect();
        let mut values = Vec::new();
        source.each(&all, &mut |ops, site, x, _| {
            ops.read(x, &mut values)?;
            let bytes: &[u8] = bytemuck::cast_slice(&values);
            writers[site].write_all(bytes).map_err(Error::io(&files[site].0, "write"))
        })?;
        for (writer, (path, file)) in writers.iter_mut().zip(&files) {
            writer.flush().map_err(Error::io(path, "write"))?;
            file.sync_data().map_err(Error::io(path, "sync"))?;
        }
        let whole = Whole { run_id: run_id.to_owned(), rows, widths };
        write_json_atomic(&folder.join(WHOLE), &whole)?;
        Ok(Self { files, widths: whole.widths, rows })
    }
}

/// Removes the files of a folder; nothing where there are none.
pub fn remove(folder: &Path) -> Result<()> {
    // Without this one, no other is believed.
    for gone in [disk::remove_file(folder.join(WHOLE)), disk::remove_dir_all(folder)] {
        match gone {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(folder, "remove")(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn path(folder: &Path, site: usize) -> PathBuf {
    folder.join(format!("rows-{site}.f32"))
}

fn bytes(rows: usize, width: usize) -> u64 {
    (rows * width * size_of::<f32>()) as u64
}

impl Reading<'_> {
    /// The rows `at` of a site, or of all of them side by side.
    fn load(&mut self, site: usize, at: &Range<usize>) -> Result<()> {
        let widths = &self.files.widths;
        let (sites, total) = match widths.get(site) {
            Some(width) => (site..site + 1, *width),
            None => (0..widths.len(), widths.iter().sum()),
        };
        self.values.resize(at.len() * total, 0.0);
        let mut first = 0;
        for site in sites {
            let ((path, file), width) = (&self.files.files[site], widths[site]);
            self.own.resize(at.len() * width, 0.0);
            let read: &mut [u8] = bytemuck::cast_slice_mut(&mut self.own);
            file.read_exact_at(read, bytes(at.start, width)).map_err(Error::io(path, "read"))?;
            for (to, from) in self.values.chunks_exact_mut(total).zip(self.own.chunks_exact(width))
            {
                to[first..first + width].copy_from_slice(from);
            }
            first += width;
        }
        Ok(())
    }
}
