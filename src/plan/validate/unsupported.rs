//! What this version does not carry out, or what has no meaning here: refused, so that nothing is silently less than what was
//! asked.

use super::{errors::Errors, orchestrator::Orchestrator};
use crate::api::{
    policy::BackupPolicySpec,
    task::{ResourcesSpec, TaskSettingsSpec},
};

/// Adds an error for every such field that is set.
pub(super) fn refuse(spec: &BackupPolicySpec, orchestrator: Orchestrator, errors: &mut Errors) {
    let later = [
        ("encryption", spec.encryption.is_some()),
        ("verify", spec.verify.is_some()),
        ("notify", !spec.notify.is_empty()),
    ];
    for (field, _) in later.into_iter().filter(|(_, set)| *set) {
        errors.add(field, "is not carried out yet by this version; leave it out");
    }
    match (&spec.task, orchestrator) {
        (Some(task), Orchestrator::Kubernetes) if !task.networks.is_empty() => {
            errors.add("task.networks", "is for Swarm; on Kubernetes leave it out");
        }
        (None, _) | (_, Orchestrator::Kubernetes) => {}
        (Some(task), _) => task_settings(task, orchestrator, errors),
    }
}

/// Without Kubernetes there is no one who does all of it; on a host alone there is no one even to place tasks.
fn task_settings(task: &TaskSettingsSpec, orchestrator: Orchestrator, errors: &mut Errors) {
    let TaskSettingsSpec {
        resources,
        timeout_seconds: _,
        pending_seconds: _,
        retries: _,
        node_selector,
        networks,
        security_context,
        priority_class_name,
        tolerations,
        service_account_name,
        image_pull_secrets,
    } = task;
    let elsewhere = [
        ("nodeSelector", "Swarm and Kubernetes", !node_selector.is_empty()),
        ("networks", "Swarm", !networks.is_empty()),
        ("securityContext", "Kubernetes", security_context.is_some()),
        ("priorityClassName", "Kubernetes", priority_class_name.is_some()),
        ("tolerations", "Kubernetes", !tolerations.is_empty()),
        ("serviceAccountName", "Kubernetes", service_account_name.is_some()),
        ("imagePullSecrets", "Kubernetes", !image_pull_secrets.is_empty()),
    ];
    let (here, is_swarm) = match orchestrator {
        Orchestrator::Swarm => ("on Swarm", true),
        _ => ("on a host alone", false),
    };
    let is_meant = |place: &str| is_swarm && place.starts_with("Swarm");
    for (field, place, _) in elsewhere.into_iter().filter(|(_, place, set)| *set && !is_meant(place)) {
        errors.add(&format!("task.{field}"), format!("is for {place}; {here} leave it out"));
    }
    let Some(ResourcesSpec { requests, limits }) = resources else { return };
    let place = if is_swarm { "Kubernetes" } else { "Swarm and Kubernetes" };
    if !requests.is_empty() {
        errors.add("task.resources.requests", format!("is for {place}; {here} leave it out"));
    }
    for name in limits.keys().filter(|name| *name != "memory") {
        errors.add(
            &format!("task.resources.limits.{name}"),
            format!("is for {place}; {here} only memory can be limited"),
        );
    }
}
