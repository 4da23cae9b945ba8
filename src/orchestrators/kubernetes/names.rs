//! What our objects are called, and the labels by which they are found.

use crate::{
    domain::{identity::PolicyId, names::Slot, run::StepName},
    orchestrators::task_name,
    plan::observed::TaskName,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// `apiVersion` group of our resources.
pub const GROUP: &str = "backstay.dev";
/// Version of our resources.
pub const VERSION: &str = "v1alpha1";
/// Who writes our fields, for server-side apply and events.
pub const FIELD_MANAGER: &str = "backstay";

/// Label: the policy's name; the namespace is the object's own.
pub const POLICY: &str = "backstay.dev/policy";
/// Label: the run, by its slot.
pub const RUN: &str = "backstay.dev/run";
/// Label: the step of a task.
pub const STEP: &str = "backstay.dev/step";
/// Label: the attempt of a task.
pub const ATTEMPT: &str = "backstay.dev/attempt";
/// Label: what made an object that may be removed again by itself.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub const BACKSTAY: &str = "backstay";
/// Selects the Jobs of tasks, and their Pods.
pub const TASKS: &str = STEP;

/// Annotation of a policy: snapshots that a person holds, with commas between them.
pub const HOLDS: &str = "backstay.dev/holds";
/// Annotation of a namespace: tasks of its policies may read files of all users, as root.
pub const ALLOW_ROOT: &str = "backstay.dev/allow-root";
/// Annotation of a Job that is kept from starting: why.
pub const HELD_BACK: &str = "backstay.dev/held-back";
/// Annotation of a request that somebody waits for: seconds that they wait since it was renewed.
pub const PATIENCE: &str = "backstay.dev/patience-seconds";
/// Annotation of a request: when somebody last said that they wait for it.
pub const RENEWED: &str = "backstay.dev/renewed";

/// The record of a run that no person asked for.
pub fn backup(policy: &PolicyId, slot: Slot) -> String {
    format!("{}-{slot}", policy.name()).to_lowercase()
}

/// The Job of a task. `owner` is the identity of the object that it belongs to.
pub fn job(policy: &PolicyId, task: &TaskName, owner: &str) -> String {
    let identity = blake3::hash(owner.as_bytes()).to_hex();
    task_name(policy, task, &identity[..10])
}

/// The labels of a task's Job and Pod.
pub fn task_labels(policy: &PolicyId, task: &TaskName) -> BTreeMap<String, String> {
    let slot = task.slot.map(|slot| (RUN, slot.to_string()));
    let others = [
        (MANAGED_BY, BACKSTAY.to_owned()),
        (POLICY, policy.name().to_string()),
        (STEP, task.step.to_string()),
        (ATTEMPT, task.attempt.to_string()),
    ];
    others.into_iter().chain(slot).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The task whose labels these are.
pub fn task_of(meta: &ObjectMeta) -> Option<TaskName> {
    let label = |key: &str| meta.labels.as_ref()?.get(key);
    let slot = label(RUN).map(|slot| slot.parse::<Slot>()).transpose().ok()?;
    let step: StepName = label(STEP)?.parse().ok()?;
    Some(TaskName { slot, step, attempt: label(ATTEMPT)?.parse().ok()? })
}

/// The policy that an object of ours is about.
pub fn policy_of(meta: &ObjectMeta) -> Option<PolicyId> {
    policy(meta.namespace.as_deref()?, meta.labels.as_ref()?.get(POLICY)?)
}

/// The policy of a namespace.
pub fn policy(namespace: &str, name: &str) -> Option<PolicyId> {
    Some(PolicyId::new(Some(namespace.parse().ok()?), name.parse().ok()?))
}

/// The namespace of a policy.
pub fn namespace(policy: &PolicyId) -> &str {
    policy.scope().map_or("default", |scope| scope.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_such_as_kubernetes_takes() {
        let policy: PolicyId = format!("wt-prod/{}", "n".repeat(50)).parse().unwrap();
        let slot: Slot = "20261125T020000Z-m".parse().unwrap();
        for task in [TaskName::of_run(slot, StepName::volumes(31), 11), TaskName::preflight(i64::MAX >> 10)] {
            let name = job(&policy, &task, "6a1c");
            assert!(name.len() <= 63 && !name.contains('.'), "{name}");
            let labels = task_labels(&policy, &task);
            assert!(labels.values().all(|value| value.len() <= 63), "{labels:?}");
            let meta =
                ObjectMeta { labels: Some(labels), namespace: Some("wt-prod".into()), ..Default::default() };
            assert_eq!(task_of(&meta), Some(task.clone()));
            assert_eq!(policy_of(&meta), Some(policy.clone()));
            assert_ne!(job(&policy, &task, "a"), job(&policy, &task, "b"), "the owner is part of it");
        }
        assert_eq!(backup(&"wt/nightly".parse().unwrap(), slot), "nightly-20261125t020000z-m");
    }
}
