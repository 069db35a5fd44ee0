//! The merge tree over block numbers.
//! Oracle: a state that writes down, in brackets, which merges made it; the expected brackets are
//! worked out by hand.

use electrode::accumulate::Merge;
use electrode::engine::merge::{Node, Tree};
use electrode::error::Result;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Brackets(String);

impl Merge for Brackets {
    fn merge(&mut self, later: Self) -> Result<()> {
        self.0 = format!("({} {})", self.0, later.0);
        Ok(())
    }
}

fn leaf(index: u32) -> Brackets {
    Brackets(index.to_string())
}

fn brackets(order: impl IntoIterator<Item = u32>, total: u32) -> String {
    let mut tree = Tree::new();
    for index in order {
        tree.insert(Node::block(index), leaf(index)).unwrap();
    }
    tree.finish(total).unwrap().unwrap().0
}

#[test]
fn pairs_are_aligned_and_the_rest_folds_from_the_right() {
    assert_eq!(brackets(0..1, 1), "0");
    assert_eq!(brackets(0..2, 2), "(0 1)");
    assert_eq!(brackets(0..3, 3), "((0 1) 2)");
    assert_eq!(brackets(0..5, 5), "(((0 1) (2 3)) 4)");
    assert_eq!(brackets(0..7, 7), "(((0 1) (2 3)) ((4 5) 6))");
    assert_eq!(brackets([2, 6, 1, 3, 0, 5, 4], 7), "(((0 1) (2 3)) ((4 5) 6))");
    assert_eq!(Tree::<Brackets>::new().finish(0).unwrap(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn any_order_and_any_tasks(
        order in (1_u32..70).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle()),
        tasks in 1_usize..9,
    ) {
        let total = order.len() as u32;
        let want = brackets(0..total, total);
        prop_assert_eq!(brackets(order.iter().copied(), total), want.clone());
        let mut whole = Tree::new();
        for task in 0..tasks {
            let mut part = Tree::new();
            for &index in order.iter().skip(task).step_by(tasks) {
                part.insert(Node::block(index), leaf(index)).unwrap();
            }
            for (node, state) in part.nodes() {
                whole.insert(node, state.clone()).unwrap();
            }
        }
        prop_assert_eq!(whole.finish(total).unwrap().unwrap().0, want);
    }
}

#[test]
fn a_block_given_twice_is_a_contradiction() {
    let mut tree = Tree::new();
    for index in [0, 1, 2] {
        tree.insert(Node::block(index), leaf(index)).unwrap();
    }
    for node in
        [Node::block(0), Node::block(2), Node { level: 1, index: 0 }, Node { level: 2, index: 0 }]
    {
        assert_eq!(tree.insert(node, leaf(9)).unwrap_err().exit_code(), 70, "{node:?}");
    }
    assert!(tree.contains(1) && !tree.contains(3));
    let top = tree.insert(Node::block(3), leaf(3)).unwrap();
    assert_eq!(top, Node { level: 2, index: 0 });
    assert_eq!(tree.get(top).unwrap().0, "((0 1) (2 3))");
}

#[test]
#[expect(clippy::single_range_in_vec_init, reason = "one gap is a list of one gap")]
fn missing_blocks_are_named() {
    let mut tree = Tree::new();
    for index in [1, 2, 3, 9] {
        tree.insert(Node::block(index), leaf(index)).unwrap();
    }
    assert_eq!(tree.missing(12), [0..1, 4..9, 10..12]);
    assert_eq!(tree.missing(3), [0..1]);
    let error = tree.clone().finish(12).unwrap_err();
    assert_eq!(error.exit_code(), 75);
    assert!(error.to_string().contains("0, 4-8, 10-11"), "{error}");
    assert_eq!(tree.fold().unwrap().unwrap().0, "(1 ((2 3) 9))");
}

#[test]
fn more_blocks_than_planned_are_a_contradiction() {
    let mut tree = Tree::new();
    tree.insert(Node { level: 2, index: 0 }, leaf(0)).unwrap();
    assert_eq!(tree.clone().finish(3).unwrap_err().exit_code(), 70);
    assert!(tree.finish(4).is_ok());
}

#[test]
fn the_last_block_number_has_a_place() {
    let last = Node::block(u32::MAX);
    assert!(last.is_valid() && Node { level: 32, index: 0 }.is_valid());
    assert!(!Node { level: 32, index: 1 }.is_valid() && !Node { level: 33, index: 0 }.is_valid());
    let mut tree = Tree::new();
    tree.insert(last, leaf(1)).unwrap();
    tree.insert(Node::block(u32::MAX - 1), leaf(0)).unwrap();
    assert_eq!(tree.nodes().next().unwrap().0, Node { level: 1, index: u32::MAX / 2 });
}
