//! `Restore`: one snapshot back into a database and into directories.

use crate::api::{
    location::{LocationSpec, SecretSourceSpec},
    policy::TlsSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is restored, from where, and into what. Nothing that exists is replaced without `confirm`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreSpec {
    /// The backups.
    pub from: RestoreSourceSpec,
    /// Which snapshot: `latest`, a time such as `2026-11-25T02:00:00Z` (the newest not after it), or a name.
    /// Default: `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub as_of: Option<String>,
    /// Also from a snapshot that lacks a source. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_partial: Option<bool>,
    /// A secret that holds the age identity. Key: `identity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_from: Option<SecretSourceSpec>,
    /// The database to fill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb: Option<RestoreMongodbSpec>,
    /// The directories to fill.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volumes: Vec<RestoreVolumeSpec>,
    /// Show the plan and change nothing. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Permission to replace what exists, for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<ConfirmSpec>,
}

/// The backups: those of a policy here, or a place with the names of what lies there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreSourceSpec {
    /// The policy that made them. With `location`, only its name matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50))]
    pub policy: Option<String>,
    /// The place. Default: the policy's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationSpec>,
    /// Whose data. Default: the policy's instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub instance: Option<String>,
}

/// The database to fill. One of `uri` and `uriFrom` is given; default: the policy's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreMongodbSpec {
    /// As in a policy: no password, no database.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub uri: Option<String>,
    /// A secret that holds the URI. Key: `uri`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_from: Option<SecretSourceSpec>,
    /// Who, where the URI does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub username: Option<String>,
    /// A secret that holds the password. Key: `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_from: Option<SecretSourceSpec>,
    /// Certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Namespaces to restore, as in a policy. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 255)))]
    pub include: Vec<String>,
    /// New names for what is restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub rename: Vec<RenameSpec>,
    /// Restore users and roles, too. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<bool>,
    /// Replace collections that exist, once the restore is confirmed. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
}

/// A new name for a database or a collection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenameSpec {
    /// What it is called in the backup: a database, or `database.collection`.
    #[schemars(length(min = 1, max = 255))]
    pub from: String,
    /// What it is to be called.
    #[schemars(length(min = 1, max = 255))]
    pub to: String,
}

/// A directory to fill. At most one of `claimName`, `volumeName` and `hostPath` is given; default: the policy's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreVolumeSpec {
    /// The volume's name in the backup.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// A PersistentVolumeClaim in the same namespace (Kubernetes).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// A named Docker volume (Swarm).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub volume_name: Option<String>,
    /// An absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub host_path: Option<String>,
    /// Paths to restore, globs as in a policy. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 1024)))]
    pub include: Vec<String>,
    /// Delete what is not in the backup. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_extra: Option<bool>,
}

/// Permission to replace what exists. It expires, so that no replay of a document destroys a site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfirmSpec {
    /// The policy's name once more.
    #[schemars(length(min = 1, max = 50))]
    pub policy: String,
    /// The permission ends at this time, at most 24 hours after the document was made: `2026-11-25T20:00:00Z`.
    #[schemars(length(min = 1, max = 40))]
    pub not_after: String,
}
