//! The end of a policy's newest run on the service that carries it, where its labels ask for that
//! (`backstay.<policy>.status: service`).
//!
//! Writing on a user's service costs: `docker service rollback` then only takes our label back, and the next deployment
//! removes it. So it is off by default, written at most once a run, and never while the service is being changed or a task of
//! it does not run: a paused rollout would go on, and a task that waits for its node would stay waiting.

use crate::{
    domain::{
        identity::PolicyId,
        status::{RunSummary, Status},
    },
    orchestrators::swarm::{
        engine::{
            Engine,
            model::{Labels, Task},
            refusal::Refusal,
        },
        facts::{Cluster, Facts},
        names::{self, kind},
        objects,
    },
};
use serde_json::{Value, json};
use tracing::{debug, warn};

/// What our labels on a service of theirs begin with: not as those of policies do.
const PREFIX: &str = "backstay-status";
/// A specification that is longer than this, bytes, gets no label: an engine refuses those of 1.5 MiB.
const LONGEST: usize = 512 << 10;

/// Writes what has changed since it was written last. What is refused now is tried again at the next look.
pub(super) async fn write(engine: &Engine, cluster: &Cluster, policy: &PolicyId, facts: &Facts) {
    let Some(carrier) = facts.carrier.as_ref().filter(|_| facts.mirrors) else { return };
    let name = names::config(kind::STATUS, policy, None);
    let Some(config) = cluster.configs.iter().find(|config| config.spec.name == name) else { return };
    let wanted = labels(policy, &objects::status(config).value);
    let Some(service) = cluster.services.iter().find(|service| service.id == *carrier) else { return };
    if wanted.iter().all(|(key, value)| service.spec.labels.get(key) == Some(value)) {
        return;
    }
    match write_on(engine, carrier, &wanted).await {
        Ok(None) => {}
        Ok(Some(why)) => debug!(%policy, service = service.spec.name, why, "the status is not mirrored now"),
        Err(refusal) if refusal.is_stale() || refusal.is_absent() => {}
        Err(refusal) => warn!(%policy, service = service.spec.name, %refusal, "the status is not mirrored"),
    }
}

async fn write_on(engine: &Engine, service: &str, wanted: &Labels) -> Result<Option<&'static str>, Refusal> {
    let services = [service];
    let (mut whole, tasks) = tokio::try_join!(engine.whole_service(service), engine.tasks_of(&services))?;
    if let Some(why) = obstacle(&whole, &tasks) {
        return Ok(Some(why));
    }
    let version = whole["Version"]["Index"].as_u64().unwrap_or_default();
    let mut spec = whole["Spec"].take();
    let Some(labels) = spec["Labels"].as_object_mut() else { return Ok(Some("it has no labels")) };
    labels.extend(wanted.iter().map(|(key, value)| (key.clone(), json!(value))));
    engine.update_service(service, version, &spec).await.map(|()| None)
}

/// What keeps us from writing on a service now.
fn obstacle(service: &Value, tasks: &[Task]) -> Option<&'static str> {
    let update = service["UpdateStatus"]["State"].as_str().unwrap_or_default();
    if !matches!(update, "" | "completed" | "rollback_completed") {
        return Some("an update of it is not over");
    }
    let wanted = tasks.iter().filter(|task| task.desired == "running");
    if wanted.into_iter().any(|task| task.status.state != "running") {
        return Some("a task of it does not run");
    }
    (service["Spec"].to_string().len() > LONGEST).then_some("its specification is too long")
}

/// What is written of a status: nothing before a run has ended.
fn labels(policy: &PolicyId, status: &Status) -> Labels {
    let key = |what: &str| format!("{PREFIX}.{}.{what}", policy.name());
    let run = |run: &RunSummary| format!("{} {:?}", run.slot, run.outcome);
    let last = status.last_run.as_ref().map(|last| (key("last-run"), run(last)));
    let good =
        status.last_success.as_ref().map(|good| (key("last-success"), good.completion_time.to_string()));
    last.into_iter().chain(good).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_being_changed_is_left_alone() {
        let task = |desired: &str, state: &str| -> Task {
            serde_json::from_value(json!({"DesiredState": desired, "Status": {"State": state}})).unwrap()
        };
        let service = |state: &str| json!({"Spec": {"Name": "mongo"}, "UpdateStatus": {"State": state}});
        let (runs, waits) = (task("running", "running"), task("running", "pending"));
        let gone = task("shutdown", "failed");
        let table = [
            (json!({"Spec": {}}), vec![runs.clone(), gone], None),
            (service("completed"), vec![runs.clone()], None),
            (service("rollback_completed"), vec![], None),
            (service("updating"), vec![runs.clone()], Some("an update of it is not over")),
            (service("paused"), vec![runs.clone()], Some("an update of it is not over")),
            (service("rollback_paused"), vec![], Some("an update of it is not over")),
            (service("completed"), vec![runs, waits], Some("a task of it does not run")),
            (json!({"Spec": "x".repeat(LONGEST)}), vec![], Some("its specification is too long")),
        ];
        for (service, tasks, expected) in table {
            assert_eq!(obstacle(&service, &tasks), expected, "{}", service["UpdateStatus"]);
        }
        let nothing = labels(&"wt/nightly".parse().unwrap(), &Status::default());
        assert!(nothing.is_empty(), "{nothing:?}");
    }
}
