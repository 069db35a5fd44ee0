//! A run folder that no model made, of plausible shape: for tests of what reads run folders.
//!
//! Neurons of each concept cluster around a layer of its own; methods see the same neurons with
//! noise; contexts are made of a small lexicon. All from one seed, so every call gives the same.

use std::f64::consts::TAU;
use std::path::Path;

use electrode::artifact::manifest::{
    ClassFacts, CorpusFacts, FileFacts, LabelFacts, Manifest, ModelFacts, PlanFacts, SiteFacts,
    Timings,
};
use electrode::artifact::rows::{ContextRow, HistogramRow, NeuronRow, RankingRow};
use electrode::artifact::tables::{self, CONTEXTS, HISTOGRAMS, NEURONS, RANKINGS};
use electrode::corpus::block::Counts;

pub(crate) use crate::noise::Noise;

/// How large the folder is, and what stands in its text fields.
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) pages_per_concept: usize,
    pub(crate) contexts: usize,
    pub(crate) methods: Vec<String>,
    /// Label column, classes.
    pub(crate) labels: Vec<(String, Vec<String>)>,
    /// Taken in turn for the words of contexts.
    pub(crate) lexicon: Vec<String>,
    pub(crate) model: String,
    pub(crate) name: String,
}

fn strings(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

impl Default for Shape {
    fn default() -> Self {
        let upos = "NOUN VERB PUNCT PRON ADP DET PROPN ADJ AUX ADV CCONJ PART NUM SCONJ X INTJ SYM";
        Self {
            layers: 6,
            width: 512,
            pages_per_concept: 3,
            contexts: 20,
            methods: strings("meandiff probeless selectivity ap auroc iou lape random"),
            labels: vec![
                ("upos".into(), strings(upos)),
                ("feats.Number".into(), strings("Sing Plur")),
                ("feats.Tense".into(), strings("Past Pres")),
                ("feats.VerbForm".into(), strings("Fin Ger Inf Part")),
            ],
            lexicon: strings(
                "the report of a small model says that its neurons fire on words , and some of \
                 them on nothing else . We looked at Dublin in March 2019 ; they walked home \
                 slowly because it was raining ( again ) . Who would have thought so ? running \
                 children were singing old songs to 3 dogs and one cat , naïve Zürich 東京",
            ),
            model: "shared/models/tiny-gpt2-en".into(),
            name: "Quickstart: parts of speech in a small GPT-2".into(),
        }
    }
}

struct Made<'a> {
    shape: &'a Shape,
    noise: Noise,
    rankings: Vec<RankingRow>,
    contexts: Vec<ContextRow>,
    histograms: Vec<HistogramRow>,
}

/// A neuron of the synthetic model: site name, layer, column.
type Id = (String, i32, i32);

const KINDS: [(&str, usize); 2] = [("mlp_act", 1), ("resid_post", 4)];

/// Writes the folder.
pub(crate) fn write(folder: &Path, shape: &Shape) {
    std::fs::create_dir_all(folder).expect("makes the folder");
    let mut made = Made {
        shape,
        noise: Noise::new(7),
        rankings: Vec::new(),
        contexts: Vec::new(),
        histograms: Vec::new(),
    };
    for (l, (label, classes)) in shape.labels.iter().enumerate() {
        for (c, class) in classes.iter().enumerate() {
            made.concept(label, class, l * 31 + c);
        }
    }
    let neurons = made.neurons();
    let run = "0123456789abcdef";
    tables::write_neurons(&folder.join(NEURONS), run, neurons.into_iter()).expect("writes");
    tables::write_rankings(&folder.join(RANKINGS), run, made.rankings.into_iter()).expect("writes");
    tables::write_contexts(&folder.join(CONTEXTS), run, made.contexts.into_iter()).expect("writes");
    tables::write_histograms(&folder.join(HISTOGRAMS), run, made.histograms.into_iter())
        .expect("writes");
    manifest(folder, shape).write(folder).expect("writes");
}

impl Made<'_> {
    fn id(&mut self, layer: usize) -> Id {
        let (kind, part) = KINDS[usize::from(self.noise.uniform() < 0.25)];
        let index = self.noise.below(self.shape.width / part);
        (format!("layers.{layer}.{kind}"), layer as i32, index as i32)
    }

    fn near(&mut self, layer: f64) -> usize {
        let at = layer + 0.9 * self.noise.normal();
        at.round().clamp(0.0, (self.shape.layers - 1) as f64) as usize
    }

    fn concept(&mut self, label: &str, class: &str, seed: usize) {
        let home = (seed * 7 % (self.shape.layers * 10)) as f64 / 10.0;
        let mut pool: Vec<(Id, f64)> = Vec::new();
        for i in 0..90 {
            let layer = self.near(home);
            let id = self.id(layer);
            if !pool.iter().any(|(other, _)| *other == id) {
                pool.push((id, (-f64::from(i) / 22.0).exp()));
            }
        }
        for m in 0..self.shape.methods.len() {
            self.ranking(m, label, class, &pool);
        }
        let best: Vec<Id> =
            pool.iter().take(self.shape.pages_per_concept).map(|(id, _)| id.clone()).collect();
        for id in best {
            self.page(&id, label, class);
        }
    }

    fn ranking(&mut self, m: usize, label: &str, class: &str, pool: &[(Id, f64)]) {
        let method = self.shape.methods[m].clone();
        let random = method.starts_with("random");
        let mut list: Vec<(Id, f64)> = Vec::new();
        while list.len() < 50.min(pool.len()) {
            let (id, strength) = if random {
                let layer = self.noise.below(self.shape.layers);
                (self.id(layer), self.noise.uniform())
            } else {
                let from = list.len() + self.noise.below(1 + 3 * m);
                let mut turn = pool.iter().cycle().skip(from % pool.len());
                let free = |(id, _): &&(Id, f64)| !list.iter().any(|(other, _)| other == id);
                turn.find(free).expect("the pool has more than fifty").clone()
            };
            let noisy = strength * (0.3 * (1.0 + m as f64) * 0.4 * self.noise.normal()).exp();
            if !list.iter().any(|(other, _)| *other == id) {
                list.push((id, noisy));
            }
        }
        list.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (i, ((site, layer, neuron), score)) in list.into_iter().enumerate() {
            let unsigned = random || method == "lape";
            let sign = if unsigned { 0 } else { 1 - 2 * i8::from(neuron % 5 == 0) };
            // The strongest evidence of a real run is beyond what an f64 holds.
            let p = if i == 0 { 0.0 } else { (-60.0 * score - 5.0).exp() };
            let p_value = (!unsigned).then_some(p);
            self.rankings.push(RankingRow {
                method: method.clone(),
                label: label.to_string(),
                concept: class.to_string(),
                site,
                layer: Some(layer),
                neuron,
                rank: i as i32 + 1,
                score,
                sign,
                n: 25_096,
                n_concept: (25_096.0 * 0.2 / (1.0 + class.len() as f64)) as i64,
                p_value,
                q_value: p_value.map(|p| (p * 40.0).min(1.0)),
            });
        }
    }

    fn page(&mut self, id: &Id, label: &str, class: &str) {
        let (site, layer, neuron) = id.clone();
        if self.contexts.iter().any(|c| c.site == site && c.neuron == neuron) {
            return;
        }
        for side in ["top", "bottom"] {
            for rank in 1..=self.shape.contexts {
                let context = self.context(id, side, rank as i32);
                self.contexts.push(context);
            }
        }
        let (edges, all) = self.bins(0.0, 1.0, 25_096);
        for (label, concept, counts) in [
            ("", "*", all),
            (label, class, self.bins(1.6, 0.8, 2_400).1),
            ("upos", "NOUN", self.bins(-0.4, 0.7, 4_100).1),
        ] {
            self.histograms.push(HistogramRow {
                site: site.clone(),
                layer: Some(layer),
                neuron,
                label: label.to_string(),
                concept: concept.to_string(),
                edges: edges.clone(),
                counts,
            });
        }
    }

    fn context(&mut self, id: &Id, side: &str, rank: i32) -> ContextRow {
        let start = self.noise.below(self.shape.lexicon.len());
        let length = 14 + self.noise.below(12);
        let word = |i: usize| self.shape.lexicon[(start + i) % self.shape.lexicon.len()].clone();
        let words: Vec<String> = (0..length).map(word).collect();
        let focus = self.noise.below(length);
        let value = (3.9 - 0.06 * f64::from(rank)) * if side == "top" { 1.0 } else { -0.5 };
        let mut activations: Vec<f32> =
            (0..length).map(|_| (0.45 * self.noise.normal() - 0.1) as f32).collect();
        activations[focus] = value as f32;
        let document = self.noise.below(500) as i64;
        ContextRow {
            site: id.0.clone(),
            layer: Some(id.1),
            neuron: id.2,
            side: side.to_string(),
            rank,
            value: value as f32,
            document,
            sentence: self.noise.below(40) as i32,
            place: self.noise.below(900) as i64,
            focus: focus as i32,
            words,
            activations,
        }
    }

    /// A normal distribution in 64 bins.
    fn bins(&mut self, mean: f64, sd: f64, rows: i64) -> (Vec<f32>, Vec<i64>) {
        let edges: Vec<f32> = (0..=64).map(|i| -4.0 + 0.125 * i as f32).collect();
        let density = |x: f64| (-0.5 * ((x - mean) / sd).powi(2)).exp() / (sd * TAU.sqrt());
        let counts = edges
            .windows(2)
            .map(|w| {
                let expected = rows as f64 * 0.125 * density(f64::from(w[0]) + 0.0625);
                (expected + expected.sqrt() * self.noise.normal() * 0.5).max(0.0).round() as i64
            })
            .collect();
        (edges, counts)
    }

    fn neurons(&mut self) -> Vec<NeuronRow> {
        let mut rows = Vec::new();
        for layer in 0..self.shape.layers {
            for (kind, part) in KINDS {
                for neuron in 0..self.shape.width / part {
                    rows.push(NeuronRow {
                        site: format!("layers.{layer}.{kind}"),
                        layer: Some(layer as i32),
                        neuron: neuron as i32,
                        n: 25_096,
                        non_finite: 0,
                        mean: 0.05 * self.noise.normal(),
                        sd: 1.0 + 0.1 * self.noise.uniform(),
                        min: -3.9,
                        max: 4.0,
                        firing_rate: 0.3 + 0.4 * self.noise.uniform(),
                        constant: false,
                        quantiles: vec![-2.3, -1.6, -0.7, 0.0, 0.7, 1.6, 2.3],
                    });
                }
            }
        }
        rows
    }
}

fn manifest(folder: &Path, shape: &Shape) -> Manifest {
    let outputs = [NEURONS, RANKINGS, CONTEXTS, HISTOGRAMS];
    let sites = (0..shape.layers)
        .flat_map(|layer| KINDS.map(|(kind, part)| (format!("layers.{layer}.{kind}"), part)))
        .map(|(site, part)| SiteFacts { site, neurons: (shape.width / part) as u64 })
        .collect::<Vec<_>>();
    let class = |name: &String| ClassFacts { name: name.clone(), rows: 900, ranked: true };
    let rare = ClassFacts { name: "Rare".into(), rows: 2, ranked: false };
    let file = |name: &str, bytes: u64| FileFacts {
        name: name.to_string(),
        bytes,
        sha256: Some("ab".repeat(32)),
        blake3: None,
    };
    Manifest {
        run_id: "0123456789abcdef".into(),
        config: serde_json::json!({ "name": shape.name, "statistics": { "bins": 64 } }),
        config_hash: "cd".repeat(32),
        model: ModelFacts {
            path: shape.model.clone(),
            files: vec![file("model.safetensors", 3_412_776), file("config.json", 612)],
            dtype: "f32".into(),
            architecture: "gpt2".into(),
            layers: shape.layers as u64,
            width: (shape.width / 4) as u64,
            neurons: sites.iter().map(|s| s.neurons).sum(),
            parameters: 1_843_200,
            tokenizer_hash: Some("ef".repeat(32)),
        },
        corpus: CorpusFacts {
            files: vec![file("en_ewt-ud-dev.conllu", 1_678_234)],
            counts: Counts {
                documents: 318,
                sentences: 2_001,
                sequences: 2_003,
                words: 25_148,
                tokens: 31_902,
                rows: 25_096,
                dropped_words: 3,
                truncated_words: 0,
                excluded_rows: 49,
                bad: 0,
            },
        },
        labels: shape
            .labels
            .iter()
            .map(|(column, classes)| LabelFacts {
                column: column.clone(),
                classes: classes.iter().map(class).chain([rare.clone()]).collect(),
                min_count: 20,
            })
            .collect(),
        sites,
        plan: PlanFacts { blocks: 3, hash: "12".repeat(32), done: 3 },
        machine: electrode::artifact::machine::Machine::here(2),
        timings: Timings {
            start: "2026-11-23T05:33:00Z".into(),
            seconds: 21.4,
            tokens: 31_902,
            tokens_per_second: 2_131.0,
            peak_memory_bytes: Some(48 << 20),
        },
        outputs: outputs.map(|name| FileFacts::output(folder, name).expect("hashes")).to_vec(),
        ..Manifest::default()
    }
}
