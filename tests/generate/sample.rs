//! Tokens chosen from logits.
//! Oracles: a softmax and a sort in f64; the chi-square law of counts; by hand.

use electrode::generate::sample::{Candidate, Draw, Sampling};

use crate::laws::data::Random;

fn logits(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|_| 2.0 * random.normal()).collect()
}

fn draw(sampling: &Sampling, logits: &[f32], sample: u64) -> u32 {
    let draw = Draw { prompt: 3, sample, step: 1 };
    sampling.choose(logits, &[], draw).expect("a distribution").token
}

/// exp(x / t) over its sum, and the order from the best on, lower tokens before equal ones.
fn oracle(logits: &[f32], temperature: f64) -> (Vec<f64>, Vec<usize>) {
    let weights: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    (weights.iter().map(|w| w / sum).collect(), order)
}

/// Draws follow the probabilities: chi-square with c - 1 degrees of freedom lies, but for one seed in
/// ten thousand, within 4 of its deviations of its mean.
#[test]
fn draws_follow_the_softmax() {
    for (temperature, top_k, top_p) in [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.3, 5, 1.0), (1.0, 0, 0.8)]
    {
        let logits = logits(11, 12);
        let sampling = Sampling { temperature, top_k, top_p, seed: 5, ..Sampling::default() };
        let allowed = sampling.distribution(&logits, &[]).expect("a distribution");
        let n = 20_000;
        let mut counts = vec![0_u32; logits.len()];
        (0..n).for_each(|sample| counts[draw(&sampling, &logits, sample) as usize] += 1);
        let expected = |one: &Candidate| one.probability * n as f64;
        let term = |one: &Candidate| {
            (f64::from(counts[one.token as usize]) - expected(one)).powi(2) / expected(one)
        };
        let chi: f64 = allowed.iter().map(term).sum();
        let freedom = allowed.len() as f64 - 1.0;
        let bound = freedom + 4.0 * (2.0 * freedom).sqrt();
        assert!(chi <= bound, "t {temperature}, k {top_k}, p {top_p}: {chi} over {bound}");
        let outside = allowed.iter().map(|one| counts[one.token as usize]).sum::<u32>();
        assert_eq!(outside, n as u32, "nothing else is drawn");
    }
}

#[test]
fn what_may_be_drawn_is_what_a_sort_says() {
    for seed in 0..40 {
        let mut logits = logits(seed, 50);
        (logits[7], logits[9]) = (logits[3], logits[3]);
        let temperature = 0.5 + seed as f64 / 20.0;
        let (probabilities, order) = oracle(&logits, temperature);
        for (top_k, top_p) in
            [(0, 1.0), (1, 1.0), (7, 1.0), (90, 1.0), (0, 0.3), (0, 0.95), (9, 0.6)]
        {
            let sampling = Sampling { temperature, top_k, top_p, ..Sampling::default() };
            let k = if top_k == 0 { 50 } else { top_k.min(50) };
            let best = &order[..k];
            let kept: f64 = best.iter().map(|&at| probabilities[at]).sum();
            let mut sum = 0.0;
            let short = best.iter().position(|&at| {
                sum += probabilities[at] / kept;
                sum >= top_p
            });
            let n = if top_p < 1.0 { short.map_or(k, |at| at + 1) } else { k };
            let mut want: Vec<usize> = best[..n].to_vec();
            let got = sampling.distribution(&logits, &[]).expect("a distribution");
            let mut tokens: Vec<usize> = got.iter().map(|one| one.token as usize).collect();
            tokens.sort_unstable();
            want.sort_unstable();
            assert_eq!(tokens, want, "seed {seed}, k {top_k}, p {top_p}");
            let mass: f64 = want.iter().map(|&at| probabilities[at]).sum();
            for one in got {
                let right = probabilities[one.token as usize] / mass;
                assert!((one.probability - right).abs() <= 1e-12, "{one:?}, not {right}");
            }
        }
    }
}

#[test]
fn log_probabilities_are_of_all_logits_as_they_are() {
    let logits = logits(2, 30);
    let (probabilities, _) = oracle(&logits, 1.0);
    let sampling =
        Sampling { temperature: 0.3, top_k: 4, top_p: 0.9, seed: 1, ..Sampling::default() };
    for sample in 0..20 {
        let draw = Draw { prompt: 0, sample, step: 0 };
        let chosen = sampling.choose(&logits, &[], draw).expect("a distribution");
        let want = probabilities[chosen.token as usize].ln();
        assert!((chosen.log_prob - want).abs() <= 1e-12, "{chosen:?}, not {want}");
    }
}

#[test]
fn the_best_of_equal_tokens_is_the_lowest() {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    assert_eq!(draw(&sampling, &[0.0, 2.0, 1.0, 2.0], 0), 1);
    assert_eq!(draw(&sampling, &[f32::NEG_INFINITY, -5.0], 0), 1);
}

#[test]
fn draws_differ_by_everything_that_names_them() {
    let logits = vec![0.0; 1 << 16];
    let token = |seed: u64, prompt: u64, sample: u64, step: u64| {
        let sampling = Sampling { seed, ..Sampling::default() };
        let draw = Draw { prompt, sample, step };
        sampling.choose(&logits, &[], draw).expect("a distribution").token
    };
    let base = token(1, 2, 3, 4);
    assert_eq!(base, token(1, 2, 3, 4));
    let others = [token(2, 2, 3, 4), token(1, 3, 3, 4), token(1, 2, 4, 4), token(1, 2, 3, 5)];
    assert!(others.iter().all(|&other| other != base), "{others:?}, {base}");
    // The numbers are not only added up.
    assert_ne!(token(1, 3, 2, 4), token(1, 2, 3, 4));
}

#[test]
fn no_run_comes_twice() {
    // Alone, the best would be 3 for ever.
    let logits = [0.0, 1.0, 2.0, 3.0];
    let grown = |no_repeat: usize| {
        let sampling = Sampling { temperature: 0.0, no_repeat, ..Sampling::default() };
        let mut text = vec![0_u32, 3];
        for step in 0..8 {
            let draw = Draw { prompt: 0, sample: 0, step };
            text.push(sampling.choose(&logits, &text, draw).expect("a distribution").token);
        }
        text
    };
    assert_eq!(grown(0)[2..], [3; 8]);
    let pairs = grown(2);
    let mut seen: Vec<&[u32]> = pairs.windows(2).collect();
    seen.sort_unstable();
    assert!(seen.windows(2).all(|two| two[0] != two[1]), "{pairs:?}");
    // After 2 and 1 nothing new is left: then nothing is forbidden.
    assert_eq!(grown(1), [0, 3, 2, 1, 3, 3, 3, 3, 3, 3]);
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    let plain = Sampling::default();
    for (sampling, part) in [
        (Sampling { temperature: -1.0, ..plain }, "temperature"),
        (Sampling { temperature: f64::NAN, ..plain }, "temperature"),
        (Sampling { top_p: 0.0, ..plain }, "top-p"),
        (Sampling { top_p: 1.5, ..plain }, "top-p"),
        (Sampling { top_p: f64::NAN, ..plain }, "top-p"),
    ] {
        let error = sampling.check().expect_err("refused");
        assert!(error.exit_code() == 2 && error.to_string().contains(part), "{error}");
    }
    plain.check().expect("the default is fine");
    for logits in [&[f32::NAN, 0.0][..], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY; 2]] {
        let draw = Draw { prompt: 0, sample: 0, step: 0 };
        let error = plain.choose(logits, &[], draw).expect_err("no distribution");
        assert!(error.to_string().contains("not finite"), "{error}");
    }
}
