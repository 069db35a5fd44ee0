//! `electrode edit` with the real binary. Oracles: the library on the same input, and exit codes.

use std::fs;
use std::path::{Path, PathBuf};

use electrode::artifact::effects::write_effects;
use electrode::artifact::ranked::RankedRow;
use electrode::artifact::rows::NeuronRow;
use electrode::artifact::tables::write_neurons;
use electrode::rewrite::layers::drop_layers;
use tempfile::TempDir;

use super::neurons::effect;
use super::{changed, make, open, raw};
use crate::run::{Finished, electrode, finish};

fn trained() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-gpt2-en")
}

/// A folder for new checkpoints, and the command that writes them.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn edit_of(&self, model: &Path, arguments: &str, out: &str) -> Finished {
        let (what, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let mut command = electrode();
        command.arg("edit").arg(what).arg("--model").arg(model).arg("--out").arg(self.path(out));
        // An underscore stands for a blank inside an argument.
        command.args(rest.split_whitespace().map(|word| word.replace('_', " ")));
        finish(&mut command)
    }

    fn edit(&self, arguments: &str, out: &str) -> Finished {
        self.edit_of(&trained(), arguments, out)
    }

    fn done(&self, arguments: &str, out: &str) -> String {
        let finished = self.edit(arguments, out);
        assert_eq!(finished.code, Some(0), "{arguments}: {}", finished.stderr);
        finished.stdout
    }
}

#[test]
fn layers_are_dropped_by_name_and_by_strategy() {
    let bench = Bench::new();
    let text = bench.path("text.txt");
    fs::write(&text, "The dog runs home.\nNobody knows what it costs.\n").expect("written");
    let contribution =
        format!("--strategy contribution --drop 1 --device cpu --corpus {}", text.display());
    let model = open(&trained());
    for (number, (arguments, drop)) in [
        ("--layers 3,1", Some(&[1, 3][..])),
        ("--keep 0,2", Some(&[1, 3])),
        ("--strategy top --drop 1", Some(&[3])),
        ("--strategy even-alternate --drop 2", Some(&[1, 3])),
        ("--strategy parameters --measure variance --drop 1", None),
        (&contribution, None),
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out{number}");
        let stdout = bench.done(&format!("drop-layers {arguments}"), &out);
        assert!(stdout.starts_with("dropped layers "), "{stdout}");
        match drop {
            Some(drop) => {
                let want = make(drop_layers(&model, drop).expect("they may go"));
                assert_eq!(raw(&bench.path(&out)), raw(&want.folder), "{arguments}");
            }
            None => assert_eq!(open(&bench.path(&out)).spec.layers, 3, "{arguments}"),
        }
    }
}

/// Tables as a run and an experiment write them: neuron n of each layer has score n.
fn write_tables(bench: &Bench, width: i32) {
    let ids = || (0..4).flat_map(move |layer| (0..width).map(move |n| (layer, n)));
    let ranked = |(layer, neuron): (i32, i32)| RankedRow {
        method: "gradact".into(),
        label: String::new(),
        concept: "*".into(),
        site: format!("layers.{layer}.mlp_act"),
        neuron,
        rank: 1,
        score: f64::from(neuron),
    };
    let rows = ids().map(|id| effect(ranked(id)));
    write_effects(&bench.path("effects.parquet"), "run", rows).expect("written");
    let rows = ids().map(|(layer, neuron)| NeuronRow {
        site: format!("layers.{layer}.mlp_act"),
        layer: Some(layer),
        neuron,
        n: 10,
        non_finite: 0,
        mean: 0.5,
        sd: 1.0,
        min: 0.0,
        max: 1.0,
        firing_rate: 0.5,
        constant: false,
        quantiles: Vec::new(),
    });
    write_neurons(&bench.path("neurons.parquet"), "run", rows).expect("written");
}

#[test]
fn neurons_are_pruned_by_a_table() {
    let bench = Bench::new();
    let width = open(&trained()).spec.mlp.width;
    write_tables(&bench, width as i32);
    let table = bench.path("effects.parquet").display().to_string();
    let means = bench.path("neurons.parquet").display().to_string();
    let prune = |rest: &str| format!("prune-neurons --ranking {table} {rest}");
    let stdout = bench.done(&prune("--remove 25% --per-layer"), "small");
    assert!(stdout.contains(&format!("{} of {} neurons deleted", width, 4 * width)), "{stdout}");
    let small = open(&bench.path("small"));
    assert_eq!(small.spec.mlp.width, width - width / 4);
    bench.done(&prune(&format!("--remove 7 --zero --compensate {means}")), "zeroed");
    // Of equal scores the later layers go first: neurons 0 and 1 but one.
    let changes = changed(&raw(&trained()), &raw(&bench.path("zeroed")));
    assert_eq!(changes.len(), 4 * 4, "{changes:?}");
    let refused = |arguments: &str, word: &str| {
        let finished = bench.edit(arguments, "refused");
        assert_eq!(finished.code, Some(2), "{arguments}: {}", finished.stderr);
        assert!(finished.stderr.contains(word), "{arguments}: {}", finished.stderr);
        assert!(!bench.path("refused").exists());
    };
    refused(&prune("--remove 7"), "--per-layer");
    refused(&prune("--remove 7 --zero --method ablate"), "no such ranking");
    refused(&prune("--remove 1.5 --zero"), "no share");
    refused(&prune(&format!("--remove {width} --per-layer")), "is kept");
    refused("drop-layers --layers 9", "no layer 9");
    refused("drop-layers --keep 2,0", "in their order");
    refused("drop-layers --strategy top", "--drop");
    refused("drop-layers --strategy contribution --drop 1", "--corpus");
    let there = bench.edit(&prune("--remove 7 --zero"), "zeroed");
    assert_eq!(there.code, Some(2));
    assert!(there.stderr.contains("exists already"), "{}", there.stderr);
}

#[test]
fn facts_are_edited_erased_and_undone() {
    let bench = Bench::new();
    fs::write(bench.path("n.json"), r#"[{"layer": 1, "neurons": [3, 4]}]"#).expect("written");
    let neurons = bench.path("n.json").display().to_string();
    let undo = bench.path("undo.safetensors").display().to_string();
    let given = format!("--neurons {neurons} --undo-file {undo}");
    let stdout = bench.done(&format!("knowledge {given} --old _dog --new _house"), "edited");
    assert!(stdout.contains("2 neurons: \" house\" (token "), "{stdout}");
    assert_eq!(changed(&raw(&trained()), &raw(&bench.path("edited"))).len(), 1);
    let back = bench.edit_of(&bench.path("edited"), &format!("undo --undo {undo}"), "back");
    assert_eq!(back.code, Some(0), "{}", back.stderr);
    assert_eq!(raw(&bench.path("back")), raw(&trained()));
    let twice = bench.edit(&format!("erase {given}"), "erased");
    assert_eq!(twice.code, Some(2));
    assert!(twice.stderr.contains("exists already"), "{}", twice.stderr);
    bench.done(&format!("erase --neurons {neurons}"), "erased");
    let wrong = bench.edit_of(&bench.path("erased"), &format!("undo --undo {undo}"), "wrong");
    assert_eq!(wrong.code, Some(65), "{}", wrong.stderr);
    let long = bench.edit(&format!("knowledge {given} --old _dog --new _dogmatically"), "long");
    assert_eq!(long.code, Some(2));
    assert!(long.stderr.contains("tokens, not one"), "{}", long.stderr);
    let shared = bench.edit(&format!("erase --neurons {neurons} --shared 0.1"), "shared");
    assert_eq!(shared.code, Some(2));
    assert!(shared.stderr.contains("no groups"), "{}", shared.stderr);
    let width = open(&trained()).spec.width;
    fs::write(bench.path("u.json"), format!("{:?}", vec![1; width])).expect("written");
    let u = bench.path("u.json").display().to_string();
    let stdout = bench.done(&format!("dir-ablate --direction {u}"), "ablated");
    assert!(stdout.contains("nothing is written along"), "{stdout}");
}

#[test]
fn heads_are_merged_from_what_extract_writes() {
    let bench = Bench::new();
    let text = bench.path("text.txt");
    let emma = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora/examples/emma.txt");
    let emma = fs::read_to_string(emma).expect("part of the project");
    fs::write(&text, emma.lines().take(4).collect::<Vec<_>>().join("\n")).expect("written");
    let (text, heads) = (text.display().to_string(), bench.path("heads.safetensors"));
    let mut command = electrode();
    command.arg("extract").arg("--model").arg(trained()).args(["--corpus", &text]);
    command.args(["--format", "text", "--pool", "none", "--sites", "layers.*.head_out", "--out"]);
    let extracted = finish(command.arg(&heads));
    assert_eq!(extracted.code, Some(0), "{}", extracted.stderr);
    let given = format!("p-prune-heads --activations {}", heads.display());
    let stdout = bench.done(&format!("{given} --keep 0.5"), "half");
    assert!(stdout.contains("layer 3: 4 of 8 heads ("), "{stdout}");
    assert!(stdout.contains("16 of 32 heads set to 0: in gpt2 the number of heads"), "{stdout}");
    // Queries, keys and values with their biases, the output projection and its bias.
    let changes = changed(&raw(&trained()), &raw(&bench.path("half")));
    assert_eq!(changes.len(), 4 * 4, "{changes:?}");
    assert_eq!(open(&bench.path("half")).spec, open(&trained()).spec);
    let stdout = bench.done(&format!("{given} --keep 0.5 --no-merge --zero"), "dropped");
    assert!(stdout.contains("16 of 32 heads set to 0: as asked"), "{stdout}");
    let lost = |text: &str| -> f64 {
        let numbers = text.lines().filter_map(|line| line.split_once("), ")?.1.split_once('%'));
        numbers.map(|(number, _)| number.parse::<f64>().expect("a share")).sum()
    };
    assert!(lost(&stdout) > 0.0, "{stdout}");
    let none = bench.edit(&format!("{given} --keep 2"), "none");
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    let acts = format!("p-prune --activations {} --keep 0.5", heads.display());
    let wrong = bench.edit(&acts, "wrong");
    assert_eq!(wrong.code, Some(65), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("layers.*.mlp_act"), "{}", wrong.stderr);
}
