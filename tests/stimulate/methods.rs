//! Methods on the embedded model, held against each other and against laws.
//! Oracles: whole forward passes with edits; completeness of a path; a gradient's own ranking.

use std::collections::{BTreeMap, BTreeSet};

use electrode::artifact::effects::EffectRow;
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{Limits, SiteWork};
use electrode::device::gradient_ops::Metric;
use electrode::device::score::Score;
use electrode::device::site_view::Nobody;
use electrode::id::SiteKind;
use electrode::model::Model;
use electrode::stimulate::gradients::{Over, Products, Times, gradient_products, path_products};
use electrode::stimulate::masks::untouched;
use electrode::stimulate::neurons::{Neurons, activations, site_of};
use electrode::stimulate::plain_sweep::plain_sweep;
use electrode::stimulate::question::{Question, QuestionBatch, Where};
use electrode::stimulate::sweep::{Asks, Becomes, How, sweep};

use super::{config, folder, root, run};

fn questions() -> Vec<Question> {
    let tokens = |at: u32, by: u32| (0..5 + at).map(|i| (i * by + at * 11) % 8000).collect();
    (0..4)
        .map(|at: u32| Question {
            tokens: tokens(at, 37),
            at: 4 + at,
            target: 300 + at,
            foil: Some(500 + at),
            other: Some(tokens(at, 41)),
        })
        .collect()
}

fn open() -> Differentiable<CpuDevice> {
    let model =
        Model::open(root().join("models/tiny-gpt2-en").to_str().expect("UTF-8")).expect("opens");
    let limits = Limits { tokens: 200, sequence: 16 };
    Differentiable::new(CpuDevice::F32, &model, limits, (&BTreeSet::new(), true)).expect("fits")
}

#[test]
fn the_quick_sweep_gives_what_whole_passes_give() {
    let (questions, mut run) = (questions(), open());
    let (batch, layer, neurons) = (QuestionBatch::new(&questions), 1, [0, 5, 77, 1000]);
    let value = |neuron: u32, token: u32| 0.01 * f64::from(neuron + token) as f32 - 1.0;
    let reference = untouched(&mut run, &batch).expect("runs");
    let means = run.mean_rows(&batch.starts).expect("runs");
    let (kl, cosine) = (Asks::Kl(&reference), Asks::Cosine(&means));
    for (place, asks) in [
        (Where::Everywhere, Asks::Answers),
        (Where::Answer, Asks::Answers),
        (Where::Everywhere, kl),
        (Where::Answer, kl),
        (Where::Everywhere, cosine),
    ] {
        let mut whole = Vec::new();
        let site = site_of(SiteKind::MlpAct, layer);
        let plain = (place, asks, &value as &dyn Fn(u32, u32) -> f32);
        plain_sweep(&mut run, &questions, (site, &neurons), plain, |neuron, scores| {
            whole.push((neuron, scores.to_vec()));
            Ok(())
        })
        .expect("sweeps");
        let held = run.hold(batch.input(), &[layer]).expect("runs");
        let becomes = |neuron, token| Becomes::value(value(neuron, token));
        let mut quick = Vec::new();
        let how = How { place, asks, becomes: &becomes };
        sweep(&mut run, (&batch, &held), (layer, &neurons), how, |neuron, scores| {
            quick.push((neuron, scores.to_vec()));
            Ok(())
        })
        .expect("sweeps");
        assert_eq!(whole.len(), 4);
        for ((a, whole), (b, quick)) in whole.iter().zip(&quick) {
            assert_eq!(a, b);
            for (x, y) in whole.iter().zip(quick) {
                for number in [
                    |score: &Score| score.log_prob,
                    |score: &Score| score.logit_difference,
                    |score: &Score| score.kl,
                    |score: &Score| score.cosine,
                ] {
                    assert!((number(x) - number(y)).abs() < 3e-4, "{x:?} {y:?}");
                }
            }
        }
        assert_ne!(whole[0].1, whole[3].1);
    }
    // KL and cosine of what is not changed are 0.
    let held = run.hold(batch.input(), &[layer]).expect("runs");
    for asks in [kl, cosine] {
        let same = |_, _| Becomes { scale: 1.0, shift: 0.0 };
        let how = How { place: Where::Everywhere, asks, becomes: &same };
        sweep(&mut run, (&batch, &held), (layer, &[7]), how, |_, scores| {
            assert!(scores.iter().all(|score| score.kl.abs() < 1e-6 && score.cosine.abs() < 1e-6));
            Ok(())
        })
        .expect("sweeps");
    }
}

/// The fundamental theorem along the straight line between two inputs: what the embeddings are
/// charged with, summed, is the change of the metric.
#[test]
fn patching_along_a_path_is_complete() {
    let (questions, mut run) = (questions(), open());
    let other: Vec<Question> = questions
        .iter()
        .map(|one| Question { tokens: one.other.clone().expect("there"), ..one.clone() })
        .collect();
    let (batch, other) = (QuestionBatch::new(&questions), QuestionBatch::new(&other));
    let first = Neurons::of(run.spec(), SiteKind::ResidPre, vec![0]);
    let answers = |run: &mut Differentiable<CpuDevice>, batch: &QuestionBatch| {
        let (nothing, edits) = (BTreeSet::new(), BTreeMap::new());
        let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
        run.run(batch.input(), &mut sites).expect("runs");
        run.score(&batch.starts, batch.scoring(), None).expect("scores")
    };
    let (clean, corrupt) = (answers(&mut run, &batch), answers(&mut run, &other));
    let errors = [4, 64, 256].map(|steps| {
        let how = (Metric::LogitDifference, steps);
        let found = path_products(&mut run, (&batch, &other), &first, how, None).expect("runs");
        let rows = found[&0].chunks_exact(first.width);
        let error = |((row, clean), corrupt): ((&[f32], &Score), &Score)| {
            let change = corrupt.logit_difference - clean.logit_difference;
            let sum: f64 = row.iter().map(|x| f64::from(*x)).sum();
            (sum - f64::from(change)).abs() / f64::from(change.abs().max(0.1))
        };
        rows.zip(&clean).zip(&corrupt).map(error).fold(0.0, f64::max)
    });
    assert!(errors[2] < 0.05 && errors[2] < errors[0], "{errors:?}");
}

/// Magnitudes are at least the magnitude of the sum; at one token they are equal.
#[test]
fn products_are_pooled_as_they_say() {
    let (questions, mut run) = (questions(), open());
    let batch = QuestionBatch::new(&questions);
    for kind in [SiteKind::MlpAct, SiteKind::ResidMid, SiteKind::HeadOut] {
        let neurons = Neurons::of(run.spec(), kind, vec![0, 2]);
        let kept = activations(&mut run, &batch, &neurons.sites()).expect("runs");
        let mut ask = |over| {
            let (metric, times) = (Metric::LogProb, Times::Value);
            let values = (!neurons.are_kept()).then_some(&kept);
            let how = Products { metric, times, over, values, readout: None };
            gradient_products(&mut run, (&batch, &neurons), &how).expect("runs")
        };
        let (sum, size) = (ask(Over::Sum(Where::Everywhere)), ask(Over::Magnitude));
        let answer = ask(Over::Sum(Where::Answer));
        let again = ask(Over::Sum(Where::Everywhere));
        assert_eq!(sum, again, "scoring again forgets what was scored");
        let mut more = 0;
        for layer in [0, 2] {
            let rows = sum[&layer].iter().zip(&size[&layer]).enumerate();
            for (at, (sum, size)) in rows {
                let tokens = questions[at / neurons.width].tokens.len() as f32;
                assert!(sum.abs() <= size * tokens * 1.001 + 1e-7, "{sum} {size}");
                more += usize::from(sum.abs() < 0.99 * size * tokens);
            }
            assert_ne!(answer[&layer], sum[&layer]);
        }
        assert!(more > neurons.width, "signs cancel somewhere");
    }
}

fn by_neuron<'a>(
    rows: &'a [EffectRow],
    method: &str,
) -> BTreeMap<(Option<i32>, i32), &'a EffectRow> {
    let of = rows.iter().filter(|row| row.method == method && row.concept == "*");
    of.map(|row| ((row.layer, row.neuron), row)).collect()
}

#[test]
fn screening_leaves_exact_effects_of_the_neurons_that_matter() {
    let (_temporary, out) = folder();
    let overrides = [
        "questions.limit=10",
        "neurons.layers=[2, 3]",
        "methods=[\"ablate:where=answer\", \"ablate:where=answer,top=200\", \"gradact:mode=signed,where=answer\"]",
        "judge.sizes=[]",
        "judge.steer=[]",
    ];
    let (effects, _) = run(config(&out, &overrides));
    let all = by_neuron(&effects, "ablate:where=answer");
    let some = by_neuron(&effects, "ablate:where=answer,top=200");
    let first = by_neuron(&effects, "gradact:mode=signed,where=answer");
    assert_eq!((all.len(), some.len(), first.len()), (2048, 200, 2048));
    for (place, row) in &some {
        assert!((row.effect - all[place].effect).abs() < 1e-4, "{row:?}");
    }
    // What is left out mattered less to first order than anything that was kept.
    let least = some.keys().map(|place| first[place].effect.abs()).fold(f64::MAX, f64::min);
    let rest = first.iter().filter(|(place, _)| !some.contains_key(place));
    assert!(rest.clone().all(|(_, row)| row.effect.abs() <= least));
    // And of the twenty neurons that cost most, nearly all were found.
    let found = all.iter().filter(|(_, row)| row.rank <= 20);
    let kept = found.filter(|(place, _)| some.contains_key(place)).count();
    assert!(kept >= 18, "{kept} of 20");
}

#[test]
fn neurons_of_other_sites_are_asked_too() {
    let (_temporary, out) = folder();
    let overrides = [
        "questions.limit=6",
        "neurons.site=attn_out",
        "neurons.layers=[3]",
        "methods=[\"ablate:how=mean\", \"gradact\", \"lakretz:t=0.01\"]",
        "judge.sizes=[3]",
        "judge.steer=[1]",
        "judge.random=0",
    ];
    let (effects, curves) = run(config(&out, &overrides));
    assert!(effects.iter().all(|row| row.site == "layers.3.attn_out"));
    assert_eq!(by_neuron(&effects, "ablate:how=mean").len(), 256);
    let chosen = |row: &&EffectRow| row.method.starts_with("lakretz") && row.concept == "*";
    for row in effects.iter().filter(chosen) {
        assert_eq!(row.selected, row.score > 0.01, "{row:?}");
    }
    assert!(curves.iter().any(|row| row.act == "steer"));
}
