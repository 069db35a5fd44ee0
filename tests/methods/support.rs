//! Helpers of the method tests: random numbers, sources, and scores put back in neuron order.

use std::path::{Path, PathBuf};

use electrode::methods::matrix::{RowLabels, Values};
use electrode::methods::{GroupRanking, Matrix, MatrixSource, MethodCall, Ranking, Source, rank};

/// SplitMix64: small, seeded, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// Standard normal (Box & Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

pub(crate) fn call(text: &str) -> MethodCall {
    MethodCall::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn run(text: &str, source: &dyn Source) -> Ranking {
    rank(&call(text), source).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Classes 0.. named by number; `None` is unlabelled.
pub(crate) fn labels(of_row: &[Option<u32>]) -> RowLabels {
    let classes = of_row.iter().flatten().max().map_or(0, |&last| last + 1);
    RowLabels {
        name: "label".to_owned(),
        classes: (0..classes).map(|class| (class, class.to_string())).collect(),
        of_row: of_row.to_vec(),
        min_count: 1,
    }
}

pub(crate) fn source(rows: usize, values: Values, of_row: &[Option<u32>]) -> MatrixSource {
    let len = match &values {
        Values::F32(values) => values.len(),
        Values::F64(values) => values.len(),
    };
    let matrix = Matrix::new(rows, len / rows, values);
    MatrixSource::new(matrix, &labels(of_row), Path::new("test.safetensors"))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The list of a ranking by neuron instead of by rank.
pub(crate) fn by_neuron(group: &GroupRanking, list: &[f64]) -> Vec<f64> {
    let mut out = vec![f64::NAN; list.len()];
    for (&neuron, &x) in group.order.iter().zip(list) {
        out[neuron as usize] = x;
    }
    out
}

/// Each class's statistic by neuron.
pub(crate) fn values(ranking: &Ranking) -> Vec<Vec<f64>> {
    ranking.groups.iter().map(|group| by_neuron(group, &group.values)).collect()
}

pub(crate) fn largest_error(ours: &[f64], want: &[f64]) -> f64 {
    assert_eq!(ours.len(), want.len());
    // NaN must not be lost: f64::max would drop it.
    ours.iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, error| if error <= worst { worst } else { error })
}

/// As the fixture defines it: relative to max(|expected|, 1e-3 * largest of the tensor).
pub(crate) fn relative_error(ours: &[f64], want: &[f64]) -> f64 {
    assert_eq!(ours.len(), want.len());
    let floor = 1e-3 * want.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    ours.iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs() / b.abs().max(floor).max(f64::MIN_POSITIVE))
        .fold(0.0, |worst, error| if error <= worst { worst } else { error })
}

/// Reference scores along our ranking must not increase by more than `tolerance`, but for
/// constant neurons, which must stand last.
pub(crate) fn follows(
    (group, source): (&GroupRanking, &dyn Source),
    want: &[f64],
    tolerance: f64,
) -> bool {
    let mut constant = Vec::new();
    source.visit(0..source.neurons(), false, &mut |_, evidence| constant.push(evidence.constant()));
    let constants = constant.iter().filter(|constant| **constant).count();
    let (ranked, last) = group.order.split_at(group.order.len() - constants);
    let mut lowest = f64::INFINITY;
    group.order.len() == want.len()
        && last.iter().all(|&neuron| constant[neuron as usize])
        && last.is_sorted()
        && ranked.iter().all(|&neuron| {
            let score = want[neuron as usize];
            let fits = score <= lowest + tolerance;
            lowest = lowest.min(score);
            fits
        })
}

/// The folder of large fixtures, if it stands beside the repository.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/methods"));
    if folder.is_dir() {
        return Some(folder.to_path_buf());
    }
    eprintln!("skipped: {} is not there", folder.display());
    None
}
