//! What our objects are called, and the labels by which they are found.
//!
//! No name begins like a stack and none carries a stack's label, so that no deployment of a user's ever touches them.

use crate::{
    domain::{identity::PolicyId, names::Slot, run::StepName},
    orchestrators::{swarm::engine::model::Labels, task_name},
    plan::observed::TaskName,
};

/// What an object is, on each of ours.
pub const KIND: &str = "backstay.kind";
/// Whose it is: [`identity`] of the policy.
pub const IDENTITY: &str = "backstay.identity";
/// Whose it is, for people; on a config of theirs, the policy that it declares.
pub const POLICY: &str = "backstay.policy";
/// The instance of a policy that a config declares.
pub const INSTANCE: &str = "backstay.instance";
/// The run.
pub const RUN: &str = "backstay.run";
/// The step of a task.
pub const STEP: &str = "backstay.step";
/// The attempt of a task.
pub const ATTEMPT: &str = "backstay.attempt";

/// The service whose networks a task is on: the task goes when that one does, so that its stack can be removed.
pub const CARRIER: &str = "backstay.carrier";

/// What the identity of a task without a service begins with.
pub const LEFT_OVER: &str = "task:";

/// What the objects are.
pub mod kind {
    /// The random identity of the site.
    pub const SITE: &str = "site";
    /// A run's record.
    pub const RUN: &str = "run";
    /// A policy's status.
    pub const STATUS: &str = "status";
    /// Something that a person asked for, and the answer.
    pub const REQUEST: &str = "request";
    /// A snapshot that is not pruned.
    pub const HOLD: &str = "hold";
    /// The newest restore drill.
    pub const DRILL: &str = "drill";
    /// What a task said that failed and is gone.
    pub const LOG: &str = "log";
    /// What the controller tells about itself.
    pub const CONTROLLER: &str = "controller";
    /// A task of the controller.
    pub const TASK: &str = "task";
    /// A task that a person waits for.
    pub const ERRAND: &str = "errand";
    /// A restore into a policy's sources.
    pub const RESTORE: &str = "restore";
}

/// The config with the site's identity.
pub const SITE: &str = "backstay-site";
/// The config with what the controller tells about itself.
pub const CONTROLLER: &str = "backstay-controller";

/// A policy in 16 hexadecimal digits, for names and filters.
pub fn identity(policy: &PolicyId) -> String {
    blake3::hash(policy.to_string().as_bytes()).to_hex().chars().take(16).collect()
}

/// The name of a config of a policy; of several of its kind, the one of `which`.
pub fn config(kind: &str, policy: &PolicyId, which: Option<&str>) -> String {
    let tail = which.map(|which| format!("-{which}")).unwrap_or_default();
    format!("backstay-{kind}-{}{tail}", identity(policy))
}

/// The labels that every object of a policy has.
pub fn labels(kind: &str, policy: &PolicyId) -> Labels {
    let labels = [(KIND, kind.to_owned()), (IDENTITY, identity(policy)), (POLICY, policy.to_string())];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The labels of a task: of the controller's, or of one that a person waits for.
pub fn task_labels(kind: &str, policy: &PolicyId, name: &TaskName) -> Labels {
    let mut labels = labels(kind, policy);
    labels.extend(name.slot.map(|slot| (RUN.to_owned(), slot.to_string())));
    labels.insert(STEP.to_owned(), name.step.to_string());
    labels.insert(ATTEMPT.to_owned(), name.attempt.to_string());
    labels
}

/// The task of the controller that has `labels`, or whose log.
pub fn task_of(labels: &Labels) -> Option<TaskName> {
    if !matches!(labels.get(KIND).map(String::as_str), Some(kind::TASK | kind::LOG)) {
        return None;
    }
    let slot = labels.get(RUN).map(|slot| slot.parse::<Slot>()).transpose().ok()?;
    let step: StepName = labels.get(STEP)?.parse().ok()?;
    Some(TaskName { slot, step, attempt: labels.get(ATTEMPT)?.parse().ok()? })
}

/// The policy that `labels` of one of our objects name.
pub fn policy_of(labels: &Labels) -> Option<PolicyId> {
    labels.get(KIND)?;
    labels.get(POLICY)?.parse().ok()
}

/// The name of a task's service: `backstay-<policy>-<slot>-<step>-<attempt>-<hash>`, the policy's name cut where it is too
/// long. The hash is of the whole identity, so nothing is confused by that.
pub fn service(policy: &PolicyId, name: &TaskName) -> String {
    task_name(policy, name, &identity(policy)[..10])
}

/// The identity that stands in a config's name.
pub fn identity_in(config: &str) -> Option<&str> {
    let (_, identity) = config.strip_prefix("backstay-")?.split_once('-')?;
    let end = identity.find('-').unwrap_or(identity.len());
    identity.get(..end).filter(|text| text.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_the_length_and_the_letters_that_swarm_takes() {
        let long: PolicyId = format!("Wt_prod/{}", "n".repeat(50)).parse().unwrap();
        let short: PolicyId = "wt/nightly".parse().unwrap();
        let slot: Slot = "20261125T020000Z-m".parse().unwrap();
        for policy in [&long, &short] {
            for task in [
                TaskName::of_run(slot, StepName::volumes(31), 11),
                TaskName::of_run(slot, StepName::backup(), 1),
                TaskName::preflight(i64::MAX >> 10),
            ] {
                let name = service(policy, &task);
                assert!(name.len() <= 63 && !name.contains('.'), "{name}");
                assert!(
                    name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'),
                    "{name}"
                );
                assert_eq!(task_of(&task_labels(kind::TASK, policy, &task)), Some(task));
            }
        }
        let name = service(&short, &TaskName::of_run(slot, StepName::mongodb(), 2));
        assert!(name.starts_with("backstay-nightly-20261125t020000z-m-mongodb-2-"), "{name}");
        assert_ne!(identity(&short), identity(&"lab/nightly".parse().unwrap()));
        let run = config(kind::RUN, &long, Some(&slot.to_string()));
        assert!(run.len() <= 64, "{run}");
        assert_eq!(identity_in(&run), Some(identity(&long).as_str()));
        assert_eq!(identity_in("wt_nightly"), None);
        assert_eq!(policy_of(&labels(kind::RUN, &long)), Some(long));
    }
}
