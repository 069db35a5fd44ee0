//! Rows of tables as bytes.
//! Oracle: the rows themselves, to the bit; every cut of the bytes is refused.

use electrode::artifact::packed::{pack, unpack};
use electrode::artifact::probing::{CodeRow, MethodRow, ProbeRow};

fn rows() -> Vec<MethodRow> {
    let one = |at: usize| MethodRow {
        site: format!("layers.{}.mlp_act", at / 3),
        layer: at.is_multiple_of(2).then_some(at as i32),
        label: "upos".to_owned(),
        concept: if at.is_multiple_of(4) { String::new() } else { "Ädjektiv".to_owned() },
        n: i64::MIN + at as i64,
        accuracy: [0.1 + 0.2, f64::NAN, -0.0, f64::INFINITY, f64::MIN_POSITIVE / 8.0][at % 5],
        f1: at.is_multiple_of(3).then_some(1.0 / 3.0),
        neurons: (0..at % 3).map(|neuron| format!("n{neuron}")).collect(),
        flags: vec![String::new(); at % 2],
        ..MethodRow::default()
    };
    (0..17).map(one).collect()
}

#[test]
fn rows_come_back_to_the_bit() {
    let rows = rows();
    let bytes = pack(rows.clone());
    let back: Vec<MethodRow> = unpack(&bytes).expect("whole");
    assert_eq!(back.len(), rows.len());
    for (a, b) in back.iter().zip(&rows) {
        assert_eq!(a.accuracy.to_bits(), b.accuracy.to_bits());
        assert_eq!((&a.neurons, &a.flags, a.f1, a.n), (&b.neurons, &b.flags, b.f1, b.n));
        assert_eq!((&a.site, a.layer, &a.concept), (&b.site, b.layer, &b.concept));
    }
    assert_eq!(pack(back), bytes);
    assert!(unpack::<MethodRow>(&pack(Vec::<MethodRow>::new())).expect("whole").is_empty());
    let codes =
        vec![CodeRow { losses: vec![0.1, f64::NAN], portions: vec![7], ..CodeRow::default() }];
    assert_eq!(pack(unpack::<CodeRow>(&pack(codes.clone())).expect("whole")), pack(codes));
}

#[test]
fn damaged_rows_are_refused() {
    let bytes = pack(rows());
    for length in 0..bytes.len() {
        assert!(unpack::<MethodRow>(&bytes[..length]).is_err(), "{length} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(unpack::<MethodRow>(&longer).is_err());
    assert!(unpack::<ProbeRow>(&bytes).is_err(), "rows of another table");
    let mut many = bytes;
    many[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(unpack::<MethodRow>(&many).is_err(), "more rows than there is memory");
}
