//! A pass that a person asks for, here or as a task beside a remote that they cannot reach.

use super::{Pruned, Request, prune};
use crate::{
    domain::{names::SnapshotName, retention::Decision, verdict::Failure},
    plan::task_spec::{PruneWork, TaskReport, TaskSpec},
    storage::{catalog::Catalog, store::ObjectStore},
    task::{
        finish::claimant,
        world::{Access, World},
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What was, or would be, removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PruneOutcome {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Snapshots that go.
    pub removed: Vec<SnapshotName>,
    /// Those that stay, told before anything is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
    /// Objects that were deleted beside manifests.
    pub objects: u64,
    /// What did not work.
    pub warnings: Vec<String>,
}

/// A snapshot that stays, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Which.
    pub name: SnapshotName,
    /// Why.
    pub reasons: Vec<String>,
}

impl From<&Decision> for Kept {
    fn from(decision: &Decision) -> Self {
        let reasons = decision.reasons.iter().map(ToString::to_string).collect();
        Self { name: decision.name.clone(), reasons }
    }
}

/// Prunes, or says what would go.
///
/// # Errors
/// Why nothing was removed.
pub async fn carry_out(
    store: &dyn ObjectStore,
    request: &Request<'_>,
    dry_run: bool,
    now: Timestamp,
) -> Result<PruneOutcome, Failure> {
    if dry_run {
        let decisions = request.decide(&Catalog::load(store).await?, now);
        let (removed, kept): (Vec<_>, Vec<_>) = decisions.into_iter().partition(Decision::is_doomed);
        return Ok(PruneOutcome {
            dry_run,
            removed: removed.into_iter().map(|decision| decision.name).collect(),
            kept: kept.iter().map(Kept::from).collect(),
            objects: 0,
            warnings: Vec::new(),
        });
    }
    let Pruned { removed, objects, warnings } = prune(store, request, now).await?;
    Ok(PruneOutcome { dry_run, removed, kept: Vec::new(), objects, warnings })
}

/// The same as a task. What came of it is a [`PruneOutcome`].
pub async fn as_task(spec: &TaskSpec, work: &PruneWork, world: &dyn World) -> TaskReport {
    let done = async {
        let access = if work.dry_run { Access::Read } else { Access::Prune };
        let store = world.open(access).await?;
        let claimant = claimant(spec, world);
        let request = Request {
            claimant: &claimant,
            rules: &work.retention,
            held: work.keep.iter().cloned().collect(),
            known: work.known.iter().cloned().collect(),
            run_deadline_seconds: work.run_deadline_seconds,
            allow_many: work.allow_many,
        };
        carry_out(&*store, &request, work.dry_run, world.now()).await
    };
    match done.await {
        Err(failure) => TaskReport::failed(failure),
        Ok(outcome) => TaskReport { outcome: serde_json::to_value(outcome).ok(), ..TaskReport::empty() },
    }
}
