//! Methods as users write them, into work on a model.

use std::sync::Arc;

use super::config::NeuronConfig;
use crate::device::forward::Limits;
use crate::device::gradient_ops::Metric;
use crate::error::Result;
use crate::id::SiteKind;
use crate::methods::MethodCall;
use crate::methods::registry::{Causal, Kind};
use crate::model::{BlockSpec, ModelSpec};
use crate::stimulate::diffmask;
use crate::stimulate::gradients::Over;
use crate::stimulate::integrated_gradients::{Quadrature, Settings};
use crate::stimulate::log_prob_increase::FrozenNorm;
use crate::stimulate::masks::Holds;
use crate::stimulate::mediation::Mediation;
use crate::stimulate::question::{Question, Where};
use crate::stimulate::read::Questions;
use crate::stimulate::task::{ByLayer, Replacement, Task, Then, Value};

/// Tokens of a batch, copies included, unless the file says otherwise.
const BATCH_TOKENS: usize = 4096;
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

/// What methods are given.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// Means of the neurons, where one asks for them.
    pub(super) means: Option<&'a ByLayer>,
    pub(super) norm: &'a Arc<FrozenNorm>,
}

/// Parses the methods of an experiment; refuses what its questions cannot feed.
pub(super) fn methods(
    texts: &[String],
    questions: &Questions,
    (kind, spec): (SiteKind, &ModelSpec),
) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let call = MethodCall::parse(text)?;
        let Kind::Causal(causal) = call.method.kind else {
            let remedy = match call.method.kind {
                Kind::Probing(_) => "use `electrode probe`",
                _ => "use `electrode run` for methods over a corpus",
            };
            return Err(call.wrong("does not ask the model questions", remedy));
        };
        if texts[..at].contains(text) {
            return Err(call.wrong("is listed twice", "list each method once"));
        }
        let method = Chosen { call, causal };
        method.check(questions, kind)?;
        if causal == Causal::LogProbIncrease && spec.block != BlockSpec::PreNorm {
            let what = "needs a stream that the MLP is added to, between attention and MLP";
            return Err(method.call.wrong(what, "use a pre-norm model, or another method"));
        }
        chosen.push(method);
    }
    Ok(chosen)
}

impl Chosen {
    /// Refuses a method that the questions or the site cannot feed.
    fn check(&self, questions: &Questions, kind: SiteKind) -> Result<()> {
        let Self { call, causal } = self;
        let first = questions.list.first().expect("there are questions");
        let compares = match causal {
            Causal::Agreement | Causal::LogProbIncrease | Causal::DiagnosticWeights => false,
            Causal::Mask => call.text("mode") == "flip",
            _ => call.text("metric") == "logit_difference",
        };
        if compares && first.foil.is_none() {
            let remedy = "name the key of the wrong answers as questions.wrong, or choose \
                          another metric or mode";
            return Err(call.wrong("compares with a wrong answer, and there are none", remedy));
        }
        let patches = matches!(causal, Causal::Patch | Causal::AttributionPatch);
        if patches && first.other.is_none() {
            let remedy = "name the key of the second prompts as questions.counterfactual";
            return Err(call.wrong("needs a counterfactual prompt, and there are none", remedy));
        }
        if *causal == Causal::DiagnosticWeights && questions.quantities.is_none() {
            let remedy = "name the key of the number as questions.quantity";
            return Err(call.wrong("explains a number, and the questions have none", remedy));
        }
        let of_mlp = matches!(causal, Causal::Knowledge | Causal::LogProbIncrease);
        if of_mlp && kind != SiteKind::MlpAct {
            let what = format!("attributes to MLP neurons, not to {}", kind.name());
            return Err(call.wrong(&what, "set neurons.site = \"mlp_act\", or leave it out"));
        }
        let metric = if self.screened().is_some() { call.text("metric") } else { String::new() };
        if ["accuracy", "kl", "cosine"].contains(&metric.as_str()) {
            let what =
                format!("top needs a gradient, and {metric} has none at the untouched model");
            return Err(call.wrong(&what, "choose another metric, or leave top out"));
        }
        let means = matches!(causal, Causal::Ablate | Causal::Patch)
            && call.text("metric") == "cosine"
            && self.place() == Where::Answer;
        if means {
            let remedy = "leave out where=answer, or choose metric=kl";
            return Err(call.wrong("cosine looks at all tokens of a prompt", remedy));
        }
        if self.screened().is_some() && *causal == Causal::Ablate && call.text("how") == "resample"
        {
            let remedy = "choose how=mean or how=zero, or leave top out";
            return Err(call.wrong("top needs a value to go to, and resample has many", remedy));
        }
        Ok(())
    }

    /// Whether its number is that of the probe of `[metric]`.
    pub(super) fn reads_probe(&self) -> bool {
        let measures = self.call.method.params.iter().any(|param| param.name == "metric");
        measures && self.call.text("metric") == "probe"
    }

    /// The share that the first neurons of a `patch` must recover together, and how they are patched:
    /// nothing of them yet.
    pub(super) fn mediation(&self, kind: SiteKind) -> Option<(f64, Mediation)> {
        if self.causal != Causal::Patch
            || matches!(self.value(), Value::Of(Metric::Kl) | Value::Cosine)
        {
            return None;
        }
        let (place, value) = (self.place(), self.value());
        let share = Some(self.call.number("share")).filter(|share| *share > 0.0);
        share.map(|share| (share, Mediation { kind, place, value, sets: Vec::new() }))
    }

    /// How many neurons are looked at exactly, where a gradient chooses them.
    pub(super) fn screened(&self) -> Option<usize> {
        match self.causal {
            Causal::Ablate | Causal::Patch => Some(self.call.whole("top")).filter(|top| *top > 0),
            _ => None,
        }
    }

    /// Whether it needs the neurons' means.
    pub(super) fn needs_means(&self) -> bool {
        match self.causal {
            Causal::Ablate | Causal::Agreement => self.call.text("how") == "mean",
            Causal::Mask => self.call.text("towards") != "zero",
            _ => false,
        }
    }

    /// The search of gates, where it is one.
    pub(super) fn search(&self) -> Option<diffmask::Settings> {
        let call = &self.call;
        #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
        let holds = || match call.text("mode").as_str() {
            "flip" => Holds::Wrong { margin: call.number("margin") as f32 },
            _ => Holds::Same,
        };
        (self.causal == Causal::Mask).then(|| diffmask::Settings {
            holds: holds(),
            tolerance: call.number("eps"),
            steps: self.steps(),
            rate: call.number("rate"),
            learn: call.text("towards") == "learn",
            place: self.place(),
            seed: call.whole("seed") as u64,
        })
    }

    /// Whether it is asked question by question, as a task.
    pub(super) fn is_task(&self) -> bool {
        !matches!(self.causal, Causal::Mask | Causal::DiagnosticWeights)
    }

    /// Whether what is gated goes to its mean at first.
    pub(super) fn towards_means(&self) -> bool {
        self.causal == Causal::Mask && self.needs_means()
    }

    /// What is done first: the method, or the gradient that chooses its neurons.
    pub(super) fn task(&self, given: Given<'_>) -> Task {
        if self.screened().is_none() {
            return self.exact(given, None);
        }
        Task::Gradient {
            metric: self.metric(),
            towards: Some(self.replacement(given)),
            over: Over::Sum(self.place()),
            then: Then::Itself,
        }
    }

    /// The method itself, of the neurons that were chosen for it.
    pub(super) fn exact(&self, given: Given<'_>, only: Option<Arc<Vec<Vec<u32>>>>) -> Task {
        let call = &self.call;
        match self.causal {
            Causal::Ablate | Causal::Patch | Causal::Agreement => Task::Ablation {
                replacement: self.replacement(given),
                place: self.place(),
                value: self.value(),
                only,
            },
            Causal::AttributionPatch => match self.steps() {
                1 => Task::Gradient {
                    metric: self.metric(),
                    towards: Some(Replacement::Counterfactual),
                    over: Over::Sum(Where::Everywhere),
                    then: Then::Itself,
                },
                steps => Task::Path { metric: self.metric(), steps },
            },
            Causal::GradientActivation => {
                let (over, then) = match call.text("mode").as_str() {
                    "signed" => (Over::Sum(self.place()), Then::Itself),
                    "magnitude" if self.place() == Where::Everywhere => {
                        (Over::Magnitude, Then::Itself)
                    }
                    "fisher" => (Over::Sum(self.place()), Then::Square),
                    _ => (Over::Sum(self.place()), Then::Magnitude),
                };
                Task::Gradient { metric: self.metric(), towards: None, over, then }
            }
            Causal::Knowledge => {
                let quadrature = match call.text("rule").as_str() {
                    "right" => Quadrature::Right,
                    "left" => Quadrature::Left,
                    "ends" => Quadrature::Ends,
                    _ => Quadrature::Midpoint,
                };
                #[expect(clippy::cast_possible_truncation, reason = "a share")]
                let threshold = call.number("t") as f32;
                let settings = Settings { steps: self.steps(), quadrature, metric: self.metric() };
                Task::Knowledge { settings, threshold }
            }
            Causal::LogProbIncrease => {
                Task::LogProbIncrease { norm: Arc::clone(given.norm), exact: call.whole("exact") }
            }
            Causal::Mask | Causal::DiagnosticWeights => unreachable!("it is no task"),
        }
    }

    fn steps(&self) -> u32 {
        u32::try_from(self.call.whole("steps")).expect("checked by the registry")
    }

    fn place(&self) -> Where {
        match self.call.text("where").as_str() {
            "answer" => Where::Answer,
            _ => Where::Everywhere,
        }
    }

    fn metric(&self) -> Metric {
        match self.call.text("metric").as_str() {
            "log_prob" => Metric::LogProb,
            "prob" => Metric::Prob,
            "loss" => Metric::Loss,
            "kl" => Metric::Kl,
            "probe" => Metric::Probe,
            _ => Metric::LogitDifference,
        }
    }

    fn value(&self) -> Value {
        if self.causal == Causal::Agreement {
            return Value::Accuracy;
        }
        match self.call.text("metric").as_str() {
            "accuracy" => Value::Accuracy,
            "cosine" => Value::Cosine,
            _ => Value::Of(self.metric()),
        }
    }

    fn replacement(&self, given: Given<'_>) -> Replacement {
        if self.causal == Causal::Patch {
            return Replacement::Counterfactual;
        }
        match self.call.text("how").as_str() {
            "mean" => Replacement::Mean(Arc::clone(given.means.expect("they were taken"))),
            "resample" => Replacement::Resample(self.call.whole("seed") as u64),
            _ => Replacement::Zero,
        }
    }

    /// The importance of a neuron from the mean of its numbers: larger is more important.
    pub(super) fn importance(&self, mean: f64) -> f64 {
        match self.causal {
            // What the answer loses.
            Causal::Ablate if rises(&self.call.text("metric")) => mean,
            Causal::Ablate | Causal::Agreement => -mean,
            Causal::Knowledge | Causal::LogProbIncrease | Causal::Mask => mean,
            Causal::Patch
            | Causal::AttributionPatch
            | Causal::GradientActivation
            | Causal::DiagnosticWeights => mean.abs(),
        }
    }
}

/// The largest batch and prompt, and the tokens that a batch must have room for on any device.
pub(super) fn limits(
    config: &NeuronConfig,
    (methods, questions): (&[Chosen], &Questions),
    spec: &ModelSpec,
) -> Result<(Limits, usize)> {
    let lengths = questions.list.iter().map(|question| question.tokens.len());
    let longest = lengths.max().unwrap_or(1);
    let at_once = tokens_at_once(methods, questions, spec.attention.causal)?;
    let least = longest.max(at_once);
    let tokens = config.batch_tokens.unwrap_or(BATCH_TOKENS).max(least);
    Ok((Limits { tokens, sequence: longest }, least))
}

/// Tokens that a batch needs at least: all steps of a question's path go through the model together.
fn tokens_at_once(methods: &[Chosen], questions: &Questions, causal: bool) -> Result<usize> {
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

/// Whether a number is larger where answers are worse.
fn rises(metric: &str) -> bool {
    matches!(metric, "loss" | "kl" | "cosine")
}
