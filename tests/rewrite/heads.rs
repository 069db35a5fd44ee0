//! Attention heads merged into others and removed. Oracles: a planted model, one of whose heads is an
//! exact linear image of another; least squares by the normal equations in f64; CKA by its definition on
//! the rows; heads that are switched off in a run of the original.

use std::path::{Path, PathBuf};

use electrode::id::SiteKind;
use electrode::methods::clustering::heads::{HeadOutputs, HeadPruning};
use electrode::model::PositionSpec;
use electrode::model::heads::HeadPart;
use electrode::rewrite::activations::{Activations, Matrix};
use electrode::rewrite::heads::{HeadMerge, HeadRemoval, LayerHeads, removal, remove_heads};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use super::{Raw, assert_close, differ, fixtures, floats, golden, make, open, raw, run};
use crate::run_folder::Noise;

/// Outputs of the heads of a layer on the ids of a fixture.
fn outputs(model: &Path, ids: &Path, layer: usize) -> Matrix {
    let spec = open(model).spec.attention;
    let columns = spec.heads * spec.head_width;
    let all = run(model, ids, None);
    let values = floats(&all[&format!("layers.{layer}.head_out")]);
    // Pads are 0 on the grid, and no output is.
    let real = values.chunks_exact(columns).filter(|row| row.iter().any(|x| *x != 0.0));
    let values: Vec<f64> = real.flatten().map(|&x| f64::from(x)).collect();
    Matrix { rows: values.len() / columns, columns, values }
}

fn write(folder: &Path, fixture: &Path, tensors: &Raw) {
    std::fs::create_dir_all(folder).expect("made");
    std::fs::copy(fixture.join("config.json"), folder.join("config.json")).expect("copied");
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("fits"))
    });
    let bytes = safetensors::serialize(views, None).expect("serialises");
    std::fs::write(folder.join("model.safetensors"), bytes).expect("written");
}

/// Every second head looks where the one before looks, and says what that says through a matrix: its
/// queries and keys are that head's, its values `V_b = M V_a` and so its output is `M z_a`.
fn plant(fixture: &Path, folder: &Path) {
    let model = open(fixture);
    let spec = &model.spec.attention;
    let d = spec.head_width;
    assert_eq!(spec.heads, spec.kv_heads, "a fixture whose heads have their own keys");
    let mut noise = Noise::new(5);
    let m: Vec<f64> =
        (0..d * d).map(|i| noise.normal() * 0.2 + f64::from(u8::from(i % (d + 1) == 0))).collect();
    let mut tensors = raw(fixture);
    for layer in 0..model.spec.layers {
        for bias in if spec.qkv_bias { &[false, true][..] } else { &[false] } {
            for stored in model.stored_heads(layer, *bias).expect("there") {
                let (dtype, shape, bytes) = tensors.get_mut(&stored.place.name).expect("there");
                let mut values = decode(*dtype, bytes);
                let axis = stored.place.output_axis(shape.len());
                let inner: usize = shape[axis + 1..].iter().product();
                let (outer, count) = (shape[..axis].iter().product::<usize>(), shape[axis]);
                let at = |o: usize, row: usize, i: usize| (o * count + row) * inner + i;
                let first = |part: HeadPart, head: usize| {
                    stored.rows.iter().find(|r| r.part == part && r.head == head).map(|r| r.first)
                };
                for b in (1..spec.heads).step_by(2) {
                    for part in [HeadPart::Query, HeadPart::Key, HeadPart::Value] {
                        let (Some(from), Some(to)) = (first(part, b - 1), first(part, b)) else {
                            continue;
                        };
                        for o in 0..outer {
                            for i in 0..inner {
                                let row = |k: usize| values[at(o, from + k, i)];
                                let new: Vec<f64> = (0..d)
                                    .map(|k| match part {
                                        HeadPart::Value => {
                                            (0..d).map(|j| m[k * d + j] * row(j)).sum()
                                        }
                                        _ => row(k),
                                    })
                                    .collect();
                                (0..d).for_each(|k| values[at(o, to + k, i)] = new[k]);
                            }
                        }
                    }
                }
                *bytes = encode(*dtype, &values);
            }
        }
    }
    write(folder, fixture, &tensors);
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    assert_eq!(dtype, Dtype::F32, "a fixture in float32");
    bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
}

fn encode(dtype: Dtype, values: &[f64]) -> Vec<u8> {
    assert_eq!(dtype, Dtype::F32, "a fixture in float32");
    values.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect()
}

/// Fixtures in float32 whose heads have their own keys and can be paired: where each has its own bias by
/// distance, none is another's image.
fn own_keys() -> Vec<PathBuf> {
    let fits = |fixture: &PathBuf| {
        let model = open(fixture);
        let attention = &model.spec.attention;
        let f32s = raw(fixture).values().all(|(dtype, ..)| *dtype == Dtype::F32);
        let by_head = matches!(
            model.spec.positions,
            PositionSpec::Alibi { .. } | PositionSpec::Relative { .. }
        );
        f32s && !by_head && attention.heads == attention.kv_heads && attention.heads > 1
    };
    fixtures().into_iter().filter(fits).collect()
}

#[test]
fn a_head_that_is_an_image_of_another_is_merged_and_nothing_is_lost() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut tried = 0;
    for fixture in own_keys() {
        let name = fixture.file_name().expect("named").to_string_lossy().into_owned();
        let folder = home.path().join(&name);
        plant(&fixture, &folder);
        let model = open(&folder);
        let spec = &model.spec.attention;
        let plan = |merge: bool| -> Option<Vec<LayerHeads>> {
            let layer = |layer: usize| {
                let matrix = outputs(&folder, &fixture, layer);
                let outputs = HeadOutputs::new(&matrix, spec.heads, spec.kv_heads).ok()?;
                let kept: Vec<usize> = (0..spec.heads).filter(|head| head % 2 == 0).collect();
                let fit = |from: usize| {
                    let bias = spec.out_bias;
                    let (map, left) = outputs.fit((from, from - 1), bias).expect("fits");
                    let all: f64 = matrix.values.iter().map(|x| x * x).sum();
                    assert!(left * matrix.rows as f64 <= 1e-9 * all, "{name}: {left}");
                    map
                };
                let merges = (1..spec.heads).step_by(2).map(fit);
                let merges = if merge { merges.collect() } else { Vec::new() };
                Some(LayerHeads { kept, merges })
            };
            (0..model.spec.layers).map(layer).collect()
        };
        let Some(merged) = plan(true) else {
            eprintln!("passed over: {name} has too few tokens for its heads");
            continue;
        };
        tried += 1;
        let end = model.spec.layers - 1;
        let want = run(&folder, &fixture, None);
        let how = removal(&model, &merged);
        let made = make(remove_heads(&model, &merged, &how).expect("removes"));
        let got = run(&made.folder, &fixture, None);
        assert_close(&name, (&got, end), (&want, end), 1e-4);
        match how {
            HeadRemoval::Deleted { heads, kv_heads } => {
                let new = open(&made.folder).spec.attention;
                assert_eq!((new.heads, new.kv_heads), (heads, kv_heads), "{name}");
                assert_eq!((new.heads, new.head_width), (spec.heads.div_ceil(2), spec.head_width));
            }
            HeadRemoval::Zeroed(_) => assert_eq!(open(&made.folder).spec, model.spec, "{name}"),
        }
        // Without merging something is lost, and more than rounding.
        let dropped = plan(false).expect("as before");
        let made =
            make(remove_heads(&model, &dropped, &removal(&model, &dropped)).expect("removes"));
        let without = run(&made.folder, &fixture, None);
        let far = |a: &std::collections::BTreeMap<String, electrode::engine::array::Array>| -> f64 {
            let site = format!("layers.{end}.resid_post");
            let pairs = floats(&a[&site]).iter().zip(floats(&want[&site]));
            pairs.map(|(a, b)| f64::from((a - b).abs())).sum()
        };
        assert!(far(&without) > 100.0 * far(&got), "{name}: {} {}", far(&without), far(&got));
    }
    assert!(tried >= 4, "{tried} fixtures");
}

fn random(rows: usize, (heads, d): (usize, usize), seed: u64) -> Matrix {
    let (mut noise, columns) = (Noise::new(seed), heads * d);
    let mix: Vec<f64> = (0..columns * columns).map(|_| noise.normal()).collect();
    let mut values = Vec::new();
    for _ in 0..rows {
        let causes: Vec<f64> = (0..columns).map(|_| noise.normal()).collect();
        let column = |c: usize| (0..columns).map(|k| causes[k] * mix[c * columns + k]).sum::<f64>();
        values.extend((0..columns).map(|c| column(c) + 3.0));
    }
    Matrix { rows, columns, values }
}

/// Solves the normal equations by elimination.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|x, y| a[*x][i].abs().total_cmp(&a[*y][i].abs())).expect("some");
        a.swap(i, pivot);
        b.swap(i, pivot);
        for k in i + 1..n {
            let factor = a[k][i] / a[i][i];
            let row = a[i].clone();
            a[k].iter_mut().zip(row).for_each(|(x, y)| *x -= factor * y);
            b[k] -= factor * b[i];
        }
    }
    for i in (0..n).rev() {
        let rest: f64 = (i + 1..n).map(|j| a[i][j] * b[j]).sum();
        b[i] = (b[i] - rest) / a[i][i];
    }
    b
}

#[test]
fn the_fit_is_that_of_the_normal_equations() {
    let (heads, d) = (3, 4);
    let matrix = random(80, (heads, d), 3);
    let outputs = HeadOutputs::new(&matrix, heads, heads).expect("rows enough");
    let row = |t: usize, head: usize| &matrix.values[t * heads * d + head * d..][..d];
    for bias in [true, false] {
        let (HeadMerge { map, intercept, .. }, left) = outputs.fit((2, 0), bias).expect("fits");
        // Regressors: the columns of head 0, and 1 where there is a bias.
        let k = d + usize::from(bias);
        let x = |t: usize, i: usize| if i < d { row(t, 0)[i] } else { 1.0 };
        let rows = 0..matrix.rows;
        let mut residual = 0.0;
        for c in 0..d {
            let a = (0..k)
                .map(|i| (0..k).map(|j| rows.clone().map(|t| x(t, i) * x(t, j)).sum()).collect());
            let b = (0..k).map(|i| rows.clone().map(|t| x(t, i) * row(t, 2)[c]).sum());
            let want = solve(a.collect(), b.collect());
            for (i, want) in want.iter().enumerate() {
                let got = if i < d { map[c * d + i] } else { intercept[c] };
                assert!((got - want).abs() <= 1e-8 * want.abs().max(1.0), "{bias}: {got} {want}");
            }
            let rest = |t: usize| row(t, 2)[c] - (0..k).map(|i| want[i] * x(t, i)).sum::<f64>();
            residual += rows.clone().map(|t| rest(t).powi(2)).sum::<f64>();
        }
        let residual = residual / matrix.rows as f64;
        assert!((left - residual).abs() <= 1e-8 * residual, "{bias}: {left} {residual}");
    }
}

#[test]
fn similarity_is_linear_cka_of_the_rows() {
    let (heads, d) = (3, 4);
    let matrix = random(50, (heads, d), 9);
    let got = HeadOutputs::new(&matrix, heads, heads).expect("rows enough").similarities();
    let centred = |head: usize, c: usize| -> Vec<f64> {
        let column = || matrix.values.iter().skip(head * d + c).step_by(heads * d);
        let mean = column().sum::<f64>() / matrix.rows as f64;
        column().map(|x| x - mean).collect()
    };
    let squares = |a: usize, b: usize| -> f64 {
        let pairs = (0..d).flat_map(|i| (0..d).map(move |j| (i, j)));
        let dot = |(i, j)| centred(a, i).iter().zip(centred(b, j)).map(|(x, y)| x * y).sum::<f64>();
        pairs.map(|pair| dot(pair).powi(2)).sum()
    };
    for a in 0..heads {
        for b in 0..heads {
            let want = squares(a, b) / (squares(a, a) * squares(b, b)).sqrt();
            assert!((got[a * heads + b] - want).abs() < 1e-12, "{a} {b}");
        }
    }
}

/// Heads that are turned and scaled are the same head to CKA, and are clustered with it.
#[test]
fn turned_heads_are_found_and_one_of_each_is_kept() {
    let d = 4;
    let mut matrix = random(200, (4, d), 4);
    for row in matrix.values.chunks_exact_mut(4 * d) {
        // Head 3 is head 0 turned by swaps and signs, half as large.
        let turned: Vec<f64> =
            (0..d).map(|i| 0.5 * if i % 2 == 0 { row[i + 1] } else { -row[i - 1] }).collect();
        row[3 * d..].copy_from_slice(&turned);
    }
    let outputs = HeadOutputs::new(&matrix, 4, 4).expect("rows enough");
    let how = HeadPruning { keep: 0.75, per_group: false, merge: true, bias: true };
    let pruned = outputs.prune(&how).expect("prunes");
    assert_eq!(pruned.heads.kept, [0, 1, 2]);
    assert_eq!((pruned.heads.merges[0].from, pruned.heads.merges[0].to), (3, 0));
    assert!(pruned.lost < 1e-12, "{}", pruned.lost);
    let dropped = outputs.prune(&HeadPruning { merge: false, ..how }).expect("prunes");
    assert!(dropped.heads.merges.is_empty() && dropped.lost > 0.01, "{}", dropped.lost);
    // With two key heads for two query heads each, one of each pair stays.
    let outputs = HeadOutputs::new(&matrix, 4, 2).expect("rows enough");
    let how = HeadPruning { keep: 0.5, per_group: true, merge: true, bias: false };
    let kept = outputs.prune(&how).expect("prunes").heads.kept;
    assert!(kept.len() == 2 && kept[0] < 2 && kept[1] >= 2, "{kept:?}");
    for keep in [0.0, 1.5, f64::NAN] {
        let error = outputs.prune(&HeadPruning { keep, ..how }).expect_err("no share");
        assert!(error.to_string().contains("is no share"), "{error}");
    }
    let few = Matrix { rows: 5, columns: 16, values: matrix.values[..80].to_vec() };
    let error = HeadOutputs::new(&few, 4, 4).err().expect("too few").to_string();
    assert!(error.contains("any would fit"), "{error}");
}

/// What is left of a model whose heads are dropped is the model with these heads switched off.
#[test]
fn dropped_heads_are_as_if_switched_off_in_every_architecture() {
    let mut deleted = 0;
    for fixture in fixtures() {
        let name = fixture.file_name().expect("named").to_string_lossy().into_owned();
        let model = open(&fixture);
        let (layers, spec) = (model.spec.layers, &model.spec.attention);
        let (d, group) = (spec.head_width, spec.heads / spec.kv_heads);
        // All of the first key head's, the last of each group, and what fits no shape.
        let choices: [&dyn Fn(usize) -> bool; 3] =
            [&|head| head >= group, &|head| group > 1 && head % group + 1 < group, &|head| {
                head != 0
            }];
        for keeps in choices {
            let kept: Vec<usize> = (0..spec.heads).filter(|head| keeps(*head)).collect();
            if kept.is_empty() {
                continue;
            }
            let gone = (0..spec.heads).filter(|head| !kept.contains(head));
            let columns: Vec<usize> = gone.flat_map(|head| head * d..(head + 1) * d).collect();
            let edits: Vec<_> = (0..layers)
                .map(|layer| {
                    let site = format!("layers.{layer}.head_out");
                    json!({"kind": "zero", "site": site, "neurons": columns})
                })
                .collect();
            let want = run(&fixture, &fixture, Some(&json!({"edits": edits})));
            let plans = vec![LayerHeads { kept: kept.clone(), merges: Vec::new() }; layers];
            let how = removal(&model, &plans);
            deleted += usize::from(matches!(how, HeadRemoval::Deleted { .. }));
            for how in [how, HeadRemoval::Zeroed("as asked".into())] {
                let made = make(remove_heads(&model, &plans, &how).expect("removes"));
                let got = run(&made.folder, &fixture, None);
                assert_close(&name, (&got, layers - 1), (&want, layers - 1), 1e-5);
                assert!(differ(&got, &run(&fixture, &fixture, None)), "{name}");
            }
        }
    }
    assert!(deleted >= 5, "{deleted}");
}

#[test]
fn keeping_all_heads_changes_nothing_and_what_cannot_be_is_refused() {
    let fixture = golden("qwen3-qknorm");
    let model = open(&fixture);
    let all = LayerHeads { kept: (0..4).collect(), merges: Vec::new() };
    let how = removal(&model, &[all.clone(), all.clone()]);
    assert_eq!(how, HeadRemoval::Deleted { heads: 4, kv_heads: 2 });
    let made =
        make(remove_heads(&model, &[all.clone(), all.clone()], &how).expect("nothing to do"));
    assert_eq!((raw(&made.folder), made.written.changed), (raw(&fixture), 0));
    let of = |kept: &[usize]| LayerHeads { kept: kept.to_vec(), merges: Vec::new() };
    let zeroed = |layers: [LayerHeads; 2], word: &str| match removal(&model, &layers) {
        HeadRemoval::Zeroed(why) => assert!(why.contains(word), "{why}"),
        other => panic!("{other:?}"),
    };
    zeroed([of(&[0, 1, 2]), of(&[0, 1, 2])], "different numbers of query heads");
    zeroed([of(&[0, 1]), of(&[0, 2])], "layer 1");
    let d = model.spec.attention.head_width;
    let merge = |from, to| HeadMerge { from, to, map: vec![0.0; d * d], intercept: vec![0.0; d] };
    let bad = LayerHeads { kept: vec![0, 1], merges: vec![merge(2, 3)] };
    for (layer, word) in [
        (of(&[]), "what is left"),
        (of(&[4]), "what is left"),
        (of(&[1, 0]), "what is left"),
        (bad, "merged into"),
    ] {
        let zero = HeadRemoval::Zeroed("as asked".into());
        let error = remove_heads(&model, &[all.clone(), layer], &zero).err().expect(word);
        assert!(error.to_string().contains(word), "{error}");
    }
    let missing = fixture.join("model.safetensors");
    let file = Activations::of_kind(&missing, SiteKind::HeadOut).expect("opens");
    let error = file.layer(0, 64).expect_err("no activations").to_string();
    assert!(error.contains("layers.*.head_out"), "{error}");
}
