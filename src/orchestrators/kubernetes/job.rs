//! The Job that runs one task: a pure function of the task and of what is known about its surroundings.
//!
//! One Pod, never a second one: retries are the controller's, under other names. The task finds what it does in its
//! environment, and all that it reads at places of its own: a claim below `/volumes`, a Secret below `/secrets`. What it
//! says at its end is the container's termination message.

use crate::{
    api::API_VERSION,
    domain::{
        identity::PolicyId,
        location::SecretSource,
        policy::{Source, VolumePlace},
    },
    orchestrators::{
        MEMORY_TO_GIVE_BACK,
        container::{self, GRACE_SECONDS, Places},
        kubernetes::{facts::claim, names},
    },
    plan::{
        action::NewTask,
        task_spec::{SPEC_VARIABLE, Work},
    },
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// A Job ends so long after its task should have ended itself, seconds.
const SLACK: i64 = 120;
/// Whoever runs a task that needs no rights.
const NOBODY: u64 = 65534;
/// The container of the task, among those that others may add.
pub const CONTAINER: &str = "task";
/// Where the container leaves its last words.
const LAST_WORDS: &str = "/dev/termination-log";
/// Fields of a security context that are a Pod's alone.
const OF_POD: &[&str] =
    &["fsGroup", "fsGroupChangePolicy", "supplementalGroups", "supplementalGroupsPolicy", "sysctls"];

/// A task to be launched.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Whose.
    pub policy: &'a PolicyId,
    /// Which.
    pub task: &'a NewTask,
    /// What it belongs to, and goes with.
    pub owner: Owner<'a>,
    /// The image, where the plan names none.
    pub image: &'a str,
    /// The namespace lets tasks read files of all users, as root.
    pub allows_root: bool,
    /// The node that has its claims, where only one has.
    pub node: Option<&'a str>,
    /// Why it must not start.
    pub held_back: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// The object that a Job belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// `Backup` or `BackupPolicy`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'a str,
    /// Its identity.
    pub uid: &'a str,
}

impl Owner<'_> {
    /// As Kubernetes writes it.
    pub fn reference(&self) -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": self.kind,
            "name": self.name, "uid": self.uid, "controller": true, "blockOwnerDeletion": false,
        })
    }
}

/// The Job, as the server takes it.
///
/// # Errors
/// What keeps it from being made, for a person.
pub fn job(launch: Launch<'_>) -> Result<Value, String> {
    let Launch { policy, task, owner, held_back, now, .. } = launch;
    check_security(&task.placement.pod.security_context, launch.allows_root)?;
    let mut needs = Needs::default();
    let spec = container::told(&task.spec, &mut needs)?;
    let labels = names::task_labels(policy, &task.name);
    let annotations = held_back.map(|why| json!({names::HELD_BACK: why})).unwrap_or_else(|| json!({}));
    let deadline = task.spec.not_after.duration_since(now).as_secs().max(0) + SLACK;
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": names::job(policy, &task.name, owner.uid), "namespace": names::namespace(policy),
            "labels": labels, "annotations": annotations, "ownerReferences": [owner.reference()],
        },
        "spec": {
            "suspend": held_back.is_some(),
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": deadline,
            "podFailurePolicy": {"rules": [{
                "action": "FailJob",
                "onExitCodes": {"containerName": CONTAINER, "operator": "NotIn", "values": [0]},
            }]},
            // A proxy beside the task would never let the Pod end.
            "template": {"metadata": {"labels": labels, "annotations": {"sidecar.istio.io/inject": "false"}}, "spec": pod(launch, &needs, &spec)},
        },
    }))
}

fn pod(launch: Launch<'_>, needs: &Needs, spec: &str) -> Value {
    let Launch { task, image, node, .. } = launch;
    let settings = &task.placement.pod;
    let (of_pod, of_container) = security(launch, needs);
    let (name, value) = MEMORY_TO_GIVE_BACK;
    let of_task = json!({
        "name": CONTAINER,
        "image": task.placement.image.as_deref().unwrap_or(image),
        // The image is that of the controller, which has it by digest or is sure of its tag.
        "imagePullPolicy": "IfNotPresent",
        "args": ["task", "--report", LAST_WORDS],
        "env": [{"name": SPEC_VARIABLE, "value": spec}, {"name": name, "value": value}, {"name": "HOME", "value": "/tmp"}],
        "resources": {"limits": settings.limits, "requests": settings.requests},
        "securityContext": of_container,
        "terminationMessagePath": LAST_WORDS,
        "volumeMounts": needs.mounts(),
    });
    let mut tolerations = settings.tolerations.clone();
    let mut pod = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": of_pod,
        "nodeSelector": task.placement.node_selector,
        "containers": [of_task],
        "volumes": needs.volumes(),
    });
    if let Some(node) = node {
        // It sits beside those who use the claim, also where nobody new may come.
        tolerations.push(
            json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}),
        );
        pod["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]}}});
    }
    pod["tolerations"] = json!(tolerations);
    if let Some(class) = &settings.priority_class_name {
        pod["priorityClassName"] = json!(class);
    }
    if let Some(account) = &settings.service_account_name {
        pod["serviceAccountName"] = json!(account);
    }
    let secrets = settings.image_pull_secrets.iter().map(|name| json!({"name": name}));
    pod["imagePullSecrets"] = secrets.collect();
    pod
}

/// What a policy may ask for by itself: nothing that makes its task more than the user it is.
///
/// # Errors
/// A field that is not known, or one that only the administrator of the namespace may allow.
fn check_security(given: &BTreeMap<String, Value>, allows_root: bool) -> Result<(), String> {
    const HARMLESS: &[&str] =
        &["runAsGroup", "runAsNonRoot", "readOnlyRootFilesystem", "seLinuxOptions", "appArmorProfile"];
    for (field, value) in given {
        let is_more = match field.as_str() {
            known if HARMLESS.contains(&known) || OF_POD.contains(&known) => false,
            "runAsUser" => value == &json!(0),
            "privileged" | "allowPrivilegeEscalation" => value != &json!(false),
            "capabilities" => value.get("add").is_some_and(|add| add != &json!([])),
            "seccompProfile" => value.get("type") == Some(&json!("Unconfined")),
            "procMount" => value != &json!("Default"),
            _ => return Err(format!("task.securityContext.{field}: there is no such field")),
        };
        if is_more && !allows_root {
            return Err(format!(
                "task.securityContext.{field}: {value} is more than tasks of this namespace may have; its administrator can allow it: kubectl annotate namespace NAME {}=true",
                names::ALLOW_ROOT
            ));
        }
    }
    Ok(())
}

/// What is said of the Pod and what of its container: what the strictest policy of Kubernetes asks for, root where it is
/// allowed and needed, and above all what a person wrote.
fn security(launch: Launch<'_>, needs: &Needs) -> (Value, Value) {
    let given = &launch.task.placement.pod.security_context;
    let as_root = launch.allows_root && needs.reads_claims() && !given.contains_key("runAsUser");
    let user = if as_root { 0 } else { NOBODY };
    let mut capabilities = json!({"drop": ["ALL"]});
    if as_root {
        capabilities["add"] = json!(container::capabilities(&launch.task.spec.work));
    }
    let mut container = json!({
        "runAsNonRoot": !as_root, "runAsUser": user, "runAsGroup": user,
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": capabilities, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let mut pod = Map::new();
    for (field, value) in given {
        if OF_POD.contains(&field.as_str()) {
            pod.insert(field.clone(), value.clone());
        } else {
            container[field] = value.clone();
        }
    }
    if given.get("runAsUser") == Some(&json!(0)) && !given.contains_key("runAsNonRoot") {
        container["runAsNonRoot"] = json!(false);
    }
    (Value::Object(pod), container)
}

/// The claims that a task needs.
pub fn claims(work: &Work) -> BTreeSet<String> {
    let places: Vec<&VolumePlace> = match work {
        Work::Backup(backup) => backup.sources.iter().filter_map(place_of).collect(),
        Work::Preflight { sources } => sources.iter().filter_map(place_of).collect(),
        Work::Restore(restore) => restore.request.volumes.iter().map(|target| &target.place).collect(),
        Work::Finish(_) | Work::Verify(_) | Work::Prune(_) => Vec::new(),
    };
    places.into_iter().filter_map(claim).map(str::to_owned).collect()
}

fn place_of(source: &Source) -> Option<&VolumePlace> {
    match source {
        Source::Volume(volume) => Some(&volume.place),
        Source::Mongodb(_) => None,
    }
}

/// What the task needs in its container.
#[derive(Debug, Default)]
struct Needs {
    /// Claims by name, and whether they may be written to.
    claims: BTreeMap<String, bool>,
    /// Keys of Secrets.
    secrets: BTreeMap<String, BTreeSet<String>>,
}

impl Places for Needs {
    fn volume(&mut self, place: &VolumePlace, writable: bool, _: bool) -> Result<VolumePlace, String> {
        let VolumePlace::Claim(name) = place else {
            return Err("a volume of another orchestrator cannot be mounted here".to_owned());
        };
        *self.claims.entry(name.clone()).or_default() |= writable;
        Ok(VolumePlace::Mounted { at: Path::new("/volumes").join(name), name: name.clone() })
    }

    fn secret(&mut self, secret: &mut SecretSource) -> Result<(), String> {
        let SecretSource::Key { name, key } = secret else {
            return Err("a file of a node cannot be mounted here".to_owned());
        };
        self.secrets.entry(name.clone()).or_default().insert(key.clone());
        let path: PathBuf = Path::new("/secrets").join(name).join(key);
        *secret = SecretSource::File(path);
        Ok(())
    }

    fn directory(&mut self, _: &Path) -> Result<PathBuf, String> {
        Err("a directory of a node cannot be mounted here".to_owned())
    }
}

impl Needs {
    fn reads_claims(&self) -> bool {
        !self.claims.is_empty()
    }

    fn mounts(&self) -> Value {
        let claims = self.claims.iter().enumerate().map(|(n, (name, writable))| {
            json!({"name": format!("claim-{n}"), "mountPath": format!("/volumes/{name}"), "readOnly": !writable})
        });
        let secrets = self.secrets.keys().enumerate().map(|(n, name)| {
            json!({"name": format!("secret-{n}"), "mountPath": format!("/secrets/{name}"), "readOnly": true})
        });
        claims.chain(secrets).chain([json!({"name": "tmp", "mountPath": "/tmp"})]).collect()
    }

    fn volumes(&self) -> Value {
        let claims = self.claims.iter().enumerate().map(|(n, (name, writable))| {
            let claim = json!({"claimName": name, "readOnly": !writable});
            json!({"name": format!("claim-{n}"), "persistentVolumeClaim": claim})
        });
        let secrets = self.secrets.iter().enumerate().map(|(n, (name, keys))| {
            let items: Vec<Value> = keys.iter().map(|key| json!({"key": key, "path": key})).collect();
            // Whoever runs the task must read them; nobody else is in the Pod.
            let secret = json!({"secretName": name, "items": items, "defaultMode": 0o444});
            json!({"name": format!("secret-{n}"), "secret": secret})
        });
        // Secrets are copied there: it must not reach a disk.
        let scratch = json!({"name": "tmp", "emptyDir": {"medium": "Memory"}});
        claims.chain(secrets).chain([scratch]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_asks_for_no_more_rights_than_the_namespace_allows() {
        let check =
            |text: &str, allows_root| check_security(&serde_json::from_str(text).unwrap(), allows_root);
        for fine in
            [r#"{"runAsUser": 1000, "fsGroup": 1000}"#, r#"{"capabilities": {"drop": ["ALL"]}}"#, "{}"]
        {
            assert_eq!(check(fine, false), Ok(()), "{fine}");
        }
        for more in [
            r#"{"runAsUser": 0}"#,
            r#"{"privileged": true}"#,
            r#"{"allowPrivilegeEscalation": true}"#,
            r#"{"capabilities": {"add": ["SYS_ADMIN"]}}"#,
            r#"{"seccompProfile": {"type": "Unconfined"}}"#,
            r#"{"procMount": "Unmasked"}"#,
        ] {
            assert!(check(more, false).unwrap_err().contains("backstay.dev/allow-root"), "{more}");
            assert_eq!(check(more, true), Ok(()), "{more}");
        }
        assert!(check(r#"{"runAsUsr": 1000}"#, true).unwrap_err().contains("no such field"));
    }
}
