//! From a run's frozen plan to the specification of one task.

use crate::{
    domain::{
        names::SourceName,
        policy::{Policy, Source},
        run::{Run, RunPlan, Step, TaskLimits},
        status::Status,
    },
    plan::{
        action::NewTask,
        claim::{keep, placement},
        deadline::after,
        observed::{Observed, TaskName},
        task_spec::{BackupWork, FinishWork, TASK_SPEC_VERSION, TaskSpec, Work},
    },
};
use jiff::Timestamp;
use std::time::Duration;

/// A preflight may take this long.
pub(super) const PREFLIGHT: Duration = Duration::from_secs(600);

/// The task that makes `attempt` of `step`.
pub(super) fn run_task(run: &Run, step: &Step, attempt: u32, observed: &Observed, now: Timestamp) -> NewTask {
    let plan = &run.plan;
    let work = if step.sources.is_empty() {
        Work::Finish(finish_work(run, observed))
    } else {
        Work::Backup(BackupWork {
            slot: run.slot,
            attempt,
            sources: step.sources.clone(),
            guards: plan.guards,
            last_good: plan.last_good.clone(),
            accept_shrink: plan.accept_shrink,
            finish: step.finish.then(|| finish_work(run, observed)),
        })
    };
    NewTask {
        name: TaskName::of_run(run.slot, step.name.clone(), attempt),
        node: step.node.clone(),
        placement: plan.placement.clone(),
        spec: TaskSpec {
            version: plan.task_version,
            policy: plan.policy.clone(),
            instance: plan.instance.clone(),
            destination: plan.destination.clone(),
            site: observed.site.clone(),
            take_over: plan.take_over,
            known_place: plan.known_place,
            not_after: after(now, plan.limits.attempt()),
            memory_mib: plan.limits.memory_mib,
            work,
        },
    }
}

fn finish_work(run: &Run, observed: &Observed) -> FinishWork {
    let plan = &run.plan;
    let names = |optional: bool| {
        plan.sources().filter(|s| s.is_optional() == optional).map(Source::name).collect::<Vec<SourceName>>()
    };
    FinishWork {
        slot: run.slot,
        required: names(false),
        optional: names(true),
        retention: plan.retention.clone(),
        run_deadline_seconds: run_deadline(plan),
        keep: keep(observed, &plan.keep),
        keep_files: observed.keep_files.clone(),
    }
}

/// Longest time a run can take, pauses included, seconds.
fn run_deadline(plan: &RunPlan) -> u64 {
    let pauses = u64::from(plan.limits.retries).saturating_mul(1800);
    plan.longest().as_secs().saturating_add(pauses)
}

/// The task that looks whether the remote and the sources of a policy let it in.
pub(super) fn preflight_task(
    policy: &Policy,
    number: i64,
    observed: &Observed,
    status: &Status,
    now: Timestamp,
) -> NewTask {
    let limits = TaskLimits::from(&policy.task);
    let node = policy.sources().iter().find_map(|s| observed.node_of(s));
    // A task is on one node: what only another one has is not looked at.
    let is_here = |s: &Source| observed.node_of(s).is_none_or(|other| Some(&other) == node.as_ref());
    let sources = policy.sources().into_iter().filter(is_here).collect();
    NewTask {
        name: TaskName::preflight(number),
        node: node.clone(),
        placement: placement(policy, observed),
        spec: TaskSpec {
            version: TASK_SPEC_VERSION,
            policy: policy.name.clone(),
            instance: policy.instance.clone(),
            destination: policy.destination.clone(),
            site: observed.site.clone(),
            take_over: policy.takes_over(status.was_filled()),
            known_place: status.knows_place(),
            not_after: after(now, PREFLIGHT.saturating_add(Duration::from_secs(limits.pending_seconds))),
            memory_mib: limits.memory_mib,
            work: Work::Preflight { sources },
        },
    }
}
