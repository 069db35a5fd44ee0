//! Evidence from the summaries of a run: moments per class as they are, and histogram bins as
//! cells. One flat list of neurons over all watched sites.

use std::ops::Range;
use std::path::PathBuf;

use super::evidence::{Cells, ClassStat, Evidence};
use super::source::{Class, Design, Extremes, Side, Source};
use crate::accumulate::summary::SiteSummary;
use crate::corpus::block::Labels;
use crate::error::{Error, Result};
use crate::id::NeuronId;

/// Streaming evidence for one label column.
#[derive(Clone, Debug)]
pub struct SummarySource<'a> {
    summaries: &'a [SiteSummary],
    /// (summary, column) of each neuron.
    neurons: Vec<(u32, u32)>,
    design: Design,
    /// Index of each kept class in the group axis of the summaries.
    groups: Vec<usize>,
    /// Class of each sampled row, by summary.
    sampled: Vec<Vec<Option<u32>>>,
}

impl<'a> SummarySource<'a> {
    /// The classes of `labels.columns[column]`. All `neurons` must lie in a summary.
    pub fn new(
        summaries: &'a [SiteSummary],
        neurons: &[NeuronId],
        labels: &Labels,
        column: usize,
    ) -> Result<Self> {
        let column = &labels.columns[column];
        let rows = |group: usize| summaries.iter().map(|site| site.rows[group]).max().unwrap_or(0);
        let group = |class: usize| column.first_group as usize + class + 1;
        let classes = column.classes.iter().enumerate().map(|(c, name)| Class {
            id: u32::try_from(c).expect("classes are counted in u32"),
            name: name.clone(),
            rows: rows(group(c)),
        });
        let mut design = Design {
            label: column.name.clone(),
            origin: PathBuf::from(format!("label column '{}'", column.name)),
            numeric: column.numeric,
            ..Design::default()
        };
        let places = design.keep_classes(classes.collect(), column.min_count);
        let kept = places.iter().enumerate().filter(|(_, place)| place.is_some());
        let groups = kept.map(|(class, _)| group(class)).collect();
        Self::over(summaries, neurons, design, groups)
    }

    /// Every row, in one class: for methods that read no labels.
    pub fn unlabelled(summaries: &'a [SiteSummary], neurons: &[NeuronId]) -> Result<Self> {
        let rows = summaries.iter().map(|site| site.rows[0]).max().unwrap_or(0);
        let all = Class { id: 0, name: "*".to_owned(), rows };
        let design = Design { classes: vec![all], ..Design::default() };
        Self::over(summaries, neurons, design, vec![0])
    }

    fn over(
        summaries: &'a [SiteSummary],
        neurons: &[NeuronId],
        design: Design,
        groups: Vec<usize>,
    ) -> Result<Self> {
        let neurons = locate(summaries, neurons)?;
        let sampled = summaries.iter().map(|site| sample_classes(site, &groups)).collect();
        Ok(Self { summaries, neurons, design, groups, sampled })
    }

    fn evidence(&self, neuron: usize, ordered: bool) -> Evidence {
        let (site, n) = self.place(neuron);
        let stat = |&group: &usize| {
            let at = group * site.neurons + n;
            ClassStat {
                n: site.count[at],
                mean: site.mean[at],
                m2: site.variance[at] * site.count[at] as f64,
                min: f64::from(site.min[at]),
                max: f64::from(site.max[at]),
                firing: site.firing[at],
            }
        };
        let classes: Vec<ClassStat> = self.groups.iter().map(stat).collect();
        if !ordered {
            return Evidence::new(classes, Cells::default());
        }
        let low = classes.iter().fold(f64::INFINITY, |low, class| low.min(class.min));
        let high = classes.iter().fold(f64::NEG_INFINITY, |high, class| high.max(class.max));
        let cells = self.cells(site, n, (low, high));
        Evidence::new(classes, cells)
    }

    fn cells(&self, site: &SiteSummary, n: usize, (min, max): (f64, f64)) -> Cells {
        let (bins, groups) = (site.bins, site.groups + 1);
        let edges = &site.edges[n * (bins - 1)..(n + 1) * (bins - 1)];
        let within = |x: f64| if min <= max { x.clamp(min, max) } else { x };
        let border = |j: usize| match j {
            0 => min,
            _ if j == bins => max,
            _ => within(f64::from(edges[j - 1])),
        };
        let mut cells = Cells::default();
        for bin in 0..bins {
            let start = cells.entries.len();
            for (class, group) in (0_u32..).zip(&self.groups) {
                let count = site.histogram[(n * groups + group) * bins + bin];
                if count > 0 {
                    cells.entries.push((class, count));
                }
            }
            if cells.entries.len() > start {
                cells.span.push((border(bin), border(bin + 1)));
                cells.starts.push(start);
            }
        }
        cells.starts.push(cells.entries.len());
        cells
    }

    fn place(&self, neuron: usize) -> (&SiteSummary, usize) {
        let (site, column) = self.neurons[neuron];
        (&self.summaries[site as usize], column as usize)
    }
}

/// Class of each row of the sample; index 0 of the group axis stands for every row.
fn sample_classes(site: &SiteSummary, groups: &[usize]) -> Vec<Option<u32>> {
    let sample = &site.sample;
    let place = |group: usize| {
        groups.binary_search(&group).ok().and_then(|class| u32::try_from(class).ok())
    };
    let class_of = |row: usize| {
        let range = sample.group_starts[row] as usize..sample.group_starts[row + 1] as usize;
        let own = sample.groups[range].iter().find_map(|&g| place(g as usize + 1));
        own.or_else(|| place(0))
    };
    (0..sample.rows.len()).map(class_of).collect()
}

/// Where each neuron is.
fn locate(summaries: &[SiteSummary], neurons: &[NeuronId]) -> Result<Vec<(u32, u32)>> {
    let find = |neuron: &NeuronId| {
        let site = summaries.iter().position(|summary| summary.site == neuron.site);
        let site = site.filter(|&i| (neuron.index as usize) < summaries[i].neurons);
        let site = site.and_then(|i| u32::try_from(i).ok());
        site.map(|i| (i, neuron.index)).ok_or_else(|| Error::Contradiction {
            what: format!("neuron {neuron} is to be ranked, but no summary holds it"),
        })
    };
    neurons.iter().map(find).collect()
}

impl Source for SummarySource<'_> {
    fn design(&self) -> &Design {
        &self.design
    }

    fn neurons(&self) -> usize {
        self.neurons.len()
    }

    fn visit(&self, range: Range<usize>, ordered: bool, see: &mut dyn FnMut(usize, &Evidence)) {
        for neuron in range {
            see(neuron, &self.evidence(neuron, ordered));
        }
    }

    fn require_order(&self) -> Result<()> {
        if self.summaries.iter().all(|site| site.bins > 0) {
            return Ok(());
        }
        Err(Error::config(
            "statistics.bins",
            "is 0, but this method needs the order of the values",
            "set statistics.bins to 64 or more, or leave the method out",
        ))
    }

    fn extremes(&self, neuron: usize, k: usize, side: Side) -> Extremes {
        let (site, n) = self.place(neuron);
        let kept = match side {
            Side::Top => &site.top,
            Side::Bottom => &site.bottom,
        };
        let len = kept.len.get(n).map_or(0, |&len| len as usize).min(k);
        let at = n * kept.k..n * kept.k + len;
        let rows = kept.rows[at.clone()].iter().map(|row| row.0);
        rows.zip(kept.values[at].iter().map(|&x| f64::from(x))).collect()
    }

    fn labelled_values(&self, neuron: usize) -> Vec<(u32, f64)> {
        let (site, n) = self.place(neuron);
        let classes = &self.sampled[self.neurons[neuron].0 as usize];
        let known = |row: usize| {
            let x = f64::from(site.sample.values[row * site.neurons + n]);
            classes[row].filter(|_| x.is_finite()).map(|class| (class, x))
        };
        (0..classes.len()).filter_map(known).collect()
    }
}
