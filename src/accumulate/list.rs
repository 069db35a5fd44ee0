//! Results that are not summed: the items of each piece of work, in the order of the pieces.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{Reader, put, put_len};
use super::run::{counts_from_slice, counts_to_array, damaged};
use super::{Merge, State};
use crate::corpus::block::Counts;
use crate::error::Result;

/// Items as bytes. Numbers that are no integers are to be stored by their bits: the decimal digits of
/// JSON may be read back as a neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What was read for them.
    pub counts: Counts,
    items: Vec<Vec<u8>>,
}

impl List {
    /// Of these items.
    pub fn of<T: Serialize>(items: &[T], counts: Counts) -> Self {
        let bytes = |item: &T| serde_json::to_vec(item).expect("plain data");
        Self { counts, items: items.iter().map(bytes).collect() }
    }

    /// The items again, in order.
    pub fn items<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let item = |bytes: &Vec<u8>| {
            serde_json::from_slice(bytes).map_err(|error| damaged(format!("an item: {error}")))
        };
        self.items.iter().map(item).collect()
    }
}

impl Merge for List {
    fn merge(&mut self, later: Self) -> Result<()> {
        self.counts += later.counts;
        self.items.extend(later.items);
        Ok(())
    }
}

impl State for List {
    type Plan = ();

    fn counts(&self) -> Counts {
        self.counts
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put(out, &counts_to_array(&self.counts));
        put_len(out, self.items.len());
        for item in &self.items {
            put_len(out, item.len());
            out.extend_from_slice(item);
        }
    }

    fn decode((): &(), bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let counts = counts_from_slice(&reader.take::<u64>(10)?);
        let count = reader.length()?;
        let mut items = Vec::new();
        for _ in 0..count {
            let length = reader.length()?;
            items.push(reader.take(length)?);
        }
        reader.finish()?;
        Ok(Self { counts, items })
    }
}
