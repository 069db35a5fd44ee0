//! Editing and erasing what neurons say, undoing it, and taking a direction out. Oracles: the
//! formulas in f64 on the tensors of the model; the bytes of the original; the stream itself.

use std::collections::BTreeSet;
use std::path::Path;

use electrode::artifact::effects::EffectRow;
use electrode::artifact::ranked::RankedRow;
use electrode::device::cuda::Element;
use electrode::model::{LayerParam, Model, Param};
use electrode::rewrite::choose::Wanted;
use electrode::rewrite::direction::{ablate, read_direction};
use electrode::rewrite::knowledge::{Fact, edit, erase};
use electrode::rewrite::neurons::Neurons;
use electrode::rewrite::selected::{of_group, read_list};
use electrode::rewrite::undo::Undo;

use super::neurons::effect;
use super::{
    Made, changed, differ, fixtures, floats, golden, make, open, raw, rounding, run, run_on,
};
use crate::cuda::device;

fn two_layers() -> Neurons {
    Neurons::from([(0, BTreeSet::from([2, 5])), (1, BTreeSet::from([0, 7, 11]))])
}

/// Column `n` of a layer's down projection.
fn column(model: &Model, layer: usize, n: usize) -> Vec<f64> {
    let down = model.tensor(Param::Layer(layer, LayerParam::Down)).expect("there");
    down.data.iter().skip(n).step_by(model.spec.mlp.width).map(|&x| f64::from(x)).collect()
}

fn embedding(model: &Model, token: usize) -> Vec<f64> {
    let table = model.tensor(Param::Tokens).expect("there");
    let width = model.spec.embedding.width;
    table.data[token * width..][..width].iter().map(|&x| f64::from(x)).collect()
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn edited_columns_are_those_of_the_formula() {
    for fixture in fixtures() {
        let name = fixture.display().to_string();
        let model = open(&fixture);
        let mut neurons = two_layers();
        neurons.retain(|layer, _| *layer < model.spec.layers);
        for normalise in [false, true] {
            let fact = Fact { old: 3, new: 9, lambdas: (1.0, 8.0), normalise };
            let edited = edit(&model, &neurons, &fact);
            if model.spec.embedding.width != model.spec.width {
                let error = edited.err().expect("they cannot be added").to_string();
                assert!(error.contains("cannot be added"), "{error}");
                continue;
            }
            let made = make(edited.expect("edits").0);
            let new = open(&made.folder);
            let (old_e, new_e) = (embedding(&model, 3), embedding(&model, 9));
            let bound = rounding(&fixture).max(1e-7) * 2.0;
            for (&layer, set) in &neurons {
                for n in 0..model.spec.mlp.width {
                    let v = column(&model, layer, n);
                    let unit = |e: &[f64]| if normalise { norm(&v) / norm(e) } else { 1.0 };
                    let (a, b) = match set.contains(&n) {
                        true => (unit(&old_e), 8.0 * unit(&new_e)),
                        false => (0.0, 0.0),
                    };
                    for (i, got) in column(&new, layer, n).into_iter().enumerate() {
                        let want = v[i] - a * old_e[i] + b * new_e[i];
                        let size = v[i].abs() + (a * old_e[i]).abs() + (b * new_e[i]).abs();
                        assert!((got - want).abs() <= bound * size, "{name}: {got} {want}");
                    }
                }
            }
            let changes = changed(&raw(&fixture), &raw(&made.folder));
            assert_eq!(changes.len(), neurons.len(), "{name}: {changes:?}");
        }
    }
}

#[test]
fn what_is_undone_is_as_it_was_bit_for_bit() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for name in ["gpt2-tied", "llama-bias-bf16", "bert-tokcls"] {
        let fixture = golden(name);
        let model = open(&fixture);
        let fact = Fact { old: 3, new: 9, lambdas: (1.0, 8.0), normalise: false };
        let edits = [edit(&model, &two_layers(), &fact), erase(&model, &two_layers())];
        for (rewrite, undo) in edits.into_iter().map(|edited| edited.expect("edits")) {
            let made = make(rewrite);
            let file = home.path().join("undo.safetensors");
            undo.write(&file).expect("written");
            let read = Undo::read(&file).expect("readable");
            assert_eq!(read, undo);
            assert_eq!(changed(&raw(&fixture), &raw(&made.folder)).len(), 2);
            let new = open(&made.folder);
            let back = make(read.restore(&new).expect("they are the edit's"));
            assert_eq!(raw(&back.folder), raw(&fixture), "{name}");
            // What was undone, and what was never done, has other columns.
            let error = read.restore(&model).err().expect("not the edit's");
            assert!(error.to_string().contains("not those that the edit wrote"), "{error}");
            assert_eq!(error.exit_code(), 65);
        }
    }
}

#[test]
fn erased_neurons_write_nothing() {
    let fixture = golden("qwen3-qknorm");
    let model = open(&fixture);
    let made = make(erase(&model, &two_layers()).expect("erases").0);
    let new = open(&made.folder);
    for (layer, set) in two_layers() {
        for n in 0..model.spec.mlp.width {
            let (old, new) = (column(&model, layer, n), column(&new, layer, n));
            match set.contains(&n) {
                true => assert!(new.iter().all(|x| *x == 0.0) && old.iter().any(|x| *x != 0.0)),
                false => assert_eq!(new, old),
            }
        }
    }
}

#[test]
fn impossible_edits_are_refused() {
    let model = open(&golden("gpt2-tied"));
    let fact = |old, lambda| Fact { old, new: 1, lambdas: (lambda, 1.0), normalise: false };
    let vocab = model.spec.vocab as u32;
    let error = edit(&model, &two_layers(), &fact(vocab, 1.0)).err().expect("no such token");
    assert!(error.to_string().contains("no token"), "{error}");
    let error = edit(&model, &two_layers(), &fact(0, 1e60)).err().expect("infinite");
    assert!(error.to_string().contains("not be finite"), "{error}");
    let far = Neurons::from([(0, BTreeSet::from([model.spec.mlp.width]))]);
    assert_eq!(erase(&model, &far).err().expect("no such neuron").exit_code(), 2);
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = home.path().join("x");
    for (text, word) in [
        ("{}", "not a list"),
        ("[]", "names no neuron"),
        (r#"[{"layer": 0, "neuron": [1]}]"#, "not a list"),
        (r#"[{"layer": -1, "neurons": [1]}]"#, "not a list"),
    ] {
        std::fs::write(&file, text).expect("written");
        let error = read_list(&file).expect_err(word);
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(Undo::read(&file).expect_err("no undo file").exit_code(), 65);
    }
    let list = r#"[{"layer": 1, "neurons": [4, 2]}, {"layer": 1, "neurons": [9]}]"#;
    std::fs::write(&file, list).expect("written");
    assert_eq!(read_list(&file).expect("a list"), Neurons::from([(1, BTreeSet::from([2, 4, 9]))]));
}

/// Neuron 1 is of one fact, 2 of half of them, 3 of all.
fn facts() -> Vec<EffectRow> {
    let row = |fact: usize, neuron: i32, selected: bool| EffectRow {
        selected,
        ..effect(RankedRow {
            method: "kn".into(),
            label: "fact".into(),
            concept: format!("f{fact}"),
            site: "layers.1.mlp_gate".into(),
            neuron,
            rank: 1,
            score: 1.0,
        })
    };
    (0..10)
        .flat_map(|fact| {
            [
                row(fact, 1, fact == 0),
                row(fact, 2, fact < 5),
                row(fact, 3, true),
                row(fact, 4, false),
            ]
        })
        .collect()
}

#[test]
fn neurons_of_the_relation_are_left_out() {
    let wanted = Wanted { concept: Some("f0".into()), ..Wanted::default() };
    let of = |shared| {
        let neurons = of_group("table", &facts(), &wanted, shared)?;
        Ok::<_, electrode::error::Error>(neurons[&1].iter().copied().collect::<Vec<_>>())
    };
    assert_eq!(of(None).expect("selected"), [1, 2, 3]);
    assert_eq!(of(Some(0.5)).expect("selected"), [1, 2]);
    // One of ten facts is not more than a tenth.
    assert_eq!(of(Some(0.1)).expect("selected"), [1]);
    assert!(of(Some(0.05)).is_err_and(|error| error.to_string().contains("no neuron is selected")));
    let unknown = Wanted { concept: Some("f99".into()), ..Wanted::default() };
    let error = of_group("table", &facts(), &unknown, None).expect_err("no such group");
    assert!(error.to_string().contains("no group 'f99'"), "{error}");
    let unknown = Wanted { method: Some("ig".into()), ..Wanted::default() };
    assert!(of_group("table", &facts(), &unknown, None).is_err());
}

fn direction(width: usize) -> Vec<f64> {
    (0..width).map(|i| ((i * 37 + 11) % 17) as f64 - 7.5).collect()
}

/// The largest share of a stream that lies along the direction.
fn along(values: &[f32], direction: &[f64]) -> f64 {
    let rows = values.chunks_exact(direction.len());
    let share = |row: &[f32]| {
        let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let dot: f64 = row.iter().zip(direction).map(|(a, b)| a * b).sum();
        // Rows of padding are 0.
        dot.abs() / norm(direction) / norm(&row).max(1e-30)
    };
    rows.map(share).fold(0.0, f64::max)
}

#[test]
fn the_stream_has_nothing_along_a_direction_that_was_taken_out() {
    let mut done = 0;
    for fixture in fixtures() {
        let name = fixture.display().to_string();
        let model = open(&fixture);
        let u = direction(model.spec.width);
        let ablated = ablate(&model, &u, false);
        if ["bert", "bloom", "electra", "gemma2", "opt-postnorm", "t5-full"]
            .iter()
            .any(|refused| name.contains(refused))
        {
            let error = ablated.err().unwrap_or_else(|| panic!("{name} has a norm there"));
            assert!(error.to_string().contains("out of the stream"), "{error}");
            continue;
        }
        let made = make(ablated.unwrap_or_else(|error| panic!("{name}: {error}")));
        let (old, new) = (run(&fixture, &fixture, None), run(&made.folder, &fixture, None));
        let bound = rounding(&fixture).max(1e-6);
        for (site, array) in &new {
            let stream = ["resid_pre", "resid_post", "embeddings", "attn_out", "mlp_out"];
            if stream.iter().any(|kind| site.ends_with(kind)) {
                let (before, after) = (along(floats(&old[site]), &u), along(floats(array), &u));
                assert!(after <= bound, "{name} {site}: {after}");
                assert!(before > 20.0 * bound, "{name} {site}: {before} before");
            }
        }
        assert!(differ(&old, &new), "{name}");
        done += 1;
    }
    assert!(done >= 4, "only {done} architectures");
}

#[test]
fn a_head_that_is_untied_reads_the_table_as_it_was() {
    let fixture = golden("gpt2-tied");
    let model = open(&fixture);
    let u = direction(model.spec.width);
    let Made { folder, _home, .. } = make(ablate(&model, &u, true).expect("it may go"));
    let new = open(&folder);
    assert!(!new.head_is_tied());
    assert_eq!(
        new.tensor(Param::Head).expect("there"),
        model.tensor(Param::Tokens).expect("there")
    );
    assert_ne!(
        new.tensor(Param::Tokens).expect("there"),
        model.tensor(Param::Tokens).expect("there")
    );
    if let Some(gpu) = device(Element::F32) {
        let sites = run_on(gpu, &folder, &fixture, None);
        assert!(along(floats(&sites["layers.1.resid_post"]), &u) <= 1e-6);
    }
}

#[test]
fn directions_are_read_and_refused() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| home.path().join(name).display().to_string();
    let model = open(&golden("gpt2-tied"));
    std::fs::write(path("u.json"), "[1, 2.5, -3]").expect("written");
    assert_eq!(read_direction(&path("u.json")).expect("a list"), [1.0, 2.5, -3.0]);
    let bytes: Vec<u8> = [1.0_f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = || {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &bytes)
            .expect("fits")
    };
    let one = safetensors::serialize([("u", view())], None).expect("written");
    let two = safetensors::serialize([("u", view()), ("v", view())], None).expect("written");
    std::fs::write(path("one.safetensors"), one).expect("written");
    std::fs::write(path("two.safetensors"), two).expect("written");
    for text in ["one.safetensors", "one.safetensors:u", "two.safetensors:v"] {
        assert_eq!(read_direction(&path(text)).expect(text), [1.0, 2.0]);
    }
    for (text, word) in [
        ("two.safetensors", "holds 2 tensors: u, v"),
        ("two.safetensors:w", "no tensor 'w'"),
        ("none.json", "cannot read"),
    ] {
        let error = read_direction(&path(text)).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    }
    let width = model.spec.width;
    for (u, word) in [
        (vec![1.0; 3], "3 values"),
        (vec![0.0; width], "length is 0"),
        (vec![f64::INFINITY; width], "length is inf"),
    ] {
        let error = ablate(&model, &u, false).err().expect(word);
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(!Path::new(&path("none.json")).exists());
}
