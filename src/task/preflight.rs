//! The preflight: remote and sources can be reached, before the first night has to find out.
//!
//! The place is ours, claimed when it is nobody's → a probe is written, read back and deleted → each source is looked
//! at. A probe that cannot be deleted is a remark: backups need no permission to delete, pruning does and sweeps it
//! later.

use crate::{
    domain::{policy::Source, verdict::Failure},
    plan::task_spec::{TaskReport, TaskSpec},
    storage::{layout, owner::Terms, store::ObjectStore},
    task::{
        context::Meter,
        finish::claimant,
        world::{Access, World},
    },
};
use bytes::Bytes;

/// Looks at the remote and every source. All that is wrong is told; the first failure is the verdict.
pub async fn preflight(spec: &TaskSpec, sources: &[Source], world: &dyn World, meter: &Meter) -> TaskReport {
    let mut report = TaskReport::empty();
    let mut failures = Vec::new();
    meter.begin("looking at the remote", None);
    match remote(spec, world).await {
        Ok(remark) => report.warnings.extend(remark),
        Err(failure) => failures.push(failure),
    }
    for source in sources {
        meter.begin(&format!("looking at {}", source.name()), None);
        match world.look(source).await {
            Ok(remarks) => report.warnings.extend(remarks),
            Err(failure) if source.is_optional() => {
                report.warnings.push(format!("{}: optional: {failure}", source.name()));
            }
            Err(failure) => failures.push(failure),
        }
    }
    let mut failures = failures.into_iter();
    if let Some(first) = failures.next() {
        report.verdict = first.verdict;
        report.failure = Some(first);
        report.warnings.extend(failures.map(|failure| failure.message));
    }
    report
}

async fn remote(spec: &TaskSpec, world: &dyn World) -> Result<Option<String>, Failure> {
    let store = world.open(Access::Prune).await?;
    let claimant = claimant(spec, world);
    if spec.known_place {
        // Before anything is made: a folder under a mount point would be the next sign that all is well.
        claimant.refuse_lost(&*store).await?;
    }
    store.make_directory("").await?;
    let terms = Terms { take_over: spec.take_over, known: spec.known_place };
    // It is confirmed by the run that commits first, should it still be young by then.
    let _ = claimant.acquire(&*store, terms, world.now()).await?;
    let name = layout::probe(&spec.policy, world.now(), &spec.site);
    let text = Bytes::from_static(b"Backstay looked whether it can write here. This file can be deleted.\n");
    store
        .put(&name, vec![text.clone()])
        .await
        .map_err(|error| Failure::from(error).within("writing a probe"))?;
    let found = store.get(&name).await.map_err(|error| Failure::from(error).within("reading a probe"))?;
    if found != text {
        return Err(Failure::permanent(
            "RemoteAlters",
            format!("{name} does not read as it was written: the remote alters what it stores"),
        ));
    }
    let remark = delete(&*store, &name).await;
    claimant.check(&*store).await?;
    Ok(remark)
}

async fn delete(store: &dyn ObjectStore, name: &str) -> Option<String> {
    let error = store.delete(name).await.err()?;
    Some(format!("{name} cannot be deleted, nor could pruning delete anything: {error}"))
}
