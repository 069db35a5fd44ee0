//! The machine code of the kernels: embedded at build time, compiled by NVRTC and kept on disk, or
//! from a folder (tests without a GPU, tuning runs).

use std::borrow::Cow;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::nvrtc;
use crate::disk;
use crate::error::{Error, Result};

/// One `kernels/<stem>.cu`.
pub(super) struct Stem {
    pub(super) name: &'static str,
    /// Runs on compute capability 9.0 alone.
    pub(super) hopper: bool,
    /// sm_80 and sm_90a code and compute_80 PTX, where nvcc was there at build time.
    pub(super) fatbin: Option<&'static [u8]>,
    /// The source with its headers in it.
    pub(super) source: &'static str,
    /// Its entry points.
    pub(super) kernels: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Machine code in one of the driver's formats.
pub(super) type Image = Cow<'static, [u8]>;

/// Where the machine code comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Images {
    /// The program itself; NVRTC where it was built without nvcc.
    Embedded,
    /// A folder with a file `<stem>.bin` for each stem: `ELECTRODE_KERNEL_IMAGES`.
    Folder(PathBuf),
}

impl Images {
    /// As the environment says.
    pub fn from_env() -> Self {
        match std::env::var_os("ELECTRODE_KERNEL_IMAGES") {
            Some(folder) if !folder.is_empty() => Self::Folder(folder.into()),
            _ => Self::Embedded,
        }
    }

    /// Where the code for a device comes from, in a word or two; why there is none otherwise.
    pub(super) fn origin(&self) -> std::result::Result<&'static str, String> {
        match self {
            Self::Folder(_) => Ok("from ELECTRODE_KERNEL_IMAGES"),
            Self::Embedded if STEMS.iter().all(|stem| stem.fatbin.is_some()) => Ok("embedded"),
            Self::Embedded if nvrtc::present() => Ok("compiled by NVRTC"),
            Self::Embedded => Err("this program was built without nvcc, and NVRTC (libnvrtc) is \
                                   not installed either"
                .to_owned()),
        }
    }

    /// The stems a device of this compute capability runs, with their code.
    pub(super) fn load(&self, arch: (u32, u32)) -> Result<Vec<(&'static Stem, Image)>> {
        STEMS
            .iter()
            .filter(|stem| !stem.hopper || arch == (9, 0))
            .map(|stem| Ok((stem, self.image(stem, arch)?)))
            .collect()
    }

    fn image(&self, stem: &'static Stem, arch: (u32, u32)) -> Result<Image> {
        match (self, stem.fatbin) {
            (Self::Folder(folder), _) => {
                let path = folder.join(format!("{}.bin", stem.name));
                disk::read(&path).map(Cow::Owned).map_err(Error::io(&path, "read"))
            }
            (Self::Embedded, Some(fatbin)) => Ok(Cow::Borrowed(fatbin)),
            (Self::Embedded, None) => compiled(stem, arch).map(Cow::Owned),
        }
    }
}

/// The code NVRTC makes of a source, from the cache if it was made before.
fn compiled(stem: &Stem, arch: (u32, u32)) -> Result<Vec<u8>> {
    let target = nvrtc::target(arch);
    let version = nvrtc::version()?;
    let key = blake3::hash(format!("{version:?} {target}\n{}", stem.source).as_bytes()).to_hex();
    let cache =
        cache_folder().map(|folder| folder.join(format!("{}-{}.cubin", stem.name, &key[..32])));
    if let Some(image) = cache.as_deref().and_then(|path| disk::read(path).ok()) {
        return Ok(image);
    }
    tracing::info!(stem = stem.name, target, "compiling kernels with NVRTC, once");
    let image = nvrtc::compile(stem.name, stem.source, &target)?;
    if let Some(Err(error)) = cache.map(|path| keep(&path, &image)) {
        tracing::warn!(%error, "compiled kernels cannot be kept; the next run compiles them again");
    }
    Ok(image)
}

/// Written beside and renamed, so that a run beside this one never reads half a file.
fn keep(path: &Path, image: &[u8]) -> Result<()> {
    let folder = path.parent().expect("a file in a folder");
    disk::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let made = tempfile::Builder::new().make_in(folder, |path| disk::File::create_new(path));
    let mut file = made.map_err(Error::io(folder, "create"))?;
    file.write_all(image).map_err(Error::io(path, "write"))?;
    let name = file.into_temp_path();
    disk::rename(&name, path).map_err(Error::io(path, "rename"))?;
    let _ = name.keep();
    Ok(())
}

/// `$XDG_CACHE_HOME/electrode/kernels`, or the same under `~/.cache`.
fn cache_folder() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")))?;
    Some(cache.join("electrode/kernels"))
}
