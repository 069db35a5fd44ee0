//! Prompts continued on the embedded model.
//! Oracles: other batches, threads and devices; the model without edits; by hand.

use std::path::Path;

use electrode::capture::intervention::Intervention;
use electrode::config::Dtype;
use electrode::device::cuda::{CudaDevice, Element};
use electrode::engine::fleet::Slot;
use electrode::generate::continuation::On;
use electrode::generate::sample::Sampling;
use electrode::run::devices::cpu;
use electrode::run::generate::{Generation, Text, TextArm, TextConfig};

pub(crate) fn config() -> TextConfig {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let prompts = ["The man went to the", "She", "In the city of London , the first of the two"];
    TextConfig {
        model: model.display().to_string(),
        dtype: Dtype::F32,
        device: Some("cpu".into()),
        prompts: prompts.map(str::to_owned).to_vec(),
        files: Vec::new(),
        add_bos: true,
        samples: 3,
        max_tokens: 12,
        sampling: Sampling { top_p: 0.95, seed: 9, ..Sampling::default() },
        ignore_end: false,
        stop: Vec::new(),
        batch_tokens: None,
    }
}

fn greedy() -> TextConfig {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    TextConfig { sampling, samples: 1, ..config() }
}

fn texts(config: TextConfig, arms: &[TextArm], judged: bool) -> Vec<Vec<Text>> {
    let generation = Generation::open(config).expect("opens");
    generation.run(arms, judged, &mut |_, _, _| {}).expect("runs")
}

fn plain(config: TextConfig) -> Vec<Text> {
    texts(config, &[TextArm::default()], false).remove(0)
}

/// An arm for an intervention without arms.
fn arm(json: &str, on: On) -> TextArm {
    let edits = Intervention::parse(json, Path::new("edits.json")).expect("parses");
    let generation = Generation::open(config()).expect("opens");
    let (name, edits) = edits.of_texts(&generation.model.spec).expect("resolves").remove(0);
    TextArm { name, edits, on }
}

#[test]
fn texts_do_not_depend_on_what_is_beside_them() {
    let want = plain(config());
    assert_eq!(want.len(), 9);
    for batch_tokens in [1, 40, 100, 10_000] {
        let got = plain(TextConfig { batch_tokens: Some(batch_tokens), ..config() });
        assert_eq!(got, want, "{batch_tokens} tokens at once");
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    assert_eq!(one.install(|| plain(config())), want);
    // The first two samples of three are the samples of two.
    let fewer = plain(TextConfig { samples: 2, ..config() });
    let first: Vec<_> = want.iter().filter(|text| text.sample < 2).cloned().collect();
    assert_eq!(fewer, first);
    let sampling = Sampling { seed: 10, ..config().sampling };
    assert_ne!(plain(TextConfig { sampling, ..config() }), want, "another seed");
}

#[test]
fn edits_of_generated_tokens_leave_the_first_as_it_is() {
    let off = r#"{"kind": "scale", "factor": -3, "edits": [{"layer": 1, "neurons": "all"}]}"#;
    let arms =
        [TextArm::default(), arm(off, On::All), arm(off, On::Prompt), arm(off, On::Generated)];
    let found = texts(greedy(), &arms, true);
    let [clean, all, prompt, generated] = &found[..] else { panic!("four arms") };
    for at in 0..clean.len() {
        let first = |texts: &[Text]| texts[at].tokens[0];
        assert_eq!(first(generated), first(clean), "the prompt alone gives the first token");
        assert_eq!(first(prompt), first(all), "up to there the edits are the same");
    }
    let tokens = |texts: &[Text]| texts.iter().map(|t| t.tokens.clone()).collect::<Vec<_>>();
    let different = [clean, all, prompt, generated].map(|texts| tokens(texts));
    for (i, one) in different.iter().enumerate() {
        assert!(different[..i].iter().all(|other| other != one), "arm {i}");
    }
    for text in clean {
        let judged = text.judge_log_prob.expect("judged");
        assert!((text.log_prob - judged).abs() <= 1e-3, "{} and {judged}", text.log_prob);
    }
    let worse = |text: &Text| text.judge_perplexity > Some(text.perplexity);
    assert!(all.iter().filter(|text| worse(text)).count() * 2 > all.len(), "edits cost something");
}

#[test]
fn a_text_ends_where_it_should() {
    let long = plain(TextConfig { max_tokens: 60, samples: 8, ..config() });
    let ended: Vec<&Text> = long.iter().filter(|text| text.finished == "end").collect();
    assert!(!ended.is_empty() && ended.len() < long.len(), "{} of {}", ended.len(), long.len());
    for text in &long {
        let end = text.tokens.iter().position(|&token| token == 0);
        match text.finished {
            "end" => assert_eq!(end, Some(text.tokens.len() - 1)),
            _ => assert_eq!((end, text.tokens.len()), (None, 60)),
        }
    }
    let on = plain(TextConfig { max_tokens: 60, samples: 8, ignore_end: true, ..config() });
    assert!(on.iter().all(|text| text.tokens.len() == 60 && text.finished == "length"));
    let stopped =
        plain(TextConfig { max_tokens: 60, stop: vec![" of".into(), ",".into()], ..config() });
    assert!(stopped.iter().any(|text| text.finished == "stop"));
    for text in stopped {
        assert!(!text.text.contains(" of") && !text.text.contains(','), "{:?}", text.text);
    }
}

#[test]
fn a_gpu_writes_what_the_processor_writes() {
    let Some(images) = crate::cuda::images() else { return };
    let gpu = Slot::new("gpu", || CudaDevice::open(0, Element::F32, &images));
    let config = TextConfig { max_tokens: 5, ..greedy() };
    let off = r#"{"kind": "zero", "edits": [{"layer": 2, "neurons": [1, 5, 9]}]}"#;
    let arms = [arm(off, On::All)];
    let generation = Generation::open(config.clone()).expect("opens");
    let there = generation.run_on(vec![gpu], (&arms, true), &mut |_, _, _| {}).expect("runs");
    let here =
        generation.run_on(vec![cpu(Dtype::F32)], (&arms, true), &mut |_, _, _| {}).expect("runs");
    for (there, here) in there[0].iter().zip(&here[0]) {
        assert_eq!(there.tokens, here.tokens);
        assert!((there.log_prob - here.log_prob).abs() <= 1e-3);
        let judged = [there, here].map(|text| text.judge_log_prob.expect("judged"));
        assert!((judged[0] - judged[1]).abs() <= 1e-3);
    }
}
