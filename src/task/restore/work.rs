//! A restore, or its plan, as a task: beside the data, where the person who asked for it cannot be.

use super::{Restore, RestoreReport, plan::RestorePlan};
use crate::{
    domain::{
        snapshot::SnapshotSummary,
        verdict::{Failure, Verdict},
    },
    plan::task_spec::{RestoreMode, RestoreWork, TaskReport, TaskSpec},
    task::{
        context::Meter,
        mongodb::tool::Tools,
        world::{Access, World},
    },
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Names of each kind that are told.
const NAMED: usize = 10;

/// What came of the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreOutcome {
    /// It was to change nothing.
    Planned(RestorePlan),
    /// What was done.
    Done(RestoreReport),
    /// It failed after it had begun to change things; the report says why.
    Broken,
}

/// Does what is asked for.
pub async fn restore(
    spec: &TaskSpec,
    work: &RestoreWork,
    world: &dyn World,
    meter: &Arc<Meter>,
) -> TaskReport {
    let mut snapshot = None;
    let (outcome, failure) = match carry_out(spec, work, world, meter, &mut snapshot).await {
        Ok(outcome) => (Some(outcome), None),
        Err(failure) => (meter.has_changed().then_some(RestoreOutcome::Broken), Some(failure)),
    };
    TaskReport {
        snapshot,
        verdict: failure.as_ref().map_or(Verdict::Committed, |failure| failure.verdict),
        failure,
        outcome: outcome.and_then(|outcome| serde_json::to_value(outcome).ok()),
        ..TaskReport::empty()
    }
}

async fn carry_out(
    spec: &TaskSpec,
    work: &RestoreWork,
    world: &dyn World,
    meter: &Arc<Meter>,
    chosen: &mut Option<SnapshotSummary>,
) -> Result<RestoreOutcome, Failure> {
    let restore = Restore {
        store: world.open(Access::Read).await?,
        request: work.request.clone(),
        tools: Tools::default(),
        memory_bytes: u64::from(spec.memory_mib) << 20,
        meter: Arc::clone(meter),
    };
    let (mut plan, manifest) = restore.plan().await?;
    *chosen = Some(plan.snapshot.clone());
    let reasons = plan.needs_confirmation();
    if work.mode == RestoreMode::Look && !reasons.is_empty() {
        return Err(Failure::new(Verdict::Guard, "TargetNotEmpty", reasons.join("; ")));
    }
    if work.mode != RestoreMode::Execute {
        shorten(&mut plan);
        return Ok(RestoreOutcome::Planned(plan));
    }
    let mut report = restore.execute(&plan, &manifest).await?;
    report.volumes.iter_mut().for_each(|volume| volume.files.problems.truncate(NAMED));
    if let Some(mongodb) = &mut report.mongodb {
        mongodb.differences.truncate(NAMED);
    }
    Ok(RestoreOutcome::Done(report))
}

/// A person sees the first of everything.
fn shorten(plan: &mut RestorePlan) {
    plan.damage.truncate(NAMED);
    if let Some(mongodb) = &mut plan.mongodb {
        mongodb.occupied.truncate(NAMED);
    }
    for difference in plan.volumes.iter_mut().filter_map(|volume| volume.difference.as_mut()) {
        difference.extra_paths.truncate(NAMED);
    }
}
