//! Device memory that is used again: what a block's statistics leave serves those of the next, so
//! that after the first block nothing is asked of the driver.
#![expect(unsafe_code, reason = "frees what it allocated")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{self, Answer, Primary, Ptr};
use crate::error::{Error, Result};

/// All memory of one device; shared by what lives in it.
#[derive(Debug)]
pub(super) struct Arena {
    /// Of the device, for messages.
    name: String,
    pool: Mutex<Pool>,
    context: Arc<Primary>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Buffers nobody holds, by size.
    free: BTreeMap<usize, Vec<Ptr>>,
    /// Every buffer there is.
    all: Vec<Ptr>,
    bytes: u64,
}

impl Arena {
    pub(super) fn new(name: String, context: Arc<Primary>) -> Self {
        Self { name, pool: Mutex::default(), context }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of exactly so many bytes; what is in it means nothing.
    ///
    /// A buffer handed back is given out again at once: all work on it is queued on one stream, so
    /// the new owner's comes after.
    pub(super) fn buffer(self: &Arc<Self>, bytes: usize) -> Result<Buffer> {
        let reused = self.pool().free.get_mut(&bytes).and_then(Vec::pop);
        let start = match reused {
            Some(start) => start,
            None => self.allocate(bytes)?,
        };
        Ok(Buffer { start, bytes, arena: Arc::clone(self) })
    }

    fn allocate(&self, bytes: usize) -> Result<Ptr> {
        let fail = |failure: driver::Failure| self.failed(bytes, &failure);
        self.context.enter().map_err(fail)?;
        let start = match driver::allocate(bytes) {
            Err(failure) if failure.is_memory() => {
                self.give_back().map_err(fail)?;
                driver::allocate(bytes)
            }
            answer => answer,
        };
        let start = start.map_err(fail)?;
        let mut pool = self.pool();
        pool.all.push(start);
        pool.bytes += bytes as u64;
        Ok(start)
    }

    /// Returns the buffers nobody holds to the driver.
    fn give_back(&self) -> Answer<()> {
        let mut pool = self.pool();
        for (bytes, buffers) in std::mem::take(&mut pool.free) {
            for start in buffers {
                pool.all.retain(|one| *one != start);
                pool.bytes -= bytes as u64;
                // SAFETY: it is no longer in any list; cuMemFree waits for work under way.
                unsafe { driver::free(start) }?;
            }
        }
        Ok(())
    }

    fn failed(&self, bytes: usize, failure: &driver::Failure) -> Error {
        let device = self.name.clone();
        if !failure.is_memory() {
            return failure.of_device(&device);
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let free = driver::memory_info().map_or(0, |(free, _)| free);
        let what = format!(
            "out of memory: {:.1} MiB more were asked for, {:.1} MiB are held and {:.1} MiB free",
            mib(bytes as u64),
            mib(self.pool().bytes),
            mib(free),
        );
        Error::DeviceMemory { device, what }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Every buffer holds the arena: none is left. The driver waits for work under way.
        if self.context.enter().is_ok() {
            for &start in &self.pool().all {
                // SAFETY: allocated once, freed once.
                if let Err(failure) = unsafe { driver::free(start) } {
                    tracing::debug!(%failure, "device memory");
                }
            }
        }
    }
}

/// Some device memory; goes back to its arena when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    start: Ptr,
    bytes: usize,
    arena: Arc<Arena>,
}

impl Buffer {
    pub(super) fn start(&self) -> Ptr {
        self.start
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.arena.pool().free.entry(self.bytes).or_default().push(self.start);
    }
}
