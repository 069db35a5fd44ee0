//! `metric=probe`: the probe of `[metric]`, opened and held against model, neurons and methods.

use std::sync::Arc;

use super::config::{ExperimentConfig, MetricConfig};
use super::resolve::Chosen;
use crate::device::backward::has_gradient;
use crate::error::{Error, Result};
use crate::hash::blake3_of_file;
use crate::id::{Site, SiteKind};
use crate::methods::registry::Causal;
use crate::model::ModelSpec;
use crate::run::probing::weights::{self, Stored, Wanted};
use crate::stimulate::neurons::{Neurons, site_of};
use crate::stimulate::readout::{Output, Readout};

/// The probe, and the hash of its file; nothing without a `[metric]`, unless a method asks for it.
pub(super) fn open(
    config: &ExperimentConfig,
    (neurons, methods): (&Neurons, &[Chosen]),
    spec: &ModelSpec,
) -> Result<(Option<Arc<Readout>>, Option<String>)> {
    let asks = |chosen: &&Chosen| chosen.reads_probe();
    let Some(metric) = &config.metric else {
        return match methods.iter().find(asks) {
            None => Ok((None, None)),
            Some(chosen) => {
                let remedy = "name its file and site under [metric]: probes, site, label, class";
                Err(chosen.call.wrong("reads a probe, and there is none", remedy))
            }
        };
    };
    let site = site(metric, spec)?;
    influence(site, neurons)?;
    let of_mlp = |chosen: &&Chosen| chosen.reads_probe() && chosen.causal == Causal::Knowledge;
    let last = neurons.layers.last().copied().unwrap_or(0);
    if let Some(chosen) = methods.iter().find(of_mlp)
        && site < site_of(SiteKind::ResidPost, last)
    {
        let what = format!("looks at what comes after a layer, and the probe reads {site}");
        let remedy = "choose a later metric.site, fewer neurons.layers, or gradact";
        return Err(chosen.call.wrong(&what, remedy));
    }
    let (label, class) = (metric.label.as_deref(), metric.class.as_deref());
    let wanted = Wanted { site: &metric.site, label, class, seed: metric.seed };
    let stored = weights::read(&metric.probes, &wanted)?;
    let (width, found) = (spec.site_width(site), stored.scale.shift.len());
    if found != width {
        let what = format!("its probe reads {found} columns, {site} of this model has {width}");
        let remedy = "take probes that were trained on this model";
        return Err(Error::input(&metric.probes, what, remedy));
    }
    let readout = readout(metric, site, &stored)?;
    Ok((Some(Arc::new(readout)), Some(blake3_of_file(&metric.probes)?.1)))
}

/// The site, where a gradient can begin.
fn site(metric: &MetricConfig, spec: &ModelSpec) -> Result<Site> {
    let known = metric.site.parse::<Site>().ok();
    known.filter(|site| spec.has_site(*site) && has_gradient(*site)).ok_or_else(|| {
        let what = format!("a probe of '{}' cannot be read here", metric.site);
        let remedy = "choose final_norm, or a site of a layer but attn_probs, that this model has";
        Error::config("metric.site", what, remedy)
    })
}

/// Refuses neurons that the probe does not depend on.
fn influence(site: Site, neurons: &Neurons) -> Result<()> {
    let late = |layer: &&usize| neurons.site(**layer) > site;
    let Some(&late) = neurons.layers.iter().find(late) else { return Ok(()) };
    let what =
        format!("the probe reads {site}, before {}: they do nothing to it", neurons.site(late));
    let remedy = "choose a later metric.site, or neurons.layers before it";
    Err(Error::config("metric.site", what, remedy))
}

/// The number asked for, of a probe that was read.
fn readout(metric: &MetricConfig, site: Site, stored: &Stored) -> Result<Readout> {
    let Stored { label, classes, weights, biases, scale } = stored;
    let wrong = |key: &str, what: String, remedy: &str| Err(Error::config(key, what, remedy));
    let names = classes.join(", ");
    let scaling = (&scale.shift[..], &scale.scale[..]);
    if classes.is_empty() {
        if metric.class.is_some() || metric.output == Output::LogProb {
            let what = format!("the probe of '{label}' gives a number, and has no classes");
            return wrong("metric.class", what, "leave metric.class and metric.output out");
        }
        return Ok(Readout::new(site, (weights, biases), scaling, (0, Output::Logit)));
    }
    if biases.len() == 1 {
        // The answer "no" has the output 0.
        let own = label.split_once('=').map(|(_, class)| class);
        if metric.class.as_deref().is_some_and(|class| Some(class) != own) {
            let what = format!("the probe of '{label}' answers yes or no about its own class");
            return wrong("metric.class", what, "leave metric.class out");
        }
        let weights = [&weights[..], &vec![0.0; weights.len()]].concat();
        let biases = [biases[0], 0.0];
        return Ok(Readout::new(site, (&weights, &biases), scaling, (0, metric.output)));
    }
    let Some(class) = &metric.class else {
        let what = format!("the probe of '{label}' has an output for each class");
        return wrong("metric.class", what, &format!("choose one of {names}"));
    };
    match classes.iter().position(|name| name == class) {
        Some(at) => Ok(Readout::new(site, (weights, biases), scaling, (at, metric.output))),
        None => {
            let what = format!("the probe of '{label}' has no class '{class}'");
            wrong("metric.class", what, &format!("choose one of {names}"))
        }
    }
}
