//! `-f`: documents from files, from the files of a directory, or from standard input.

use crate::cli::problem::Problem;
use anyhow::Context as _;
use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Most bytes read of one file: more than any text that is accepted.
const MOST_BYTES: u64 = 2 << 20;

/// A text and what it is called in messages.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file as it was given, or `stdin`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Reads each path: `-` is standard input, of a directory its `.yaml` and `.yml` files in order of their names.
///
/// # Errors
/// A path that cannot be read, with its name.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Problem> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            sources.push(Source { name: "stdin".to_owned(), text: text(io::stdin().lock(), "stdin")? });
        } else if path.is_dir() {
            for file in files(path)? {
                sources.push(one(&file)?);
            }
        } else {
            sources.push(one(path)?);
        }
    }
    Ok(sources)
}

fn one(path: &Path) -> Result<Source, Problem> {
    let name = path.display().to_string();
    let file = fs::File::open(path).with_context(|| format!("{name} cannot be read"))?;
    Ok(Source { text: text(file, &name)?, name })
}

fn text(from: impl io::Read, name: &str) -> Result<String, Problem> {
    let mut text = String::new();
    from.take(MOST_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("{name} cannot be read as text"))?;
    Ok(text)
}

/// The documents' files in a directory; hidden ones are somebody's work in progress.
fn files(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("{} cannot be read", directory.display()))?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let document = path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
        if document && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
