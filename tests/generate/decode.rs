//! Decoding with a cache, for every causal architecture.
//! Oracle: the whole text run again at each step, from embeddings to logits. Bound: 3e-5 of the
//! largest logit, a hundred roundings of float32.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use electrode::capture::collect::Collector;
use electrode::device::cpu::CpuDevice;
use electrode::device::cuda::Element;
use electrode::device::decode::{Append, DecodeLimits, Decoder, check_model};
use electrode::device::forward::{Forward, ForwardInput, Limits, SiteWork};
use electrode::device::ops::{Edit, Write};
use electrode::device::suffix_ops::SuffixOps;
use electrode::id::{Site, SiteKind};
use electrode::model::Model;

use crate::golden::fixture::{embedded, fixtures, shared};
use crate::laws::data::Random;

const BOUND: f32 = 3e-5;

type Edits = BTreeMap<Site, Vec<Edit>>;

/// Fixtures that continue texts, each once.
fn causal() -> Vec<(PathBuf, Model)> {
    let mut folders = fixtures(&embedded());
    let known: BTreeSet<_> =
        folders.iter().filter_map(|folder| Some(folder.file_name()?.to_owned())).collect();
    let further = fixtures(&shared());
    if further.is_empty() {
        eprintln!("skipped: the shared fixtures are not there; the embedded ones are");
    }
    folders.extend(
        further.into_iter().filter(|f| f.file_name().is_none_or(|name| !known.contains(name))),
    );
    let open = |folder: PathBuf| {
        let model = Model::open_with_config(&folder, &folder.join("config.json")).expect("opens");
        check_model(&model.spec).is_ok().then_some((folder, model))
    };
    folders.into_iter().filter_map(open).collect()
}

/// A neuron moved, one set and a head turned down in a middle layer.
fn edits(model: &Model) -> Edits {
    let layer = u32::try_from(model.spec.layers / 2).expect("few");
    let at = |columns: &[u32], write| {
        vec![Edit { columns: Some(columns.to_vec()), tokens: None, write }]
    };
    BTreeMap::from([
        (Site::of_layer(layer, SiteKind::MlpAct), at(&[0, 3], Write::Set(vec![1.5, -0.5]))),
        (Site::of_layer(layer, SiteKind::HeadOut), at(&[1, 2], Write::Scale(-0.5))),
        (Site::of_layer(layer, SiteKind::ResidPre), at(&[2], Write::Add(vec![0.4]))),
    ])
}

/// The logits of the last token of a text, all of it run.
fn whole(forward: &mut Forward<CpuDevice>, tokens: &[u32], edits: &Edits) -> Vec<f32> {
    let site = Site::global(SiteKind::Logits);
    let (wanted, mut collector) = (BTreeSet::from([site]), Collector::default());
    let starts = [0, u32::try_from(tokens.len()).expect("short")];
    let input = ForwardInput { tokens, starts: &starts, token_types: None, positions: None };
    let mut sites = SiteWork { wanted: &wanted, edits, visitor: &mut collector };
    forward.run(input, &mut sites).expect("runs");
    let logits = &collector.sites[&site];
    logits[logits.len() - forward.spec().vocab..].to_vec()
}

fn best(logits: &[f32]) -> u32 {
    let better = |a: usize, b: usize| if logits[b] > logits[a] { b } else { a };
    u32::try_from((0..logits.len()).reduce(better).expect("a vocabulary")).expect("small")
}

/// Texts of different lengths grow by their best tokens, together; at each step as if run anew.
fn grow<O: SuffixOps>(ops: O, (name, model): (&str, &Model), edits: &Edits, bound: f32) {
    let capacity = model.spec.max_tokens.unwrap_or(28).min(28);
    let limits = DecodeLimits { slots: 4, capacity, tokens: 2 * capacity };
    let mut decoder = Decoder::new(ops, model, limits).expect("fits");
    let wanted = BTreeSet::from([Site::global(SiteKind::Logits)]);
    let bounds = Limits { tokens: capacity, sequence: capacity };
    let mut forward = Forward::new(CpuDevice::F32, model, bounds, &wanted).expect("fits");
    let (vocab, mut random) = (model.spec.vocab, Random(5));
    let mut texts: Vec<Vec<u32>> = [7, 1, capacity - 6]
        .iter()
        .map(|&n| {
            (0..n).map(|_| u32::try_from(random.below(vocab as u64)).expect("small")).collect()
        })
        .collect();
    // Slots in no order, and one prompt for two of them.
    let slots: [&[u32]; 3] = [&[2], &[3, 0], &[1]];
    let mut logits = Vec::new();
    let prompts: Vec<Append<'_>> =
        slots.iter().zip(&texts).map(|(slots, tokens)| Append { slots, tokens }).collect();
    decoder.advance(&prompts, edits, &mut logits).expect("runs");
    for step in 0..6 {
        for (text, row) in texts.iter_mut().zip(logits.chunks_exact(vocab)) {
            let want = whole(&mut forward, text, edits);
            let largest = want.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            let error = row.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(row.iter().all(|x| x.is_finite()), "{name}, step {step}");
            assert!(error <= bound * largest.max(1.0), "{name}, step {step}: {error:e}");
            text.push(best(&want));
        }
        if step == 5 {
            break;
        }
        let last: Vec<[u32; 1]> = texts.iter().map(|text| [text[text.len() - 1]]).collect();
        let taken = |at: usize| Append { slots: &slots[at][..1], tokens: &last[at] };
        // The second slot of the shared prompt goes on too, in the place of the first.
        let second = Append { slots: &[0], tokens: &last[1] };
        let at_one = if step < 3 { taken(1) } else { second };
        if step < 3 {
            decoder.advance(&[second], edits, &mut logits).expect("runs");
        }
        decoder.advance(&[taken(0), at_one, taken(2)], edits, &mut logits).expect("runs");
    }
}

#[test]
fn decoding_with_a_cache_is_running_the_whole_text() {
    let models = causal();
    assert!(models.len() >= 7, "{} causal fixtures", models.len());
    for (folder, model) in &models {
        let name = folder.display().to_string();
        grow(CpuDevice::F32, (&name, model), &Edits::new(), BOUND);
        grow(CpuDevice::F32, (&name, model), &edits(model), BOUND);
    }
}

#[test]
fn a_gpu_decodes_with_a_cache() {
    for (folder, model) in causal().into_iter().take(2) {
        let Some(gpu) = crate::cuda::device(Element::F32) else { return };
        let name = folder.display().to_string();
        grow(gpu, (&name, &model), &edits(&model), 1e-4);
    }
}

#[test]
fn log_probabilities_are_those_of_a_softmax_in_f64() {
    for (folder, model) in causal() {
        let name = folder.display().to_string();
        let limits = DecodeLimits { slots: 1, capacity: 12, tokens: 24 };
        let mut decoder = Decoder::new(CpuDevice::F32, &model, limits).expect("fits");
        let wanted = BTreeSet::from([Site::global(SiteKind::Logits)]);
        let bounds = Limits { tokens: 12, sequence: 12 };
        let mut forward = Forward::new(CpuDevice::F32, &model, bounds, &wanted).expect("fits");
        let mut random = Random(8);
        let mut text = |n: usize| -> Vec<u32> {
            let id = |_| u32::try_from(random.below(model.spec.vocab as u64)).expect("small");
            (0..n).map(id).collect()
        };
        let texts = [(text(12), 4), (text(6), 1)];
        let sequences: Vec<(&[u32], usize)> = texts.iter().map(|(t, n)| (&t[..], *n)).collect();
        let got = decoder.log_probs(&sequences, &Edits::new()).expect("runs");
        let mut want = Vec::new();
        for (text, from) in &texts {
            for at in *from..text.len() {
                let logits = whole(&mut forward, &text[..at], &Edits::new());
                let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                want.push(f64::from(logits[text[at] as usize]) - sum.ln());
            }
        }
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            assert!((f64::from(*got) - want).abs() <= 1e-4, "{name}: {got} for {want}");
        }
    }
}

/// Seconds and texts of 64 new tokens after 8 of a prompt, for so many texts at once.
fn timed(model: &Model, texts: usize, cached: bool) -> (f64, Vec<Vec<u32>>) {
    let (capacity, vocab) = (72, model.spec.vocab);
    let limits = DecodeLimits { slots: texts, capacity, tokens: texts * capacity };
    let mut decoder = Decoder::new(CpuDevice::F32, model, limits).expect("fits");
    let slots: Vec<u32> = (0..).take(texts).collect();
    let prompt = |slot: &u32| vec![0, 301 + slot, 393, 490, 286, 258, 17, 9];
    let mut grown: Vec<Vec<u32>> = slots.iter().map(prompt).collect();
    let (mut logits, clock) = (Vec::new(), std::time::Instant::now());
    for _ in 0..64 {
        let held = decoder.length(0);
        if !cached {
            slots.iter().for_each(|&slot| decoder.clear(slot));
        }
        let from = if cached { held } else { 0 };
        let append = |(slot, text): (usize, &'_ Vec<u32>)| -> (usize, Vec<u32>) {
            (slot, text[from..].to_vec())
        };
        let new: Vec<(usize, Vec<u32>)> = grown.iter().enumerate().map(append).collect();
        let appends: Vec<Append<'_>> = new
            .iter()
            .map(|(slot, tokens)| Append { slots: &slots[*slot..=*slot], tokens })
            .collect();
        decoder.advance(&appends, &Edits::new(), &mut logits).expect("runs");
        for (text, row) in grown.iter_mut().zip(logits.chunks_exact(vocab)) {
            text.push(best(row));
        }
    }
    (clock.elapsed().as_secs_f64(), grown)
}

#[test]
#[ignore = "measures speed: run it alone"]
fn a_cache_is_faster_than_running_the_whole_text() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en");
    let model = Model::open(folder.to_str().expect("UTF-8")).expect("opens");
    for texts in [1, 16] {
        let of = |cached: bool| {
            let runs: Vec<_> = (0..3).map(|_| timed(&model, texts, cached)).collect();
            runs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("three runs")
        };
        let (with, without) = (of(true), of(false));
        assert_eq!(with.1, without.1);
        let rate = |seconds: f64| 64.0 * texts as f64 / seconds;
        let (fast, slow) = (rate(with.0), rate(without.0));
        eprintln!("{texts} texts: {fast:.0} tokens a second with a cache, {slow:.0} without");
        assert!(with.0 < without.0);
    }
}
