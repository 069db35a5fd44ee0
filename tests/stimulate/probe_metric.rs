//! A probe's output as the metric. Oracles: a loop in f64 over activations; central differences of
//! whole passes; completeness of a path. On the CPU, and on a GPU (the fake driver's, where there is
//! none).

use std::collections::{BTreeMap, BTreeSet};

use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::forward::{Limits, SiteWork};
use electrode::device::gradient_ops::Metric;
use electrode::device::ops::{Edit, Write};
use electrode::device::site_view::{SiteView, SiteVisitor};
use electrode::device::suffix_ops::SuffixOps;
use electrode::id::{Site, SiteKind};
use electrode::model::Model;
use electrode::stimulate::gradients::{Over, Products, Times, gradient_products, path_products};
use electrode::stimulate::integrated_gradients::{Quadrature, Settings, integrated_gradients};
use electrode::stimulate::neurons::{Neurons, activations, site_of};
use electrode::stimulate::plain_sweep::plain_sweep;
use electrode::stimulate::question::{Question, QuestionBatch, Where};
use electrode::stimulate::readout::{Output, Readout};
use electrode::stimulate::sweep::{Asks, Becomes, How, sweep};

use super::root;
use crate::cuda::device;

/// Numbers between -1 and 1 that nothing else has.
pub(super) fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + 1) * (7919 + 2 * seed) % 1999) as f32 / 999.5) - 1.0).collect()
}

/// A probe as its file would have it.
pub(super) struct Plain {
    pub(super) weights: Vec<f32>,
    pub(super) biases: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) scale: Vec<f32>,
}

impl Plain {
    pub(super) fn new(width: usize, classes: usize) -> Self {
        Self {
            weights: numbers(1, classes * width).iter().map(|x| 0.3 * x).collect(),
            biases: numbers(2, classes).iter().map(|x| 0.1 * x).collect(),
            shift: numbers(3, width).iter().map(|x| 0.1 * x).collect(),
            scale: numbers(4, width).iter().map(|x| 1.0 + 0.5 * x).collect(),
        }
    }

    fn readout(&self, site: Site, how: (usize, Output)) -> Readout {
        let scaling = (&self.shift[..], &self.scale[..]);
        Readout::new(site, (&self.weights, &self.biases), scaling, how)
    }

    /// The outputs for a row, by a plain loop.
    pub(super) fn outputs(&self, row: &[f32]) -> Vec<f64> {
        let output = |(class, bias): (usize, &f32)| {
            let term = |(at, x): (usize, &f32)| {
                let standard =
                    (f64::from(*x) - f64::from(self.shift[at])) * f64::from(self.scale[at]);
                standard * f64::from(self.weights[class * row.len() + at])
            };
            f64::from(*bias) + row.iter().enumerate().map(term).sum::<f64>()
        };
        self.biases.iter().enumerate().map(output).collect()
    }
}

fn questions() -> Vec<Question> {
    let tokens = |at: u32, by: u32| (0..4 + at).map(|i| (i * by + at * 11) % 101).collect();
    (0..4)
        .map(|at: u32| Question {
            tokens: tokens(at, 37),
            at: 3 + at,
            target: 30 + at,
            foil: Some(50 + at),
            other: Some(tokens(at, 41)),
        })
        .collect()
}

fn open<O: SuffixOps>(ops: O) -> Differentiable<O> {
    let folder = root().join("tests/golden/forward/gpt2-tied");
    let model = Model::open(folder.to_str().expect("UTF-8")).expect("opens");
    let limits = Limits { tokens: 256, sequence: 16 };
    Differentiable::new(ops, &model, limits, (&BTreeSet::new(), true)).expect("fits")
}

/// The values of one site, after edits of others.
struct Keeper(Vec<f32>);

impl<O: SuffixOps> SiteVisitor<O> for Keeper {
    fn visit(&mut self, ops: &O, view: &SiteView<'_, O>) -> electrode::error::Result<()> {
        ops.read(view.values, &mut self.0)
    }
}

/// What the probe reads of each question, with these edits.
fn read<O: SuffixOps>(
    run: &mut Differentiable<O>,
    (batch, readout): (&QuestionBatch, &Readout),
    edits: &BTreeMap<Site, Vec<Edit>>,
) -> Vec<f64> {
    let (wanted, mut keeper) = (BTreeSet::from([readout.site()]), Keeper(Vec::new()));
    let mut sites = SiteWork { wanted: &wanted, edits, visitor: &mut keeper };
    run.run_only(batch.input(), &mut sites).expect("runs");
    let width = run.spec().site_width(readout.site());
    let row = |row: &u32| readout.value(&keeper.0[*row as usize * width..][..width]);
    batch.rows.iter().map(row).collect()
}

fn sites() -> Vec<Site> {
    let of = |(layer, kind)| Site::of_layer(layer, kind);
    let layers = [
        (0, SiteKind::MlpAct),
        (0, SiteKind::MlpOut),
        (0, SiteKind::ResidPost),
        (1, SiteKind::HeadOut),
        (1, SiteKind::ResidMid),
        (1, SiteKind::MlpAct),
        (1, SiteKind::ResidPost),
    ];
    layers.into_iter().map(of).chain([Site::global(SiteKind::FinalNorm)]).collect()
}

fn gradients_are_slopes<O: SuffixOps>(ops: O) {
    let (questions, mut run) = (questions(), open(ops));
    let (batch, neurons) =
        (QuestionBatch::new(&questions), Neurons::of(run.spec(), SiteKind::MlpAct, vec![0]));
    let kept = activations(&mut run, &batch, &neurons.sites()).expect("runs");
    let values = kept.read(run.ops(), neurons.site(0)).expect("kept");
    for site in sites() {
        let plain = Plain::new(run.spec().site_width(site), 3);
        for (class, output) in [(1, Output::Logit), (2, Output::LogProb)] {
            let readout = plain.readout(site, (class, output));
            let rows = readout.read(&mut run, &batch).expect("reads");
            activations(&mut run, &batch, &neurons.sites()).expect("runs");
            let how = Products {
                metric: Metric::Probe,
                times: Times::Value,
                over: Over::Sum(Where::Everywhere),
                values: None,
                readout: Some((&readout, &rows)),
            };
            let found = &gradient_products(&mut run, (&batch, &neurons), &how).expect("runs")[&0];
            let width = neurons.width;
            let mut order: Vec<usize> = (0..width).collect();
            order.sort_by(|a, b| found[*b].abs().total_cmp(&found[*a].abs()));
            let chosen = [order[0], order[1], order[width / 2], order[width - 1]];
            let largest = found.iter().fold(0.0_f64, |a, b| a.max(f64::from(b.abs())));
            assert!(largest > 2e-4, "{site}: {largest}");
            let mut moved = |by: f32| {
                let value = |n: u32, token: u32| by * values[token as usize * width + n as usize];
                let asked =
                    (Where::Everywhere, Asks::Probe(&readout), &value as &dyn Fn(u32, u32) -> f32);
                let columns = chosen.map(|n| u32::try_from(n).expect("few"));
                let mut all = Vec::new();
                plain_sweep(
                    &mut run,
                    &questions,
                    (neurons.site(0), &columns),
                    asked,
                    |_, scores| {
                        all.push(
                            scores.iter().map(|score| f64::from(score.probe)).collect::<Vec<_>>(),
                        );
                        Ok(())
                    },
                )
                .expect("sweeps");
                all
            };
            let (up, down) = (moved(1.02), moved(0.98));
            for ((n, up), down) in chosen.iter().zip(up).zip(down) {
                for (question, (up, down)) in up.iter().zip(down).enumerate() {
                    let slope = f64::from(found[question * width + n]);
                    let error = ((up - down) / 0.04 - slope).abs();
                    let what = format!("{site} {output:?} {n}: {} {slope}", (up - down) / 0.04);
                    assert!(error <= 0.02 * slope.abs() + 2e-3 * largest + 1e-4, "{what}");
                }
            }
        }
    }
}

#[test]
fn gradients_of_a_probe_are_slopes() {
    gradients_are_slopes(CpuDevice::F32);
}

#[test]
fn gradients_of_a_probe_are_slopes_on_a_gpu() {
    if let Some(gpu) = device(Element::F32) {
        gradients_are_slopes(gpu);
    }
}

/// Copies from a layer on read what whole passes read, and both what a loop finds.
fn sweeps_agree<O: SuffixOps>(ops: O) {
    let (questions, mut run) = (questions(), open(ops));
    let (batch, neurons) = (QuestionBatch::new(&questions), [0, 5, 77, 190]);
    for site in sites().into_iter().skip(2) {
        let width = run.spec().site_width(site);
        let plain = Plain::new(width, 3);
        let readout = plain.readout(site, (0, Output::LogProb));
        let kept = activations(&mut run, &batch, &[site].into()).expect("runs");
        let values = kept.read(run.ops(), site).expect("kept");
        for (row, found) in
            batch.rows.iter().zip(read(&mut run, (&batch, &readout), &BTreeMap::new()))
        {
            let z = plain.outputs(&values[*row as usize * width..][..width]);
            let want = z[0] - z.iter().map(|z| z.exp()).sum::<f64>().ln();
            assert!((found - want).abs() < 1e-9 * (1.0 + want.abs()), "{site}: {found} {want}");
        }
        let value = |neuron: u32, token: u32| 0.01 * (neuron + token) as f32 - 1.0;
        for place in [Where::Everywhere, Where::Answer] {
            let mut whole = Vec::new();
            let asked = (place, Asks::Probe(&readout), &value as &dyn Fn(u32, u32) -> f32);
            let act = site_of(SiteKind::MlpAct, 0);
            plain_sweep(&mut run, &questions, (act, &neurons), asked, |_, scores| {
                whole.extend(scores.iter().map(|score| score.probe));
                Ok(())
            })
            .expect("sweeps");
            let held = run.hold(batch.input(), &[0]).expect("runs");
            let becomes = |neuron, token| Becomes::value(value(neuron, token));
            let how = How { place, asks: Asks::Probe(&readout), becomes: &becomes };
            let mut quick = Vec::new();
            sweep(&mut run, (&batch, &held), (0, &neurons), how, |_, scores| {
                quick.extend(scores.iter().map(|score| score.probe));
                Ok(())
            })
            .expect("sweeps");
            assert_eq!((whole.len(), quick.len()), (16, 16));
            for (a, b) in whole.iter().zip(&quick) {
                assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{site} {place:?}: {a} {b}");
            }
            assert_ne!(whole[..4], whole[12..], "{site}");
        }
    }
}

#[test]
fn sweeps_of_a_probe_agree() {
    sweeps_agree(CpuDevice::F32);
}

#[test]
fn sweeps_of_a_probe_agree_on_a_gpu() {
    if let Some(gpu) = device(Element::F32) {
        sweeps_agree(gpu);
    }
}

/// Along the path of a layer's neurons from 0, and along that of the embeddings.
#[test]
fn attributions_to_a_probe_are_complete() {
    let (questions, mut run) = (questions(), open(CpuDevice::F32));
    let other: Vec<Question> = questions
        .iter()
        .map(|one| Question { tokens: one.other.clone().expect("there"), ..one.clone() })
        .collect();
    let (batch, other) = (QuestionBatch::new(&questions), QuestionBatch::new(&other));
    let none = BTreeMap::new();
    for site in sites().into_iter().skip(2) {
        let plain = Plain::new(run.spec().site_width(site), 3);
        let readout = plain.readout(site, (2, Output::LogProb));
        let clean = read(&mut run, (&batch, &readout), &none);
        let tokens = Some(batch.rows.clone());
        let off = Edit { columns: None, tokens, write: Write::Set(vec![0.0]) };
        let off = BTreeMap::from([(site_of(SiteKind::MlpAct, 0), vec![off])]);
        let without = read(&mut run, (&batch, &readout), &off);
        let held = run.hold(batch.input(), &[0]).expect("runs");
        let settings =
            Settings { steps: 40, quadrature: Quadrature::Midpoint, metric: Metric::Probe };
        let mut sums = Vec::new();
        integrated_gradients(&mut run, (&batch, &held), 0, (settings, Some(&readout)), |one| {
            sums.push(one.values.iter().map(|x| f64::from(*x)).sum::<f64>());
            Ok(())
        })
        .expect("runs");
        let complete = |sum: f64, change: f64, share: f64, what: &str| {
            let error = (sum - change).abs();
            assert!(error <= share * change.abs() + 1e-3, "{site} {what}: {sum} {change}");
        };
        for ((sum, clean), without) in sums.iter().zip(&clean).zip(&without) {
            complete(*sum, clean - without, 0.02, "from 0");
        }
        let first = Neurons::of(run.spec(), SiteKind::ResidPre, vec![0]);
        let changed = read(&mut run, (&other, &readout), &none);
        let sum_of_changes: f64 = changed.iter().zip(&clean).map(|(a, b)| (a - b).abs()).sum();
        let errors = [16, 256].map(|steps| {
            let (batches, how) = ((&batch, &other), (Metric::Probe, steps));
            let found =
                path_products(&mut run, batches, &first, how, Some(&readout)).expect("runs");
            let rows = found[&0].chunks_exact(first.width).zip(changed.iter().zip(&clean));
            let error = |(row, (changed, clean)): (&[f32], (&f64, &f64))| {
                (row.iter().map(|x| f64::from(*x)).sum::<f64>() - (changed - clean)).abs()
            };
            rows.map(error).sum::<f64>()
        });
        // A sum of m points from one end misses by something of order 1/m.
        let what = format!("{site}: {errors:?} of {sum_of_changes}");
        assert!(errors[1] <= errors[0] / 6.0 + 1e-3, "{what}");
        assert!(errors[1] <= 0.1 * sum_of_changes, "{what}");
    }
}
