//! Activations kept for training (A12): on the device, in full, or in files that are read in pieces.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::source::{Source, Streamed, Take, check_stop};
use crate::device::ops::Ops;
use crate::device::suffix_ops::SuffixOps;
use crate::error::{Error, Result};

/// Rows that are read from a file at once.
const PIECE: usize = 16_384;

/// Every row of every site.
pub enum Store<O: Ops> {
    /// On the device: a tensor for each site, and the number of rows.
    Memory(Vec<O::Tensor>, usize),
    /// In files.
    Disk(Files<O>),
}

/// A file for each site, row after row in f32.
pub struct Files<O: Ops> {
    files: Vec<(PathBuf, File)>,
    widths: Vec<usize>,
    pieces: Vec<O::Tensor>,
    rows: usize,
    values: Vec<f32>,
    /// Those of one site.
    own: Vec<f32>,
}

/// A store and the device that reads it.
pub struct Stored<'a, O: Ops> {
    store: &'a mut Store<O>,
    ops: &'a O,
    stop: &'a AtomicBool,
}

impl<O: SuffixOps> Store<O> {
    /// Runs the model once and keeps every row on the device.
    /// With `joined`, one site more: all of them side by side.
    pub fn in_memory(source: &mut Streamed<'_, O>, rows: usize, joined: bool) -> Result<Self> {
        let mut sites = Vec::with_capacity(source.widths().len());
        for width in source.widths() {
            let mut tensor = source.ops().tensor(rows, *width)?;
            source.ops().set_rows(&mut tensor, rows);
            sites.push(tensor);
        }
        let all: Vec<usize> = (0..sites.len()).collect();
        source.each(&all, &mut |ops, site, x, at| {
            let number = |row| u32::try_from(row).expect("rows are counted in u32");
            let places: Vec<u32> = at.map(number).collect();
            ops.put_rows(&places, x, &mut sites[site]);
            Ok(())
        })?;
        if joined {
            sites.push(join(source.ops(), &sites, (rows, source.widths()))?);
        }
        Ok(Self::Memory(sites, rows))
    }
}

/// All sites side by side, by way of the host.
fn join<O: Ops>(
    ops: &O,
    sites: &[O::Tensor],
    (rows, widths): (usize, &[usize]),
) -> Result<O::Tensor> {
    let total: usize = widths.iter().sum();
    let mut values = vec![0.0; rows * total];
    let (mut own, mut first) = (Vec::new(), 0);
    for (tensor, width) in sites.iter().zip(widths) {
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

impl<O: Ops> Store<O> {
    /// Runs the model once and keeps every row in files of `folder`, which go when the store goes.
    pub fn on_disk(
        source: &mut Streamed<'_, O>,
        folder: &Path,
        (rows, joined): (usize, bool),
    ) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let widths = source.widths().to_vec();
        let mut own = Files {
            files: Vec::new(),
            pieces: Vec::new(),
            widths,
            rows,
            values: Vec::new(),
            own: Vec::new(),
        };
        let mut writers = Vec::new();
        for (site, width) in own.widths.iter().enumerate() {
            let path = folder.join(format!("rows-{site}.f32"));
            let mut options = File::options();
            let options = options.read(true).write(true).create(true).truncate(true);
            let file = options.open(&path).map_err(Error::io(&path, "create"))?;
            let copy = file.try_clone().map_err(Error::io(&path, "open"))?;
            writers.push(BufWriter::with_capacity(1 << 20, copy));
            own.files.push((path, file));
            own.pieces.push(source.ops().tensor(rows.min(PIECE), *width)?);
        }
        let all: Vec<usize> = (0..own.widths.len()).collect();
        let mut values = Vec::new();
        source.each(&all, &mut |ops, site, x, _| {
            ops.read(x, &mut values)?;
            let bytes: &[u8] = bytemuck::cast_slice(&values);
            writers[site].write_all(bytes).map_err(Error::io(&own.files[site].0, "write"))
        })?;
        if joined {
            let total = own.widths.iter().sum();
            own.pieces.push(source.ops().tensor(rows.min(PIECE), total)?);
        }
        for (writer, (path, _)) in writers.iter_mut().zip(&own.files) {
            writer.flush().map_err(Error::io(path, "write"))?;
        }
        Ok(Self::Disk(own))
    }

    /// The store as a source; passes end between sites when `stop` is set.
    pub fn on<'a>(&'a mut self, ops: &'a O, stop: &'a AtomicBool) -> Stored<'a, O> {
        Stored { store: self, ops, stop }
    }
}

impl<O: Ops> Source<O> for Stored<'_, O> {
    fn ops(&self) -> &O {
        self.ops
    }

    fn together(&self, sites: usize) -> Vec<Vec<usize>> {
        (0..sites).map(|site| vec![site]).collect()
    }

    fn keeps(&self) -> bool {
        matches!(self.store, Store::Memory(..))
    }

    fn each(&mut self, sites: &[usize], take: Take<'_, O>) -> Result<()> {
        for &site in sites {
            check_stop(self.stop)?;
            match &mut *self.store {
                Store::Memory(tensors, rows) => take(self.ops, site, &mut tensors[site], 0..*rows)?,
                Store::Disk(files) => {
                    for first in (0..files.rows).step_by(PIECE) {
                        let at = first..files.rows.min(first + PIECE);
                        files.load(self.ops, site, &at)?;
                        take(self.ops, site, &mut files.pieces[site], at)?;
                    }
                }
            }
        }
        self.ops.check()
    }
}

impl<O: Ops> Files<O> {
    /// The rows `at` of a site, or of all of them side by side, into its piece.
    fn load(&mut self, ops: &O, site: usize, at: &Range<usize>) -> Result<()> {
        let (sites, total) = match self.widths.get(site) {
            Some(width) => (site..site + 1, *width),
            None => (0..self.widths.len(), self.widths.iter().sum()),
        };
        self.values.resize(at.len() * total, 0.0);
        let mut first = 0;
        for site in sites {
            let ((path, file), width) = (&self.files[site], self.widths[site]);
            self.own.resize(at.len() * width, 0.0);
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.own);
            let offset = (at.start * width * size_of::<f32>()) as u64;
            file.read_exact_at(bytes, offset).map_err(Error::io(path, "read"))?;
            for (to, from) in self.values.chunks_exact_mut(total).zip(self.own.chunks_exact(width))
            {
                to[first..first + width].copy_from_slice(from);
            }
            first += width;
        }
        let piece = &mut self.pieces[site];
        ops.set_rows(piece, at.len());
        ops.write(piece, &self.values)
    }
}

impl<O: Ops> Drop for Files<O> {
    fn drop(&mut self) {
        for (path, _) in &self.files {
            // What cannot be removed is found, and said, by whoever needs the room.
            let _ = std::fs::remove_file(path);
        }
    }
}
