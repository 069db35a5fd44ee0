//! A probe's output as the metric. Oracles: a loop in f64 over activations; central differences of
//! whole passes; completeness of a path; what follows by hand where the probe reads the neurons
//! themselves. On the CPU, and on a GPU (the fake driver's, where there is none).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use electrode::artifact::effects::EffectRow;
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
use electrode::run::questions::Experiment;
use electrode::stimulate::gradients::{Over, Products, Times, gradient_products, path_products};
use electrode::stimulate::integrated_gradients::{Quadrature, Settings, integrated_gradients};
use electrode::stimulate::neurons::{Neurons, activations, site_of};
use electrode::stimulate::plain_sweep::plain_sweep;
use electrode::stimulate::question::{Question, QuestionBatch, Where};
use electrode::stimulate::readout::{Output, Readout};
use electrode::stimulate::sweep::{Asks, Becomes, How, sweep};
use safetensors::tensor::TensorView;

use super::{config, folder, root, run};
use crate::cuda::device;

/// Numbers between -1 and 1 that nothing else has.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + 1) * (7919 + 2 * seed) % 1999) as f32 / 999.5) - 1.0).collect()
}

/// A probe as its file would have it.
struct Plain {
    weights: Vec<f32>,
    biases: Vec<f32>,
    shift: Vec<f32>,
    scale: Vec<f32>,
}

impl Plain {
    fn new(width: usize, classes: usize) -> Self {
        Self {
            weights: numbers(1, classes * width),
            biases: numbers(2, classes),
            shift: numbers(3, width),
            scale: numbers(4, width).iter().map(|x| 1.0 + 0.5 * x).collect(),
        }
    }

    fn readout(&self, site: Site, how: (usize, Output)) -> Readout {
        let scaling = (&self.shift[..], &self.scale[..]);
        Readout::new(site, (&self.weights, &self.biases), scaling, how)
    }

    /// The outputs for a row, by a plain loop.
    fn outputs(&self, row: &[f32]) -> Vec<f64> {
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
            assert!(largest > 0.0, "{site}");
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
            let (up, down) = (moved(1.1), moved(0.9));
            for ((n, up), down) in chosen.iter().zip(up).zip(down) {
                for (question, (up, down)) in up.iter().zip(down).enumerate() {
                    let slope = f64::from(found[question * width + n]);
                    let error = ((up - down) / 0.2 - slope).abs();
                    let what = format!("{site} {output:?} {n}: {} {slope}", (up - down) / 0.2);
                    assert!(error <= 0.02 * slope.abs() + 2e-3 * largest, "{what}");
                }
            }
        }
    }
}

#[test]
fn gradients_of_a_probe_are_slopes() {
    gradients_are_slopes(CpuDevice);
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
    sweeps_agree(CpuDevice);
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
    let (questions, mut run) = (questions(), open(CpuDevice));
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
        let (batches, how) = ((&batch, &other), (Metric::Probe, 256));
        let found = path_products(&mut run, batches, &first, how, Some(&readout)).expect("runs");
        let changed = read(&mut run, (&other, &readout), &none);
        for ((row, clean), changed) in found[&0].chunks_exact(first.width).zip(&clean).zip(&changed)
        {
            let sum = row.iter().map(|x| f64::from(*x)).sum();
            complete(sum, changed - clean, 0.05, "from the other prompt");
        }
    }
}

const SITE: &str = "layers.3.mlp_act";

/// A file of probes: classes at `SITE`, a yes-no probe of each elsewhere, of a number at a third site.
fn probes(path: &Path) -> Plain {
    let plain = Plain::new(1024, 3);
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut arrays = vec![
        (format!("{SITE}/upos/seed-4/weight"), vec![3, 1024], floats(&plain.weights)),
        (format!("{SITE}/upos/seed-4/bias"), vec![3], floats(&plain.biases)),
        (format!("{SITE}/shift"), vec![1024], floats(&plain.shift)),
        (format!("{SITE}/scale"), vec![1024], floats(&plain.scale)),
    ];
    for (site, width, label, seed) in [
        ("layers.3.resid_post", 256, "upos=NOUN", 0),
        ("layers.3.resid_post", 256, "upos=NOUN", 1),
        ("layers.3.resid_mid", 256, "depth", 0),
        ("layers.3.mlp_out", 255, "depth", 0),
        ("layers.1.resid_post", 256, "upos=VERB", 0),
        ("layers.1.resid_post", 256, "depth", 0),
    ] {
        let probe = format!("{site}/{label}/seed-{seed}");
        let weights = floats(&numbers(seed + 9, width));
        arrays.push((format!("{probe}/weight"), vec![1, width], weights));
        arrays.push((format!("{probe}/bias"), vec![1], floats(&[0.5])));
    }
    let views = arrays.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.expect("fits"))
    });
    let classes = [("upos", "NOUN\nPRON\nVERB"), ("upos=NOUN", "no\nyes"), ("depth", "")];
    let names = classes.map(|(label, names)| (label.to_owned(), names.to_owned())).into();
    let bytes = safetensors::serialize(views, Some(names)).expect("a file");
    std::fs::write(path, bytes).expect("written");
    plain
}

/// Where the probe reads the neurons themselves, what one does to it is its weight times its value.
#[test]
fn an_experiment_finds_the_weights_of_the_probe() {
    let (temporary, out) = folder();
    let path = temporary.path().join("probes.safetensors");
    let plain = probes(&path);
    let metric = format!(
        "metric={{ probes = {:?}, site = {SITE:?}, class = \"PRON\" }}",
        path.display().to_string()
    );
    let overrides = [
        "questions.limit=6",
        "questions.group=number",
        "neurons.layers=[3]",
        "methods=[\"ablate:metric=probe,where=answer\", \"gradact:metric=probe,mode=signed,where=answer\", \
         \"ablate:metric=probe,where=answer,top=9\"]",
        "judge.sizes=[4]",
        "judge.how=zero",
        "judge.random=0",
        "judge.steer=[]",
        &metric,
    ];
    let settings = config(&out, &overrides);
    let list = Experiment::new(settings.clone()).expect("opens").questions.list;
    let (effects, curves) = run(settings);
    let model = Model::open(root().join("models/tiny-gpt2-en").to_str().expect("UTF-8"));
    let limits = Limits { tokens: 400, sequence: 40 };
    let nothing = BTreeSet::new();
    let mut run = Differentiable::new(CpuDevice, &model.expect("opens"), limits, (&nothing, true))
        .expect("fits");
    let (batch, site) = (QuestionBatch::new(&list), SITE.parse::<Site>().expect("a site"));
    let kept = activations(&mut run, &batch, &[site].into()).expect("runs");
    let values = kept.read(&CpuDevice, site).expect("kept");
    let rows: Vec<&[f32]> =
        batch.rows.iter().map(|row| &values[*row as usize * 1024..][..1024]).collect();
    let mean = |of: &dyn Fn(&[f32]) -> f64| {
        rows.iter().map(|row| of(row)).sum::<f64>() / rows.len() as f64
    };
    let weight = |n: usize| f64::from(plain.weights[1024 + n]) * f64::from(plain.scale[n]);
    let owed = |n: usize| weight(n) * mean(&|row| f64::from(row[n]));
    let of = |method: &str| -> Vec<&EffectRow> {
        effects.iter().filter(|row| row.method == method && row.concept == "*").collect()
    };
    for (method, sign, count) in [
        ("ablate:metric=probe,where=answer", -1.0, 1024),
        ("gradact:metric=probe,mode=signed,where=answer", 1.0, 1024),
        ("ablate:metric=probe,where=answer,top=9", -1.0, 9),
    ] {
        let found = of(method);
        assert_eq!(found.len(), count, "{method}");
        for row in found {
            let want = sign * owed(usize::try_from(row.neuron).expect("a column"));
            assert!(
                (row.effect - want).abs() < 1e-4,
                "{method} {}: {} {want}",
                row.neuron,
                row.effect
            );
        }
    }
    let base = mean(&|row| plain.outputs(row)[1]);
    let untouched = curves.iter().find(|row| row.method == "none" && row.concept == "*");
    let read = untouched.and_then(|row| row.probe).expect("it is read");
    assert!((read - base).abs() < 1e-4, "{read} {base}");
    let top: f64 = of("ablate:metric=probe,where=answer")
        .iter()
        .filter(|row| row.rank <= 4)
        .map(|row| owed(usize::try_from(row.neuron).expect("a column")))
        .sum();
    let taken = curves.iter().find(|row| {
        row.method == "ablate:metric=probe,where=answer" && row.act == "zero" && row.concept == "*"
    });
    let left = taken.and_then(|row| row.probe).expect("it is read");
    assert!((base - top - left).abs() < 1e-3, "{base} {top} {left}");
    assert!(std::fs::read_to_string(out.join("report.html")).expect("a page").contains("probe"));
}

#[test]
fn what_cannot_be_the_metric_is_refused() {
    let (temporary, out) = folder();
    let path = temporary.path().join("probes.safetensors");
    probes(&path);
    let no_probes = temporary.path().join("other.safetensors");
    let view = TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).expect("fits");
    let bytes = safetensors::serialize([("weight", view)], None).expect("a file");
    std::fs::write(&no_probes, bytes).expect("written");
    let text = temporary.path().join("text");
    std::fs::write(&text, "no file of tensors").expect("written");
    let try_with = |file: &Path, rest: &str, method: &str| {
        let metric = format!("metric={{ probes = {:?}, {rest} }}", file.display().to_string());
        let methods = format!("methods=[{method:?}]");
        let own = ["questions.limit=2", "neurons.layers=[3]", &methods, &metric];
        Experiment::new(config(&out, &own)).map(|_| ()).map_err(|error| error.to_string())
    };
    let gradient = "gradact:metric=probe";
    for (rest, method, words) in [
        (
            "site = \"layers.1.resid_post\"",
            gradient,
            &["before layers.3.mlp_act", "do nothing"][..],
        ),
        ("site = \"layers.3.mlp_ackt\"", gradient, &["metric.site", "layers.3.mlp_ackt"]),
        ("site = \"all\"", gradient, &["metric.site", "'all'"]),
        ("site = \"final_norm\"", gradient, &["no probe at", "layers.3.resid_post"]),
        ("site = \"layers.3.mlp_out\"", gradient, &["reads 255 columns", "has 256"]),
        ("site = \"layers.3.resid_post\"", gradient, &["several probes fit: 0, 1", "metric.seed"]),
        ("site = \"layers.3.resid_post\", seed = 7", gradient, &["metric.seed = 7", "0, 1"]),
        ("site = \"layers.3.mlp_act\"", gradient, &["output for each class", "NOUN, PRON, VERB"]),
        ("site = \"layers.3.mlp_act\", class = \"X\"", gradient, &["no class 'X'", "NOUN, PRON"]),
        ("site = \"layers.3.mlp_act\", label = \"x\"", gradient, &["metric.label = x", "upos"]),
        ("site = \"layers.3.resid_mid\", class = \"X\"", gradient, &["before layers.3.mlp_act"]),
        ("site = \"layers.3.mlp_act\", class = \"NOUN\"", "kn:metric=probe", &["after a layer"]),
    ] {
        let error = try_with(&path, rest, method).expect_err(rest);
        assert!(words.iter().all(|word| error.contains(word)), "{rest}: {error}");
    }
    let of = "site = \"layers.3.resid_post\", label = \"upos\", class = \"NOUN\", seed = 1";
    assert_eq!(try_with(&path, of, gradient), Ok(()));
    assert_eq!(try_with(&path, of, "kn:metric=probe"), Ok(()));
    for (file, word) in [(&no_probes, "none is in it"), (&text, "not a file of probes")] {
        let error = try_with(file, of, gradient).expect_err(word);
        assert!(error.contains(word), "{error}");
    }
    let own = ["questions.limit=2", "methods=[\"gradact:metric=probe\"]"];
    let error = Experiment::new(config(&out, &own)).err().expect("no metric").to_string();
    assert!(error.contains("there is none") && error.contains("[metric]"), "{error}");
}
