//! Training that is on its way where the model runs at each pass: the banks of a device's sites on the disk,
//! so that a stopped run loses an epoch and not all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::accumulate::codec::{Reader, put, put_len};
use crate::artifact::atomic::write_bytes_atomic;
use crate::device::probe_ops::BankState;
use crate::disk;
use crate::engine::segment::RunId;
use crate::error::{Error, Result};
use crate::probe::train::{Keeper, Midway};

/// Suffix of its files.
const SUFFIX: &str = "banks";
/// Bytes before the banks: whose they are, and their hash.
const HEAD: usize = 64;
/// Saving may take one part of so many of the time.
const PARTS: u32 = 10;

/// See the module.
pub(super) struct Training {
    folder: PathBuf,
    file: PathBuf,
    identity: RunId,
    /// Of earlier attempts, by the number of the site.
    begun: BTreeMap<usize, Midway>,
    /// At most this long between two states on disk, where passes are short.
    interval: Duration,
    /// When the last one was there, and how long that took.
    saved: Instant,
    took: Duration,
}

impl Training {
    /// Finds these sites among all files of a folder, whichever devices wrote them; what is trained goes
    /// into the file of `piece`.
    pub(super) fn open(
        (folder, piece): (PathBuf, u32),
        identity: RunId,
        sites: &[usize],
        interval: Duration,
    ) -> Self {
        let mut begun: BTreeMap<usize, Midway> = BTreeMap::new();
        for path in files(&folder) {
            let Some(found) = read(&path, &identity) else {
                tracing::warn!(path = %path.display(), "stored banks are unusable; they begin again");
                continue;
            };
            for (site, midway) in found.into_iter().filter(|(site, _)| sites.contains(site)) {
                if begun.get(&site).is_none_or(|known| known.passes < midway.passes) {
                    begun.insert(site, midway);
                }
            }
        }
        let file = folder.join(format!("from-{piece}.{SUFFIX}"));
        let (saved, took) = (Instant::now(), Duration::ZERO);
        Self { folder, file, identity, begun, interval, saved, took }
    }
}

impl Keeper for Training {
    fn begun(&mut self, site: usize) -> Option<Midway> {
        self.begun.remove(&site)
    }

    fn is_due(&self, last: bool) -> bool {
        last || self.saved.elapsed() >= self.interval.min(self.took * PARTS)
    }

    fn keep(&mut self, sites: Vec<(usize, Midway)>) -> Result<()> {
        let clock = Instant::now();
        let mut banks = Vec::new();
        put_len(&mut banks, sites.len());
        for (site, Midway { passes, bank, solve }) in &sites {
            put(&mut banks, &[*site as u64, u64::from(*passes)]);
            put_len(&mut banks, bank.arrays.len());
            put(&mut banks, &bank.arrays);
            for numbers in [&bank.numbers, solve] {
                put_len(&mut banks, numbers.len());
                put(&mut banks, numbers);
            }
        }
        let hash = blake3::hash(&banks);
        disk::create_dir_all(&self.folder).map_err(Error::io(&self.folder, "create"))?;
        write_bytes_atomic(&self.file, &[&self.identity, &hash.as_bytes()[..], &banks].concat())?;
        (self.took, self.saved) = (clock.elapsed(), Instant::now());
        Ok(())
    }
}

/// The files of all devices and attempts.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|own| own == SUFFIX)).collect();
    found.sort();
    found
}

/// What a whole file of this run says.
fn read(path: &Path, identity: &RunId) -> Option<Vec<(usize, Midway)>> {
    let bytes = disk::read(path).ok()?;
    let (head, banks) = bytes.split_at_checked(HEAD)?;
    let whole = head[..32] == identity[..] && blake3::hash(banks).as_bytes() == &head[32..];
    whole.then(|| decode(banks).ok())?
}

fn decode(bytes: &[u8]) -> Result<Vec<(usize, Midway)>> {
    let mut reader = Reader::new(bytes);
    let mut sites = Vec::new();
    for _ in 0..reader.length()? {
        let [site, passes] = reader.take::<u64>(2)?[..] else { unreachable!("two were taken") };
        let length = reader.length()?;
        let arrays = reader.take(length)?;
        let length = reader.length()?;
        let numbers = reader.take(length)?;
        let length = reader.length()?;
        let solve = reader.take(length)?;
        let bank = BankState { arrays, numbers };
        let passes = u32::try_from(passes).unwrap_or(u32::MAX);
        sites.push((usize::try_from(site).unwrap_or(usize::MAX), Midway { passes, bank, solve }));
    }
    reader.finish()?;
    Ok(sites)
}
