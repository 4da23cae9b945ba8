//! Where `make setup` put the pinned tools.

use std::path::PathBuf;

/// The path of one of them: `mongod`, `mongodump`, `mongorestore`, `rclone`.
///
/// # Panics
/// With what to do, when it is not there.
pub fn tool(name: &str) -> PathBuf {
    let path = bin().join(name);
    assert!(path.exists(), "{} is missing: run `make setup` first", path.display());
    path
}

/// The folder of the tools.
pub fn bin() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("BACKSTAY_CACHE").or_else(|| Some(set("HOME")?.join(".cache/backstay")));
    cache.expect("HOME or BACKSTAY_CACHE names the tools' cache").join("bin")
}

/// `PATH` with the pinned tools first, for the programs under test.
pub fn path_variable() -> std::ffi::OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(bin()).chain(std::env::split_paths(&rest))).unwrap()
}
