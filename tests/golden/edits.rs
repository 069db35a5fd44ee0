//! Edits that must leave the logits as they are, bit for bit (O-invar), and edits that are refused.
//! Oracle: the run without edits.

use std::collections::{BTreeMap, BTreeSet};

use electrode::capture::collect::Collector;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::{Forward, SiteWork};
use electrode::device::ops::{Edit, Ops, Write};
use electrode::error::Result;
use electrode::id::{Site, SiteKind};
use electrode::model::Model;
use safetensors::SafeTensors;

use super::fixture::embedded;
use super::gradients::Packed;
use crate::cuda::on_both;

type Edits = BTreeMap<Site, Vec<Edit>>;

/// A fixture on a device.
struct Case<O: Ops> {
    forward: Forward<O>,
    packed: Packed,
    /// What can be edited.
    sites: BTreeSet<Site>,
}

impl<O: Ops> Case<O> {
    fn open(ops: O, name: &str) -> Self {
        let folder = embedded().join(name);
        let model = Model::open_with_config(&folder, &folder.join("config.json")).expect("opens");
        let bytes = std::fs::read(folder.join("expected.safetensors")).expect("fixture");
        let packed = Packed::of(&SafeTensors::deserialize(&bytes).expect("fixture"));
        let mut sites: BTreeSet<Site> = model.spec.sites().into_iter().collect();
        sites.retain(|site| site.kind != SiteKind::AttnProbs);
        let forward = Forward::new(ops, &model, packed.limits(), &sites).expect("fits");
        Self { forward, packed, sites }
    }

    fn run(&mut self, wanted: &BTreeSet<Site>, edits: &Edits) -> Result<BTreeMap<Site, Vec<f32>>> {
        let mut collector = Collector::default();
        let mut work = SiteWork { wanted, edits, visitor: &mut collector };
        self.forward.run(self.packed.input(), &mut work)?;
        Ok(collector.sites)
    }

    fn logits(&mut self, edits: &Edits) -> Result<Vec<u32>> {
        let logits = Site::global(SiteKind::Logits);
        let values = self.run(&[logits].into(), edits)?.remove(&logits).expect("it was wanted");
        Ok(values.iter().map(|x| x.to_bits()).collect())
    }

    fn width(&self, site: Site) -> usize {
        self.forward.spec().site_width(site)
    }
}

/// Edits of everything that change nothing.
fn neutral(columns: usize) -> Vec<Write> {
    vec![
        Write::Scale(1.0),
        Write::Add(vec![0.0]),
        Write::Blend { gates: vec![1.0], towards: vec![3.0] },
        Write::Blend { gates: vec![1.0; columns], towards: vec![2.0; columns] },
        Write::KeepTop(columns),
        Write::Clamp { low: vec![-1e30], high: vec![f32::INFINITY] },
    ]
}

const FIXTURES: [&str; 6] =
    ["gpt2-tied", "bert-tokcls", "bert-seqcls", "gemma2-softcap", "phi-qknorm-gqa", "electra-gen"];

fn nothing_changes<O: Ops + Clone>(ops: &O) {
    for name in FIXTURES {
        let mut case = Case::open(ops.clone(), name);
        let plain = case.logits(&Edits::new()).expect("runs");
        let everything = |write: Write| Edit { columns: None, tokens: None, write };
        let of = |site: Site| (site, neutral(case.width(site)).into_iter().map(everything));
        let edits: Edits = case
            .sites
            .iter()
            .map(|&site| of(site))
            .map(|(s, edits)| (s, edits.collect()))
            .collect();
        assert!(case.logits(&edits).expect("runs") == plain, "{name}");
        // Every site patched with its own values, alone and all together.
        let sites = case.sites.clone();
        let own = case.run(&sites, &Edits::new()).expect("runs");
        let patch = |(site, values): (&Site, &Vec<f32>)| {
            (*site, vec![everything(Write::Rows(values.clone()))])
        };
        for one in &own {
            let edits: Edits = [patch(one)].into();
            assert!(case.logits(&edits).expect("runs") == plain, "{name}: {}", one.0);
        }
        let edits: Edits = own.iter().map(patch).collect();
        assert!(case.logits(&edits).expect("runs") == plain, "{name}");
    }
}

#[test]
fn neutral_edits_leave_the_logits_as_they_are() {
    nothing_changes(&CpuDevice::F32);
}

#[test]
fn neutral_edits_leave_the_logits_as_they_are_on_a_gpu() {
    on_both(|gpu, _| nothing_changes(gpu));
}

fn misfits_are_refused<O: Ops>(ops: O) {
    let mut case = Case::open(ops, "bert-seqcls");
    let act = Site::of_layer(0, SiteKind::MlpAct);
    let (width, tokens) = (case.width(act) as u32, case.packed.tokens.len() as u32);
    let pooled = Site::global(SiteKind::Pooled);
    let rows = case.packed.starts.len() as u32 - 1;
    let set = || Write::Set(vec![0.0]);
    let three = Some(vec![1, 2, 3]);
    let crossed = Write::Clamp { low: vec![1.0], high: vec![2.0, 0.5, 2.0] };
    let half = Write::Blend { gates: vec![0.5, 0.5], towards: vec![0.0] };
    for (site, columns, token, write, word) in [
        (act, Some(vec![width]), None, set(), "column"),
        (act, None, Some(tokens), set(), "token"),
        (pooled, None, Some(rows), set(), "token"),
        (act, three.clone(), None, Write::Set(vec![1.0, 2.0]), "2 values for 3 columns"),
        (act, three.clone(), Some(0), Write::Rows(vec![1.0]), "1 values for 3 columns of 1"),
        (act, three.clone(), None, Write::Project(vec![1.0]), "1 values for 3 columns"),
        (act, three.clone(), None, half, "2 values for 3 columns"),
        (act, three.clone(), None, crossed, "crossed"),
        (act, Some(vec![4, 2, 4]), None, Write::KeepTop(1), "column 4 twice"),
        (Site::of_layer(9, SiteKind::MlpAct), None, None, set(), "no such site"),
        (Site::of_layer(0, SiteKind::AttnProbs), None, None, set(), "no such site"),
    ] {
        let edit = Edit { columns, tokens: token.map(|token| vec![token]), write };
        let error = case.logits(&[(site, vec![edit])].into()).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
        assert!(error.contains(&format!("edit of {site}")), "{error}");
    }
    // The device is whole after that.
    assert!(case.logits(&Edits::new()).is_ok());
}

#[test]
fn edits_that_do_not_fit_are_refused_before_they_reach_the_device() {
    misfits_are_refused(CpuDevice::F32);
    on_both(|gpu, _| misfits_are_refused(gpu.clone()));
}
