//! Questions from files: one JSON object a line, with the keys that the run file names.
//!
//! The prompt ends where a causal model answers; for a masked model it holds the blank `___` (or the
//! tokenizer's own mask token). Answers must be one token, as they would follow the prompt.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::question::Question;
use crate::corpus::tokenize::Tokenizer;
use crate::disk;
use crate::error::{Error, Result};
use crate::model::Model;

/// Longest line that is read.
const MAX_LINE: usize = 1 << 20;
/// What a blank looks like in a prompt for any masked model.
const BLANK: &str = "___";

/// `[questions]` of a run file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionConfig {
    /// JSON Lines.
    pub files: Vec<PathBuf>,
    /// Key of the prompt.
    #[serde(default = "prompt")]
    pub prompt: String,
    /// Key of the right answer.
    #[serde(default = "answer")]
    pub answer: String,
    /// Key of the wrong answer, for methods that compare.
    #[serde(default)]
    pub wrong: Option<String>,
    /// Key of a second prompt of as many tokens that asks for the wrong answer.
    #[serde(default)]
    pub counterfactual: Option<String>,
    /// Key by which questions are grouped.
    #[serde(default)]
    pub group: Option<String>,
    /// Key of a number that a probe is to read off the neurons (`diag-weights`): open nodes, depth.
    #[serde(default)]
    pub quantity: Option<String>,
    /// Keys of numbers that are accounted for beside it: the position of the word.
    #[serde(default)]
    pub covariates: Vec<String>,
    /// Only questions that have these values at these keys.
    #[serde(default)]
    pub only: BTreeMap<String, String>,
    /// Only so many of them, evenly spread over the file; 0 for all.
    #[serde(default)]
    pub limit: usize,
    /// Answers that are several tokens: `first` takes the first of them, `skip` leaves the question
    /// out, `refuse` ends the run.
    #[serde(default)]
    pub long_answers: LongAnswers,
}

fn prompt() -> String {
    "prompt".into()
}

fn answer() -> String {
    "answer".into()
}

/// See [`QuestionConfig::long_answers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongAnswers {
    /// Ends the run.
    #[default]
    Refuse,
    /// Leaves the question out.
    Skip,
    /// Takes the first token.
    First,
}

/// Questions of a file, with their groups.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// In the order of the file.
    pub list: Vec<Question>,
    /// Group of each question.
    pub group_of: Vec<Option<u32>>,
    /// Names of the groups, sorted.
    pub groups: Vec<String>,
    /// Number of each question at `quantity`, if there is one.
    pub quantities: Option<Vec<f64>>,
    /// Numbers of each question at `covariates`.
    pub covariates: Vec<Vec<f64>>,
    /// Questions left out because of their answers or lengths.
    pub skipped: u64,
}

/// Turns text into questions for one model.
struct Asker<'a> {
    config: &'a QuestionConfig,
    tokenizer: &'a Tokenizer,
    causal: bool,
    mask: Option<(u32, String)>,
    vocab: usize,
    longest: usize,
}

/// Reads and tokenises all questions.
pub fn read(config: &QuestionConfig, model: &Model, tokenizer: &Tokenizer) -> Result<Questions> {
    let masks = ["[MASK]", "<mask>"];
    let mask = masks.iter().find_map(|m| Some((tokenizer.token_to_id(m)?, (*m).to_owned())));
    let asker = Asker {
        config,
        tokenizer,
        causal: model.spec.attention.causal,
        mask,
        vocab: model.spec.vocab,
        longest: model.spec.sequence_limit(None),
    };
    let (mut questions, mut names) = (Questions::default(), Vec::new());
    for path in &config.files {
        let mut chosen = Vec::new();
        for (line, object) in objects(path)? {
            let fits = |(key, value): (&String, &String)| {
                Place { path, line }.text(&object, key).map(|text| text == *value)
            };
            let fits: Vec<bool> = config.only.iter().map(fits).collect::<Result<_>>()?;
            if fits.into_iter().all(|fits| fits) {
                chosen.push((line, object));
            }
        }
        for (line, object) in picked(chosen, config.limit) {
            let place = Place { path, line };
            if let Some(question) = asker.question(&object, place)? {
                names
                    .push(config.group.as_deref().map(|key| place.text(&object, key)).transpose()?);
                questions.list.push(question);
                if let Some(key) = &config.quantity {
                    let number = place.number(&object, key)?;
                    questions.quantities.get_or_insert_default().push(number);
                }
                let numbers = config.covariates.iter().map(|key| place.number(&object, key));
                questions.covariates.push(numbers.collect::<Result<_>>()?);
            } else {
                questions.skipped += 1;
            }
        }
    }
    if questions.list.is_empty() {
        let path = config.files.first().cloned().unwrap_or_default();
        let what = format!("no question is left ({} were skipped)", questions.skipped);
        return Err(Error::input(path, what, "see `long_answers` in [questions]"));
    }
    let ids: BTreeMap<String, u32> = {
        let sorted: std::collections::BTreeSet<_> = names.iter().flatten().cloned().collect();
        sorted.into_iter().zip(0..).collect()
    };
    questions.group_of = names.iter().map(|name| name.as_ref().map(|name| ids[name])).collect();
    questions.groups = ids.into_keys().collect();
    Ok(questions)
}

/// Where an object stands, for messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    line: usize,
}

impl Place<'_> {
    fn error(self, what: impl Into<String>, remedy: &str) -> Error {
        Error::input(self.path, format!("line {}: {}", self.line, what.into()), remedy)
    }

    fn text(self, object: &Value, key: &str) -> Result<String> {
        match object.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            Some(Value::Null) => Ok("null".into()),
            Some(_) => Err(self.error(format!("'{key}' is not a text"), "give a JSON string")),
            None => Err(self.error(
                format!("no key '{key}'"),
                "name the keys of your file in [questions]: prompt, answer, wrong, group",
            )),
        }
    }
}

impl Place<'_> {
    fn number(self, object: &Value, key: &str) -> Result<f64> {
        let number = object.get(key).and_then(Value::as_f64).filter(|x| x.is_finite());
        number.ok_or_else(|| {
            self.error(format!("'{key}' is no number here"), "give every question a JSON number")
        })
    }
}

/// The objects of a file with their line numbers.
fn objects(path: &Path) -> Result<Vec<(usize, Value)>> {
    let file = disk::File::open(path).map_err(Error::io(path, "open"))?;
    let mut objects = Vec::new();
    for (line, text) in (1..).zip(std::io::BufReader::new(file).split(b'\n')) {
        let text = text.map_err(Error::io(path, "read"))?;
        let place = Place { path, line };
        if text.len() > MAX_LINE {
            return Err(place.error("longer than 1 MiB", "one JSON object a line"));
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let object = serde_json::from_slice(&text)
            .map_err(|error| place.error(format!("not JSON: {error}"), "one JSON object a line"))?;
        objects.push((line, object));
    }
    Ok(objects)
}

/// The text at a key of every object of a file, in order, with its line.
pub fn texts(path: &Path, key: &str) -> Result<Vec<(usize, String)>> {
    let text = |(line, object): (usize, Value)| match object.get(key) {
        Some(Value::String(text)) => Ok((line, text.clone())),
        found => {
            let what = if found.is_some() { "is not a text" } else { "is not there" };
            let remedy = "name the key of the texts: FILE.jsonl:KEY";
            Err(Place { path, line }.error(format!("key '{key}' {what}"), remedy))
        }
    };
    objects(path)?.into_iter().map(text).collect()
}

/// `limit` of them, evenly spread.
fn picked(objects: Vec<(usize, Value)>, limit: usize) -> Vec<(usize, Value)> {
    let count = objects.len();
    let keep = if limit == 0 { count } else { limit.min(count) };
    let chosen = |at: usize| (at * keep) / count.max(1) != ((at + 1) * keep) / count.max(1);
    objects.into_iter().enumerate().filter(|(at, _)| chosen(*at)).map(|(_, one)| one).collect()
}

impl Asker<'_> {
    /// A question, or none if its answers are too long and may be left out.
    fn question(&self, object: &Value, place: Place<'_>) -> Result<Option<Question>> {
        let text = place.text(object, &self.config.prompt)?;
        let (tokens, at) = self.prompt(&text, place)?;
        let answer = |key: &str| self.answer(&place.text(object, key)?, &text, place);
        let Some(target) = answer(&self.config.answer)? else { return Ok(None) };
        let foil = match &self.config.wrong {
            Some(key) => match answer(key)? {
                Some(foil) if foil != target => Some(foil),
                Some(_) => {
                    return Err(place.error("both answers are the same token", "change one"));
                }
                None => return Ok(None),
            },
            None => None,
        };
        let other = match &self.config.counterfactual {
            Some(key) => {
                let (other, other_at) = self.prompt(&place.text(object, key)?, place)?;
                if other.len() != tokens.len() || other_at != at {
                    return Ok(None);
                }
                Some(other)
            }
            None => None,
        };
        Ok(Some(Question { tokens, at, target, foil, other }))
    }

    /// Tokens of a prompt, and the one that answers.
    fn prompt(&self, text: &str, place: Place<'_>) -> Result<(Vec<u32>, u32)> {
        let mut tokens = self.tokenizer.before().to_vec();
        let mut at = None;
        if self.causal {
            tokens.extend(self.tokenizer.encode(text.trim_end())?.tokens);
        } else {
            let (mask, spelled) = self.mask.as_ref().ok_or_else(|| {
                place.error("the tokenizer has no mask token", "use a masked or a causal model")
            })?;
            let text = text.replace(BLANK, spelled);
            let (before, after) = text.split_once(spelled.as_str()).ok_or_else(|| {
                place.error("the prompt has no blank", "write ___ where the answer belongs")
            })?;
            tokens.extend(self.tokenizer.encode(before.trim_end())?.tokens);
            at = Some(tokens.len());
            tokens.push(*mask);
            tokens.extend(self.tokenizer.encode(after)?.tokens);
            tokens.extend(self.tokenizer.after());
        }
        if tokens.is_empty() || tokens.len() > self.longest {
            let what = format!("the prompt has {} tokens", tokens.len());
            return Err(place.error(what, &format!("1 to {} fit the model", self.longest)));
        }
        let at = at.unwrap_or(tokens.len() - 1);
        Ok((tokens, u32::try_from(at).expect("a prompt is short")))
    }

    /// The token of an answer, as it would follow the prompt.
    fn answer(&self, answer: &str, prompt: &str, place: Place<'_>) -> Result<Option<u32>> {
        let answer = answer.trim();
        // Where the prompt stops, a blank comes before the next word.
        let spaced = format!(" {answer}");
        let text = if self.causal && !prompt.is_empty() { &spaced } else { answer };
        let tokens = self.tokenizer.encode(text)?.tokens;
        let fits = tokens.first().is_some_and(|&id| (id as usize) < self.vocab);
        match (tokens.len(), self.config.long_answers) {
            (1, _) | (2.., LongAnswers::First) if fits => Ok(Some(tokens[0])),
            (_, LongAnswers::Skip) => Ok(None),
            (count, _) => Err(place.error(
                format!("'{answer}' is {count} tokens, not one"),
                "choose another answer, or set long_answers = \"skip\" or \"first\"",
            )),
        }
    }
}
