//! Neurons that were made to know a class (O-plant): what each probe must find, and what it cannot.
//! Oracle: how the rows were made.

use electrode::methods::probing::elastic_net::{ElasticNet, Targets};
use electrode::methods::probing::gauss::{Covariance, Gaussian};
use electrode::methods::probing::greedy::{Criterion, select};
use electrode::methods::probing::massmean::{direction_neurons, mass_mean, spreads};
use electrode::methods::probing::salience::{exact_order, mean_abs};
use electrode::methods::probing::{Rows, class_moments};

use super::support::noise;
use crate::methods::support::Random;

const ROWS: usize = 1500;
const D: usize = 48;
/// Shifted by 2 with the class, one of them down; and one with three times the spread.
const SHIFTED: [usize; 4] = [3, 17, 30, 41];
const SPREAD: usize = 22;

fn planted(seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random(seed);
    let labels: Vec<u32> = (0..ROWS).map(|_| u32::from(random.uniform() < 0.3)).collect();
    let mut values = noise(&mut random, ROWS * D);
    for (row, _) in values.chunks_exact_mut(D).zip(&labels).filter(|(_, label)| **label == 1) {
        SHIFTED.iter().for_each(|&n| row[n] += if n == 41 { -2.0 } else { 2.0 });
        row[SPREAD] *= 3.0;
    }
    (values, labels)
}

fn first(order: &[u32], k: usize) -> Vec<usize> {
    let mut first: Vec<usize> = order[..k].iter().map(|&n| n as usize).collect();
    first.sort_unstable();
    first
}

#[test]
fn linear_probes_find_shifts_and_not_spread() {
    let (values, labels) = planted(1);
    let rows = Rows::new(&values, D);
    let net = ElasticNet { l1: 1e-3, l2: 1e-3, tolerance: 1e-6, ..ElasticNet::default() };
    let probe = net.fit(&rows.all(), Targets::Classes(&labels, 2), None).expect("it converges");
    for order in [exact_order(&probe.weights).order, mean_abs(&probe.weights).order] {
        assert_eq!(first(&order, 4), SHIFTED);
        let place = order.iter().position(|&n| n as usize == SPREAD).expect("ranked");
        assert!(place > 4, "the spread is nothing that a plane can see");
    }
    let down = probe.weights.row(1)[41];
    assert!(down < 0.0, "{down}");
    let labels: Vec<Option<u32>> = labels.into_iter().map(Some).collect();
    let moments = class_moments(rows, &labels, 2).expect("labelled").try_into().expect("two");
    let direction = mass_mean(&moments).expect("both kinds");
    let ranking = direction_neurons(&direction.weights, &spreads(&moments));
    assert_eq!(first(&ranking.order, 4), SHIFTED);
}

#[test]
fn the_gaussian_probe_finds_both() {
    let ((values, labels), (others, dev)) = (planted(2), planted(3));
    let of_row: Vec<Option<u32>> = labels.into_iter().map(Some).collect();
    let moments = class_moments(Rows::new(&values, D), &of_row, 2).expect("labelled");
    for diagonal in [false, true] {
        let probe = Gaussian::fit(&moments, Covariance::Mle, diagonal).expect("rows");
        let dev_rows = Rows::new(&others, D).all();
        let steps = select(&mut probe.selection(&dev_rows), (&dev, 2), (Criterion::default(), 5));
        let order: Vec<u32> = steps.iter().map(|step| step.neuron).collect();
        assert_eq!(first(&order, 5), [3, 17, 22, 30, 41], "diagonal: {diagonal}");
        let mutual: Vec<f64> = steps.iter().map(|step| step.information.mutual()).collect();
        assert!(mutual.is_sorted() && steps[4].information.normalised() > 0.7, "{mutual:?}");
    }
}
