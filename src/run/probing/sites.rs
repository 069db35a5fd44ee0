//! One device's part of the work: rows of its sites brought to where they wait, then site after site
//! trained, judged and put away.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::finished::Finished;
use super::found::Found;
use super::judge::{self, Judge};
use super::kept::Kept;
use super::measured::SiteResults;
use super::rankings::{self, Columns};
use super::training::Training;
use super::work::{Shelf, Work, lock};
use super::{ProbingDevice, compare, on_rows, probes, weights};
use crate::device::forward::Forward;
use crate::engine::share::Underway;
use crate::error::Result;
use crate::id::Site;
use crate::probe::scale::{Scaled, scales};
use crate::probe::source::{Source, Streamed};
use crate::probe::split::Part;
use crate::probe::store::{Files, Store};
use crate::probe::train::{Labels, SiteProbes, Trained, train, train_kept};

/// Sites on their way, and who hears of it.
struct Way<'a, 's> {
    /// Sites of the part whose probes are trained, and sites that are judged.
    trained: Cell<f64>,
    judged: Cell<f64>,
    underway: &'a Underway<'a>,
    shelf: &'a Shelf<'s>,
}

impl Way<'_, '_> {
    /// Training is half of the work.
    fn tell(&self) {
        self.underway.so_far(0, 0.5 * (self.trained.get() + self.judged.get()));
    }

    fn tell_trained(&self, sites: f64) {
        self.trained.set(sites);
        self.tell();
    }

    fn tell_judged(&self, sites: f64) {
        self.judged.set(sites);
        self.tell();
    }
}

/// A site with its probes, and what its tables say.
struct Judged<'a> {
    site: SiteResults<'a>,
    found: Found,
}

impl Work<'_> {
    /// Does the pieces of a part that are not done yet: of one that another device began, some may be.
    pub(super) fn part<O: ProbingDevice>(
        &self,
        (forward, underway): (&mut Forward<O>, &Underway<'_>),
        part: &[u32],
        ((kept, files), shelf): ((Kept, Option<&Files>), &Shelf<'_>),
    ) -> Result<()> {
        let missing = lock(shelf).missing();
        let todo: Vec<u32> = part.iter().copied().filter(|piece| missing.contains(piece)).collect();
        let sites: Vec<usize> = todo.iter().map(|at| self.asked[*at as usize]).collect();
        if todo.is_empty() {
            return Ok(());
        }
        let done = (part.len() - todo.len()) as f64;
        let way = Way { trained: Cell::new(done), judged: Cell::new(done), underway, shelf };
        let go_on = || underway.go_on();
        if let Some(files) = files {
            let mut store = Store::of_files(forward.ops(), files, &sites)?;
            return self.sites(&mut store.on(forward.ops(), &go_on), &todo, (&way, None));
        }
        let prepared = &self.probing.prepared;
        let rules = prepared.block_rules();
        let told = Box::new(|tokens, _| {
            self.count(tokens);
            way.tell();
        });
        let how = (&rules, &prepared.sites[..], prepared.batch_tokens());
        let mut streamed = Streamed::new(forward, how, &go_on, told)?;
        if kept == Kept::Nowhere {
            let folder = (self.training_folder.clone(), todo[0]);
            let (id, interval) = (self.probing.run_id, prepared.commit_interval());
            let mut training = Training::open(folder, id, &sites, interval);
            return self.sites(&mut streamed, &todo, (&way, Some(&mut training)));
        }
        let mut store = Store::in_memory(&mut streamed, self.table.len(), &sites)?;
        drop(streamed);
        self.sites(&mut store.on(forward.ops(), &go_on), &todo, (&way, None))
    }

    /// With the rows at hand: trains the probes of these pieces, and puts each away once it is judged. Where
    /// rows are dear, all are trained together, and what is on its way is kept.
    fn sites<O: ProbingDevice>(
        &self,
        source: &mut dyn Source<O>,
        todo: &[u32],
        (way, mut training): (&Way<'_, '_>, Option<&mut Training>),
    ) -> Result<()> {
        let sites: Vec<usize> = todo.iter().map(|at| self.asked[*at as usize]).collect();
        let scaling = match self.probing.config.probes.standardise {
            true => scales(source, &sites, &self.training)?,
            false => BTreeMap::new(),
        };
        let mut source = Scaled::new(source, &scaling)?;
        for group in source.together(sites.len()) {
            let asked: Vec<SiteProbes> =
                group.iter().map(|at| self.probes_of(sites[*at])).collect();
            let labels = Labels { tasks: &self.tasks.list, try_on: &Part::ALL };
            let solver = probes::solver(&self.probing.config);
            let before = way.trained.get();
            let mut told = |share: f64| way.tell_trained(before + share * asked.len() as f64);
            let how = (solver, &mut told as &mut dyn FnMut(f64));
            let trained = match &mut training {
                Some(training) => train_kept(&mut source, &asked, labels, how, *training)?,
                None => train(&mut source, &asked, labels, how)?,
            };
            for (&at, trained) in group.iter().zip(trained) {
                let before = way.judged.get();
                let mut told = |share: f64| way.tell_judged(before + share);
                let done = self.judged(&mut source, (sites[at], trained), &mut told)?;
                let arrays = weights::arrays(&done.site, scaling.get(&sites[at]));
                lock(way.shelf).add(todo[at], Finished::one(done.found, arrays))?;
                way.tell_judged(before + 1.0);
            }
        }
        Ok(())
    }

    fn probes_of(&self, site: usize) -> SiteProbes {
        let probes = self.list.iter().map(|(_, probe)| probe.clone()).collect();
        SiteProbes { site, width: self.places[site].width, probes, begin: None }
    }

    /// Everything the tables say of a site: its probes, its rankings and what these are put to.
    fn judged<O: ProbingDevice>(
        &self,
        source: &mut Scaled<'_, O>,
        (at, trained): (usize, Vec<Trained>),
        told: &mut dyn FnMut(f64),
    ) -> Result<Judged<'_>> {
        let (config, place) = (&self.probing.config, &self.places[at]);
        let list = self.list.iter().map(|(which, _)| *which).zip(trained).collect();
        let site = SiteResults::new((config, self.tasks), (at, place), list);
        let mut found = Found {
            probes: site.probe_rows(&self.baselines),
            classes: site.class_rows(),
            layers: site.layer_rows(&self.baselines),
            ..Found::default()
        };
        let mut ranked = rankings::of_probes(&site);
        let columns = self.columns(at);
        let on_rows = on_rows::find(&site, &self.probing.methods, source, &columns)?;
        ranked.extend(on_rows.ranked);
        found.methods = on_rows.tried;
        found.notes = on_rows.notes;
        let mut judge = Judge { site: &site, source, told };
        found.subsets = judge.subsets(&ranked)?;
        if config.judge.select && place.is_all() {
            found.selection = judge.selection(&columns, &self.ends())?;
        }
        if config.judge.code_length {
            found.codes = judge.codes()?;
        }
        found.smallest = judge::smallest(&site, &found.subsets);
        found.agreement = compare::agreement(&site, &ranked)?;
        found.spread = compare::spread(&site, &ranked)?;
        let rows_of = |label: usize| {
            self.tasks.list[self.tasks.labels[label].task].part(Part::Train).len() as u64
        };
        let labels = &self.tasks.labels;
        let rows =
            rankings::rows((place, &columns), labels, (&ranked, rows_of), config.output.keep);
        found.rankings = rows.collect();
        Ok(Judged { site, found })
    }

    /// The columns after each of the model's sites, side by side.
    fn ends(&self) -> Vec<usize> {
        let mut end = 0;
        let widths = self.probing.places().into_iter().map(|place| place.width);
        widths
            .map(|width| {
                end += width;
                end
            })
            .collect()
    }

    /// The model's sites behind a place.
    fn columns(&self, place: usize) -> Columns {
        let sites: Vec<(Site, usize)> = self
            .probing
            .prepared
            .sites
            .iter()
            .zip(&self.places)
            .map(|(site, place)| (*site, place.width))
            .collect();
        match sites.get(place) {
            Some(site) => Columns::new(&[*site]),
            None => Columns::new(&sites),
        }
    }
}
