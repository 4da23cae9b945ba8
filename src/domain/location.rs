//! Where backups are kept: a named rclone remote and a checked relative path.

use crate::domain::{error::Invalid, names::InstanceName};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, str::FromStr};

/// A remote of the rclone configuration, by name. Never a connection string: `:backend,key=value:` could run commands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemoteName(String);

impl RemoteName {
    /// The name without the colon.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RemoteName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '@');
        let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if text.len() <= 100 && text.chars().next().is_some_and(first) && text.chars().all(inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(format!(
            "{text:?} is not the name of a remote: write a section name of rclone.conf, without ':' (letters, digits, '_', '-', '.', '+', '@')"
        )))
    }
}

/// A relative path on a remote: no empty, `.` or `..` segment, no control character; `""` is the remote's root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RemotePath(String);

impl RemotePath {
    /// The path, without leading or trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `self/child`; `child` must be made of names of this crate.
    #[must_use]
    pub fn join(&self, child: &str) -> Self {
        if self.0.is_empty() { Self(child.to_owned()) } else { Self(format!("{}/{child}", self.0)) }
    }
}

impl FromStr for RemotePath {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if trimmed.is_empty() && !text.starts_with('/') {
            return Ok(Self::default());
        }
        // `data` as a segment would be rewritten by the restic protocol through which objects are sent.
        let good = |part: &str| {
            !matches!(part, "" | "." | ".." | "data") && !part.chars().any(|c| c.is_control() || c == '\\')
        };
        if trimmed.len() <= 512 && trimmed.split('/').all(good) {
            return Ok(Self(trimmed.to_owned()));
        }
        Err(Invalid::new(format!(
            "{text:?} is not a path on a remote: write a relative path such as WT/backups, without '..', '\\' or a folder called \"data\", at most 512 bytes"
        )))
    }
}

macro_rules! string_conversions {
    ($($type:ident),*) => {$(
        impl TryFrom<String> for $type {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
string_conversions!(RemoteName, RemotePath);

/// Where a secret's text comes from. The text itself is never part of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SecretSource {
    /// A file that the task can read: the whole content, one trailing newline removed.
    File(PathBuf),
    /// A key of the orchestrator's own secret.
    Key {
        /// The secret.
        name: String,
        /// The key in it.
        key: String,
    },
}

/// Where the rclone configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RcloneConfig {
    /// A file or secret that is only read: a token that rclone renews in it is lost.
    Secret(SecretSource),
    /// A writable directory with an `rclone.conf` in it: a renewed token is written back there.
    Directory(PathBuf),
}

/// A place for backups and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The remote.
    pub remote: RemoteName,
    /// The folder on it, above the instance's.
    pub path: RemotePath,
    /// How to reach it.
    pub config: RcloneConfig,
    /// rclone's `--bwlimit`: a rate such as `8M` or a timetable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit: Option<String>,
    /// Parallel transfers, 1 to 16.
    pub transfers: u8,
    /// Target size of one part, MiB, 1 to 1024.
    pub part_size_mib: u32,
}

impl Location {
    /// The instance's folder on the remote.
    pub fn instance_path(&self, instance: &InstanceName) -> RemotePath {
        self.path.join(instance.as_str())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.remote, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_and_escapes_are_refused() {
        for bad in [":local", "box,env_auth=true", "box:", "", "-v", "a/b", "a b"] {
            assert!(bad.parse::<RemoteName>().is_err(), "{bad}");
        }
        for bad in ["/", "/a", "a//b", "..", "a/../b", "./a", "a/data", "a\\b", "a\nb"] {
            assert!(bad.parse::<RemotePath>().is_err(), "{bad}");
        }
        assert_eq!("WT/".parse::<RemotePath>().unwrap().as_str(), "WT");
        assert_eq!("".parse::<RemotePath>().unwrap().join("prod").as_str(), "prod");
    }
}
