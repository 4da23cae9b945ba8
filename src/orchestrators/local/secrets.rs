//! Whether a policy's secrets were replaced, without a look into them: size, time and inode of each file.

use crate::{
    domain::{
        location::{RcloneConfig, SecretSource},
        policy::{MongoUri, Policy},
    },
    orchestrators::checksum,
    plan::observed::Secrets,
};
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Numbers of the files that `policy` names.
pub(super) fn secrets(policy: &Policy) -> Secrets {
    let connection = policy.mongodb.as_ref().map(|mongodb| &mongodb.connection);
    let uri = connection.and_then(|connection| match &connection.uri {
        MongoUri::From(source) => Some(source),
        MongoUri::Plain(_) => None,
    });
    let others = connection.into_iter().flat_map(|c| [&c.password, &c.tls_ca, &c.tls_certificate]).flatten();
    let mut fixed: Vec<&SecretSource> = uri.into_iter().chain(others).collect();
    let mut renewed: Option<PathBuf> = None;
    match &policy.destination.config {
        RcloneConfig::Secret(source) => fixed.push(source),
        RcloneConfig::Directory(directory) => renewed = Some(directory.join("rclone.conf")),
    }
    let fixed = fixed.into_iter().filter_map(|source| match source {
        SecretSource::File(path) => Some(path.as_path()),
        SecretSource::Key { .. } => None,
    });
    Secrets { fixed: number(fixed), renewed: number(renewed.as_deref().into_iter()) }
}

fn number<'a>(files: impl Iterator<Item = &'a Path>) -> i64 {
    let looks: Vec<String> = files.map(look).collect();
    let looks: Vec<&str> = looks.iter().map(String::as_str).collect();
    if looks.is_empty() { 0 } else { checksum(&looks) }
}

fn look(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(file) => format!("{} {} {} {}", file.size(), file.mtime(), file.mtime_nsec(), file.ino()),
        Err(error) => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_changes_or_goes_has_another_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rclone.conf");
        let now = || number([path.as_path()].into_iter());
        let mut seen = vec![now()];
        for text in ["a", "ab"] {
            fs::write(&path, text).unwrap();
            assert_eq!(now(), now());
            seen.push(now());
        }
        let other = folder.path().join("other");
        fs::write(&other, "cd").unwrap();
        fs::rename(&other, &path).unwrap();
        seen.push(now());
        fs::remove_file(&path).unwrap();
        assert_eq!(now(), seen[0]);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 4);
        assert_eq!(number(std::iter::empty()), 0);
    }
}
