//! A verification as a task: beside a remote that the person who asked for it cannot reach.

use super::{Verify, report::VerifyReport};
use crate::{
    domain::verdict::{Failure, Verdict},
    plan::task_spec::{TaskReport, TaskSpec, VerifyWork},
    storage::catalog::Catalog,
    task::{
        context::Meter,
        mongodb::tool::Tools,
        world::{Access, World},
    },
};
use std::{path::PathBuf, sync::Arc};

/// Damaged objects that are told, and what is hit by each.
const NAMED: usize = 10;

/// Verifies a snapshot. Damage is in the outcome, a [`VerifyReport`].
pub async fn verify(spec: &TaskSpec, work: &VerifyWork, world: &dyn World, meter: &Arc<Meter>) -> TaskReport {
    match carry_out(spec, work, world, meter).await {
        Err(failure) => TaskReport::failed(failure),
        Ok(report) => TaskReport {
            verdict: Verdict::Committed,
            outcome: serde_json::to_value(report).ok(),
            ..TaskReport::empty()
        },
    }
}

async fn carry_out(
    spec: &TaskSpec,
    work: &VerifyWork,
    world: &dyn World,
    meter: &Arc<Meter>,
) -> Result<VerifyReport, Failure> {
    let store = world.open(Access::Read).await?;
    meter.begin("looking at the backups", None);
    let catalog = Catalog::load(&*store).await?;
    let manifest = catalog.find(&work.as_of, work.policy.as_ref(), true)?.clone();
    let verify = Verify {
        store,
        manifest,
        level: work.level,
        memory_bytes: u64::from(spec.memory_mib) << 20,
        scratch: PathBuf::from("/tmp"),
        tools: Tools::default(),
        meter: Arc::clone(meter),
    };
    let mut report = verify.run().await?;
    if report.damage.len() > NAMED {
        let more = report.damage.len() - NAMED;
        report.remarks.push(format!("{more} more objects are missing or damaged"));
        report.damage.truncate(NAMED);
    }
    report.damage.iter_mut().for_each(|damage| damage.examples.truncate(NAMED));
    Ok(report)
}
