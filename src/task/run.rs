//! A task from its spec to its report: the work runs apart from here, so that a signal, the deadline or a panic ends it
//! and there is still a report.

use crate::{
    domain::verdict::Failure,
    plan::task_spec::{TASK_SPEC_VERSION, TaskReport, TaskSpec, Work},
    task::{
        backup,
        context::Meter,
        finish, preflight, prune, report, restore, verify,
        world::{Access, World},
    },
};
use std::{sync::Arc, time::Duration};

/// How long the work may take to let go of its children once it is told to end.
const LET_GO: Duration = Duration::from_secs(3);

/// Does what `spec` says. `stop` ends it early, with the failure that it gives: a signal.
pub async fn run(
    spec: TaskSpec,
    world: Arc<dyn World>,
    meter: Arc<Meter>,
    stop: impl Future<Output = Failure>,
) -> TaskReport {
    if spec.version > TASK_SPEC_VERSION {
        return TaskReport::failed(Failure::permanent(
            "SpecNewer",
            format!(
                "the task's spec has version {}, and this backstay reads up to {TASK_SPEC_VERSION}",
                spec.version
            ),
        ));
    }
    let left = spec.not_after.duration_since(world.now());
    let Some(left) = Duration::try_from(left).ok().filter(|left| !left.is_zero()) else {
        return TaskReport::failed(too_late(&spec));
    };
    let late = too_late(&spec);
    let watched = Arc::clone(&meter);
    let mut work = tokio::spawn(async move { perform(&spec, &*world, &meter).await });
    let stopped = tokio::select! {
        done = &mut work => {
            return done.unwrap_or_else(|error| ended_early(crashed(&error), &watched));
        }
        failure = stop => failure,
        () = tokio::time::sleep(left) => late,
    };
    work.abort();
    let _ = tokio::time::timeout(LET_GO, work).await;
    ended_early(stopped, &watched)
}

/// What exists is not taken back because pruning it took too long.
fn ended_early(failure: Failure, meter: &Meter) -> TaskReport {
    let Some((snapshot, mut warnings)) = meter.take_committed() else { return TaskReport::failed(failure) };
    warnings.push(format!("not everything was pruned: {failure}"));
    report::fit(TaskReport { snapshot: Some(snapshot), warnings, ..TaskReport::empty() })
}

async fn perform(spec: &TaskSpec, world: &dyn World, meter: &Arc<Meter>) -> TaskReport {
    let report = match &spec.work {
        Work::Backup(work) => backup::backup(spec, work, world, meter).await,
        Work::Preflight { sources } => preflight::preflight(spec, sources, world, meter).await,
        Work::Restore(work) => restore::work::restore(spec, work, world, meter).await,
        Work::Prune(work) => prune::work::as_task(spec, work, world).await,
        Work::Verify(work) => verify::work::verify(spec, work, world, meter).await,
        Work::Finish(work) => match finish_alone(spec, work, world, meter).await {
            Ok(done) => TaskReport {
                snapshot: Some(done.snapshot),
                warnings: done.warnings,
                pruned: done.pruned,
                ..TaskReport::empty()
            },
            Err(failure) => TaskReport::failed(failure),
        },
    };
    report::fit(report)
}

async fn finish_alone(
    spec: &TaskSpec,
    work: &crate::plan::task_spec::FinishWork,
    world: &dyn World,
    meter: &Meter,
) -> Result<finish::Finished, Failure> {
    meter.begin("opening the remote", None);
    let store = world.open(Access::Append).await?;
    finish::finish(spec, work, &store, world, meter).await
}

fn too_late(spec: &TaskSpec) -> Failure {
    Failure::temporary(
        "DeadlineExceeded",
        format!("the task was not done by {}: it took longer than task.timeoutSeconds", spec.not_after),
    )
    .fix("raise task.timeoutSeconds if the amount of data needs it")
}

fn crashed(error: &tokio::task::JoinError) -> Failure {
    // A panic's message is on stderr already; it may hold anything, so it is not repeated.
    let what = if error.is_panic() { "an error in Backstay itself ended it" } else { "it was cancelled" };
    Failure::temporary("TaskCrashed", format!("the task did not end by itself: {what}"))
        .fix("the task's log has the details; please report them")
}
