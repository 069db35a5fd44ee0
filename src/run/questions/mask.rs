//! The search for gates: step after step over all questions, its state on disk every few seconds.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::passes::Passes;
use super::resolve::Chosen;
use crate::artifact::atomic::write_bytes_atomic;
use crate::device::backward::Differentiable;
use crate::device::suffix_ops::SuffixOps;
use crate::disk;
use crate::engine::fleet::Device;
use crate::error::{Error, Result};
use crate::stimulate::diffmask::{Search, Settings};
use crate::stimulate::masks::{Gates, Slopes, gated, untouched};
use crate::stimulate::neurons::Neurons;
use crate::stimulate::question::{Question, QuestionBatch, batches};

/// Bytes before the numbers of a state: whose it is, and their hash.
const HEAD: usize = 64;

impl<O: SuffixOps + Device> Passes<'_, O> {
    /// Searches the gates of a method on one device; goes on where an earlier attempt stopped, and
    /// where a device was that had no room or failed.
    pub(super) fn mask(
        &mut self,
        (at, chosen): (usize, &Chosen),
        settings: Settings,
        towards: &[Vec<f32>],
    ) -> Result<Search> {
        let (neurons, list) = (&self.experiment.neurons, &self.experiment.questions.list);
        let identity = *blake3::Hasher::new()
            .update(&self.experiment.run_id)
            .update(chosen.call.to_string().as_bytes())
            .finalize()
            .as_bytes();
        let file = self.folder.states().join(format!("mask-{at}.bin"));
        let mut search = Search::new(settings, neurons, towards);
        load(&file, &identity, &mut search);
        let (interval, mut saved) = (self.interval(), Instant::now());
        let Self { fleet, stop, report, tokens, .. } = self;
        let ended = fleet.on_one(|run| {
            let steps = Steps::new(run, list, (neurons, settings))?;
            while !search.is_done() {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Unfinished { what: "stopped by a signal".into() });
                }
                let share = f64::from(search.steps()) / f64::from(settings.steps);
                report("masking", *tokens, share);
                *tokens += steps.step(run, &mut search)?;
                if saved.elapsed() >= interval {
                    save(&file, &identity, &search)?;
                    saved = Instant::now();
                }
            }
            Ok(())
        });
        // A disk that has just refused a state is not asked again.
        let disk = matches!(ended, Err(Error::Io { .. }));
        let last = if disk { Ok(()) } else { save(&file, &identity, &search) };
        ended.and(last)?;
        (self.report)("masking", self.tokens, 1.0);
        Ok(search)
    }
}

/// The questions in batches that a device has room for, and what it answers with every gate open.
struct Steps<'a, O: SuffixOps> {
    neurons: &'a Neurons,
    settings: Settings,
    batches: Vec<(QuestionBatch, O::Tensor)>,
    questions: usize,
}

impl<'a, O: SuffixOps> Steps<'a, O> {
    fn new(
        run: &mut Differentiable<O>,
        list: &[Question],
        (neurons, settings): (&'a Neurons, Settings),
    ) -> Result<Self> {
        let cuts = batches(list, run.limits().tokens);
        let answered = |cut: Range<usize>| {
            let batch = QuestionBatch::new(&list[cut]);
            let reference = untouched(run, &batch)?;
            Ok((batch, reference))
        };
        let batches = cuts.into_iter().map(answered).collect::<Result<_>>()?;
        Ok(Self { neurons, settings, batches, questions: list.len() })
    }

    /// One step over all questions: their tokens. A step that fails leaves the search as it was.
    fn step(&self, run: &mut Differentiable<O>, search: &mut Search) -> Result<u64> {
        let (gates, mut slopes) = (search.drawn(), Slopes::new(self.neurons));
        let mut tokens = 0;
        for (batch, reference) in &self.batches {
            let how = (&gates, self.settings.holds);
            let place = (self.neurons, self.settings.place);
            gated(run, (batch, reference), place, how, &mut slopes)?;
            tokens += batch.tokens.len() as u64;
        }
        search.descend(&slopes, self.questions);
        Ok(tokens)
    }
}

fn save(path: &Path, identity: &[u8; 32], search: &Search) -> Result<()> {
    let numbers = search.encode();
    let numbers: &[u8] = bytemuck::cast_slice(&numbers);
    let hash = blake3::hash(numbers);
    if let Some(folder) = path.parent() {
        disk::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    }
    write_bytes_atomic(path, &[&identity[..], hash.as_bytes(), numbers].concat())
}

/// Takes a state of the same search, if there is a whole one.
fn load(path: &Path, identity: &[u8; 32], search: &mut Search) {
    let Ok(bytes) = disk::read(path) else { return };
    let whole = bytes.split_at_checked(HEAD).is_some_and(|(head, numbers)| {
        head[..32] == identity[..]
            && blake3::hash(numbers).as_bytes() == &head[32..]
            && search.restore(&floats(numbers))
    });
    if !whole {
        tracing::warn!(path = %path.display(), "a stored search is unusable; it begins again");
    }
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

/// File name of what the search of method number `at`, from 0, decided.
pub(super) fn gates_file(at: usize) -> String {
    format!("gates-{}.json", at + 1)
}

/// The decided gates as an intervention for `electrode extract --intervene`.
pub(super) fn write_gates(path: &Path, neurons: &Neurons, gates: &Gates) -> Result<()> {
    let edit = |(at, &layer): (usize, &usize)| {
        serde_json::json!({
            "site": neurons.site(layer).to_string(),
            "kind": "blend",
            "gates": gates.gates[at],
            "towards": gates.towards[at],
        })
    };
    let edits: Vec<_> = neurons.layers.iter().enumerate().map(edit).collect();
    let text = serde_json::to_vec(&serde_json::json!({ "edits": edits })).expect("plain data");
    write_bytes_atomic(path, &text)
}
