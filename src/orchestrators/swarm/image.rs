//! The image of the controller itself, for its tasks.

use crate::{controller::port::PortError, orchestrators::swarm::engine::Engine};

/// The image that this process runs as: that of its service, with the digest where its deployment found one, so that every
/// node can fetch it; else that of its container.
///
/// # Errors
/// It runs in no container of this engine.
pub async fn own(engine: &Engine) -> Result<String, PortError> {
    let mountinfo = tokio::fs::read_to_string("/proc/self/mountinfo").await.unwrap_or_default();
    let outside = || {
        PortError::Rejected(
            "the controller runs in no container of this engine, so its image is not known; name one with --image"
                .to_owned(),
        )
    };
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let candidates = container_in(&mountinfo).map(str::to_owned).into_iter().chain([hostname]);
    for id in candidates {
        let container = match engine.container(&id).await {
            Err(refusal) if refusal.is_absent() => continue,
            container => container?,
        };
        if let Some(service) = container.config.labels.get("com.docker.swarm.service.id") {
            return Ok(engine.service(service).await?.spec.task.container.image);
        }
        return Ok(container.config.image);
    }
    Err(outside())
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
