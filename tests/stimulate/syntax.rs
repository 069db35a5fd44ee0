//! What neurons hold of prompts. Oracles: a number made of one neuron; a number that the covariates
//! explain; the model's own knowledge of number at the verb.

use std::collections::BTreeSet;
use std::path::Path;

use electrode::artifact::effects::read_time;
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::Limits;
use electrode::run::questions::Experiment;
use electrode::stimulate::neurons::activations;
use electrode::stimulate::question::QuestionBatch;

use super::{config, folder, root, run};

const SMALL: [&str; 5] = [
    "questions.limit=80",
    "neurons.site=resid_post",
    "neurons.layers=[3]",
    "judge.sizes=[]",
    "judge.steer=[]",
];

#[test]
fn number_is_read_off_where_the_verb_follows() {
    let (_temporary, out) = folder();
    let own = ["methods=[\"gradact\"]", "probe.align=end"];
    run(config(&out, &[&SMALL[..], &own].concat()));
    let rows = read_time(&out.join("time.parquet")).expect("time");
    let auc = |trained: i32, tested: i32| {
        let found = rows.iter().find(|row| row.trained_at == trained && row.tested_at == tested);
        found.map(|row| (row.auc, row.n))
    };
    let (at_verb, n) = auc(0, 0).expect("every prompt has a last token");
    assert!(n > 70, "{n}");
    assert!(at_verb > 0.9, "{at_verb}");
    // Prompts are of several words, and every probe is tested on some of them.
    let longest = rows.iter().map(|row| row.tested_at).max().expect("rows");
    assert!(longest >= 3);
    assert!(rows.iter().all(|row| (0.0..=1.0).contains(&row.auc) && row.n > 0));
}

/// Questions as a file, each with these numbers.
fn write(path: &Path, questions: &[serde_json::Value], numbers: &[f32]) {
    let mut lines = String::new();
    for (at, question) in questions.iter().enumerate() {
        let mut object = question.clone();
        object["length"] = (object["prefix"].as_str().expect("a text").len() as f64).into();
        object["activity"] = numbers.get(at).map_or(0.0, |x| 3.0 * f64::from(*x)).into();
        lines += &format!("{object}\n");
    }
    std::fs::write(path, lines).expect("written");
}

#[test]
fn a_number_made_of_a_neuron_is_traced_to_it() {
    let (temporary, out) = folder();
    let source = root().join("corpora/agreement/number_agreement.jsonl");
    let text = std::fs::read_to_string(source).expect("the questions");
    let read = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let questions: Vec<_> =
        text.lines().map(read).filter(|one| one["attractor"] == "none").take(100).collect();
    let file = temporary.path().join("numbers.jsonl");
    write(&file, &questions, &[]);
    let files = format!("questions.files=[{:?}]", file.display().to_string());
    let all = ["questions.limit=0", "questions.long_answers=first", &files];
    let own = [&SMALL[1..], &all, &["methods=[\"gradact\"]"]].concat();
    // What neuron 7 does where they answer.
    let experiment = Experiment::new(config(&out, &own)).expect("opens");
    let batch = QuestionBatch::new(&experiment.questions.list);
    assert_eq!(batch.len(), 100);
    let limits = Limits { tokens: batch.tokens.len(), sequence: 32 };
    let nothing = BTreeSet::new();
    let mut model =
        Differentiable::new(CpuDevice::F32, &experiment.model, limits, (&nothing, true))
            .expect("fits");
    let kept = activations(&mut model, &batch, &experiment.neurons.sites()).expect("runs");
    let values = kept.read(&CpuDevice::F32, experiment.neurons.site(3)).expect("kept");
    let neuron = |row: &u32| values[*row as usize * experiment.neurons.width + 7];
    write(&file, &questions, &batch.rows.iter().map(neuron).collect::<Vec<_>>());
    for (quantity, traced) in [("activity", true), ("length", false)] {
        let (_other, out) = folder();
        let quantity = format!("questions.quantity={quantity}");
        let own = ["questions.covariates=[\"length\"]", "methods=[\"diag-weights\"]", &quantity];
        let (effects, _) = run(config(&out, &[&SMALL[1..], &all, &own].concat()));
        if traced {
            let row = effects.iter().find(|row| row.neuron == 7).expect("it is ranked");
            assert!(row.rank <= 5 && row.selected && row.effect > 0.0, "{row:?}");
        } else {
            let largest = effects.iter().map(|row| row.score).fold(0.0, f64::max);
            assert!(largest < 1e-6, "the covariate explains it: {largest}");
        }
    }
}
