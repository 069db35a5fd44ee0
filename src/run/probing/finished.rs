//! What finished sites leave: rows of every table, weights and notes, as one state that waits on the disk
//! and is merged in the order of the sites. A stopped run goes on behind the last of them.

use std::collections::BTreeSet;
use std::path::Path;

use super::found::{Found, Notes};
use super::measured::mark_first;
use super::weights::Array;
use crate::accumulate::codec::{Reader, put, put_len};
use crate::accumulate::run::damaged;
use crate::accumulate::{Merge, State};
use crate::artifact::packed::{pack, unpack};
use crate::artifact::probing::{
    AGREEMENT, AgreementRow, CLASSES, CODES, ClassRow, CodeRow, LAYERS, LayerRow, METHODS,
    MethodRow, PROBES, ProbeRow, SELECTION, SMALLEST, SPREAD, SUBSETS, SelectionRow, SmallestRow,
    SpreadRow, SubsetRow,
};
use crate::artifact::rows::RankingRow;
use crate::artifact::table::{Record, write_table};
use crate::artifact::tables::RANKINGS;
use crate::corpus::block::Counts;
use crate::error::Result;
use crate::run::folder::RunFolder;

/// The tables of a site, in the order in which its state has them.
const TABLES: [&str; 11] = [
    PROBES, CLASSES, LAYERS, RANKINGS, METHODS, SUBSETS, SMALLEST, SELECTION, CODES, AGREEMENT,
    SPREAD,
];

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Finished {
    sites: Vec<SiteDone>,
}

/// One site.
#[derive(Clone, Debug, Default, PartialEq)]
struct SiteDone {
    /// Rows of each table, see [`TABLES`].
    tables: Vec<Vec<u8>>,
    arrays: Vec<Array>,
    notes: Vec<String>,
}

impl Finished {
    /// One site with its weights.
    pub(super) fn one(found: Found, arrays: Vec<Array>) -> Self {
        let tables = vec![
            pack(found.probes),
            pack(found.classes),
            pack(found.layers),
            pack(found.rankings),
            pack(found.methods),
            pack(found.subsets),
            pack(found.smallest),
            pack(found.selection),
            pack(found.codes),
            pack(found.agreement),
            pack(found.spread),
        ];
        let notes = found.notes.into_iter().collect();
        Self { sites: vec![SiteDone { tables, arrays, notes }] }
    }

    /// What a reader must know of methods, each once.
    pub(super) fn notes(&self) -> Notes {
        let all: BTreeSet<&String> = self.sites.iter().flat_map(|site| &site.notes).collect();
        all.into_iter().cloned().collect()
    }

    /// The weights of all sites.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.sites.iter().flat_map(|site| &site.arrays)
    }

    /// Writes every table.
    pub(super) fn write(&self, folder: &RunFolder) -> Result<()> {
        let to = (folder.path(), folder.run_id());
        self.table::<ProbeRow>(to, PROBES)?;
        self.table::<ClassRow>(to, CLASSES)?;
        self.table::<RankingRow>(to, RANKINGS)?;
        self.table::<MethodRow>(to, METHODS)?;
        self.table::<SubsetRow>(to, SUBSETS)?;
        self.table::<SmallestRow>(to, SMALLEST)?;
        self.table::<SelectionRow>(to, SELECTION)?;
        self.table::<CodeRow>(to, CODES)?;
        self.table::<AgreementRow>(to, AGREEMENT)?;
        self.table::<SpreadRow>(to, SPREAD)?;
        let mut layers: Vec<LayerRow> = Vec::new();
        for site in &self.sites {
            layers.extend(unpack::<LayerRow>(&site.tables[place(LAYERS)])?);
        }
        mark_first(&mut layers);
        write_table(&to.0.join(LAYERS), to.1, layers.into_iter()).map(drop)
    }

    /// Writes one table; rows of one site are in memory at a time.
    fn table<R: Record>(&self, (folder, run_id): (&Path, &str), name: &str) -> Result<()> {
        let mut read = Ok(());
        let rows = self.sites.iter().map_while(|site| {
            unpack::<R>(&site.tables[place(name)]).map_err(|error| read = Err(error)).ok()
        });
        write_table(&folder.join(name), run_id, rows.flatten())?;
        read
    }
}

/// Where a table stands among those of a site.
fn place(name: &str) -> usize {
    TABLES.iter().position(|own| *own == name).expect("a table of sites")
}

impl Merge for Finished {
    fn merge(&mut self, later: Self) -> Result<()> {
        self.sites.extend(later.sites);
        Ok(())
    }
}

impl State for Finished {
    type Plan = ();

    fn counts(&self) -> Counts {
        Counts::default()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_len(out, self.sites.len());
        for site in &self.sites {
            for table in &site.tables {
                put_bytes(out, table);
            }
            put_len(out, site.arrays.len());
            for Array { name, shape, values } in &site.arrays {
                put_bytes(out, name.as_bytes());
                put_len(out, shape.len());
                put(out, shape);
                put_len(out, values.len());
                put(out, values);
            }
            put_len(out, site.notes.len());
            site.notes.iter().for_each(|note| put_bytes(out, note.as_bytes()));
        }
    }

    fn decode((): &(), bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let mut own = Self::default();
        for _ in 0..reader.length()? {
            let mut site = SiteDone::default();
            for _ in TABLES {
                site.tables.push(take_bytes(&mut reader)?);
            }
            for _ in 0..reader.length()? {
                let name = take_text(&mut reader)?;
                let axes = reader.length()?;
                let shape: Vec<u64> = reader.take(axes)?;
                let count = reader.length()?;
                let values = reader.take(count)?;
                if shape.iter().try_fold(1_u64, |all, n| all.checked_mul(*n)) != Some(count as u64)
                {
                    return Err(damaged(format!("{name} is not of its shape")));
                }
                site.arrays.push(Array { name, shape, values });
            }
            for _ in 0..reader.length()? {
                site.notes.push(take_text(&mut reader)?);
            }
            own.sites.push(site);
        }
        reader.finish()?;
        Ok(own)
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn take_bytes(reader: &mut Reader<'_>) -> Result<Vec<u8>> {
    let length = reader.length()?;
    reader.take(length)
}

fn take_text(reader: &mut Reader<'_>) -> Result<String> {
    String::from_utf8(take_bytes(reader)?).map_err(|error| damaged(error.to_string()))
}
