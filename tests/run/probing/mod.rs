//! `electrode probe` with methods that train probes of their own, with the real binary.

mod planted;
mod refused;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use safetensors::SafeTensors;
use tempfile::TempDir;

use super::{Finished, electrode, finish};

/// Where the neuron is.
const SITE: &str = "layers.1.resid_post";
/// Sentences of train, dev and test.
const SENTENCES: [usize; 3] = [90, 40, 40];
const FILES: [&str; 3] = ["train.conllu", "dev.conllu", "test.conllu"];

/// A corpus in three files whose words say whether one neuron of the model in the repository is above its
/// median, and which two words, one of each kind, belong together.
struct Plant {
    folder: TempDir,
    neuron: usize,
    /// Of the words of the training file, `[words, width]`, and whether each is above.
    train: Vec<Vec<f32>>,
    above: Vec<bool>,
}

static PLANT: LazyLock<Plant> = LazyLock::new(Plant::new);

/// Words of the first sentences of a treebank.
fn sentences() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora/en_ewt/en_ewt-dev-half.conllu");
    let text = fs::read_to_string(path).expect("it is in the repository");
    let words = |block: &str| -> Vec<String> {
        let fields = block.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let plain = |f: &Vec<&str>| f.len() == 10 && f[0].bytes().all(|byte| byte.is_ascii_digit());
        fields.filter(plain).map(|fields| fields[1].to_owned()).collect()
    };
    let all = text.split("\n\n").map(words).filter(|words| (6..30).contains(&words.len()));
    all.take(SENTENCES.iter().sum()).collect()
}

/// Sentences as CoNLL-U, with the features of each word.
fn conllu(sentences: &[Vec<String>], features: &mut dyn FnMut() -> String) -> String {
    let mut text = String::from("# newdoc id = d\n");
    for words in sentences {
        for (at, word) in words.iter().enumerate() {
            let head = u8::from(at > 0);
            let features = features();
            text += &format!("{}\t{word}\t_\tX\t_\t{features}\t{head}\tdep\t_\t_\n", at + 1);
        }
        text += "\n";
    }
    text
}

/// A word's value, whether it is above, and the number of its pair.
#[derive(Clone, Copy)]
struct Word {
    above: bool,
    pair: Option<usize>,
}

/// The words of a file: the highest is paired with the lowest, and so on.
fn paired(values: &[f32], median: f32) -> Vec<Word> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let mut words: Vec<Word> =
        values.iter().map(|&x| Word { above: x > median, pair: None }).collect();
    for (pair, (&high, &low)) in order.iter().zip(order.iter().rev()).enumerate() {
        if words[high].above && !words[low].above {
            words[high].pair = Some(pair);
            words[low].pair = Some(pair);
        }
    }
    words
}

impl Plant {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let sentences = sentences();
        let all = folder.path().join("all.conllu");
        fs::write(&all, conllu(&sentences, &mut || "_".to_owned())).expect("written");
        let out = folder.path().join("acts.safetensors");
        let mut command = electrode();
        command.args(["extract", "--model", "models/tiny-gpt2-en", "--sites", SITE, "--corpus"]);
        let done = finish(command.arg(&all).arg("--out").arg(&out));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let bytes = fs::read(&out).expect("it was written");
        let tensors = SafeTensors::deserialize(&bytes).expect("it is safetensors");
        let tensor = tensors.tensor(SITE).expect("the site was asked for");
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let values: Vec<f32> = tensor.data().chunks(4).map(number).collect();
        let width = tensor.shape()[1];
        assert_eq!(tensor.shape()[0], sentences.iter().map(Vec::len).sum::<usize>());
        let column = |n: usize| -> Vec<f32> { values.chunks(width).map(|row| row[n]).collect() };
        let neuron = (0..width).max_by(|&a, &b| apart(&column(a)).total_cmp(&apart(&column(b))));
        let neuron = neuron.expect("there are neurons");
        let own = column(neuron);
        let (middle, first) = (median(&own), &sentences[..SENTENCES[0]]);
        let words: usize = first.iter().map(Vec::len).sum();
        let above = own[..words].iter().map(|&x| x > middle).collect();
        let train = values.chunks(width).take(words).map(<[f32]>::to_vec).collect();
        let plant = Self { folder, neuron, train, above };
        plant.write("", &sentences, &own, false);
        plant.write("flipped-", &sentences, &own, true);
        plant
    }

    /// The three files; the labels of the last turned round if asked.
    fn write(&self, prefix: &str, sentences: &[Vec<String>], values: &[f32], flipped: bool) {
        fs::create_dir(self.path(&format!("{prefix}corpus"))).expect("a new folder");
        let median = median(values);
        let (mut sentence, mut word) = (0, 0);
        for (part, name) in FILES.iter().enumerate() {
            let own = &sentences[sentence..sentence + SENTENCES[part]];
            let count: usize = own.iter().map(Vec::len).sum();
            let mut words = paired(&values[word..word + count], median).into_iter();
            let text = conllu(own, &mut || {
                let Word { above, pair } = words.next().expect("one for each word");
                let plant = if above != (flipped && part == 2) { "Yes" } else { "No" };
                let pair = pair.map_or(String::new(), |pair| format!("Pair=p{part}-{pair}|"));
                format!("{pair}Plant={plant}")
            });
            fs::write(self.path(&format!("{prefix}corpus/{name}")), text).expect("written");
            (sentence, word) = (sentence + SENTENCES[part], word + count);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The name of the neuron in tables.
    fn name(&self) -> String {
        format!("{SITE}.{}", self.neuron)
    }

    /// Runs `electrode probe` with these methods and changes.
    fn probe(&self, out: &str, methods: &[&str], more: &[&str]) -> Finished {
        let file = self.path("probe.toml");
        let text = format!(
            r#"
name = "a planted neuron"
out = "{root}/out"
[model]
path = "models/tiny-gpt2-en"
[corpus]
files = ["{root}/corpus/*.conllu"]
[[concepts]]
column = "feats.Plant"
[capture]
sites = ["{SITE}"]
first_position = "include"
[split]
dev_files = ["dev.conllu"]
test_files = ["test.conllu"]
[probes]
epochs = 2
[[penalties]]
l1 = 0.01
[[penalties]]
l1 = 0.1
[judge]
retain = [1]
code_length = true
"#,
            root = self.folder.path().display()
        );
        fs::write(file.as_path(), text).expect("written");
        let mut command = electrode();
        command.arg("probe").arg(file).arg(format!("out={}", self.path(out).display()));
        command.arg(format!("methods={methods:?}")).args(more);
        finish(&mut command)
    }
}

fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted[sorted.len() / 2]
}

/// How far the median splits the means, in standard deviations.
fn apart(values: &[f32]) -> f64 {
    let median = median(values);
    let mean = |keep: &dyn Fn(f32) -> bool| {
        let own: Vec<f64> = values.iter().filter(|&&x| keep(x)).map(|&x| f64::from(x)).collect();
        own.iter().sum::<f64>() / own.len().max(1) as f64
    };
    let centre = mean(&|_| true);
    let square = values.iter().map(|&x| (f64::from(x) - centre).powi(2)).sum::<f64>();
    (mean(&|x| x > median) - mean(&|x| x <= median)) / (square / values.len() as f64).sqrt()
}
