//! Interventions as users write them, in JSON: what is written into which neurons, where.
//!
//! ```json
//! {"kind": "zero", "edits": [{"layer": 0, "neurons": [75, 127]}],
//!  "positions": [[0, 3], [1, 2]]}
//! ```
//!
//! An edit names a `site`, or a `layer` and means its `mlp_act`; its `neurons` are a list or `"all"`,
//! or there are `groups` of them, `{"a": [1, 2], "b": [7]}`, each written by itself. Edits are made
//! in the order of the file. `kind` is one of
//!
//! | kind | writes | keys |
//! |---|---|---|
//! | `zero` | x = 0 | |
//! | `mean`, `set` | x = v | `values`: one per neuron, or one for all |
//! | `add` | x = x + v | `values` |
//! | `scale` | x = a x | `factor` |
//! | `project` | x = x - (x . u) u, with u of length 1 along | `direction`: one per neuron |
//! | `blend` | x = z x + (1 - z) b | `gates` z from 0 to 1, `towards` b, or 0 |
//! | `clamp` | x = low below it, x = high above it; one of both may be missing | `low`, `high` |
//! | `keep_top` | x = 0 but for the k entries of largest size in each token | `k` |
//! | `resample` | values of other tokens | `values`: a row per token; or `seed`, `donors` |
//! | `patch` | values of a file that `extract --ids` wrote for a batch of this shape | `from` |
//!
//! With a `seed`, each token gets what another has at the site in the run without edits: another of
//! those written (`"donors": "positions"`), or the one at its place in another row (`"rows"`). Who is
//! whose donor depends on the seed and on which tokens are written, so that layers stay together.
//! `from` is `{"file": F, "tensor": T}`, F as seen from the intervention's folder, T by default the
//! name of the site.
//!
//! `positions` are `[row, position]` pairs of the input, `"first"` or `"last"` (the token of each
//! row), or `"all"`, as without them. What stands at the top holds for every edit that does not say
//! otherwise. Several runs of one batch are
//!
//! ```json
//! {"clean": true, "arms": [{"name": "off", "edits": [{"kind": "zero", "layer": 0, "neurons": "all"}]}]}
//! ```
//!
//! whose arrays are then named `off/logits`; `clean` adds a run without edits under that name.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::object::{Object, Settings};
use crate::disk;
use crate::error::{Error, Result};
use crate::id::{Site, SiteKind};

/// A file of edits.
#[derive(Clone, Debug)]
pub struct Intervention {
    /// Runs, at least one.
    pub(super) arms: Vec<Arm>,
    /// The file says `arms`: what they give is told apart by name.
    pub(super) named: bool,
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Arm {
    pub(super) name: String,
    pub(super) edits: Vec<EditSpec>,
}

/// One edit.
#[derive(Clone, Debug)]
pub(super) struct EditSpec {
    /// Where it stands.
    pub(super) place: String,
    pub(super) site: Site,
    /// None for all.
    pub(super) neurons: Option<Vec<u32>>,
    pub(super) writing: Writing,
    pub(super) positions: Positions,
}

/// What is written, see the module.
#[derive(Clone, Debug)]
pub(super) enum Writing {
    Set(Vec<f32>),
    Add(Vec<f32>),
    Scale(f32),
    Project(Vec<f32>),
    Blend { gates: Vec<f32>, towards: Vec<f32> },
    Clamp { low: Vec<f32>, high: Vec<f32> },
    KeepTop(usize),
    Rows(Vec<Vec<f32>>),
    Resample { seed: u64, donors: Donors },
    Patch { file: PathBuf, tensor: Option<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Donors {
    Positions,
    Rows,
}

#[derive(Clone, Debug)]
pub(super) enum Positions {
    All,
    First,
    Last,
    Pairs(Vec<[u32; 2]>),
}

/// What may stand at every level.
const WRITING: [&str; 13] = [
    "kind",
    "positions",
    "values",
    "factor",
    "direction",
    "gates",
    "towards",
    "low",
    "high",
    "k",
    "seed",
    "donors",
    "from",
];
const TOP: [&str; 4] = ["name", "edits", "arms", "clean"];
const ARM: [&str; 2] = ["name", "edits"];
const EDIT: [&str; 4] = ["site", "layer", "neurons", "groups"];

/// The keys of each kind.
const KINDS: [(&str, &[&str]); 11] = [
    ("zero", &[]),
    ("mean", &["values"]),
    ("set", &["values"]),
    ("add", &["values"]),
    ("scale", &["factor"]),
    ("project", &["direction"]),
    ("blend", &["gates", "towards"]),
    ("clamp", &["low", "high"]),
    ("keep_top", &["k"]),
    ("resample", &["values", "seed", "donors"]),
    ("patch", &["from"]),
];
const EXAMPLE: &str = r#"write {"kind": "zero", "edits": [{"layer": 0, "neurons": [1, 2]}]}"#;

impl Intervention {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = disk::read_to_string(path).map_err(Error::io(path, "read"))?;
        Self::parse(&text, path)
    }

    /// The text of a file; other files that it names are looked for beside `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let not = |what: String| {
            Error::config(file.clone(), format!("not an intervention: {what}"), EXAMPLE)
        };
        let value: Value = serde_json::from_str(text).map_err(|error| not(error.to_string()))?;
        let top = Object::of_file(&value, &file).ok_or_else(|| not("it is no object".into()))?;
        top.only(&[&TOP[..], &WRITING])?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let Some(arms) = top.get("arms") else {
            if top.get("clean").is_some() {
                let remedy = "name the edited run: {\"clean\": true, \"arms\": [{\"name\": ...}]}";
                return Err(Error::config(top.key("clean"), "goes with 'arms'", remedy));
            }
            let missing = || not("it has neither 'edits' nor 'arms'".into());
            let edits = top.get("edits").ok_or_else(missing)?;
            let edits = edits_of(edits, &top.key("edits"), (&[&top], folder))?;
            return Ok(Self { arms: vec![Arm { name: String::new(), edits }], named: false });
        };
        if top.get("edits").is_some() {
            let what = "a file has either 'edits' or 'arms'";
            return Err(Error::config(top.key("edits"), what, "put the edits into an arm"));
        }
        let mut all = Vec::new();
        if flag(&top, "clean")? {
            all.push(Arm { name: "clean".into(), edits: Vec::new() });
        }
        let arms = arms.as_array().filter(|arms| !arms.is_empty()).ok_or_else(|| {
            let remedy = r#"write "arms": [{"name": "off", "edits": [...]}]"#;
            Error::config(top.key("arms"), "is no list of runs, or an empty one", remedy)
        })?;
        for (i, arm) in arms.iter().enumerate() {
            all.push(Arm::of(arm, &format!("{}[{i}]", top.key("arms")), (&top, folder), &all)?);
        }
        Ok(Self { arms: all, named: true })
    }
}

impl Arm {
    fn of(
        value: &Value,
        place: &str,
        (top, folder): (&Object<'_>, &Path),
        before: &[Arm],
    ) -> Result<Self> {
        let remedy = r#"write {"name": "off", "edits": [...]}"#;
        let refuse = |key: String, what: &str| Err(Error::config(key, what, remedy));
        let Some(arm) = Object::of(value, place) else {
            return refuse(place.into(), "is no object");
        };
        arm.only(&[&ARM[..], &WRITING])?;
        let name = arm.get("name").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() || name.contains('/') {
            return refuse(arm.key("name"), "an arm needs a name, and without '/'");
        }
        if before.iter().any(|other| other.name == name) {
            return refuse(arm.key("name"), &format!("'{name}' is the name of another arm"));
        }
        let Some(edits) = arm.get("edits") else {
            return refuse(arm.key("edits"), "an arm needs a list of edits, which may be empty");
        };
        let edits = edits_of(edits, &arm.key("edits"), (&[&arm, top], folder))?;
        Ok(Self { name: name.to_owned(), edits })
    }
}

fn flag(top: &Object<'_>, key: &str) -> Result<bool> {
    match top.get(key) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| {
            Error::config(top.key(key), "is neither true nor false", "write true or false")
        }),
    }
}

/// A list of edits, over what their file says for all of them.
fn edits_of(
    value: &Value,
    place: &str,
    (above, folder): (&[&Object<'_>], &Path),
) -> Result<Vec<EditSpec>> {
    let list = value
        .as_array()
        .ok_or_else(|| Error::config(place, "not an intervention: 'edits' is no list", EXAMPLE))?;
    let mut edits = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let place = format!("{place}[{i}]");
        let edit = Object::of(value, &place)
            .ok_or_else(|| Error::config(&place, "not an intervention: no object", EXAMPLE))?;
        edit.only(&[&EDIT[..], &WRITING])?;
        let site = site_of(&edit)?;
        let layers: Vec<&Object<'_>> = [&edit].into_iter().chain(above.iter().copied()).collect();
        let settings = Settings(&layers);
        let writing = writing_of(&edit, &settings, folder)?;
        let positions = positions_of(&settings)?;
        for (place, neurons) in groups_of(&edit)? {
            let (writing, positions) = (writing.clone(), positions.clone());
            edits.push(EditSpec { place, site, neurons, writing, positions });
        }
    }
    Ok(edits)
}

fn site_of(edit: &Object<'_>) -> Result<Site> {
    let layer = |value: &Value| value.as_u64().and_then(|layer| u32::try_from(layer).ok());
    let site = match (edit.get("site"), edit.get("layer")) {
        (Some(name), None) => {
            let name = name.as_str().unwrap_or_default();
            name.parse::<Site>().map_err(|error| match error {
                Error::Config { what, remedy, .. } => {
                    Error::config(edit.key("site"), format!("'{name}': {what}"), remedy)
                }
                other => other,
            })?
        }
        (None, Some(value)) => match layer(value) {
            Some(layer) => Site::of_layer(layer, SiteKind::MlpAct),
            None => {
                let remedy = "write \"layer\": 0 for layers.0.mlp_act";
                return Err(Error::config(edit.key("layer"), "is no number of a layer", remedy));
            }
        },
        _ => {
            let what = "needs either 'site' or 'layer'";
            let remedy = "write \"layer\": 0 for layers.0.mlp_act";
            return Err(Error::config(&edit.place, what, remedy));
        }
    };
    if matches!(site.kind, SiteKind::AttnProbs) {
        let what = format!("'{site}' can be read but not edited");
        let remedy = "edit head_out, what the probabilities give";
        return Err(Error::config(&edit.place, what, remedy));
    }
    Ok(site)
}

/// The lists of neurons, each with where it stands; none for all.
fn groups_of(edit: &Object<'_>) -> Result<Vec<(String, Option<Vec<u32>>)>> {
    let list = |value: &Value, place: &str| -> Result<Option<Vec<u32>>> {
        if value.as_str() == Some("all") {
            return Ok(None);
        }
        let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let neurons: Option<Vec<u32>> =
            value.as_array().and_then(|list| list.iter().map(number).collect());
        neurons.map(Some).ok_or_else(|| {
            let what = format!("neurons {value} is neither a list of numbers nor \"all\"");
            Error::config(place, what, "write [3, 17] or \"all\"")
        })
    };
    match (edit.get("neurons"), edit.get("groups")) {
        (Some(neurons), None) => {
            Ok(vec![(edit.place.clone(), list(neurons, &edit.key("neurons"))?)])
        }
        (None, Some(groups)) => {
            let groups =
                groups.as_object().filter(|groups| !groups.is_empty()).ok_or_else(|| {
                    let remedy = r#"write "groups": {"a": [1, 2], "b": [7]}"#;
                    Error::config(edit.key("groups"), "is no object of lists of neurons", remedy)
                })?;
            let place = |name: &str| format!("{}.groups.{name}", edit.place);
            groups.iter().map(|(n, value)| Ok((place(n), list(value, &place(n))?))).collect()
        }
        _ => {
            let what = "needs either 'neurons' or 'groups'";
            Err(Error::config(&edit.place, what, "write \"neurons\": [3, 17] or \"all\""))
        }
    }
}

fn writing_of(edit: &Object<'_>, settings: &Settings<'_>, folder: &Path) -> Result<Writing> {
    let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    let one_of = format!("one of {}", names.join(", "));
    let (place, kind) = settings
        .find("kind")
        .ok_or_else(|| Error::config(&edit.place, "needs a 'kind'", &one_of))?;
    let known = KINDS.iter().find(|(name, _)| kind.as_str() == Some(name));
    let Some(&(kind, keys)) = known else {
        return Err(Error::config(place, format!("there is no kind {kind}"), one_of));
    };
    let stray = |key: &&str| edit.get(key).is_some() && !keys.contains(key);
    let other = WRITING[2..].iter().find(|key| stray(key));
    if let Some(key) = other {
        let what = format!("kind '{kind}' does not read it");
        return Err(Error::config(edit.key(key), what, "leave it out, or see `kind`"));
    }
    Ok(match kind {
        "zero" => Writing::Set(vec![0.0]),
        "mean" | "set" => Writing::Set(settings.numbers("values", kind)?),
        "add" => Writing::Add(settings.numbers("values", kind)?),
        "scale" => Writing::Scale(settings.number("factor", kind)?),
        "project" => Writing::Project(settings.numbers("direction", kind)?),
        "blend" => Writing::Blend {
            gates: settings.shares("gates", kind)?,
            towards: settings.numbers_or("towards", kind, 0.0)?,
        },
        "clamp" if settings.find("high").is_none() => {
            Writing::Clamp { low: settings.numbers("low", kind)?, high: vec![f32::INFINITY] }
        }
        "clamp" => Writing::Clamp {
            low: settings.numbers_or("low", kind, f32::NEG_INFINITY)?,
            high: settings.numbers("high", kind)?,
        },
        "keep_top" => Writing::KeepTop(settings.count("k", kind)?),
        "patch" => patch_of(settings, folder)?,
        _ if settings.find("seed").is_none() => Writing::Rows(settings.rows("values", kind)?),
        _ => Writing::Resample {
            seed: settings.count("seed", kind)? as u64,
            donors: match settings.word("donors", &["positions", "rows"])? {
                Some("rows") => Donors::Rows,
                _ => Donors::Positions,
            },
        },
    })
}

fn patch_of(settings: &Settings<'_>, folder: &Path) -> Result<Writing> {
    let remedy = r#"write "from": {"file": "other.safetensors", "tensor": "layers.0.mlp_act"}"#;
    let missing = || Error::config(settings.place(), "kind 'patch' needs 'from'", remedy);
    let (place, value) = settings.find("from").ok_or_else(missing)?;
    let wrong = |what: &str| Error::config(place.clone(), what, remedy);
    let from = Object::of(value, &place).ok_or_else(|| wrong("is no object"))?;
    from.only(&[&["file", "tensor"]])?;
    let text = |key: &str| match from.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Error::config(from.key(key), "is no text", remedy)),
    };
    let file = text("file")?.ok_or_else(|| wrong("names no file"))?;
    Ok(Writing::Patch { file: folder.join(file), tensor: text("tensor")? })
}

fn positions_of(settings: &Settings<'_>) -> Result<Positions> {
    let Some((place, value)) = settings.find("positions") else { return Ok(Positions::All) };
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let pair = |value: &Value| match &value.as_array()?[..] {
        [row, position] => Some([number(row)?, number(position)?]),
        _ => None,
    };
    let pairs = || value.as_array()?.iter().map(pair).collect::<Option<Vec<_>>>();
    match value.as_str() {
        Some("all") => Ok(Positions::All),
        Some("first") => Ok(Positions::First),
        Some("last") => Ok(Positions::Last),
        _ => pairs().map(Positions::Pairs).ok_or_else(|| {
            let remedy = "write [[0, 3], [1, 2]], \"first\", \"last\" or \"all\"";
            Error::config(place, "are no [row, position] pairs of the input ids", remedy)
        }),
    }
}
