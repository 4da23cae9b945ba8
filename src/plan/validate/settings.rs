//! How long, how much, how often.

use super::{errors::Errors, orchestrator::Orchestrator};
use crate::{
    api::{
        policy::{GuardsSpec, RetentionSpec},
        task::{ResourcesSpec, TaskSettingsSpec, TolerationSpec},
    },
    domain::{
        error::Invalid,
        location::Location,
        policy::{Guards, Placement, PodSettings, TaskSettings},
        retention::Retention,
        size,
    },
};
use std::time::Duration;

/// One attempt may take this long: a first full upload to a slow remote needs most of a day.
const TIMEOUT: Duration = Duration::from_hours(24);
/// One attempt may wait this long for its start.
const PENDING: Duration = Duration::from_mins(15);
/// Attempts after the first.
const RETRIES: u8 = 2;
/// MiB for buffers.
const MEMORY_MIB: u32 = 128;
/// Below this a task cannot fill its pipeline.
const LEAST_MEMORY_MIB: u32 = 64;
/// Memory of rclone, mongodump and the program itself beside the buffers, MiB.
pub const CHILDREN_MIB: u32 = 512;
/// Percent of the last good run below which a source is taken for broken.
const MINIMUM_SOURCE_PERCENT: u8 = 50;

/// How long snapshots are kept.
pub(super) fn retention(spec: Option<&RetentionSpec>, errors: &mut Errors) -> Option<Retention> {
    let Some(RetentionSpec {
        keep_within_days,
        keep_last,
        keep_daily,
        keep_weekly,
        keep_monthly,
        keep_yearly,
    }) = spec
    else {
        return Some(Retention::default());
    };
    let rules = [keep_within_days, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly];
    if rules.iter().all(|rule| rule.is_none()) {
        return Some(Retention::default());
    }
    let [keep_within_days, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly] =
        rules.map(|rule| rule.and_then(|n| u32::try_from(n).ok()).unwrap_or(0));
    let retention =
        Retention { keep_within_days, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly };
    if rules.iter().all(|rule| rule.unwrap_or(0) == 0) {
        errors.add(
            "retention",
            "keeps nothing: every rule is 0; set one of them, or leave retention out for seven days",
        );
        return None;
    }
    Some(retention)
}

/// When a source looks too small to be true.
pub(super) fn guards(spec: Option<&GuardsSpec>) -> Guards {
    let percent = spec.and_then(|GuardsSpec { minimum_source_percent }| *minimum_source_percent);
    Guards {
        minimum_source_percent: percent.and_then(|n| u8::try_from(n).ok()).unwrap_or(MINIMUM_SOURCE_PERCENT),
    }
}

/// How tasks run.
pub(super) fn task(
    spec: Option<&TaskSettingsSpec>,
    orchestrator: Orchestrator,
    errors: &mut Errors,
) -> Option<TaskSettings> {
    let limit =
        spec.and_then(|task| task.resources.as_ref()).and_then(|resources| resources.limits.get("memory"));
    let memory_mib = match limit {
        Some(text) => errors.keep("task.resources.limits.memory", memory(text, orchestrator))?,
        None => MEMORY_MIB,
    };
    Some(TaskSettings {
        timeout: spec.and_then(|task| task.timeout_seconds).and_then(seconds).unwrap_or(TIMEOUT),
        pending: spec.and_then(|task| task.pending_seconds).and_then(seconds).unwrap_or(PENDING),
        retries: spec.and_then(|task| task.retries).and_then(|n| u8::try_from(n).ok()).unwrap_or(RETRIES),
        memory_mib,
        placement: placement(spec, memory_mib, orchestrator),
    })
}

fn placement(spec: Option<&TaskSettingsSpec>, memory_mib: u32, orchestrator: Orchestrator) -> Placement {
    let spec = spec.cloned().unwrap_or_default();
    Placement {
        node_selector: spec.node_selector.clone(),
        networks: spec.networks.clone(),
        image: None,
        pod: match orchestrator {
            Orchestrator::Kubernetes => pod(spec, memory_mib),
            Orchestrator::Local | Orchestrator::Swarm => PodSettings::default(),
        },
    }
}

/// What is asked of a Pod: a limit for the memory and a little set aside, where nothing else is said.
fn pod(spec: TaskSettingsSpec, memory_mib: u32) -> PodSettings {
    let ResourcesSpec { mut requests, mut limits } = spec.resources.unwrap_or_default();
    for (name, little) in [("memory", format!("{memory_mib}Mi")), ("cpu", "100m".to_owned())] {
        // A limit alone is a request as well.
        if !limits.contains_key(name) {
            requests.entry(name.to_owned()).or_insert(little);
        }
    }
    limits.entry("memory".to_owned()).or_insert_with(|| format!("{}Mi", memory_mib + CHILDREN_MIB));
    let toleration = |spec: &TolerationSpec| serde_json::to_value(spec).unwrap_or_default();
    PodSettings {
        requests,
        limits,
        security_context: spec.security_context.unwrap_or_default(),
        priority_class_name: spec.priority_class_name,
        tolerations: spec.tolerations.iter().map(toleration).collect(),
        service_account_name: spec.service_account_name,
        image_pull_secrets: spec.image_pull_secrets.into_iter().map(|secret| secret.name).collect(),
    }
}

/// MiB for buffers. Kubernetes takes a limit as the limit of all in the container: there the children's part is taken off.
fn memory(text: &str, orchestrator: Orchestrator) -> Result<u32, Invalid> {
    let mib = u32::try_from(size::parse_quantity(text)? >> 20).unwrap_or(u32::MAX);
    let children = match orchestrator {
        Orchestrator::Kubernetes => CHILDREN_MIB,
        Orchestrator::Local | Orchestrator::Swarm => 0,
    };
    let least = LEAST_MEMORY_MIB + children;
    if mib < least {
        return Err(Invalid::new(format!("{text:?} is too little; a task needs at least {least}Mi")));
    }
    Ok(mib - children)
}

/// Two parts must fit into the memory: one that is sent, one that is filled.
pub(super) fn parts_fit(destination: &Location, task: &TaskSettings, errors: &mut Errors) {
    let (part, memory) = (destination.part_size_mib, task.memory_mib);
    if part.saturating_mul(2) > memory {
        errors.add(
            "destination.partSizeMiB",
            format!(
                "{part} is too much for a task's memory of {memory} MiB; write at most {}, or raise task.resources.limits.memory to {}Mi",
                memory / 2,
                part.saturating_mul(2)
            ),
        );
    }
}

/// A number of seconds that the schema has bounded.
pub(super) fn seconds(number: i64) -> Option<Duration> {
    u64::try_from(number).ok().map(Duration::from_secs)
}
