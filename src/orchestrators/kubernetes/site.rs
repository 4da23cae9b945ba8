//! The cluster as people ask it: see [`Site`]. With the rights of whoever asks: a namespace that they may not look at is not
//! there for them.

use crate::{
    api::{API_VERSION, document::Defaults},
    controller::clock::{Clock as _, SystemClock},
    domain::{
        identity::PolicyId,
        names::{Slot, SnapshotName},
        run::{Run, RunState},
        status::Status,
        verdict::Failure,
    },
    orchestrators::{
        kubernetes::{
            client::{Cluster, code, failed, found},
            job::Owner,
            lease, names,
            objects::{self, BackupSeen, PolicySeen},
            records,
        },
        last_progress, random_number,
        site::{self, Controller, Known, Problem, Read, TaskLog},
    },
    plan::{
        action::Answer,
        observed::{Spec, TaskName, Wish},
        task_spec::{Progress, TaskReport},
        validate::{Facts, Orchestrator},
    },
};
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    api::{ListParams, LogParams, Patch, PatchParams, PostParams, Preconditions},
    core::DynamicObject,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// What stands before the name of a record whose run is to be cancelled, as the identity of that request.
const CANCEL: &str = "cancel:";
/// Lines of a log among which the newest progress is.
const LINES: i64 = 20;

/// A cluster, through the configuration of kubectl.
#[derive(Debug)]
pub struct KubernetesSite {
    context: Option<String>,
    namespace: Option<String>,
    facts: Facts,
}

impl KubernetesSite {
    /// The cluster of a context, or the one in use; one namespace of it, or all that may be looked at.
    pub fn new(context: Option<String>, namespace: Option<String>, defaults: Defaults) -> Self {
        Self { context, namespace, facts: Facts { orchestrator: Orchestrator::Kubernetes, defaults } }
    }

    /// A connection lives no longer than the runtime it was made in.
    async fn cluster(&self) -> Result<Cluster, Failure> {
        Cluster::connect(self.context.as_deref(), self.namespace.as_deref()).await
    }

    /// All policies that may be seen: of the namespace that is named, else of all, else of the one in use.
    async fn policies(&self, cluster: &Cluster) -> Result<Vec<PolicySeen>, Failure> {
        let wanted = self.namespace.as_deref();
        let listed = match cluster.policies_in(wanted).list(&ListParams::default()).await {
            Err(error) if wanted.is_none() && code(&error) == Some(403) => {
                cluster.policies_in(Some(&cluster.namespace)).list(&ListParams::default()).await
            }
            listed => listed,
        };
        let objects = listed.map_err(failed)?.items;
        Ok(objects.iter().filter_map(|object| objects::policy(object, &self.facts)).collect())
    }

    async fn policy(&self, cluster: &Cluster, id: &PolicyId) -> Result<Option<PolicySeen>, Failure> {
        let api = cluster.policies_in(Some(names::namespace(id)));
        let object = found(api.get(id.name().as_str()).await).map_err(failed)?;
        Ok(object.and_then(|object| objects::policy(&object, &self.facts)))
    }

    async fn backups(&self, cluster: &Cluster, id: &PolicyId) -> Result<Vec<BackupSeen>, Failure> {
        let api = cluster.backups_in(Some(names::namespace(id)));
        let objects = api.list(&ListParams::default()).await.map_err(failed)?.items;
        Ok(objects.iter().filter_map(objects::backup).filter(|backup| backup.id == *id).collect())
    }

    async fn backup(&self, id: &PolicyId, name: &str) -> Result<Option<BackupSeen>, Failure> {
        let api = self.cluster().await?.backups_in(Some(names::namespace(id)));
        Ok(found(api.get(name).await).map_err(failed)?.as_ref().and_then(objects::backup))
    }

    /// Changes fields of a person's own.
    async fn change(&self, id: &PolicyId, name: &str, change: Value) -> Result<(), Failure> {
        let api = self.cluster().await?.backups_in(Some(names::namespace(id)));
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        found(patched).map(drop).map_err(failed)
    }

    async fn pods(&self, cluster: &Cluster, id: &PolicyId, slot: Option<Slot>) -> Result<Vec<Pod>, Failure> {
        let run = match slot {
            Some(slot) => format!(",{}={slot}", names::RUN),
            None => format!(",!{}", names::RUN),
        };
        let selector = format!("{}={}{run},{}", names::POLICY, id.name(), names::TASKS);
        let api = cluster.pods_in(Some(names::namespace(id)));
        let mut pods = api.list(&ListParams::default().labels(&selector)).await.map_err(failed)?.items;
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        Ok(pods)
    }
}

/// Lines for a machine: what a task says of its progress and of its end.
fn is_for_machines(line: &str) -> bool {
    line.starts_with('{')
        && (serde_json::from_str::<Progress>(line).is_ok()
            || serde_json::from_str::<TaskReport>(line).is_ok())
}

/// `<step>-<attempt>`, as the logs are called.
fn called(task: &TaskName) -> String {
    format!("{}-{}", task.step, task.attempt)
}

/// What is new in a log of which so many bytes were read: whole lines, without those for machines.
fn news(task: String, log: &str, read: u64) -> TaskLog {
    let begin = usize::try_from(read).unwrap_or(usize::MAX).min(log.len());
    let rest = log.get(begin..).unwrap_or_default();
    let whole = rest.rfind('\n').map_or(0, |at| at + 1);
    let lines = rest.get(..whole).unwrap_or_default().split_inclusive('\n');
    let text = lines.filter(|line| !is_for_machines(line.trim_end())).collect();
    TaskLog { task, text, end: read + whole as u64 }
}

#[async_trait]
impl site::Site for KubernetesSite {
    async fn all(&self) -> Result<(Vec<Known>, Vec<Problem>), Failure> {
        let cluster = self.cluster().await?;
        let seen = self.policies(&cluster).await?;
        let mut all: Vec<Known> = seen
            .into_iter()
            .map(|policy| Known {
                generation: Some(policy.generation),
                changed_at: Some(policy.meta.created_at),
                policy: match policy.spec {
                    Spec::Valid(valid) => Ok(valid),
                    Spec::Wrong(error) => Err(error),
                    Spec::Gone => Err(crate::domain::error::Invalid::new("nobody declares it any more")),
                },
                status: policy.status.map(Arc::unwrap_or_clone),
                id: policy.id,
            })
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((all, Vec::new()))
    }

    fn pace(&self) -> Duration {
        Duration::from_millis(1500)
    }

    async fn controller(&self) -> Result<Controller, Failure> {
        let cluster = self.cluster().await?;
        let (place, start) =
            (format!("the cluster {}", cluster.name), "helm install backstay charts/backstay".to_owned());
        let nobody = Controller { place, start, ..Controller::default() };
        Ok(match lease::holder(&cluster, SystemClock.now()).await {
            Ok(Some((holder, since))) => Controller { runs: Some(holder), since: Some(since), ..nobody },
            Ok(None) => nobody,
            // Whoever may not look at leases takes it that one runs.
            Err(_) => Controller { runs: Some("a controller of the cluster".to_owned()), ..nobody },
        })
    }

    async fn ask(
        &self,
        policy: &PolicyId,
        wish: Wish,
        patience: Duration,
        _: Timestamp,
    ) -> Result<String, Failure> {
        let cluster = self.cluster().await?;
        let (accept_shrink, wait_turn) = match wish {
            Wish::Run { accept_shrink, wait_turn } => (accept_shrink, wait_turn),
            Wish::Cancel { slot } => {
                let backups = self.backups(&cluster, policy).await?;
                let is_meant =
                    |run: &Arc<Run>| run.state.end.is_none() && slot.is_none_or(|slot| slot == run.slot);
                let Some(active) = backups.into_iter().find(|backup| backup.run().is_some_and(is_meant))
                else {
                    return Err(Failure::permanent(
                        "NothingToCancel",
                        format!("no such run of {policy} is active"),
                    ));
                };
                self.change(policy, &active.meta.name, json!({"spec": {"cancel": true}})).await?;
                return Ok(format!("{CANCEL}{}", active.meta.name));
            }
        };
        let Some(owner) = self.policy(&cluster, policy).await? else {
            return Err(Failure::permanent("NoSuchPolicy", format!("there is no policy {policy} any more")));
        };
        let owner = Owner { kind: "BackupPolicy", name: &owner.meta.name, uid: &owner.meta.uid };
        let namespace = names::namespace(policy);
        let object: Result<DynamicObject, _> = serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "Backup",
            "metadata": {
                "name": format!("{}-{:x}", policy.name(), random_number()?), "namespace": namespace,
                "ownerReferences": [owner.reference()],
                "labels": {names::MANAGED_BY: names::BACKSTAY, names::POLICY: policy.name().as_str()},
                "annotations": {names::PATIENCE: patience.as_secs().to_string()},
            },
            "spec": {"policy": policy.name().as_str(), "acceptShrink": accept_shrink, "waitTurn": wait_turn},
        }));
        let object = object.map_err(|error| Failure::permanent("RequestUnwritable", error.to_string()))?;
        let made = cluster.backups_in(Some(namespace)).create(&PostParams::default(), &object).await;
        Ok(made.map_err(failed)?.metadata.name.unwrap_or_default())
    }

    async fn renew(&self, policy: &PolicyId, id: &str, now: Timestamp) -> Result<(), Failure> {
        if id.starts_with(CANCEL) {
            return Ok(());
        }
        let annotations = json!({"metadata": {"annotations": {names::RENEWED: now.to_string()}}});
        self.change(policy, id, annotations).await
    }

    async fn withdraw(&self, policy: &PolicyId, id: &str) -> Result<(), Failure> {
        // A run that was told to stop stops.
        if id.starts_with(CANCEL) {
            return Ok(());
        }
        let Some(backup) = self.backup(policy, id).await?.filter(|backup| backup.run.is_none()) else {
            return Ok(());
        };
        // One that became a run since is another by its version, and stays.
        let version = Some(backup.meta.version.to_string());
        let preconditions = Preconditions { uid: Some(backup.meta.uid), resource_version: version };
        let parameters = kube::api::DeleteParams::background().preconditions(preconditions);
        let api = self.cluster().await?.backups_in(Some(names::namespace(policy)));
        match api.delete(id, &parameters).await {
            Err(error) if !matches!(code(&error), Some(404 | 409)) => Err(failed(error)),
            _ => Ok(()),
        }
    }

    async fn answer(&self, policy: &PolicyId, id: &str) -> Result<Option<Answer>, Failure> {
        let gone = || Ok(Some(Answer::Refused("somebody removed the request".to_owned())));
        if let Some(name) = id.strip_prefix(CANCEL) {
            let Some(backup) = self.backup(policy, name).await? else { return gone() };
            let Some(run) = backup.run() else { return gone() };
            let is_heard = run.state.cancel.is_some() || run.state.end.is_some();
            return Ok(is_heard.then_some(Answer::Accepted(run.slot)));
        }
        let Some(backup) = self.backup(policy, id).await? else { return gone() };
        if let Some(run) = backup.run() {
            return Ok(Some(Answer::Accepted(run.slot)));
        }
        let refused = backup.phase.as_deref() == Some(records::REFUSED);
        if refused {
            // Should it stay, the controller sweeps it.
            let _ = self.withdraw(policy, id).await;
        }
        Ok(refused.then(|| Answer::Refused(backup.message.unwrap_or_default())))
    }

    async fn status(&self, policy: &PolicyId) -> Result<Option<Status>, Failure> {
        let cluster = self.cluster().await?;
        let policy = self.policy(&cluster, policy).await?;
        Ok(policy.and_then(|policy| policy.status).map(Arc::unwrap_or_clone))
    }

    async fn runs(&self, policy: &PolicyId) -> Result<Vec<Slot>, Failure> {
        let backups = self.backups(&self.cluster().await?, policy).await?;
        Ok(backups.iter().filter_map(BackupSeen::run).map(|run| run.slot).collect())
    }

    async fn run(&self, policy: &PolicyId, slot: Slot) -> Result<Option<RunState>, Failure> {
        let backups = self.backups(&self.cluster().await?, policy).await?;
        let run = backups.iter().filter_map(BackupSeen::run).find(|run| run.slot == slot);
        Ok(run.map(|run| run.state.clone()))
    }

    async fn progress(&self, policy: &PolicyId, slot: Slot) -> Result<Option<Progress>, Failure> {
        let cluster = self.cluster().await?;
        let pods = self.pods(&cluster, policy, Some(slot)).await?;
        let Some(name) = pods.last().and_then(|pod| pod.metadata.name.as_deref()) else { return Ok(None) };
        let parameters = LogParams { tail_lines: Some(LINES), ..LogParams::default() };
        let log = cluster.pods_in(Some(names::namespace(policy))).logs(name, &parameters).await;
        Ok(log.ok().and_then(|log| last_progress(&log)))
    }

    async fn logs(
        &self,
        policy: &PolicyId,
        slot: Option<Slot>,
        read: &Read,
    ) -> Result<Vec<TaskLog>, Failure> {
        let cluster = self.cluster().await?;
        let api = cluster.pods_in(Some(names::namespace(policy)));
        let mut logs = Vec::new();
        for pod in self.pods(&cluster, policy, slot).await? {
            let (Some(task), Some(name)) = (names::task_of(&pod.metadata), pod.metadata.name.as_deref())
            else {
                continue;
            };
            let task = called(&task);
            // A container that has not started, or a node that is away, has none.
            if let Ok(log) = api.logs(name, &LogParams::default()).await {
                let begin = read.get(&task).copied().unwrap_or_default();
                logs.push(news(task, &log, begin));
            }
        }
        Ok(logs)
    }

    async fn held(&self, policy: &PolicyId) -> Result<Vec<SnapshotName>, Failure> {
        let cluster = self.cluster().await?;
        Ok(self.policy(&cluster, policy).await?.map(|policy| policy.holds).unwrap_or_default())
    }

    async fn hold(&self, policy: &PolicyId, snapshot: &SnapshotName, held: bool) -> Result<(), Failure> {
        let cluster = self.cluster().await?;
        let Some(seen) = self.policy(&cluster, policy).await? else { return Ok(()) };
        let mut holds: Vec<String> =
            seen.holds.iter().filter(|name| *name != snapshot).map(ToString::to_string).collect();
        if held {
            holds.push(snapshot.to_string());
        }
        let value = if holds.is_empty() { Value::Null } else { json!(holds.join(",")) };
        let change = json!({"metadata": {
            "resourceVersion": seen.meta.version.to_string(), "annotations": {names::HOLDS: value}}});
        let api = cluster.policies_in(Some(names::namespace(policy)));
        api.patch(policy.name().as_str(), &PatchParams::default(), &Patch::Merge(change))
            .await
            .map_err(failed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_in_a_log_is_whole_lines_for_people() {
        let progress = r#"{"phase":"homes: storing","bytes":1,"items":1}"#;
        let log = format!("one\n{progress}\ntwo\nhal");
        let first = news("backup-1".to_owned(), &log, 0);
        assert_eq!((first.text.as_str(), first.end), ("one\ntwo\n", log.len() as u64 - 3));
        let second = news("backup-1".to_owned(), &format!("{log}f\n"), first.end);
        assert_eq!((second.text.as_str(), second.end), ("half\n", log.len() as u64 + 2));
    }
}
