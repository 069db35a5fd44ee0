//! `cluster` (Dalvi et al., EMNLP 2020): neurons that say the same. The distance of two is 1 - |r|,
//! clusters are joined by the mean distance of their members, and a tree of joins is cut at any
//! distance.

pub mod facts;
pub mod heads;

use crate::methods::algebra::Dense;
use crate::rewrite::cluster::{Join, joined, linkage, representative};

/// Where NeuroX cuts; feature selection cuts at 0.3.
pub const DISTANCE: f64 = 0.5;

/// What a correlation r says of the distance of two neurons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Likeness {
    /// `1 - |r|`: a neuron and its mirror image say the same.
    #[default]
    Absolute,
    /// `1 - r`.
    Signed,
}

/// The joins of neurons, to be cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Those that are not constant; joins name places in this list.
    live: Vec<usize>,
    neurons: usize,
    joins: Vec<Join>,
}

impl Tree {
    /// The average linkage of correlations `[N, N]`; `constant` neurons `[N]` are left alone. Memory
    /// and time grow with N^2: 8 bytes for each pair beyond the correlations.
    pub fn new(correlations: &Dense, constant: &[bool], likeness: Likeness) -> Self {
        let neurons = correlations.rows();
        assert_eq!((correlations.columns(), constant.len()), (neurons, neurons), "a square");
        let live: Vec<usize> = (0..neurons).filter(|&n| !constant[n]).collect();
        let distance = |r: f64| match likeness {
            Likeness::Absolute => 1.0 - r.abs(),
            Likeness::Signed => 1.0 - r,
        };
        let mut distances = Vec::with_capacity(live.len() * live.len());
        for &a in &live {
            let row = correlations.row(a);
            distances.extend(live.iter().map(|&b| distance(row[b])));
        }
        let joins = linkage(distances, live.len());
        Self { live, neurons, joins }
    }

    /// The distances at which clusters join, ascending: one less than neurons that are not constant.
    pub fn heights(&self) -> Vec<f64> {
        self.joins.iter().map(|join| join.height).collect()
    }

    /// The clusters whose joins lie at most at `distance`.
    pub fn cut(&self, distance: f64) -> Clusters {
        let below = self.joins.partition_point(|join| join.height <= distance);
        let mut alone = vec![true; self.neurons];
        self.live.iter().for_each(|&n| alone[n] = false);
        let named = |places: Vec<usize>| places.iter().map(|&place| self.live[place]).collect();
        let mut members: Vec<Vec<usize>> =
            joined(&self.joins[..below], self.live.len()).into_iter().map(named).collect();
        members.extend((0..self.neurons).filter(|&n| alone[n]).map(|n| vec![n]));
        members.sort_by_key(|cluster| cluster[0]);
        Clusters { neurons: self.neurons, members }
    }
}

/// Neurons in groups; each in one.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    neurons: usize,
    members: Vec<Vec<usize>>,
}

impl Clusters {
    /// Neurons of each cluster, ascending, the clusters by their first neuron.
    pub fn members(&self) -> &[Vec<usize>] {
        &self.members
    }

    /// The cluster of each neuron, `[N]`.
    pub fn labels(&self) -> Vec<u32> {
        let mut labels = vec![0; self.neurons];
        for (label, cluster) in (0..).zip(&self.members) {
            cluster.iter().for_each(|&n| labels[n] = label);
        }
        labels
    }

    /// One neuron for each cluster: that of the highest mean |r| with the others inside it, of equals
    /// the first. (NeuroX draws one.)
    pub fn representatives(&self, correlations: &Dense) -> Vec<u32> {
        let like = |a, b| correlations.at(a, b).abs();
        let chosen = self.members.iter().map(|cluster| representative(cluster, like));
        chosen.map(|n| u32::try_from(n).expect("neurons are counted in u32")).collect()
    }

    /// `1 - clusters / neurons`: the share of neurons that others speak for. 0 without neurons.
    pub fn redundancy(&self) -> f64 {
        let spoken_for = self.neurons - self.members.len();
        spoken_for as f64 / self.neurons.max(1) as f64
    }
}
