//! Methods as users write them, into work on a model.

use std::sync::Arc;

use crate::device::gradient_ops::Metric;
use crate::error::Result;
use crate::methods::MethodCall;
use crate::methods::registry::{Causal, Kind};
use crate::stimulate::integrated_gradients::{Quadrature, Settings};
use crate::stimulate::question::Question;
use crate::stimulate::read::Questions;
use crate::stimulate::sweep::Where;
use crate::stimulate::task::{Replacement, Task, Value};

/// Of a batch, whatever a method asks for.
const MOST_TOKENS: usize = 1 << 18;

/// A method of an experiment.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// As the user wrote it.
    pub call: MethodCall,
    /// What it does.
    pub causal: Causal,
}

/// Parses the methods of an experiment; refuses what its questions cannot feed.
pub(super) fn methods(texts: &[String], questions: &Questions) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::with_capacity(texts.len());
    let first = questions.list.first().expect("there are questions");
    for (at, text) in texts.iter().enumerate() {
        let call = MethodCall::parse(text)?;
        let Kind::Causal(causal) = call.method.kind else {
            let remedy = "use `electrode run` for methods over a corpus";
            return Err(call.wrong("does not ask the model questions", remedy));
        };
        if texts[..at].contains(&texts[at]) {
            return Err(call.wrong("is listed twice", "list each method once"));
        }
        let compares = call.text("metric") == "logit_difference";
        if compares && first.foil.is_none() {
            let remedy = "name the key of the wrong answers as questions.wrong, or choose \
                          metric=log_prob";
            return Err(call.wrong("compares with a wrong answer, and there are none", remedy));
        }
        let patches = matches!(causal, Causal::Patch | Causal::AttributionPatch);
        if patches && first.other.is_none() {
            let remedy = "name the key of the second prompts as questions.counterfactual";
            return Err(call.wrong("needs a counterfactual prompt, and there are none", remedy));
        }
        chosen.push(Chosen { call, causal });
    }
    Ok(chosen)
}

/// Tokens that a batch needs at least: all steps of a question's path go through the model together.
pub(super) fn tokens_at_once(
    methods: &[Chosen],
    questions: &Questions,
    causal: bool,
) -> Result<usize> {
    let cost =
        |question: &Question| question.tokens.len() - if causal { question.at as usize } else { 0 };
    let longest = questions.list.iter().map(cost).max().unwrap_or(1);
    let mut most = 1;
    for Chosen { call, .. } in methods.iter().filter(|of| of.causal == Causal::Knowledge) {
        let tokens = call.whole("steps") * longest;
        if tokens > MOST_TOKENS {
            let what = format!("{tokens} tokens at once for the steps of one question");
            let remedy = format!("choose at most {} steps", MOST_TOKENS / longest);
            return Err(call.wrong(&what, &remedy));
        }
        most = most.max(tokens);
    }
    Ok(most)
}

/// What a method does; `means` are the neurons' means by layer, where one asks for them.
pub(super) fn task(Chosen { call, causal }: &Chosen, means: Option<&Arc<Vec<Vec<f32>>>>) -> Task {
    let place = || match call.text("where").as_str() {
        "answer" => Where::Answer,
        _ => Where::Everywhere,
    };
    let metric = || metric(&call.text("metric"));
    let value = || match call.text("metric").as_str() {
        "accuracy" => Value::Accuracy,
        name => Value::Of(self::metric(name)),
    };
    match causal {
        Causal::Ablate => {
            let replacement = match call.text("how").as_str() {
                "mean" => Replacement::Mean(Arc::clone(means.expect("they were taken"))),
                "resample" => Replacement::Resample(call.whole("seed") as u64),
                _ => Replacement::Zero,
            };
            Task::Ablation { replacement, place: place(), value: value() }
        }
        Causal::Patch => {
            let replacement = Replacement::Counterfactual;
            Task::Ablation { replacement, place: place(), value: value() }
        }
        Causal::AttributionPatch => Task::AttributionPatching { metric: metric() },
        Causal::GradientActivation => {
            Task::GradientActivation { metric: metric(), absolute: call.text("mode") == "abs" }
        }
        Causal::Knowledge => {
            let quadrature = match call.text("rule").as_str() {
                "right" => Quadrature::Right,
                "left" => Quadrature::Left,
                "ends" => Quadrature::Ends,
                _ => Quadrature::Midpoint,
            };
            let steps = u32::try_from(call.whole("steps")).expect("checked by the registry");
            #[expect(clippy::cast_possible_truncation, reason = "a share")]
            let threshold = call.number("t") as f32;
            let settings = Settings { steps, quadrature, metric: metric() };
            Task::Knowledge { settings, threshold }
        }
    }
}

fn metric(name: &str) -> Metric {
    match name {
        "log_prob" => Metric::LogProb,
        "prob" => Metric::Prob,
        "loss" => Metric::Loss,
        _ => Metric::LogitDifference,
    }
}

/// Whether a method needs the neurons' means.
pub(super) fn needs_means(Chosen { call, causal }: &Chosen) -> bool {
    *causal == Causal::Ablate && call.text("how") == "mean"
}

/// The importance of a neuron from the mean of its numbers: larger is more important.
pub(super) fn importance(Chosen { call, causal }: &Chosen, mean: f64) -> f64 {
    match causal {
        // What the answer loses.
        Causal::Ablate if call.text("metric") == "loss" => mean,
        Causal::Ablate => -mean,
        Causal::Knowledge => mean,
        Causal::Patch | Causal::AttributionPatch | Causal::GradientActivation => mean.abs(),
    }
}
