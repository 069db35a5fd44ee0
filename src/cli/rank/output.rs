//! The JSON file of `electrode rank`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::input::Place;
use crate::artifact::atomic::write_bytes_atomic;
use crate::error::Result;
use crate::methods::ranking::{Contexts, Explanation, GroupRanking, Ranking, WordScore};

/// Neurons and rows by their numbers in the original matrix.
struct Numbers<'a> {
    place: &'a Place,
    /// Ascending by id.
    classes: &'a [(u32, String)],
}

impl Numbers<'_> {
    fn neuron(&self, column: u32) -> u64 {
        u64::from(column) + self.place.columns.start as u64
    }

    fn neurons(&self, columns: &[u32]) -> Vec<u64> {
        columns.iter().map(|&column| self.neuron(column)).collect()
    }

    fn ranking(&self, group: &GroupRanking, out: &mut Map<String, Value>) {
        out.insert("n".to_owned(), json!(group.n));
        out.insert("neurons".to_owned(), json!(self.neurons(&group.order)));
        out.insert("scores".to_owned(), json!(group.scores));
        out.insert("signs".to_owned(), json!(group.signs));
        out.insert("values".to_owned(), json!(group.values));
        if !group.p.is_empty() {
            out.insert("p".to_owned(), json!(group.p));
            out.insert("q".to_owned(), json!(group.q));
        }
        if let Some(selected) = &group.selected {
            out.insert("selected".to_owned(), json!(self.neurons(selected)));
        }
    }

    fn group(&self, group: &GroupRanking) -> Value {
        let mut out = Map::new();
        out.insert("id".to_owned(), json!(group.id));
        out.insert("name".to_owned(), json!(group.name));
        self.ranking(group, &mut out);
        Value::Object(out)
    }

    fn overall(&self, group: &GroupRanking) -> Value {
        let mut out = Map::new();
        self.ranking(group, &mut out);
        Value::Object(out)
    }

    fn contexts(&self, contexts: &Contexts) -> Value {
        let first = self.place.rows.start as u64;
        let rows: Vec<u64> = contexts.rows.iter().map(|row| row + first).collect();
        json!({"neuron": self.neuron(contexts.neuron), "rows": rows, "values": contexts.values})
    }

    fn words(&self, neuron: u64, words: &[WordScore]) -> Value {
        let name = |id: u32| {
            let class = self.classes.binary_search_by_key(&id, |(known, _)| *known);
            class.map_or("", |place| self.classes[place].1.as_str())
        };
        let word = |word: &WordScore| {
            json!({
                "word": name(word.class),
                "score": word.score,
                "signed": word.signed,
                "n": word.n,
            })
        };
        json!({"neuron": neuron, "words": words.iter().map(word).collect::<Vec<_>>()})
    }
}

/// What `electrode rank` promises, see the module of its arguments.
pub(super) fn to_json(ranking: &Ranking, place: &Place, classes: &[(u32, String)]) -> Value {
    let numbers = Numbers { place, classes };
    let first = place.columns.start as u64;
    let mut out = json!({
        "method": ranking.method,
        "n": ranking.n,
        "groups": ranking.groups.iter().map(|group| numbers.group(group)).collect::<Vec<_>>(),
        "overall": ranking.overall.as_ref().map(|group| numbers.overall(group)),
        "notes": ranking.notes,
    });
    match &ranking.explanation {
        Explanation::None => {}
        Explanation::Contexts(contexts) => {
            let list: Vec<Value> = contexts.iter().map(|one| numbers.contexts(one)).collect();
            out["contexts"] = json!(list);
        }
        Explanation::Words(lists) => {
            let list = (first..).zip(lists).map(|(neuron, words)| numbers.words(neuron, words));
            out["words"] = json!(list.collect::<Vec<_>>());
        }
        Explanation::Scales(scales) => {
            let one = |(neuron, scale): (u64, &crate::methods::ranking::Scale)| json!({"neuron": neuron, "centre": scale.centre, "scale": scale.scale});
            out["scales"] = json!((first..).zip(scales).map(one).collect::<Vec<_>>());
        }
    }
    out
}

/// Writes the whole file or nothing.
pub(super) fn write(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_vec(value).expect("a ranking is plain numbers and strings");
    text.push(b'\n');
    write_bytes_atomic(path, &text)
}
