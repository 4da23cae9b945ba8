//! How a task is, from what Kubernetes says of its Job and its Pod.

use crate::{
    domain::verdict::{Failure, INTERRUPTED, Verdict},
    orchestrators::kubernetes::objects::{Container, JobEnd, JobSeen, PodSeen},
    plan::{observed::TaskState, task_spec::TaskReport},
};
use jiff::{SignedDuration, Timestamp};

/// The end of a Job may be told before that of its Pod: for so long what the Pod said is waited for.
const PATIENCE: SignedDuration = SignedDuration::from_secs(20);

/// How a task is. `why` is what Kubernetes said of one that does not start.
pub fn state(job: &JobSeen, pod: Option<&PodSeen>, why: Option<&str>, now: Timestamp) -> TaskState {
    if let Some(end) = &job.end {
        let since = match pod.map(|pod| &pod.container) {
            Some(Container::Ended { .. }) => return ended(end, pod),
            Some(Container::Running { since }) => *since,
            _ => job.meta.created_at,
        };
        return if is_fresh(end, now) { TaskState::Running { since } } else { ended(end, pod) };
    }
    let since = job.meta.created_at;
    let Some(pod) = pod else {
        let why = job.held_back.as_deref().or(why).unwrap_or("Kubernetes has made no Pod of it yet");
        return TaskState::Pending { since, why: why.to_owned() };
    };
    match &pod.container {
        Container::Running { since } => match pod.unready_since {
            Some(unready) if unready > *since => TaskState::Unreachable { since: unready },
            _ => TaskState::Running { since: *since },
        },
        // The Job is about to say how it ended.
        Container::Ended { started_at, .. } => TaskState::Running { since: started_at.unwrap_or(since) },
        Container::Waiting { reason, message } => {
            TaskState::Pending { since, why: waits(pod, reason, message, why) }
        }
        Container::Unknown => TaskState::Pending {
            since,
            why: match (&pod.unschedulable, &pod.node) {
                (Some(message), _) => format!("no node can take it: {message}"),
                (None, Some(node)) => why.map_or_else(|| format!("{node} prepares it"), str::to_owned),
                (None, None) => "Kubernetes looks for a node".to_owned(),
            },
        },
    }
}

/// True while what its Pod said may still come: the watches of Jobs and Pods are not one.
fn is_fresh(end: &JobEnd, now: Timestamp) -> bool {
    now.duration_since(end.at) < PATIENCE
}

fn waits(pod: &PodSeen, reason: &str, message: &str, why: Option<&str>) -> String {
    let node = named(pod);
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            format!("{node} cannot fetch the image of Backstay: {message}")
        }
        "CreateContainerConfigError" => format!("{node} cannot make the container: {message}"),
        // What keeps a volume from being mounted stands in events alone.
        _ => match why {
            Some(why) => why.to_owned(),
            None if message.is_empty() => format!("{node} prepares it"),
            None => format!("{node} prepares it: {reason}: {message}"),
        },
    }
}

fn ended(end: &JobEnd, pod: Option<&PodSeen>) -> TaskState {
    let Some(PodSeen { container: Container::Ended { code, reason, message, started_at, at }, .. }) = pod
    else {
        let (detail, started_at) = (unseen(end, pod), None);
        return TaskState::Ended { started_at, at: end.at, report: None, detail };
    };
    let said: Option<TaskReport> = serde_json::from_str(message).ok();
    let by_itself = matches!(code, 0 | 10..=13);
    let report = match said.filter(|_| by_itself) {
        Some(said) => Some(explained(said, pod)),
        None => failure(*code, reason, message, pod).map(TaskReport::failed),
    };
    TaskState::Ended {
        started_at: *started_at,
        at: at.unwrap_or(end.at),
        report: report.map(Box::new),
        detail: detail(*code, reason, message, pod),
    }
}

/// A task that was told to end does not know why; Kubernetes may.
fn explained(mut report: TaskReport, pod: Option<&PodSeen>) -> TaskReport {
    if let Some(failure) = report.failure.as_mut().filter(|failure| failure.reason == INTERRUPTED)
        && let Some(pod) = pod
    {
        let why = pod.end.as_deref().filter(|why| !why.is_empty());
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        failure.message = format!("its Pod on {} was deleted, evicted or preempted{why}", named(pod));
    }
    report
}

/// What is known of a failure without a report, where that is more than that there is none.
fn failure(code: i32, reason: &str, message: &str, pod: Option<&PodSeen>) -> Option<Failure> {
    let node = pod.map_or_else(|| "a node".to_owned(), named);
    let of_pod = pod.and_then(|pod| pod.end.as_deref()).unwrap_or_default();
    if reason == "OOMKilled" {
        let message = format!("it needed more memory on {node} than it may have, and was killed");
        return Some(Failure::temporary("OutOfMemory", message).fix("raise task.resources.limits.memory"));
    }
    if of_pod.starts_with("Evicted") {
        let message = format!("{node} evicted it: {of_pod}");
        return Some(Failure::temporary("Evicted", message).fix(
            "set task.resources.requests, or task.priorityClassName, so that it is not the first to go",
        ));
    }
    if reason == "StartError" || (code == 128 && !message.is_empty()) {
        let message = format!("the image of Backstay cannot run a task on {node}: {message}");
        return Some(
            Failure::new(Verdict::Permanent, "ImageUnusable", message)
                .fix("start the controller with --image and the image of Backstay"),
        );
    }
    None
}

fn detail(code: i32, reason: &str, message: &str, pod: Option<&PodSeen>) -> String {
    let node = pod.map_or_else(|| "a node".to_owned(), named);
    let of_pod = pod.and_then(|pod| pod.end.as_deref()).filter(|why| !why.is_empty());
    let why = of_pod.map_or_else(String::new, |why| format!("; {why}"));
    match code {
        137 => format!("it was killed on {node} (exit code 137, {reason}{why})"),
        255 if reason == "Unknown" => format!("{node} was restarted while it ran"),
        0 => format!("it ended well on {node}, and its report is lost"),
        _ if message.is_empty() => format!("exit code {code} on {node} ({reason}{why})"),
        _ => format!("exit code {code} on {node} ({reason}{why}): {}", message.trim()),
    }
}

/// A Job whose Pod is gone, or has not said how it ended.
fn unseen(end: &JobEnd, pod: Option<&PodSeen>) -> String {
    let JobEnd { reason, message, .. } = end;
    match (reason.as_str(), pod) {
        // The node was removed: nobody knows what became of the container, which may still run.
        ("BackoffLimitExceeded", _) => {
            "its Pod or its node was removed while it ran, and may still run; attempts never share what they store".to_owned()
        }
        ("DeadlineExceeded", _) => "it was stopped at its deadline".to_owned(),
        (_, Some(pod)) => format!("its Pod on {} is gone: {reason}: {message}", named(pod)),
        (_, None) if message.is_empty() => format!("its Pod is gone ({reason})"),
        (_, None) => format!("its Pod is gone ({reason}): {message}"),
    }
}

fn named(pod: &PodSeen) -> String {
    pod.node.as_ref().map_or_else(|| "a node".to_owned(), |node| format!("node {node}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrators::kubernetes::objects;
    use serde_json::{Value, json};

    fn job(status: Value, annotations: Value) -> JobSeen {
        let meta = json!({
            "namespace": "wt", "name": "j", "uid": "u", "resourceVersion": "1",
            "creationTimestamp": "2026-11-25T02:00:00Z", "annotations": annotations,
            "labels": {"backstay.dev/policy": "nightly", "backstay.dev/step": "backup",
                       "backstay.dev/attempt": "1", "backstay.dev/run": "20261125T020000Z"},
        });
        let job = serde_json::from_value(json!({"metadata": meta, "status": status})).unwrap();
        objects::job(&job).unwrap()
    }

    fn pod(status: Value) -> PodSeen {
        let meta = json!({
            "namespace": "wt", "name": "j-x", "uid": "p", "resourceVersion": "1",
            "creationTimestamp": "2026-11-25T02:00:00Z",
            "labels": {"backstay.dev/policy": "nightly", "backstay.dev/step": "backup", "backstay.dev/attempt": "1"},
        });
        let spec = json!({"containers": [], "nodeName": "node1"});
        let pod = serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).unwrap();
        objects::pod(&pod).unwrap()
    }

    fn container(state: Value) -> Value {
        json!({"phase": "Running", "containerStatuses": [
            {"name": "task", "ready": false, "restartCount": 0, "image": "b", "imageID": "b", "state": state}]})
    }

    fn terminated(code: i32, reason: &str, message: &str) -> Value {
        let mut status = container(json!({"terminated": {
            "exitCode": code, "reason": reason, "message": message,
            "startedAt": "2026-11-25T02:00:05Z", "finishedAt": "2026-11-25T02:09:00Z"}}));
        status["phase"] = json!(if code == 0 { "Succeeded" } else { "Failed" });
        status
    }

    fn failed(reason: &str) -> Value {
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": reason, "message": "m",
                               "lastTransitionTime": "2026-11-25T02:09:02Z"}]})
    }

    fn told(state: TaskState) -> String {
        match state {
            TaskState::Pending { why, .. } => format!("pending: {why}"),
            TaskState::Running { since } => format!("running since {since}"),
            TaskState::Unreachable { since } => format!("unreachable since {since}"),
            TaskState::Ended { report: Some(report), started_at, .. } => {
                let failure =
                    report.failure.map(|failure| format!("{}: {failure}; {:?}", failure.reason, failure.fix));
                format!(
                    "{:?} started {}: {}",
                    report.verdict,
                    started_at.is_some(),
                    failure.unwrap_or_default()
                )
            }
            TaskState::Ended { detail, .. } => format!("ended without a report: {detail}"),
        }
    }

    #[test]
    fn every_state_of_a_task_has_its_meaning() {
        let now = "2026-11-25T03:00:00Z".parse().unwrap();
        let complete = json!({"conditions": [{"type": "Complete", "status": "True", "reason": "CompletionsReached",
                                              "lastTransitionTime": "2026-11-25T02:09:02Z"}]});
        let going = || json!({"active": 1});
        let running = |ready: &str| {
            let mut status = container(json!({"running": {"startedAt": "2026-11-25T02:00:05Z"}}));
            let at = if ready == "True" { "2026-11-25T02:00:06Z" } else { "2026-11-25T02:05:00Z" };
            status["conditions"] = json!([{"type": "Ready", "status": ready, "lastTransitionTime": at}]);
            status
        };
        let waiting = |reason: &str, message: &str| {
            let mut status = container(json!({"waiting": {"reason": reason, "message": message}}));
            status["phase"] = json!("Pending");
            status
        };
        let unschedulable = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}]});
        let report = r#"{"version":1,"verdict":"Committed"}"#;
        let interrupted =
            serde_json::to_string(&TaskReport::failed(Failure::temporary("Interrupted", "SIGTERM"))).unwrap();
        let mut evicted = terminated(137, "Error", "");
        (evicted["reason"], evicted["message"]) = (json!("Evicted"), json!("ephemeral storage"));
        let table: Vec<(&str, Value, Option<Value>, Option<&str>)> = vec![
            ("no Pod", going(), None, None),
            ("no Pod, and an event", going(), None, Some("exceeded quota")),
            ("unschedulable", going(), Some(unschedulable), None),
            ("image missing", going(), Some(waiting("ErrImagePull", "not found")), None),
            (
                "Secret missing, as a volume",
                going(),
                Some(waiting("ContainerCreating", "")),
                Some("secret \"rclone\" not found"),
            ),
            ("preparing", going(), Some(waiting("ContainerCreating", "")), None),
            ("running", going(), Some(running("True")), None),
            ("node cut off", going(), Some(running("False")), None),
            ("ended, the Job not yet", going(), Some(terminated(0, "Completed", report)), None),
            ("good", complete.clone(), Some(terminated(0, "Completed", report)), None),
            ("good, message lost", complete.clone(), Some(terminated(0, "Completed", "")), None),
            ("good, Pod gone", complete, None, None),
            (
                "failed with a report",
                failed("PodFailurePolicy"),
                Some(terminated(11, "Error", r#"{"version":1,"verdict":"Temporary"}"#)),
                None,
            ),
            ("told to end", failed("PodFailurePolicy"), Some(terminated(11, "Error", &interrupted)), None),
            ("exit 7", failed("PodFailurePolicy"), Some(terminated(7, "Error", "panic")), None),
            (
                "no such command",
                failed("PodFailurePolicy"),
                Some(terminated(128, "StartError", "exec: not found")),
                None,
            ),
            ("out of memory", failed("PodFailurePolicy"), Some(terminated(137, "OOMKilled", "")), None),
            ("killed", failed("PodFailurePolicy"), Some(terminated(137, "Error", "")), None),
            ("evicted", failed("PodFailurePolicy"), Some(evicted), None),
            ("power loss", failed("PodFailurePolicy"), Some(terminated(255, "Unknown", "")), None),
            ("node removed", failed("BackoffLimitExceeded"), None, None),
            ("deadline", failed("DeadlineExceeded"), None, None),
        ];
        let lines: Vec<String> = table
            .into_iter()
            .map(|(name, status, pod_status, why)| {
                let (job, pod) = (job(status, json!({})), pod_status.map(pod));
                format!("{name}\n  {}", told(state(&job, pod.as_ref(), why, now)))
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
        let held = job(going(), json!({"backstay.dev/held-back": "claim homes is not bound"}));
        assert_eq!(told(state(&held, None, None, now)), "pending: claim homes is not bound");
    }

    #[test]
    fn what_a_pod_said_is_waited_for_a_little() {
        let running = pod(container(json!({"running": {"startedAt": "2026-11-25T02:00:05Z"}})));
        let job = job(failed("PodFailurePolicy"), json!({}));
        for (now, is_over) in [("2026-11-25T02:09:10Z", false), ("2026-11-25T02:09:40Z", true)] {
            let state = state(&job, Some(&running), None, now.parse().unwrap());
            assert_eq!(matches!(state, TaskState::Ended { .. }), is_over, "{state:?}");
        }
    }
}
