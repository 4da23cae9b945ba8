//! The layers of the design, read from the paths that the source names.
//!
//! `domain`, `api` and `plan` are pure and common. On them stand two columns, `controller` < `orchestrators` and
//! `storage` < `task`, that never name each other: whoever decides cannot reach a remote or a database, whoever
//! moves bytes decides nothing. Only `cli` sees both.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Each layer with the layers that it may name besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("api", &["domain"]),
    ("plan", &["api", "domain"]),
    ("controller", &["plan", "api", "domain"]),
    ("orchestrators", &["controller", "plan", "api", "domain"]),
    ("storage", &["plan", "api", "domain"]),
    ("task", &["storage", "plan", "api", "domain"]),
    ("cli", &["orchestrators", "controller", "task", "storage", "plan", "api", "domain"]),
];

/// Layers without a clock or any input and output.
const PURE: &[&str] = &["domain", "api", "plan"];

/// What pure layers do not name.
const IMPURE: &[&str] = &[
    "tokio",
    "reqwest",
    "bollard",
    "kube",
    "mongodb",
    "rustix",
    "std::fs",
    "std::process",
    "std::net",
    "std::env",
    "std::thread",
    "std::io",
    "std::os",
];

/// Lines of one file without its tests.
const LONGEST: usize = 400;

/// Files by their path below `src`.
type Tree = BTreeMap<String, String>;

/// What is broken, a line for each.
fn violations(files: &Tree) -> Vec<String> {
    let code: BTreeMap<&str, String> = files
        .iter()
        .map(|(name, text)| (name.as_str(), source::without_tests(&source::strip(text))))
        .collect();
    let imports: BTreeMap<&str, BTreeSet<&str>> =
        code.iter().map(|(name, text)| (*name, imports(name, text, files))).collect();
    let mut broken = Vec::new();
    for (name, text) in &code {
        broken.extend(long(name, &files[*name], text));
        broken.extend(impure(name, text));
        broken.extend(imports[name].iter().filter_map(|target| crossing(name, target)));
    }
    broken.extend(circles(&imports));
    broken
}

/// The tests are all that `text` lacks but comments; those are counted from the original.
fn long(name: &str, original: &str, text: &str) -> Option<String> {
    let tests = source::strip(original).lines().count() - text.lines().count();
    let lines = original.lines().count() - tests;
    (lines > LONGEST).then(|| format!("{name} has {lines} lines without tests; at most {LONGEST}: divide it"))
}

fn impure(name: &str, text: &str) -> Vec<String> {
    if !PURE.contains(&layer(name)) {
        return Vec::new();
    }
    let named: BTreeSet<String> = source::paths(text).iter().map(|path| path.join("::")).collect();
    let below =
        |path: &str, root: &str| path.strip_prefix(root).is_some_and(|r| r.is_empty() || r.starts_with("::"));
    let bad = named.iter().filter(|path| IMPURE.iter().any(|root| below(path, root)));
    bad.map(|path| format!("{name} is pure and names {path}")).collect()
}

fn crossing(name: &str, target: &str) -> Option<String> {
    let (from, to) = (layer(name), layer(target));
    if from == to || from == "lib.rs" || from == "main.rs" {
        return None;
    }
    let allowed = LAYERS.iter().find(|(layer, _)| *layer == from).map(|(_, allowed)| *allowed);
    match allowed {
        None => Some(format!("{name} belongs to no layer; put it into one")),
        Some(allowed) if allowed.contains(&to) => None,
        Some(_) => Some(format!("{name} names {target}: {from} must not know {to}")),
    }
}

fn layer(name: &str) -> &str {
    let first = name.split('/').next().unwrap();
    if name.contains('/') || matches!(first, "lib.rs" | "main.rs") {
        first
    } else {
        first.trim_end_matches(".rs")
    }
}

/// The other files whose items a file names.
fn imports<'a>(name: &str, text: &str, files: &'a Tree) -> BTreeSet<&'a str> {
    let here = module(name);
    let absolute = |path: Vec<String>| {
        let (first, rest) = path.split_first()?;
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        let below = |base: &[String], rest: &[String]| [base, rest].concat();
        Some(match first.as_str() {
            "crate" | "backstay" => rest.to_vec(),
            "self" => below(&here, rest),
            "super" => below(here.get(..here.len().checked_sub(supers)?)?, &path[supers..]),
            _ => below(&here, &path),
        })
    };
    let found = source::paths(text).into_iter().filter_map(absolute).filter_map(|path| file_of(&path, files));
    found.filter(|target| *target != name).collect()
}

/// The module path of a file: `a/b.rs` and `a/b/mod.rs` are both `a::b`.
fn module(name: &str) -> Vec<String> {
    let bare = name.trim_end_matches(".rs");
    let bare = bare.strip_suffix("/mod").unwrap_or(bare);
    if matches!(bare, "lib" | "main") { Vec::new() } else { bare.split('/').map(str::to_owned).collect() }
}

/// The file of the innermost module on a path; the crate's root is nobody's import.
fn file_of<'a>(path: &[String], files: &'a Tree) -> Option<&'a str> {
    (1..=path.len()).rev().find_map(|length| {
        let bare = path[..length].join("/");
        let found = files
            .get_key_value(&format!("{bare}.rs"))
            .or_else(|| files.get_key_value(&format!("{bare}/mod.rs")));
        found.map(|(name, _)| name.as_str())
    })
}

/// Groups of files that reach each other, each named once.
fn circles(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let reach = |start: &str| {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = imports[start].iter().copied().collect();
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(&imports[next]);
            }
        }
        found
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports.keys().map(|name| (*name, reach(name))).collect();
    let groups: BTreeSet<Vec<&str>> = reached
        .iter()
        .filter(|(name, found)| found.contains(*name))
        .map(|(name, found)| found.iter().copied().filter(|other| reached[other].contains(name)).collect())
        .collect();
    groups.iter().map(|group| format!("these import each other in a circle: {}", group.join(", "))).collect()
}

fn read(root: &Path, folder: &Path, files: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn the_source_keeps_the_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Tree::new();
    read(&root, &root, &mut files);
    // Test modules in files of their own are no part of the product.
    files.retain(|name, _| !name.ends_with("/tests.rs") && !name.contains("/tests/"));
    let broken = violations(&files);
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn planted_violations_are_found() {
    let clean = [
        ("lib.rs", "pub mod cli; pub mod domain;"),
        ("main.rs", "fn main() { backstay::cli::run() }"),
        ("domain/mod.rs", "pub mod names; pub mod error;"),
        (
            "domain/names.rs",
            "use super::error::Invalid; // use crate::cli::run;\n#[cfg(test)] mod tests { use std::fs; }",
        ),
        ("domain/error.rs", "pub struct Invalid;"),
        ("controller/mod.rs", "use crate::domain::{error::Invalid, names};"),
        ("task/mod.rs", "use crate::{storage::Store, domain::names};"),
        ("storage/mod.rs", "pub struct Store;"),
        ("cli/mod.rs", "use crate::{controller, task};"),
    ];
    let tree = |planted: &[(&str, &str)]| -> Tree {
        clean.iter().chain(planted).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    assert_eq!(violations(&tree(&[])), Vec::<String>::new());
    let long = "\n".repeat(401);
    let cases: &[(&str, &str, &str)] = &[
        (
            "controller/a.rs",
            "use crate::{domain::names, storage::Store};",
            "controller must not know storage",
        ),
        ("controller/a.rs", "fn f(_: crate::task::Verb) {}", "controller must not know task"),
        ("task/a.rs", "use super::super::controller::Port;", "task must not know controller"),
        ("domain/a.rs", "use backstay::cli::run;", "domain must not know cli"),
        ("orchestrators/a.rs", "use crate::task::backup;", "orchestrators must not know task"),
        ("domain/a.rs", "use std::{fmt, fs::{self, File}};", "domain/a.rs is pure and names std::fs"),
        ("domain/a.rs", "fn f() { tokio::spawn(async {}); }", "domain/a.rs is pure and names tokio::spawn"),
        ("helpers.rs", "use crate::domain::names;", "helpers.rs belongs to no layer"),
        (
            "domain/error.rs",
            "use crate::domain::names::Name;",
            "in a circle: domain/error.rs, domain/names.rs",
        ),
        ("storage/a.rs", &long, "storage/a.rs has 401 lines"),
    ];
    for (name, text, expected) in cases {
        let found = violations(&tree(&[(name, text)]));
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "{text:?} gives {found:?}, not {expected:?}"
        );
    }
}
