//! Split, empty and order laws of the statistics, and their bytes.
//! Oracle: one accumulator over all rows; the laws themselves (O-merge of the method list).

use std::sync::Arc;

use electrode::accumulate::Merge;
use electrode::accumulate::State as _;
use electrode::accumulate::run::RunStatistics;
use electrode::accumulate::site::RunPlan;
use electrode::corpus::block::Counts;
use electrode::device::statistics::SiteStatistics;
use electrode::engine::merge::{Node, Tree};
use electrode::id::{Site, SiteKind};
use proptest::prelude::*;

use super::data::{Data, Random, data, plan, relative};

/// Equal but for the rounding of sums.
fn assert_close(ours: &SiteStatistics, want: &SiteStatistics) {
    for (ours, want) in ours.sum.iter().zip(&want.sum) {
        assert!(relative(*ours, *want, 1.0) <= 1e-12);
    }
    for (ours, want) in ours.square.iter().zip(&want.square) {
        assert!(relative(*ours, *want, 1.0) <= 1e-12);
    }
    let exact = |statistics: &SiteStatistics| SiteStatistics {
        sum: vec![],
        square: vec![],
        ..statistics.clone()
    };
    assert_eq!(exact(ours), exact(want));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn split(seed in any::<u64>(), rows in 0_usize..120, cut in 0.0..=1.0_f64) {
        let (data, plan) = (data(seed, rows, 19), plan(19, 8));
        let cut = (rows as f64 * cut) as usize;
        let mut ours = data.statistics(&plan, 0..cut);
        ours.merge(data.statistics(&plan, cut..rows), &plan).unwrap();
        assert_close(&ours, &data.statistics(&plan, 0..rows));
    }

    #[test]
    fn empty(seed in any::<u64>(), rows in 0_usize..60) {
        let (data, plan) = (data(seed, rows, 19), plan(19, 8));
        let want = data.statistics(&plan, 0..rows);
        let mut ours = want.clone();
        ours.merge(SiteStatistics::new(&plan), &plan).unwrap();
        prop_assert_eq!(&ours, &want);
        let mut ours = SiteStatistics::new(&plan);
        ours.merge(want.clone(), &plan).unwrap();
        prop_assert_eq!(&ours, &want);
    }
}

fn run_plan() -> Vec<(Site, Arc<electrode::device::statistics::StatisticsPlan>)> {
    vec![
        (Site::global(SiteKind::Embeddings), Arc::new(plan(19, 8))),
        (Site::of_layer(1, SiteKind::MlpAct), Arc::new(plan(35, 0))),
    ]
}

/// The state of one block of 13 rows of each site.
fn block(plan: &RunPlan, sites: &[Data], index: usize) -> RunStatistics {
    let mut state = RunStatistics::new(plan);
    let rows = sites[0].ids.len();
    let range = (index * 13).min(rows)..((index + 1) * 13).min(rows);
    state.counts = Counts { documents: 1, rows: range.len() as u64, ..Counts::default() };
    for (site, data) in state.sites.iter_mut().zip(sites) {
        let plan = Arc::clone(&site.plan);
        data.fill(&plan, &mut site.statistics, range.clone(), 5);
    }
    state
}

#[test]
fn any_parts_in_any_order_give_the_same_bits() {
    let plan = run_plan();
    let mut random = Random(3);
    for blocks in [1_usize, 2, 7, 64, 83] {
        let sites = [data(1, blocks * 13 - 4, 19), data(2, blocks * 13 - 4, 35)];
        let all = |order: &[usize]| {
            let mut tree = Tree::new();
            for &index in order {
                tree.insert(Node::block(index as u32), block(&plan, &sites, index)).unwrap();
            }
            tree.finish(blocks as u32).unwrap().unwrap()
        };
        let in_order: Vec<usize> = (0..blocks).collect();
        let want = all(&in_order);
        assert_eq!(want.counts.documents, blocks as u64);
        for (site, data) in want.sites.iter().zip(&sites) {
            assert_close(&site.statistics, &data.statistics(&site.plan, 0..data.ids.len()));
        }
        for parts in [1_usize, 2, 7, 64] {
            // Each part is a task with a tree of its own; its nodes go through bytes.
            let mut owner = in_order.clone();
            random.shuffle(&mut owner);
            let mut nodes = vec![];
            for part in 0..parts {
                let mut tree = Tree::new();
                for &index in owner.iter().skip(part).step_by(parts) {
                    tree.insert(Node::block(index as u32), block(&plan, &sites, index)).unwrap();
                }
                for (node, state) in tree.nodes() {
                    let mut bytes = vec![];
                    state.encode(&mut bytes);
                    nodes.push((node, bytes));
                }
            }
            random.shuffle(&mut nodes);
            let mut tree = Tree::new();
            for (node, bytes) in nodes {
                tree.insert(node, RunStatistics::decode(&plan, &bytes).unwrap()).unwrap();
            }
            let ours = tree.finish(blocks as u32).unwrap().unwrap();
            let (mut ours_bytes, mut want_bytes) = (vec![], vec![]);
            ours.encode(&mut ours_bytes);
            want.encode(&mut want_bytes);
            assert!(ours_bytes == want_bytes, "{blocks} blocks in {parts} parts");
        }
    }
}

#[test]
fn bytes_come_back_as_they_were() {
    let plan = run_plan();
    let sites = [data(1, 40, 19), data(2, 40, 35)];
    for state in [RunStatistics::new(&plan), block(&plan, &sites, 1)] {
        let mut bytes = vec![];
        state.encode(&mut bytes);
        let back = RunStatistics::decode(&plan, &bytes).unwrap();
        assert_eq!(back, state);
        assert_eq!(back.finish(), state.finish());
    }
}

#[test]
fn damaged_bytes_are_refused_or_harmless() {
    let plan = run_plan();
    let sites = [data(1, 40, 19), data(2, 40, 35)];
    let state = block(&plan, &sites, 0);
    let mut bytes = vec![];
    state.encode(&mut bytes);
    for length in 0..bytes.len() {
        let error = RunStatistics::decode(&plan, &bytes[..length]).unwrap_err();
        assert_eq!(error.exit_code(), 65);
    }
    let mut random = Random(9);
    let mut refused = 0;
    for _ in 0..20_000 {
        let at = random.below(bytes.len() as u64) as usize;
        let byte = std::mem::replace(&mut bytes[at], random.next() as u8);
        match RunStatistics::decode(&plan, &bytes) {
            Err(error) => {
                assert_eq!(error.exit_code(), 65);
                refused += 1;
            }
            // What is read may be wrong (segments have checksums against that), but merges and
            // is read out without a panic.
            Ok(mut damaged) => {
                damaged.merge(state.clone()).unwrap();
                damaged.finish();
            }
        }
        bytes[at] = byte;
    }
    assert!(refused > 0);
    bytes.push(0);
    assert_eq!(RunStatistics::decode(&plan, &bytes).unwrap_err().exit_code(), 65);
}

#[test]
fn a_state_of_another_plan_is_refused() {
    let plan = run_plan();
    let mut bytes = vec![];
    RunStatistics::new(&plan).encode(&mut bytes);
    let mut other = run_plan();
    other.swap(0, 1);
    assert_eq!(RunStatistics::decode(&other, &bytes).unwrap_err().exit_code(), 65);
    assert_eq!(RunStatistics::decode(&plan[..1].to_vec(), &bytes).unwrap_err().exit_code(), 65);
    bytes[0] += 1;
    assert_eq!(RunStatistics::decode(&plan, &bytes).unwrap_err().exit_code(), 65);
}

#[test]
fn more_rows_than_histograms_count_are_refused() {
    let plan = plan(2, 0);
    let mut ours = SiteStatistics::new(&plan);
    ours.rows[0] = u64::from(u32::MAX);
    let mut later = SiteStatistics::new(&plan);
    later.rows[0] = 1;
    assert_eq!(ours.merge(later, &plan).unwrap_err().exit_code(), 2);
}
