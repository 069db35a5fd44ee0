//! A ranking with its name, and its top.

use crate::error::{Error, Result};

/// What one method, seed or shard says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ranked<'a> {
    /// What errors call it.
    pub name: &'a str,
    /// Methods of one kind have one family: linear probes agree among themselves.
    pub family: &'a str,
    /// Whether others are compared with it. A random ranking is compared with others and does not
    /// judge them.
    pub judges: bool,
    /// Neurons, best first.
    pub order: &'a [u32],
    /// Their scores, along `order`, or empty if no two are equal.
    pub scores: &'a [f64],
}

impl Ranked<'_> {
    fn wrong(&self, what: String, remedy: &str) -> Error {
        Error::config(format!("ranking '{}'", self.name), what, remedy)
    }

    /// Its `size` best neurons, ascending. An error if it is shorter, or names a neuron twice.
    pub fn top(&self, size: usize) -> Result<Vec<u32>> {
        if size == 0 || size > self.order.len() {
            return Err(self.wrong(
                format!("its top {size} of {} neurons is asked", self.order.len()),
                "ask for 1 neuron at least, and for no more than every ranking has",
            ));
        }
        let mut top = self.order[..size].to_vec();
        top.sort_unstable();
        if let Some(twice) = top.windows(2).find(|pair| pair[0] == pair[1]) {
            let what = format!("neuron {} stands in it twice", twice[0]);
            return Err(self.wrong(what, "give every neuron one place"));
        }
        Ok(top)
    }

    /// Checks that it ranks some of 0..neurons, each once, and has a score for each or none.
    pub(crate) fn check(&self, neurons: usize) -> Result<()> {
        if self.order.is_empty() {
            return Err(self.wrong("it is empty".to_owned(), "leave it out"));
        }
        let last = *self.top(self.order.len())?.last().unwrap_or(&0);
        if last as usize >= neurons {
            let what = format!("it ranks neuron {last}, there are {neurons}");
            return Err(self.wrong(what, "compare rankings of the same neurons"));
        }
        if !self.scores.is_empty() && self.scores.len() != self.order.len() {
            let what = format!("{} scores for {} neurons", self.scores.len(), self.order.len());
            return Err(self.wrong(what, "give one score for each neuron, or none"));
        }
        Ok(())
    }

    /// `eval-select`: the mean of |value| over its `size` best neurons, `values` being by neuron and
    /// measured on rows that the ranking did not see (selectivity, IoU, average precision).
    pub fn mean_of_top(&self, size: usize, values: &[f64]) -> Result<f64> {
        self.check(values.len())?;
        let top = self.top(size)?;
        Ok(top.iter().map(|&neuron| values[neuron as usize].abs()).sum::<f64>() / size as f64)
    }
}
