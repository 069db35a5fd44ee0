//! A masked model is asked too. Oracle: the model's own answers. The model and its questions are not part
//! of the project: without them the test says so and passes over.

use std::path::Path;

use electrode::artifact::effects::{read_curves, read_effects};

use super::{folder, root};

#[test]
fn knowledge_neurons_of_a_masked_model() {
    let shared = root().join("../shared");
    let model = shared.join("models/tiny-bert-multi");
    let questions = shared.join("corpora/cloze_facts.jsonl");
    if !Path::new(&model).is_dir() || !questions.is_file() {
        eprintln!("skipped: no masked model is there");
        return;
    }
    let (_temporary, out) = folder();
    let [model, questions, out] = [model, questions, out].map(|path| path.display().to_string());
    let args = [
        "attribute",
        "--model",
        &model,
        "--questions",
        &questions,
        "--prompt",
        "text",
        "--group",
        "relation",
        "--skip-long-answers",
        "--limit",
        "24",
        "--layers",
        "1",
        "--method",
        "kn:steps=4",
        "--method",
        "gradact:metric=log_prob",
        "--sizes",
        "20",
        "--out",
        &out,
        "--device",
        "cpu",
    ];
    let ran = crate::cli::run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let effects = read_effects(&Path::new(&out).join("effects.parquet")).expect("effects");
    assert!(
        effects.iter().any(|row| row.effect != 0.0)
            && effects.iter().all(|row| row.score.is_finite())
    );
    let curves = read_curves(&Path::new(&out).join("curves.parquet")).expect("curves");
    let untouched = curves.iter().find(|row| row.method == "none").expect("a row");
    let top = curves.iter().find(|row| row.order == "top" && row.concept == "*").expect("a row");
    assert!(untouched.log_prob < 0.0 && top.log_prob != untouched.log_prob);
}
