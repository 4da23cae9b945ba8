//! What is known about a policy beside its text: what its service has, and what the administrator allows.

use crate::{
    api::document::Defaults,
    domain::names::SourceName,
    orchestrators::swarm::engine::model::{Config, Node, Secret, Service, Task},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// One complete look at what people have made.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// All services.
    pub services: Vec<Service>,
    /// The configs with a label of ours, our own among them.
    pub configs: Vec<Config>,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All secrets.
    pub secrets: Vec<Secret>,
    /// The tasks of the services that carry policies.
    pub tasks: Vec<Task>,
}

/// What is known about a policy's surroundings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The service that carries it.
    pub carrier: Option<String>,
    /// Networks of that service.
    pub networks: Vec<String>,
    /// Paths that may be mounted, with all below them.
    pub roots: Vec<PathBuf>,
    /// Which node has which source.
    pub nodes: BTreeMap<SourceName, String>,
    /// The end of each run is told on that service, too.
    pub mirrors: bool,
    /// The node on which all tasks must run, because files of it are named.
    pub files_on: Option<String>,
}

impl Facts {
    /// The longest allowed path that holds `path`.
    pub fn root_of(&self, path: &Path) -> Option<&Path> {
        let roots = self.roots.iter().filter(|root| path.starts_with(root));
        roots.max_by_key(|root| root.components().count()).map(PathBuf::as_path)
    }
}

/// What the administrator allows to every policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Grants {
    /// Paths of nodes, with all below them.
    pub paths: Vec<PathBuf>,
    /// Docker secrets.
    pub secrets: BTreeSet<String>,
    /// Named volumes.
    pub volumes: BTreeSet<String>,
}

impl Grants {
    /// The same, and what the controller's own defaults name: the administrator wrote those too.
    #[must_use]
    pub fn with(mut self, defaults: &Defaults) -> Self {
        let (secrets, paths) = defaults.secrets();
        self.secrets.extend(secrets);
        self.paths.extend(paths.into_iter().map(PathBuf::from));
        self
    }
}
