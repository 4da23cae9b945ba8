//! What people ask of a site, whatever orchestrator it has: how its policies are, what their runs do and say, and the few
//! things that they can ask its controller for.

use crate::{
    api::check::nearest,
    domain::{
        error::Invalid,
        identity::PolicyId,
        names::{Slot, SnapshotName},
        policy::Policy,
        run::RunState,
        status::Status,
        verdict::Failure,
    },
    plan::{action::Answer, observed::Wish, task_spec::Progress},
};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The reason of a failure that is over by itself: the orchestrator does not answer for a while.
pub const UNAVAILABLE: &str = "OrchestratorUnavailable";
/// The reason of a failure that may be over by itself, or may be a wrong address.
pub const UNREACHABLE: &str = "OrchestratorUnreachable";
/// Who waits for something bears with that for so long: managers may be started again, and elect another leader.
pub const OUTAGE: Duration = Duration::from_secs(300);

/// A site.
#[async_trait]
pub trait Site: Send + Sync {
    /// All policies, by name, also those that are declared no more and have a run that is not over; and what is meant to
    /// declare one and does not.
    ///
    /// # Errors
    /// What cannot be read.
    async fn all(&self) -> Result<(Vec<Known>, Vec<Problem>), Failure>;

    /// How often one who waits looks.
    fn pace(&self) -> Duration;

    /// The controller.
    ///
    /// # Errors
    /// What cannot be read.
    async fn controller(&self) -> Result<Controller, Failure>;

    /// Asks the controller for something; the identity of the request. It is refused once `patience` has passed since
    /// `now`, or since it was renewed.
    ///
    /// # Errors
    /// A request that cannot be left.
    async fn ask(
        &self,
        policy: &PolicyId,
        wish: Wish,
        patience: Duration,
        now: Timestamp,
    ) -> Result<String, Failure>;

    /// Says that somebody still waits for the answer. What is answered already is not asked again.
    ///
    /// # Errors
    /// A request that cannot be changed.
    async fn renew(&self, policy: &PolicyId, id: &str, now: Timestamp) -> Result<(), Failure>;

    /// Takes a request back, if it was not answered yet.
    ///
    /// # Errors
    /// A request that cannot be removed.
    async fn withdraw(&self, policy: &PolicyId, id: &str) -> Result<(), Failure>;

    /// The answer to a request, once there is one.
    ///
    /// # Errors
    /// A request that cannot be read.
    async fn answer(&self, policy: &PolicyId, id: &str) -> Result<Option<Answer>, Failure>;

    /// How the policy is, as its controller recorded it last.
    ///
    /// # Errors
    /// A status that cannot be read.
    async fn status(&self, policy: &PolicyId) -> Result<Option<Status>, Failure>;

    /// The runs of which anything is kept.
    ///
    /// # Errors
    /// What cannot be read.
    async fn runs(&self, policy: &PolicyId) -> Result<Vec<Slot>, Failure>;

    /// How far a run is; nothing when its record is gone.
    ///
    /// # Errors
    /// A record that cannot be read.
    async fn run(&self, policy: &PolicyId, slot: Slot) -> Result<Option<RunState>, Failure>;

    /// What the newest task of a run says that it is doing.
    ///
    /// # Errors
    /// What cannot be read.
    async fn progress(&self, policy: &PolicyId, slot: Slot) -> Result<Option<Progress>, Failure>;

    /// What the tasks of a run, or the preflights, said after what was read of each, oldest first; of a long log a piece.
    ///
    /// # Errors
    /// What cannot be read.
    async fn logs(&self, policy: &PolicyId, slot: Option<Slot>, read: &Read)
    -> Result<Vec<TaskLog>, Failure>;

    /// Snapshots that people hold.
    ///
    /// # Errors
    /// What cannot be read.
    async fn held(&self, policy: &PolicyId) -> Result<Vec<SnapshotName>, Failure>;

    /// Keeps a snapshot from being pruned, or no longer.
    ///
    /// # Errors
    /// What cannot be written.
    async fn hold(&self, policy: &PolicyId, snapshot: &SnapshotName, held: bool) -> Result<(), Failure>;
}

/// A policy and how it is.
#[derive(Debug, Clone)]
pub struct Known {
    /// Which.
    pub id: PolicyId,
    /// Number of what it says; nothing when nobody declares it any more, but a run of it is not over.
    pub generation: Option<i64>,
    /// When what declares it was changed or put there.
    pub changed_at: Option<Timestamp>,
    /// What it says, or what is wrong with it.
    pub policy: Result<Arc<Policy>, Invalid>,
    /// How it is; nothing before a controller has seen it.
    pub status: Option<Status>,
}

/// Something that is meant to declare a policy and does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file, service or config.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
}

/// A controller, as it can be seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controller {
    /// What runs it, when it runs: a process, a service.
    pub runs: Option<String>,
    /// Since when it runs, or ran last.
    pub since: Option<Timestamp>,
    /// Where it would have to run, for a person.
    pub place: String,
    /// How to start it.
    pub start: String,
    /// What keeps it from looking at policies.
    pub troubles: Vec<Trouble>,
    /// None has ever told what policies may use, so that they cannot be judged yet.
    pub is_unheard: bool,
}

/// Why the controller cannot look at a policy, and so does nothing for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// Which; none: it cannot list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyId>,
    /// What it met.
    pub message: String,
}

/// Bytes that were read of each task's log.
pub type Read = BTreeMap<String, u64>;

/// What a task said for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLog {
    /// Step and attempt.
    pub task: String,
    /// Whole lines.
    pub text: String,
    /// Bytes of the log up to their end.
    pub end: u64,
}

/// The policy that `name` means: `nightly` or `scope/nightly`.
///
/// # Errors
/// There is none, or the name means several.
pub async fn find(site: &dyn Site, name: &str) -> Result<Known, Failure> {
    let (all, problems) = site.all().await?;
    choose(name, all, &problems)
}

/// The one of `all` that `name` means.
///
/// # Errors
/// There is none, or the name means several.
pub fn choose(name: &str, all: Vec<Known>, problems: &[Problem]) -> Result<Known, Failure> {
    let is_meant = |known: &Known| known.id.to_string() == name || known.id.name().as_str() == name;
    let ids: Vec<String> = all.iter().map(|known| known.id.to_string()).collect();
    let mut meant: Vec<Known> = all.into_iter().filter(is_meant).collect();
    match (meant.pop(), meant.as_slice()) {
        (Some(one), []) => Ok(one),
        (None, _) => Err(unknown(name, &ids, problems)),
        (Some(last), others) => {
            let mut several: Vec<String> = others.iter().map(|known| known.id.to_string()).collect();
            several.push(last.id.to_string());
            let message = format!("{name:?} means {}; write one of them in full", several.join(" and "));
            Err(Failure::permanent("AmbiguousPolicy", message))
        }
    }
}

impl Known {
    /// The policy, valid.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn valid(&self) -> Result<&Arc<Policy>, Failure> {
        let fix = match self.generation {
            Some(_) => "mend the document; backstay validate -f FILE checks it".to_owned(),
            None => format!("declare it again; backstay cancel {} stops the run", self.id),
        };
        self.policy.as_ref().map_err(|error| {
            Failure::permanent("InvalidSpec", format!("policy {}: {error}", self.id)).fix(fix)
        })
    }
}

fn unknown(name: &str, ids: &[String], problems: &[Problem]) -> Failure {
    let hint = match nearest(name, ids.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near}?"),
        None if ids.is_empty() => "; no policy is declared".to_owned(),
        None => format!("; there are {}", ids.join(", ")),
    };
    let broken = match problems.first() {
        Some(problem) => format!(" ({} declares nothing: {})", problem.place, problem.message),
        None => String::new(),
    };
    Failure::permanent("NoSuchPolicy", format!("there is no policy {name:?}{hint}{broken}"))
}
