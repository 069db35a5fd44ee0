//! Work done piece by piece: a finished piece is put on the disk, at the latest twenty seconds after
//! the one before it, and the same command goes on behind the last of them. Pieces belong to an
//! identity, a hash of everything that may change a number, so that those of other inputs are never
//! mixed in. They are merged in their order along a fixed tree (`engine/states.rs`): how often the
//! work was stopped changes no bit.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::folder::RunFolder;
use crate::accumulate::State;
use crate::artifact::atomic::final_target;
use crate::disk;
use crate::engine::fleet::{Device, Fleet};
use crate::engine::pass::{BlockWork, PassProgress, run_pass};
use crate::engine::segment::RunId;
use crate::engine::share::share;
use crate::engine::states::States;
use crate::error::{Error, Result};
use crate::hash::hex;

/// What is put behind the name of a file: the folder of its pieces.
const PARTS: &str = ".parts";

/// Where the finished pieces of an output are kept. Nobody else works on the output while this lives.
pub(super) struct Pieces<'a> {
    folder: RunFolder,
    id: RunId,
    stop: &'a AtomicBool,
    /// Removed when the output is in its place.
    temporary: PathBuf,
}

impl<'a> Pieces<'a> {
    /// Of a file: they are kept in `FILE.parts` beside it.
    pub(super) fn of_file(path: &Path, id: RunId, stop: &'a AtomicBool) -> Result<Self> {
        let mut name = final_target(path)?.into_os_string();
        name.push(PARTS);
        let temporary = PathBuf::from(name);
        let folder = RunFolder::open_at(temporary.clone(), hex(&id))?;
        Ok(Self { folder, id, stop, temporary })
    }

    /// Of a folder: they are kept inside it.
    pub(super) fn of_folder(path: PathBuf, id: RunId, stop: &'a AtomicBool) -> Result<Self> {
        let folder = RunFolder::open_at(path, hex(&id))?;
        let temporary = folder.states();
        Ok(Self { folder, id, stop, temporary })
    }

    /// The folder in which the pieces are.
    pub(super) fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// A stage of so many pieces, at least one. `identity` is everything that decides its numbers and
    /// is not known from the beginning.
    pub(super) fn stage<S: State>(
        &self,
        (name, identity): (&str, &[u8]),
        plan: S::Plan,
        pieces: u32,
    ) -> Result<Stage<'a, S>> {
        self.folder.own()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.id).update(name.as_bytes()).update(identity);
        let id = *hasher.finalize().as_bytes();
        let states = States::load(&self.folder.states().join(name), id, plan)?;
        Ok(Stage { states, pieces, stop: self.stop })
    }

    /// Does every piece of a stage that no earlier attempt did, on every device; gives all of them,
    /// merged in order.
    pub(super) fn each<O: Device, P: Send, W: BlockWork<P, Block = u32>>(
        &self,
        stage: (&str, &[u8]),
        plan: <W::State as State>::Plan,
        (fleet, work): (&mut Fleet<'_, O, P>, &W),
        report: impl FnMut(PassProgress),
    ) -> Result<W::State> {
        let mut stage = self.stage(stage, plan, work.blocks())?;
        let missing = stage.missing().into_iter().map(Ok);
        run_pass(fleet, work, &mut stage.states, missing, (self.stop, report))?;
        stage.finish()
    }

    /// Removes the pieces: the output is in its place.
    pub(super) fn remove(self) -> Result<()> {
        match disk::remove_dir_all(&self.temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(&self.temporary, "remove")(error))
            }
            _ => Ok(()),
        }
    }
}

/// One stage of the work.
pub(super) struct Stage<'a, S: State> {
    states: States<S>,
    pieces: u32,
    stop: &'a AtomicBool,
}

impl<S: State> Stage<'_, S> {
    /// Another time between two states on disk: zero where pieces are few and long.
    #[must_use]
    pub(super) fn commit_every(self, interval: Duration) -> Self {
        Self { states: self.states.commit_every(interval), ..self }
    }

    /// Pieces that are not done yet, ascending.
    pub(super) fn missing(&self) -> Vec<u32> {
        self.states.missing(self.pieces)
    }

    /// Does groups of pieces that belong together on every device; `work` gives each piece of a group
    /// with its number, and `told` hears of each group that is done. Stops between groups, and what is
    /// done by then is on the disk.
    pub(super) fn groups<O: Device, P: Send, G: Send>(
        &mut self,
        groups: Vec<G>,
        fleet: &mut Fleet<'_, O, P>,
        work: impl Fn(&mut P, &G) -> Result<Vec<(u32, S)>> + Sync,
        mut told: impl FnMut(usize),
    ) -> Result<()> {
        let (stop, states) = (self.stop, &mut self.states);
        let unless_stopped = |program: &mut P, group: &G| match stop.load(Ordering::Relaxed) {
            true => Err(Error::Unfinished { what: "stopped by a signal".into() }),
            false => work(program, group),
        };
        let ended = share(fleet, groups.into_iter().map(Ok), unless_stopped, |made| {
            told(made.len());
            made.into_iter().try_for_each(|(piece, state)| states.add(piece, state))
        });
        // A disk that has just refused a state is not asked again.
        match ended {
            Err(Error::Io { .. } | Error::Contradiction { .. }) => ended,
            _ => states.commit().and(ended),
        }
    }

    /// Ends the work between two pieces if that was asked for.
    pub(super) fn check_stop(&self) -> Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Error::Unfinished { what: "stopped by a signal".into() }),
            false => Ok(()),
        }
    }

    /// Takes a finished piece in.
    pub(super) fn add(&mut self, piece: u32, state: S) -> Result<()> {
        self.states.add(piece, state)
    }

    /// All pieces, merged in their order.
    pub(super) fn finish(self) -> Result<S> {
        self.states.finish(self.pieces)
    }
}
