//! How many neurons a model uses and needs.
//! Oracles: loops in f64 over activations that the forward pass gives; pruned models as whole
//! forward passes whose neurons are written in, layer by layer, with losses in f64 from the logits.

use std::collections::{BTreeMap, BTreeSet};

use electrode::artifact::sparsity::{
    FIRING, FIRING_HISTOGRAM, FiringBinRow, FiringRow, PERPLEXITY, PerplexityRow, SPARSITY,
    SparsityRow,
};
use electrode::artifact::table::read_table;
use electrode::capture::collect::Collector;
use electrode::corpus::batch::Batch;
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use electrode::device::gradient_ops::GradientOps;
use electrode::device::ops::{Edit, Write};
use electrode::id::{Site, SiteKind};
use electrode::model::{LayerParam, Model, Param};
use electrode::stimulate::neurons::site_of;
use electrode::stimulate::sparsity::Sparsity;
use electrode::stimulate::sparsity::perplexity::{Cut, bisect};

use crate::golden::fixture::embedded;
use crate::methods::support::Random;

/// Sequences of 5 and 4 tokens; the first of each does not count.
fn batch(model: &Model, seed: u64) -> Batch {
    let mut random = Random(seed);
    let tokens = (0..9).map(|_| 3 + random.below(model.spec.vocab - 3) as u32).collect();
    Batch {
        tokens,
        starts: vec![0, 5, 9],
        row_first: vec![1, 2, 3, 4, 6, 7, 8],
        row_len: vec![1; 7],
        row_ids: (0..7).map(|row| electrode::id::RowId::new(0, row)).collect(),
        group_starts: vec![0; 8],
        groups: Vec::new(),
    }
}

type Values = BTreeMap<Site, Vec<f32>>;
type Edits = BTreeMap<Site, Vec<Edit>>;

/// Sites of a whole forward pass.
fn forward(model: &Model, batch: &Batch, edits: &Edits) -> Values {
    let mut wanted: BTreeSet<Site> =
        (0..model.spec.layers).map(|layer| site_of(SiteKind::MlpAct, layer)).collect();
    wanted.insert(Site::global(SiteKind::Logits));
    let limits = Limits { tokens: 9, sequence: 5 };
    let mut forward = Forward::new(CpuDevice::F32, model, limits, &wanted).expect("fits");
    let mut collector = Collector::default();
    let mut work = SiteWork { wanted: &wanted, edits, visitor: &mut collector };
    forward.run(ForwardInput::of(batch), &mut work).expect("runs");
    collector.sites
}

fn down(model: &Model, layer: usize) -> Vec<f32> {
    model.tensor(Param::Layer(layer, LayerParam::Down)).expect("there").data
}

/// ||v_n|| in f64.
fn lengths(model: &Model, layer: usize) -> Vec<f64> {
    let (weight, neurons) = (down(model, layer), model.spec.mlp.width);
    let square = |n: usize| weight.iter().skip(n).step_by(neurons).map(|v| f64::from(*v).powi(2));
    (0..neurons).map(|n| square(n).sum::<f64>().sqrt()).collect()
}

/// CETT and the share of active neurons of one layer, in f64.
fn cett(model: &Model, layer: usize, rows: &[&[f32]], threshold: f64) -> (f64, f64) {
    let (weight, lengths) = (down(model, layer), lengths(model, layer));
    let neurons = model.spec.mlp.width;
    let in_tail = |n: usize, x: f32| f64::from(x).abs() * lengths[n] <= threshold;
    let norm = |x: &[f32], tail: bool| {
        let of_column = |v: &[f32]| {
            let chosen = (0..neurons).filter(|&n| !tail || in_tail(n, x[n]));
            chosen.map(|n| f64::from(v[n]) * f64::from(x[n])).sum::<f64>().powi(2)
        };
        weight.chunks_exact(neurons).map(of_column).sum::<f64>().sqrt()
    };
    let ratios = rows.iter().map(|x| norm(x, true) / norm(x, false)).sum::<f64>();
    let active = |x: &&[f32]| (0..neurons).filter(|&n| !in_tail(n, x[n])).count();
    let active = rows.iter().map(active).sum::<usize>();
    (ratios / rows.len() as f64, active as f64 / (rows.len() * neurons) as f64)
}

fn sparsity<O: GradientOps>(ops: O, model: &Model) -> Sparsity<O> {
    let sites = (0..model.spec.layers).map(|layer| site_of(SiteKind::MlpAct, layer)).collect();
    let limits = Limits { tokens: 9, sequence: 5 };
    let run = Differentiable::new(ops, model, limits, (&sites, true)).expect("fits");
    Sparsity::new(run, model).expect("fits")
}

fn open(name: &str) -> Model {
    Model::open(&embedded().join(name).display().to_string()).expect("opens")
}

/// Rows that count of one layer.
fn rows<'a>(values: &'a Values, batch: &Batch, layer: usize, neurons: usize) -> Vec<&'a [f32]> {
    let all = &values[&site_of(SiteKind::MlpAct, layer)];
    batch.row_first.iter().map(|&row| &all[row as usize * neurons..][..neurons]).collect()
}

fn firing_and_cett_agree<O: GradientOps>(ops: O, name: &str) {
    let model = open(name);
    let (batches, neurons) = ([batch(&model, 1), batch(&model, 2)], model.spec.mlp.width);
    let values = batches.each_ref().map(|batch| forward(&model, batch, &Edits::new()));
    let mut sparsity = sparsity(ops, &model);
    let eps = 0.05;
    let firing = sparsity.firing(&batches, eps).expect("runs");
    let all_rows = |layer| -> Vec<&[f32]> {
        let both = values.iter().zip(&batches);
        both.flat_map(|(values, batch)| rows(values, batch, layer, neurons)).collect()
    };
    let mut thresholds = Vec::new();
    for (layer, firing) in firing.iter().enumerate() {
        let rows = all_rows(layer);
        assert_eq!(firing.tokens, 14);
        for n in 0..neurons {
            let fired = rows.iter().filter(|row| row[n].abs() > eps).count() as u64;
            assert_eq!(firing.counts[n], fired, "{name}, layer {layer}, neuron {n}");
        }
        let lengths = lengths(&model, layer);
        let sizes = rows.iter().flat_map(|row| row.iter().zip(&lengths));
        let largest = sizes.map(|(x, v)| f64::from(*x).abs() * v).fold(0.0, f64::max);
        assert!((f64::from(firing.largest) - largest).abs() <= 1e-5 * largest, "{name}");
        thresholds.push([0.0, 0.02, 0.1, 0.3, 1.1].map(|part| (part * largest) as f32).to_vec());
    }
    for (layer, points) in sparsity.cett(&batches, &thresholds).expect("runs").iter().enumerate() {
        for point in points {
            let (want, active) = cett(&model, layer, &all_rows(layer), point.threshold.into());
            let place = format!("{name}, layer {layer}: {point:?} for {want}, {active}");
            assert!((point.cett - want).abs() <= 2e-5, "{place}");
            // A neuron at the line itself may fall on either side by rounding.
            assert!((point.active - active).abs() <= 1.5 / (14 * neurons) as f64, "{place}");
        }
        assert_eq!(points[0].cett, 0.0, "{name}: nothing is cut at 0 but what is 0");
        assert!((points[4].cett - 1.0).abs() <= 1e-6 && points[4].active == 0.0, "{name}");
    }
}

const NAMES: [&str; 3] = ["gpt2-tied", "opt-postnorm-proj", "llama-bias-bf16"];

#[test]
fn firing_and_truncation_errors_are_those_of_plain_loops() {
    for name in NAMES {
        firing_and_cett_agree(CpuDevice::F32, name);
    }
    if let Some(device) = crate::cuda::device(Element::F32) {
        firing_and_cett_agree(device, "opt-postnorm-proj");
    }
}

/// What stays of a token's neurons.
fn keep(cut: &Cut, (layer, lengths): (usize, &[f64]), x: &[f32]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].abs().total_cmp(&x[a].abs()).then(a.cmp(&b)));
    let keeps = |n: usize| match cut {
        Cut::Nothing => true,
        Cut::Tail(e) => f64::from(x[n]).abs() * lengths[n] > f64::from(e[layer]),
        Cut::Fat(eps) => x[n].abs() > *eps,
        Cut::Top(k) => order[..*k].contains(&n),
    };
    (0..x.len()).map(|n| if keeps(n) { x[n] } else { 0.0 }).collect()
}

/// Perplexity and active neurons of a model whose layers are cut one after the other.
fn pruned(model: &Model, batches: &[Batch], cut: &Cut) -> (f64, f64) {
    let (neurons, vocab) = (model.spec.mlp.width, model.spec.vocab);
    let (mut loss, mut scored, mut active, mut cells) = (0.0, 0.0, 0.0, 0.0);
    for batch in batches {
        let mut edits = Edits::new();
        for layer in 0..model.spec.layers {
            let values = forward(model, batch, &edits);
            let lengths = lengths(model, layer);
            let rows = values[&site_of(SiteKind::MlpAct, layer)].chunks_exact(neurons);
            let kept: Vec<f32> = rows.flat_map(|x| keep(cut, (layer, &lengths), x)).collect();
            for &row in &batch.row_first {
                let x = &kept[row as usize * neurons..][..neurons];
                active += x.iter().filter(|x| **x != 0.0).count() as f64;
                cells += neurons as f64;
            }
            let edit = Edit { columns: None, tokens: None, write: Write::Rows(kept) };
            edits.insert(site_of(SiteKind::MlpAct, layer), vec![edit]);
        }
        let logits = &forward(model, batch, &edits)[&Site::global(SiteKind::Logits)];
        for row in [0, 1, 2, 3, 5, 6, 7] {
            let logits = &logits[row * vocab..][..vocab];
            let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            loss += sum.ln() - f64::from(logits[batch.tokens[row + 1] as usize]);
            scored += 1.0;
        }
    }
    ((loss / scored).exp(), active / cells)
}

fn pruning_agrees<O: GradientOps>(ops: O, name: &str) {
    let model = open(name);
    let batches = [batch(&model, 4), batch(&model, 5)];
    let mut sparsity = sparsity(ops, &model);
    let firing = sparsity.firing(&batches, 0.0).expect("runs");
    let tails = firing.iter().map(|layer| 0.11 * layer.largest).collect();
    for cut in [Cut::Nothing, Cut::Tail(tails), Cut::Fat(0.123), Cut::Top(model.spec.mlp.width / 3)]
    {
        let found = sparsity.pruned(&batches, &cut).expect("runs");
        let (perplexity, active) = pruned(&model, &batches, &cut);
        let place = format!("{name}, {cut:?}: {found:?} for {perplexity}, {active}");
        assert!((found.perplexity / perplexity - 1.0).abs() <= 1e-4, "{place}");
        assert!((found.ratio() - active).abs() <= 1e-3, "{place}");
    }
    let nothing = sparsity.pruned(&batches, &Cut::Nothing).expect("runs");
    let none = sparsity.pruned(&batches, &Cut::Tail(vec![0.0; model.spec.layers])).expect("runs");
    assert_eq!(nothing, none, "{name}: what is 0 already costs nothing");
}

#[test]
fn pruned_perplexities_are_those_of_models_cut_by_hand() {
    for name in NAMES {
        pruning_agrees(CpuDevice::F32, name);
    }
    if let Some(device) = crate::cuda::device(Element::F32) {
        pruning_agrees(device, "gpt2-tied");
    }
}

#[test]
fn bisection_ends_at_the_strongest_that_is_allowed() {
    use electrode::stimulate::sparsity::perplexity::{Means, Probe, Pruned};
    let tried = bisect(1e-6, |strength| {
        let pruned = Pruned { perplexity: 1.0, active: vec![1.0] };
        let within = strength <= 0.3;
        Ok(Probe { means: Means::Cett, parameter: strength, cut: Cut::Nothing, pruned, within })
    });
    let tried = tried.expect("tries");
    let best = tried.iter().rfind(|probe| probe.within).expect("some are").parameter;
    assert!((best - 0.3).abs() < 1e-5 && best <= 0.3, "{best}");
}

/// The best c keeps the perplexity, one a tolerance further does not, and every layer's CETT was
/// measured near it and not above.
fn the_largest_c_was_measured(rows: &[SparsityRow], probes: &[PerplexityRow], tolerance: f64) {
    let of = |within: bool| {
        let rows = probes.iter().filter(move |row| row.method == "cett" && row.within == within);
        rows.filter_map(|row| row.parameter)
    };
    let (most, least) = (of(true).fold(0.0, f64::max), of(false).fold(1.0, f64::min));
    assert!(most < least && least - most <= tolerance, "{most} is kept, {least} is not");
    let ppl: Vec<_> = rows.iter().filter(|row| row.definition == "ppl").collect();
    assert_eq!(ppl.len(), 1 + 4);
    for row in ppl {
        let cett = row.cett.expect("measured");
        assert!(row.c == Some(most) && cett <= most && cett > most - tolerance, "{row:?}");
        let point = |other: &&SparsityRow| {
            (other.layer, other.threshold, other.cett) == (row.layer, row.threshold, row.cett)
        };
        let curve = rows.iter().filter(|row| row.definition == "curve");
        assert!(row.layer.is_none() || curve.filter(point).count() == 1, "{row:?} is on its curve");
    }
}

#[test]
fn the_command_writes_what_it_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let (text, out) = (folder.path().join("some.txt"), folder.path().join("out"));
    let line = "The cat that sat on the mats was old, and the dogs of the farmer saw it.\n";
    std::fs::write(&text, line.repeat(12)).expect("written");
    let (text, out) = (text.display().to_string(), out.display().to_string());
    let args = ["sparsity", "--model", "models/tiny-gpt2-en", "--corpus", &text, "--out", &out];
    let more = ["--device", "cpu", "--tokens", "120", "--tolerance", "0.02", "--cett", "0.1,0.3"];
    let ran = crate::cli::run(&[&args[..], &more].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("Sparsest within"), "{}", ran.stdout);
    let path = std::path::Path::new(&out);
    let rows: Vec<SparsityRow> = read_table(&path.join(SPARSITY)).expect("reads");
    for c in [0.1, 0.3] {
        let of_c = |row: &&SparsityRow| row.definition == "cett" && row.c == Some(c);
        let layers: Vec<_> = rows.iter().filter(of_c).filter(|row| row.layer.is_some()).collect();
        assert_eq!(layers.len(), 4);
        for row in layers {
            let cett = row.cett.expect("measured");
            assert!(cett <= c && cett > 0.97 * c, "{row:?}: as near as two refinements come");
        }
    }
    let probes: Vec<PerplexityRow> = read_table(&path.join(PERPLEXITY)).expect("reads");
    assert_eq!(probes.len(), 1 + 3 * 6);
    for method in ["cett", "topk", "fat_eps"] {
        let best: Vec<_> = probes.iter().filter(|row| row.method == method && row.best).collect();
        assert_eq!(best.len(), 1, "{method}");
        assert!(best[0].ratio <= 1.01 && best[0].activation_ratio < 1.0, "{:?}", best[0]);
    }
    the_largest_c_was_measured(&rows, &probes, 0.02);
    let bins: Vec<FiringBinRow> = read_table(&path.join(FIRING_HISTOGRAM)).expect("reads");
    let firing: Vec<FiringRow> = read_table(&path.join(FIRING)).expect("reads");
    for layer in 0..4 {
        let of = |low: f64, high: f64| {
            let rows = firing.iter().filter(|row| row.layer == layer);
            rows.filter(|row| row.rate > low && row.rate <= high && !row.always).count() as i64
        };
        let never = firing.iter().filter(|row| row.layer == layer && row.never).count() as i64;
        let always = firing.iter().filter(|row| row.layer == layer && row.always).count() as i64;
        let bins: Vec<_> = bins.iter().filter(|row| row.layer == Some(layer)).collect();
        assert_eq!(bins.iter().map(|row| row.neurons).sum::<i64>(), 1024);
        assert_eq!((bins[0].neurons, bins[21].neurons), (never, always));
        for row in &bins[1..21] {
            assert_eq!(row.neurons, of(row.low, row.high), "{row:?}");
        }
    }
    assert_eq!(firing.len(), 4 * 1024);
    assert!(firing.iter().all(|row| row.never == (row.rate == 0.0)));
    let wrong = crate::cli::run(&[&args[..], &["--cett", "1.5"]].concat());
    assert!(wrong.code == 2 && wrong.stderr.contains("--cett"), "{}", wrong.stderr);
}
