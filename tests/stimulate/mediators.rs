//! How few neurons carry a counterfactual prompt's effect. Oracles: whole passes with edits made here
//! from the other prompt's activations; the whole stream, which carries everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use electrode::artifact::effects::{EffectRow, read_effects};
use electrode::artifact::mediators::{MediatorRow, read_mediators};
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{Limits, SiteWork};
use electrode::device::ops::{Edit, Write};
use electrode::device::site_view::Nobody;
use electrode::id::Site;
use electrode::run::questions::{Experiment, ExperimentConfig, stimulate};
use electrode::stimulate::neurons::activations;
use electrode::stimulate::question::{Question, QuestionBatch};

use super::devices::Bench;

/// The tables of an experiment with these settings, and the experiment.
fn asked(out: &str, own: &[&str]) -> (Experiment, Vec<EffectRow>, Vec<MediatorRow>) {
    let bench = Bench::new("\"gradact\"");
    let folder = bench.path(out);
    let mut overrides: Vec<String> = vec![
        format!("out={:?}", folder.display().to_string()),
        "device.name=cpu".into(),
        "questions.limit=7".into(),
        "judge.sizes=[]".into(),
        "judge.steer=[]".into(),
        "judge.greedy=0".into(),
        "probe={}".into(),
    ];
    overrides.extend(own.iter().map(|text| (*text).to_owned()));
    let config = ExperimentConfig::load(&bench.path("experiment.toml"), &overrides).expect("good");
    let experiment = Experiment::new(config).expect("opens");
    stimulate(&experiment, &AtomicBool::new(false), &mut |_, _, _| {}).expect("runs");
    let page = std::fs::read_to_string(folder.join("report.html")).expect("a page");
    assert!(page.contains("Neurons patched together"));
    let effects = read_effects(&folder.join("effects.parquet")).expect("effects");
    let mediators = read_mediators(&folder.join("mediators.parquet")).expect("mediators");
    (experiment, effects, mediators)
}

/// Mean log p of the right answers, with edits.
fn answered(
    run: &mut Differentiable<CpuDevice>,
    batch: &QuestionBatch,
    edits: &BTreeMap<Site, Vec<Edit>>,
) -> f64 {
    let nothing = BTreeSet::new();
    let mut sites = SiteWork { wanted: &nothing, edits, visitor: &mut Nobody };
    run.run_only(batch.input(), &mut sites).expect("runs");
    let scores = run.score(&batch.starts, batch.scoring(), None).expect("scores");
    scores.iter().map(|score| f64::from(score.log_prob)).sum::<f64>() / batch.len() as f64
}

#[test]
fn curves_are_those_of_whole_passes() {
    for (method, answer_alone) in [
        ("patch:metric=log_prob,share=0.3", false),
        ("patch:metric=log_prob,share=0.05,where=answer", true),
    ] {
        let methods = format!("methods=[{method:?}]");
        let (experiment, effects, rows) = asked("out", &[&methods]);
        let list = &experiment.questions.list;
        let others: Vec<Question> = list
            .iter()
            .map(|one| Question { tokens: one.other.clone().expect("there"), ..one.clone() })
            .collect();
        let (batch, other) = (QuestionBatch::new(list), QuestionBatch::new(&others));
        let limits = Limits { tokens: 256, sequence: 16 };
        let nothing = BTreeSet::new();
        let mut run =
            Differentiable::new(CpuDevice::F32, &experiment.model, limits, (&nothing, true))
                .expect("fits");
        let none = BTreeMap::new();
        let clean = answered(&mut run, &batch, &none);
        let total = answered(&mut run, &other, &none) - clean;
        let kept = activations(&mut run, &other, &experiment.neurons.sites()).expect("runs");
        let mut order: Vec<&EffectRow> = effects.iter().filter(|row| row.concept == "*").collect();
        let place = |row: &EffectRow| (row.layer, row.neuron);
        order.sort_by(|a, b| {
            let toward = |row: &EffectRow| row.effect * total.signum();
            toward(b).total_cmp(&toward(a)).then(place(a).cmp(&place(b)))
        });
        let mut patched = |size: usize| {
            let mut edits: BTreeMap<Site, Vec<Edit>> = BTreeMap::new();
            for row in &order[..size] {
                let site: Site = row.site.parse().expect("a site");
                let values = kept.read(&CpuDevice::F32, site).expect("kept");
                let column = u32::try_from(row.neuron).expect("a column");
                let tokens: Vec<u32> = match answer_alone {
                    true => batch.rows.clone(),
                    false => (0..).take(batch.tokens.len()).collect(),
                };
                let width = experiment.neurons.width;
                let own =
                    tokens.iter().map(|token| values[*token as usize * width + column as usize]);
                let write = Write::Rows(own.collect());
                let edit = Edit { columns: Some(vec![column]), tokens: Some(tokens), write };
                edits.entry(site).or_default().push(edit);
            }
            answered(&mut run, &batch, &edits) - clean
        };
        assert!(rows.len() > 5, "{rows:?}");
        for row in &rows {
            let size = usize::try_from(row.size).expect("a size");
            let want = patched(size);
            assert!((row.effect - want).abs() < 1e-5, "{method}, {size}: {} {want}", row.effect);
            assert!((row.total - total).abs() < 1e-5, "{} {total}", row.total);
            assert!((row.recovered - row.effect / row.total).abs() < 1e-12);
            assert_eq!((row.n, row.neurons.len()), (7, if row.smallest { size } else { 0 }));
        }
        let asks = experiment.methods[0].call.number("share");
        let first = rows.iter().find(|row| row.recovered >= asks);
        let smallest: Vec<&MediatorRow> = rows.iter().filter(|row| row.smallest).collect();
        assert_eq!(smallest, Vec::from_iter(first), "{method}");
        let [smallest] = smallest[..] else { panic!("{method}: no size is enough: {rows:?}") };
        assert!(smallest.size == 1 || rows.iter().any(|row| row.size == smallest.size - 1));
        let named = format!("{}.{}", order[0].site, order[0].neuron);
        assert_eq!(smallest.neurons[0], named);
    }
}

#[test]
fn the_whole_stream_carries_everything() {
    let own = [
        "neurons.site=resid_post",
        "neurons.layers=[0]",
        "methods=[\"patch\", \"patch:share=0\", \"patch:metric=kl\"]",
    ];
    let (experiment, _, rows) = asked("out", &own);
    let all = rows.last().expect("rows");
    assert_eq!(usize::try_from(all.size).ok(), Some(experiment.neurons.count()));
    assert!((all.recovered - 1.0).abs() < 1e-4, "{all:?}");
    assert!(rows.iter().all(|row| row.method == "patch"), "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row.smallest).count(), 1);
}
