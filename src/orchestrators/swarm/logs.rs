//! The logs of tasks that failed, kept beside the run's record: those of the engine go with the service.

use crate::orchestrators::swarm::{
    engine::{Engine, model::Task, stream::Output},
    names::{self, kind},
};
use tracing::debug;

/// Lines that are kept.
const LINES: u32 = 200;
/// Bytes that are kept: all managers hold them in memory.
const MOST: usize = 16 << 10;

/// Keeps the end of what a task said. Without it only the words are missing.
pub(super) async fn keep(engine: &Engine, task: &Task) {
    let labels = &task.spec.container.labels;
    let (Some(policy), Some(name)) = (names::policy_of(labels), names::task_of(labels)) else { return };
    let text = engine.task_log(&task.id, Output::Error, Some(LINES)).await.unwrap_or_default();
    let end = end_of(&text);
    if end.is_empty() {
        return;
    }
    // A preflight's number is another for each specification; its newest log is kept.
    let which = match name.slot {
        Some(_) => name.to_string(),
        None => name.step.to_string(),
    };
    let config = names::config(kind::LOG, &policy, Some(&which));
    if name.slot.is_none() {
        let _ = engine.remove_config(&config).await;
    }
    let labels = names::task_labels(kind::LOG, &policy, &name);
    if let Err(refusal) = engine.create_config(&config, &labels, end.as_bytes()).await {
        debug!(%refusal, config, "the log of a task is not kept");
    }
}

/// The last whole lines that are to be kept.
fn end_of(text: &str) -> &str {
    let cut = text.len().saturating_sub(MOST);
    let from = if cut == 0 {
        0
    } else {
        text.bytes().skip(cut).position(|b| b == b'\n').map_or(text.len(), |at| cut + at + 1)
    };
    text.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_lines_are_kept() {
        assert_eq!(end_of("a\nb\n"), "a\nb\n");
        let long: String = (0..5000).map(|n| format!("line {n} ä\n")).collect();
        let end = end_of(&long);
        assert!(
            end.len() <= MOST && end.len() > MOST - 20 && end.starts_with("line ") && long.ends_with(end)
        );
        assert_eq!(end_of(&"x".repeat(MOST + 1)), "");
    }
}
