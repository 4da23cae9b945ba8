//! Where backups are kept, and where secrets are found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place for backups: a remote of an rclone configuration and a folder on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocationSpec {
    /// The remote, by its name in the rclone configuration.
    #[schemars(length(min = 1, max = 100))]
    pub remote: String,
    /// The folder on it; backups lie below `path/instance`. Default: the remote's root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub path: Option<String>,
    /// The rclone configuration.
    pub config_from: ConfigSourceSpec,
    /// rclone's `--bwlimit`: a rate such as `8M`, or a timetable such as `08:00,2M 19:00,off`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub bandwidth_limit: Option<String>,
    /// Parts sent at once. Default: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub transfers: Option<i64>,
    /// Size of one part, MiB; larger parts suit remotes that are slow by the request. Default: 24.
    #[serde(skip_serializing_if = "Option::is_none", rename = "partSizeMiB")]
    #[schemars(range(min = 1, max = 1024))]
    pub part_size_mib: Option<i64>,
    /// Take this place over from the site that owned it: set it once, when the old site is gone. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take_over: Option<bool>,
}

/// Where a secret's text is found. Exactly one is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretSourceSpec {
    /// A secret of the orchestrator (Kubernetes, Swarm).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// The absolute path of a file with nothing else in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub file: Option<String>,
}

/// Where the rclone configuration is found. Exactly one is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigSourceSpec {
    /// A secret of the orchestrator (Kubernetes, Swarm). Key: `rclone.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// The absolute path of an `rclone.conf`. A token that rclone renews is written back, where the file may be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub file: Option<String>,
    /// The absolute path of a writable directory with an `rclone.conf` in it: for remotes whose token is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub directory: Option<String>,
}

/// A key of a secret of the orchestrator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// The secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it. Default: as the field that refers to it says. A Docker secret has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}
