//! Texts of free vectors or of tokens, run together: what a neuron does in each, and the gradient
//! with respect to the vectors of its tokens.
//!
//! What climbs for a neuron behind a nonlinearity is its argument, `mlp_pre`: wherever the neuron can
//! be above 0 its largest value is at the same place, and there is a way up from where the
//! nonlinearity is flat (ReLU) or turns (left of their minimum, GELU and SiLU rise towards 0 the
//! wrong way, and ascent would stay there). In a gated MLP `mlp_act` is a product with another
//! branch, and climbs itself.

use std::collections::{BTreeMap, BTreeSet};

use super::embedding::EmbeddingModule;
use crate::device::backward::{Differentiable, GradientView, GradientVisitor, GradientWork};
use crate::device::forward::{ForwardInput, SiteWork};
use crate::device::gradient_ops::{GradientOps, Metric};
use crate::device::ops::{Edit, Epilogue, Ops, Write};
use crate::device::position_rows;
use crate::device::score::Scoring;
use crate::device::site_view::{SiteView, SiteVisitor};
use crate::error::Result;
use crate::id::{Site, SiteKind};
use crate::model::Model;

/// Where a neuron is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// At the last free position.
    #[default]
    Last,
    /// At the free position where it is largest.
    Any,
}

/// What stands around the free positions of every text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Special tokens before.
    pub before: Vec<u32>,
    /// Special tokens after.
    pub after: Vec<u32>,
    /// Free positions L.
    pub length: usize,
}

impl Frame {
    /// Tokens of a text.
    pub fn tokens(&self) -> usize {
        self.before.len() + self.length + self.after.len()
    }
}

/// Texts to be run: R of them.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// The neuron that is read in each, a column of the site, `[R]`.
    pub neurons: &'a [u32],
    /// Tokens at the free positions, `[R, L]`. Beside vectors: what these stand for, which only the
    /// fluency reads.
    pub tokens: &'a [u32],
    /// Free vectors in their place, `[R, L, E]`, see [`EmbeddingModule`].
    pub vectors: Option<&'a [f32]>,
}

/// What was found in texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// x_n, `[R]`.
    pub values: Vec<f32>,
    /// What climbs for it, `[R]`: x_n, or the argument of its nonlinearity.
    pub climbs: Vec<f32>,
    /// The free position where it is read, `[R]`.
    pub at: Vec<usize>,
    /// Mean log p of the tokens at free positions, nats, `[R]`; 0 unless fluency is asked for.
    pub fluency: Vec<f32>,
    /// Gradient of what climbs + w * fluency with respect to the token vectors, `[R, L, E]`; empty unless
    /// asked for.
    pub gradient: Vec<f32>,
}

impl Found {
    /// What climbs + w * fluency, `[R]`.
    pub fn objective(&self, weight: f32) -> Vec<f32> {
        self.climbs.iter().zip(&self.fluency).map(|(x, p)| x + weight * p).collect()
    }
}

/// Buffers for the neurons of one site.
struct Reading<O: Ops> {
    site: Site,
    /// Where their gradients come from, see the module; as wide.
    climbs: Site,
    /// `[1, N]` ones: a sum over the columns.
    ones: O::Matrix,
    /// 1 where a neuron may be read, `[T, N]`.
    mask: O::Tensor,
    product: O::Tensor,
    /// `[T, 1]`.
    picked: O::Tensor,
    /// Of either site, by token.
    on_host: BTreeMap<Site, Vec<f32>>,
}

/// A model and the texts it is asked about.
pub struct Ascent<O: GradientOps> {
    run: Differentiable<O>,
    module: EmbeddingModule,
    frame: Frame,
    at: At,
    /// Weight w of the fluency.
    weight: f32,
    reading: Reading<O>,
    /// 1 where a neuron was read, by site, `[T, N]`.
    seeds: BTreeMap<Site, O::Tensor>,
}

/// Texts end to end.
struct Packed {
    tokens: Vec<u32>,
    starts: Vec<u32>,
    /// Tokens at free positions, `[R * L]`.
    free: Vec<u32>,
    /// Rows of the position table of those.
    rows: Option<Vec<u32>>,
}

impl<O: GradientOps> Ascent<O> {
    /// About neurons of a site; `weight` is that of the fluency, 0 for none.
    pub fn new(
        run: Differentiable<O>,
        model: &Model,
        (frame, at, weight): (Frame, At, f32),
        site: Site,
    ) -> Result<Self> {
        let module = EmbeddingModule::new(model)?;
        let (reading, seed) = Reading::new(&run, site)?;
        let seeds = BTreeMap::from([(reading.climbs, seed)]);
        Ok(Self { run, module, frame, at, weight, reading, seeds })
    }

    /// Goes on with neurons of another site.
    pub fn read_at(&mut self, site: Site) -> Result<()> {
        if self.reading.site != site {
            let (reading, seed) = Reading::new(&self.run, site)?;
            self.seeds = BTreeMap::from([(reading.climbs, seed)]);
            self.reading = reading;
        }
        Ok(())
    }

    /// The device.
    pub fn ops(&self) -> &O {
        self.run.ops()
    }

    /// What stands around the free positions.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Texts that are run at once.
    pub fn room(&self) -> usize {
        (self.run.limits().tokens / self.frame.tokens()).max(1)
    }

    /// Runs texts, as many at once as there is room for.
    ///
    /// # Panics
    /// If a gradient is asked for without vectors.
    pub fn ask(&mut self, texts: Texts<'_>, gradient: bool) -> Result<Found> {
        let (room, free) = (self.room(), self.frame.length);
        let mut all = Found::default();
        for first in (0..texts.neurons.len()).step_by(room) {
            let rows = first..(first + room).min(texts.neurons.len());
            let cells = rows.start * free..rows.end * free;
            let width = self.module.width();
            let part = Texts {
                neurons: &texts.neurons[rows],
                tokens: &texts.tokens[cells.clone()],
                vectors: texts.vectors.map(|all| &all[cells.start * width..cells.end * width]),
            };
            let found = self.ask_part(part, gradient)?;
            all.values.extend(found.values);
            all.climbs.extend(found.climbs);
            all.at.extend(found.at);
            all.fluency.extend(found.fluency);
            all.gradient.extend(found.gradient);
        }
        Ok(all)
    }

    fn ask_part(&mut self, texts: Texts<'_>, gradient: bool) -> Result<Found> {
        let packed = self.pack(texts);
        let input = packed.input();
        let mut edits = BTreeMap::new();
        if let Some(vectors) = texts.vectors {
            let stream = self.module.forward(vectors, packed.rows.as_deref());
            let tokens = Some(packed.free.clone());
            let edit = Edit { columns: None, tokens, write: Write::Rows(stream) };
            edits.insert(Site::global(SiteKind::Embeddings), vec![edit]);
        }
        let (free, at) = (self.frame.length, self.at);
        let candidates = |row: usize| match at {
            At::Last => (row + 1) * free - 1..(row + 1) * free,
            At::Any => row * free..(row + 1) * free,
        };
        let places = |row: usize| candidates(row).map(|cell| packed.free[cell]);
        self.reading.mark(self.run.ops(), (texts.neurons, places), packed.tokens.len());
        let wanted = BTreeSet::from([self.reading.site, self.reading.climbs]);
        let mut sites = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut self.reading };
        self.run.run(input, &mut sites)?;
        let [values, climbs] = [self.reading.site, self.reading.climbs]
            .map(|site| packed.of_free(&self.reading.on_host[&site]));
        let best = |row: usize| {
            let higher = |a: usize, b: usize| if climbs[b] > climbs[a] { b } else { a };
            candidates(row).reduce(higher).expect("L >= 1")
        };
        let chosen: Vec<usize> = (0..texts.neurons.len()).map(best).collect();
        let [values, climbs] =
            [values, climbs].map(|all| chosen.iter().map(|&cell| all[cell]).collect());
        let at = chosen.iter().enumerate().map(|(row, cell)| cell - row * free).collect();
        let fluency = self.fluency(&packed, gradient)?;
        let gradient = match (gradient, texts.vectors) {
            (false, _) => Vec::new(),
            (true, vectors) => {
                let vectors = vectors.expect("a gradient is asked for at vectors");
                self.gradient((texts.neurons, vectors), &packed, &chosen, &edits)?
            }
        };
        Ok(Found { values, climbs, at, fluency, gradient })
    }

    /// Mean log p of the tokens at free positions of each text; the start of the way back, if there
    /// is one. A token at the very beginning of a text has no probability.
    fn fluency(&mut self, packed: &Packed, gradient: bool) -> Result<Vec<f32>> {
        let texts = packed.starts.len() - 1;
        if self.weight == 0.0 {
            return Ok(vec![0.0; texts]);
        }
        let first = packed.starts[..texts].iter().collect::<BTreeSet<_>>();
        let scored: Vec<u32> =
            packed.free.iter().copied().filter(|token| !first.contains(token)).collect();
        let rows: Vec<u32> = scored.iter().map(|token| token - 1).collect();
        let targets: Vec<u32> = scored.iter().map(|&at| packed.tokens[at as usize]).collect();
        let each = scored.len() / texts;
        #[expect(clippy::cast_precision_loss, reason = "texts are short")]
        let share = 1.0 / each.max(1) as f32;
        let weights = vec![self.weight * share; rows.len()];
        let scoring =
            Scoring { rows: &rows, targets: &targets, foils: None, reference: None, keep: None };
        let how = gradient.then_some((Metric::LogProb, &weights[..]));
        let scores = self.run.score(&packed.starts, scoring, how)?;
        let sum = |scores: &[crate::device::score::Score]| {
            scores.iter().map(|score| score.log_prob * share).sum()
        };
        Ok(match each {
            0 => vec![0.0; texts],
            _ => scores.chunks_exact(each).map(sum).collect(),
        })
    }

    /// From the neurons that were read back to the token vectors.
    fn gradient(
        &mut self,
        (neurons, vectors): (&[u32], &[f32]),
        packed: &Packed,
        chosen: &[usize],
        edits: &BTreeMap<Site, Vec<Edit>>,
    ) -> Result<Vec<f32>> {
        let seed = self.seeds.get_mut(&self.reading.climbs).expect("made with the site");
        let places = |row: usize| std::iter::once(packed.free[chosen[row]]);
        mark(self.run.ops(), (neurons, places), packed.tokens.len(), seed);
        let wanted = BTreeSet::from([Site::global(SiteKind::Embeddings)]);
        let mut kept = Kept { values: Vec::new() };
        let mut work =
            GradientWork { wanted: &wanted, edits, seeds: &self.seeds, visitor: &mut kept };
        self.run.back(packed.input(), &mut work)?;
        let width = self.run.spec().width;
        let row = |&token: &u32| &kept.values[token as usize * width..][..width];
        let stream: Vec<f32> = packed.free.iter().flat_map(row).copied().collect();
        Ok(self.module.backward(vectors, packed.rows.as_deref(), &stream))
    }

    fn pack(&self, texts: Texts<'_>) -> Packed {
        let number = |n: usize| u32::try_from(n).expect("a batch is small");
        let Frame { before, after, length } = &self.frame;
        let mut packed =
            Packed { tokens: Vec::new(), starts: vec![0], free: Vec::new(), rows: None };
        for tokens in texts.tokens.chunks_exact(*length) {
            packed.tokens.extend(before);
            let first = number(packed.tokens.len());
            packed.free.extend((first..).take(*length));
            packed.tokens.extend(tokens);
            packed.tokens.extend(after);
            packed.starts.push(number(packed.tokens.len()));
        }
        let text = number(self.frame.tokens());
        let positions: Vec<u32> = (0..text).cycle().take(packed.tokens.len()).collect();
        let rows = position_rows(self.run.spec(), &packed.tokens, &packed.starts, &positions);
        packed.rows =
            rows.map(|rows| packed.free.iter().map(|&token| rows[token as usize]).collect());
        packed
    }
}

impl Packed {
    /// The numbers of the free positions among those of all tokens.
    fn of_free(&self, all: &[f32]) -> Vec<f32> {
        self.free.iter().map(|&token| all[token as usize]).collect()
    }

    fn input(&self) -> ForwardInput<'_> {
        ForwardInput {
            tokens: &self.tokens,
            starts: &self.starts,
            token_types: None,
            positions: None,
        }
    }
}

impl<O: GradientOps> Reading<O> {
    /// With the tensor of seeds.
    fn new(run: &Differentiable<O>, site: Site) -> Result<(Self, O::Tensor)> {
        let (ops, tokens) = (run.ops(), run.limits().tokens);
        let width = run.spec().site_width(site);
        let room = || ops.tensor(tokens, width);
        let reading = Self {
            site,
            climbs: climbs_for(site, run.spec().mlp.gated),
            ones: ops.matrix(1, vec![1.0; width], None)?,
            mask: room()?,
            product: room()?,
            picked: ops.tensor(tokens, 1)?,
            on_host: BTreeMap::new(),
        };
        Ok((reading, room()?))
    }

    fn mark<I: Iterator<Item = u32>>(
        &mut self,
        ops: &O,
        what: (&[u32], impl Fn(usize) -> I),
        tokens: usize,
    ) {
        mark(ops, what, tokens, &mut self.mask);
        ops.set_rows(&mut self.product, tokens);
        ops.set_rows(&mut self.picked, tokens);
    }
}

/// Where the gradients of neurons of a site come from.
fn climbs_for(site: Site, gated: bool) -> Site {
    let behind = match site.kind {
        SiteKind::MlpGate => true,
        SiteKind::MlpAct => !gated,
        _ => false,
    };
    if behind { Site { kind: SiteKind::MlpPre, ..site } } else { site }
}

/// 1 in the columns of neurons at the tokens of their texts, 0 elsewhere.
fn mark<O: Ops, I: Iterator<Item = u32>>(
    ops: &O,
    (neurons, places): (&[u32], impl Fn(usize) -> I),
    tokens: usize,
    out: &mut O::Tensor,
) {
    let set = |columns, tokens, value| Edit { columns, tokens, write: Write::Set(vec![value]) };
    ops.set_rows(out, tokens);
    ops.edit(&set(None, None, 0.0), out);
    let mut by_neuron: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (row, neuron) in neurons.iter().enumerate() {
        by_neuron.entry(*neuron).or_default().extend(places(row));
    }
    for (neuron, tokens) in by_neuron {
        ops.edit(&set(Some(vec![neuron]), Some(tokens), 1.0), out);
    }
}

impl<O: Ops> SiteVisitor<O> for Reading<O> {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> Result<()> {
        ops.multiply(view.values, &self.mask, &mut self.product);
        ops.linear(&self.ones, &self.product, Epilogue::Store, &mut self.picked);
        ops.read(&self.picked, self.on_host.entry(view.site).or_default())
    }
}

/// Keeps one gradient.
struct Kept {
    values: Vec<f32>,
}

impl<O: Ops> GradientVisitor<O> for Kept {
    fn visit(&mut self, ops: &O, view: &GradientView<'_, O>) -> Result<()> {
        ops.read(view.gradient, &mut self.values)
    }
}
