//! The service that runs one task: a pure function of the task and of what is known about its policy.
//!
//! Always a replicated service of one replica that is never started again; never a job, which Swarm runs more than once
//! after a change of leaders. The task finds what it does in its environment, and all that it reads at places of its own:
//! a path below `/host`, a volume below `/volumes`, a secret below `/run/secrets`.

use crate::{
    domain::{
        identity::PolicyId,
        location::SecretSource,
        policy::{Source, VolumePlace},
    },
    orchestrators::{
        MEMORY_TO_GIVE_BACK,
        container::{self, GRACE_SECONDS, Places},
        swarm::{facts::Facts, names, optional},
    },
    plan::{
        action::NewTask,
        task_spec::{SPEC_VARIABLE, Work},
        validate::CHILDREN_MIB,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// A task to be launched.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Whose.
    pub policy: &'a PolicyId,
    /// Whether it is the controller's or a person's: a [`kind`](names::kind).
    pub kind: &'static str,
    /// Which.
    pub task: &'a NewTask,
    /// What is known about its policy.
    pub facts: &'a Facts,
    /// The image, where the plan names none.
    pub image: &'a str,
    /// The identities of all secrets, by name.
    pub secrets: &'a BTreeMap<String, String>,
}

/// The service, as the engine takes it.
///
/// # Errors
/// What keeps it from being made, for a person.
pub fn service(launch: Launch<'_>) -> Result<Value, String> {
    let Launch { policy, kind, task, facts, image, secrets } = launch;
    let mut needs = Needs { facts, mounts: BTreeMap::new(), secrets: BTreeSet::new() };
    let spec = container::told(&task.spec, &mut needs)?;
    let mut labels = names::task_labels(kind, policy, &task.name);
    labels.extend(optional::label(&needs.optional_paths()));
    let networks = networks(task, facts);
    if is_carried(task, facts) {
        labels.extend(facts.carrier.clone().map(|carrier| (names::CARRIER.to_owned(), carrier)));
    }
    let memory = u64::from(task.spec.memory_mib + CHILDREN_MIB) << 20;
    let (name, value) = MEMORY_TO_GIVE_BACK;
    let capabilities = container::capabilities(&task.spec.work).iter().map(|name| format!("CAP_{name}"));
    let capabilities: Vec<String> = capabilities.collect();
    let of_container = json!({
        "Image": task.placement.image.as_deref().unwrap_or(image),
        "Args": ["task"],
        "Env": [format!("{SPEC_VARIABLE}={spec}"), format!("{name}={value}")],
        "Labels": labels,
        "User": "0",
        "ReadOnly": true,
        "Init": true,
        "StopGracePeriod": GRACE_SECONDS * 1_000_000_000,
        "CapabilityDrop": ["ALL"],
        "CapabilityAdd": capabilities,
        "Privileges": {"NoNewPrivileges": true},
        "Healthcheck": {"Test": ["NONE"]},
        "Mounts": needs.mounts(),
        "Secrets": needs.secrets(secrets)?,
    });
    Ok(json!({
        "Name": names::service(policy, &task.name),
        "Labels": labels,
        "Mode": {"Replicated": {"Replicas": 1}},
        "TaskTemplate": {
            "ContainerSpec": of_container,
            "RestartPolicy": {"Condition": "none"},
            "Resources": {"Limits": {"MemoryBytes": memory}},
            "Placement": {"Constraints": constraints(task, facts)},
            "Networks": networks.iter().map(|name| json!({"Target": name})).collect::<Vec<_>>(),
            // The report is read from it, whatever the node's engine does with the output of others.
            "LogDriver": {"Name": "json-file", "Options": {"max-size": "16m", "max-file": "2"}},
        },
        "EndpointSpec": {"Mode": "dnsrr"},
    }))
}

/// Where the task may run. A node is pinned by its identity: labels that are taken off it would end the task.
fn constraints(task: &NewTask, facts: &Facts) -> Vec<String> {
    if let Some(node) = task.node.as_ref().or(facts.files_on.as_ref()) {
        return vec![format!("node.id=={node}")];
    }
    let selector = task.placement.node_selector.iter();
    selector.map(|(key, value)| format!("{}=={value}", constraint_key(key))).collect()
}

/// What Swarm calls a key of a `nodeSelector`.
fn constraint_key(key: &str) -> String {
    match key {
        "node.id" | "node.role" | "node.hostname" => key.to_owned(),
        label => format!("node.labels.{}", label.strip_prefix("node.labels.").unwrap_or(label)),
    }
}

/// The networks of the policy, else those of its service for a task that reaches the database. A task without one keeps
/// nobody from removing a stack.
fn networks<'a>(task: &'a NewTask, facts: &'a Facts) -> &'a [String] {
    if !task.placement.networks.is_empty() {
        return &task.placement.networks;
    }
    if reaches_database(&task.spec.work) { &facts.networks } else { &[] }
}

fn reaches_database(work: &Work) -> bool {
    let has = |sources: &[Source]| sources.iter().any(|source| matches!(source, Source::Mongodb(_)));
    match work {
        Work::Backup(backup) => has(&backup.sources),
        Work::Preflight { sources } => has(sources),
        Work::Restore(restore) => restore.request.mongodb.is_some(),
        Work::Finish(_) | Work::Verify(_) | Work::Prune(_) => false,
    }
}

/// True for a task that is on the networks of the policy's service.
pub fn is_carried(task: &NewTask, facts: &Facts) -> bool {
    task.placement.networks.is_empty() && !networks(task, facts).is_empty()
}

/// What the task needs in its container.
struct Needs<'a> {
    facts: &'a Facts,
    /// By the place in the container.
    mounts: BTreeMap<PathBuf, Mounted>,
    secrets: BTreeSet<String>,
}

/// What is mounted.
struct Mounted {
    source: String,
    is_volume: bool,
    writable: bool,
    /// Only optional sources need it.
    optional: bool,
}

impl Places for Needs<'_> {
    fn volume(&mut self, place: &VolumePlace, writable: bool, optional: bool) -> Result<VolumePlace, String> {
        Ok(match place {
            VolumePlace::HostPath(path) => VolumePlace::Mounted {
                at: self.host(path, writable, optional)?,
                name: path.display().to_string(),
            },
            VolumePlace::Named(name) => {
                let at = Path::new("/volumes").join(name);
                let mounted = Mounted { source: name.clone(), is_volume: true, writable, optional };
                self.mounts.insert(at.clone(), mounted);
                VolumePlace::Mounted { at, name: name.clone() }
            }
            VolumePlace::Claim(_) | VolumePlace::Mounted { .. } => {
                return Err("a volume of another orchestrator cannot be mounted here".to_owned());
            }
        })
    }

    fn secret(&mut self, secret: &mut SecretSource) -> Result<(), String> {
        let path = match secret {
            SecretSource::File(path) => self.host(path, false, false)?,
            SecretSource::Key { name, .. } => {
                self.secrets.insert(name.clone());
                Path::new("/run/secrets").join(name)
            }
        };
        *secret = SecretSource::File(path);
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> Result<PathBuf, String> {
        self.host(path, true, false)
    }
}

impl Needs<'_> {
    /// Where a path of the node is. What is allowed is mounted as a whole, so that a link below it, which the container
    /// resolves, leads nowhere else.
    fn host(&mut self, path: &Path, writable: bool, optional: bool) -> Result<PathBuf, String> {
        let Some(root) = self.facts.root_of(path) else {
            return Err(format!(
                "nothing allows {} any more; start the controller with --allow-path {}",
                path.display(),
                path.display()
            ));
        };
        let inside = |path: &Path| Path::new("/host").join(path.strip_prefix("/").unwrap_or(path));
        let source = root.display().to_string();
        let new = Mounted { source, is_volume: false, writable, optional };
        let mount = self.mounts.entry(inside(root)).or_insert(new);
        mount.writable |= writable;
        mount.optional &= optional;
        Ok(inside(path))
    }

    /// Paths of the node without which the task can do most of its work.
    fn optional_paths(&self) -> Vec<&str> {
        let optional = self.mounts.values().filter(|mount| mount.optional && !mount.is_volume);
        optional.map(|mount| mount.source.as_str()).collect()
    }

    fn mounts(&self) -> Vec<Value> {
        let scratch = json!({"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"Mode": 0o1777}});
        let mounts = self.mounts.iter().map(|(target, Mounted { source, is_volume, writable, .. })| {
            let mut mount = json!({"Source": source, "Target": target, "ReadOnly": !writable});
            if *is_volume {
                (mount["Type"], mount["VolumeOptions"]) = (json!("volume"), json!({"NoCopy": true}));
            } else {
                mount["Type"] = json!("bind");
            }
            mount
        });
        mounts.chain([scratch]).collect()
    }

    fn secrets(&self, ids: &BTreeMap<String, String>) -> Result<Vec<Value>, String> {
        let reference = |name: &String| {
            let Some(id) = ids.get(name) else {
                return Err(format!(
                    "there is no Docker secret {name}; make it: docker secret create {name} FILE"
                ));
            };
            let file = json!({"Name": name, "UID": "0", "GID": "0", "Mode": 0o400});
            Ok(json!({"SecretID": id, "SecretName": name, "File": file}))
        };
        self.secrets.iter().map(reference).collect()
    }
}
