//! Interventions held against a model and a batch: what is written where, and what must be read
//! before that.

use std::collections::{BTreeMap, BTreeSet};

use super::grid::Grid;
use super::intervention::{Arm, Donors, EditSpec, Intervention, Positions, Writing};
use super::patch::{Patches, Wanted};
use crate::device::edit::{Edit, Write, in_order};
use crate::error::{Error, Result};
use crate::hash::derangement;
use crate::id::Site;
use crate::model::ModelSpec;

/// Edits by site.
pub type Edits = BTreeMap<Site, Vec<Edit>>;

/// The edits of one arm.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What the names of its arrays begin with: `NAME/`, or nothing.
    pub prefix: String,
    edits: Vec<Planned>,
}

#[derive(Clone, Debug)]
struct Planned {
    site: Site,
    columns: Option<Vec<u32>>,
    tokens: Option<Vec<u32>>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Write(Write),
    /// The donor of each token, in the run without edits.
    Donors(Vec<u32>),
}

impl Intervention {
    /// The arms, checked against a model and, where there is one, the batch they are for.
    pub fn plans(&self, spec: &ModelSpec, grid: Option<&Grid>) -> Result<Vec<Plan>> {
        let mut patches = Patches::default();
        let plan = |arm: &Arm| -> Result<Plan> {
            let prefix = if self.named { format!("{}/", arm.name) } else { String::new() };
            let mut resolved = |edit: &EditSpec| edit.resolve(spec, grid, &mut patches);
            let edits = arm.edits.iter().map(&mut resolved).collect::<Result<_>>()?;
            Ok(Plan { prefix, edits })
        };
        self.arms.iter().map(plan).collect()
    }

    /// The edits of every batch of a corpus, where there are no arms, rows or positions.
    pub fn of_corpus(&self, spec: &ModelSpec) -> Result<Edits> {
        if self.named {
            let what = "several arms take one batch of --ids, not a corpus";
            return Err(Error::config("--intervene", what, "run extract once for each"));
        }
        let [plan] = &self.plans(spec, None)?[..] else { unreachable!("no arms, one plan") };
        Ok(plan.edits(spec, &BTreeMap::new()))
    }
}

impl Intervention {
    /// The edits of each arm at every token of texts that grow, with its name where it has one.
    pub fn of_texts(&self, spec: &ModelSpec) -> Result<Vec<(Option<String>, Edits)>> {
        let plans = self.plans(spec, None)?;
        let arm = |(arm, plan): (&Arm, &Plan)| {
            (self.named.then(|| arm.name.clone()), plan.edits(spec, &BTreeMap::new()))
        };
        Ok(self.arms.iter().zip(&plans).map(arm).collect())
    }
}

impl Plan {
    /// Sites whose values without edits are written elsewhere.
    pub fn reads(&self) -> BTreeSet<Site> {
        let donors = |edit: &&Planned| matches!(edit.content, Content::Donors(_));
        self.edits.iter().filter(donors).map(|edit| edit.site).collect()
    }

    /// The edits, from the values of [`Self::reads`].
    pub fn edits(&self, spec: &ModelSpec, clean: &BTreeMap<Site, Vec<f32>>) -> Edits {
        let mut edits = Edits::new();
        for Planned { site, columns, tokens, content } in &self.edits {
            let (columns, tokens) = (columns.clone(), tokens.clone());
            let write = match content {
                Content::Write(write) => write.clone(),
                Content::Donors(donors) => {
                    let width = spec.site_width(*site);
                    let row = |donor: &u32| &clean[site][*donor as usize * width..][..width];
                    let pick = |row: &[f32]| match &columns {
                        None => row.to_vec(),
                        Some(columns) => columns.iter().map(|&at| row[at as usize]).collect(),
                    };
                    Write::Rows(donors.iter().map(row).flat_map(pick).collect())
                }
            };
            edits.entry(*site).or_default().push(Edit { columns, tokens, write });
        }
        edits
    }
}

impl EditSpec {
    fn resolve(
        &self,
        spec: &ModelSpec,
        grid: Option<&Grid>,
        patches: &mut Patches,
    ) -> Result<Planned> {
        let (site, refuse) = (self.site, |what: String, remedy: String| {
            Err(Error::config(&self.place, what, remedy))
        });
        if !spec.has_site(site) {
            let what = format!("the model has no site '{site}'");
            let remedy = format!(
                "layers are 0 to {}; see `electrode inspect MODEL` for the sites",
                spec.layers - 1
            );
            return refuse(what, remedy);
        }
        let width = spec.site_width(site);
        if let Some(wrong) = self.neurons.iter().flatten().find(|&&n| n as usize >= width) {
            let what = format!("neuron {wrong} is out of range at {site}");
            return refuse(what, format!("neurons are 0 to {}", width - 1));
        }
        self.check_twice()?;
        let per_sequence = spec.row_per_sequence(site);
        let tokens = self.tokens(grid, per_sequence)?;
        let columns = self.neurons.clone();
        let content = match &self.writing {
            Writing::Resample { seed, donors } => {
                let grid = self.batch(grid, "resample")?;
                Content::Donors(self.donors((*seed, *donors), grid, (&tokens, per_sequence))?)
            }
            writing => Content::Write(match writing {
                Writing::Rows(rows) => self.rows(rows, grid, (&tokens, per_sequence, width))?,
                Writing::Patch { file, tensor } => {
                    let grid = self.batch(grid, "patch")?;
                    let wanted = Wanted {
                        grid,
                        width,
                        columns: columns.as_deref(),
                        rows: &listed(&tokens, grid, per_sequence),
                        per_sequence,
                    };
                    let name = tensor.clone().unwrap_or_else(|| site.to_string());
                    Write::Rows(patches.values((file, &name), &wanted)?)
                }
                other => self.write(other, width)?,
            }),
        };
        Ok(Planned { site, columns, tokens, content })
    }

    /// Refuses a neuron that is listed twice where all of them are looked at together.
    fn check_twice(&self) -> Result<()> {
        let together = matches!(self.writing, Writing::Project(_) | Writing::KeepTop(_));
        let mut sorted = self.neurons.clone().filter(|_| together).unwrap_or_default();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            None => Ok(()),
            Some(pair) => {
                let what = format!("neuron {} twice", pair[0]);
                Err(Error::config(&self.place, what, "list it once"))
            }
        }
    }

    /// The batch, where the edit needs one.
    fn batch<'a>(&self, grid: Option<&'a Grid>, what: &str) -> Result<&'a Grid> {
        grid.ok_or_else(|| {
            let what = format!("'{what}' needs the batch of --ids");
            let remedy = "a corpus, or a text that grows, has no rows or positions to name";
            Error::config(&self.place, what, remedy)
        })
    }

    /// The tokens that are written, or the rows at a site that has one for each; none for all.
    fn tokens(&self, grid: Option<&Grid>, per_sequence: bool) -> Result<Option<Vec<u32>>> {
        let grid = match &self.positions {
            Positions::All => return Ok(None),
            _ => self.batch(grid, "positions")?,
        };
        let ends = |pair: &[u32]| match self.positions {
            Positions::First => pair[0],
            _ => pair[1] - 1,
        };
        Ok(match &self.positions {
            Positions::Pairs(pairs) => {
                let place = |&[row, position]: &[u32; 2]| {
                    let token = grid.token(row, position).ok_or_else(|| {
                        let what = format!("no real token at row {row}, position {position}");
                        let remedy = "positions are [row, position] of the input ids";
                        Error::config(&self.place, what, remedy)
                    })?;
                    Ok(if per_sequence { row } else { token })
                };
                Some(pairs.iter().map(place).collect::<Result<_>>()?)
            }
            _ if per_sequence => None,
            _ => Some(grid.starts.windows(2).map(ends).collect()),
        })
    }

    /// What needs no batch.
    fn write(&self, writing: &Writing, width: usize) -> Result<Write> {
        let count = self.neurons.as_ref().map_or(width, Vec::len);
        let wrong = |what: String, remedy: &str| Error::config(&self.place, what, remedy);
        let counted = |values: &Vec<f32>, what: &str| {
            let found = || format!("{} {what} for {count} neurons", values.len());
            match values.len() == 1 || values.len() == count {
                true => Ok(values.clone()),
                false => Err(wrong(found(), "give one per neuron, or one for all")),
            }
        };
        Ok(match writing {
            Writing::Set(values) => Write::Set(counted(values, "values")?),
            Writing::Add(values) => Write::Add(counted(values, "values")?),
            Writing::Scale(factor) => Write::Scale(*factor),
            Writing::Blend { gates, towards } => Write::Blend {
                gates: counted(gates, "gates")?,
                towards: counted(towards, "values of 'towards'")?,
            },
            Writing::Clamp { low, high } => {
                let (low, high) =
                    (counted(low, "values of 'low'")?, counted(high, "values of 'high'")?);
                if !in_order(&low, &high) {
                    let what = "'low' is above 'high' somewhere".into();
                    return Err(wrong(what, "give bounds in order"));
                }
                Write::Clamp { low, high }
            }
            Writing::KeepTop(k) if *k > count => {
                return Err(wrong(format!("'k' is {k} of {count} neurons"), "keep fewer"));
            }
            Writing::KeepTop(k) => Write::KeepTop(*k),
            Writing::Project(direction) if direction.len() != count => {
                let found =
                    format!("{} values of 'direction' for {count} neurons", direction.len());
                return Err(wrong(found, "give one per neuron"));
            }
            Writing::Project(direction) => Write::project(direction)
                .ok_or_else(|| wrong("'direction' is 0 everywhere".into(), "give it a length"))?,
            Writing::Rows(_) | Writing::Resample { .. } | Writing::Patch { .. } => {
                unreachable!("these need a batch")
            }
        })
    }

    /// Values that the file itself gives for each token.
    fn rows(
        &self,
        rows: &[Vec<f32>],
        grid: Option<&Grid>,
        (tokens, per_sequence, width): (&Option<Vec<u32>>, bool, usize),
    ) -> Result<Write> {
        let count = self.neurons.as_ref().map_or(width, Vec::len);
        let expected = listed(tokens, self.batch(grid, "resample")?, per_sequence).len();
        let wrong = |what: String| Err(Error::config(&self.place, what, "give a row per token"));
        if rows.len() != expected {
            return wrong(format!("{} rows of values for {expected} tokens", rows.len()));
        }
        if let Some(at) = rows.iter().position(|row| row.len() != count) {
            return wrong(format!("{} values in row {at} for {count} neurons", rows[at].len()));
        }
        Ok(Write::Rows(rows.concat()))
    }

    /// Whose values each written token gets.
    fn donors(
        &self,
        (seed, donors): (u64, Donors),
        grid: &Grid,
        (tokens, per_sequence): (&Option<Vec<u32>>, bool),
    ) -> Result<Vec<u32>> {
        let written = listed(tokens, grid, per_sequence);
        let alone = |what: &str| {
            let remedy = "give the batch more of them, or resample less";
            Err(Error::config(&self.place, format!("the only {what} has no donor"), remedy))
        };
        if donors == Donors::Positions || per_sequence {
            let mut pool = written.clone();
            pool.sort_unstable();
            pool.dedup();
            if pool.len() < 2 {
                return alone("token");
            }
            let other = derangement(pool.len(), seed);
            let place = |token| pool.binary_search(token).expect("it is of the pool");
            return Ok(written.iter().map(|token| pool[other[place(token)]]).collect());
        }
        if grid.rows < 2 {
            return alone("row");
        }
        let other = derangement(grid.rows, seed);
        let donor = |&token: &u32| {
            let row = grid.row(token);
            let from = &grid.starts[other[row]..];
            // A shorter row has no such place: its last token stands in.
            (from[0] + token - grid.starts[row]).min(from[1] - 1)
        };
        Ok(written.iter().map(donor).collect())
    }
}

/// Rows of a site that are written.
fn listed(tokens: &Option<Vec<u32>>, grid: &Grid, per_sequence: bool) -> Vec<u32> {
    let all = if per_sequence { u32::try_from(grid.rows).expect("few") } else { grid.tokens() };
    tokens.clone().unwrap_or_else(|| (0..all).collect())
}
