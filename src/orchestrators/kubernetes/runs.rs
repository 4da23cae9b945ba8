//! The records of runs, and what people ask for: the part of the port that is about `Backup`s.

use crate::{
    api::API_VERSION,
    controller::port::{Created, PortError},
    domain::{identity::PolicyId, names::Slot, run::Run},
    orchestrators::kubernetes::{
        client::{apply_status, code, unread, unwritten},
        job::Owner,
        names,
        objects::{self, BackupSeen},
        port::Kubernetes,
        records,
        watch::Stores,
    },
    plan::{action::Answer, observed::Request},
};
use kube::{
    api::{DeleteParams, PostParams, Preconditions},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tracing::debug;

impl Kubernetes {
    pub(super) async fn requests(&self, backups: &[BackupSeen]) -> Result<Vec<Request>, PortError> {
        let mut requests = Vec::new();
        for backup in backups {
            match records::request(backup, self.clock.now()) {
                Some(Ok(request)) => requests.push(request),
                Some(Err(why)) => self.refuse(backup, &why).await?,
                None => {}
            }
        }
        requests.sort_by_key(|request| request.requested_at);
        Ok(requests)
    }

    async fn refuse(&self, backup: &BackupSeen, why: &str) -> Result<(), PortError> {
        self.record_backup(backup, records::refused(why)).await
    }

    /// Writes the status of a backup over what was seen of it.
    pub(super) async fn record_backup(&self, backup: &BackupSeen, status: Value) -> Result<(), PortError> {
        let api = self.cluster.backups_in(Some(&backup.meta.namespace));
        let version = backup.meta.version.to_string();
        let written = apply_status(&api, "Backup", &backup.meta.name, &version, status).await?;
        objects::backup(&written).into_iter().for_each(|now| self.watches.stores.backups.note(now));
        Ok(())
    }

    pub(super) async fn claim(&self, id: &PolicyId, run: &Run) -> Result<Created, PortError> {
        let backups = self.stores()?.backups.of(id);
        let asked = match &run.plan.request {
            Some(request) => match backups.into_iter().find(|backup| backup.meta.uid == *request) {
                None => {
                    return Err(PortError::Conflict(format!(
                        "the request for run {} was taken back",
                        run.slot
                    )));
                }
                asked => asked,
            },
            None => None,
        };
        let (backup, is_fresh) = match asked {
            Some(asked) => (asked, true),
            None => match self.claim_name(id, run.slot).await? {
                Named::Ours(backup, is_fresh) => (*backup, is_fresh),
                Named::Foreign(what) => return Ok(Created::Foreign(what)),
            },
        };
        if backup.run.is_some() {
            return Ok(Created::Ours);
        }
        self.record_backup(&backup, records::begun(run)).await?;
        Ok(if is_fresh { Created::Fresh } else { Created::Ours })
    }

    /// Makes the record of a slot, or finds it.
    async fn claim_name(&self, id: &PolicyId, slot: Slot) -> Result<Named, PortError> {
        let Some(policy) = self.policy(id)? else {
            return Err(PortError::Rejected(format!("policy {id} is declared no more")));
        };
        let owner = Owner { kind: "BackupPolicy", name: &policy.meta.name, uid: &policy.meta.uid };
        let name = names::backup(id, slot);
        let api = self.cluster.backups_in(Some(&policy.meta.namespace));
        let object = serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "Backup",
            "metadata": {
                "name": name, "namespace": policy.meta.namespace, "ownerReferences": [owner.reference()],
                "labels": {names::MANAGED_BY: names::BACKSTAY, names::POLICY: id.name().as_str(), names::RUN: slot.to_string()},
            },
            "spec": {"policy": id.name().as_str()},
        }));
        let object: DynamicObject =
            object.map_err(|error: serde_json::Error| PortError::Rejected(error.to_string()))?;
        let (there, is_fresh) = match api.create(&PostParams::default(), &object).await {
            Err(error) if code(&error) == Some(409) => (api.get(&name).await.map_err(unread)?, false),
            made => (made.map_err(unwritten)?, true),
        };
        let Some(backup) = objects::backup(&there) else {
            return Ok(Named::Foreign(format!("Backup {name}")));
        };
        self.watches.stores.backups.note(backup.clone());
        let is_ours = backup.meta.owner.as_ref() == Some(&policy.meta.uid) && backup.slot == Some(slot);
        Ok(if is_ours {
            Named::Ours(Box::new(backup), is_fresh)
        } else {
            Named::Foreign(format!("Backup {name}"))
        })
    }

    /// The record of a run.
    pub(super) fn record_of(&self, id: &PolicyId, slot: Slot) -> Result<Option<BackupSeen>, PortError> {
        let backups = self.stores()?.backups.of(id);
        Ok(backups.into_iter().find(|backup| backup.run().is_some_and(|run| run.slot == slot)))
    }

    /// Removes the record of a run, and with it its tasks. What a person made stays, and says how it ended.
    pub(super) async fn forget(&self, id: &PolicyId, slot: Slot) -> Result<(), PortError> {
        let Some(backup) = self.record_of(id, slot)? else { return Ok(()) };
        if !backup.is_managed {
            let status = backup.run().map(|run| records::summary(run)).unwrap_or_default();
            return self.record_backup(&backup, status).await;
        }
        self.remove(&backup, false).await
    }

    /// Removes a backup; with `as_seen` only in the state in which it was seen.
    async fn remove(&self, backup: &BackupSeen, as_seen: bool) -> Result<(), PortError> {
        let api = self.cluster.backups_in(Some(&backup.meta.namespace));
        match api.delete(&backup.meta.name, &removal(backup, as_seen)).await {
            Err(error) if code(&error) != Some(404) => Err(unwritten(error)),
            _ => {
                self.watches.stores.backups.remove(&backup.meta.uid);
                Ok(())
            }
        }
    }

    pub(super) async fn answer(
        &self,
        id: &PolicyId,
        request: &str,
        answer: &Answer,
    ) -> Result<(), PortError> {
        let backups = self.stores()?.backups.of(id);
        let asked = backups.into_iter().find(|backup| backup.meta.uid == request && backup.run.is_none());
        match (asked, answer) {
            (Some(asked), Answer::Refused(why)) => self.refuse(&asked, why).await,
            // What was accepted is a run, which its own record says.
            _ => Ok(()),
        }
    }

    /// Removes what a controller or the command line made and nobody needs any more: records that were begun and never got
    /// a plan, since their slot was claimed again or is over, and requests that are answered.
    pub(super) fn sweep(&self, stores: &Stores) {
        let (mut left, now) = (Vec::new(), self.clock.now());
        stores.backups.each(|backup| {
            let is_old = now.duration_since(backup.meta.created_at).as_hours() >= 1;
            let is_over = backup.slot.is_some() || backup.phase.is_some();
            if backup.is_managed && backup.run.is_none() && is_over && is_old {
                left.push(backup.clone());
            }
        });
        if left.is_empty() {
            return;
        }
        let cluster = self.cluster.clone();
        tokio::spawn(async move {
            for backup in left {
                let api = cluster.backups_in(Some(&backup.meta.namespace));
                // One that became a run since is another by its version.
                if let Err(error) = api.delete(&backup.meta.name, &removal(&backup, true)).await {
                    debug!(backup = backup.meta.name, %error, "what is left of a run cannot be removed");
                }
            }
        });
    }
}

enum Named {
    Ours(Box<BackupSeen>, bool),
    Foreign(String),
}

fn removal(backup: &BackupSeen, as_seen: bool) -> DeleteParams {
    let resource_version = as_seen.then(|| backup.meta.version.to_string());
    let preconditions = Preconditions { uid: Some(backup.meta.uid.clone()), resource_version };
    DeleteParams::background().preconditions(preconditions)
}
