//! Methods that read activations as they are, on the training rows of a site: beside the probes, to be
//! compared with them.

use super::measured::SiteResults;
use super::rankings::Ranked;
use super::tasks::Label;
use crate::device::ops::Ops;
use crate::error::{Error, Result};
use crate::methods::matrix::{Matrix, RowLabels, Values};
use crate::methods::registry::{Family, Kind};
use crate::methods::{MatrixSource, MethodCall, rank};
use crate::probe::source::Source;
use crate::probe::split::Part;
use crate::probe::tasks::Labelled;

/// Parses the methods of a file; those that cannot be run on rows are refused.
pub(super) fn parse(methods: &[String]) -> Result<Vec<MethodCall>> {
    let parse = |text: &String| {
        let call = MethodCall::parse(text)?;
        if matches!(call.method.kind, Kind::Causal(_)) {
            return Err(call.needs_a_model());
        }
        if !call.needs_labels() {
            let what = format!("method '{}' ranks no neurons for a label", call.method.name);
            return Err(Error::config("methods", what, "use probeless, ap, mi, …"));
        }
        Ok(call)
    };
    methods.iter().map(parse).collect()
}

/// The rankings of every method for every label, on the training rows.
pub(super) fn rankings<O: Ops>(
    site: &SiteResults<'_>,
    calls: &[MethodCall],
    source: &mut dyn Source<O>,
    at: usize,
) -> Result<Vec<Ranked>> {
    let mut list = Vec::new();
    if calls.is_empty() {
        return Ok(list);
    }
    for (number, label) in site.tasks.labels.iter().enumerate() {
        let labelled = site.tasks.list[label.task].part(Part::Train);
        let values = rows(source, (at, site.place.width), labelled)?;
        let matrix = Matrix::new(labelled.len(), site.place.width, Values::F32(values));
        let origin = format!("{} of {}", label.title(), site.place.name);
        let source = MatrixSource::new(matrix, &row_labels(label, labelled), origin.as_ref())?;
        for call in calls {
            let found = rank(call, &source)?;
            let family = match call.method.family {
                Family::Baseline => "random",
                _ => call.method.name,
            };
            let one = |concept: &str, ranking| Ranked {
                method: call.to_string(),
                family,
                label: number,
                concept: concept.to_owned(),
                ranking,
                judged: true,
            };
            list.extend(found.overall.map(|ranking| one("*", ranking)));
            for ranking in found.groups {
                let name = ranking.name.clone();
                list.push(one(&name, ranking));
            }
        }
    }
    Ok(list)
}

/// The labelled rows of a site, in the order of their list.
pub(super) fn rows<O: Ops>(
    source: &mut dyn Source<O>,
    (site, width): (usize, usize),
    labelled: &Labelled,
) -> Result<Vec<f32>> {
    let mut values = vec![0.0; labelled.len() * width];
    let mut piece = Vec::new();
    let mut next = 0;
    source.each(&[site], &mut |ops, _, x, at| {
        ops.read(x, &mut piece)?;
        while let Some(&row) = labelled.rows.get(next).filter(|row| (**row as usize) < at.end) {
            let from = (row as usize - at.start) * width;
            values[next * width..][..width].copy_from_slice(&piece[from..from + width]);
            next += 1;
        }
        Ok(())
    })?;
    Ok(values)
}

fn row_labels(label: &Label, labelled: &Labelled) -> RowLabels {
    RowLabels {
        name: label.title(),
        classes: (0..).zip(label.classes.iter().cloned()).collect(),
        of_row: labelled.targets.iter().map(|target| Some(*target as u32)).collect(),
        min_count: 1,
    }
}
