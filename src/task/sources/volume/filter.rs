//! Which paths of a volume are taken.
//!
//! Patterns are globs over paths relative to the volume's root:
//!
//! - `*` and `?` stand for text within one name, `**` for any number of names, `[ab]` for one of these characters,
//!   `{x,y}` for one of these texts;
//! - a pattern without `/` means the name at any depth: `*.tmp`, `.cache`;
//! - with `/` it is a path from the root, with or without a leading one: `alice/tmp`, `/.cache`, `*/.cache`;
//! - a trailing `/` means directories only: `build/`;
//! - a directory that matches means everything below it; `a/**` means what is below `a` and not `a` itself.
//!
//! What an exclude pattern matches is left out, also when an include pattern matches it. With include patterns only
//! what they match is taken, with the directories that lead to it.

use crate::domain::{error::Invalid, policy::Volume};
use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Store it; of a directory everything below, unless excluded.
    Take,
    /// A directory: look for what may be taken below it, and store it if there is anything.
    Enter,
    /// Leave it out, with everything below it.
    Skip,
}

/// The patterns of a volume, ready to match.
#[derive(Debug)]
pub struct Filter {
    include: Option<Include>,
    exclude: Option<Rules>,
}

#[derive(Debug)]
struct Include {
    rules: Rules,
    /// Directories on the way to what may be included; `None`: all.
    parents: Option<GlobSet>,
}

#[derive(Debug)]
struct Rules {
    any: GlobSet,
    directories: GlobSet,
}

impl Filter {
    /// Compiles the patterns of a volume.
    ///
    /// # Errors
    /// A pattern that is no glob, with its field.
    pub fn new(volume: &Volume) -> Result<Self, Invalid> {
        let include = match &volume.include[..] {
            [] => None,
            patterns => Some(Include {
                rules: Rules::new(patterns).map_err(|e| e.at("include"))?,
                parents: parents(patterns).map_err(|e| e.at("include"))?,
            }),
        };
        let exclude = match &volume.exclude[..] {
            [] => None,
            patterns => Some(Rules::new(patterns).map_err(|e| e.at("exclude"))?),
        };
        Ok(Self { include, exclude })
    }

    /// True when every path is taken, so that no path need be put together.
    pub(super) fn takes_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Decides on `path`, relative to the root, without a slash at its end. `within`: its directory is taken.
    pub(super) fn decide(&self, path: &[u8], directory: bool, within: bool) -> Decision {
        let candidate = Candidate::from_bytes(path);
        if self.exclude.as_ref().is_some_and(|rules| rules.match_one(&candidate, directory)) {
            return Decision::Skip;
        }
        let Some(include) = &self.include else { return Decision::Take };
        if within || include.rules.match_one(&candidate, directory) {
            return Decision::Take;
        }
        let leads = || include.parents.as_ref().is_none_or(|parents| parents.is_match_candidate(&candidate));
        if directory && leads() { Decision::Enter } else { Decision::Skip }
    }
}

impl Rules {
    fn new(patterns: &[String]) -> Result<Self, Invalid> {
        let mut any = GlobSetBuilder::new();
        let mut directories = GlobSetBuilder::new();
        for pattern in patterns {
            let path = anchored(pattern)?;
            match path.strip_suffix('/') {
                Some(path) => directories.add(glob(pattern, path)?),
                None => any.add(glob(pattern, &path)?),
            };
        }
        Ok(Self { any: set(&any)?, directories: set(&directories)? })
    }

    fn match_one(&self, candidate: &Candidate<'_>, directory: bool) -> bool {
        self.any.is_match_candidate(candidate)
            || (directory && self.directories.is_match_candidate(candidate))
    }
}

/// The pattern as a path from the root; a trailing `/` is kept.
fn anchored(pattern: &str) -> Result<String, Invalid> {
    let path = pattern.strip_prefix('.').filter(|rest| rest.starts_with('/')).unwrap_or(pattern);
    let inner = path.strip_suffix('/').unwrap_or(path);
    if inner.trim_matches('/').is_empty()
        || pattern.starts_with('!')
        || inner.split('/').any(|name| name == "..")
    {
        return Err(Invalid::new(format!(
            "{pattern:?} matches nothing below the root: write a path relative to it, such as alice/tmp, or a name, such as *.tmp; '!' has no meaning"
        )));
    }
    match path.strip_prefix('/') {
        Some(path) => Ok(path.to_owned()),
        None if inner.contains('/') => Ok(path.to_owned()),
        None => Ok(format!("**/{path}")),
    }
}

fn glob(pattern: &str, path: &str) -> Result<Glob, Invalid> {
    GlobBuilder::new(path).literal_separator(true).backslash_escape(true).build().map_err(|e| {
        let reason = e.kind();
        Invalid::new(format!(
            "{pattern:?} is not a glob: {reason}; escape a special character with a backslash"
        ))
    })
}

fn set(builder: &GlobSetBuilder) -> Result<GlobSet, Invalid> {
    builder.build().map_err(|e| Invalid::new(format!("the patterns are too large together: {}", e.kind())))
}

/// Globs of the directories that lead to what `patterns` may match; `None` when that may be anywhere.
fn parents(patterns: &[String]) -> Result<Option<GlobSet>, Invalid> {
    let mut set_of_parents = GlobSetBuilder::new();
    for pattern in patterns {
        let path = anchored(pattern)?;
        // A slash in an alternative or a class is no boundary of names: too rare to be taken apart.
        if path.starts_with("**") || path.contains(['{', '[', '\\']) {
            return Ok(None);
        }
        let names: Vec<_> = path.trim_end_matches('/').split('/').collect();
        for depth in 1..names.len() {
            let prefix = names[..depth].join("/");
            if names[depth - 1] == "**" {
                set_of_parents.add(glob(pattern, &prefix)?);
                break;
            }
            set_of_parents.add(glob(pattern, &prefix)?);
        }
    }
    set(&set_of_parents).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::VolumePlace;

    fn filter(include: &[&str], exclude: &[&str]) -> Result<Filter, Invalid> {
        let texts = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
        Filter::new(&Volume {
            name: "homes".parse().unwrap(),
            place: VolumePlace::HostPath("/".into()),
            include: texts(include),
            exclude: texts(exclude),
            optional: false,
            allow_empty: false,
            node_selector: Default::default(),
            one_file_system: true,
        })
    }

    /// Walks a tree as the walk does; gives the paths that are taken, directories with a slash.
    fn taken(include: &[&str], exclude: &[&str], tree: &[&str]) -> Vec<String> {
        let filter = filter(include, exclude).unwrap();
        tree.iter()
            .filter(|path| {
                let names: Vec<_> = path.trim_end_matches('/').split('/').collect();
                let mut within = false;
                let mut last = Decision::Take;
                for depth in 1..=names.len() {
                    let directory = depth < names.len() || path.ends_with('/');
                    last = filter.decide(names[..depth].join("/").as_bytes(), directory, within);
                    match last {
                        Decision::Take => within = true,
                        Decision::Enter => {}
                        Decision::Skip => break,
                    }
                }
                last == Decision::Take
            })
            .map(|path| (*path).to_owned())
            .collect()
    }

    const TREE: &[&str] = &[
        ".cache/",
        ".cache/x",
        "alice/",
        "alice/.cache/",
        "alice/.cache/y",
        "alice/notes.txt",
        "alice/build",
        "bob/",
        "bob/build/",
        "bob/build/out.o",
        "bob/src/",
        "bob/src/a.tmp",
        "bob/src/main.c",
    ];

    #[test]
    fn excludes() {
        let without = |patterns: &[&str]| -> Vec<_> {
            let kept = taken(&[], patterns, TREE);
            TREE.iter().filter(|path| !kept.iter().any(|k| k == *path)).copied().collect()
        };
        assert_eq!(without(&[".cache"]), [".cache/", ".cache/x", "alice/.cache/", "alice/.cache/y"]);
        assert_eq!(without(&["/.cache"]), [".cache/", ".cache/x"]);
        assert_eq!(without(&["./.cache/"]), [".cache/", ".cache/x"]);
        assert_eq!(without(&["*/.cache"]), ["alice/.cache/", "alice/.cache/y"]);
        assert_eq!(
            without(&["alice/**"]),
            ["alice/.cache/", "alice/.cache/y", "alice/notes.txt", "alice/build"]
        );
        assert_eq!(without(&["build/"]), ["bob/build/", "bob/build/out.o"]);
        assert_eq!(without(&["*.tmp", "*.{o,c}"]), ["bob/build/out.o", "bob/src/a.tmp", "bob/src/main.c"]);
        assert_eq!(
            without(&["bob/*"]),
            ["bob/build/", "bob/build/out.o", "bob/src/", "bob/src/a.tmp", "bob/src/main.c"]
        );
        assert_eq!(without(&["bo?/**/*.tmp"]), ["bob/src/a.tmp"]);
    }

    #[test]
    fn includes_take_what_is_below_and_enter_only_what_leads_there() {
        assert_eq!(taken(&["bob/src"], &[], TREE), ["bob/src/", "bob/src/a.tmp", "bob/src/main.c"]);
        assert_eq!(taken(&["bob/src"], &["*.tmp"], TREE), ["bob/src/", "bob/src/main.c"]);
        assert_eq!(taken(&["*.txt"], &[], TREE), ["alice/notes.txt"]);
        assert_eq!(taken(&["*/.cache/"], &[], TREE), ["alice/.cache/", "alice/.cache/y"]);
        let filter = filter(&["bob/src", "x/**/y", "*/z"], &[]).unwrap();
        for (path, expected) in [
            ("bob", Decision::Enter),
            ("carol", Decision::Enter),
            ("bob/build", Decision::Skip),
            ("x/1/2", Decision::Enter),
            ("bob/src", Decision::Take),
        ] {
            assert_eq!(filter.decide(path.as_bytes(), true, false), expected, "{path}");
        }
        assert_eq!(filter.decide(b"bob", false, false), Decision::Skip);
    }

    #[test]
    fn names_that_are_no_text_match_as_bytes() {
        let filter = filter(&[], &["*.tmp"]).unwrap();
        assert_eq!(filter.decide(b"a/\xff\n.tmp", false, true), Decision::Skip);
    }

    #[test]
    fn wrong_patterns_are_explained() {
        for bad in ["", "/", "./", "!x", "a/../b", "a[", "{a"] {
            let error = filter(&[], &[bad]).unwrap_err();
            assert_eq!(error.field, "exclude", "{bad:?}");
        }
    }
}
