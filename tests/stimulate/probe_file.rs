//! Experiments whose metric is a probe of a file. Oracle: where the probe reads the neurons themselves,
//! what one does to it is its weight times its value; products in f64 over activations.

use std::collections::BTreeSet;
use std::path::Path;

use electrode::artifact::effects::EffectRow;
use electrode::device::backward::Differentiable;
use electrode::device::cpu::CpuDevice;
use electrode::device::forward::Limits;
use electrode::id::Site;
use electrode::model::Model;
use electrode::run::questions::Experiment;
use electrode::stimulate::neurons::activations;
use electrode::stimulate::question::{Question, QuestionBatch};
use safetensors::tensor::TensorView;

use super::probe_metric::{Plain, numbers};
use super::{config, folder, root, run};

const SITE: &str = "layers.3.mlp_act";

/// A file of probes: classes at `SITE`, a yes-no probe of each elsewhere, of a number at a third site.
fn probes(path: &Path) -> Plain {
    let plain = Plain::new(1024, 3);
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut arrays = vec![
        (format!("{SITE}/upos/seed-4/weight"), vec![3, 1024], floats(&plain.weights)),
        (format!("{SITE}/upos/seed-4/bias"), vec![3], floats(&plain.biases)),
        (format!("{SITE}/shift"), vec![1024], floats(&plain.shift)),
        (format!("{SITE}/scale"), vec![1024], floats(&plain.scale)),
    ];
    for (site, width, label, seed) in [
        ("layers.3.resid_post", 256, "upos=NOUN", 0),
        ("layers.3.resid_post", 256, "upos=NOUN", 1),
        ("layers.3.resid_mid", 256, "depth", 0),
        ("layers.3.mlp_out", 255, "depth", 0),
        ("layers.1.resid_post", 256, "upos=VERB", 0),
        ("layers.1.resid_post", 256, "depth", 0),
    ] {
        let probe = format!("{site}/{label}/seed-{seed}");
        let weights = floats(&numbers(seed + 9, width));
        arrays.push((format!("{probe}/weight"), vec![1, width], weights));
        arrays.push((format!("{probe}/bias"), vec![1], floats(&[0.5])));
    }
    let views = arrays.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.expect("fits"))
    });
    let classes = [("upos", "NOUN\nPRON\nVERB"), ("upos=NOUN", "no\nyes"), ("depth", "")];
    let names = classes.map(|(label, names)| (label.to_owned(), names.to_owned())).into();
    let bytes = safetensors::serialize(views, Some(names)).expect("a file");
    std::fs::write(path, bytes).expect("written");
    plain
}

/// What is at `SITE` where questions are answered.
fn rows(list: &[Question]) -> Vec<Vec<f32>> {
    let model = Model::open(root().join("models/tiny-gpt2-en").to_str().expect("UTF-8"));
    let limits = Limits { tokens: 400, sequence: 40 };
    let nothing = BTreeSet::new();
    let mut run =
        Differentiable::new(CpuDevice::F32, &model.expect("opens"), limits, (&nothing, true))
            .expect("fits");
    let (batch, site) = (QuestionBatch::new(list), SITE.parse::<Site>().expect("a site"));
    let kept = activations(&mut run, &batch, &[site].into()).expect("runs");
    let values = kept.read(&CpuDevice::F32, site).expect("kept");
    batch.rows.iter().map(|row| values[*row as usize * 1024..][..1024].to_vec()).collect()
}

/// Where the probe reads the neurons themselves, what one does to it is its weight times its value.
#[test]
fn an_experiment_finds_the_weights_of_the_probe() {
    let (temporary, out) = folder();
    let path = temporary.path().join("probes.safetensors");
    let plain = probes(&path);
    let metric = format!(
        "metric={{ probes = {:?}, site = {SITE:?}, class = \"PRON\" }}",
        path.display().to_string()
    );
    let overrides = [
        "questions.limit=6",
        "questions.group=number",
        "neurons.layers=[3]",
        "methods=[\"ablate:metric=probe,where=answer\", \"gradact:metric=probe,mode=signed,where=answer\", \
         \"ablate:metric=probe,where=answer,top=9\"]",
        "judge.sizes=[4]",
        "judge.how=zero",
        "judge.random=0",
        "judge.steer=[]",
        &metric,
    ];
    let settings = config(&out, &overrides);
    let list = Experiment::new(settings.clone()).expect("opens").questions.list;
    let (effects, curves) = run(settings);
    let rows = rows(&list);
    let mean = |of: &dyn Fn(&[f32]) -> f64| {
        rows.iter().map(|row| of(row)).sum::<f64>() / rows.len() as f64
    };
    let weight = |n: usize| f64::from(plain.weights[1024 + n]) * f64::from(plain.scale[n]);
    let owed = |n: usize| weight(n) * mean(&|row| f64::from(row[n]));
    let of = |method: &str| -> Vec<&EffectRow> {
        effects.iter().filter(|row| row.method == method && row.concept == "*").collect()
    };
    for (method, sign, count) in [
        ("ablate:metric=probe,where=answer", -1.0, 1024),
        ("gradact:metric=probe,mode=signed,where=answer", 1.0, 1024),
        ("ablate:metric=probe,where=answer,top=9", -1.0, 9),
    ] {
        let found = of(method);
        assert_eq!(found.len(), count, "{method}");
        for row in found {
            let want = sign * owed(usize::try_from(row.neuron).expect("a column"));
            assert!(
                (row.effect - want).abs() < 1e-4,
                "{method} {}: {} {want}",
                row.neuron,
                row.effect
            );
        }
    }
    let base = mean(&|row| plain.outputs(row)[1]);
    let untouched = curves.iter().find(|row| row.method == "none" && row.concept == "*");
    let read = untouched.and_then(|row| row.probe).expect("it is read");
    assert!((read - base).abs() < 1e-4, "{read} {base}");
    let top: f64 = of("ablate:metric=probe,where=answer")
        .iter()
        .filter(|row| row.rank <= 4)
        .map(|row| owed(usize::try_from(row.neuron).expect("a column")))
        .sum();
    let taken = curves.iter().find(|row| {
        row.method == "ablate:metric=probe,where=answer" && row.act == "zero" && row.concept == "*"
    });
    let left = taken.and_then(|row| row.probe).expect("it is read");
    assert!((base - top - left).abs() < 1e-3, "{base} {top} {left}");
    assert!(std::fs::read_to_string(out.join("report.html")).expect("a page").contains("probe"));
}

#[test]
fn what_cannot_be_the_metric_is_refused() {
    let (temporary, out) = folder();
    let path = temporary.path().join("probes.safetensors");
    probes(&path);
    let no_probes = temporary.path().join("other.safetensors");
    let view = TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).expect("fits");
    let bytes = safetensors::serialize([("weight", view)], None).expect("a file");
    std::fs::write(&no_probes, bytes).expect("written");
    let text = temporary.path().join("text");
    std::fs::write(&text, "no file of tensors").expect("written");
    let try_with = |file: &Path, rest: &str, method: &str| {
        let metric = format!("metric={{ probes = {:?}, {rest} }}", file.display().to_string());
        let methods = format!("methods=[{method:?}]");
        let own = ["questions.limit=2", "neurons.layers=[3]", "judge.steer=[]", &methods, &metric];
        Experiment::new(config(&out, &own)).map(|_| ()).map_err(|error| error.to_string())
    };
    let gradient = "gradact:metric=probe";
    for (rest, method, words) in [
        (
            "site = \"layers.1.resid_post\"",
            gradient,
            &["before layers.3.mlp_act", "do nothing"][..],
        ),
        ("site = \"layers.3.mlp_ackt\"", gradient, &["metric.site", "layers.3.mlp_ackt"]),
        ("site = \"all\"", gradient, &["metric.site", "'all'"]),
        ("site = \"final_norm\"", gradient, &["no probe at", "layers.3.resid_post"]),
        ("site = \"layers.3.mlp_out\"", gradient, &["reads 255 columns", "has 256"]),
        ("site = \"layers.3.resid_post\"", gradient, &["several probes fit: 0, 1", "metric.seed"]),
        ("site = \"layers.3.resid_post\", seed = 7", gradient, &["metric.seed = 7", "0, 1"]),
        ("site = \"layers.3.mlp_act\"", gradient, &["output for each class", "NOUN, PRON, VERB"]),
        ("site = \"layers.3.mlp_act\", class = \"X\"", gradient, &["no class 'X'", "NOUN, PRON"]),
        ("site = \"layers.3.mlp_act\", label = \"x\"", gradient, &["metric.label = x", "upos"]),
        ("site = \"layers.3.resid_mid\", class = \"X\"", gradient, &["before layers.3.mlp_act"]),
        ("site = \"layers.3.mlp_act\", class = \"NOUN\"", "kn:metric=probe", &["after a layer"]),
    ] {
        let error = try_with(&path, rest, method).expect_err(rest);
        assert!(words.iter().all(|word| error.contains(word)), "{rest}: {error}");
    }
    let of = "site = \"layers.3.resid_post\", label = \"upos\", class = \"NOUN\", seed = 1";
    assert_eq!(try_with(&path, of, gradient), Ok(()));
    assert_eq!(try_with(&path, of, "kn:metric=probe"), Ok(()));
    for (file, word) in [(&no_probes, "none is in it"), (&text, "not a file of probes")] {
        let error = try_with(file, of, gradient).expect_err(word);
        assert!(error.contains(word), "{error}");
    }
    let own = ["questions.limit=2", "methods=[\"gradact:metric=probe\"]"];
    let error = Experiment::new(config(&out, &own)).err().expect("no metric").to_string();
    assert!(error.contains("there is none") && error.contains("[metric]"), "{error}");
}
