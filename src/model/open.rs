//! A model folder, opened: its description, and its weights on demand.

use std::path::{Path, PathBuf};

use super::arch::{self, Architecture, Keys};
use super::hub::{self, HubEnvironment};
use super::random;
use super::settings::Settings;
use super::spec::{ModelSpec, Param};
use super::tensor::{HostTensor, Located};
use super::weights::{Weights, present};
use crate::error::{Error, Result};
use crate::hash::sha256_of_file;

/// Files beside the weights that decide what a model computes from a text.
const COMPANIONS: [&str; 3] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// A model: what it is, and where its weights are. Opening reads headers only.
pub struct Model {
    /// What it computes.
    pub spec: ModelSpec,
    /// Where it is.
    pub folder: PathBuf,
    pub(super) config: PathBuf,
    pub(super) architecture: &'static Architecture,
    pub(super) prefix: &'static str,
    /// The head's last matrix is the token table.
    tied: bool,
    pub(super) weights: Weights,
    /// Weights are made up from this, not read.
    random: Option<u64>,
}

impl Model {
    /// Opens a folder with `config.json` and safetensors, or `org/name[@revision]` in the local
    /// Hub cache. Every tensor that the description asks for is checked to be there.
    pub fn open(path_or_name: &str) -> Result<Self> {
        Self::open_in(path_or_name, &HubEnvironment::from_process())
    }

    /// As [`Model::open`], with the cache where `environment` says.
    pub fn open_in(path_or_name: &str, environment: &HubEnvironment) -> Result<Self> {
        let folder = hub::resolve(path_or_name, environment)?;
        Self::open_with_config(&folder, &folder.join("config.json"))
    }

    /// Opens the weights in `folder` as `config` describes them.
    pub fn open_with_config(folder: &Path, config: &Path) -> Result<Self> {
        if !present(config)? {
            return Err(Error::config(
                folder.display().to_string(),
                format!("{} is missing", config.display()),
                "give a model folder saved with save_pretrained",
            ));
        }
        let settings = Settings::read(config)?;
        let architecture = arch::find(&settings)?;
        let weights = Weights::open(folder)?;
        let keys = Keys::new(architecture, &settings, &weights)?;
        let spec = (architecture.describe)(&settings, &keys)?;
        arch::check(&spec, &settings)?;
        let prefix = keys.prefix;
        // A matrix of its own wins even where the configuration says tied, as in transformers 5:
        // the two are equal unless somebody trained them apart.
        let own_head = architecture
            .locate(Param::Head, &spec, prefix, &weights)
            .is_some_and(|located| located.is_there(&weights));
        let tied = keys.tied && !own_head;
        let model = Self {
            spec,
            folder: folder.to_path_buf(),
            config: config.to_path_buf(),
            architecture,
            prefix,
            tied,
            weights,
            random: None,
        };
        for (param, _) in model.spec.params() {
            model.locate(param)?.check(&model.weights)?;
        }
        Ok(model)
    }

    /// A model of the shape that a `config.json` describes (its path, for messages, and its text),
    /// with weights made up from `seed`. It has no head of its own; a tied one is there.
    pub fn random((config, text): (&Path, &[u8]), seed: u64) -> Result<Self> {
        let settings = Settings::parse(config, text)?;
        let architecture = arch::find(&settings)?;
        let weights = Weights::none(config);
        let keys = Keys::new(architecture, &settings, &weights)?;
        let spec = (architecture.describe)(&settings, &keys)?;
        arch::check(&spec, &settings)?;
        let (prefix, tied) = (keys.prefix, keys.tied);
        Ok(Self {
            spec,
            folder: config.parent().unwrap_or(Path::new("")).to_path_buf(),
            config: config.to_path_buf(),
            architecture,
            prefix,
            tied,
            weights,
            random: Some(seed),
        })
    }

    /// Whether the model has this weight.
    pub fn has(&self, param: Param) -> bool {
        self.spec.shape(param).is_some()
    }

    /// Whether `Param::Head` is the token table.
    pub fn head_is_tied(&self) -> bool {
        self.tied && self.has(Param::Head)
    }

    /// A weight in float32, `[out, in]` if it is a matrix.
    pub fn tensor(&self, param: Param) -> Result<HostTensor> {
        if let Some(seed) = self.random {
            return Ok(random::tensor(&self.spec, param, seed));
        }
        let located = self.locate(param)?;
        let shape = self.spec.shape(param).expect("located, so there is one");
        located.read(shape, &self.weights)
    }

    /// The types the weights are stored in with the bytes of each, largest first.
    pub fn stored_types(&self) -> Result<Vec<(String, u64)>> {
        let mut types: Vec<(String, u64)> = Vec::new();
        for (param, _) in self.spec.params() {
            if param == Param::Head && self.tied {
                continue;
            }
            for key in self.locate(param)?.keys() {
                let Some((name, bytes)) = self.weights.stored(key) else { continue };
                match types.iter_mut().find(|(known, _)| known == name) {
                    Some((_, sum)) => *sum += bytes,
                    None => types.push((name.to_owned(), bytes)),
                }
            }
        }
        types.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Ok(types)
    }

    /// The fast tokenizer saved with the model.
    pub fn tokenizer_path(&self) -> Result<PathBuf> {
        let path = self.folder.join("tokenizer.json");
        if present(&path)? {
            return Ok(path);
        }
        Err(Error::config(
            self.folder.display().to_string(),
            "tokenizer.json is missing",
            "save the fast tokenizer into the folder: \
             AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)",
        ))
    }

    /// Ids that end a text, ascending: `eos_token_id` of `generation_config.json`, or of the
    /// configuration where that says nothing.
    pub fn end_tokens(&self) -> Result<Vec<u32>> {
        let generation = self.folder.join("generation_config.json");
        for path in [&generation, &self.config] {
            if present(path)?
                && let Some(ids) = Settings::read(path)?.tokens("eos_token_id")?
            {
                return Ok(ids);
            }
        }
        Ok(Vec::new())
    }

    /// Name, size and SHA-256 of the configuration, the tokenizer and the weight files, in that
    /// order.
    pub fn hashes(&self) -> Result<Vec<(String, u64, String)>> {
        self.files()?.iter().map(|path| hash(path)).collect()
    }

    /// The files that decide what it says.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut paths = vec![self.config.clone()];
        for name in COMPANIONS {
            let path = self.folder.join(name);
            if present(&path)? {
                paths.push(path);
            }
        }
        paths.extend(self.weights.paths().map(Path::to_path_buf));
        Ok(paths)
    }

    /// Fails if a weight file was replaced or written to since it was opened.
    pub fn check_unchanged(&self) -> Result<()> {
        self.weights.check_unchanged()
    }

    pub(super) fn locate(&self, param: Param) -> Result<Located> {
        let param = if param == Param::Head && self.head_is_tied() { Param::Tokens } else { param };
        self.architecture.locate(param, &self.spec, self.prefix, &self.weights).ok_or_else(|| {
            let what = format!("{} has no weight {param:?}", self.spec.architecture);
            Error::Contradiction { what }
        })
    }
}

/// Name, size and SHA-256 of a file, read once from end to end.
fn hash(path: &Path) -> Result<(String, u64, String)> {
    let (size, digest) = sha256_of_file(path)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok((name, size, digest))
}
