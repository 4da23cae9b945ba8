//! `BackupPolicy`: what is backed up, when, to where, and how long it is kept.

use crate::{
    api::{
        location::{LocationSpec, SecretSourceSpec},
        task::TaskSettingsSpec,
    },
    domain::policy::{MemberPreference, OplogMode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is backed up, when, to where, and how long it is kept. At least one of `mongodb` and `volumes` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupPolicySpec {
    /// Whose data it is, such as `production`: part of the path on the remote. Default: the namespace or the stack;
    /// required where there is neither. Never the name of a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub instance: Option<String>,
    /// Five-field cron, `@hourly`, `@daily`, `@weekly`, `@monthly` or `@yearly`. `H` stands for a value of the policy's
    /// own: any, `H(a-b)` one of a range, `H/n` every n. Default: `H H(1-4) * * *`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub schedule: Option<String>,
    /// IANA time zone of the schedule. Default: `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// A slot that could not start within this many seconds is recorded as missed. Default: until the next slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_622_400))]
    pub starting_deadline_seconds: Option<i64>,
    /// No new scheduled runs while true; a running one goes on. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// A MongoDB deployment, read first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb: Option<MongodbSpec>,
    /// Trees of files, read after the database in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volumes: Vec<VolumeSpec>,
    /// Where the backups are kept.
    pub destination: LocationSpec,
    /// Encryption before anything leaves the machine. Not carried out yet by this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<EncryptionSpec>,
    /// How long snapshots are kept. A snapshot stays when any rule keeps it. Default: everything for seven days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// When a source looks too small to be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guards: Option<GuardsSpec>,
    /// Restore drills. Not carried out yet by this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifySpec>,
    /// Fills an empty site once, before its first backup. Where anything is there already, nothing is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFromSpec>,
    /// Names of receivers in the controller's configuration. Not carried out yet by this version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub notify: Vec<String>,
    /// Seconds after the last good run from which the policy counts as stale. Default: the second slot after it plus the
    /// longest recent run, at least an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_622_400))]
    pub fresh_within_seconds: Option<i64>,
    /// How tasks run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskSettingsSpec>,
}

/// A MongoDB deployment. One of `uri` and `uriFrom` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MongodbSpec {
    /// `mongodb://host1,host2/?replicaSet=rs1`, without a password and without a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub uri: Option<String>,
    /// A secret that holds the URI; this one may carry the password. Key: `uri`.
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
    /// Namespaces to take: a database (`girder`) or `database.collection`, `*` for any text. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 255)))]
    pub include: Vec<String>,
    /// Namespaces to leave out; wins over `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 255)))]
    pub exclude: Vec<String>,
    /// Point-in-time consistency through the oplog. Default: `Auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oplog: Option<OplogMode>,
    /// Which member of a replica set is read. Default: `PreferSecondary`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberPreference>,
    /// Collections read at once. Default: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub parallel_collections: Option<i64>,
}

/// Certificates of a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsSpec {
    /// The certificate authority, PEM. Key: `ca.crt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_from: Option<SecretSourceSpec>,
    /// The client's certificate and key in one PEM. Key: `tls.pem`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_from: Option<SecretSourceSpec>,
}

/// A tree of files. Exactly one of `claimName`, `volumeName` and `hostPath` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeSpec {
    /// Its name in the backup, unique in the policy.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// A PersistentVolumeClaim in the policy's namespace (Kubernetes).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// A named Docker volume (Swarm).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub volume_name: Option<String>,
    /// An absolute path on a node or on this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub host_path: Option<String>,
    /// Paths to take, relative to the root, globs as in a gitignore file. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 1024)))]
    pub include: Vec<String>,
    /// Paths to leave out; wins over `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 1024)))]
    pub exclude: Vec<String>,
    /// A run without this volume is still complete. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// An empty volume is no error. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_empty: Option<bool>,
    /// Labels of the node that has the path; must select exactly one. On Swarm also `node.role`, `node.hostname`,
    /// `node.id`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// Other file systems mounted below the root are left out. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_file_system: Option<bool>,
}

/// Encryption with age.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EncryptionSpec {
    /// Public keys, `age1…`: each of their owners can read the backups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    pub recipients: Vec<String>,
}

/// How long snapshots are kept. Age is counted from the newest good snapshot, so that nothing expires while backups fail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetentionSpec {
    /// Everything of the last N days. Default: 7 when no rule is set, else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 36_500))]
    pub keep_within_days: Option<i64>,
    /// The newest N; the newest two are kept whatever the rules say. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub keep_last: Option<i64>,
    /// The newest of each of the last N days that have one. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub keep_daily: Option<i64>,
    /// The newest of each of the last N weeks that have one. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub keep_weekly: Option<i64>,
    /// The newest of each of the last N months that have one. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub keep_monthly: Option<i64>,
    /// The newest of each of the last N years that have one. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub keep_yearly: Option<i64>,
}

/// When a source looks too small to be true: the run fails and a person decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardsSpec {
    /// Least size and least count of a source, in percent of the last good run's. 0: no guard. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub minimum_source_percent: Option<i64>,
}

/// Restore drills: the newest snapshot is restored into a scratch server and directory, and compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifySpec {
    /// When, written as the policy's `schedule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub schedule: Option<String>,
    /// The scratch server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb: Option<DrillMongodbSpec>,
    /// A secret that holds the age identity. Key: `identity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_from: Option<SecretSourceSpec>,
}

/// The scratch server of a drill. One of `uriFrom` and `image` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillMongodbSpec {
    /// A secret that holds the URI of a server that drills may fill and empty. Key: `uri`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_from: Option<SecretSourceSpec>,
    /// An image of which a server is started for the drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
}

/// Where an empty site is filled from, once, before its first backup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreFromSpec {
    /// The place. Default: the policy's destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationSpec>,
    /// Whose data. Default: the policy's own instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub instance: Option<String>,
    /// Of which policy. Default: the policy's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50))]
    pub policy: Option<String>,
    /// Which snapshot: `latest`, a time, or a name. Default: `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub as_of: Option<String>,
    /// What is restored of the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mongodb: Option<RestoreFromMongodbSpec>,
    /// A secret that holds the age identity. Key: `identity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_from: Option<SecretSourceSpec>,
}

/// What is restored of the database of an empty site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreFromMongodbSpec {
    /// Restore users and roles, too. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<bool>,
}
