//! What is said of texts.
//! Oracle: by hand.

use electrode::generate::measures::{Share, WordList, distinct, perplexity};

#[test]
fn distinct_counts_different_runs_over_all_texts() {
    let texts: [&[u32]; 3] = [&[1, 2, 1, 2], &[2, 1], &[5]];
    assert_eq!(distinct(texts, 1), 3.0 / 7.0);
    // 12 21 12 and 21.
    assert_eq!(distinct(texts, 2), 2.0 / 4.0);
    assert_eq!(distinct(texts, 5), 0.0);
}

#[test]
fn perplexity_is_of_the_mean() {
    assert!((perplexity(-3.0 * 7.0_f64.ln(), 3) - 7.0).abs() <= 1e-12);
    assert_eq!(perplexity(0.0, 0), 1.0);
}

#[test]
fn shares_have_binomial_errors() {
    assert_eq!(Share::of(1, 4), Share { share: 0.25, error: (0.1875_f64 / 4.0).sqrt() });
    assert_eq!(Share::of(0, 0), Share { share: 0.0, error: 0.0 });
}

#[test]
fn words_are_found_whole_and_in_any_case() {
    let list = WordList::parse("War\n\nnew  york\nnaïve\n", "words.txt").expect("three");
    for text in ["the WAR.", "\"war\"", "in New\nYork,", "NAÏVE"] {
        assert!(list.is_in(text), "{text}");
    }
    for text in ["", "warm", "the new, old york", "york new", "postwar"] {
        assert!(!list.is_in(text), "{text}");
    }
    let error = WordList::parse(" \n--\n", "words.txt").expect_err("no word");
    assert_eq!(error.exit_code(), 65);
}
