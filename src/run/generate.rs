//! `electrode generate`: prompts continued by a model, in one arm for each set of edits.

use serde::Serialize;

use super::Report;
use super::devices::{self, Devices};
use crate::capture::plan::Edits;
use crate::config::Dtype;
use crate::corpus::tokenize::Tokenizer;
use crate::device::cpu::CpuDevice;
use crate::device::decode::{Decoder, check_edits, check_model};
use crate::device::suffix_ops::SuffixOps;
use crate::engine::tokenizer::open_tokenizer;
use crate::error::{Error, Result};
use crate::generate::continuation::{
    Continuation, Finished, On, Request, continue_texts, decode_limits, judge,
};
use crate::generate::measures::{distinct, perplexity};
use crate::generate::prompts::{Prompt, continuation_text, read_prompts};
use crate::generate::sample::Sampling;
use crate::model::Model;

/// Most tokens that are asked for at once, of all texts of an arm.
const MOST_TOKENS: usize = 1 << 31;

/// What is continued, by which model, and how.
#[derive(Clone, Debug)]
pub struct TextConfig {
    /// Folder, or name in the local Hub cache.
    pub model: String,
    /// Of the forward pass.
    pub dtype: Dtype,
    /// Where it runs; of several GPUs on the first.
    pub device: Option<String>,
    /// Prompts as they are.
    pub prompts: Vec<String>,
    /// Files of prompts: `FILE.jsonl` or `FILE.jsonl:KEY`.
    pub files: Vec<String>,
    /// Begin each prompt with the model's BOS where its tokenizer does not.
    pub add_bos: bool,
    /// Continuations of each prompt.
    pub samples: usize,
    /// Tokens of each, at most.
    pub max_tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Go on behind the model's end-of-text tokens.
    pub ignore_end: bool,
    /// Texts that end a continuation; they are no part of it.
    pub stop: Vec<String>,
    /// Tokens of a batch, and of the cache; results are the same for any number.
    pub batch_tokens: Option<usize>,
}

/// One run over all prompts.
#[derive(Clone, Debug, Default)]
pub struct TextArm {
    /// Its name, where there are several.
    pub name: Option<String>,
    /// What is written into the model.
    pub edits: Edits,
    /// At which tokens.
    pub on: On,
}

/// A text that was generated: a line of the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Text {
    /// The arm, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Number of the prompt, from 0.
    pub index: usize,
    /// Number of the sample, from 0.
    pub sample: usize,
    /// The prompt.
    pub prompt: String,
    /// What was generated after it.
    pub text: String,
    /// Its tokens, an end-of-text token included.
    pub tokens: Vec<u32>,
    /// Sum of their log-probabilities, in nats, under the model as edited and before temperature.
    pub log_prob: f64,
    /// exp(-log_prob / tokens).
    pub perplexity: f64,
    /// The same under the model without edits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_log_prob: Option<f64>,
    /// See `perplexity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_perplexity: Option<f64>,
    /// `end` (an end-of-text token), `stop` or `length`.
    pub finished: &'static str,
}

/// What the texts of an arm are like.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The arm, where there are several.
    pub arm: Option<String>,
    /// Texts.
    pub texts: usize,
    /// Tokens that were generated.
    pub tokens: usize,
    /// Perplexity of all tokens under the model as edited.
    pub perplexity: f64,
    /// And without edits.
    pub judge_perplexity: Option<f64>,
    /// Different tokens over all tokens, and the same of pairs.
    pub distinct: [f64; 2],
}

impl Summary {
    /// Of the texts of one arm.
    pub fn of(texts: &[Text]) -> Self {
        let tokens = texts.iter().map(|text| text.tokens.len()).sum();
        let judged: Option<f64> = texts.iter().map(|text| text.judge_log_prob).sum();
        let grams = |n| distinct(texts.iter().map(|text| &text.tokens[..]), n);
        Self {
            arm: texts.first().and_then(|text| text.arm.clone()),
            texts: texts.len(),
            tokens,
            perplexity: perplexity(texts.iter().map(|text| text.log_prob).sum(), tokens),
            judge_perplexity: judged.map(|sum| perplexity(sum, tokens)),
            distinct: [grams(1), grams(2)],
        }
    }
}

/// A JSON object a line.
pub fn json_lines(texts: &[Vec<Text>]) -> String {
    let line = |text: &Text| serde_json::to_string(text).expect("plain data") + "\n";
    texts.iter().flatten().map(line).collect()
}

/// A model and its prompts, opened and checked.
pub struct Generation {
    /// What was asked for.
    pub config: TextConfig,
    /// The model.
    pub model: Model,
    /// Its prompts.
    pub prompts: Vec<Prompt>,
    tokens: Vec<Vec<u32>>,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
    devices: Devices,
}

impl Generation {
    /// Opens everything; refuses what cannot work.
    pub fn open(config: TextConfig) -> Result<Self> {
        config.check()?;
        let devices = Devices::choose(config.device.as_deref(), config.dtype)?;
        let model = Model::open(&config.model)?;
        check_model(&model.spec)?;
        let tokenizer = open_tokenizer(&model, config.add_bos)?;
        let prompts = read_prompts(&config.prompts, &config.files, (&model.spec, &tokenizer))?;
        let ends = if config.ignore_end { Vec::new() } else { model.end_tokens()? };
        let tokens = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
        let generation = Self { config, model, prompts, tokens, tokenizer, ends, devices };
        decode_limits(&generation.model.spec, &generation.request(On::All), 1)?;
        Ok(generation)
    }

    /// Which kind of arithmetic, see [`Devices::kind`].
    pub fn device_kind(&self) -> Option<String> {
        self.devices.kind()
    }

    /// Hash of the tokenizer's file.
    pub fn tokenizer_hash(&self) -> &str {
        self.tokenizer.hash()
    }

    fn request(&self, on: On) -> Request<'_> {
        Request {
            prompts: &self.tokens,
            samples: self.config.samples,
            max_tokens: self.config.max_tokens,
            sampling: self.config.sampling,
            ends: &self.ends,
            stop: None,
            on,
        }
    }

    /// Refuses edits that cannot be made here.
    pub fn check_arms(&self, arms: &[TextArm]) -> Result<()> {
        arms.iter().try_for_each(|arm| check_edits(&self.model.spec, &arm.edits))
    }

    /// The texts of each arm, where the configuration says; with `judged`, each is also held
    /// against the model without edits.
    pub fn run(
        &self,
        arms: &[TextArm],
        judged: bool,
        report: Report<'_>,
    ) -> Result<Vec<Vec<Text>>> {
        match &self.devices {
            Devices::Cpu => self.run_on(CpuDevice, (arms, judged), report),
            Devices::Cuda(found) => {
                let gpu = found.first().expect("at least one");
                let ops = devices::open(gpu, self.config.dtype)?;
                self.run_on(ops, (arms, judged), report)
            }
        }
    }

    /// As [`Self::run`], on this device.
    pub fn run_on<O: SuffixOps>(
        &self,
        ops: O,
        (arms, judged): (&[TextArm], bool),
        report: Report<'_>,
    ) -> Result<Vec<Vec<Text>>> {
        self.check_arms(arms)?;
        let batch = self.config.batch_tokens.unwrap_or(self.devices.batch_tokens());
        let limits = decode_limits(&self.model.spec, &self.request(On::All), batch)?;
        let mut decoder = Decoder::new(ops, &self.model, limits)?;
        let stop = |text: &[u32], prompt: usize| {
            let text = self.text_of(text.split_at(prompt))?;
            Ok(self.config.stop.iter().any(|stop| text.contains(stop.as_str())))
        };
        let (mut all, mut before) = (Vec::new(), 0);
        for (number, arm) in arms.iter().enumerate() {
            let mut request = self.request(arm.on);
            request.stop = if self.config.stop.is_empty() { None } else { Some(&stop) };
            let mut told = |tokens: u64, share: f64| {
                let share = (number as f64 + share) / arms.len() as f64;
                report("generating", before + tokens, share);
            };
            let found = continue_texts(&mut decoder, &request, &arm.edits, &mut told)?;
            before += found.iter().map(|one| one.tokens.len() as u64).sum::<u64>();
            let sums = if judged {
                judge(&mut decoder, &self.tokens, &found)?.into_iter().map(Some).collect()
            } else {
                vec![None; found.len()]
            };
            let text = |(one, judged)| self.text(arm, one, judged);
            all.push(found.into_iter().zip(sums).map(text).collect::<Result<_>>()?);
        }
        report("generating", before, 1.0);
        self.model.check_unchanged()?;
        Ok(all)
    }

    /// What tokens add to a prompt.
    fn text_of(&self, of: (&[u32], &[u32])) -> Result<String> {
        continuation_text(&self.tokenizer, of, &self.ends)
    }

    fn text(&self, arm: &TextArm, one: Continuation, judged: Option<f64>) -> Result<Text> {
        let prompt = &self.prompts[one.prompt];
        let mut text = self.text_of((&prompt.tokens, &one.tokens))?;
        if one.finished == Finished::Stop {
            let first = self.config.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
            text.truncate(first.unwrap_or(text.len()));
        }
        let count = one.tokens.len();
        Ok(Text {
            arm: arm.name.clone(),
            index: one.prompt,
            sample: one.sample,
            prompt: prompt.text.clone(),
            text,
            log_prob: one.log_prob,
            perplexity: perplexity(one.log_prob, count),
            judge_log_prob: judged,
            judge_perplexity: judged.map(|sum| perplexity(sum, count)),
            finished: one.finished.name(),
            tokens: one.tokens,
        })
    }
}

impl TextConfig {
    fn check(&self) -> Result<()> {
        self.sampling.check()?;
        let wrong = |key: &str, what: &str, remedy: &str| Err(Error::config(key, what, remedy));
        for (key, count) in [("samples", self.samples), ("max-tokens", self.max_tokens)] {
            if count == 0 || count > MOST_TOKENS {
                return wrong(key, &format!("{count} of them"), "ask for 1 or more");
            }
        }
        if self.samples.saturating_mul(self.max_tokens) > MOST_TOKENS {
            return wrong("samples", "more than 2^31 tokens for a prompt", "ask for fewer");
        }
        if self.batch_tokens == Some(0) {
            return wrong("batch-tokens", "no token fits", "use 2048, or as many as there is room");
        }
        if self.stop.iter().any(String::is_empty) {
            return wrong("stop", "an empty text is everywhere", "name some text");
        }
        Ok(())
    }
}
