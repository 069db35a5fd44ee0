//! Which files a corpus is: globs and folders spelled out, formats told from suffixes.

use std::path::{Path, PathBuf};

use crate::corpus::config::{CorpusConfig, Format};
use crate::error::{Error, Result};

/// How a file is packed, told from its last suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all: its byte offsets can be jumped to.
    Plain,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstd,
}

/// One file of the corpus and all that is known about it before it is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The file itself.
    pub path: PathBuf,
    /// How it is read.
    pub format: Format,
    /// How it is packed.
    pub packing: Packing,
    /// `parallel`: the file with the labels.
    pub label_path: Option<PathBuf>,
    /// Classes of everything in the file, as `(column, class)`.
    pub labels: Vec<(String, String)>,
}

/// The files of a corpus in the order they are read.
pub fn sources(config: &CorpusConfig) -> Result<Vec<Source>> {
    let files = expand("corpus.files", &config.files, config.format)?;
    let mut sources = Vec::with_capacity(files.len());
    for (path, _) in &files {
        let (format, packing) = format_of(path, config.format)?;
        let (path, labels) = (path.clone(), Vec::new());
        sources.push(Source { path, format, packing, label_path: None, labels });
    }
    add_label_files(config, &mut sources)?;
    for (column, classes) in &config.file_labels {
        let entries = config.files.len();
        if classes.len() != entries && classes.len() != files.len() {
            return Err(Error::config(
                format!("corpus.file_labels.{column}"),
                format!(
                    "{} classes for {entries} entries of corpus.files ({} files)",
                    classes.len(),
                    files.len()
                ),
                "give one class per entry of corpus.files, or one per file in reading order",
            ));
        }
        for (number, source) in sources.iter_mut().enumerate() {
            let index = if classes.len() == entries { files[number].1 } else { number };
            source.labels.push((column.clone(), classes[index].clone()));
        }
    }
    Ok(sources)
}

/// Pairs word files with label files (`parallel` only).
fn add_label_files(config: &CorpusConfig, sources: &mut [Source]) -> Result<()> {
    let parallel = sources.iter().filter(|source| source.format == Format::Parallel).count();
    if parallel == 0 && config.label_files.is_empty() {
        return Ok(());
    }
    let labels = expand("corpus.label_files", &config.label_files, Some(Format::Parallel))?;
    if parallel != sources.len() || labels.len() != sources.len() {
        return Err(Error::config(
            "corpus.label_files",
            format!("{} label files for {} word files", labels.len(), sources.len()),
            "with format = \"parallel\" give one label file per word file, in the same order; \
             with other formats give none",
        ));
    }
    for (source, (path, _)) in sources.iter_mut().zip(labels) {
        source.label_path = Some(path);
    }
    Ok(())
}

/// Each file with the number of the entry that named it.
fn expand(key: &str, entries: &[PathBuf], format: Option<Format>) -> Result<Vec<(PathBuf, usize)>> {
    let mut files = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let found = if entry.is_dir() {
            folder(entry, format)?
        } else if !entry.exists() && is_pattern(entry) {
            pattern(key, entry)?
        } else {
            std::fs::metadata(entry).map_err(Error::io(entry, "read"))?;
            vec![entry.clone()]
        };
        if found.is_empty() {
            return Err(Error::config(
                key,
                format!("'{}' holds no file to read", entry.display()),
                "name files, or a folder of .conllu, .jsonl, .txt or .parquet files \
                 (.gz and .zst on top); other suffixes need corpus.format",
            ));
        }
        files.extend(found.into_iter().map(|path| (path, number)));
    }
    if files.is_empty() {
        return Err(Error::config(key, "names no file", "give at least one file"));
    }
    Ok(files)
}

/// Whether a path has characters only a glob would have.
fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// The readable files of a folder by name; hidden ones and unknown suffixes are passed over.
fn folder(path: &Path, format: Option<Format>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path, "read"))? {
        let file = entry.map_err(Error::io(path, "read"))?.path();
        let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if file.is_file() && !hidden && (format.is_some() || format_of(&file, None).is_ok()) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The files a glob matches, in alphabetical order.
fn pattern(key: &str, path: &Path) -> Result<Vec<PathBuf>> {
    let text = path.to_string_lossy();
    let matches = glob::glob(&text).map_err(|error| {
        Error::config(key, format!("'{text}' is not a pattern: {error}"), "see glob(7)")
    })?;
    let mut files = Vec::new();
    for found in matches {
        let file = found.map_err(|error| {
            let path = error.path().to_path_buf();
            Error::io(path, "read")(error.into())
        })?;
        if file.is_file() {
            files.push(file);
        }
    }
    Ok(files)
}

/// The packing a path's last suffix tells.
pub(super) fn packing_of(path: &Path) -> Packing {
    match path.extension().map(|suffix| suffix.to_string_lossy().to_lowercase()).as_deref() {
        Some("gz") => Packing::Gzip,
        Some("zst") => Packing::Zstd,
        _ => Packing::Plain,
    }
}

/// Format and packing from the suffixes; a given format wins over the suffix.
fn format_of(path: &Path, given: Option<Format>) -> Result<(Format, Packing)> {
    let lower = path.to_string_lossy().to_lowercase();
    let packing = packing_of(path);
    let stem = lower.trim_end_matches(".gz").trim_end_matches(".zst");
    let told = match stem.rsplit('.').next() {
        Some("conllu" | "conll") => Some(Format::Conllu),
        Some("jsonl" | "ndjson") => Some(Format::Jsonl),
        Some("txt" | "text") => Some(Format::Text),
        Some("parquet") => Some(Format::Parquet),
        _ => None,
    };
    let format = given.or(told).ok_or_else(|| {
        Error::config(
            "corpus.format",
            format!("cannot tell the format of '{}' from its suffix", path.display()),
            "set corpus.format to text, jsonl, conllu, parallel or parquet",
        )
    })?;
    if format == Format::Parquet && packing != Packing::Plain {
        return Err(Error::config(
            "corpus.files",
            format!("'{}' is a packed Parquet file", path.display()),
            "unpack it: Parquet compresses inside the file",
        ));
    }
    Ok((format, packing))
}
