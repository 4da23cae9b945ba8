//! Which entries of a volume are restored: everything, or what a person named.

use crate::domain::error::Invalid;
use globset::{GlobBuilder, GlobMatcher};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// The paths a person named. Empty: everything.
#[derive(Debug, Default)]
pub struct Selection {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    glob: GlobMatcher,
}

impl Selection {
    /// Paths relative to the volume's root (`alice/notes`, `./alice/`, `*/.bashrc`): each selects the entry of that
    /// very name, what a glob of it matches (`*` stops at `/`, `**` does not), and everything below.
    ///
    /// # Errors
    /// A path that leaves the volume, or a glob that cannot be read.
    pub fn new(paths: &[String]) -> Result<Self, Invalid> {
        let patterns = paths.iter().map(|path| Pattern::new(path)).collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// True when nothing was named.
    pub fn is_everything(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Which named path selects `path` (relative, without `./`), if everything is not selected anyway.
    pub fn which(&self, path: &[u8]) -> Option<usize> {
        self.patterns.iter().position(|pattern| pattern.selects(path))
    }

    /// True when `path` is to be restored.
    pub fn selects(&self, path: &[u8]) -> bool {
        self.is_everything() || self.which(path).is_some()
    }

    /// The paths as they were named.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|p| p.text.as_str())
    }
}

impl Pattern {
    fn new(path: &str) -> Result<Self, Invalid> {
        let text = path.trim_start_matches("./").trim_matches('/');
        if text.is_empty() || text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Invalid::new(format!(
                "{path:?} is not a path in a volume: write one relative to its root, such as alice/notes"
            )));
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map_err(|e| Invalid::new(format!("{path:?} is not a glob: {}", e.kind())))?;
        Ok(Self { text: text.to_owned(), glob: glob.compile_matcher() })
    }

    fn selects(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| {
            let ancestor = &path[..end];
            ancestor == self.text.as_bytes() || self.glob.is_match(Path::new(OsStr::from_bytes(ancestor)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_globs() {
        let cases: [(&str, &[&str], &[&str]); 5] = [
            ("alice/notes", &["alice/notes", "alice/notes/x"], &["alice", "alice/notes2", "bob/alice/notes"]),
            ("./alice/", &["alice", "alice/x/y"], &["alicex"]),
            ("*/.bashrc", &["alice/.bashrc"], &[".bashrc", "a/b/.bashrc"]),
            ("**/*.txt", &["a.txt", "x/y/a.txt"], &["a.txt2"]),
            ("odd[1]", &["odd[1]", "odd1"], &["odd2"]),
        ];
        for (pattern, yes, no) in cases {
            let selection = Selection::new(&[pattern.to_owned()]).unwrap();
            for path in yes {
                assert!(selection.selects(path.as_bytes()), "{pattern} {path}");
            }
            for path in no {
                assert!(!selection.selects(path.as_bytes()), "{pattern} {path}");
            }
        }
        for bad in ["", "/", "..", "a/../b", "a//b", "[", "./."] {
            assert!(Selection::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(Selection::default().selects(b"x"));
    }
}
