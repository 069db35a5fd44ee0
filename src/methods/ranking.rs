//! The result of a method: neurons in decreasing importance, by class and overall, with what a
//! reader needs to tell a neuron from noise; and explanations, for methods that rank nothing.

use super::significance::benjamini_hochberg;

/// What one method says of one neuron and class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Importance: larger is better.
    pub score: f64,
    /// +1 the neuron fires more with the concept, -1 less, 0 where the method has no direction.
    pub sign: i8,
    /// The statistic itself, signed where it has a sign.
    pub value: f64,
    /// Probability of a score this far out if the neuron knew nothing of the concept.
    pub p: Option<f64>,
}

impl Score {
    /// A score without direction.
    pub fn unsigned(value: f64, p: Option<f64>) -> Self {
        Self { score: value, sign: 0, value, p }
    }

    /// Importance by magnitude, sign apart.
    pub fn signed(value: f64, p: Option<f64>) -> Self {
        Self { score: value.abs(), sign: sign(value), value, p }
    }
}

/// +1, -1 or 0.
pub fn sign(x: f64) -> i8 {
    i8::from(x > 0.0) - i8::from(x < 0.0)
}

/// Everything one method says of one neuron.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// By class, in the order of the design; empty for methods that rank for all classes at once.
    pub groups: Vec<Score>,
    /// For the label column as a whole.
    pub overall: Option<Score>,
}

/// A ranking for one class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupRanking {
    /// The class's id in its label column.
    pub id: u32,
    /// The class.
    pub name: String,
    /// Rows that carry it.
    pub n: u64,
    /// Neurons, best first; the lists below follow this order.
    pub order: Vec<u32>,
    /// Non-increasing, but for constant neurons, which stand last whatever they score.
    pub scores: Vec<f64>,
    /// See [`Score::sign`].
    pub signs: Vec<i8>,
    /// See [`Score::value`].
    pub values: Vec<f64>,
    /// See [`Score::p`]; empty where the method has none.
    pub p: Vec<f64>,
    /// Benjamini-Hochberg over all neurons of this ranking; empty where `p` is.
    pub q: Vec<f64>,
    /// The neurons of the set, best first, for methods that choose sets (`lape`).
    pub selected: Option<Vec<u32>>,
}

impl GroupRanking {
    /// Sorts: larger score first, equal scores by neuron; constant neurons last, by neuron.
    pub fn from_scores(scores: &[Score], constant: &[bool]) -> Self {
        let mut order: Vec<u32> =
            (0..u32::try_from(scores.len()).expect("neurons are counted in u32")).collect();
        let key = |&i: &u32| match constant[i as usize] {
            true => (true, 0.0),
            // -0 and 0 are one score.
            false => (false, scores[i as usize].score + 0.0),
        };
        order.sort_by(|a, b| {
            let ((a_last, a_score), (b_last, b_score)) = (key(a), key(b));
            a_last.cmp(&b_last).then(b_score.total_cmp(&a_score)).then(a.cmp(b))
        });
        let sorted = || order.iter().map(|&i| &scores[i as usize]);
        let p: Vec<f64> = sorted().filter_map(|score| score.p).collect();
        let p = if p.len() == scores.len() { p } else { Vec::new() };
        Self {
            scores: sorted().map(|score| score.score).collect(),
            signs: sorted().map(|score| score.sign).collect(),
            values: sorted().map(|score| score.value).collect(),
            q: benjamini_hochberg(&p),
            p,
            order,
            ..Self::default()
        }
    }
}

/// What a method found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// The method with its settings, as written.
    pub method: String,
    /// The label column.
    pub label: String,
    /// By class.
    pub groups: Vec<GroupRanking>,
    /// For the label column as a whole.
    pub overall: Option<GroupRanking>,
    /// Labelled rows.
    pub n: u64,
    /// Dropped classes, approximations, neurons that the method could not judge.
    pub notes: Vec<String>,
    /// What methods without a ranking return.
    pub explanation: Explanation,
}

/// See [`Ranking::explanation`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Explanation {
    /// The method ranks.
    #[default]
    None,
    /// `topctx`, one per neuron.
    Contexts(Vec<Contexts>),
    /// `topword`, one list per neuron.
    Words(Vec<Vec<WordScore>>),
    /// `viz`, one per neuron.
    Scales(Vec<Scale>),
}

/// The rows where a neuron is most active.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contexts {
    /// The neuron.
    pub neuron: u32,
    /// Rows, best first: numbers of a matrix's rows, or the integer inside a `RowId`.
    pub rows: Vec<u64>,
    /// What they were chosen by: x, -x, |x| or z.
    pub values: Vec<f64>,
}

/// A word type that moves a neuron.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WordScore {
    /// Class of the label column.
    pub class: u32,
    /// Mean |z| of its occurrences, divided by the largest such mean of the neuron.
    pub score: f64,
    /// Mean z of its occurrences.
    pub signed: f64,
    /// Occurrences that were seen.
    pub n: u64,
}

/// Colours: clip((x - centre) / scale, -1, 1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scale {
    /// 0, or the neuron's median.
    pub centre: f64,
    /// A high percentile of |x - centre| over the corpus; 0 for constant neurons, which stay blank.
    pub scale: f64,
}
