//! What the controller itself runs as: its image, for its tasks, and its service.

use crate::orchestrators::swarm::engine::{Engine, refusal::Refusal};

/// What this process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The image of its service, with the digest where its deployment found one, so that every node can fetch it; else
    /// that of its container.
    pub image: String,
    /// The name of its service.
    pub service: Option<String>,
}

/// What this process runs as; nothing when it runs in no container of this engine.
///
/// # Errors
/// As all calls.
pub async fn own(engine: &Engine) -> Result<Option<Own>, Refusal> {
    let mountinfo = tokio::fs::read_to_string("/proc/self/mountinfo").await.unwrap_or_default();
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let candidates = container_in(&mountinfo).map(str::to_owned).into_iter().chain([hostname]);
    for id in candidates {
        let container = match engine.container(&id).await {
            Err(refusal) if refusal.is_absent() => continue,
            container => container?,
        };
        if let Some(service) = container.config.labels.get("com.docker.swarm.service.id") {
            let spec = engine.service(service).await?.spec;
            return Ok(Some(Own { image: spec.task.container.image, service: Some(spec.name) }));
        }
        return Ok(Some(Own { image: container.config.image, service: None }));
    }
    Ok(None)
}

/// The container whose files an engine has mounted for this process: `…/containers/<64 digits>/hostname`.
fn container_in(mountinfo: &str) -> Option<&str> {
    let after = mountinfo.split("/containers/").skip(1);
    let ids = after.filter_map(|text| text.split('/').next());
    ids.into_iter().find(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_found_by_what_is_mounted_for_it() {
        let id = "ab".repeat(32);
        let line = format!(
            "620 600 254:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/a rw\n"
        );
        assert_eq!(container_in(&line), Some(id.as_str()));
        assert_eq!(container_in("1 1 0:1 / / rw - overlay overlay rw,lowerdir=/x/containers/y\n"), None);
    }
}
