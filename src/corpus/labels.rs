//! Label strings to group ids: counted while the corpus is planned, looked up while it is run.

use std::collections::{BTreeSet, HashMap};

use super::block::{Column, Labels};
use super::config::{ConceptConfig, Missing};
use super::document::Sentence;
use crate::error::{Error, Result, did_you_mean};

/// The class of rows without a value, where they are one (`missing = "class"`).
pub const MISSING: &str = "_";

/// Distinct values a column may have when all of them become classes.
const MAX_CLASSES: usize = 1_000_000;

/// Distinct values that are counted to find the most frequent.
const MAX_COUNTED: usize = 5_000_000;

/// Values kept beside the wanted classes, to suggest one for a name that never occurs.
const MAX_SUGGESTIONS: usize = 1000;

/// Finds the value of a column.
fn value<'a>(labels: &'a [(String, String)], column: &str) -> Option<&'a str> {
    labels.iter().find(|(name, _)| name == column).map(|(_, value)| value.as_str())
}

/// Group ids of labels: what rows are told apart by.
#[derive(Clone, Debug, Default)]
pub struct LabelIndex {
    columns: Vec<IndexedColumn>,
}

#[derive(Clone, Debug)]
struct IndexedColumn {
    name: String,
    ids: HashMap<String, u32>,
    missing: Option<u32>,
}

impl LabelIndex {
    /// `concepts` are those the labels were made from, in the same order.
    pub fn new(labels: &Labels, concepts: &[ConceptConfig]) -> Self {
        assert_eq!(labels.columns.len(), concepts.len(), "one column per concept");
        let columns = labels.columns.iter().zip(concepts).map(|(column, concept)| {
            let ids: HashMap<String, u32> = (column.first_group..)
                .zip(&column.classes)
                .map(|(id, c)| (c.clone(), id))
                .collect();
            let missing = match concept.missing {
                Missing::Exclude => None,
                Missing::Class => ids.get(MISSING).copied(),
            };
            IndexedColumn { name: column.name.clone(), ids, missing }
        });
        Self { columns: columns.collect() }
    }

    /// The groups of a row, ascending: each column's value on the word if it has one, otherwise
    /// on its sentence. A value that is no class of the run is outside its column.
    pub fn groups(&self, word: &[(String, String)], sentence: &[(String, String)]) -> Vec<u32> {
        self.columns
            .iter()
            .filter_map(|column| {
                match value(word, &column.name).or_else(|| value(sentence, &column.name)) {
                    Some(value) => column.ids.get(value).copied(),
                    None => column.missing,
                }
            })
            .collect()
    }
}

/// Counts the values of one column.
#[derive(Debug)]
pub(super) struct ColumnCounter<'a> {
    concept: &'a ConceptConfig,
    counts: HashMap<String, u64>,
    /// Values beside the wanted classes, as far as they are kept.
    others: BTreeSet<String>,
    on_words: bool,
    on_sentences: bool,
}

/// A column as the plan keeps it, before groups are numbered.
pub(super) struct Counted {
    pub(super) classes: Vec<String>,
    pub(super) counts: Vec<u64>,
    pub(super) numeric: bool,
    pub(super) on_sentences: bool,
}

impl<'a> ColumnCounter<'a> {
    pub(super) fn new(concept: &'a ConceptConfig) -> Self {
        let wanted = concept.classes.iter().flatten().map(|class| (class.clone(), 0));
        let counts = wanted.collect();
        Self { concept, counts, others: BTreeSet::new(), on_words: false, on_sentences: false }
    }

    /// Whether the column occurred at all.
    pub(super) fn seen(&self) -> bool {
        self.on_words || self.on_sentences
    }

    /// Adds a sentence: each word with a value counts once, as does each word (or the sentence,
    /// where there are none) under a value of the whole sentence.
    pub(super) fn add(&mut self, sentence: &Sentence) -> Result<()> {
        let whole = value(&sentence.labels, &self.concept.column);
        self.on_sentences |= whole.is_some();
        if sentence.words.is_empty() {
            return whole.map_or(Ok(()), |whole| self.count(whole));
        }
        for word in &sentence.words {
            let own = value(&word.labels, &self.concept.column);
            self.on_words |= own.is_some();
            if let Some(value) = own.or(whole) {
                self.count(value)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, value: &str) -> Result<()> {
        if let Some(count) = self.counts.get_mut(value) {
            *count += 1;
            return Ok(());
        }
        if self.concept.classes.is_some() {
            if self.others.len() < MAX_SUGGESTIONS && !self.others.contains(value) {
                self.others.insert(value.to_owned());
            }
            return Ok(());
        }
        let chosen = self.concept.most_frequent.is_some();
        let most = if chosen { MAX_COUNTED } else { MAX_CLASSES };
        if self.counts.len() >= most {
            let remedy = if chosen {
                "name the classes: classes = [\"…\"]"
            } else {
                "keep the frequent ones: most_frequent = 1000, or name them: classes = [\"…\"]"
            };
            let what = format!("column '{}' has over {most} values", self.concept.column);
            return Err(Error::config(self.place(), what, remedy));
        }
        self.counts.insert(value.to_owned(), 1);
        Ok(())
    }

    fn place(&self) -> String {
        format!("concepts[column = \"{}\"]", self.concept.column)
    }

    /// The classes, sorted by name.
    pub(super) fn finish(self) -> Result<Counted> {
        self.check_classes()?;
        let mut values = self.counts.keys().filter(|value| *value != MISSING).peekable();
        let numeric = values.peek().is_some()
            && values.all(|value| value.parse::<f64>().is_ok_and(f64::is_finite));
        let mut classes: Vec<(String, u64)> = self.counts.into_iter().collect();
        if let Some(most) = self.concept.most_frequent {
            classes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            classes.truncate(most);
        }
        if self.concept.missing == Missing::Class && classes.iter().all(|(c, _)| c != MISSING) {
            classes.push((MISSING.to_owned(), 0));
        }
        classes.sort();
        let (classes, counts) = classes.into_iter().unzip();
        Ok(Counted { classes, counts, numeric, on_sentences: self.on_sentences })
    }

    /// A class that was asked for and never occurs is most likely misspelt.
    fn check_classes(&self) -> Result<()> {
        let mut wanted = self.concept.classes.iter().flatten();
        let Some(absent) =
            wanted.find(|class| *class != MISSING && self.counts.get(*class) == Some(&0))
        else {
            return Ok(());
        };
        let seen = self.others.iter().map(String::as_str);
        let listed: Vec<&str> = seen.clone().take(40).collect();
        let what = format!("class '{absent}' never occurs{}", did_you_mean(absent, seen));
        let remedy = format!("leave it out, or choose among: {}", listed.join(", "));
        Err(Error::config(format!("{}.classes", self.place()), what, remedy))
    }
}

/// Numbers the groups of all columns.
pub(super) fn number(concepts: &[ConceptConfig], counted: Vec<Counted>) -> Result<Labels> {
    let mut columns = Vec::with_capacity(concepts.len());
    let mut first_group = 0_u32;
    for (concept, counted) in concepts.iter().zip(counted) {
        let next =
            u32::try_from(counted.classes.len()).ok().and_then(|n| first_group.checked_add(n));
        let column = Column {
            name: concept.column.clone(),
            classes: counted.classes,
            first_group,
            min_count: concept.min_count,
            numeric: counted.numeric,
        };
        first_group = next.ok_or_else(|| {
            Error::config("concepts", "over 2^32 classes", "keep fewer: most_frequent = 1000")
        })?;
        columns.push(column);
    }
    Ok(Labels { columns })
}
