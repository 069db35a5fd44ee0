//! `electrode generate`: prompts continued by a model, in one arm for each set of edits. Written to a
//! file, texts are kept in pieces, runs of some texts of an arm, and a stopped command goes on.

mod manifest;
mod pass;
mod text;

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

pub use self::text::{Summary, Text, json_lines};

use self::pass::Pass;
use self::text::Kept;
use super::Report;
use super::devices::{self, Devices};
use super::pieces::Pieces;
use super::record::{Clock, Record};
use crate::accumulate::list::List;
use crate::artifact::atomic::write_bytes_atomic;
use crate::artifact::manifest::DeviceFacts;
use crate::capture::plan::Edits;
use crate::config::Dtype;
use crate::corpus::block::Counts;
use crate::corpus::tokenize::Tokenizer;
use crate::device::decode::{Decoder, check_edits, check_model};
use crate::device::forward::Limits;
use crate::device::suffix_ops::SuffixOps;
use crate::engine::fleet::{Device, Fleet, Setup, Slot};
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::generate::continuation::{Finished, On, Request, continue_some, decode_limits, judge};
use crate::generate::measures::perplexity;
use crate::generate::prompts::{Prompt, continuation_text, read_prompts};
use crate::generate::sample::Sampling;
use crate::model::Model;

/// Most tokens that are asked for at once, of all texts of an arm.
const MOST_TOKENS: usize = 1 << 31;
/// Texts of a piece, in full batches of the device. Not of the batch asked for: a smaller one goes on
/// with the pieces of a larger one.
const BATCHES: usize = 4;

/// What is continued, by which model, and how.
#[derive(Clone, Debug)]
pub struct TextConfig {
    /// Folder, or name in the local Hub cache.
    pub model: String,
    /// Of the forward pass.
    pub dtype: Dtype,
    /// Where it runs.
    pub device: Option<String>,
    /// Prompts as they are.
    pub prompts: Vec<String>,
    /// Files of prompts: `FILE.jsonl` or `FILE.jsonl:KEY`.
    pub files: Vec<String>,
    /// Begin each prompt with the model's BOS where its tokenizer does not.
    pub add_bos: bool,
    /// Continuations of each prompt.
    pub samples: usize,
    /// Tokens of each, at most.
    pub max_tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Go on behind the model's end-of-text tokens.
    pub ignore_end: bool,
    /// Texts that end a continuation; they are no part of it.
    pub stop: Vec<String>,
    /// Tokens of a batch, and of the cache; results are the same for any number.
    pub batch_tokens: Option<usize>,
}

/// One run over all prompts.
#[derive(Clone, Debug, Default)]
pub struct TextArm {
    /// Its name, where there are several.
    pub name: Option<String>,
    /// What is written into the model.
    pub edits: Edits,
    /// At which tokens.
    pub on: On,
}

/// A model and its prompts, opened and checked.
pub struct Generation {
    /// What was asked for.
    pub config: TextConfig,
    /// The model.
    pub model: Model,
    /// Its prompts.
    pub prompts: Vec<Prompt>,
    tokens: Vec<Vec<u32>>,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
    devices: Devices,
}

impl Generation {
    /// Opens everything; refuses what cannot work.
    pub fn open(config: TextConfig) -> Result<Self> {
        config.check()?;
        let devices = Devices::choose(config.device.as_deref())?;
        let model = Model::open(&config.model)?;
        check_model(&model.spec)?;
        let tokenizer = open_tokenizer(&model, config.add_bos)?;
        let prompts = read_prompts(&config.prompts, &config.files, (&model.spec, &tokenizer))?;
        let ends = if config.ignore_end { Vec::new() } else { model.end_tokens()? };
        let tokens = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
        let generation = Self { config, model, prompts, tokens, tokenizer, ends, devices };
        decode_limits(&generation.model.spec, &generation.request(On::All), 1)?;
        Ok(generation)
    }

    /// Which kind of arithmetic, see [`Devices::kind`].
    pub fn device_kind(&self) -> Option<String> {
        self.devices.kind(self.config.dtype)
    }

    /// What it runs on.
    pub fn device_facts(&self) -> Vec<DeviceFacts> {
        self.devices.facts()
    }

    /// Hash of the tokenizer's file.
    pub fn tokenizer_hash(&self) -> &str {
        self.tokenizer.hash()
    }

    fn request(&self, on: On) -> Request<'_> {
        Request {
            prompts: &self.tokens,
            samples: self.config.samples,
            max_tokens: self.config.max_tokens,
            sampling: self.config.sampling,
            ends: &self.ends,
            stop: None,
            on,
        }
    }

    /// Refuses edits that cannot be made here.
    pub fn check_arms(&self, arms: &[TextArm]) -> Result<()> {
        arms.iter().try_for_each(|arm| check_edits(&self.model.spec, &arm.edits))
    }

    /// The texts of each arm, where the configuration says; with `judged`, each is also held
    /// against the model without edits.
    pub fn run(
        &self,
        arms: &[TextArm],
        judged: bool,
        report: Report<'_>,
    ) -> Result<Vec<Vec<Text>>> {
        self.texts((arms, judged), None, report)
    }

    /// As [`Self::run`], on these devices.
    pub fn run_on<O: Device + SuffixOps>(
        &self,
        slots: Vec<Slot<'_, O>>,
        asked: (&[TextArm], bool),
        report: Report<'_>,
    ) -> Result<Vec<Vec<Text>>> {
        self.texts_on(slots, asked, None, report)
    }

    /// As [`Self::run`], and writes the texts, one JSON object a line, and a manifest beside them. Goes on where an earlier attempt
    /// at the same file stopped.
    pub fn write(
        &self,
        path: &Path,
        (arms, judged): (&[TextArm], bool),
        stop: &AtomicBool,
        report: Report<'_>,
    ) -> Result<Vec<Vec<Text>>> {
        self.check_arms(arms)?;
        let (record, clock) = (self.record(arms, judged)?, Clock::start());
        let pieces = Pieces::of_file(path, record.run_id, stop)?;
        let texts = self.texts((arms, judged), Some(&pieces), report)?;
        write_bytes_atomic(path, json_lines(&texts).as_bytes())?;
        let tokens = texts.iter().flatten().map(|text| text.tokens.len() as u64).sum();
        Record { timings: clock.timings(tokens), ..record }.write_beside(path)?;
        pieces.remove()?;
        Ok(texts)
    }

    /// The texts of each arm; finished pieces are kept if there is a place for them.
    pub(super) fn texts(
        &self,
        asked: (&[TextArm], bool),
        pieces: Option<&Pieces<'_>>,
        report: Report<'_>,
    ) -> Result<Vec<Vec<Text>>> {
        match &self.devices {
            Devices::Cpu => {
                self.texts_on(vec![devices::cpu(self.config.dtype)], asked, pieces, report)
            }
            Devices::Cuda(found) => {
                let slots = devices::gpus(found, self.config.dtype);
                self.texts_on(slots, asked, pieces, report)
            }
        }
    }

    /// As [`Self::texts`], on these devices.
    pub(super) fn texts_on<O: Device + SuffixOps>(
        &self,
        slots: Vec<Slot<'_, O>>,
        (arms, judged): (&[TextArm], bool),
        pieces: Option<&Pieces<'_>>,
        report: Report<'_>,
    ) -> Result<Vec<Vec<Text>>> {
        self.check_arms(arms)?;
        let all = self.prompts.len() * self.config.samples;
        let alone = pieces.is_none() && slots.len() == 1;
        let size = if alone { all } else { self.texts_of_a_piece() };
        let count = u32::try_from(arms.len() * all.div_ceil(size)).map_err(|_| {
            Error::config("samples", "more than 2^32 pieces of work", "ask for fewer texts")
        })?;
        let work = Pass { generation: self, arms, judged, all, size, count };
        let mut fleet = Fleet::new(slots, self.setup()?);
        let list = match pieces {
            Some(pieces) => pieces.each(("texts", &[]), (), (&mut fleet, &work), |progress| {
                report("generating", progress.tokens, progress.blocks / f64::from(count));
            })?,
            None => work.in_memory(&mut fleet, report)?,
        };
        report("generating", list.counts.tokens, 1.0);
        self.model.check_unchanged()?;
        let kept: Vec<Kept> = list.items()?;
        let of_arm = |(arm, kept): (&TextArm, &[Kept])| {
            kept.iter().map(|one| self.text(arm, one)).collect::<Result<Vec<Text>>>()
        };
        arms.iter().zip(kept.chunks(all)).map(of_arm).collect()
    }

    /// A cache for as many texts as a device has room for.
    fn setup<O: Device + SuffixOps>(&self) -> Result<Setup<'_, O, Decoder<O>>> {
        let batch = self.config.batch_tokens.unwrap_or(self.devices.batch_tokens());
        let request = self.request(On::All);
        let most = decode_limits(&self.model.spec, &request, batch)?;
        let limits = Limits { tokens: batch.max(most.capacity), sequence: most.capacity };
        Ok(Setup::new(limits, move |ops, limits| {
            let limits = decode_limits(&self.model.spec, &request, limits.tokens)?;
            Decoder::new(ops, &self.model, limits)
        }))
    }

    /// Pieces of so many arms.
    pub(super) fn pieces_of(&self, arms: usize) -> u64 {
        let all = self.prompts.len() * self.config.samples;
        (arms * all.div_ceil(self.texts_of_a_piece())) as u64
    }

    /// Texts that are made, and kept, together.
    fn texts_of_a_piece(&self) -> usize {
        let longest = self.tokens.iter().map(Vec::len).max().unwrap_or(0);
        (BATCHES * self.devices.batch_tokens() / (longest + self.config.max_tokens)).max(1)
    }

    /// Some texts of an arm.
    fn piece<O: SuffixOps>(
        &self,
        decoder: &mut Decoder<O>,
        (arm, judged): (&TextArm, bool),
        texts: Range<usize>,
        told: &mut dyn FnMut(u64, f64),
    ) -> Result<List> {
        let stop = |text: &[u32], prompt: usize| {
            let text = self.text_of(text.split_at(prompt))?;
            Ok(self.config.stop.iter().any(|stop| text.contains(stop.as_str())))
        };
        let mut request = self.request(arm.on);
        request.stop = if self.config.stop.is_empty() { None } else { Some(&stop) };
        let found = continue_some(decoder, &request, &arm.edits, texts, told)?;
        let tokens = found.iter().map(|one| one.tokens.len() as u64).sum();
        let sums = if judged {
            judge(decoder, &self.tokens, &found)?.into_iter().map(Some).collect()
        } else {
            vec![None; found.len()]
        };
        let kept: Vec<Kept> = found.into_iter().zip(sums).map(Kept::of).collect();
        let counts = Counts { sequences: kept.len() as u64, tokens, ..Counts::default() };
        Ok(List::of(&kept, counts))
    }

    /// What tokens add to a prompt.
    fn text_of(&self, of: (&[u32], &[u32])) -> Result<String> {
        continuation_text(&self.tokenizer, of, &self.ends)
    }

    fn text(&self, arm: &TextArm, one: &Kept) -> Result<Text> {
        let damaged = || Error::Contradiction { what: "a text of no prompt was kept".into() };
        let prompt = self.prompts.get(one.prompt).ok_or_else(damaged)?;
        let mut text = self.text_of((&prompt.tokens, &one.tokens))?;
        if one.finished == Finished::Stop {
            let first = self.config.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
            text.truncate(first.unwrap_or(text.len()));
        }
        let (count, log_prob) = (one.tokens.len(), f64::from_bits(one.log_prob));
        let judged = one.judged.map(f64::from_bits);
        Ok(Text {
            arm: arm.name.clone(),
            index: one.prompt,
            sample: one.sample,
            prompt: prompt.text.clone(),
            text,
            log_prob,
            perplexity: perplexity(log_prob, count),
            judge_log_prob: judged,
            judge_perplexity: judged.map(|sum| perplexity(sum, count)),
            finished: one.finished.name(),
            tokens: one.tokens.clone(),
        })
    }
}

impl TextConfig {
    fn check(&self) -> Result<()> {
        self.sampling.check()?;
        let wrong = |key: &str, what: &str, remedy: &str| Err(Error::config(key, what, remedy));
        for (key, count) in [("samples", self.samples), ("max-tokens", self.max_tokens)] {
            if count == 0 || count > MOST_TOKENS {
                return wrong(key, &format!("{count} of them"), "ask for 1 or more");
            }
        }
        if self.samples.saturating_mul(self.max_tokens) > MOST_TOKENS {
            return wrong("samples", "more than 2^31 tokens for a prompt", "ask for fewer");
        }
        if self.batch_tokens == Some(0) {
            return wrong("batch-tokens", "no token fits", "use 2048, or as many as there is room");
        }
        if self.stop.iter().any(String::is_empty) {
            return wrong("stop", "an empty text is everywhere", "name some text");
        }
        Ok(())
    }
}
