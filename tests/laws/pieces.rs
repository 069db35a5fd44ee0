//! Merge, order and bytes of what pieces of work leave: lists of items, and tallies.
//! Oracle: vectors put behind each other, and sums of whole numbers, which f64 adds exactly.

use electrode::accumulate::list::List;
use electrode::accumulate::tally::{Tally, TallyPlan};
use electrode::accumulate::{Merge as _, State as _};
use electrode::corpus::block::Counts;
use proptest::prelude::*;

fn counts(tokens: u64) -> Counts {
    Counts { tokens, ..Counts::default() }
}

fn list(items: &[(u32, u64)]) -> List {
    List::of(items, counts(items.len() as u64))
}

fn tally(numbers: &[u32]) -> Tally {
    let mut tally = Tally::new(TallyPlan { whole: 2, sums: 1, largest: 1 });
    tally.counts = counts(numbers.len() as u64);
    for &number in numbers {
        tally.whole[0] += 1;
        tally.whole[1] += u64::from(number);
        tally.sums[0] += f64::from(number);
        tally.largest[0] = tally.largest[0].max((number >> 9) as f32);
    }
    tally
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn lists_are_put_behind_each_other(
        all in proptest::collection::vec(any::<(u32, u64)>(), 0..20),
        cut in 0.0..=1.0_f64,
    ) {
        let cut = (all.len() as f64 * cut) as usize;
        let mut ours = list(&all[..cut]);
        ours.merge(list(&all[cut..])).unwrap();
        prop_assert_eq!(&ours, &list(&all));
        let mut bytes = Vec::new();
        ours.encode(&mut bytes);
        let back = List::decode(&(), &bytes).unwrap();
        prop_assert_eq!(back.items::<(u32, u64)>().unwrap(), all);
        prop_assert!(List::decode(&(), &bytes[..bytes.len() - 1]).is_err());
        prop_assert!(List::decode(&(), &[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn tallies_add_up(
        all in proptest::collection::vec(any::<u32>(), 0..40),
        cut in 0.0..=1.0_f64,
    ) {
        let cut = (all.len() as f64 * cut) as usize;
        let mut ours = tally(&all[..cut]);
        ours.merge(tally(&all[cut..])).unwrap();
        prop_assert_eq!(&ours, &tally(&all));
        let plan = TallyPlan { whole: 2, sums: 1, largest: 1 };
        let mut bytes = Vec::new();
        ours.encode(&mut bytes);
        prop_assert_eq!(&Tally::decode(&plan, &bytes).unwrap(), &ours);
        prop_assert!(Tally::decode(&plan, &bytes[1..]).is_err());
        let other = TallyPlan { sums: 2, ..plan };
        prop_assert!(Tally::decode(&other, &bytes).is_err());
    }
}

#[test]
fn items_that_are_none_are_refused() {
    let found = list(&[(1, 2)]).items::<String>();
    assert_eq!(found.expect_err("two numbers are no text").exit_code(), 65);
}
