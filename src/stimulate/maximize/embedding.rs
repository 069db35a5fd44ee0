//! Free vectors in the place of token vectors: what the embedding module makes of them, and its
//! gradient. On the host, in f64: rows are few, and no device has the way back.
//!
//! A free vector stands for `scale * table[id]`: types, positions, the norm and the projection of
//! the embedding module are still to come, in the order of `Forward::embed`, and are applied here.
//! What comes out is written over the site `embeddings`.

use rayon::prelude::*;

use crate::error::Result;
use crate::model::{Model, NormKind, NormSpec, Param};

/// The embedding module of a model, after the look-up.
pub struct EmbeddingModule {
    /// Width E of a token vector.
    width: usize,
    /// Width D of the stream.
    out: usize,
    /// Row 0 of the token types, `[E]`.
    types: Option<Vec<f32>>,
    /// `[rows, E]`, or `[rows, D]` if they are added last.
    positions: Option<Vec<f32>>,
    positions_last: bool,
    norm: Option<Norm>,
    /// `[D, E]`, and its bias.
    project: Option<(Vec<f32>, Option<Vec<f32>>)>,
}

/// A norm on the host.
struct Norm {
    spec: NormSpec,
    factor: Vec<f64>,
    bias: Option<Vec<f32>>,
}

impl EmbeddingModule {
    /// Reads its weights.
    pub fn new(model: &Model) -> Result<Self> {
        let spec = &model.spec;
        let read = |param: Param| {
            let tensor = model.has(param).then(|| model.tensor(param)).transpose()?;
            Ok::<_, crate::error::Error>(tensor.map(|tensor| tensor.data))
        };
        let norm = spec.embedding.norm.map(|norm| Norm::new(norm, model)).transpose()?;
        let project = match spec.embedding.project {
            None => None,
            Some(project) => {
                let bias = if project.bias { read(Param::EmbeddingProjectBias)? } else { None };
                Some((model.tensor(Param::EmbeddingProject)?.data, bias))
            }
        };
        let width = spec.embedding.width;
        let mut types =
            if spec.embedding.token_types > 0 { read(Param::TokenTypes)? } else { None };
        if let Some(types) = &mut types {
            types.truncate(width);
        }
        Ok(Self {
            width,
            out: spec.width,
            types,
            positions: read(Param::Positions)?,
            positions_last: spec.embedding.project.is_some_and(|project| project.before_positions),
            norm,
            project,
        })
    }

    /// Width E of a free vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `[R, E]` free vectors to `[R, D]` of the stream; `rows` are the rows of the position table,
    /// none where the model has no such table.
    pub fn forward(&self, vectors: &[f32], rows: Option<&[u32]>) -> Vec<f32> {
        let one = |(r, vector): (usize, &[f32])| {
            let position = self.position(rows, r);
            let mut x = self.project(&self.normed(&self.summed(vector, position)));
            if let (Some(position), true) = (position, self.positions_last) {
                add(&mut x, position);
            }
            x.into_iter().map(narrow).collect::<Vec<f32>>()
        };
        vectors.par_chunks_exact(self.width).enumerate().flat_map_iter(one).collect()
    }

    /// The gradient `[R, E]` of free vectors from that `[R, D]` of the stream.
    pub fn backward(&self, vectors: &[f32], rows: Option<&[u32]>, g: &[f32]) -> Vec<f32> {
        let one = |(r, (vector, g)): (usize, (&[f32], &[f32]))| {
            let mut g = self.project_back(g);
            if let Some(norm) = &self.norm {
                g = norm.backward(&self.summed(vector, self.position(rows, r)), &g);
            }
            g.into_iter().map(narrow).collect::<Vec<f32>>()
        };
        let pairs = vectors.par_chunks_exact(self.width).zip(g.par_chunks_exact(self.out));
        pairs.enumerate().flat_map_iter(one).collect()
    }

    fn position(&self, rows: Option<&[u32]>, r: usize) -> Option<&[f32]> {
        let table = self.positions.as_ref()?;
        let width = if self.positions_last { self.out } else { self.width };
        rows.map(|rows| &table[rows[r] as usize * width..][..width])
    }

    fn summed(&self, vector: &[f32], position: Option<&[f32]>) -> Vec<f64> {
        let mut sum: Vec<f64> = vector.iter().copied().map(f64::from).collect();
        let position = position.filter(|_| !self.positions_last);
        for other in [self.types.as_deref(), position].into_iter().flatten() {
            add(&mut sum, other);
        }
        sum
    }

    fn normed(&self, x: &[f64]) -> Vec<f64> {
        self.norm.as_ref().map_or_else(|| x.to_vec(), |norm| norm.forward(x))
    }

    fn project(&self, x: &[f64]) -> Vec<f64> {
        let Some((weight, bias)) = &self.project else { return x.to_vec() };
        let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
        let mut out: Vec<f64> = weight.chunks_exact(self.width).map(dot).collect();
        if let Some(bias) = bias {
            add(&mut out, bias);
        }
        out
    }

    fn project_back(&self, g: &[f32]) -> Vec<f64> {
        let Some((weight, _)) = &self.project else {
            return g.iter().copied().map(f64::from).collect();
        };
        let mut out = vec![0.0; self.width];
        for (row, g) in weight.chunks_exact(self.width).zip(g) {
            out.iter_mut().zip(row).for_each(|(o, w)| *o += f64::from(*w) * f64::from(*g));
        }
        out
    }
}

impl Norm {
    fn new(spec: NormSpec, model: &Model) -> Result<Self> {
        let weight = model.tensor(Param::EmbeddingNormWeight)?.data;
        let one = if spec.plus_one { 1.0 } else { 0.0 };
        let has_bias = spec.kind == NormKind::Layer && model.has(Param::EmbeddingNormBias);
        let bias = has_bias.then(|| model.tensor(Param::EmbeddingNormBias)).transpose()?;
        let factor = weight.iter().map(|w| f64::from(*w) + one).collect();
        Ok(Self { spec, factor, bias: bias.map(|bias| bias.data) })
    }

    /// x without its mean (of layer norms) and divided by its deviation; and that deviation.
    fn standard(&self, x: &[f64]) -> (Vec<f64>, f64) {
        let n = x.len() as f64;
        let mean = match self.spec.kind {
            NormKind::Layer => x.iter().sum::<f64>() / n,
            NormKind::Rms => 0.0,
        };
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let deviation = (variance + f64::from(self.spec.eps)).sqrt();
        (x.iter().map(|x| (x - mean) / deviation).collect(), deviation)
    }

    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let (standard, _) = self.standard(x);
        let mut out: Vec<f64> = standard.iter().zip(&self.factor).map(|(x, w)| x * w).collect();
        if let Some(bias) = &self.bias {
            add(&mut out, bias);
        }
        out
    }

    /// dx = (h - mean(h) - s mean(h s)) / deviation with h = g w and s the standardised x; root mean
    /// square norms have no mean to take out.
    fn backward(&self, x: &[f64], g: &[f64]) -> Vec<f64> {
        let (standard, deviation) = self.standard(x);
        let n = x.len() as f64;
        let h: Vec<f64> = g.iter().zip(&self.factor).map(|(g, w)| g * w).collect();
        let mean = match self.spec.kind {
            NormKind::Layer => h.iter().sum::<f64>() / n,
            NormKind::Rms => 0.0,
        };
        let along = h.iter().zip(&standard).map(|(h, s)| h * s).sum::<f64>() / n;
        h.iter().zip(&standard).map(|(h, s)| (h - mean - s * along) / deviation).collect()
    }
}

fn add(x: &mut [f64], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += f64::from(*y));
}

#[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
fn narrow(x: f64) -> f32 {
    x as f32
}
