//! Events about a policy, where a person looks for them: `kubectl describe`, `kubectl events`. Only transitions are told.

use crate::{
    api::API_VERSION,
    domain::status::{Condition, ConditionType, Status, Truth},
    orchestrators::kubernetes::{client::Cluster, objects::Meta},
};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::PostParams};
use serde_json::json;
use tracing::debug;

/// Longest note that the server takes, bytes.
const LONGEST_NOTE: usize = 1024;

/// Something that is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// It needs somebody's attention.
    pub is_warning: bool,
    /// One word.
    pub reason: String,
    /// What was going on.
    pub action: &'static str,
    /// For a person.
    pub note: String,
}

/// What is new in a status.
pub fn between(before: Option<&Status>, now: &Status) -> Vec<Told> {
    let nothing = Status::default();
    let before = before.unwrap_or(&nothing);
    let mut told = Vec::new();
    if let Some(run) = now.last_run.as_ref()
        && before.last_run.as_ref().map(|run| run.slot) != Some(run.slot)
    {
        let fix = run.fix.as_ref().map_or_else(String::new, |fix| format!("; {fix}"));
        told.push(Told {
            is_warning: !run.outcome.is_fine(),
            reason: format!("Backup{:?}", run.outcome),
            action: "BackUp",
            note: format!("run {}: {}{fix}", run.slot, run.message),
        });
    }
    // A stretch that grows was told when it began.
    let newest = before.missed.first().map(|missed| missed.first);
    for missed in now.missed.iter().take_while(|missed| newest.is_none_or(|newest| missed.first > newest)) {
        told.push(Told {
            is_warning: true,
            reason: "BackupMissed".to_owned(),
            action: "BackUp",
            note: missed.message.clone(),
        });
    }
    let watched = [
        ConditionType::Ready,
        ConditionType::CredentialsValid,
        ConditionType::Fresh,
        ConditionType::Bootstrapped,
    ];
    for kind in watched {
        if let Some(condition) = now.condition(kind)
            && is_turn(before.condition(kind), condition)
        {
            told.push(Told {
                is_warning: condition.status == Truth::False,
                reason: condition.reason.clone(),
                action: kind.as_str(),
                note: condition.message.clone(),
            });
        }
    }
    told
}

/// True where yes became no, the reason another, or where anything but the ordinary is said for the first time.
fn is_turn(before: Option<&Condition>, now: &Condition) -> bool {
    match (before.map(|before| before.status), now.status) {
        (_, Truth::Unknown) => false,
        (Some(Truth::False), Truth::True) => true,
        (_, Truth::True) => false,
        (Some(Truth::False), Truth::False) => before.is_some_and(|before| before.reason != now.reason),
        (_, Truth::False) => true,
    }
}

/// Leaves events; without them only the words are missing.
pub async fn leave(cluster: &Cluster, policy: &Meta, told: Vec<Told>, now: Timestamp) {
    let api: Api<Event> = Api::namespaced(cluster.client(), &policy.namespace);
    for Told { is_warning, reason, action, note } in told {
        let end = (0..=note.len().min(LONGEST_NOTE)).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        let event = json!({
            "metadata": {"generateName": format!("{}-", policy.name), "namespace": policy.namespace},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            "type": if is_warning { "Warning" } else { "Normal" },
            "reason": reason, "action": action, "note": &note[..end],
            "reportingController": "backstay.dev/controller", "reportingInstance": instance(),
            "regarding": {
                "apiVersion": API_VERSION, "kind": "BackupPolicy",
                "name": policy.name, "namespace": policy.namespace, "uid": policy.uid,
            },
        });
        let made = match serde_json::from_value::<Event>(event) {
            Ok(event) => {
                api.create(&PostParams::default(), &event).await.map(drop).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = made {
            debug!(policy = policy.name, reason, error, "an event is not told");
        }
    }
}

/// Which controller this is: the name of its Pod.
pub fn instance() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
