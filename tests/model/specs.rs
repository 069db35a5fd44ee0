//! Oracle: by hand, from each architecture's paper and the fixtures' README.

use electrode::model::{
    Activation, BlockSpec, HeadSpec, LayerParam, Model, ModelSpec, NormKind, Param, PositionSpec,
};
use serde_json::{Value, json};

use super::support::{folder, forward, llama_config, llama_tensors, safetensors_bytes};

/// The small LLaMA, changed.
fn llama(change: impl FnOnce(&mut Value)) -> Model {
    let mut config = llama_config();
    change(&mut config);
    let folder = folder(&config, &safetensors_bytes(&llama_tensors()));
    Model::open(folder.path().to_str().expect("a path")).unwrap_or_else(|e| panic!("{e}"))
}

fn frequencies(spec: &ModelSpec) -> &[f32] {
    match &spec.positions {
        PositionSpec::Rotary { inv_freq } => inv_freq,
        other => panic!("{other:?}"),
    }
}

#[test]
fn three_matrices_stand_one_under_the_other() {
    let model = llama(|_| {});
    let qkv = model.tensor(Param::Layer(0, LayerParam::Qkv)).expect("there");
    assert_eq!(qkv.shape, [16, 8]);
    let rows: Vec<f32> = qkv.data.chunks(8).map(|row| row[0]).collect();
    let third = |value: f32, count: usize| vec![value; count];
    assert_eq!(rows, [third(3.0, 8), third(4.0, 4), third(5.0, 4)].concat());
    assert!(!model.has(Param::Layer(0, LayerParam::QkvBias)));
}

#[test]
fn qwen_biases_and_windows() {
    let qwen = |change: fn(&mut Value)| {
        llama(|c| {
            c["model_type"] = json!("qwen2");
            change(c);
        })
    };
    let model = qwen(|_| {});
    let bias = model.tensor(Param::Layer(1, LayerParam::QkvBias)).expect("there");
    assert_eq!(
        (bias.shape, bias.data[0], bias.data[8], bias.data[12]),
        (vec![16], 18.0, 19.0, 20.0)
    );
    assert!(!model.has(Param::Layer(1, LayerParam::OutBias)));
    assert_eq!(model.spec.attention.windows, [None, None]);
    let windows = |change: fn(&mut Value)| qwen(change).spec.attention.windows;
    let on = |c: &mut Value| {
        c["use_sliding_window"] = json!(true);
        c["sliding_window"] = json!(3);
        c["max_window_layers"] = json!(1);
    };
    assert_eq!(windows(on), [None, Some(3)]);
    let all = |c: &mut Value| {
        c["use_sliding_window"] = json!(true);
        c["max_window_layers"] = json!(0);
    };
    assert_eq!(windows(all), [Some(4096); 2]);
    let null = |c: &mut Value| {
        c["use_sliding_window"] = json!(true);
        c["sliding_window"] = json!(null);
        c["max_window_layers"] = json!(0);
    };
    assert_eq!(windows(null), [None; 2]);
}

#[test]
fn rotation_is_scaled_as_asked() {
    // Heads of 2 columns rotate with frequency 1 only; of 4 with 1 and 100^(-1/2).
    assert_eq!(frequencies(&llama(|_| {}).spec), [1.0]);
    let linear = llama(|c| c["rope_scaling"] = json!({"type": "linear", "factor": 4.0}));
    assert_eq!(frequencies(&linear.spec), [0.25]);
    let new = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 5.0});
    assert_eq!(frequencies(&llama(|c| c["rope_parameters"] = new).spec), [0.125]);
    // A wavelength of 2 pi: kept where the context has many of them, divided where it has few, and
    // halfway where the context has (low + high) / 2 of them.
    let scaled = |context: f64| {
        let scaling = json!({
            "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
            "original_max_position_embeddings": context,
        });
        frequencies(&llama(|c| c["rope_scaling"] = scaling).spec)[0]
    };
    assert_eq!((scaled(100.0), scaled(5.0)), (1.0, 0.25));
    let halfway = scaled(4.0 * std::f64::consts::PI);
    assert!((halfway - 0.625).abs() <= f32::EPSILON, "{halfway}");
}

#[test]
fn heads_follow_the_class_and_the_keys() {
    let head = |names: Value| llama(|c| c["architectures"] = names).spec.head;
    let lm = HeadSpec::Lm { transform: None, width: 8, project: false, bias: false, softcap: None };
    assert_eq!(head(json!(["LlamaForCausalLM"])), lm);
    assert_eq!(head(json!(["LlamaModel"])), lm);
    assert_eq!(head(json!(null)), lm);
    assert_eq!(head(json!(["LlamaForSequenceClassification"])), HeadSpec::None);
    assert_eq!(llama(|c| c["tie_word_embeddings"] = json!(false)).spec.head, HeadSpec::None);
}

/// A fixture's description, or nothing where the fixtures are not here.
fn fixture(name: &str) -> Option<ModelSpec> {
    let folder = forward()?.join(name);
    Some(Model::open_with_config(&folder, &folder.join("config.hub.json")).expect(name).spec)
}

#[test]
fn gpt_variants() {
    let Some(spec) = fixture("gpt2-invlayer") else { return };
    let scale: Vec<f32> = [1.0, 2.0, 3.0].map(|n: f32| 1.0 / 8.0_f32.sqrt() / n).to_vec();
    for (ours, theirs) in spec.attention.scale.iter().zip(&scale) {
        assert!((ours - theirs).abs() <= f32::EPSILON * theirs, "{ours} is not {theirs}");
    }
    assert_eq!(spec.mlp.activation, Activation::GeluErf);
    let Some(spec) = fixture("gpt_neox-parallel") else { return };
    assert_eq!((spec.block, spec.attention.qkv_bias), (BlockSpec::Parallel, true));
    let Some(spec) = fixture("gpt_neox-serial") else { return };
    assert_eq!((spec.block, spec.attention.out_bias), (BlockSpec::PreNorm, false));
    let Some(spec) = fixture("opt-postnorm-proj") else { return };
    assert_eq!((spec.block, spec.final_norm), (BlockSpec::PostNorm, false));
    assert_eq!(spec.shape(Param::Positions), Some(vec![42, 48]));
    assert_eq!(spec.shape(Param::HeadProject), Some(vec![28, 48]));
    assert_eq!(spec.max_tokens, Some(40));
    let Some(spec) = fixture("bloom-postln") else { return };
    assert_eq!(spec.block, BlockSpec::ResidualAfterNorm);
    assert_eq!(spec.mlp.activation, Activation::GeluTanh);
}

#[test]
fn gemma_and_phi_variants() {
    let Some(spec) = fixture("gemma-mqa") else { return };
    assert_eq!(spec.mlp.activation, Activation::GeluTanh);
    assert!(spec.norm.plus_one && (spec.embedding.scale - 40.0_f32.sqrt()).abs() <= 1e-6);
    let Some(spec) = fixture("gemma2-softcap") else { return };
    assert_eq!((spec.block, spec.attention.softcap), (BlockSpec::Sandwich, Some(5.0)));
    assert_eq!(spec.attention.windows, [Some(8), None]);
    assert!(spec.attention.scale.iter().all(|s| (s - 24.0_f32.powf(-0.5)).abs() <= 1e-7));
    assert!(matches!(spec.head, HeadSpec::Lm { softcap: Some(8.0), .. }), "{:?}", spec.head);
    let Some(spec) = fixture("phi-qknorm-gqa") else { return };
    assert_eq!(spec.block, BlockSpec::ParallelSharedNorm);
    assert!(spec.attention.qk_norm.is_some_and(|norm| norm.kind == NormKind::Layer));
    assert_eq!(spec.shape(Param::Layer(0, LayerParam::MlpNormWeight)), None);
    let Some(spec) = fixture("qwen3-qknorm") else { return };
    assert!(spec.attention.qk_norm.is_some_and(|n| n.kind == NormKind::Rms && n.eps == 0.03));
}

#[test]
fn encoder_variants() {
    let Some(spec) = fixture("electra-gen") else { return };
    let HeadSpec::Lm { transform: Some(transform), width, bias, .. } = spec.head else {
        panic!("{:?}", spec.head)
    };
    assert_eq!((transform.activation, width, bias), (Activation::GeluErf, 20, true));
    assert_eq!(spec.mlp.activation, Activation::Relu);
    let Some(spec) = fixture("electra-disc") else { return };
    assert_eq!(spec.head, HeadSpec::Discriminator { activation: Activation::GeluErf });
    let Some(spec) = fixture("bert-seqcls") else { return };
    assert_eq!((spec.head, spec.pooler), (HeadSpec::SequenceClasses { classes: 3 }, true));
    let Some(spec) = fixture("bert-tokcls") else { return };
    assert_eq!((spec.head, spec.pooler), (HeadSpec::TokenClasses { classes: 5 }, false));
    let Some(spec) = fixture("roberta-mlm") else { return };
    assert_eq!(spec.positions, PositionSpec::LearnedFromIds { rows: 36, pad: 1 });
    assert_eq!(spec.max_tokens, Some(34));
    let Some(spec) = fixture("t5-full-gated") else { return };
    let positions = PositionSpec::Relative { buckets: 8, max_distance: 12, bidirectional: true };
    assert_eq!(spec.positions, positions);
    assert_eq!((spec.mlp.gated, spec.mlp.activation), (true, Activation::GeluTanh));
    assert_eq!(spec.attention.scale, [1.0, 1.0]);
    let Some(spec) = fixture("t5-encoder-relu") else { return };
    assert_eq!((spec.mlp.gated, spec.mlp.activation), (false, Activation::Relu));
}
