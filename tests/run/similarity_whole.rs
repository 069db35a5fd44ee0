//! `electrode similarity` over the whole corpus, and comparisons that are killed, with the real binary.
//! Oracles: a sample of every row; the run undisturbed; one GPU.

use electrode::artifact::similarity::{SIMILARITY, SimilarityRow};
use electrode::artifact::table::read_table;

use super::gpus::on_fake;
use super::similarity::{TABLES, Twice, bytes};
use super::stopped::wait;
use super::{finish, snapshot};

#[test]
fn a_killed_comparison_of_samples_goes_on_and_gives_the_same_bytes() {
    goes_on("similarity.rows=512");
}

#[test]
fn a_killed_comparison_of_the_corpus_goes_on_and_gives_the_same_bytes() {
    goes_on("similarity.rows=0");
}

fn goes_on(rows: &str) {
    let twice = Twice::new(1500);
    let done = finish(&mut twice.command("whole", &[rows]));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let whole = bytes(&twice.path("whole"));
    for attempt in 0..5 {
        let out = format!("out{attempt}");
        let stored = || snapshot(&twice.path(&out).join("states")).values().any(|b| b.len() > 4096);
        let mut child = twice.command(&out, &[rows]).spawn().expect("the program starts");
        wait(&mut child, stored);
        child.kill().expect("it can be killed");
        if child.wait().expect("it ends").success() {
            continue; // It was done already.
        }
        assert!(!twice.path(&out).join(SIMILARITY).exists());
        let done = finish(&mut twice.command(&out, &[rows, "--threads", "1"]));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stdout.contains("blocks from earlier attempts"), "{}", done.stdout);
        let again = bytes(&twice.path(&out));
        for name in TABLES {
            assert!(again[name] == whole[name], "{name} differs");
        }
        return;
    }
    panic!("five comparisons ended before they were killed");
}

/// Moments of every row, whatever the devices and the batches, against a sample of every row.
#[test]
fn the_whole_corpus_is_a_sample_of_all_rows() {
    let twice = Twice::new(200);
    let read = |out: &str, more: &[&str]| -> Vec<SimilarityRow> {
        let done = finish(&mut twice.command(out, more));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        read_table(&twice.path(out).join(SIMILARITY)).expect("a table")
    };
    let sample = read("sample", &["similarity.rows=100000"]);
    let whole = read("whole", &["similarity.rows=0"]);
    assert_eq!(sample.len(), whole.len());
    for (a, b) in sample.iter().zip(&whole) {
        assert_eq!((&a.site_a, &a.site_b, a.n), (&b.site_a, &b.site_b, b.n));
        let near = |a: Option<f64>, b: Option<f64>, name: &str| {
            let (a, b) = (a.expect("enough rows"), b.expect("enough rows"));
            assert!((a - b).abs() <= 1e-5, "{name} of {whole:?}: {a} and {b}");
        };
        near(Some(a.cka), Some(b.cka), "cka");
        near(a.cka_debiased, b.cka_debiased, "debiased");
        near(Some(a.max_corr), Some(b.max_corr), "max corr");
        near(a.svcca, b.svcca, "svcca");
        near(a.pwcca, b.pwcca, "pwcca");
        assert_eq!(a.linreg.is_some(), b.linreg.is_some());
    }
    // Only the pairs that are asked for are there.
    let same = read("same", &["similarity.rows=0", "similarity.pairs='same'"]);
    assert!(same.len() < whole.len() && !same.is_empty());
    for row in &same {
        assert!(whole.contains(row), "the same moments: {row:?}");
    }
}

#[test]
fn one_two_and_three_gpus_compare_the_corpus_the_same() {
    let twice = Twice::new(100);
    let on = |out: &str, count: &str, more: &[&str]| {
        let more = [&["--device", "cuda", "corpus.block_bytes=1024"], more].concat();
        on_fake(&mut twice.command(out, &more), &[("FAKECUDA_DEVICES", count)])
    };
    let Some(one) = on("one", "1", &["similarity.rows=0"]) else { return };
    assert_eq!(one.code, Some(0), "{}", one.stderr);
    for count in ["2", "3"] {
        let done = on(count, count, &["similarity.rows=0"]).expect("as above");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let (a, b) = (bytes(&twice.path("one")), bytes(&twice.path(count)));
        for name in TABLES {
            assert!(a[name] == b[name], "{count} GPUs: {name} differs");
        }
    }
}
