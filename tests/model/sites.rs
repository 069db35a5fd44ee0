//! Oracle: by hand, on a GPT-2 of one layer.

use electrode::model::Model;

use super::support::gpt2;

fn select(patterns: &[&str]) -> Result<Vec<String>, electrode::error::Error> {
    let folder = gpt2();
    let model = Model::open(folder.path().to_str().expect("a path")).expect("opens");
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    Ok(model.spec.select_sites(&patterns)?.iter().map(ToString::to_string).collect())
}

#[test]
fn every_site_in_forward_order() {
    let layer = [
        "resid_pre",
        "attn_probs",
        "head_out",
        "attn_out",
        "resid_mid",
        "mlp_pre",
        "mlp_gate",
        "mlp_act",
        "mlp_out",
        "resid_post",
    ];
    let mut names = vec!["embeddings".to_owned()];
    names.extend(layer.iter().map(|name| format!("layers.0.{name}")));
    names.extend(["final_norm", "logits"].map(str::to_owned));
    assert_eq!(select(&["*"]).expect("all"), names);
}

#[test]
fn patterns_select_without_doubles() {
    let mlp = ["layers.0.mlp_pre", "layers.0.mlp_gate", "layers.0.mlp_act", "layers.0.mlp_out"];
    assert_eq!(select(&["layers.*.mlp_???", "layers.0.mlp_*"]).expect("some"), mlp);
    assert_eq!(select(&["layers.?.mlp_act"]).expect("one"), ["layers.0.mlp_act"]);
    assert_eq!(select(&["logits", "embeddings"]).expect("two"), ["embeddings", "logits"]);
}

#[test]
fn patterns_that_match_nothing_say_what_is_there() {
    for (pattern, part) in [
        ("layers.*.mlp_akt", "did you mean 'mlp_act'"),
        ("layers.1.mlp_act", "1 layers from 0"),
        ("layers.*.mlp_up", "no such site"),
        ("pooled", "use: embeddings, layers.*.resid_pre"),
        ("", "no such site"),
    ] {
        let error = select(&[pattern]).expect_err(pattern);
        assert_eq!(error.exit_code(), 2, "{pattern}");
        assert!(error.to_string().contains(part), "{pattern}: {error}");
    }
    assert_eq!(select(&[]).expect_err("nothing").exit_code(), 2);
    assert!(select(&["embeddings", "x"]).is_err());
}
