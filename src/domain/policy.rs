//! A policy after validation: every value in range, every default filled in, wrong combinations impossible.

use crate::domain::{
    location::{Location, SecretSource},
    names::{InstanceName, PolicyName, SourceName},
    retention::Retention,
    schedule::Schedule,
    snapshot::AsOf,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// What is backed up, when, to where, and how long it is kept. Has at least one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name, unique in one controller for one instance and destination.
    pub name: PolicyName,
    /// Whose data.
    pub instance: InstanceName,
    /// When.
    pub schedule: Schedule,
    /// A slot that could not start within this time after it was due is missed. `None`: until the next slot.
    pub starting_deadline: Option<Duration>,
    /// No new scheduled runs while true.
    pub suspend: bool,
    /// The database, dumped first.
    pub mongodb: Option<Mongodb>,
    /// The volumes, in the order of the document; names are unique and none is `mongodb`.
    pub volumes: Vec<Volume>,
    /// From where an empty site is filled, once, before its first run.
    pub restore_from: Option<RestoreFrom>,
    /// To where.
    pub destination: Location,
    /// Take the place over from the site that owned it (`destination.takeOver`).
    pub take_over: bool,
    /// How long snapshots are kept.
    pub retention: Retention,
    /// When a source looks too small to be true.
    pub guards: Guards,
    /// Overrides the computed freshness deadline.
    pub fresh_within: Option<Duration>,
    /// How tasks run.
    pub task: TaskSettings,
}

impl Policy {
    /// All sources in the order in which they are read: the database, then the volumes.
    pub fn sources(&self) -> Vec<Source> {
        let database = self.mongodb.iter().cloned().map(Source::Mongodb);
        database.chain(self.volumes.iter().cloned().map(Source::Volume)).collect()
    }

    /// True when the place on the remote becomes this site's, whoever had it: because the policy says so, or because the site
    /// was `filled` from that place, and is the one that was there, built anew.
    pub fn takes_over(&self, filled: bool) -> bool {
        let is_there = |from: &RestoreFrom| {
            from.instance == self.instance
                && from.policy == self.name
                && from.location.remote == self.destination.remote
                && from.location.path == self.destination.path
        };
        self.take_over || filled && self.restore_from.as_ref().is_some_and(is_there)
    }
}

/// From where an empty site is filled.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreFrom {
    /// The place.
    pub location: Location,
    /// Whose data.
    pub instance: InstanceName,
    /// Snapshots of this policy.
    pub policy: PolicyName,
    /// Which of them.
    pub as_of: AsOf,
    /// Users and roles of the database, too.
    pub users: bool,
}

/// One thing that is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A MongoDB deployment.
    Mongodb(Mongodb),
    /// A tree of files.
    Volume(Volume),
}

impl Source {
    /// Its name on the remote.
    pub fn name(&self) -> SourceName {
        match self {
            Self::Mongodb(_) => SourceName::mongodb(),
            Self::Volume(volume) => volume.name.clone(),
        }
    }

    /// True when a run without it is still complete.
    pub fn is_optional(&self) -> bool {
        match self {
            Self::Mongodb(_) => false,
            Self::Volume(volume) => volume.optional,
        }
    }
}

/// How to reach a deployment: a URI that carries no password and no database, or a secret that holds one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MongoUri {
    /// Written in the policy; holds no password.
    Plain(String),
    /// In a secret; may hold a password.
    From(SecretSource),
}

/// A way to reach a MongoDB deployment, for a backup as for a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MongoConnection {
    /// Where.
    pub uri: MongoUri,
    /// Who, when the URI does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// The certificate authority's PEM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<SecretSource>,
    /// The client's certificate and key in one PEM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_certificate: Option<SecretSource>,
}

/// A MongoDB deployment as a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mongodb {
    /// How to reach it.
    #[serde(flatten)]
    pub connection: MongoConnection,
    /// Namespaces to take (`db.collection`, `*` matches any text); empty: all.
    pub include: Vec<NamespacePattern>,
    /// Namespaces to leave out; wins over `include`.
    pub exclude: Vec<NamespacePattern>,
    /// Point-in-time consistency through the oplog.
    pub oplog: OplogMode,
    /// Which member is read.
    pub member: MemberPreference,
    /// Collections dumped at once, 1 to 16.
    pub parallel_collections: u8,
}

/// `db.collection` with `*` for any text, dots included.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamespacePattern(String);

impl NamespacePattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when `namespace` (`db.collection`) is meant. `*` stands for any text; a pattern without a dot means the
    /// whole database.
    pub fn matches(&self, namespace: &str) -> bool {
        let whole = if self.0.contains('.') { self.0.clone() } else { format!("{}.*", self.0) };
        wildcard(whole.as_bytes(), namespace.as_bytes())
    }
}

/// Linear-space wildcard match with one backtracking point: quadratic at worst on names of at most 255 bytes.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == text.get(t) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

impl std::str::FromStr for NamespacePattern {
    type Err = crate::domain::error::Invalid;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_empty() && text.len() <= 255 && !text.starts_with('.') && !text.contains('\0') {
            return Ok(Self(text.to_owned()));
        }
        Err(crate::domain::error::Invalid::new(format!(
            "{text:?} is not a namespace: write a database (girder) or database.collection, '*' standing for any text, at most 255 bytes"
        )))
    }
}

impl TryFrom<String> for NamespacePattern {
    type Error = crate::domain::error::Invalid;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NamespacePattern> for String {
    fn from(pattern: NamespacePattern) -> Self {
        pattern.0
    }
}

/// Whether the dump carries the oplog that makes it a point in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OplogMode {
    /// Where the topology allows it; the class that was reached is recorded.
    #[default]
    Auto,
    /// Fail without it.
    Required,
    // Not `Off`: YAML 1.1, which Kubernetes reads, takes that for a boolean.
    /// A dump without it.
    Never,
}

/// Which member of a replica set is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberPreference {
    /// A healthy secondary that is not behind, else the primary.
    #[default]
    PreferSecondary,
    /// The primary only.
    Primary,
    /// A secondary only.
    Secondary,
}

/// A tree of files as a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its name on the remote.
    pub name: SourceName,
    /// Where it is.
    pub place: VolumePlace,
    /// Paths to take, relative to the root, gitignore-like globs; empty: all.
    pub include: Vec<String>,
    /// Paths to leave out; wins over `include`.
    pub exclude: Vec<String>,
    /// A run without it is still complete.
    pub optional: bool,
    /// An empty volume is no error.
    pub allow_empty: bool,
    /// Which node has it (path on a node); empty elsewhere.
    pub node_selector: BTreeMap<String, String>,
    /// Other file systems mounted below the root are left out.
    pub one_file_system: bool,
}

/// Where a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumePlace {
    /// A claim in the policy's namespace (Kubernetes).
    Claim(String),
    /// A named volume (Docker).
    Named(String),
    /// An absolute path on a node or on this host.
    HostPath(PathBuf),
    /// One of the others as its orchestrator mounts it for a task; never part of a policy.
    Mounted {
        /// Where the task finds it.
        at: PathBuf,
        /// What people call it: the path on the node, or the volume's name.
        name: String,
    },
}

impl VolumePlace {
    /// The directory, where it is one that can be opened here.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::HostPath(path) | Self::Mounted { at: path, .. } => Some(path),
            Self::Claim(_) | Self::Named(_) => None,
        }
    }
}

/// What people call it.
impl fmt::Display for VolumePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostPath(path) => path.display().fmt(f),
            Self::Claim(name) | Self::Named(name) | Self::Mounted { name, .. } => f.write_str(name),
        }
    }
}

/// Bounds below which a source is taken for broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guards {
    /// Least size and count of a source, in percent of the last good run's; 0 turns the guard off, at most 100.
    pub minimum_source_percent: u8,
}

/// How tasks run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSettings {
    /// One attempt may run this long.
    pub timeout: Duration,
    /// One attempt may wait this long for its start.
    pub pending: Duration,
    /// Attempts after the first, 0 to 10.
    pub retries: u8,
    /// Memory of a task beside rclone and mongodump, MiB: the limit asked for, or 128.
    pub memory_mib: u32,
    /// Where tasks run, beyond what their sources demand.
    pub placement: Placement,
}

/// Where tasks run and as what, where an orchestrator has a choice; nothing on a host alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    /// Labels of the nodes that tasks may run on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Networks of the tasks; none: those of the service that carries the policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// The image, the same for all attempts of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What only Kubernetes knows.
    #[serde(skip_serializing_if = "PodSettings::is_default")]
    pub pod: PodSettings,
}

impl Placement {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a Pod of Kubernetes is asked to be, as a person wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSettings {
    /// What is set aside for it, by resource.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,
    /// What it may not exceed, by resource.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
    /// Fields of a security context, of a container's or a Pod's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub security_context: BTreeMap<String, serde_json::Value>,
    /// Its priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Its tolerations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<serde_json::Value>,
    /// Its service account. It gets no token of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Secrets that its image is pulled with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
}

impl PodSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_patterns() {
        let matches =
            |pattern: &str, namespace: &str| pattern.parse::<NamespacePattern>().unwrap().matches(namespace);
        for (pattern, namespace, expected) in [
            ("girder", "girder.file", true),
            ("girder", "girder2.file", false),
            ("girder.*", "girder.a.b", true),
            ("*.log", "x.y.log", true),
            ("*.log", "x.log2", false),
            ("g*r.f*e", "girder.file", true),
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "a.b", true),
        ] {
            assert_eq!(matches(pattern, namespace), expected, "{pattern} on {namespace}");
        }
    }
}
