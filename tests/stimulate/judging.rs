//! What rankings and sets are worth.
//! Oracles: the untouched model where everything is kept; the exhaustive search of one step; the
//! same neurons judged under another name.

use electrode::artifact::effects::{SetRow, read_sets};

use super::{config, folder, run};

const SMALL: [&str; 4] =
    ["questions.limit=8", "neurons.layers=[3]", "judge.steer=[]", "judge.random=1"];

#[test]
fn sets_are_taken_away_kept_searched_and_named() {
    let (_one, first) = folder();
    let own = ["methods=[\"gradact\", \"ablate:where=answer\"]", "judge.sizes=[]"];
    let (effects, _) = run(config(&first, &[&SMALL[..], &own].concat()));
    let top: Vec<String> = effects
        .iter()
        .filter(|row| row.method == "gradact" && row.concept == "*" && row.rank <= 4)
        .map(|row| format!("{}.{}", row.site, row.neuron))
        .collect();
    let (_two, out) = folder();
    let sets = format!("judge.sets={{ same = {top:?} }}");
    let elsewhere = format!(
        "judge.rankings=[{{ run = {:?}, method = \"gradact\" }}]",
        first.display().to_string()
    );
    let own = [
        "methods=[\"gradact\"]",
        "judge.sizes=[4, 1024]",
        "judge.bottom=true",
        "judge.keep=true",
        "judge.greedy=2",
        "judge.candidates=3",
        &sets,
        &elsewhere,
    ];
    let (_, curves) = run(config(&out, &[&SMALL[..], &own].concat()));
    let find = |method: &str, order: &str, act: &str, size: i32| {
        let rows: Vec<_> = curves
            .iter()
            .filter(|row| row.concept == "*" && row.method == method && row.order == order)
            .filter(|row| row.act == act && row.size == size)
            .collect();
        assert_eq!(rows.len(), 1, "{method} {order} {act} {size}");
        rows[0].clone()
    };
    let untouched = find("none", "", "", 0);
    let kept = find("gradact", "top", "keep-mean", 1024);
    assert_eq!(kept.log_prob, untouched.log_prob, "everything is kept");
    // All neurons are the same set from the top and from the bottom.
    let all = ["top", "bottom"].map(|order| find("gradact", order, "mean", 1024).log_prob);
    assert_eq!(all[0], all[1]);
    // The same neurons, by name and from the folder of another experiment.
    let named = find("same", "set", "mean", 4);
    let there = format!("gradact * of {}", first.display());
    for other in [find("gradact", "top", "mean", 4), find(&there, "top", "mean", 4)] {
        assert_eq!(other.log_prob, named.log_prob);
    }
    let read: Vec<SetRow> = read_sets(&out.join("sets.parquet")).expect("sets");
    let of = |method: &str, order: &str, size: i32| {
        let mut rows = read.iter().filter(|row| row.method == method && row.order == order);
        rows.find(|row| row.size == size && row.concept == "*").expect("a row").clone()
    };
    let mut listed = of("same", "set", 4).neurons;
    listed.sort();
    let mut want = top.clone();
    want.sort();
    assert_eq!(listed, want);
    let whole = of("gradact", "top", 1024);
    assert_eq!(whole.sufficiency, Some(1.0));
    assert!(whole.area.is_some() && whole.pnps.is_some());
    // The first step of the search is the best of the three candidates taken alone.
    let step = of("gradact", "greedy", 1);
    assert!(top[..3].contains(&step.neurons[0]), "{step:?}");
    let worst = worst_alone(&top[..3]);
    let greedy = find("gradact", "greedy", "mean", 1);
    assert_eq!(greedy.logit_difference, worst);
    assert_eq!(find("gradact", "greedy", "mean", 2).size, 2);
}

/// The smallest logit difference that one of these neurons leaves when it is taken away alone.
fn worst_alone(neurons: &[String]) -> f64 {
    let (_temporary, out) = folder();
    let sets: Vec<String> =
        neurons.iter().enumerate().map(|(i, name)| format!("s{i} = [{name:?}]")).collect();
    let sets = format!("judge.sets={{ {} }}", sets.join(", "));
    let own = ["methods=[\"gradact\"]", "judge.sizes=[]", &sets];
    let (_, curves) = run(config(&out, &[&SMALL[..], &own].concat()));
    let singles = curves.iter().filter(|row| row.concept == "*" && row.order == "set");
    singles.map(|row| row.logit_difference).min_by(f64::total_cmp).expect("there are sets")
}

#[test]
fn the_page_of_an_experiment_is_drawn_again_from_its_tables() {
    let (_temporary, out) = folder();
    let own = ["methods=[\"gradact\"]", "judge.sizes=[4]"];
    run(config(&out, &[&SMALL[..], &own].concat()));
    let page = out.join("report.html");
    let before = std::fs::read(&page).expect("the page");
    std::fs::remove_file(&page).expect("goes");
    let ran = crate::cli::run(&["report", &out.display().to_string()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(std::fs::read(&page).expect("the page again"), before);
}
