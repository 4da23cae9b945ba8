//! What a policy names, among what there is: the secrets, volumes and networks of its service, and the nodes that have its
//! sources. A policy gets nothing that its service does not have, unless the administrator allows it.

use crate::{
    domain::{
        error::Invalid,
        location::{RcloneConfig, SecretSource},
        names::SourceName,
        policy::{MongoUri, Policy, VolumePlace},
    },
    orchestrators::swarm::{
        engine::model::{Mount, Node, Service},
        facts::{Cluster, Facts, Grants},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// What is around a policy.
pub(super) struct Surroundings<'a> {
    cluster: &'a Cluster,
    carrier: Option<&'a Service>,
    grants: &'a Grants,
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(cluster: &'a Cluster, carrier: Option<&'a Service>, grants: &'a Grants) -> Self {
        Self { cluster, carrier, grants }
    }

    /// What is known without a policy.
    pub(super) fn facts(&self) -> Facts {
        let carrier = self.carrier.map(|carrier| carrier.id.clone());
        let networks = self.carrier.into_iter().flat_map(Service::networks).map(str::to_owned).collect();
        let binds = self.mounts("bind").map(|mount| PathBuf::from(&mount.source));
        let roots = binds.chain(self.grants.paths.iter().cloned()).collect();
        Facts { carrier, networks, roots, ..Facts::default() }
    }

    /// The policy with the full names of what it names, and the facts about it.
    ///
    /// # Errors
    /// Everything that it may not have, or that is not there.
    pub(super) fn settle(&self, mut policy: Policy) -> Result<(Policy, Facts), Vec<Invalid>> {
        let (mut facts, mut errors) = (self.facts(), Vec::new());
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for (field, secret) in secrets(&mut policy) {
            match secret {
                SecretSource::File(path) => files.push((field, path.clone())),
                SecretSource::Key { name, .. } => match self.secret(name) {
                    Ok(full) => *name = full,
                    Err(message) => errors.push(Invalid { field, message }),
                },
            }
        }
        if let RcloneConfig::Directory(path) = &policy.destination.config {
            files.push(("destination.configFrom.directory".to_owned(), path.clone()));
        }
        if let Some(RcloneConfig::Directory(path)) =
            policy.restore_from.as_ref().map(|from| &from.location.config)
        {
            files.push(("restoreFrom.location.configFrom.directory".to_owned(), path.clone()));
        }
        for volume in &mut policy.volumes {
            let field = format!("volumes[{}]", volume.name);
            match &mut volume.place {
                VolumePlace::HostPath(path) => {
                    errors.extend(not_allowed(&facts, path, &format!("{field}.hostPath")));
                }
                VolumePlace::Named(name) => match self.volume(name) {
                    Ok(full) => *name = full,
                    Err(message) => errors.push(Invalid { field: format!("{field}.volumeName"), message }),
                },
                VolumePlace::Claim(_) | VolumePlace::Mounted { .. } => {}
            }
        }
        for (field, path) in &files {
            errors.extend(not_allowed(&facts, path, field));
        }
        self.name_networks(&mut policy);
        match self.nodes(&policy) {
            Ok(nodes) => facts.nodes = nodes,
            Err(error) => errors.push(error),
        }
        if let Some((field, path)) = files.first()
            && errors.is_empty()
        {
            match self.node_of_files(&policy, &facts.nodes) {
                Ok(node) => pin(&policy, &mut facts, node),
                Err(message) => errors
                    .push(Invalid { field: field.clone(), message: format!("{} {message}", path.display()) }),
            }
        }
        if errors.is_empty() { Ok((policy, facts)) } else { Err(errors) }
    }

    fn mounts(&self, kind: &'static str) -> impl Iterator<Item = &'a Mount> {
        let mounts = self.carrier.into_iter().flat_map(|service| &service.spec.task.container.mounts);
        mounts.filter(move |mount| mount.kind == kind)
    }

    /// `name`, or what the stack makes of it.
    fn full(&self, name: &str, is_had: impl Fn(&str) -> bool) -> Option<String> {
        let in_stack = self.carrier.and_then(Service::stack).map(|stack| format!("{stack}_{name}"));
        [Some(name.to_owned()), in_stack].into_iter().flatten().find(|name| is_had(name))
    }

    fn secret(&self, name: &str) -> Result<String, String> {
        let own: BTreeSet<&str> = self
            .carrier
            .into_iter()
            .flat_map(|service| &service.spec.task.container.secrets)
            .map(|secret| secret.name.as_str())
            .collect();
        let may = |name: &str| own.contains(name) || self.grants.secrets.contains(name);
        let exists = |name: &str| self.cluster.secrets.iter().any(|secret| secret.spec.name == name);
        if let Some(full) = self.full(name, |name| may(name) && exists(name)) {
            return Ok(full);
        }
        let full = self.full(name, may).ok_or_else(|| self.refused("secret", name, "--allow-secret"))?;
        Err(format!("there is no Docker secret {full:?}; make it: docker secret create {full} FILE"))
    }

    fn volume(&self, name: &str) -> Result<String, String> {
        let own: BTreeSet<&str> = self.mounts("volume").map(|mount| mount.source.as_str()).collect();
        self.full(name, |name| own.contains(name) || self.grants.volumes.contains(name))
            .ok_or_else(|| self.refused("volume", name, "--allow-volume"))
    }

    fn refused(&self, what: &str, name: &str, flag: &str) -> String {
        let who = match self.carrier {
            Some(service) => format!("service {} does not have the {what} {name:?}", service.spec.name),
            None => format!("a config has no {what}s of its own"),
        };
        format!("{who}; if it may be used, start the controller with {flag} {name}")
    }

    /// The networks by the names that the stack gave them. One that is not there is told when a task needs it.
    fn name_networks(&self, policy: &mut Policy) {
        let Some(stack) = self.carrier.and_then(Service::stack) else { return };
        let named: BTreeSet<&str> = self.carrier.into_iter().flat_map(Service::networks).collect();
        for network in &mut policy.task.placement.networks {
            let full = format!("{stack}_{network}");
            if named.contains(full.as_str()) {
                *network = full;
            }
        }
    }

    /// Which node has which volume.
    fn nodes(&self, policy: &Policy) -> Result<BTreeMap<SourceName, String>, Invalid> {
        let mut nodes = BTreeMap::new();
        for volume in &policy.volumes {
            let mut selector = policy.task.placement.node_selector.clone();
            selector.extend(volume.node_selector.clone());
            let node = self.node(&selector).map_err(|message| Invalid {
                field: format!("volumes[{}].nodeSelector", volume.name),
                message,
            })?;
            nodes.insert(volume.name.clone(), node.id.clone());
        }
        Ok(nodes)
    }

    /// The one node that has what `selector` says; without one, the node of the service, or the only one.
    fn node(&self, selector: &BTreeMap<String, String>) -> Result<&'a Node, String> {
        let nodes = &self.cluster.nodes;
        if selector.is_empty() {
            let of_carrier = self.carrier_nodes();
            return match (nodes.as_slice(), of_carrier.as_slice()) {
                ([only], _) => Ok(only),
                (_, [only]) => Ok(only),
                (_, []) => {
                    Err("is needed: nothing says which node has it; write a label of that node".to_owned())
                }
                (_, several) => Err(format!(
                    "is needed: the service runs on {}; write a label of the node that has it",
                    list(several)
                )),
            };
        }
        let found: Vec<&Node> = nodes.iter().filter(|node| is_selected(node, selector)).collect();
        let asked: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        match found.as_slice() {
            [node] => Ok(node),
            [] => Err(format!(
                "no node has {}; give the label to one: docker node update --label-add {} NODE",
                asked.join(" and "),
                asked.first().map_or("", String::as_str)
            )),
            several => {
                Err(format!("{} all have {}; name one by node.hostname", list(several), asked.join(" and ")))
            }
        }
    }

    /// The nodes on which the service runs, or ran last.
    fn carrier_nodes(&self) -> Vec<&'a Node> {
        let Some(carrier) = self.carrier else { return Vec::new() };
        let own = || self.cluster.tasks.iter().filter(|task| task.service_id == carrier.id);
        let running: BTreeSet<&str> =
            own().filter(|task| task.desired == "running").map(|task| task.node_id.as_str()).collect();
        let last = own().filter(|task| !task.node_id.is_empty()).max_by_key(|task| task.created_at);
        let chosen = match running.iter().all(|id| id.is_empty()) {
            true => last.map(|task| task.node_id.as_str()).into_iter().collect(),
            false => running,
        };
        self.cluster.nodes.iter().filter(|node| chosen.contains(node.id.as_str())).collect()
    }

    /// The node on which all tasks have to run, since they need files of it.
    fn node_of_files(&self, policy: &Policy, nodes: &BTreeMap<SourceName, String>) -> Result<String, String> {
        let distinct: BTreeSet<&String> = nodes.values().collect();
        let mut distinct = distinct.into_iter();
        match (distinct.next(), distinct.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => self.node(&policy.task.placement.node_selector).map(|node| node.id.clone()).map_err(
                |message| format!("is on one node, and task.nodeSelector does not say on which: {message}"),
            ),
            _ => {
                Err("is on one node, and the volumes are on several; use secretKeyRef, or divide the policy"
                    .to_owned())
            }
        }
    }
}

/// All sources are read on the node that has the files.
fn pin(policy: &Policy, facts: &mut Facts, node: String) {
    for source in policy.sources() {
        facts.nodes.insert(source.name(), node.clone());
    }
    facts.files_on = Some(node);
}

/// Every place of the policy that names a secret.
fn secrets(policy: &mut Policy) -> Vec<(String, &mut SecretSource)> {
    let mut found = Vec::new();
    if let Some(mongodb) = &mut policy.mongodb {
        let connection = &mut mongodb.connection;
        if let MongoUri::From(secret) = &mut connection.uri {
            found.push(("mongodb.uriFrom".to_owned(), secret));
        }
        let others = [
            ("mongodb.passwordFrom", &mut connection.password),
            ("mongodb.tls.caFrom", &mut connection.tls_ca),
            ("mongodb.tls.certificateFrom", &mut connection.tls_certificate),
        ];
        for (field, secret) in others {
            found.extend(secret.as_mut().map(|secret| (field.to_owned(), secret)));
        }
    }
    if let RcloneConfig::Secret(secret) = &mut policy.destination.config {
        found.push(("destination.configFrom".to_owned(), secret));
    }
    if let Some(from) = &mut policy.restore_from
        && let RcloneConfig::Secret(secret) = &mut from.location.config
    {
        found.push(("restoreFrom.location.configFrom".to_owned(), secret));
    }
    found
}

/// The orchestrator's secrets that a policy names, in full.
pub(super) fn secret_names(policy: &Policy) -> Vec<String> {
    let mut policy = policy.clone();
    let named = secrets(&mut policy).into_iter().filter_map(|(_, secret)| match secret {
        SecretSource::Key { name, .. } => Some(name.clone()),
        SecretSource::File(_) => None,
    });
    named.collect()
}

fn not_allowed(facts: &Facts, path: &Path, field: &str) -> Option<Invalid> {
    if facts.root_of(path).is_some() {
        return None;
    }
    let path = path.display();
    let message = format!(
        "the service does not mount {path}; if it may be read, start the controller with --allow-path {path}"
    );
    Some(Invalid { field: field.to_owned(), message })
}

fn is_selected(node: &Node, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, wanted)| {
        let has = match key.as_str() {
            "node.id" => Some(node.id.as_str()),
            "node.role" => Some(node.spec.role.as_str()),
            "node.hostname" => Some(node.description.hostname.as_str()),
            label => {
                let label = label.strip_prefix("node.labels.").unwrap_or(label);
                node.spec.labels.get(label).map(String::as_str)
            }
        };
        has == Some(wanted.as_str())
    })
}

fn list(nodes: &[&Node]) -> String {
    nodes.iter().map(|node| node.name()).collect::<Vec<_>>().join(", ")
}
