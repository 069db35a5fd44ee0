//! Prompts continued: sequences enter the cache as slots get free, grow together by a token a step,
//! and leave when they are finished.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::sample::{Chosen, Draw, Sampling};
use crate::capture::plan::Edits;
use crate::device::decode::{Append, DecodeLimits, Decoder};
use crate::device::suffix_ops::SuffixOps;
use crate::error::{Error, Result};
use crate::model::ModelSpec;

/// Tokens of a text under a model that sets no limit: the cache is made for all of them.
const LONGEST: usize = 1 << 17;

/// Which tokens edits act at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On {
    /// All that the model runs.
    #[default]
    All,
    /// Those of the prompt, of which the last gives the first new token.
    Prompt,
    /// Those that were generated.
    Generated,
}

/// Why a text is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finished {
    /// An end-of-text token came.
    End,
    /// A stop was met.
    Stop,
    /// It is as long as was asked for.
    Length,
}

impl Finished {
    /// As files say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Says of a text (prompt and what was generated) with the length of its prompt whether it stops.
pub type Stop<'a> = &'a (dyn Fn(&[u32], usize) -> Result<bool> + Sync);

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Tokens of each prompt, at least one.
    pub prompts: &'a [Vec<u32>],
    /// Continuations of each prompt.
    pub samples: usize,
    /// Tokens of each, at most; at least 1.
    pub max_tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Tokens that end a text.
    pub ends: &'a [u32],
    /// What else does.
    pub stop: Option<Stop<'a>>,
    /// Where edits act.
    pub on: On,
}

/// One continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    /// Number of the prompt.
    pub prompt: usize,
    /// Number of the sample.
    pub sample: usize,
    /// What was generated, the end-of-text token included.
    pub tokens: Vec<u32>,
    /// Sum of the log-probabilities of the tokens, in nats, under the model as edited.
    pub log_prob: f64,
    /// Why it ends.
    pub finished: Finished,
}

/// The buffers that requests of this size need: a batch, and the cache, hold about `batch_tokens`.
pub fn decode_limits(
    spec: &ModelSpec,
    request: &Request<'_>,
    batch_tokens: usize,
) -> Result<DecodeLimits> {
    let longest = request.prompts.iter().map(Vec::len).max().unwrap_or(0);
    let capacity = longest.saturating_add(request.max_tokens);
    let most = spec.max_tokens.unwrap_or(LONGEST);
    if capacity > most {
        let what = format!(
            "a prompt of {longest} tokens and {} new ones, but the model takes {most}",
            request.max_tokens
        );
        return Err(Error::config("max-tokens", what, "shorten the prompt, or ask for fewer"));
    }
    let texts = request.prompts.len().saturating_mul(request.samples).max(1);
    let slots = (batch_tokens / capacity.max(1)).clamp(1, texts);
    let tokens = batch_tokens.min(texts.saturating_mul(capacity)).max(capacity).max(slots);
    Ok(DecodeLimits { slots, capacity, tokens })
}

/// A text under way.
struct Live {
    slot: u32,
    prompt: usize,
    sample: usize,
    /// Prompt and what was generated.
    text: Vec<u32>,
    log_prob: f64,
}

/// A prompt that enters the cache, once for several samples.
struct Entering {
    prompt: usize,
    samples: Vec<usize>,
    slots: Vec<u32>,
}

/// Continues every prompt under edits, in the order of prompts and samples. What a text becomes
/// does not depend on which others are beside it. `report` is told tokens so far and the share done.
pub fn continue_texts<O: SuffixOps>(
    decoder: &mut Decoder<O>,
    request: &Request<'_>,
    edits: &Edits,
    report: &mut dyn FnMut(u64, f64),
) -> Result<Vec<Continuation>> {
    let all = 0..request.prompts.len() * request.samples;
    continue_some(decoder, request, edits, all, report)
}

/// As [`continue_texts`], only these texts; text `prompt * samples + sample` is a sample of a prompt.
pub fn continue_some<O: SuffixOps>(
    decoder: &mut Decoder<O>,
    request: &Request<'_>,
    edits: &Edits,
    texts: Range<usize>,
    report: &mut dyn FnMut(u64, f64),
) -> Result<Vec<Continuation>> {
    let nothing = BTreeMap::new();
    let of_prompt = if request.on == On::Generated { &nothing } else { edits };
    let of_generated = if request.on == On::Prompt { &nothing } else { edits };
    let slots = u32::try_from(decoder.limits().slots).expect("few slots");
    let mut work = Work {
        request,
        free: (0..slots).rev().collect(),
        next: texts.start,
        end: texts.end,
        live: Vec::new(),
        done: BTreeMap::new(),
        tokens: 0,
    };
    let mut logits = Vec::new();
    loop {
        let entering = work.admit(decoder);
        if !entering.is_empty() {
            let append =
                |one: &'_ Entering| -> (Vec<u32>, usize) { (one.slots.clone(), one.prompt) };
            let places: Vec<(Vec<u32>, usize)> = entering.iter().map(append).collect();
            let appends: Vec<Append<'_>> = places
                .iter()
                .map(|(slots, prompt)| Append { slots, tokens: &request.prompts[*prompt] })
                .collect();
            decoder.advance(&appends, of_prompt, &mut logits)?;
            work.enter(&entering, &logits)?;
        }
        if work.live.is_empty() {
            if work.next >= texts.end {
                return Ok(work.done.into_values().collect());
            }
            continue;
        }
        report(work.tokens, work.done.len() as f64 / texts.len() as f64);
        let last: Vec<[u32; 2]> =
            work.live.iter().map(|one| [one.slot, one.text[one.text.len() - 1]]).collect();
        let appends: Vec<Append<'_>> =
            last.iter().map(|pair| Append { slots: &pair[..1], tokens: &pair[1..] }).collect();
        decoder.advance(&appends, of_generated, &mut logits)?;
        work.step(&logits)?;
    }
}

struct Work<'a> {
    request: &'a Request<'a>,
    free: Vec<u32>,
    /// Number of the text that enters next.
    next: usize,
    /// Number behind the last.
    end: usize,
    live: Vec<Live>,
    done: BTreeMap<usize, Continuation>,
    tokens: u64,
}

impl Work<'_> {
    /// Texts that enter now: as many as there are free slots, and as a batch takes.
    fn admit<O: SuffixOps>(&mut self, decoder: &mut Decoder<O>) -> Vec<Entering> {
        let (prompts, samples) = (self.request.prompts, self.request.samples);
        let mut entering: Vec<Entering> = Vec::new();
        let mut tokens = 0;
        while self.next < self.end {
            let (prompt, sample) = (self.next / samples, self.next % samples);
            let same = entering.last().is_some_and(|last| last.prompt == prompt);
            let more = if same { 0 } else { prompts[prompt].len() };
            if tokens + more > decoder.limits().tokens {
                break;
            }
            let Some(slot) = self.free.pop() else { break };
            decoder.clear(slot);
            tokens += more;
            self.next += 1;
            match entering.last_mut().filter(|_| same) {
                Some(last) => {
                    last.samples.push(sample);
                    last.slots.push(slot);
                }
                None => {
                    entering.push(Entering { prompt, samples: vec![sample], slots: vec![slot] })
                }
            }
        }
        entering
    }

    /// The first token of texts that entered, from the logits of their prompts.
    fn enter(&mut self, entering: &[Entering], logits: &[f32]) -> Result<()> {
        let mut live = Vec::new();
        let mut rows = Vec::new();
        for (row, one) in entering.iter().enumerate() {
            for (&sample, &slot) in one.samples.iter().zip(&one.slots) {
                let text = self.request.prompts[one.prompt].clone();
                live.push(Live { slot, prompt: one.prompt, sample, text, log_prob: 0.0 });
                rows.push(row);
            }
        }
        self.choose(live, &rows, logits)
    }

    /// The next token of every text under way.
    fn step(&mut self, logits: &[f32]) -> Result<()> {
        let live = std::mem::take(&mut self.live);
        let rows: Vec<usize> = (0..live.len()).collect();
        self.choose(live, &rows, logits)
    }

    /// Chooses a token for each text from its row of logits; what is finished leaves.
    fn choose(&mut self, mut texts: Vec<Live>, rows: &[usize], logits: &[f32]) -> Result<()> {
        let request = self.request;
        let width = logits.len() / rows.iter().max().map_or(1, |last| last + 1);
        let chosen: Vec<Chosen> = texts
            .par_iter()
            .zip(rows)
            .map(|(one, row)| {
                let step = one.text.len() - request.prompts[one.prompt].len();
                let draw = Draw {
                    prompt: one.prompt as u64,
                    sample: one.sample as u64,
                    step: step as u64,
                };
                request.sampling.choose(&logits[row * width..][..width], &one.text, draw)
            })
            .collect::<Result<_>>()?;
        self.tokens += chosen.len() as u64;
        for (one, chosen) in texts.iter_mut().zip(&chosen) {
            one.text.push(chosen.token);
            one.log_prob += chosen.log_prob;
        }
        let finished: Vec<Option<Finished>> =
            texts.par_iter().map(|one| request.finished(one)).collect::<Result<_>>()?;
        for (one, finished) in texts.into_iter().zip(finished) {
            match finished {
                None => self.live.push(one),
                Some(finished) => self.leave(one, finished),
            }
        }
        Ok(())
    }

    fn leave(&mut self, mut one: Live, finished: Finished) {
        self.free.push(one.slot);
        let tokens = one.text.split_off(self.request.prompts[one.prompt].len());
        let number = one.prompt * self.request.samples + one.sample;
        let Live { prompt, sample, log_prob, .. } = one;
        self.done.insert(number, Continuation { prompt, sample, tokens, log_prob, finished });
    }
}

impl Request<'_> {
    fn finished(&self, one: &Live) -> Result<Option<Finished>> {
        let prompt = self.prompts[one.prompt].len();
        if one.text.last().is_some_and(|token| self.ends.contains(token)) {
            return Ok(Some(Finished::End));
        }
        if let Some(stop) = self.stop
            && stop(&one.text, prompt)?
        {
            return Ok(Some(Finished::Stop));
        }
        Ok((one.text.len() - prompt >= self.max_tokens).then_some(Finished::Length))
    }
}

/// Log-probability of each continuation under the model without edits, in nats.
pub fn judge<O: SuffixOps>(
    decoder: &mut Decoder<O>,
    prompts: &[Vec<u32>],
    continuations: &[Continuation],
) -> Result<Vec<f64>> {
    let (most, nothing) = (decoder.limits().tokens, BTreeMap::new());
    let length = |one: &Continuation| prompts[one.prompt].len() + one.tokens.len();
    let (mut sums, mut rest) = (Vec::with_capacity(continuations.len()), continuations);
    while !rest.is_empty() {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|one| {
            tokens += length(one);
            tokens <= most
        });
        let (batch, after) = rest.split_at(fits.count().max(1));
        rest = after;
        let whole = |one: &Continuation| [&prompts[one.prompt][..], &one.tokens].concat();
        let texts: Vec<Vec<u32>> = batch.iter().map(whole).collect();
        let sequences: Vec<(&[u32], usize)> = texts
            .iter()
            .zip(batch)
            .map(|(text, one)| (&text[..], prompts[one.prompt].len()))
            .collect();
        let found = decoder.log_probs(&sequences, &nothing)?;
        let mut found = found.into_iter().map(f64::from);
        sums.extend(batch.iter().map(|one| found.by_ref().take(one.tokens.len()).sum::<f64>()));
    }
    Ok(sums)
}
