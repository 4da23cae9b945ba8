//! What the controller keeps, as configs: what never changes is the data, the rest is in labels, which `docker config
//! inspect` shows.

use crate::{
    domain::{
        identity::PolicyId,
        names::{Slot, SnapshotName},
        run::{Run, RunPlan, RunState},
        status::{ConditionType, Status},
    },
    orchestrators::swarm::{
        engine::model::{Config, Labels},
        names::{self, RUN, kind},
    },
    plan::{
        action::Answer,
        observed::{Drill, Recorded, Request},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Labels with a document each.
const STATUS: &str = "backstay.status";
const STATE: &str = "backstay.state";
const ANSWER: &str = "backstay.answer";
const DRILL: &str = "backstay.drill";
/// Label with a snapshot's name.
const SNAPSHOT: &str = "backstay.snapshot";
/// Label that tells of a request that somebody still waits for it.
const RENEWED: &str = "backstay.renewed";
/// What the data of an object says that is only about its labels: it cannot be empty.
pub const IN_LABELS: &[u8] = b"What this object says is in its labels.\n";

/// A request as it is recorded. It is asked for as long as its object is younger than its patience.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// What is wanted.
    #[serde(flatten)]
    pub request: Request,
    /// For how long.
    pub patience_seconds: u64,
}

/// What kind of object of ours a config is.
pub fn kind_of(config: &Config) -> Option<&str> {
    config.label(names::KIND)
}

/// For compare-and-set.
pub fn revision(config: &Config) -> String {
    config.version.index.to_string()
}

/// The labels of a policy's status: a few for people, and all of it.
pub fn status_labels(policy: &PolicyId, status: &Status) -> Labels {
    let mut labels = names::labels(kind::STATUS, policy);
    let ready = status.condition(ConditionType::Ready).map(|ready| format!("{:?}", ready.status));
    let time = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let readable = [
        ("backstay.ready", ready),
        ("backstay.last-success", status.last_success.as_ref().map(|run| time(run.completion_time))),
        ("backstay.last-run", status.last_run.as_ref().map(|run| format!("{} {:?}", run.slot, run.outcome))),
        ("backstay.next-run", status.next_run_time.map(time)),
        ("backstay.fresh-until", status.fresh_until_time.map(time)),
        ("backstay.message", status.message.clone()),
        ("backstay.fix", status.fix.clone()),
        (STATUS, serde_json::to_string(status).ok()),
    ];
    labels.extend(readable.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    labels
}

/// The status in a config. One that cannot be read is as good as none: it is made again from the records.
pub fn status(config: &Config) -> Recorded<Status> {
    let value = config.label(STATUS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    Recorded::new(value, revision(config))
}

/// The labels of a run's record.
pub fn run_labels(policy: &PolicyId, slot: Slot, state: &RunState) -> Labels {
    let mut labels = names::labels(kind::RUN, policy);
    labels.insert(RUN.to_owned(), slot.to_string());
    labels.extend(serde_json::to_string(state).ok().map(|state| (STATE.to_owned(), state)));
    labels
}

/// The run of a record.
///
/// # Errors
/// A record that cannot be read; a run must not be taken for none.
pub fn run(config: &Config) -> Result<Recorded<Run>, String> {
    let spoilt = |what: &str| format!("config {} is no record of a run: {what}", config.spec.name);
    let slot = config.label(RUN).and_then(|slot| slot.parse().ok()).ok_or_else(|| spoilt("it names none"))?;
    let plan: RunPlan =
        serde_json::from_slice(&config.bytes()).map_err(|error| spoilt(&error.to_string()))?;
    let state = config.label(STATE).unwrap_or("{}");
    let state: RunState = serde_json::from_str(state).map_err(|error| spoilt(&error.to_string()))?;
    Ok(Recorded::new(Run { slot, plan, state }, revision(config)))
}

/// True for the record of a run that is not over; one that cannot be read may be of one.
pub fn is_active_run(config: &Config) -> bool {
    kind_of(config) == Some(kind::RUN) && run(config).map_or(true, |run| run.value.state.end.is_none())
}

/// A request that was not answered: what is asked, or why it cannot be done. `None` for one that was.
pub fn request(config: &Config, now: Timestamp) -> Option<Result<Request, String>> {
    if config.label(ANSWER).is_some() {
        return None;
    }
    let asked: Asked = match serde_json::from_slice(&config.bytes()) {
        Ok(asked) => asked,
        Err(error) => return Some(Err(format!("the request cannot be read: {error}"))),
    };
    let patience = SignedDuration::from_secs(i64::try_from(asked.patience_seconds).unwrap_or(i64::MAX));
    let is_old = config.updated_at.is_some_and(|at| now.duration_since(at) > patience);
    Some(if is_old { Err("nobody has waited for an answer any more".to_owned()) } else { Ok(asked.request) })
}

/// The identity of a request, which its name ends with.
pub fn request_id(config: &Config) -> &str {
    config.spec.name.rsplit('-').next().unwrap_or_default()
}

/// The labels of a request with its answer.
pub fn answered(config: &Config, answer: &Answer) -> Labels {
    let mut labels = config.spec.labels.clone();
    labels.extend(serde_json::to_string(answer).ok().map(|answer| (ANSWER.to_owned(), answer)));
    labels
}

/// The labels of a request that somebody still waits for.
pub fn renewed(config: &Config, now: Timestamp) -> Labels {
    let mut labels = config.spec.labels.clone();
    labels.insert(RENEWED.to_owned(), now.to_string());
    labels
}

/// The answer to a request, once there is one.
pub fn answer(config: &Config) -> Option<Answer> {
    serde_json::from_str(config.label(ANSWER)?).ok()
}

/// The labels of a hold.
pub fn hold_labels(policy: &PolicyId, snapshot: &SnapshotName) -> Labels {
    let mut labels = names::labels(kind::HOLD, policy);
    labels.insert(SNAPSHOT.to_owned(), snapshot.to_string());
    labels
}

/// The snapshot that is held.
pub fn hold(config: &Config) -> Option<SnapshotName> {
    config.label(SNAPSHOT)?.parse().ok()
}

/// The labels of a restore drill.
pub fn drill_labels(policy: &PolicyId, drill: &Drill) -> Labels {
    let mut labels = names::labels(kind::DRILL, policy);
    labels.extend(serde_json::to_string(drill).ok().map(|drill| (DRILL.to_owned(), drill)));
    labels
}

/// The restore drill. A record that is spoilt proves nothing: it is as good as none.
pub fn drill(config: &Config) -> Option<Drill> {
    serde_json::from_str(config.label(DRILL)?).ok()
}
