//! What an experiment is said to hold. Oracles: a device that counts what is made on it, for every
//! model of the fixtures (those outside the repository are passed over where they are absent); the
//! shapes of the embedded model by hand.

use std::collections::BTreeSet;

use electrode::device::backward::Differentiable;
use electrode::device::forward::{Forward, Limits};
use electrode::device::sizes::{forward_columns, gradient_buffers, transposed_weights};
use electrode::model::Model;
use electrode::run::questions::{Experiment, experiment_memory};

use super::{config, folder, root};
use crate::golden::fixture::{embedded, fixtures, shared};
use crate::run::faulty_device::{Fault, FaultyDevice};

#[test]
fn buffers_are_as_many_as_are_made() {
    let folders = [fixtures(&embedded()), fixtures(&shared())].concat();
    assert!(!folders.is_empty());
    for folder in folders {
        let model = Model::open(folder.to_str().expect("UTF-8")).expect("opens");
        for tokens in [12, 33] {
            let limits = Limits { tokens, sequence: 12 };
            let nothing = BTreeSet::new();
            let device = FaultyDevice::new("counts".into(), Fault::default());
            Forward::new(device.clone(), &model, limits, &nothing).expect("fits");
            let place = folder.display();
            assert_eq!(device.numbers(), tokens * forward_columns(&model.spec), "{place}");
            if model.spec.classes().is_none() {
                continue;
            }
            let device = FaultyDevice::new("counts".into(), Fault::default());
            Differentiable::new(device.clone(), &model, limits, (&nothing, true)).expect("fits");
            let counted = gradient_buffers(&model.spec, limits);
            assert_eq!(device.numbers() as u64, counted, "{place}");
        }
    }
}

/// A GPT-2 whose head is the table of its tokens.
#[test]
fn the_plan_of_an_experiment_is_that_by_hand() {
    let (_temporary, out) = folder();
    let own = ["methods=[\"gradact\"]", "judge.steer=[]", "neurons.layers=[2]", "judge.sizes=[]"];
    let experiment = Experiment::new(config(&out, &own)).expect("opens");
    let spec = &experiment.model.spec;
    let (width, neurons, vocab) = (spec.width as u64, spec.mlp.width as u64, spec.vocab as u64);
    let layer = 3 * width * width + width * width + 2 * width * neurons;
    let transposed = spec.layers as u64 * layer + vocab * width;
    assert_eq!(transposed_weights(spec), transposed);
    let plan = experiment_memory(&experiment).expect("counts");
    // The processor packs another copy of the tied table.
    assert_eq!(plan.transposed, 4 * (transposed + vocab * width));
    // All keys and values, and the product with the gradient and its difference, of 4096 tokens.
    let pasts = 2 * spec.layers as u64 * width;
    assert_eq!(plan.kept, 4 * 4096 * (pasts + 2 * neurons));
    // A count and two sums of 5 numbers and 1024 neurons, for all questions and two groups.
    assert_eq!((plan.state, plan.states), (3 * 16 * (5 + neurons), 5));
    assert_eq!(
        plan.total(),
        plan.weights + plan.transposed + plan.workspace + plan.kept + 5 * plan.state
    );
}

#[test]
fn a_dry_run_prints_the_plan_and_leaves_nothing() {
    let (_temporary, out) = folder();
    let file = root().join("configs/experiments/agreement.toml").display().to_string();
    let place = format!("out={}", out.display());
    let ran = crate::cli::run(&["stimulate", &file, &place, "--device", "cpu", "--dry-run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for part in [
        "# experiment ",
        "# questions: 198 in 2 groups, 4 blocks, 2 left out",
        "# batches: 4096 tokens",
        "# memory: ",
        " + transposed ",
        " + forward and back ",
        "5 states of",
        "[questions]",
    ] {
        assert!(ran.stdout.contains(part), "{part} is not in {}", ran.stdout);
    }
    let printed: toml::Table = ran.stdout.parse().expect("it is the file again");
    assert_eq!(printed["questions"]["limit"].as_integer(), Some(200));
    assert!(!out.exists());
}
