//! `electrode similarity` with the real binary. Oracles: a model beside itself; CKA over kernels of all
//! pairs of rows, regressions and directions by Gram-Schmidt over matrices that `electrode extract` wrote;
//! the run undisturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use electrode::artifact::similarity::{
    CLUSTERS, ClusterRow, PARTNERS, PartnerRow, REDUNDANCY, RedundancyRow, SIMILARITY,
    SimilarityRow,
};
use electrode::artifact::table::read_table;
use electrode::artifact::tables::{RANKINGS, read_rankings};
use electrode::methods::algebra::{Dense, eigen, singular};
use tempfile::TempDir;

use super::{assert_refused, electrode, finish, tiny};

/// Files that must be the same after a stop.
pub(super) const TABLES: [&str; 6] = [
    "similarity.parquet",
    "partners.parquet",
    "clusters.parquet",
    "redundancy.parquet",
    "shared.parquet",
    "rankings.parquet",
];

/// A tiny model and its corpus, named twice.
pub(super) struct Twice {
    folder: TempDir,
}

impl Twice {
    pub(super) fn new(sentences: usize) -> Self {
        let twice = Self { folder: TempDir::new().expect("a temporary folder") };
        tiny::write_model(&twice.path("model"));
        let (words, labels) = tiny::corpus(sentences);
        fs::write(twice.path("c.word"), words).expect("written");
        fs::write(twice.path("c.label"), labels).expect("written");
        let root = twice.folder.path().display();
        let text = format!(
            r#"
name = "itself"
out = "{root}/out"
[[models]]
name = "one"
path = "{root}/model"
[[models]]
name = "other"
path = "{root}/model"
[corpus]
format = "parallel"
files = ["{root}/c.word"]
label_files = ["{root}/c.label"]
block_bytes = 2048
[capture]
sites = ["layers.*.mlp_act", "layers.*.resid_post"]
[similarity]
rows = 512
[device]
name = "cpu"
commit_seconds = 0
"#
        );
        fs::write(twice.path("s.toml"), text).expect("written");
        twice
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn command(&self, out: &str, more: &[&str]) -> std::process::Command {
        let mut command = electrode();
        command.arg("similarity").arg(self.path("s.toml"));
        command.arg(format!("out={}", self.path(out).display())).args(more);
        command
    }
}

pub(super) fn bytes(folder: &Path) -> BTreeMap<&'static str, Vec<u8>> {
    TABLES.map(|name| (name, fs::read(folder.join(name)).expect(name))).into_iter().collect()
}

#[test]
fn a_model_is_like_itself_and_each_neuron_is_its_own_partner() {
    let twice = Twice::new(200);
    let done = finish(&mut twice.command("out", &["similarity.rbf=0.5"]));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("28 pairs of 8 sites over 512 rows"), "{}", done.stdout);
    let out = twice.path("out");
    let rows: Vec<SimilarityRow> = read_table(&out.join(SIMILARITY)).expect("a table");
    assert_eq!(rows.len(), 56, "both ways round");
    let near = |x: f64, name: &str| assert!((x - 1.0).abs() <= 1e-9, "{name}: {x}");
    let own = |row: &&SimilarityRow| row.site_a == row.site_b;
    for row in rows.iter().filter(own) {
        near(row.cka, "cka");
        near(row.cka_debiased.expect("enough rows"), "debiased");
        near(row.cka_rbf.expect("asked for"), "rbf");
        near(row.svcca.expect("enough rows"), "svcca");
        near(row.pwcca.expect("enough rows"), "pwcca");
    }
    let within = rows.iter().find(|row| row.model_a == row.model_b).expect("layers of one model");
    assert!(within.cka < 0.99 && within.linreg.is_none(), "{within:?}");
    assert!(within.cka_rbf.is_some_and(|cka| cka > 0.0 && cka < 0.99), "{within:?}");
    let partners: Vec<PartnerRow> = read_table(&out.join(PARTNERS)).expect("a table");
    assert_eq!(partners.len(), 2 * (2 * 32 + 2 * 16));
    for row in &partners {
        if let Some(partner) = row.partner {
            // Nothing writes to column 0 of this stream: it is the same after each layer.
            let signal = row.site.ends_with("resid_post") && row.neuron == 0;
            assert_eq!(partner, row.neuron);
            assert!(signal || row.partner_site == row.site, "{row:?}");
            near(row.r, "r");
            near(row.linreg.expect("enough rows"), "R");
        }
    }
    assert!(partners.iter().filter(|row| row.partner.is_none()).count() < 8, "few are constant");
    let methods: BTreeSet<(String, String)> = read_rankings(&out.join(RANKINGS))
        .expect("a table")
        .into_iter()
        .map(|row| (row.method, row.concept))
        .collect();
    assert_eq!(methods.len(), 6, "three methods for each of two models: {methods:?}");
    clusters_are_cut(&out);
    let page = fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(["Linear CKA", "RBF-CKA", "Redundancy"].iter().all(|part| page.contains(part)));
}

/// A neuron has one cluster at each distance; clusters join as it grows.
fn clusters_are_cut(out: &Path) {
    let redundancy: Vec<RedundancyRow> = read_table(&out.join(REDUNDANCY)).expect("a table");
    let clusters: Vec<ClusterRow> = read_table(&out.join(CLUSTERS)).expect("a table");
    assert_eq!(redundancy.len(), 8 * 3);
    assert_eq!(clusters.len(), 2 * (2 * 32 + 2 * 16) * 3);
    for row in &redundancy {
        let own = clusters.iter().filter(|own| {
            (&own.model, &own.site, own.threshold) == (&row.model, &row.site, row.threshold)
        });
        let found: BTreeSet<i32> = own.clone().map(|own| own.cluster).collect();
        assert_eq!(found.len() as i32, row.clusters);
        assert_eq!(own.count() as i32, row.neurons);
        let share = 1.0 - f64::from(row.clusters) / f64::from(row.neurons);
        assert!((row.redundancy - share).abs() < 1e-12);
        assert_eq!(row.cka_next.is_some(), row.layer == Some(0), "the last layer has no next");
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let twice = Twice::new(40);
    let out = twice.path("out");
    for (change, words) in [
        ("models=[]", &["no model is named", "[[models]]"][..]),
        ("capture.sites=['layers.9.mlp_act']", &["layers.9.mlp_act"][..]),
        ("similarity.rows=8", &["16"][..]),
        ("similarity.thresholds=[1.5]", &["thresholds"][..]),
        ("similarity.pair='same'", &["did you mean", "pairs"][..]),
    ] {
        assert_refused(&finish(&mut twice.command("out", &[change])), 2, words, &out);
    }
    let kept = ["similarity.rows=0", "similarity.rbf=0.5"];
    let words = ["similarity.rbf", "rows are not kept", "set similarity.rows"];
    assert_refused(&finish(&mut twice.command("out", &kept)), 2, &words, &out);
    // Kernels of 2^20 rows are more than any memory.
    let large = ["similarity.rows=1048576", "similarity.rbf=0.5"];
    let words = ["rows and moments take", "MiB", "lower similarity.rows"];
    assert_refused(&finish(&mut twice.command("out", &large)), 2, &words, &out);
    let text = fs::read_to_string(twice.path("s.toml")).expect("written").replace("other", "one");
    fs::write(twice.path("s.toml"), text).expect("written");
    let done = finish(&mut twice.command("out", &[]));
    assert_refused(&done, 2, &["two models are called 'one'", "name ="], &out);
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models").join(path);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// Corpus of both commands; its words are words.
const CORPUS: &str = "corpora/en_ewt/en_ewt-dev-half.conllu";

/// The first 40 sentences: more rows than the site has neurons, few enough for all pairs of rows.
fn some_sentences(folder: &Path) -> PathBuf {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(CORPUS));
    let text = text.expect("the corpus is part of the repository");
    let few: Vec<&str> = text.split("\n\n").take(40).collect();
    let path = folder.join("some.conllu");
    fs::write(&path, few.join("\n\n") + "\n\n").expect("written");
    path
}

/// Two seeds of one architecture, and a model with another tokenizer beside them.
#[test]
fn seeds_compare_as_their_extracted_matrices_do() {
    let (Some(seed2), Some(bert)) = (shared("tiny-gpt2-en-seed2"), shared("tiny-bert-multi"))
    else {
        return;
    };
    let folder = TempDir::new().expect("a temporary folder");
    let corpus = some_sentences(folder.path());
    let (one, other) = ("models/tiny-gpt2-en", seed2.display().to_string());
    let site = "layers.2.resid_post";
    let models = [one, other.as_str()].map(|path| matrix(folder.path(), path, &corpus, site));
    let out = folder.path().join("out");
    let text = format!(
        "name = \"seeds\"\nout = \"{}\"\n[[models]]\npath = \"{one}\"\n[[models]]\npath = \"{other}\"\n\
         [corpus]\nfiles = [\"{}\"]\n[capture]\nsites = [\"{site}\"]\nfirst_position = \"include\"\n\
         [similarity]\nrows = 100000\n[device]\nname = \"cpu\"\n",
        out.display(),
        corpus.display(),
    );
    let file = folder.path().join("s.toml");
    fs::write(&file, &text).expect("written");
    for rows in ["100000", "0"] {
        let out = folder.path().join(rows);
        let mut command = electrode();
        command.arg("similarity").arg(&file).arg(format!("similarity.rows={rows}"));
        let done = finish(command.arg(format!("out={}", out.display())));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let rows: Vec<SimilarityRow> = read_table(&out.join(SIMILARITY)).expect("a table");
        as_matrices(&rows[0], &models);
    }

    // Another tokenizer, and sites of its own: rows are words, so they still match.
    let third = text.replace("name = \"seeds\"", "name = \"three\"").replace("/out\"", "/three\"")
        + &format!(
            "[[models]]\npath = \"{}\"\nsites = [\"layers.1.resid_post\"]\n",
            bert.display()
        );
    fs::write(&file, third).expect("written");
    let done = finish(electrode().arg("similarity").arg(&file));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let rows: Vec<SimilarityRow> =
        read_table(&folder.path().join("three").join(SIMILARITY)).expect("a table");
    assert_eq!(rows.len(), 6);
    let by_token = finish(electrode().arg("similarity").arg(&file).arg("capture.pool='none'"));
    assert_refused(&by_token, 2, &["rows are tokens", "pool = \"last\""], Path::new("nowhere"));
}

/// A row of the table against the matrices of its two sites.
fn as_matrices(row: &SimilarityRow, [x, z]: &[Dense; 2]) {
    assert_eq!(usize::try_from(row.n).expect("rows"), x.rows());
    let near = |found: f64, want: f64, name: &str| {
        assert!((found - want).abs() <= 1e-5, "{name}: {found}, not {want}");
    };
    let (kx, kz) = (kernel(x), kernel(z));
    near(row.cka, along(&kx, &kz) / (along(&kx, &kx) * along(&kz, &kz)).sqrt(), "cka");
    let own = unbiased_hsic(x, x) * unbiased_hsic(z, z);
    let debiased = unbiased_hsic(x, z) / own.sqrt();
    near(row.cka_debiased.expect("enough rows"), debiased, "debiased");
    near(row.max_corr, best_partner(x, z), "max corr");
    near(row.linreg.expect("enough rows"), regressed(x, z), "linreg");
    near(row.svcca.expect("enough rows"), svcca(x, z), "svcca");
    assert!(row.cka > 0.3 && row.cka < 0.999, "seeds are neither strangers nor twins: {}", row.cka);
}

/// The words of a corpus at a site, centred in f64.
fn matrix(folder: &Path, model: &str, corpus: &Path, site: &str) -> Dense {
    let file = folder.join("x.safetensors");
    let mut command = electrode();
    command.args(["extract", "--model", model, "--sites", site]);
    command.arg("--corpus").arg(corpus).arg("--out").arg(&file);
    let done = finish(&mut command);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let bytes = fs::read(&file).expect("written");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("it is one");
    let view = tensors.tensor(site).expect("the site");
    let (rows, columns) = (view.shape()[0], view.shape()[1]);
    let values: Vec<f64> = view
        .data()
        .chunks_exact(4)
        .map(|four| f64::from(f32::from_le_bytes(four.try_into().expect("four"))))
        .collect();
    let raw = Dense::new(rows, columns, values);
    let mean: Vec<f64> =
        (0..columns).map(|j| (0..rows).map(|i| raw.at(i, j)).sum::<f64>() / rows as f64).collect();
    Dense::from_fn(rows, columns, |i, j| raw.at(i, j) - mean[j])
}

fn kernel(x: &Dense) -> Dense {
    x.product(&x.transposed())
}

fn along(a: &Dense, b: &Dense) -> f64 {
    a.values().iter().zip(b.values()).map(|(x, y)| x * y).sum()
}

/// Song et al. 2012, equation 5.
fn unbiased_hsic(x: &Dense, z: &Dense) -> f64 {
    let n = x.rows();
    let hollow = |x: &Dense| {
        let k = kernel(x);
        Dense::from_fn(n, n, |i, j| if i == j { 0.0 } else { k.at(i, j) })
    };
    let (k, l) = (hollow(x), hollow(z));
    let all = |m: &Dense| m.values().iter().sum::<f64>();
    let sums = |m: &Dense| m.apply(&vec![1.0; n]);
    let kl: f64 = sums(&k).iter().zip(sums(&l)).map(|(a, b)| a * b).sum();
    let rows = n as f64;
    (along(&k, &l) + all(&k) * all(&l) / ((rows - 1.0) * (rows - 2.0)) - 2.0 / (rows - 2.0) * kl)
        / (rows * (rows - 3.0))
}

fn column(x: &Dense, j: usize) -> Vec<f64> {
    (0..x.rows()).map(|i| x.at(i, j)).collect()
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn best_partner(x: &Dense, z: &Dense) -> f64 {
    let theirs: Vec<Vec<f64>> = (0..z.columns()).map(|j| column(z, j)).collect();
    let best = |j: usize| {
        let own = column(x, j);
        let r = |other: &Vec<f64>| {
            (inner(&own, other) / (inner(&own, &own) * inner(other, other)).sqrt()).abs()
        };
        theirs.iter().map(r).fold(0.0, f64::max)
    };
    (0..x.columns()).map(best).sum::<f64>() / x.columns() as f64
}

/// Orthonormal columns by Gram and Schmidt, twice for accuracy.
fn orthonormal(x: &Dense) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for j in 0..x.columns() {
        let mut own = column(x, j);
        for _ in 0..2 {
            for other in &basis {
                let part = inner(&own, other);
                own.iter_mut().zip(other).for_each(|(x, y)| *x -= part * y);
            }
        }
        let norm = inner(&own, &own).sqrt();
        own.iter_mut().for_each(|x| *x /= norm);
        basis.push(own);
    }
    basis
}

/// Mean multiple correlation of the neurons of x with all of z.
fn regressed(x: &Dense, z: &Dense) -> f64 {
    let basis = orthonormal(z);
    let one = |j: usize| {
        let own = column(x, j);
        let explained: f64 = basis.iter().map(|q| inner(q, &own).powi(2)).sum();
        (explained / inner(&own, &own)).sqrt()
    };
    (0..x.columns()).map(one).sum::<f64>() / x.columns() as f64
}

/// Directions of the standardised rows that hold 99 % of their variance, made orthonormal; the mean of
/// the singular values of their products.
fn svcca(x: &Dense, z: &Dense) -> f64 {
    let leading = |x: &Dense| {
        let scale: Vec<f64> =
            (0..x.columns()).map(|j| 1.0 / inner(&column(x, j), &column(x, j)).sqrt()).collect();
        let unit = Dense::from_fn(x.rows(), x.columns(), |i, j| x.at(i, j) * scale[j]);
        let found = eigen(&unit.transposed().product(&unit)).expect("finite");
        let all: f64 = found.values.iter().sum();
        let mut sum = 0.0;
        let kept = found.values.iter().position(|value| {
            sum += value;
            sum >= 0.99 * all
        });
        let kept = kept.expect("all of it is enough") + 1;
        let turned = unit.product(&found.vectors.transposed());
        orthonormal(&turned.block(0..x.rows(), 0..kept))
    };
    let (a, b) = (leading(x), leading(z));
    let products = Dense::from_fn(a.len(), b.len(), |i, j| inner(&a[i], &b[j]));
    let values = singular(&products).expect("finite").values;
    let few = a.len().min(b.len());
    values[..few].iter().sum::<f64>() / few as f64
}
