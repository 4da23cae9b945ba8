//! Restores, each a resource that is carried out once: planned by one task, done by another, and then never touched again.
//!
//! A restore and the runs of the policies whose sources it writes into exclude each other without a lock: a restore says in
//! its status that it begins and then looks for a run, a run makes its record and then looks for a restore.

use crate::{
    domain::{error::Invalid, identity::PolicyId, names::PolicyName, verdict::Failure},
    orchestrators::kubernetes::{
        names,
        objects::{self, Meta, Seen},
    },
    plan::{observed, task_spec::TaskReport},
};
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A `Restore`.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreSeen {
    pub meta: Meta,
    /// The policy that made the backups; where none is named, one of the restore's own name stands for it.
    pub id: PolicyId,
    pub spec: Value,
    pub status: Status,
}

impl Seen for RestoreSeen {
    fn meta(&self) -> &Meta {
        &self.meta
    }
    fn policy(&self) -> &PolicyId {
        &self.id
    }
}

/// How far a restore is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    /// What it would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Value>,
    /// What it has done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Policies of the namespace whose sources it writes into.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<PolicyName>,
    /// The task that does it was launched, or is about to be: never a second one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub launched: bool,
    /// It ended badly after it had begun to change things: those policies are held.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// A task finds out what would be done.
    Planning,
    /// A run of a policy whose sources it writes into has to end first.
    Waiting,
    /// It is done, or about to be.
    Restoring,
    /// The plan is all that was asked for.
    Planned,
    /// It is done.
    Succeeded,
    /// It is not, or not all of it.
    Failed,
    /// It cannot be meant.
    Refused,
}

impl Phase {
    /// True once nothing is to be done any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Planning | Self::Waiting | Self::Restoring)
    }
}

/// What a `Restore` says; nothing of one without a name that a policy could have.
pub fn seen(object: &DynamicObject) -> Option<RestoreSeen> {
    let meta = objects::meta(&object.metadata)?;
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let named = spec.pointer("/from/policy").and_then(Value::as_str).unwrap_or(&meta.name);
    let id = names::policy(&meta.namespace, named)?;
    let status = match object.data.get("status") {
        None | Some(Value::Null) => Status::default(),
        // One of another version was begun by that version: it is never done again.
        Some(status) => serde_json::from_value(status.clone())
            .unwrap_or_else(|_| Status { phase: Some(Phase::Refused), ..Status::default() }),
    };
    Some(RestoreSeen { id, spec, status, meta })
}

/// The restores into a policy's sources that are not settled.
pub fn of(restores: &[RestoreSeen], policy: &PolicyId) -> Vec<observed::Restore> {
    let concerned = restores.iter().filter(|restore| restore.status.excludes.contains(policy.name()));
    let concerned: Vec<&RestoreSeen> = concerned.collect();
    let mended = |since: Option<Timestamp>| {
        concerned
            .iter()
            .any(|other| other.status.phase == Some(Phase::Succeeded) && other.status.start_time > since)
    };
    let unsettled = concerned.iter().filter_map(|restore| {
        let Status { phase, message, start_time, incomplete, .. } = &restore.status;
        let active = *phase == Some(Phase::Restoring);
        let is_unsettled = active || (*incomplete && !mended(*start_time));
        is_unsettled.then(|| observed::Restore {
            id: restore.meta.name.clone(),
            started_at: start_time.unwrap_or(restore.meta.created_at),
            active,
            message: message.clone().unwrap_or_default(),
        })
    });
    unsettled.collect()
}

/// How a task of a restore ended.
pub struct Ended {
    /// What it said.
    pub report: Option<TaskReport>,
    /// Where it said nothing: what is known.
    pub detail: String,
}

impl Ended {
    /// Why it failed.
    pub fn failure(&self) -> Option<Failure> {
        match &self.report {
            Some(report) => report.failure.clone(),
            None => Some(Failure::temporary(
                "TaskLost",
                format!("its task ended without a report: {}", self.detail),
            )),
        }
    }

    /// What was chosen.
    pub fn snapshot(&self) -> Option<String> {
        Some(self.report.as_ref()?.snapshot.as_ref()?.name.to_string())
    }
}

/// The status of one that cannot be meant.
pub fn refused(error: &Invalid, now: Timestamp) -> Status {
    Status {
        phase: Some(Phase::Refused),
        message: Some(error.to_string()),
        fix: Some("make another Restore; this one is not looked at again".to_owned()),
        completion_time: Some(now),
        ..Status::default()
    }
}

/// The status of one that failed.
pub fn failed(before: &Status, failure: &Failure, now: Timestamp) -> Status {
    let confirm = (failure.reason == "TargetNotEmpty").then(|| {
        "if it may be replaced, make another Restore with confirm: {policy: NAME, notAfter: a time within 24 hours}, and mongodb.replace: true for collections that exist".to_owned()
    });
    Status {
        phase: Some(Phase::Failed),
        message: Some(failure.message.clone()),
        fix: failure.fix.clone().or(confirm),
        completion_time: Some(now),
        ..before.clone()
    }
}

/// The status after the deed.
pub fn done(before: &Status, end: &Ended, now: Timestamp) -> Status {
    let outcome = end.report.as_ref().and_then(|report| report.outcome.clone());
    let Some(failure) = end.failure() else {
        return Status {
            phase: Some(Phase::Succeeded),
            message: Some(format!("snapshot {} is restored", end.snapshot().unwrap_or_default())),
            completion_time: Some(now),
            result: outcome.and_then(|outcome| outcome.get("done").cloned()),
            snapshot: end.snapshot().or_else(|| before.snapshot.clone()),
            ..before.clone()
        };
    };
    // Without a report nobody knows how far it came.
    let incomplete = end.report.is_none() || outcome.is_some_and(|outcome| outcome == "broken");
    Status { incomplete, ..failed(before, &failure, now) }
}
