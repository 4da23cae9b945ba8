//! The tasks of a policy with what they said at their end, which is the last line of their logs.
//!
//! A log is only a hint: it does not come while its node is away, and is gone once the node's engine was started again. It is
//! asked for during a while; a report that does not come is lost, and the next attempt finds what was stored.

use crate::{
    orchestrators::swarm::{
        engine::{Engine, model::Task as SwarmTask, stream::Output},
        look::Seen,
        names, optional, state,
    },
    plan::{
        observed::{Task, TaskState},
        task_spec::TaskReport,
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
use tracing::warn;

/// A report is asked for during this time after the end of its task.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);
/// Lines of a log that are looked at: after the report nothing follows but what was under way.
const LINES: u32 = 20;
/// Reports that are remembered, so that no log is read twice.
const REMEMBERED: usize = 512;

/// Reports that came.
#[derive(Debug, Default)]
pub struct Harvest {
    reports: Mutex<HashMap<String, TaskReport>>,
}

impl Harvest {
    /// The tasks, and whether the report of one may still come.
    pub async fn tasks(&self, engine: &Engine, seen: &Seen, now: Timestamp) -> (Vec<Task>, bool) {
        let (mut tasks, mut awaiting) = (Vec::new(), false);
        for service in &seen.services {
            let Some(name) = names::task_of(&service.spec.labels) else { continue };
            let (made, task) = (service.created_at.unwrap_or(now), seen.task_of(service));
            let (node, uid) = (task.and_then(|task| seen.node(task)), service.id.clone());
            if let Some(path) = optional::missing(&service.spec.labels, task) {
                let why = format!("the optional {path} is missing, so it is started without that");
                tasks.push(Task { name, uid, state: TaskState::Pending { since: made, why } });
                continue;
            }
            let report = match task.filter(|task| state::has_reported(task)) {
                Some(task) => match self.report(engine, task, now).await {
                    Some(Ok(report)) => Some(report),
                    // Not known yet: it is as if it still ran.
                    Some(Err(since)) => {
                        tasks.push(Task { name, uid, state: TaskState::Running { since } });
                        awaiting = true;
                        continue;
                    }
                    None => None,
                },
                None => None,
            };
            tasks.push(Task { name, uid, state: state::state(made, task, node, report) });
        }
        // They are being stopped; the name may be used again when they are gone. On a node that is away nobody waits.
        for task in seen.left_over().filter(|task| !state::is_over(task) && !state::is_away(seen.node(task)))
        {
            let Some(name) = names::task_of(&task.spec.container.labels) else { continue };
            if seen.node(task).is_some() && tasks.iter().all(|known| known.name != name) {
                let since = task.status.at.unwrap_or(now);
                let uid = format!("{}{}", names::LEFT_OVER, task.id);
                tasks.push(Task { name, uid, state: TaskState::Running { since } });
            }
        }
        (tasks, awaiting)
    }

    /// What a task said at its end; since when it ran, while that may still come; nothing when it is lost.
    pub(super) async fn report(
        &self,
        engine: &Engine,
        task: &SwarmTask,
        now: Timestamp,
    ) -> Option<Result<TaskReport, Timestamp>> {
        let remembered = || self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = remembered().get(&task.id) {
            return Some(Ok(report.clone()));
        }
        let log = engine.task_log(&task.id, Output::Standard, Some(LINES)).await;
        let report = log.as_ref().ok().and_then(|text| last_report(text));
        if let Some(report) = report {
            let mut reports = remembered();
            if reports.len() >= REMEMBERED {
                reports.clear();
            }
            reports.insert(task.id.clone(), report.clone());
            return Some(Ok(report));
        }
        let ended = task.status.at.unwrap_or(now);
        if now.duration_since(ended) < PATIENCE {
            return Some(Err(task.created_at.unwrap_or(ended)));
        }
        warn!(task = task.id, why = log.err().map(|error| error.message), "the report of a task is lost");
        None
    }
}

/// The report is one line; lines of progress before it are of another form.
fn last_report(log: &str) -> Option<TaskReport> {
    log.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_found_among_what_else_was_said() {
        let progress = r#"{"phase":"homes: storing","bytes":1,"items":1}"#;
        let report = r#"{"version":1,"verdict":"Committed","new":{"x":1}}"#;
        let found = |log: &str| last_report(log).is_some();
        assert!(found(&format!("{progress}\n{report}\n")));
        assert!(found(&format!("{progress}\n{report}\n{progress}\n")));
        assert!(!found(&format!("{progress}\n{}", &report[..30])));
        assert!(!found(""));
    }
}
