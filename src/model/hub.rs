//! Names of models: a folder, or `org/name[@revision]` in the local cache of the Hugging Face Hub.
//! The network is never asked.

use std::env;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{Error, Result};

/// What the environment says about where the cache is.
#[derive(Clone, Debug, Default)]
pub struct HubEnvironment {
    /// `HF_HUB_CACHE`: the cache itself.
    pub hub_cache: Option<PathBuf>,
    /// `HF_HOME`: the cache is the folder `hub` in it.
    pub hf_home: Option<PathBuf>,
    /// `HOME`: the cache is `.cache/huggingface/hub` in it.
    pub home: Option<PathBuf>,
}

impl HubEnvironment {
    /// As this process was started.
    pub fn from_process() -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { hub_cache: path("HF_HUB_CACHE"), hf_home: path("HF_HOME"), home: path("HOME") }
    }

    /// The folder of the cache, and the variable that decided.
    fn cache(&self) -> Option<(PathBuf, &'static str)> {
        if let Some(cache) = &self.hub_cache {
            return Some((cache.clone(), "HF_HUB_CACHE"));
        }
        if let Some(home) = &self.hf_home {
            return Some((home.join("hub"), "HF_HOME"));
        }
        let home = self.home.as_ref()?;
        Some((home.join(".cache/huggingface/hub"), "HOME"))
    }
}

/// The folder of a model. An existing folder wins over a name in the cache.
pub fn resolve(path_or_name: &str, environment: &HubEnvironment) -> Result<PathBuf> {
    let path = Path::new(path_or_name);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let place = || format!("model '{path_or_name}'");
    if path.is_file() {
        let what = "is a file; a model is a folder with config.json and its weights";
        return Err(Error::config(place(), what, "give the folder that the file is in"));
    }
    let Some((name, revision)) = parse(path_or_name) else {
        let what = "no such folder, and not a name of the form org/name[@revision]";
        return Err(Error::config(place(), what, "check the path"));
    };
    let Some((cache, variable)) = environment.cache() else {
        let what = "no such folder, and no Hub cache: HF_HUB_CACHE, HF_HOME and HOME are not set";
        return Err(Error::config(place(), what, "give a folder, or set HF_HUB_CACHE"));
    };
    let repository = cache.join(format!("models--{}", name.replace('/', "--")));
    if !repository.is_dir() {
        return Err(Error::config(
            place(),
            format!(
                "no such folder, and not in the Hub cache: there is no {} ({variable} decides)",
                repository.display()
            ),
            format!("fetch it where there is a network: hf download {name}"),
        ));
    }
    snapshot(&repository, name, revision)
}

/// The folder of one revision.
fn snapshot(repository: &Path, name: &str, revision: &str) -> Result<PathBuf> {
    let remedy = format!("fetch it again: hf download {name} --revision {revision}");
    let snapshots = repository.join("snapshots");
    let reference = repository.join("refs").join(revision);
    let commit = match disk::read_to_string(&reference) {
        Ok(text) => text.trim().to_owned(),
        // A commit may be named directly.
        Err(_) if !revision.contains('/') && snapshots.join(revision).is_dir() => {
            return Ok(snapshots.join(revision));
        }
        Err(_) => {
            let what = format!("no revision '{revision}' in the cache: no such reference");
            return Err(Error::input(reference, what, remedy));
        }
    };
    if commit.is_empty() || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::input(reference, "is not the name of a commit", remedy));
    }
    let folder = snapshots.join(&commit);
    if !folder.is_dir() {
        let what = format!("'{revision}' is commit {commit}, whose files are not there");
        return Err(Error::input(folder, what, remedy));
    }
    Ok(folder)
}

/// `org/name[@revision]`, of the characters that the Hub allows, and no way out of the cache.
fn parse(text: &str) -> Option<(&str, &str)> {
    let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
    let plain = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
    };
    let fits = name.split('/').count() <= 2
        && !name.contains("--")
        && name.split('/').all(plain)
        && revision.split('/').all(plain);
    fits.then_some((name, revision))
}
