//! Gradients at every kind of site, and back through every kind of edit.
//! Oracle: differences of the losses, of fourth order in the step. Bound: 1e-3 of the site's largest
//! gradient (O-grad).

use std::collections::{BTreeMap, BTreeSet};

use electrode::capture::collect::Collector;
use electrode::device::backward::{Differentiable, GradientWork, has_gradient};
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::SiteWork;
use electrode::device::gradient_ops::Metric;
use electrode::device::ops::{Edit, Write};
use electrode::device::score::Scoring;
use electrode::device::site_view::Nobody;
use electrode::id::{Site, SiteKind};
use electrode::model::Model;
use safetensors::SafeTensors;

use super::fixture::{embedded, shared};
use super::gradients::{Keeper, Packed};
use crate::laws::data::Random;

const BOUND: f64 = 1e-3;
/// A step moves the loss by so much at most, whose rounding is about 1e-6,
const MOVE: f32 = 0.03;
/// and is at most this share of what the values of the site are on average.
const SHARE: f32 = 0.04;

type Edits = BTreeMap<Site, Vec<Edit>>;

/// One number of a site.
#[derive(Clone, Copy)]
struct Element {
    site: Site,
    token: usize,
    column: usize,
}

/// A fixture whose losses can be asked for again and again.
struct Case {
    run: Differentiable<CpuDevice>,
    packed: Packed,
    rows: Vec<u32>,
    targets: Vec<u32>,
    sites: BTreeSet<Site>,
}

impl Case {
    /// None if the fixture is not there.
    fn open(name: &str) -> Option<Self> {
        let folders = [embedded().join(name), shared().join(name)];
        let Some(folder) = folders.into_iter().find(|folder| folder.is_dir()) else {
            eprintln!("skipped: {name} is not there");
            return None;
        };
        let model = Model::open_with_config(&folder, &folder.join("config.json")).expect("opens");
        let bytes = std::fs::read(folder.join("expected.safetensors")).expect("fixture");
        let file = SafeTensors::deserialize(&bytes).expect("fixture");
        let meta = std::fs::read_to_string(folder.join("meta.json")).expect("meta");
        let meta: serde_json::Value = serde_json::from_str(&meta).expect("meta");
        let packed = Packed::of(&file);
        let (rows, targets) = packed.scored(meta["objective"].as_str().expect("one"), &file);
        let sites = model.spec.sites().into_iter().filter(|&site| has_gradient(site)).collect();
        let nothing = BTreeSet::new();
        let run = Differentiable::new(CpuDevice::F32, &model, packed.limits(), (&nothing, true));
        Some(Self { run: run.expect("fits"), packed, rows, targets, sites })
    }

    /// The loss of each row, and the values of the sites that are wanted.
    fn losses(
        &mut self,
        edits: &Edits,
        wanted: &BTreeSet<Site>,
        gradient: bool,
    ) -> (Vec<f64>, BTreeMap<Site, Vec<f32>>) {
        let mut collector = Collector::default();
        let mut sites = SiteWork { wanted, edits, visitor: &mut collector };
        self.run.run(self.packed.input(), &mut sites).expect("runs");
        let (rows, targets) = (&self.rows[..], &self.targets[..]);
        let scoring = Scoring { rows, targets, foils: None, reference: None, keep: None };
        let weights = vec![1.0; rows.len()];
        let gradient = gradient.then_some((Metric::Loss, &weights[..]));
        let scores = self.run.score(&self.packed.starts, scoring, gradient).expect("scores");
        (scores.iter().map(|score| f64::from(-score.log_prob)).collect(), collector.sites)
    }

    /// Gradients and values.
    fn gradients(
        &mut self,
        edits: &Edits,
        wanted: &BTreeSet<Site>,
    ) -> BTreeMap<Site, (Vec<f32>, Vec<f32>)> {
        let (_, mut values) = self.losses(edits, wanted, true);
        let mut keeper = Keeper::default();
        let seeds = BTreeMap::new();
        let mut work = GradientWork { wanted, edits, seeds: &seeds, visitor: &mut keeper };
        self.run.back(self.packed.input(), &mut work).expect("goes back");
        assert!(keeper.0.keys().eq(wanted), "each site's gradient is shown");
        let both = |(site, g)| (site, (g, values.remove(&site).expect("it was wanted")));
        keeper.0.into_iter().map(both).collect()
    }

    /// dL/dx by differences; none if entries of `watched` become 0 or a bound of a clamp, or cease to be,
    /// on the way.
    fn slope(
        &mut self,
        edits: &Edits,
        Element { site, token, column }: Element,
        step: f32,
        watched: Option<Site>,
    ) -> Option<f64> {
        let watched: BTreeSet<Site> = watched.into_iter().collect();
        let clamps = watched.iter().filter_map(|site| edits.get(site)).flatten();
        let bounds: BTreeSet<u32> = clamps
            .filter_map(|edit| match &edit.write {
                Write::Clamp { low, high } => Some(low.iter().chain(high).map(|x| x.to_bits())),
                _ => None,
            })
            .flatten()
            .collect();
        // A kept value at a bound and a dropped one are two things: between them the loss jumps.
        let mut fixed: Option<Vec<Option<u32>>> = None;
        let mut slope = 0.0;
        for (steps, weight) in [(-2.0, 1.0), (-1.0, -8.0), (1.0, 8.0), (2.0, -1.0)] {
            let mut edits = edits.clone();
            let number = |n: usize| Some(vec![u32::try_from(n).expect("small")]);
            let write = Write::Add(vec![steps * step]);
            let edit = Edit { columns: number(column), tokens: number(token), write };
            edits.entry(site).or_default().push(edit);
            let (losses, values) = self.losses(&edits, &watched, false);
            slope += weight * losses.iter().sum::<f64>();
            let held = |x: &f32| {
                let bits = (x + 0.0).to_bits();
                (*x == 0.0 || bounds.contains(&bits)).then_some(bits)
            };
            let found: Vec<Option<u32>> = values.values().flatten().map(held).collect();
            if fixed.replace(found.clone()).is_some_and(|before| before != found) {
                return None;
            }
        }
        Some(slope / (12.0 * f64::from(step)))
    }
}

/// Compares the largest gradients of a site and some others with differences, and says how many.
fn compare(
    case: &mut Case,
    edits: &Edits,
    site: Site,
    (g, values): &(Vec<f32>, Vec<f32>),
    watched: Option<Site>,
) -> usize {
    let width = g.len() / case.packed.tokens.len();
    let largest = g.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    assert!(largest > 0.0, "{site}");
    let square = |sum: f32, x: &f32| sum + x * x;
    let size = (values.iter().fold(0.0, square) / values.len() as f32).sqrt();
    let step = (MOVE / largest).min(SHARE * size);
    let mut order: Vec<usize> = (0..g.len()).collect();
    order.sort_by(|&a, &b| g[b].abs().total_cmp(&g[a].abs()));
    let mut random = Random(7);
    let others = (0..3).map(|_| random.below(g.len() as u64) as usize);
    let chosen: Vec<usize> = order[..3.min(order.len())].iter().copied().chain(others).collect();
    let mut compared = 0;
    for at in chosen {
        let element = Element { site, token: at / width, column: at % width };
        let Some(slope) = case.slope(edits, element, step, watched) else { continue };
        let error = (slope - f64::from(g[at])).abs() / f64::from(largest);
        assert!(error <= BOUND, "{site} at {at}: {slope:e} by differences, {:e}, {error:e}", g[at]);
        compared += 1;
    }
    compared
}

const FIXTURES: [&str; 7] = [
    "gpt2-tied",
    "bert-tokcls",
    "gemma2-softcap",
    "gpt_neox-parallel",
    "phi-qknorm-gqa",
    "bloom-postln",
    "qwen3-qknorm",
];

#[test]
fn gradients_at_every_kind_of_site_are_slopes_of_the_loss() {
    let mut kinds = BTreeSet::new();
    for name in FIXTURES {
        let Some(mut case) = Case::open(name) else { continue };
        let sites = case.sites.clone();
        for (site, found) in case.gradients(&Edits::new(), &sites) {
            let compared = compare(&mut case, &Edits::new(), site, &found, None);
            assert_eq!(compared, 6, "{name}: {site}");
            kinds.insert(site.kind);
        }
    }
    let every = SiteKind::ALL.iter().filter(|(kind, _)| !kinds.contains(kind));
    let left: Vec<&str> = every.map(|(_, name)| *name).collect();
    let none = ["embeddings_narrow", "attn_probs", "head_hidden", "pooled", "logits"];
    assert_eq!(left, none, "every other kind was compared");
}

/// Each kind of edit in the middle of a layer, some on part of it.
fn edits_of(width: usize, tokens: usize) -> Vec<Write> {
    let mut random = Random(11);
    let mut normal = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<f32>>();
    vec![
        Write::Set(vec![0.3]),
        Write::Set(normal(width)),
        Write::Scale(-0.7),
        Write::Add(normal(width)),
        Write::Rows(normal(width * tokens)),
        Write::project(&normal(width)).expect("a direction"),
        Write::Blend {
            gates: (0..width).map(|i| [0.2, 1.0, 0.0, 0.9][i % 4]).collect(),
            towards: normal(width),
        },
    ]
}

/// Part of the columns and tokens, so that something passes beside the edit.
fn part(write: impl Fn(usize, usize) -> Write, width: usize, tokens: usize) -> Edit {
    let every = |n: usize, step: usize| -> Vec<u32> { (0..n as u32).rev().step_by(step).collect() };
    let (columns, tokens) = (every(width, 2), every(tokens, 3));
    let write = write(columns.len(), tokens.len());
    Edit { columns: Some(columns), tokens: Some(tokens), write }
}

#[test]
fn gradients_go_back_through_every_kind_of_edit() {
    for name in ["gpt2-tied", "qwen3-qknorm", "phi-qknorm-gqa"] {
        let Some(mut case) = Case::open(name) else { continue };
        let tokens = case.packed.tokens.len();
        let of = |kind| Site::of_layer(0, kind);
        let wanted: BTreeSet<Site> =
            [Site::global(SiteKind::Embeddings), of(SiteKind::AttnOut), of(SiteKind::MlpPre)]
                .into();
        for kind in [SiteKind::HeadOut, SiteKind::MlpAct, SiteKind::ResidPost] {
            let width = case.run.spec().site_width(of(kind));
            let choices = edits_of(width, tokens).len();
            let mut all: Vec<Edit> = (0..choices)
                .map(|i| part(|cols, rows| edits_of(cols, rows)[i].clone(), width, tokens))
                .collect();
            let last: Vec<Edit> = [2, 5, 6, 3].map(|i| all[i].clone()).into();
            let mut cases: Vec<Vec<Edit>> = all.drain(..).map(|edit| vec![edit]).collect();
            // One after the other: the way back takes them in the other order.
            cases.push(last);
            for edits in cases {
                let edits: Edits = [(of(kind), edits)].into();
                for (site, found) in case.gradients(&edits, &wanted) {
                    let compared = compare(&mut case, &edits, site, &found, None);
                    assert_eq!(compared, 6, "{name}: {site} under {kind:?}");
                }
            }
        }
    }
}

/// Where other entries are among the largest at one step and the next, there is no slope.
#[test]
fn gradients_go_back_through_the_largest_alone() {
    for name in ["gpt2-tied", "qwen3-qknorm"] {
        let Some(mut case) = Case::open(name) else { continue };
        let act = Site::of_layer(0, SiteKind::MlpAct);
        let width = case.run.spec().site_width(act);
        let keep = |k: usize| Edit { columns: None, tokens: None, write: Write::KeepTop(k) };
        let scale = Edit { columns: None, tokens: None, write: Write::Scale(1.5) };
        let wanted: BTreeSet<Site> = [Site::of_layer(0, SiteKind::MlpPre), act].into();
        let upper = part(|_, _| Write::KeepTop(width / 8), width, case.packed.tokens.len());
        for edits in [vec![keep(width / 4)], vec![scale, upper, keep(width / 3)]] {
            let edits: Edits = [(act, edits)].into();
            let mut slopes = 0;
            for (site, found) in case.gradients(&edits, &wanted) {
                let watched = (site != act).then_some(act);
                slopes += compare(&mut case, &edits, site, &found, watched);
            }
            assert!(slopes >= 8, "{name}: {slopes} of 12");
        }
    }
}

/// What a clamp wrote does not move with what is below it; what it left does.
#[test]
fn gradients_go_back_within_bounds_alone() {
    for name in ["gpt2-tied", "qwen3-qknorm"] {
        let Some(mut case) = Case::open(name) else { continue };
        let act = Site::of_layer(0, SiteKind::MlpAct);
        let width = case.run.spec().site_width(act);
        let clamp = |by: f32| {
            let number = |n: usize| by * (1.0 + (n % 5) as f32);
            let (low, high) = (0..width).map(|n| (-number(n), number(n + 2))).unzip();
            Edit { columns: None, tokens: None, write: Write::Clamp { low, high } }
        };
        let keep = Edit { columns: None, tokens: None, write: Write::KeepTop(width - width / 8) };
        let wanted: BTreeSet<Site> =
            [Site::of_layer(0, SiteKind::MlpPre), Site::of_layer(0, SiteKind::ResidPre)].into();
        for edits in [vec![clamp(0.02)], vec![clamp(0.02), keep, clamp(0.01)]] {
            // Where neurons are dropped too, more elements have a jump beside them.
            let least = if edits.len() == 1 { 3 } else { 1 };
            let edits: Edits = [(act, edits)].into();
            let mut slopes = 0;
            for (site, found) in case.gradients(&edits, &wanted) {
                eprintln!("{name}, {} edits, {site}", edits[&act].len());
                slopes += compare(&mut case, &edits, site, &found, Some(act));
            }
            assert!(slopes >= least, "{name}: {slopes} of 12");
        }
    }
}

#[test]
fn what_has_no_way_back_is_refused() {
    let mut case = Case::open("gpt2-tied").expect("embedded");
    let keep = Edit { columns: None, tokens: None, write: Write::KeepTop(3) };
    let add = Edit { columns: None, tokens: None, write: Write::Add(vec![1.0]) };
    let of = |kind| Site::of_layer(1, kind);
    let embeddings = Site::global(SiteKind::Embeddings);
    for (site, edits, wanted, word) in [
        (of(SiteKind::ResidMid), vec![keep.clone()], embeddings, "keeps the largest"),
        (of(SiteKind::MlpAct), vec![keep.clone(), add], embeddings, "keeps the largest"),
        (of(SiteKind::MlpAct), vec![], of(SiteKind::AttnProbs), "has no gradient"),
        (of(SiteKind::MlpAct), vec![], Site::global(SiteKind::Logits), "has no gradient"),
    ] {
        let edits: Edits = [(site, edits)].into();
        case.losses(&edits, &BTreeSet::new(), true);
        let (wanted, seeds) = ([wanted].into(), BTreeMap::new());
        let mut keeper = Keeper::default();
        let mut work =
            GradientWork { wanted: &wanted, edits: &edits, seeds: &seeds, visitor: &mut keeper };
        let error = case.run.back(case.packed.input(), &mut work).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
        assert!(keeper.0.is_empty());
    }
    // An edit of the head would be passed over.
    let edits: Edits = [(Site::global(SiteKind::Logits), vec![keep])].into();
    let wanted = BTreeSet::new();
    let mut sites = SiteWork { wanted: &wanted, edits: &edits, visitor: &mut Nobody };
    let error = case.run.run(case.packed.input(), &mut sites).expect_err("the head").to_string();
    assert!(error.contains("edit of logits"), "{error}");
}
