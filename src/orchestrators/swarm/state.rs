//! How a task is, from what Swarm says about it: the state, never the exit code alone, together with the state of its node.

use crate::{
    domain::verdict::{Failure, INTERRUPTED, Verdict},
    orchestrators::swarm::{
        engine::model::{Node, Task},
        optional,
    },
    plan::{observed::TaskState, task_spec::TaskReport},
};
use jiff::Timestamp;

/// True once Swarm says that nothing of the task runs any more.
pub fn is_over(task: &Task) -> bool {
    matches!(
        task.status.state.as_str(),
        "complete" | "failed" | "rejected" | "shutdown" | "orphaned" | "remove"
    )
}

/// True when the task's program ran to an end of its own, so that its log holds a report.
pub fn has_reported(task: &Task) -> bool {
    let ended = matches!(task.status.state.as_str(), "complete" | "failed" | "shutdown");
    let by_itself = matches!(task.status.container.exit_code, 0 | 10..=13);
    ended && by_itself && !never_ran(task) && !is_lost(task)
}

/// True when its node does not answer. One that is only unknown may answer in a moment.
pub fn is_away(node: Option<&Node>) -> bool {
    node.is_some_and(|node| matches!(node.status.state.as_str(), "down" | "disconnected"))
}

/// How a task is. `made` is when its service was, `report` what it said at its end.
pub fn state(
    made: Timestamp,
    task: Option<&Task>,
    node: Option<&Node>,
    report: Option<TaskReport>,
) -> TaskState {
    let Some(task) = task else {
        return TaskState::Pending { since: made, why: "Swarm has made no task of it yet".to_owned() };
    };
    let at = task.status.at.unwrap_or(made);
    if is_over(task) {
        return TaskState::Ended {
            started_at: (!never_ran(task)).then_some(task.created_at.unwrap_or(made)),
            at,
            report: report
                .map(|said| explained(said, task, node))
                .or_else(|| refused(task, node))
                .map(Box::new),
            detail: detail(task, node),
        };
    }
    if is_away(node) {
        let since = node.and_then(|node| node.updated_at).unwrap_or(at).max(at);
        return TaskState::Unreachable { since };
    }
    match task.status.state.as_str() {
        "running" => TaskState::Running { since: at },
        _ => TaskState::Pending { since: made, why: waits(task, node) },
    }
}

/// What keeps a task from starting.
fn waits(task: &Task, node: Option<&Node>) -> String {
    let (error, image) = (task.status.error.trim(), &task.spec.container.image);
    match task.status.state.as_str() {
        "new" | "allocated" | "pending" if error.is_empty() => "Swarm looks for a node".to_owned(),
        "new" | "allocated" | "pending" => format!("Swarm has no node for it: {error}{}", remedy(error)),
        "preparing" if error.is_empty() => format!("{} fetches image {image}", named(node)),
        "preparing" => format!("{} cannot fetch image {image}: {error}", named(node)),
        other => format!("it is {other} on {}", named(node)),
    }
}

/// What an administrator can do about a task that has no node.
fn remedy(error: &str) -> &'static str {
    if error.contains("not available for new tasks") {
        "; the node that has the data is down or drained: docker node ls"
    } else if error.contains("scheduling constraints") {
        "; no node is what the policy asks for: docker node ls, and the policy's nodeSelector"
    } else if error.contains("insufficient resources") {
        "; lower task.resources.limits.memory, or free memory that is reserved"
    } else {
        ""
    }
}

/// The program never ran: Swarm refused the task, or the container could not be started.
fn never_ran(task: &Task) -> bool {
    let unstartable =
        matches!(task.status.container.exit_code, 126..=128) && task.status.message == "starting";
    task.status.state == "rejected" || (task.status.state == "failed" && unstartable)
}

/// The engine of its node was stopped under it: what it did at the end is not known.
fn is_lost(task: &Task) -> bool {
    task.status.state == "failed" && task.status.error.contains("No such container")
}

/// A task that was told to end does not know why; Swarm does.
fn explained(mut report: TaskReport, task: &Task, node: Option<&Node>) -> TaskReport {
    if let Some(failure) = report.failure.as_mut().filter(|failure| failure.reason == INTERRUPTED)
        && task.status.state == "shutdown"
    {
        failure.message = detail(task, node);
    }
    report
}

/// The report of a task that never ran.
fn refused(task: &Task, node: Option<&Node>) -> Option<TaskReport> {
    if !never_ran(task) {
        return None;
    }
    let failure = refusal(task.status.error.trim(), &task.spec.container.image, &named(node));
    Some(TaskReport::failed(failure))
}

fn refusal(error: &str, image: &str, node: &str) -> Failure {
    let lower = error.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if let Some(path) = optional::missing_path(error) {
        let message = format!("{node} has no {path}");
        return Failure::new(Verdict::Guard, "SourceMissing", message)
            .fix("mount or create it there, or correct the policy's path or nodeSelector");
    }
    if says(&["no longer meets constraints", "node no longer"]) {
        return Failure::temporary(
            "NodeChanged",
            format!("{node} is no longer what the task was placed for: {error}"),
        );
    }
    let registry = [
        "image",
        "manifest",
        "pull access",
        "unauthorized",
        "toomanyrequests",
        "resolve reference",
        "registry",
    ];
    if says(&registry) {
        let message = format!("{node} has no image {image} and cannot fetch it: {error}");
        return Failure::temporary("ImageMissing", message).fix(format!(
            "load it there (docker save {image} | ssh {node} docker load), or push it to a registry that all nodes reach"
        ));
    }
    if says(&["exec", "executable", "no such file"]) {
        let message = format!("image {image} cannot run a task: {error}");
        return Failure::permanent("ImageUnusable", message)
            .fix("start the controller with --image and the image of Backstay");
    }
    Failure::temporary("TaskRefused", format!("{node} refused the task: {error}"))
}

/// How it ended, for a person.
fn detail(task: &Task, node: Option<&Node>) -> String {
    let (node_name, code) = (named(node), task.status.container.exit_code);
    let drained = node.is_some_and(|node| node.spec.availability == "drain");
    match task.status.state.as_str() {
        "complete" => format!("it ended well on {node_name}, and its log is lost"),
        "failed" if is_lost(task) => format!("the Docker engine of {node_name} was stopped or restarted"),
        "failed" if code == 137 => format!(
            "it was killed on {node_name} (exit code 137): by docker kill, or because it needed more memory than it may have (task.resources.limits.memory)"
        ),
        "failed" => format!("exit code {code} on {node_name}: {}", task.status.error.trim()),
        "shutdown" if drained => format!("Swarm stopped it because {node_name} was drained"),
        "shutdown" => format!(
            "Swarm stopped it on {node_name}: the node was cut off for more than ten seconds, or its service was changed"
        ),
        "orphaned" => format!("{node_name} was removed from the swarm while it ran"),
        "remove" => "its service was removed".to_owned(),
        other => format!("{other}: {}", task.status.error.trim()),
    }
}

fn named(node: Option<&Node>) -> String {
    node.map_or_else(|| "a node that is gone".to_owned(), |node| format!("node {}", node.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn drained() -> (Task, Node) {
        let status = json!({"State": "shutdown", "ContainerStatus": {"ExitCode": 11}});
        let node = json!({"Description": {"Hostname": "store"}, "Spec": {"Availability": "drain"}});
        let task = serde_json::from_value(json!({"Status": status})).unwrap();
        (task, serde_json::from_value(node).unwrap())
    }

    #[test]
    fn a_task_that_was_told_to_end_is_told_with_the_reason() {
        let (task, node) = drained();
        for (reason, expected) in [(INTERRUPTED, "store was drained"), ("Unreachable", "the remote is away")]
        {
            let failure = Failure::temporary(reason, "the remote is away");
            let report = TaskReport::failed(failure);
            let ended = state(Timestamp::UNIX_EPOCH, Some(&task), Some(&node), Some(report));
            let TaskState::Ended { report: Some(report), .. } = ended else { panic!("{ended:?}") };
            assert!(report.failure.unwrap().message.contains(expected), "{reason}");
        }
    }

    fn seen(state: &str, code: i32, error: &str, message: &str, node: &str) -> String {
        let task: Task = serde_json::from_value(json!({
            "ID": "t", "CreatedAt": "2026-11-25T02:00:01Z",
            "Spec": {"ContainerSpec": {"Image": "backstay:1"}},
            "Status": {"Timestamp": "2026-11-25T02:10:00Z", "State": state, "Err": error, "Message": message,
                       "ContainerStatus": {"ExitCode": code}},
        }))
        .unwrap();
        let (status, availability) = node.split_once(' ').unwrap_or((node, "active"));
        let node: Node = serde_json::from_value(json!({
            "ID": "n", "UpdatedAt": "2026-11-25T02:11:00Z", "Description": {"Hostname": "store"},
            "Spec": {"Availability": availability}, "Status": {"State": status},
        }))
        .unwrap();
        let made = "2026-11-25T02:00:00Z".parse().unwrap();
        let reported = if has_reported(&task) { " (look for its report)" } else { "" };
        let text = match super::state(made, Some(&task), Some(&node), None) {
            TaskState::Pending { why, .. } => format!("pending: {why}"),
            TaskState::Running { since } => format!("running since {since}"),
            TaskState::Unreachable { since } => format!("unreachable since {since}"),
            TaskState::Ended { report: Some(report), started_at, .. } => {
                let failure = report.failure.unwrap();
                format!(
                    "{:?} {} started {}: {failure}; {:?}",
                    report.verdict,
                    failure.reason,
                    started_at.is_some(),
                    failure.fix
                )
            }
            TaskState::Ended { detail, .. } => format!("ended: {detail}"),
        };
        format!("{state} {code} {error:?} on a node that is {status}:\n  {text}{reported}")
    }

    #[test]
    fn every_state_of_a_task_has_its_meaning() {
        let table = [
            ("pending", 0, "", "pending task scheduling", "ready"),
            ("pending", 0, "no suitable node (scheduling constraints not satisfied on 2 nodes)", "", "ready"),
            ("pending", 0, "no suitable node (1 node not available for new tasks)", "", "ready"),
            ("pending", 0, "no suitable node (insufficient resources on 3 nodes)", "", "ready"),
            ("preparing", 0, "", "preparing", "ready"),
            ("preparing", 0, "lookup registry: server misbehaving", "preparing", "ready"),
            ("starting", 0, "", "starting", "ready"),
            ("preparing", 0, "", "preparing", "down"),
            ("running", 0, "", "started", "ready"),
            ("running", 0, "", "started", "unknown"),
            ("running", 0, "", "started", "down"),
            ("complete", 0, "", "finished", "ready"),
            ("failed", 7, "task: non-zero exit (7)", "started", "ready"),
            ("failed", 11, "task: non-zero exit (11)", "started", "ready"),
            ("failed", 137, "task: non-zero exit (137)", "started", "ready"),
            ("failed", 0, "No such container: x", "started", "ready"),
            (
                "failed",
                127,
                "starting container failed: exec: \"backstay\": executable file not found",
                "starting",
                "ready",
            ),
            ("rejected", 0, "No such image: backstay:1", "preparing", "ready"),
            (
                "rejected",
                0,
                "pull access denied for backstay, repository does not exist",
                "preparing",
                "ready",
            ),
            (
                "rejected",
                0,
                "invalid mount config for type \"bind\": bind source path does not exist: /mnt/homes",
                "preparing",
                "ready",
            ),
            ("rejected", 0, "assigned node no longer meets constraints", "", "ready"),
            ("rejected", 0, "something else", "preparing", "ready"),
            ("shutdown", 11, "task: non-zero exit (11)", "shutdown", "ready drain"),
            ("shutdown", 137, "task: non-zero exit (137)", "shutdown", "ready"),
            ("orphaned", 0, "", "", "down"),
        ];
        let told: Vec<String> = table
            .iter()
            .map(|(state, code, error, message, node)| seen(state, *code, error, message, node))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
