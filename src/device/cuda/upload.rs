//! The small lists of a batch (ids, positions, rows of groups) on their way to the device: two
//! halves of page-locked memory, filled in turn, copied on a stream of their own. A list that is
//! there already is not sent again.

use std::sync::Arc;

use super::arena::{Arena, Buffer};
use super::driver::{Answer, Event, Pinned, Ptr, Stream};
use crate::error::Result;

/// Bytes of a chunk, at least.
const CHUNK: usize = 4 << 20;
/// Lists start at multiples of this.
const ALIGN: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Uploads {
    halves: [Half; 2],
    now: usize,
    copied: Event,
    /// Where memory that is taken over is free of its last owner's work.
    freed: Event,
}

/// What one batch uploads. A batch with longer lists than any before it adds a chunk.
#[derive(Debug)]
struct Half {
    chunks: Vec<Chunk>,
    /// Recorded after the last work of the batch that reads this half.
    done: Event,
}

/// The same bytes on both sides.
#[derive(Debug)]
struct Chunk {
    host: Pinned,
    device: Buffer,
    used: usize,
    /// Start and length of each list.
    lists: Vec<(usize, usize)>,
}

impl Uploads {
    pub(super) fn new() -> Answer<Self> {
        let half = || Ok(Half { chunks: Vec::new(), done: Event::new()? });
        Ok(Self { halves: [half()?, half()?], now: 0, copied: Event::new()?, freed: Event::new()? })
    }

    /// Makes room for a list of so many bytes.
    pub(super) fn reserve(
        &mut self,
        bytes: usize,
        arena: &Arc<Arena>,
        (copy, compute): (&Stream, &Stream),
    ) -> Result<Answer<()>> {
        let chunks = &mut self.halves[self.now].chunks;
        if chunks.last().is_some_and(|chunk| chunk.used + bytes <= chunk.host.len()) {
            return Ok(Ok(()));
        }
        let device = arena.buffer(bytes.next_power_of_two().max(CHUNK))?;
        let host = Pinned::new(device.bytes());
        // The buffer may be one that work under way still writes: it is copied to after that work.
        let free = self.freed.record(compute).and_then(|()| copy.wait_for(&self.freed));
        Ok(free.and(host).map(|host| {
            chunks.push(Chunk { host, device, used: 0, lists: Vec::new() });
        }))
    }

    /// Sends a list there is room for, unless this batch has sent the same; work queued on
    /// `compute` later sees it.
    pub(super) fn send(&mut self, list: &[u8], (copy, compute): (&Stream, &Stream)) -> Answer<Ptr> {
        let chunks = &mut self.halves[self.now].chunks;
        if let Some(known) = chunks.iter().find_map(|chunk| chunk.find(list)) {
            return Ok(known);
        }
        let chunk = chunks.last_mut().expect("room was made");
        let sent = chunk.send(list, copy)?;
        self.copied.record(copy)?;
        compute.wait_for(&self.copied)?;
        Ok(sent)
    }

    /// Ends a batch: the other half is taken once the batch before the last no longer reads it.
    pub(super) fn flip(&mut self, compute: &Stream) -> Answer<()> {
        self.halves[self.now].done.record(compute)?;
        self.now = 1 - self.now;
        let half = &mut self.halves[self.now];
        half.done.wait()?;
        half.chunks.iter_mut().for_each(Chunk::forget);
        // The largest chunk alone is enough for batches like those seen.
        let largest = half.chunks.iter().map(|chunk| chunk.host.len()).max();
        half.chunks.retain(|chunk| Some(chunk.host.len()) == largest);
        half.chunks.truncate(1);
        Ok(())
    }
}

impl Chunk {
    fn find(&self, list: &[u8]) -> Option<Ptr> {
        let same = |&&(start, len): &&(usize, usize)| {
            len == list.len() && self.host.bytes()[start..start + len] == *list
        };
        self.lists.iter().find(same).map(|&(start, _)| self.device.start().offset(start))
    }

    #[expect(unsafe_code, reason = "an asynchronous copy")]
    fn send(&mut self, list: &[u8], stream: &Stream) -> Answer<Ptr> {
        let range = self.used..self.used + list.len();
        self.host.bytes_mut()[range.clone()].copy_from_slice(list);
        self.used = range.end.next_multiple_of(ALIGN).min(self.host.len());
        self.lists.push((range.start, list.len()));
        let to = self.device.start().offset(range.start);
        // SAFETY: host and device have the same size; this part is not written again before the
        // batch that reads it is done (`flip`).
        unsafe { stream.upload(&self.host.bytes()[range], to) }?;
        Ok(to)
    }

    fn forget(&mut self) {
        self.used = 0;
        self.lists.clear();
    }
}
