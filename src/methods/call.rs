//! `NAME[:key=value,…]`, as users write a method with its settings.

use std::fmt;
use std::str::FromStr;

use super::registry::{Kind, METHODS, Method, Param, Takes};
use crate::error::{Error, Result, did_you_mean};

/// Largest whole number a setting may be: lists and bins of more are a slip of the hand, and would
/// not fit in memory. A seed needs no more either.
const LARGEST: u32 = 1_000_000;

/// A method with its settings, checked.
#[derive(Clone, Debug)]
pub struct MethodCall {
    /// Its row of the registry.
    pub method: &'static Method,
    text: String,
    given: Vec<(&'static str, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(f64),
    Flag(bool),
    Text(String),
}

impl MethodCall {
    /// Reads `NAME[:key=value,…]`; a key alone sets a flag.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let method = super::all().find(|method| method.name == name).ok_or_else(|| {
            Error::config(
                format!("method '{text}'"),
                format!(
                    "no method '{name}'{}",
                    did_you_mean(name, super::all().map(|method| method.name))
                ),
                "see `electrode methods` for the list",
            )
        })?;
        let mut call = Self { method, text: text.to_owned(), given: Vec::new() };
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            call.set(setting)?;
        }
        if call.has("tau") && call.has("alpha") {
            return Err(call.wrong(
                "tau and alpha are both given",
                "give a threshold (tau) or a share of the rows (alpha)",
            ));
        }
        Ok(call)
    }

    fn set(&mut self, setting: &str) -> Result<()> {
        let (key, text) = setting.split_once('=').unwrap_or((setting, "true"));
        let (key, text) = (key.trim(), text.trim());
        let params = self.method.params;
        let param = params.iter().find(|param| param.name == key).ok_or_else(|| {
            let known: Vec<&str> = params.iter().map(|param| param.name).collect();
            let near = did_you_mean(key, known.iter().copied());
            let remedy = if known.is_empty() {
                format!("'{}' takes no settings", self.method.name)
            } else {
                format!("'{}' takes {}", self.method.name, known.join(", "))
            };
            self.wrong(&format!("no setting '{key}'{near}"), &remedy)
        })?;
        if self.has(param.name) {
            return Err(self.wrong(&format!("'{key}' is given twice"), "give it once"));
        }
        let value = read(param, text)
            .ok_or_else(|| self.wrong(&format!("{key}={text}"), &wanted(param)))?;
        self.given.push((param.name, value));
        Ok(())
    }

    /// An error about these settings.
    pub fn wrong(&self, what: &str, remedy: &str) -> Error {
        Error::config(format!("method '{}'", self.text), what, remedy)
    }

    /// Whether the user gave any setting.
    pub fn has_settings(&self) -> bool {
        !self.given.is_empty()
    }

    /// Whether the user gave this setting.
    pub fn has(&self, key: &str) -> bool {
        self.given.iter().any(|(name, _)| *name == key)
    }

    fn value(&self, key: &str) -> Value {
        if let Some((_, value)) = self.given.iter().find(|(name, _)| *name == key) {
            return value.clone();
        }
        let param = self.method.params.iter().find(|param| param.name == key);
        let param = param.expect("methods ask only for settings of their registry row");
        read(param, param.default).expect("defaults are valid")
    }

    /// A number, given or by default.
    pub fn number(&self, key: &str) -> f64 {
        match self.value(key) {
            Value::Number(x) => x,
            _ => unreachable!("'{key}' is a number in the registry"),
        }
    }

    /// A whole number, given or by default.
    pub fn whole(&self, key: &str) -> usize {
        // Settings of this kind were checked to be whole and below 2^53.
        self.number(key) as usize
    }

    /// A flag, given or by default.
    pub fn flag(&self, key: &str) -> bool {
        self.value(key) == Value::Flag(true)
    }

    /// A word, given or by default.
    pub fn text(&self, key: &str) -> String {
        match self.value(key) {
            Value::Text(text) => text,
            _ => unreachable!("'{key}' is a word in the registry"),
        }
    }

    /// Whether the values' order is needed beside moments.
    pub fn needs_order(&self) -> bool {
        (self.method.needs_order)(self)
    }

    /// The refusal of a method that reads every value, where there are only histograms.
    pub fn needs_a_matrix(&self) -> Error {
        self.wrong(
            "needs the activations themselves, a run over a corpus keeps histograms",
            "use it with `electrode rank` on a matrix, or leave it out",
        )
    }

    /// The refusal of a method that another command runs, where there are activations without parts;
    /// none for methods that rank them.
    pub fn of_another_command(&self) -> Option<Error> {
        match self.method.kind {
            Kind::PerNeuron(_) | Kind::Whole(_) => None,
            Kind::Probing(_) => Some(self.needs_parts()),
            Kind::Causal(_) => Some(self.needs_a_model()),
        }
    }

    /// The refusal of a probing method, where rows have no parts to learn from, choose on and report.
    pub fn needs_parts(&self) -> Error {
        let what = "trains probes, which needs rows for training, choosing and reporting";
        self.wrong(what, "use `electrode probe`")
    }

    /// The refusal of a method that changes the model, where there are only activations.
    pub fn needs_a_model(&self) -> Error {
        self.wrong(
            "asks the model questions, here are only activations",
            "use it with `electrode stimulate`",
        )
    }

    /// Whether labels are needed. Methods without are run once per corpus, not per column.
    pub fn needs_labels(&self) -> bool {
        self.method.needs_labels
    }
}

fn read(param: &Param, text: &str) -> Option<Value> {
    match param.takes {
        Takes::Number { low, high } => {
            text.parse().ok().filter(|x| (low..=high).contains(x)).map(Value::Number)
        }
        Takes::Whole { low } => {
            let whole = text.parse::<u32>().ok().filter(|x| (low..=LARGEST).contains(x));
            whole.map(|x| Value::Number(f64::from(x)))
        }
        Takes::Flag => text.parse().ok().map(Value::Flag),
        Takes::OneOf(words) => words.contains(&text).then(|| Value::Text(text.to_owned())),
        Takes::Text => Some(Value::Text(text.to_owned())),
        Takes::Ranker => {
            let ranks = |method: &&Method| {
                // Whole methods (lape) choose sets; turned upside down these mean nothing.
                let ranks = matches!(method.kind, Kind::PerNeuron(_));
                method.name == text && method.needs_labels && ranks
            };
            METHODS.iter().find(ranks)?;
            Some(Value::Text(text.to_owned()))
        }
    }
}

fn wanted(param: &Param) -> String {
    let what = match param.takes {
        Takes::Number { low, high } if low == f64::MIN && high == f64::MAX => "a number".to_owned(),
        Takes::Number { low, high } => format!("a number from {low} to {high}"),
        Takes::Whole { low } => format!("a whole number from {low} to {LARGEST}"),
        Takes::Flag => "true or false".to_owned(),
        Takes::OneOf(words) => words.join(" or "),
        Takes::Text => "any text".to_owned(),
        Takes::Ranker => "the name of a method that ranks".to_owned(),
    };
    format!("{} is {what}: {}", param.name, param.meaning)
}

impl FromStr for MethodCall {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for MethodCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
