//! Features of adjacent tokens and ridge regression of depth. Oracles: lists by hand, normal equations by
//! elimination, a planted depth neuron.

use electrode::methods::probing::pairs::{
    RegressionMoments, adjacent, pair_features, r_squared, ridge,
};
use electrode::methods::probing::{Block, Rows};

use super::support::{eliminate, noise_block};
use crate::methods::support::{Random, largest_error};

#[test]
fn neighbours_share_a_sentence() {
    assert_eq!(adjacent(&[0, 0, 0, 1, 2, 2]), [(0, 1), (1, 2), (4, 5)]);
    assert!(adjacent(&[7]).is_empty() && adjacent(&[]).is_empty());
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let features = pair_features(Rows::new(&values, 2), &[(0, 1), (1, 2)]);
    assert_eq!(features, [1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn depth_is_regressed_in_closed_form() {
    let mut random = Random(8);
    let x = noise_block(&mut random, 90, 6);
    let depth: Vec<f64> = x.rows().map(|row| 4.0 + 1.5 * row[2] + 0.3 * random.normal()).collect();
    let moments = RegressionMoments::of(&x, &Block::new(depth.clone(), 1));
    let found = ridge(&moments, 2.0).expect("solved");
    // (X'X + 2 I, with a free column of ones) w = X'y.
    let mut system = vec![0.0; 49];
    let mut right = vec![0.0; 7];
    for (row, y) in x.rows().zip(&depth) {
        let extended = [row, &[1.0]].concat();
        for i in 0..7 {
            right[i] += extended[i] * y;
            (0..7).for_each(|j| system[i * 7 + j] += extended[i] * extended[j]);
        }
    }
    (0..6).for_each(|i| system[i * 8] += 2.0);
    let want = eliminate(system, right);
    let ours = [found.weights.values(), &found.biases].concat();
    assert!(largest_error(&ours, &want) < 1e-10);
    let fit = r_squared(&found.predict(&x).column(0), &depth);
    assert!(fit > 0.9 && fit < 1.0, "{fit}");
    assert_eq!(r_squared(&depth, &depth), 1.0);
    assert_eq!(r_squared(&[1.0, 2.0], &[3.0, 3.0]), 0.0, "a constant has no variance to explain");
    assert!(ridge(&moments, -1.0).is_err());
}
