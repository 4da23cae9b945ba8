//! Paths of a node that are mounted for optional sources alone. Docker runs no task at all where one of them is missing, so the
//! task is made again without it, under the same service: its program says what it did not find.

use crate::{
    controller::port::PortError,
    orchestrators::swarm::engine::{
        Engine,
        model::{Labels, Service, Task},
    },
};
use serde_json::Value;
use tracing::info;

/// The paths, on the service of a task.
pub const LABEL: &str = "backstay.optional-mounts";
/// What Docker says before the path.
const MISSING: &str = "bind source path does not exist: ";

/// The label for these paths; nothing for none.
pub fn label(paths: &[&str]) -> Option<(String, String)> {
    let text = (!paths.is_empty()).then(|| serde_json::to_string(paths).ok()).flatten()?;
    Some((LABEL.to_owned(), text))
}

/// The path that Docker misses.
pub fn missing_path(error: &str) -> Option<&str> {
    error.split_once(MISSING).map(|(_, path)| path.trim())
}

/// The path without which the task can be made again, when it is the one that Docker misses.
pub fn missing<'a>(labels: &Labels, task: Option<&'a Task>) -> Option<&'a str> {
    let task = task.filter(|task| task.status.state == "rejected")?;
    let path = missing_path(&task.status.error)?;
    let optional: Vec<String> = labels.get(LABEL).and_then(|text| serde_json::from_str(text).ok())?;
    optional.iter().any(|known| known == path).then_some(path)
}

/// Makes the task again without `path`, unless that was done before: Swarm is about to start it then.
///
/// # Errors
/// As all calls. Another controller may do it at the same time.
pub async fn start_without(engine: &Engine, service: &Service, path: &str) -> Result<(), PortError> {
    let mounts = &service.spec.task.container.mounts;
    if mounts.iter().all(|mount| mount.source != path) {
        return Ok(());
    }
    let whole = engine.whole_service(&service.id).await?;
    let version = whole.pointer("/Version/Index").and_then(Value::as_u64).unwrap_or_default();
    let Some(spec) = without(&whole, path) else { return Ok(()) };
    info!(
        service = service.spec.name,
        path, "an optional source is not on its node: the task is made without it"
    );
    Ok(engine.update_service(&service.id, version, &spec).await?)
}

/// The specification without the mount.
fn without(service: &Value, path: &str) -> Option<Value> {
    let mut spec = service.get("Spec")?.clone();
    let mounts = spec.pointer_mut("/TaskTemplate/ContainerSpec/Mounts")?.as_array_mut()?;
    mounts.retain(|mount| mount.get("Source").and_then(Value::as_str) != Some(path));
    Some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_path_that_is_optional_is_left_out() {
        let task = |state: &str, error: &str| -> Task {
            serde_json::from_value(json!({"Status": {"State": state, "Err": error}})).unwrap()
        };
        let labels: Labels = label(&["/mnt/opt", "/mnt/more"]).into_iter().collect();
        let docker = |path: &str| format!("invalid mount config for type \"bind\": {MISSING}{path}");
        for (state, error, expected) in [
            ("rejected", docker("/mnt/opt"), Some("/mnt/opt")),
            ("rejected", docker("/mnt/homes"), None),
            ("rejected", "No such image: x".to_owned(), None),
            ("failed", docker("/mnt/opt"), None),
        ] {
            assert_eq!(missing(&labels, Some(&task(state, &error))), expected, "{state} {error}");
        }
        assert_eq!(missing(&Labels::new(), Some(&task("rejected", &docker("/mnt/opt")))), None);
        assert_eq!(label(&[]), None);

        let mount = |path: &str| json!({"Type": "bind", "Source": path, "Target": path});
        let service = json!({"Spec": {"TaskTemplate": {"ContainerSpec": {
            "Image": "i", "Mounts": [mount("/mnt/opt"), mount("/mnt/homes"), {"Type": "tmpfs", "Target": "/tmp"}],
        }}}});
        let spec = without(&service, "/mnt/opt").unwrap();
        assert_eq!(
            spec["TaskTemplate"]["ContainerSpec"]["Mounts"],
            json!([
                mount("/mnt/homes"), {"Type": "tmpfs", "Target": "/tmp"}
            ])
        );
        assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["Image"], "i");
    }
}
