//! Corpus generation by gradient ascent (Poerner et al. 2018; the survey's 3.5): texts made to drive
//! a neuron as high as it goes. Relaxed texts climb by Adam, many restarts of many neurons of a site
//! in one batch; each position is then snapped to a token and the discrete text is run again, for the
//! relaxed optimum often collapses there.
//!
//! One position's vector described by its nearest words is `textualize` (Baeumel et al. 2023).

pub mod ascent;
mod check;
pub mod embedding;
pub mod refine;
pub mod relax;
pub mod vocabulary;

use std::collections::{BTreeMap, BTreeSet};

pub use self::check::check;

use self::ascent::{Ascent, At, Texts};
use self::check::{check_frame, frame};
use self::refine::refine;
use self::relax::{Adam, Relaxed, Variant};
use self::vocabulary::Vocabulary;
use crate::device::backward::Differentiable;
use crate::device::forward::Limits;
use crate::device::gradient_ops::GradientOps;
use crate::error::Result;
use crate::hash::{GAMMA, mix};
use crate::id::{NeuronId, Site, SiteKind};
use crate::model::{Model, ModelSpec};

/// Weights over the vocabulary that are moved at once, at most, unless one text has more.
const CELLS: usize = 1 << 26;

/// How texts are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What is moved.
    pub variant: Variant,
    /// Where the neuron is read.
    pub at: At,
    /// Free positions.
    pub length: usize,
    /// Steps of Adam.
    pub steps: u32,
    /// Its rate; of free vectors in units of the root mean square of the token table, so that a
    /// model's scale does not matter.
    pub rate: f32,
    /// Temperature of the first and the last step, geometric between them.
    pub temperature: (f32, f32),
    /// Texts for each neuron.
    pub restarts: u32,
    /// Rounds of one-token changes after snapping.
    pub refine: u32,
    /// Weight of the mean log p of the text's tokens beside x_n; 0 for none.
    pub fluency: f32,
    /// Nearest tokens to each free vector that are told; 0 for none.
    pub nearest: usize,
    /// Of everything that is drawn.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            variant: Variant::Embed,
            at: At::Last,
            length: 8,
            steps: 500,
            rate: 0.1,
            temperature: (1.0, 0.1),
            restarts: 8,
            refine: 0,
            fluency: 0.0,
            nearest: 0,
            seed: 0,
        }
    }
}

/// A text that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Maximized {
    /// For which neuron.
    pub neuron: NeuronId,
    /// Number of the text, from 0.
    pub restart: u32,
    /// x_n on the random text that belongs to the restart: what chance gives.
    pub random: f32,
    /// x_n at the relaxed optimum.
    pub relaxed: f32,
    /// x_n on the snapped text.
    pub snapped: f32,
    /// x_n on the text as it is told, after refinement.
    pub discrete: f32,
    /// What climbed for it there: x_n, or the argument of its nonlinearity, see [`ascent`].
    pub climbed: f32,
    /// The free position where that is read.
    pub at: usize,
    /// Mean log p of its tokens, nats; none without a weight of fluency.
    pub fluency: Option<f32>,
    /// The tokens at the free positions, `[L]`.
    pub tokens: Vec<u32>,
    /// The nearest tokens to each free vector with their cosines, `[L]`; empty unless asked for.
    pub nearest: Vec<Vec<(u32, f64)>>,
}

/// What became of a neuron.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its texts, best first.
    Texts(Vec<Maximized>),
    /// It is the same on every random text, and no gradient leads away: nothing was made.
    Constant(NeuronId, f32),
}

/// Blocks of the model that have to be run: all for fluency, else up to the last neuron.
pub fn layers_needed(spec: &ModelSpec, neurons: &[NeuronId], fluency: f32) -> usize {
    let of = |neuron: &NeuronId| match neuron.site.layer {
        Some(layer) => layer as usize + 1,
        None if neuron.site.kind == SiteKind::Embeddings => 1,
        None => spec.layers,
    };
    let last = neurons.iter().map(of).max().unwrap_or(spec.layers);
    if fluency == 0.0 { last.min(spec.layers) } else { spec.layers }
}

/// Makes texts for each neuron, in the order asked for, see [`Search`]. `told` hears the share that is
/// done.
pub fn maximize<O: GradientOps>(
    ops: O,
    model: &Model,
    settings: (&Settings, usize),
    asked: Asked<'_>,
    mut told: impl FnMut(f64),
) -> Result<Vec<Outcome>> {
    let mut search = Search::new(ops, model, settings, asked)?;
    let count = asked.0.len();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; count];
    let mut done = 0;
    let numbers: Vec<usize> = (0..count).collect();
    for group in groups((settings.0, asked.0), &numbers, search.ascent.room()) {
        let made = search.texts(&group, |share| {
            told((f64::from(done) + share * group.len() as f64) / count as f64);
        })?;
        group.iter().zip(made).for_each(|(&number, made)| outcomes[number] = Some(made));
        done += u32::try_from(group.len()).expect("neurons are few");
    }
    Ok(outcomes.into_iter().map(|outcome| outcome.expect("every neuron was asked")).collect())
}

/// The neurons, the tokens that texts may be made of, ascending, and the special tokens before and
/// after every text.
pub type Asked<'a> = (&'a [NeuronId], &'a [u32], [&'a [u32]; 2]);

/// Numbers of neurons, in groups of one site each that are asked at once: at most so many texts, but
/// one neuron at least.
pub fn groups(
    (settings, neurons): (&Settings, &[NeuronId]),
    numbers: &[usize],
    texts: usize,
) -> Vec<Vec<usize>> {
    let at_once = (texts / settings.restarts.max(1) as usize).max(1);
    let mut by_site: BTreeMap<Site, Vec<usize>> = BTreeMap::new();
    for &number in numbers {
        by_site.entry(neurons[number].site).or_default().push(number);
    }
    by_site.values().flat_map(|of| of.chunks(at_once).map(<[usize]>::to_vec)).collect()
}

/// A search for texts, ready on a device. Of the model only [`layers_needed`] have to be there.
///
/// The same seed gives the same texts, whatever the threads, and whatever other neurons are asked
/// beside.
pub struct Search<'a, O: GradientOps> {
    ascent: Ascent<O>,
    vocabulary: Vocabulary<O>,
    settings: &'a Settings,
    neurons: &'a [NeuronId],
}

impl<'a, O: GradientOps> Search<'a, O> {
    /// Refuses what cannot be asked of this model.
    pub fn new(
        ops: O,
        model: &Model,
        (settings, batch_tokens): (&'a Settings, usize),
        asked: Asked<'a>,
    ) -> Result<Self> {
        let (neurons, allowed, _) = asked;
        let frame = frame(settings, asked);
        check_frame(model, settings, neurons, &frame)?;
        let vocabulary = Vocabulary::new(&ops, model, allowed.to_vec())?;
        let sites: BTreeSet<Site> = neurons.iter().map(|neuron| neuron.site).collect();
        let limits = Limits { tokens: batch_tokens.max(frame.tokens()), sequence: frame.tokens() };
        let run = Differentiable::new(ops, model, limits, (&sites, settings.fluency != 0.0))?;
        let first = neurons.first().expect("checked").site;
        let ascent = Ascent::new(run, model, (frame, settings.at, settings.fluency), first)?;
        Ok(Self { ascent, vocabulary, settings, neurons })
    }

    /// The outcome of each neuron of a group, in its order. `told` hears the share that is done.
    pub fn texts(&mut self, group: &[usize], mut told: impl FnMut(f64)) -> Result<Vec<Outcome>> {
        let Self { ascent, vocabulary, settings, neurons } = self;
        ascent.read_at(neurons[group[0]].site)?;
        let drawn = group.iter().enumerate().flat_map(|(place, &number)| {
            Climber::of(neurons[number], place, settings, vocabulary.allowed())
        });
        let (climbers, still) = screen(ascent, vocabulary, drawn.collect(), settings)?;
        let mut outcomes = vec![Outcome::Texts(Vec::new()); group.len()];
        for (place, value) in still {
            outcomes[place] = Outcome::Constant(neurons[group[place]], value);
        }
        let cells = (CELLS / (settings.length * vocabulary.size())).max(1);
        let mut done = 0;
        for part in climbers.chunks(ascent.room().min(cells)) {
            let made = climb((&mut *ascent, &mut *vocabulary), settings, part)?;
            for (climber, text) in part.iter().zip(made) {
                if let Outcome::Texts(texts) = &mut outcomes[climber.place] {
                    texts.push(text);
                }
            }
            done += part.len();
            told(done as f64 / climbers.len() as f64);
        }
        for outcome in &mut outcomes {
            if let Outcome::Texts(texts) = outcome {
                let order = |a: &Maximized, b: &Maximized| {
                    b.climbed.total_cmp(&a.climbed).then(a.restart.cmp(&b.restart))
                };
                texts.sort_by(order);
            }
        }
        Ok(outcomes)
    }
}

/// One restart of one neuron.
#[derive(Clone, Debug)]
struct Climber {
    neuron: NeuronId,
    /// Of the neuron in its group.
    place: usize,
    restart: u32,
    /// The random text it begins with, `[L]`.
    tokens: Vec<u32>,
    /// A stream of random numbers for each position.
    streams: Vec<u64>,
    /// x_n on the random text.
    random: f32,
}

impl Climber {
    /// All restarts of a neuron. What is drawn depends on seed, restart and position alone.
    fn of(neuron: NeuronId, place: usize, settings: &Settings, allowed: &[u32]) -> Vec<Self> {
        let stream = |restart: u32, position: usize| {
            let place = (u64::from(restart) << 32) | position as u64;
            mix(mix(settings.seed.wrapping_add(GAMMA)) ^ mix(place.wrapping_add(GAMMA)))
        };
        let token = |stream: u64| {
            let below = (u128::from(mix(stream)) * allowed.len() as u128) >> 64;
            allowed[usize::try_from(below).expect("below their number")]
        };
        let climber = |restart: u32| {
            let streams: Vec<u64> =
                (0..settings.length).map(|position| stream(restart, position)).collect();
            let tokens = streams.iter().map(|&stream| token(stream)).collect();
            Self { neuron, place, restart, tokens, streams, random: 0.0 }
        };
        (0..settings.restarts).map(climber).collect()
    }
}

/// Climbers of neurons that move, and the places of those that do not, with their values.
type Screened = (Vec<Climber>, Vec<(usize, f32)>);

/// Runs the random texts of some neurons, and takes out those that are constant.
fn screen<O: GradientOps>(
    ascent: &mut Ascent<O>,
    vocabulary: &Vocabulary<O>,
    mut climbers: Vec<Climber>,
    settings: &Settings,
) -> Result<Screened> {
    let neurons: Vec<u32> = climbers.iter().map(|climber| climber.neuron.index).collect();
    let tokens: Vec<u32> = climbers.iter().flat_map(|climber| climber.tokens.clone()).collect();
    let vectors = vocabulary.vectors(&tokens);
    let texts = Texts { neurons: &neurons, tokens: &tokens, vectors: Some(&vectors) };
    let found = ascent.ask(texts, true)?;
    let restarts = settings.restarts as usize;
    let gradients = found.gradient.chunks_exact(found.gradient.len() / neurons.len() * restarts);
    let (mut moving, mut still) = (Vec::new(), Vec::new());
    let of_neurons = climbers.chunks_exact_mut(restarts).zip(found.values.chunks_exact(restarts));
    for ((own, values), gradient) in of_neurons.zip(gradients) {
        let same = values.iter().all(|value| value.to_bits() == values[0].to_bits());
        if same && gradient.iter().all(|g| *g == 0.0) {
            still.push((own[0].place, values[0]));
            continue;
        }
        for (climber, value) in own.iter_mut().zip(values) {
            climber.random = *value;
        }
        moving.extend_from_slice(own);
    }
    Ok((moving, still))
}

/// The way up of some climbers at once.
fn climb<O: GradientOps>(
    (ascent, vocabulary): (&mut Ascent<O>, &mut Vocabulary<O>),
    settings: &Settings,
    climbers: &[Climber],
) -> Result<Vec<Maximized>> {
    let neurons: Vec<u32> = climbers.iter().map(|climber| climber.neuron.index).collect();
    let mut tokens: Vec<u32> = climbers.iter().flat_map(|climber| climber.tokens.clone()).collect();
    let streams = climbers.iter().flat_map(|climber| climber.streams.clone()).collect();
    let mut relaxed = Relaxed::new(settings.variant, vocabulary, &tokens, streams);
    let scale = if settings.variant == Variant::Embed { vocabulary.scale() } else { 1.0 };
    let mut adam = Adam::new(relaxed.len(), settings.rate * scale);
    let fluent = settings.fluency != 0.0;
    for step in 0..settings.steps {
        let at = (ascent.ops(), &mut *vocabulary);
        let vectors = relaxed.vectors(at, temperature(settings, step), Some(step))?;
        if fluent {
            tokens = relaxed.snap(ascent.ops(), vocabulary)?;
        }
        let texts = Texts { neurons: &neurons, tokens: &tokens, vectors: Some(&vectors) };
        let found = ascent.ask(texts, true)?;
        relaxed.ascend((ascent.ops(), &mut *vocabulary), &mut adam, &found.gradient)?;
    }
    let last = settings.temperature.1;
    let vectors = relaxed.vectors((ascent.ops(), &mut *vocabulary), last, None)?;
    tokens = relaxed.snap(ascent.ops(), vocabulary)?;
    let texts = Texts { neurons: &neurons, tokens: &tokens, vectors: Some(&vectors) };
    let top = ascent.ask(texts, false)?.values;
    let texts = Texts { vectors: None, ..texts };
    let snapped = ascent.ask(texts, false)?.values;
    let rounds = (settings.refine, settings.fluency);
    refine((&mut *ascent, &mut *vocabulary), &neurons, &mut tokens, rounds)?;
    let texts = Texts { neurons: &neurons, tokens: &tokens, vectors: None };
    let found = ascent.ask(texts, false)?;
    let length = settings.length;
    let mut nearest = match settings.nearest {
        0 => Vec::new(),
        count => vocabulary.nearest(ascent.ops(), &vectors, count)?,
    };
    let text = |(row, climber): (usize, &Climber)| Maximized {
        neuron: climber.neuron,
        restart: climber.restart,
        random: climber.random,
        relaxed: top[row],
        snapped: snapped[row],
        discrete: found.values[row],
        climbed: found.climbs[row],
        at: found.at[row],
        fluency: fluent.then(|| found.fluency[row]),
        tokens: tokens[row * length..][..length].to_vec(),
        nearest: nearest.drain(..length.min(nearest.len())).collect(),
    };
    Ok(climbers.iter().enumerate().map(text).collect())
}

/// Geometric from the first to the last step.
fn temperature(settings: &Settings, step: u32) -> f32 {
    let (from, to) = settings.temperature;
    #[expect(clippy::cast_precision_loss, reason = "few steps")]
    let share = step as f32 / (settings.steps.max(2) - 1) as f32;
    from * (to / from).powf(share)
}
