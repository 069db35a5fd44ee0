//! Decoding with a cache of keys and values: sequences grow token by token, and only new tokens are
//! run.
//!
//! Each sequence has a slot, which owns `capacity` rows of the cache. An edit acts at every token
//! that is run while it is given, and what is cached is as edited; sequences never see each other,
//! so what one gives does not depend on which others are run beside it.

use std::collections::{BTreeMap, BTreeSet};

use super::backward::refuse_head;
use super::block::Attend;
use super::edit::Edit;
use super::forward::{Forward, ForwardInput, Limits, SiteWork};
use super::gradient_ops::{Against, SCORES};
use super::head::{HeadSteps, Hidden, logits_of, piece_rows};
use super::ops::AttentionArgs;
use super::site_view::Nobody;
use super::suffix_ops::{Past, SuffixOps};
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};
use crate::model::{HeadSpec, Model, ModelSpec, PositionSpec};

/// Upper bounds of everything that is decoded, fixed when the buffers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Sequences at once.
    pub slots: usize,
    /// Tokens of a sequence, prompt included.
    pub capacity: usize,
    /// Tokens of one batch; at least `slots` and `capacity`.
    pub tokens: usize,
}

/// Tokens to be run after those that the slots hold.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Whose sequence it is. Empty slots may share a prompt, which is run once for all of them.
    pub slots: &'a [u32],
    /// The tokens, at least one.
    pub tokens: &'a [u32],
}

/// A causal language model with a cache of what its sequences were.
pub struct Decoder<O: SuffixOps> {
    forward: Forward<O>,
    limits: DecodeLimits,
    /// Keys and values by layer, `[slots * capacity, 2 K d]`.
    pasts: Vec<O::Tensor>,
    /// Tokens that each slot holds.
    lengths: Vec<u32>,
    head: LastRows<O>,
}

/// The head on some rows, a piece at a time.
struct LastRows<O: SuffixOps> {
    steps: HeadSteps,
    /// Rows of a piece.
    room: usize,
    hidden: Hidden<O>,
    /// `[C, V]`.
    logits: O::Tensor,
    /// `[C, SCORES]`.
    scores: O::Tensor,
    ones: Vec<u32>,
}

/// Appended tokens end to end, and where they stand in the cache.
#[derive(Default)]
struct Packed {
    tokens: Vec<u32>,
    starts: Vec<u32>,
    positions: Vec<u32>,
    /// First row and number of rows of the past of each.
    pasts: Vec<[u32; 2]>,
    /// Which token is stored in which row.
    stored: Vec<u32>,
    rows: Vec<u32>,
    /// Last token of each.
    last: Vec<u32>,
}

/// Attention over the cache, which keeps what is new.
struct OnCache<'a, O: SuffixOps> {
    pasts: &'a mut [O::Tensor],
    batch: &'a Packed,
}

impl<O: SuffixOps> Attend<O> for OnCache<'_, O> {
    fn attend(
        &mut self,
        ops: &O,
        layer: usize,
        args: &AttentionArgs<'_, O::Vector>,
        (qkv, out): (&O::Tensor, &mut O::Tensor),
    ) {
        let Packed { pasts: rows, stored, rows: places, .. } = self.batch;
        let kv = &mut self.pasts[layer];
        if rows.iter().all(|[_, count]| *count == 0) {
            ops.attention(args, qkv, out, None);
        } else {
            ops.attention_past(args, Past { kv, rows }, qkv, out);
        }
        ops.store_past(qkv, stored, places, kv);
    }
}

/// Refuses a model that does not continue texts.
pub fn check_model(spec: &ModelSpec) -> Result<()> {
    let refuse = |what: &str| {
        let remedy = "use a causal language model with its head, as GPT-2 or Llama";
        Err(Error::input("config.json", what, remedy))
    };
    if !spec.attention.causal {
        return refuse(
            "the model is an encoder: its tokens see what follows, it continues no text",
        );
    }
    if !matches!(spec.head, HeadSpec::Lm { .. }) {
        return refuse("the model has no language-model head");
    }
    match spec.positions {
        PositionSpec::LearnedFromIds { .. } | PositionSpec::Relative { .. } => {
            refuse("its scheme of positions is one of encoders")
        }
        _ => Ok(()),
    }
}

/// Refuses edits that cannot hold for every token of a growing text.
pub fn check_edits(spec: &ModelSpec, edits: &BTreeMap<Site, Vec<Edit>>) -> Result<()> {
    refuse_head(edits)?;
    for (&site, edits) in edits {
        let place = format!("edit of {site}");
        if !spec.has_site(site) || site.kind == SiteKind::AttnProbs {
            let what = "the model has no such site, or it can only be read";
            return Err(Error::config(place, what, "see `electrode inspect MODEL`"));
        }
        if edits.iter().any(|edit| edit.tokens.is_some()) {
            let what = "tokens of a batch are named, but a text grows token by token";
            return Err(Error::config(place, what, "edit every token"));
        }
        for edit in edits {
            edit.check(&place, (1, spec.site_width(site)))?;
        }
    }
    Ok(())
}

impl<O: SuffixOps> Decoder<O> {
    /// Uploads the weights and makes the buffers.
    pub fn new(ops: O, model: &Model, limits: DecodeLimits) -> Result<Self> {
        let spec = &model.spec;
        check_model(spec)?;
        let DecodeLimits { slots, capacity, tokens } = limits;
        assert!(slots > 0 && capacity > 0 && tokens >= slots.max(capacity), "{limits:?}");
        let most = spec.max_tokens.unwrap_or(usize::MAX);
        if capacity > most {
            let what = format!("sequences of {capacity} tokens");
            return Err(Error::config("max-tokens", what, format!("the model takes {most}")));
        }
        let nothing = BTreeSet::new();
        let bounds = Limits { tokens, sequence: capacity };
        let forward = Forward::build(ops, model, bounds, (&nothing, true, false))?;
        let width = 2 * spec.attention.kv_heads * spec.attention.head_width;
        let rows = slots * capacity;
        let pasts = (0..spec.layers).map(|_| {
            let mut kv = forward.ops.tensor(rows, width)?;
            forward.ops.set_rows(&mut kv, rows);
            Ok(kv)
        });
        let pasts = pasts.collect::<Result<_>>()?;
        let head = LastRows::new(&forward, tokens)?;
        Ok(Self { forward, limits, pasts, lengths: vec![0; slots], head })
    }

    /// The model's description.
    pub fn spec(&self) -> &ModelSpec {
        &self.forward.spec
    }

    /// What it was made for.
    pub fn limits(&self) -> DecodeLimits {
        self.limits
    }

    /// Tokens that a slot holds.
    pub fn length(&self, slot: u32) -> usize {
        self.lengths[slot as usize] as usize
    }

    /// Empties a slot.
    pub fn clear(&mut self, slot: u32) {
        self.lengths[slot as usize] = 0;
    }

    /// Runs new tokens after those that their slots hold, under edits that act at all of them, and
    /// gives the logits of the last one of each, `[A, V]` row-major.
    ///
    /// # Panics
    /// If there is no room: more tokens than a batch or a slot takes, a slot that is named twice, or
    /// slots that share tokens and are not empty.
    pub fn advance(
        &mut self,
        appends: &[Append<'_>],
        edits: &BTreeMap<Site, Vec<Edit>>,
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let batch = self.pack(appends);
        let nothing = BTreeSet::new();
        let mut sites = SiteWork { wanted: &nothing, edits, visitor: &mut Nobody };
        refuse_head(edits)?;
        let input = ForwardInput {
            tokens: &batch.tokens,
            starts: &batch.starts,
            token_types: None,
            positions: Some(&batch.positions),
        };
        let mut cache = OnCache::<O> { pasts: &mut self.pasts, batch: &batch };
        self.forward.run_trunk(input, Some(&mut cache), &mut sites)?;
        for append in appends {
            for &slot in append.slots {
                self.lengths[slot as usize] += number(append.tokens.len());
            }
        }
        self.head.logits(&self.forward, &batch.last, logits)
    }

    fn pack(&self, appends: &[Append<'_>]) -> Packed {
        let capacity = number(self.limits.capacity);
        let mut batch = Packed { starts: vec![0], ..Packed::default() };
        let mut seen = BTreeSet::new();
        for Append { slots, tokens } in appends {
            assert!(!slots.is_empty() && !tokens.is_empty(), "nothing is appended");
            let (first, count) = (number(batch.tokens.len()), number(tokens.len()));
            let past = self.lengths[slots[0] as usize];
            assert!(past + count <= capacity, "{past} and {count} tokens in a slot of {capacity}");
            batch.pasts.push([slots[0] * capacity, past]);
            for &slot in *slots {
                assert!(seen.insert(slot), "slot {slot} is named twice");
                let shared = slots.len() == 1 || self.lengths[slot as usize] == 0;
                assert!(shared, "slot {slot} shares tokens and is not empty");
                batch.stored.extend(first..first + count);
                batch.rows.extend((slot * capacity + past..).take(count as usize));
            }
            batch.tokens.extend_from_slice(tokens);
            batch.positions.extend(past..past + count);
            batch.starts.push(first + count);
            batch.last.push(first + count - 1);
        }
        batch
    }

    /// Log-probabilities of the tokens of whole sequences from a token on, each at least 1, one
    /// after the other, in nats. Slots are left as they are.
    ///
    /// # Panics
    /// If the sequences have more tokens than a batch takes.
    pub fn log_probs(
        &mut self,
        sequences: &[(&[u32], usize)],
        edits: &BTreeMap<Site, Vec<Edit>>,
    ) -> Result<Vec<f32>> {
        let (mut tokens, mut starts) = (Vec::new(), vec![0]);
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for &(sequence, from) in sequences {
            assert!(from > 0, "a first token follows nothing");
            let first = number(tokens.len());
            rows.extend((first + number(from) - 1..).take(sequence.len() - from));
            targets.extend_from_slice(&sequence[from..]);
            tokens.extend_from_slice(sequence);
            starts.push(number(tokens.len()));
        }
        let nothing = BTreeSet::new();
        let mut sites = SiteWork { wanted: &nothing, edits, visitor: &mut Nobody };
        refuse_head(edits)?;
        let input =
            ForwardInput { tokens: &tokens, starts: &starts, token_types: None, positions: None };
        self.forward.run_trunk(input, None, &mut sites)?;
        self.head.log_probs(&self.forward, (&rows, &targets))
    }
}

impl<O: SuffixOps> LastRows<O> {
    fn new(model: &Forward<O>, tokens: usize) -> Result<Self> {
        let (ops, spec) = (&model.ops, &model.spec);
        let room = piece_rows(spec.vocab, tokens);
        Ok(Self {
            steps: HeadSteps::of(&spec.head),
            room,
            hidden: Hidden::new(ops, (spec, &model.weights), room)?,
            logits: ops.tensor(room, spec.vocab)?,
            scores: ops.exact_tensor(room, SCORES)?,
            ones: vec![1; room],
        })
    }

    /// The logits of a piece of rows, on the device.
    fn piece(&mut self, model: &Forward<O>, rows: &[u32]) {
        self.hidden.set_rows(&model.ops, rows.len());
        model.ops.set_rows(&mut self.logits, rows.len());
        self.hidden.forward(model, (rows, &self.ones), self.steps);
        logits_of(model, (self.hidden.last(), self.steps.softcap), &mut self.logits);
    }

    fn logits(&mut self, model: &Forward<O>, rows: &[u32], out: &mut Vec<f32>) -> Result<()> {
        out.clear();
        let mut values = Vec::new();
        for rows in rows.chunks(self.room) {
            self.piece(model, rows);
            model.ops.read(&self.logits, &mut values)?;
            out.extend_from_slice(&values);
        }
        model.ops.check()
    }

    fn log_probs(
        &mut self,
        model: &Forward<O>,
        (rows, targets): (&[u32], &[u32]),
    ) -> Result<Vec<f32>> {
        let (mut all, mut values) = (Vec::with_capacity(rows.len()), Vec::new());
        for (rows, targets) in rows.chunks(self.room).zip(targets.chunks(self.room)) {
            self.piece(model, rows);
            model.ops.set_rows(&mut self.scores, rows.len());
            let against = Against { targets, foils: None, reference: None };
            model.ops.score(&against, &self.logits, (0, &mut self.scores));
            model.ops.read(&self.scores, &mut values)?;
            all.extend(values.chunks_exact(SCORES).map(|row| row[0]));
        }
        model.ops.check()?;
        Ok(all)
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("a cache has fewer than 2^32 rows")
}
