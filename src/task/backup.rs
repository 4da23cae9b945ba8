//! A step of a run: its sources, each stored as a pack, an index and, last, its source record.
//!
//! The place is ours → committed already? → directory → each source: a finished attempt is adopted, else it is stored,
//! guarded and recorded → finish, when this is the run's only task.

use crate::{
    domain::{
        names::{AttemptId, SnapshotName},
        policy::Source,
        verdict::{Failure, Verdict},
    },
    plan::task_spec::{BackupWork, TaskReport, TaskSpec},
    storage::{
        catalog,
        document::{self, DocumentWriter},
        layout,
        manifest::SourceRecord,
        owner::Terms,
        store::ObjectStore,
    },
    task::{
        context::{Meter, SourceContext},
        finish::{self, claimant},
        guard,
        world::{Access, World},
    },
};
use std::sync::Arc;

const MIB: u64 = 1024 * 1024;

/// What the program takes beside its buffers (measured: 9 MiB with 70,000 files), MiB.
const OWN_MIB: u32 = 16;

/// Stores the sources of `work` and finishes the run when the work says so.
pub async fn backup(spec: &TaskSpec, work: &BackupWork, world: &dyn World, meter: &Arc<Meter>) -> TaskReport {
    let mut report = TaskReport::empty();
    if let Err(failure) = try_backup(spec, work, world, meter, &mut report).await {
        report.verdict = failure.verdict;
        report.failure = Some(failure);
    }
    report
}

async fn try_backup(
    spec: &TaskSpec,
    work: &BackupWork,
    world: &dyn World,
    meter: &Arc<Meter>,
    report: &mut TaskReport,
) -> Result<(), Failure> {
    let snapshot = SnapshotName::new(spec.policy.clone(), work.slot);
    meter.begin("opening the remote", None);
    let store = world.open(Access::Append).await?;
    let step =
        Step { spec, work, world, store: &store, context: context(spec, &snapshot, world, &store, meter)? };
    // Before the look for what is committed: another site's snapshot of the same second is none of ours.
    let claimant = claimant(spec, world);
    let terms = Terms { take_over: spec.take_over, known: spec.known_place && !work.accept_shrink };
    let claim = claimant.acquire(&*store, terms, world.now()).await?;
    if catalog::committed(&*store, &snapshot).await?.is_none() {
        store.make_directory(&layout::directory(&snapshot)).await?;
        step.store_all(report).await?;
    }
    claimant.confirm(&*store, claim).await?;
    if claim.is_some() && spec.take_over {
        report.warnings.push("the place is ours now: destination.takeOver can be removed".to_owned());
    }
    if let Some(finish) = &work.finish {
        let finished = finish::finish(spec, finish, &store, world, meter).await?;
        report.snapshot = Some(finished.snapshot);
        report.warnings.extend(finished.warnings);
        report.pruned = finished.pruned;
    }
    Ok(())
}

fn context(
    spec: &TaskSpec,
    snapshot: &SnapshotName,
    world: &dyn World,
    store: &Arc<dyn ObjectStore>,
    meter: &Arc<Meter>,
) -> Result<SourceContext, Failure> {
    let random = getrandom::u32().map_err(|error| {
        Failure::temporary("NoRandomness", format!("the system gives no random bytes: {error}"))
    })?;
    Ok(SourceContext {
        store: Arc::clone(store),
        snapshot: snapshot.clone(),
        attempt: AttemptId::new(world.now(), (random & 0x7fff) as u16),
        part_bytes: u64::from(spec.destination.part_size_mib) * MIB,
        memory_bytes: u64::from(spec.memory_mib.saturating_sub(OWN_MIB)) * MIB,
        transfers: usize::from(spec.destination.transfers),
        meter: Arc::clone(meter),
    })
}

struct Step<'a> {
    spec: &'a TaskSpec,
    work: &'a BackupWork,
    world: &'a dyn World,
    store: &'a Arc<dyn ObjectStore>,
    context: SourceContext,
}

impl Step<'_> {
    /// Stores every source. One that fails does not keep the others from being stored: the run may be worth having
    /// without it. An optional one is a remark.
    ///
    /// # Errors
    /// The failure of a required source, one that may go better next time before one that may not.
    async fn store_all(&self, report: &mut TaskReport) -> Result<(), Failure> {
        let mut failures: Vec<Failure> = Vec::new();
        for source in &self.work.sources {
            let name = source.name();
            match self.store_one(source).await {
                Ok((record, warnings)) => {
                    report.sources.push(record.summary());
                    report.warnings.extend(warnings);
                }
                Err(failure) if is_everyones(&failure) => return Err(failure),
                Err(failure) if source.is_optional() => {
                    report.warnings.push(format!("{name}: optional, and not stored: {failure}"));
                }
                Err(failure) => failures.push(failure),
            }
        }
        let first = failures.iter().position(|failure| failure.verdict.may_retry()).unwrap_or(0);
        if failures.is_empty() {
            return Ok(());
        }
        let failure = failures.remove(first);
        report.warnings.extend(failures.into_iter().map(|failure| failure.message));
        Err(failure)
    }

    async fn store_one(&self, source: &Source) -> Result<(SourceRecord, Vec<String>), Failure> {
        let name = source.name();
        let snapshot = &self.context.snapshot;
        let adopted = match finish::choose(&name, snapshot, false, self.store, self.world).await {
            Ok(found) => found,
            // An attempt whose bytes are gone is no attempt: store the source again.
            Err(failure) if failure.reason == "StoredBytesMissing" => None,
            Err(failure) => return Err(failure),
        };
        if let Some(record) = adopted {
            tracing::info!(source = %name, attempt = %record.attempt, "an earlier attempt stored it already");
            let warnings = self.warnings(&record);
            return Ok((record, warnings));
        }
        self.context.meter.begin(&format!("{name}: storing"), None);
        let stored = self.world.store(source, &self.context).await;
        let remarks = self.context.meter.take_remarks();
        let record = stored?;
        let last_good = self.work.last_good.iter().find(|last| last.source == name);
        let accept = self.work.accept_shrink;
        let mut warnings = guard::check(source, &record, last_good, self.work.guards, accept)
            .map_err(|failure| self.name_policy(failure))?;
        let record = self.write_record(record).await?;
        warnings.extend(remarks.into_iter().map(|remark| format!("{name}: {remark}")));
        warnings.extend(self.warnings(&record));
        Ok((record, warnings))
    }

    /// The finish step says them otherwise.
    fn warnings(&self, record: &SourceRecord) -> Vec<String> {
        if self.work.finish.is_some() { vec![] } else { finish::remarks(record) }
    }

    async fn write_record(&self, record: SourceRecord) -> Result<SourceRecord, Failure> {
        let (record, text) = document::seal(record);
        let directory = self.context.directory();
        let pause = self.world.pause();
        let writer = DocumentWriter { pause, ..DocumentWriter::new(&**self.store, &directory) };
        let prefix = record.prefix();
        writer.put(|retry| prefix.source_record(retry), &text, |_| false).await?;
        Ok(record)
    }

    fn name_policy(&self, failure: Failure) -> Failure {
        Failure { fix: failure.fix.map(|fix| fix.replace("POLICY", self.spec.policy.as_str())), ..failure }
    }
}

/// True for what the next source would meet as well: the remote refuses, is full or is out of reach.
fn is_everyones(failure: &Failure) -> bool {
    failure.reason.starts_with("Remote") && failure.verdict != Verdict::Guard
}
