//! `feat-select`: the fewest features that do as well as all neurons of all sites (Dalvi et al. 2020): the
//! first sites are chosen, then a neuron of each correlation cluster, then the top of a ranking of these.
//! Each step is one bank of probes on chosen neurons; dev rows decide, test rows are reported.

use super::ProbingDevice;
use super::judge::Judge;
use super::measured::Answered;
use super::probes::{probe, solver};
use super::rankings::Columns;
use crate::artifact::probing::SelectionRow;
use crate::device::moment_ops::MomentOps;
use crate::error::Result;
use crate::methods::algebra::Dense;
use crate::methods::clustering::{Likeness, Tree};
use crate::methods::findings::FEATURE_SHARES;
use crate::methods::probing::rows::Block;
use crate::methods::probing::salience::exact_order;
use crate::methods::similarity::Moments;
use crate::probe::source::Source;
use crate::probe::split::Part;
use crate::probe::tasks::{Labelled, Shifted};
use crate::probe::train::Trained;

/// What a probe on some neurons did.
#[derive(Clone, Debug)]
struct Tried {
    neurons: Vec<u32>,
    dev: f64,
    test: Option<f64>,
    trained: Trained,
}

impl<O: ProbingDevice> Judge<'_, '_, O> {
    /// Rows of `selection.parquet`, one for each label. The place holds all sites side by side, `ends`
    /// being the columns after each of them.
    pub(super) fn selection(
        &mut self,
        columns: &Columns,
        ends: &[usize],
    ) -> Result<Vec<SelectionRow>> {
        let mut rows = Vec::new();
        for label in 0..self.site.tasks.labels.len() {
            if self.site.tasks.list[self.site.tasks.labels[label].task].classes > 0 {
                rows.push(self.select(label, (columns, ends))?);
            }
        }
        Ok(rows)
    }

    fn select(
        &mut self,
        label: usize,
        (columns, ends): (&Columns, &[usize]),
    ) -> Result<SelectionRow> {
        let judge = self.site.config.judge.clone();
        let width = self.site.place.width;
        let prefixes = ends.iter().map(|end| (0..number(*end)).collect()).collect();
        let by_sites = self.tried(label, prefixes)?;
        let all = by_sites.last().expect("there are sites").clone();
        let enough = |own: &&Tried| own.dev >= (1.0 - judge.layer_delta) * all.dev;
        let (first, sites) =
            by_sites.iter().enumerate().find(|(_, own)| enough(own)).expect("all of them do");
        let speakers = match judge.cluster {
            0.0 => sites.neurons.clone(),
            distance => self.speakers((label, &sites.neurons), distance)?,
        };
        let spoken = self.tried(label, vec![speakers])?.pop().expect("one was asked for");
        let order = order(&spoken, width);
        let size = |share: &f64| ((share * width as f64).round() as usize).max(1);
        let mut sizes: Vec<usize> = FEATURE_SHARES.iter().map(size).collect();
        sizes.retain(|size| *size < order.len());
        sizes.dedup();
        let sets = sizes.iter().map(|size| order[..*size].to_vec()).collect();
        let by_size = self.tried(label, sets)?;
        let good = |own: &&Tried| own.dev > (1.0 - judge.delta) * spoken.dev;
        let chosen = by_size.iter().find(good).unwrap_or(&spoken);
        let name = |neuron: &u32| {
            let (site, own) = columns.neuron(*neuron);
            format!("{site}.{own}")
        };
        let count = |own: &Tried| i32::try_from(own.neurons.len()).expect("columns are few");
        Ok(SelectionRow {
            label: self.site.tasks.labels[label].title(),
            layer_delta: judge.layer_delta,
            cluster: judge.cluster,
            delta: judge.delta,
            neurons: i32::try_from(width).expect("columns are few"),
            dev: all.dev,
            test: all.test,
            sites: i32::try_from(first + 1).expect("sites are few"),
            last_site: columns.neuron(number(ends[first] - 1)).0.to_string(),
            of_sites: count(sites),
            dev_of_sites: sites.dev,
            test_of_sites: sites.test,
            representatives: count(&spoken),
            dev_of_representatives: spoken.dev,
            test_of_representatives: spoken.test,
            selected: count(chosen),
            share: chosen.neurons.len() as f64 / width as f64,
            dev_of_selected: chosen.dev,
            test_of_selected: chosen.test,
            members: chosen.neurons.iter().map(name).collect(),
        })
    }

    /// Probes of the chosen penalty on each set of neurons.
    fn tried(&mut self, label: usize, sets: Vec<Vec<u32>>) -> Result<Vec<Tried>> {
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        let (config, tasks) = (self.site.config, self.site.tasks);
        let (which, own) = (self.which(label), &tasks.labels[label]);
        let on = |neurons: &Vec<u32>| {
            let mut one = probe(config, tasks, (which, own.task));
            one.inputs = Some(neurons.clone());
            one
        };
        let list = sets.iter().map(on).collect();
        let parts = [Part::Dev, Part::Test];
        let trained = self.work((&tasks.list, &parts), list, (None, solver(config)))?;
        let accuracy = |trained: &Trained, part: Part| {
            let measures = trained.on(part)?;
            Some(Answered::of(measures, own.unseen[part as usize]).accuracy)
        };
        let one = |(neurons, trained): (Vec<u32>, Trained)| Tried {
            neurons,
            dev: accuracy(&trained, Part::Dev).unwrap_or(0.0),
            test: accuracy(&trained, Part::Test),
            trained,
        };
        Ok(sets.into_iter().zip(trained).map(one).collect())
    }

    /// A neuron of each cluster of these, by their correlations on the training rows.
    fn speakers(&mut self, (label, neurons): (usize, &[u32]), distance: f64) -> Result<Vec<u32>> {
        let task = self.site.tasks.labels[label].task;
        let rows = self.site.tasks.list[task].part(Part::Train);
        let width = self.site.place.width;
        let moments = moments(self.source, (self.site.at, width), rows)?;
        let kept: Vec<usize> = neurons.iter().map(|neuron| *neuron as usize).collect();
        let whole = moments.correlations();
        let near = Dense::from_fn(kept.len(), kept.len(), |i, j| whole.at(kept[i], kept[j]));
        let constant: Vec<bool> = {
            let all = moments.constant();
            kept.iter().map(|neuron| all[*neuron]).collect()
        };
        let clusters = Tree::new(&near, &constant, Likeness::Absolute).cut(distance);
        Ok(clusters.representatives(&near).iter().map(|own| neurons[*own as usize]).collect())
    }
}

/// Second moments of a site over these rows.
fn moments<O: MomentOps>(
    source: &mut dyn Source<O>,
    (site, width): (usize, usize),
    labelled: &Labelled,
) -> Result<Moments> {
    let mut moments = source.ops().moments(width, None, 1)?;
    let mut sums = vec![0.0; width];
    let mut values = Vec::new();
    source.each(&[site], &mut |ops, _, x, at| {
        let one = [labelled];
        let shifted = Shifted::new(&one, &at);
        let rows = shifted.rows()[0].rows;
        ops.add_moments(&mut moments, (x, None), (rows, &vec![0; rows.len()]));
        ops.read(x, &mut values)?;
        for &row in rows {
            let row = &values[row as usize * width..][..width];
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        Ok(())
    })?;
    let products = source.ops().take_moments(moments)?.pop().expect("one class");
    let products = Dense::new(width, width, products);
    Ok(Moments::from_sums(labelled.len() as u64, &sums, products, &vec![0.0; width]))
}

/// The neurons that a probe may read, in the order in which its weights ask for them.
fn order(tried: &Tried, width: usize) -> Vec<u32> {
    let mut open = vec![false; width];
    tried.neurons.iter().for_each(|neuron| open[*neuron as usize] = true);
    let weights = Block::from_f32(&tried.trained.weights.weights, width);
    exact_order(&weights).order.into_iter().filter(|neuron| open[*neuron as usize]).collect()
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("columns are counted in u32")
}
