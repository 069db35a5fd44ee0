//! The uniform sample of rows.
//! Oracles: all rows sorted by hash, the first R; known hashes, for they are part of the format.

use electrode::device::cpu::sample_rows::row_hash;
use electrode::id::RowId;

use crate::laws::data::{data, plan};

#[test]
fn keeps_the_rows_with_the_smallest_hashes() {
    for rows in [0, 1, 9, 200] {
        let (data, plan) = (data(1, rows, 5), plan(5, 0));
        let ours = data.statistics(&plan, 0..rows).sample;
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by_key(|&row| row_hash(plan.sample_seed, data.ids[row]));
        order.truncate(plan.sample);
        assert_eq!(ours.rows, order.iter().map(|&row| data.ids[row]).collect::<Vec<_>>());
        assert_eq!(ours.group_starts.len(), order.len() + 1);
        for (at, &row) in order.iter().enumerate() {
            assert_eq!(ours.hashes[at], row_hash(plan.sample_seed, data.ids[row]));
            assert_eq!(ours.values[at * 5..][..5], data.x[row * 5..][..5]);
            let groups = ours.group_starts[at] as usize..ours.group_starts[at + 1] as usize;
            assert_eq!(ours.groups[groups], data.groups[row]);
        }
    }
}

#[test]
fn the_hash_never_changes() {
    // By an independent implementation (Python integers).
    assert_eq!(row_hash(0, RowId(0)), HASH_0_0);
    assert_eq!(row_hash(1, RowId::new(2, 3)), HASH_1_23);
}

const HASH_0_0: u64 = 0x4821_8226_ff3c_d4bf;
const HASH_1_23: u64 = 0x1be5_495c_5c40_f423;

#[test]
fn the_choice_is_uniform() {
    // 20,000 rows into 20 classes of 1,000 by their hash: chi-squared with 19 degrees of freedom,
    // above 49 once in 5,000 seeds.
    for seed in 0..5 {
        let mut counts = [0_u32; 20];
        for row in 0..20_000 {
            counts[(row_hash(seed, RowId(row)) % 20) as usize] += 1;
        }
        let chi: f64 = counts.iter().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi <= 49.0, "seed {seed}: {chi}");
    }
}
