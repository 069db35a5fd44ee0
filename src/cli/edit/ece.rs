//! `electrode edit ece`: facts edited by their neurons, a gradient step for each cluster of facts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::device::DtypeArg;
use super::super::output;
use super::Folders;
use super::knowledge::write_undo;
use crate::artifact::atomic::write_bytes_atomic;
use crate::config::Dtype;
use crate::device::gradient_ops::Metric;
use crate::error::Result;
use crate::model::Model;
use crate::run::fact_editing::{
    Bench, FactEditing, FactEdits, Outcome, others, perplexity, read_questions,
};
use crate::stimulate::integrated_gradients::{Quadrature, Settings};
use crate::stimulate::question::Question;
use crate::stimulate::read::{LongAnswers, QuestionConfig};

/// Make a model give other answers: one gradient step for each cluster of facts, on the columns of the
/// neurons that the facts are attributed to (Zhang et al. 2025)
#[derive(clap::Args, Debug)]
pub(super) struct EceArgs {
    #[command(flatten)]
    folders: Folders,
    /// What is to be answered otherwise, one JSON object a line
    #[arg(long, value_name = "FILE.jsonl")]
    questions: PathBuf,
    /// Key of the prompt; ___ is the blank of a masked model
    #[arg(long, default_value = "prompt", value_name = "KEY")]
    prompt: String,
    /// Key of the answer so far, whose neurons are looked for
    #[arg(long, default_value = "old", value_name = "KEY")]
    old: String,
    /// Key of the answer from now on
    #[arg(long, default_value = "new", value_name = "KEY")]
    new: String,
    /// Key that is the same for all questions of a fact; without it each question is a fact
    #[arg(long, value_name = "KEY")]
    fact: Option<String>,
    /// Points of the path of integrated gradients
    #[arg(long, default_value_t = 20, value_name = "N")]
    steps: u32,
    /// A fact's neurons reach this share of its largest attribution
    #[arg(long, default_value_t = 0.2, value_name = "SHARE")]
    threshold: f32,
    /// A fact has at most so many neurons
    #[arg(long, default_value_t = 20, value_name = "N")]
    most: usize,
    /// Facts are joined up to this cosine distance of their attributions
    #[arg(long, default_value_t = crate::methods::clustering::facts::FACT_DISTANCE, value_name = "X")]
    distance: f64,
    /// Length of a cluster's step, in lengths of the columns that it moves
    #[arg(long, default_value_t = 0.3, value_name = "X")]
    rate: f64,
    /// Questions about the same relation whose answers should stay: their perplexity is told
    #[arg(long, value_name = "FILE.jsonl")]
    inside: Option<PathBuf>,
    /// Questions about anything else
    #[arg(long, value_name = "FILE.jsonl")]
    outside: Option<PathBuf>,
    /// Key of the right answer in --inside and --outside
    #[arg(long, default_value = "answer", value_name = "KEY")]
    answer: String,
    /// Take the first token of answers that are several, instead of refusing them
    #[arg(long)]
    first_token: bool,
    /// Begin each prompt with the model's BOS where its tokenizer does not
    #[arg(long)]
    add_bos: bool,
    /// Save the columns here; `electrode edit undo` puts them back
    #[arg(long, value_name = "FILE.safetensors")]
    undo_file: Option<PathBuf>,
    /// Write facts, clusters, neurons and what came of them here as JSON
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Where the model runs: auto, cpu, cuda, cuda:1
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
    /// Of the forward and backward pass
    #[arg(long, value_enum, default_value = "f32", value_name = "DTYPE")]
    dtype: DtypeArg,
}

impl EceArgs {
    fn method(&self) -> FactEditing {
        let questions = QuestionConfig {
            files: vec![self.questions.clone()],
            prompt: self.prompt.clone(),
            answer: self.new.clone(),
            wrong: Some(self.old.clone()),
            counterfactual: None,
            group: self.fact.clone(),
            quantity: None,
            covariates: Vec::new(),
            only: BTreeMap::new(),
            limit: 0,
            long_answers: match self.first_token {
                true => LongAnswers::First,
                false => LongAnswers::Refuse,
            },
        };
        let (steps, quadrature) = (self.steps, Quadrature::default());
        FactEditing {
            questions,
            attribution: Settings { steps, quadrature, metric: Metric::Prob },
            threshold: self.threshold,
            most: self.most,
            distance: self.distance,
            rate: self.rate,
            add_bos: self.add_bos,
        }
    }

    /// What is asked beside the facts: a name and its questions.
    fn others(
        &self,
        how: &FactEditing,
        model: &Model,
    ) -> Result<Vec<(&'static str, Vec<Question>)>> {
        let files = [("inside", &self.inside), ("outside", &self.outside)];
        let there = files.into_iter().filter_map(|(name, file)| Some((name, file.clone()?)));
        there
            .map(|(name, file)| {
                let config = others(vec![file], &how.questions, &self.answer);
                Ok((name, read_questions(&config, model, self.add_bos)?.questions))
            })
            .collect()
    }
}

pub(super) fn run(args: EceArgs) -> Result<()> {
    let bench = Bench { device: Some(args.device.clone()), dtype: Dtype::from(args.dtype) };
    let model = args.folders.open()?;
    let how = args.method();
    let asked = how.open(&model)?;
    let others = args.others(&how, &model)?;
    let edits = bench.find(&how, &model, &asked)?;
    let before = bench.ask(&model, &asked.questions)?;
    let old: Vec<_> = others.iter().map(|(_, q)| bench.ask(&model, q)).collect::<Result<_>>()?;
    let (rewrite, undo) = how.edit(&model, &edits)?;
    write_undo(&undo, args.undo_file.as_deref())?;
    args.folders.write(rewrite, &summary(&edits))?;
    let edited = Model::open_with_config(&args.folders.out, &args.folders.out.join("config.json"))?;
    let outcome = Outcome::of(&before, &bench.ask(&edited, &asked.questions)?);
    let mut text = told(&outcome);
    let mut perplexities = serde_json::Map::new();
    for ((name, questions), old) in others.iter().zip(&old) {
        let both = [perplexity(old), perplexity(&bench.ask(&edited, questions)?)];
        text += &format!("perplexity {name}: {:.3} to {:.3}\n", both[0], both[1]);
        perplexities.insert((*name).to_owned(), json!(both));
    }
    if let Some(path) = &args.report {
        let report = json!({"format": "electrode.ece/1", "facts": edits.facts, "outcome": outcome,
            "perplexity": Value::Object(perplexities)});
        write_bytes_atomic(path, format!("{report:#}\n").as_bytes())?;
    }
    output::print(&text)
}

fn summary(edits: &FactEdits) -> String {
    let clusters = edits.facts.iter().map(|fact| fact.cluster + 1).max().unwrap_or(0);
    let columns: usize = edits.shifts.values().map(BTreeMap::len).sum();
    format!("{} facts in {clusters} clusters, {columns} columns moved", edits.facts.len())
}

fn told(outcome: &Outcome) -> String {
    let percent = |[a, b]: [f64; 2]| format!("{:.1}% to {:.1}%", 100.0 * a, 100.0 * b);
    let nats = |[a, b]: [f64; 2]| format!("{a:.3} to {b:.3}");
    format!(
        "success: {} of {} questions answered with the new answer\n\
         new answer before the old: {}\n\
         log p of the new answer: {}\nlog p of the old answer: {}\n",
        percent(outcome.success),
        outcome.questions,
        percent(outcome.preferred),
        nats(outcome.new_log_prob),
        nats(outcome.old_log_prob),
    )
}
