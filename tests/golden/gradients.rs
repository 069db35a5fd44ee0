//! Gradients at sites, against PyTorch's autograd.
//! Oracle: `grad.*` of each folder's `expected.safetensors`: the gradient of the plain sum of all
//! losses, and the losses themselves. Bound: as for the forward pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use electrode::device::backward::{Differentiable, GradientView, GradientVisitor, GradientWork};
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{ForwardInput, Limits, SiteWork};
use electrode::device::gradient_ops::{GradientOps, Metric};
use electrode::device::ops::Ops;
use electrode::device::score::Scoring;
use electrode::device::site_view::Nobody;
use electrode::error::Result;
use electrode::id::{Site, SiteKind};
use electrode::model::Model;
use safetensors::SafeTensors;

use super::fixture::{Compared, check_all};
use super::forward::{all, dozen, judge};
use crate::run::{electrode, finish};

/// Keeps every gradient.
#[derive(Default)]
pub(crate) struct Keeper(pub(crate) BTreeMap<Site, Vec<f32>>);

impl<O: Ops> GradientVisitor<O> for Keeper {
    fn visit(&mut self, ops: &O, view: &GradientView<'_, O>) -> Result<()> {
        let mut values = Vec::new();
        ops.read(view.gradient, &mut values)?;
        self.0.insert(view.site, values);
        Ok(())
    }
}

/// The real tokens of a padded batch, packed.
pub(crate) struct Packed {
    pub(crate) tokens: Vec<u32>,
    pub(crate) starts: Vec<u32>,
    pub(crate) types: Option<Vec<u32>>,
    positions: Option<Vec<u32>>,
    /// Where each token stands on the grid.
    cells: Vec<usize>,
    length: usize,
    rows: usize,
}

pub(crate) fn integers(file: &SafeTensors<'_>, name: &str) -> Option<Vec<i64>> {
    let view = file.tensor(name).ok()?;
    let number = |b: &[u8]| i64::from_le_bytes(b.try_into().expect("eight bytes"));
    Some(view.data().chunks_exact(8).map(number).collect())
}

pub(crate) fn floats(file: &SafeTensors<'_>, name: &str) -> Option<Vec<f32>> {
    let view = file.tensor(name).ok()?;
    let number = |b: &[u8]| f32::from_le_bytes(b.try_into().expect("four bytes"));
    Some(view.data().chunks_exact(4).map(number).collect())
}

impl Packed {
    pub(crate) fn of(file: &SafeTensors<'_>) -> Self {
        let shape = file.tensor("input_ids").expect("ids").shape().to_vec();
        let mask = integers(file, "attention_mask").expect("a mask");
        let cells: Vec<usize> = (0..mask.len()).filter(|&cell| mask[cell] == 1).collect();
        let pick = |name: &str| {
            let all = integers(file, name)?;
            Some(cells.iter().map(|&cell| u32::try_from(all[cell]).expect("small")).collect())
        };
        let mut starts = vec![0];
        for row in 0..shape[0] {
            let here = cells.iter().filter(|&&cell| cell / shape[1] == row).count();
            starts.push(starts[row] + u32::try_from(here).expect("short"));
        }
        Self {
            tokens: pick("input_ids").expect("ids"),
            types: pick("token_type_ids"),
            positions: pick("position_ids"),
            starts,
            length: shape[1],
            rows: shape[0],
            cells,
        }
    }

    pub(crate) fn input(&self) -> ForwardInput<'_> {
        ForwardInput {
            tokens: &self.tokens,
            starts: &self.starts,
            token_types: self.types.as_deref(),
            positions: self.positions.as_deref(),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        let positions = self.positions.iter().flatten().max().map_or(0, |&last| last as usize + 1);
        Limits { tokens: self.tokens.len(), sequence: self.length.max(positions) }
    }

    /// Packed rows on the padded grid.
    fn spread(&self, values: &[f32]) -> Vec<f64> {
        let cols = values.len() / self.cells.len();
        let mut grid = vec![0.0; self.rows * self.length * cols];
        for (cell, row) in self.cells.iter().zip(values.chunks_exact(cols)) {
            for (to, from) in grid[cell * cols..].iter_mut().zip(row) {
                *to = f64::from(*from);
            }
        }
        grid
    }

    /// Rows to score and their targets, by the objective of the fixture.
    pub(crate) fn scored(&self, objective: &str, file: &SafeTensors<'_>) -> (Vec<u32>, Vec<u32>) {
        let labels = integers(file, "labels");
        let number = |n: usize| u32::try_from(n).expect("small");
        if objective == "seq_ce" {
            let labels = labels.expect("labels");
            return (0..)
                .zip(labels)
                .map(|(row, id)| (row, u32::try_from(id).expect("id")))
                .unzip();
        }
        let last: BTreeSet<usize> = self.starts.iter().map(|&end| end as usize).collect();
        let target = |token: usize| match objective {
            "causal_nll" => (!last.contains(&(token + 1))).then(|| self.tokens[token + 1]),
            _ => u32::try_from(labels.as_ref().expect("labels")[self.cells[token]]).ok(),
        };
        (0..self.tokens.len()).filter_map(|token| Some((number(token), target(token)?))).unzip()
    }
}

/// The losses of one model folder, and the gradients of their sum at each site of the fixture.
pub(super) fn gradients<O: GradientOps>(ops: O, folder: &Path) -> Vec<Compared> {
    let config = &folder.join("config.json");
    let model = Model::open_with_config(folder, config).expect("opens");
    let bytes = std::fs::read(folder.join("expected.safetensors")).expect("fixture");
    let file = SafeTensors::deserialize(&bytes).expect("fixture");
    let meta = std::fs::read_to_string(folder.join("meta.json")).expect("meta");
    let meta: serde_json::Value = serde_json::from_str(&meta).expect("meta");
    let objective = meta["objective"].as_str().expect("an objective");
    let packed = Packed::of(&file);
    let wanted: BTreeSet<Site> = file
        .names()
        .into_iter()
        .filter_map(|name| name.strip_prefix("grad.")?.parse().ok())
        .collect();
    assert!(wanted.len() >= 3, "{} gradients", wanted.len());
    let (nothing, edits) = (BTreeSet::new(), BTreeMap::new());
    let scored = objective != "probe";
    let mut run =
        Differentiable::new(ops, &model, packed.limits(), (&nothing, scored)).expect("fits");
    let mut sites = SiteWork { wanted: &nothing, edits: &edits, visitor: &mut Nobody };
    run.run(packed.input(), &mut sites).expect("runs");
    let mut seeds = BTreeMap::new();
    let mut compared = Vec::new();
    if scored {
        let (rows, targets) = packed.scored(objective, &file);
        let weights = vec![1.0; rows.len()];
        let scoring =
            Scoring { rows: &rows, targets: &targets, foils: None, reference: None, keep: None };
        let scores =
            run.score(&packed.starts, scoring, Some((Metric::Loss, &weights))).expect("scores");
        let mask = integers(&file, "loss_mask").unwrap_or_else(|| vec![1; rows.len()]);
        let want = floats(&file, "loss").expect("losses");
        let want = want.iter().zip(&mask).filter(|(_, mask)| **mask != 0);
        compared.push(Compared {
            name: "loss".into(),
            want: want.map(|(loss, _)| f64::from(*loss)).collect(),
            got: scores.iter().map(|score| f64::from(-score.log_prob)).collect(),
        });
    } else {
        let probe = floats(&file, "probe").expect("a probe");
        let mut seed = run.ops().tensor(packed.tokens.len(), probe.len()).expect("fits");
        run.ops().set_rows(&mut seed, packed.tokens.len());
        run.ops().write(&mut seed, &probe.repeat(packed.tokens.len())).expect("writes");
        seeds.insert(Site::global(SiteKind::FinalNorm), seed);
    }
    let mut keeper = Keeper::default();
    let mut work =
        GradientWork { wanted: &wanted, edits: &edits, seeds: &seeds, visitor: &mut keeper };
    run.back(packed.input(), &mut work).expect("goes back");
    assert_eq!(keeper.0.len(), wanted.len());
    for (site, got) in &keeper.0 {
        let name = format!("grad.{site}");
        let want = floats(&file, &name).expect("there").iter().map(|x| f64::from(*x)).collect();
        compared.push(Compared { name, want, got: packed.spread(got) });
    }
    for tensor in &compared {
        assert_eq!(tensor.got.len(), tensor.want.len(), "{}", tensor.name);
    }
    compared
}

pub(super) fn check<O: GradientOps + Clone>(ops: &O, folder: &Path) {
    for tensor in gradients(ops.clone(), folder) {
        judge(&folder.display().to_string(), &tensor);
    }
}

/// The gradients that the command writes: of the sum of the `loss` that it writes beside them.
#[test]
fn the_command_writes_gradients_of_the_loss() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    check_all(&dozen(), |folder| {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let out = scratch.path().join(format!("{name}.safetensors"));
        let expected = folder.join("expected.safetensors");
        let mut command = electrode();
        command.arg("extract").arg("--model").arg(folder).arg("--ids").arg(&expected);
        let done = finish(command.args(["--sites", "grad.*,loss", "--out"]).arg(&out));
        let meta = std::fs::read_to_string(folder.join("meta.json")).expect("meta");
        let meta: serde_json::Value = serde_json::from_str(&meta).expect("meta");
        if meta["objective"] == "probe" {
            assert_eq!(done.code, Some(2), "{name}: {}", done.stderr);
            return;
        }
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
        let (ours, theirs) = (std::fs::read(&out), std::fs::read(&expected));
        let (ours, theirs) = (ours.expect("written"), theirs.expect("fixture"));
        let ours = SafeTensors::deserialize(&ours).expect("it is a safetensors file");
        let theirs = SafeTensors::deserialize(&theirs).expect("fixture");
        let wide = |file: &SafeTensors<'_>, name: &str| {
            floats(file, name).expect(name).into_iter().map(f64::from).collect()
        };
        let mut compared = 0;
        for tensor in theirs.names().into_iter().filter(|tensor| tensor.starts_with("grad.")) {
            assert_eq!(
                ours.tensor(tensor).expect(tensor).shape(),
                theirs.tensor(tensor).expect(tensor).shape()
            );
            let (want, got) = (wide(&theirs, tensor), wide(&ours, tensor));
            judge(&name, &Compared { name: tensor.to_owned(), want, got });
            compared += 1;
        }
        assert!(compared >= 3, "{name}: {compared}");
    });
}

#[test]
fn embedded_gradients_agree_with_autograd() {
    check_all(&dozen(), |folder| check(&CpuDevice::F32, folder));
}

#[test]
fn all_gradients_agree_with_autograd() {
    check_all(&all(), |folder| check(&CpuDevice::F32, folder));
}
