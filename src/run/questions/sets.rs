//! Orders of neurons, and the sets that are cut from them.

use std::collections::{BTreeMap, BTreeSet};

use super::config::JudgeConfig;
use super::ranking::{Place, Ranking};
use super::resolve::Chosen;
use crate::error::{Error, Result};
use crate::hash::{GAMMA, mix};
use crate::id::NeuronId;
use crate::stimulate::neurons::Neurons;

/// Neurons to be judged, most important first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    /// What the tables call it.
    pub(super) name: String,
    pub(super) places: Vec<Place>,
    /// A set given by name: judged whole.
    pub(super) set: bool,
}

impl Order {
    /// A ranking, and the set that its method selected.
    pub(super) fn of(ranking: &Ranking) -> Vec<Self> {
        let order = |name: String, set: bool| {
            let neurons = ranking.neurons.iter().filter(|neuron| !set || neuron.selected);
            Self { name, places: neurons.map(|neuron| neuron.place).collect(), set }
        };
        let chosen = order(format!("{}, its set", ranking.method), true);
        let mut orders = vec![order(ranking.method.clone(), false)];
        orders.extend(Some(chosen).filter(|chosen| !chosen.places.is_empty()));
        orders
    }
}

/// Rankings made elsewhere and sets given by name, and the hashes of what they were read from.
pub(super) fn elsewhere(
    config: &JudgeConfig,
    neurons: &Neurons,
) -> Result<(Vec<Order>, Vec<String>)> {
    let sizes = sizes(config, neurons);
    let (mut orders, mut hashes) = (Vec::new(), Vec::new());
    for (at, from) in config.rankings.iter().enumerate() {
        let key = format!("judge.rankings.{at}");
        let concept = from.concept.as_deref().unwrap_or("*");
        let name = format!("{} {concept} of {}", from.method, from.run.display());
        let places: Vec<Place> =
            from.read()?.iter().filter_map(|neuron| place(neurons, neuron)).collect();
        let largest = sizes.iter().max().copied().unwrap_or(0);
        if places.len() < largest || (config.bottom && places.len() < neurons.count()) {
            let what = format!(
                "its ranking has {} of the {} neurons asked, {} are needed",
                places.len(),
                neurons.count(),
                if config.bottom { neurons.count() } else { largest },
            );
            let remedy = "set output.keep = 0 in that run and watch these sites, or ask less";
            return Err(Error::config(key, what, remedy));
        }
        hashes.push(from.hash()?);
        orders.push(Order { name, places, set: false });
    }
    for (name, list) in &config.sets {
        let key = format!("judge.sets.{name}");
        let mut places = BTreeSet::new();
        for text in list {
            let neuron: NeuronId = text.parse()?;
            let place = place(neurons, &neuron).ok_or_else(|| {
                let what = format!("'{text}' is not among the neurons asked");
                Error::config(&key, what, "set neurons.site and neurons.layers to hold it")
            })?;
            places.insert(place);
        }
        if places.is_empty() {
            return Err(Error::config(key, "it has no neurons", "list some, or leave it out"));
        }
        let places = places.into_iter().collect();
        orders.push(Order { name: name.clone(), places, set: true });
    }
    Ok((orders, hashes))
}

/// Refuses two orders of one name: the tables could not tell them apart.
pub(super) fn check_names(methods: &[Chosen], orders: &[Order]) -> Result<()> {
    let of_methods = methods.iter().flat_map(|chosen| {
        let name = chosen.call.to_string();
        [format!("{name}, its set"), name]
    });
    let mut names: BTreeSet<String> = of_methods.collect();
    for order in orders {
        if !names.insert(order.name.clone()) {
            let key = if order.set { "judge.sets" } else { "judge.rankings" };
            let what = format!("'{}' is the name of another ranking or set", order.name);
            return Err(Error::config(key, what, "name it otherwise, or list it once"));
        }
    }
    Ok(())
}

fn place(neurons: &Neurons, neuron: &NeuronId) -> Option<Place> {
    let layer = neuron.site.layer? as usize;
    let own = neuron.site.kind == neurons.kind && (neuron.index as usize) < neurons.width;
    let at = neurons.layers.binary_search(&layer).ok()?;
    own.then_some((at, neuron.index))
}

/// Sizes of sets, ascending.
pub(super) fn sizes(config: &JudgeConfig, neurons: &Neurons) -> Vec<usize> {
    let of = |share: &f64| ((share * neurons.count() as f64).round() as usize).max(1);
    let all = config.sizes.iter().copied().chain(config.shares.iter().map(of));
    let sorted: BTreeSet<usize> = all.collect();
    sorted.into_iter().collect()
}

/// Every neuron asked.
fn all(neurons: &Neurons) -> impl Iterator<Item = Place> + '_ {
    let columns = |layer| (0..).take(neurons.width).map(move |column| (layer, column));
    (0..neurons.layers.len()).flat_map(columns)
}

/// Every other neuron asked.
pub(super) fn others(places: &[Place], neurons: &Neurons) -> Vec<Place> {
    let out: BTreeSet<Place> = places.iter().copied().collect();
    all(neurons).filter(|place| !out.contains(place)).collect()
}

/// As many neurons of each layer as `top` has, drawn from the others by a seed.
pub(super) fn matched(top: &[Place], neurons: &Neurons, draw: u32) -> Vec<Place> {
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    top.iter().for_each(|(layer, _)| *wanted.entry(*layer).or_default() += 1);
    let hash = |&(layer, column): &Place| {
        mix(mix(u64::from(draw).wrapping_add(GAMMA)) ^ ((layer as u64) << 32 | u64::from(column)))
    };
    let mut others = others(top, neurons);
    others.sort_by_key(|place| (hash(place), *place));
    others.retain(|(layer, _)| match wanted.get_mut(layer) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    });
    others
}
