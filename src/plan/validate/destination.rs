//! Where backups go, and where secrets are found.

use super::{errors::Errors, orchestrator::Orchestrator};
use crate::{
    api::location::{ConfigSourceSpec, LocationSpec, SecretKeyRef, SecretSourceSpec},
    domain::{
        error::Invalid,
        location::{Location, RcloneConfig, RemotePath, SecretSource},
        size,
    },
};
use std::path::PathBuf;

/// Parts sent at once where a policy does not say.
const TRANSFERS: u8 = 4;
/// MiB of one part where a policy does not say.
const PART_SIZE_MIB: u32 = 24;

/// A place for backups, below `field`.
pub(super) fn location(
    spec: &LocationSpec,
    orchestrator: Orchestrator,
    field: &str,
    errors: &mut Errors,
) -> Option<Location> {
    let LocationSpec { remote, path, config_from, bandwidth_limit, transfers, part_size_mib, take_over: _ } =
        spec;
    let remote = errors.keep(&format!("{field}.remote"), remote.parse());
    let path = match path {
        Some(path) => errors.keep(&format!("{field}.path"), path.parse()),
        None => Some(RemotePath::default()),
    };
    if let Some(limit) = bandwidth_limit {
        errors.keep(&format!("{field}.bandwidthLimit"), size::check_bandwidth(limit));
    }
    let config = errors.keep(&format!("{field}.configFrom"), rclone_config(config_from, orchestrator));
    Some(Location {
        remote: remote?,
        path: path?,
        config: config?,
        bandwidth_limit: bandwidth_limit.clone(),
        transfers: transfers.and_then(|n| u8::try_from(n).ok()).unwrap_or(TRANSFERS),
        part_size_mib: part_size_mib.and_then(|n| u32::try_from(n).ok()).unwrap_or(PART_SIZE_MIB),
    })
}

fn rclone_config(spec: &ConfigSourceSpec, orchestrator: Orchestrator) -> Result<RcloneConfig, Invalid> {
    let ConfigSourceSpec { secret_key_ref, file, directory } = spec;
    match (secret_key_ref, file, directory) {
        (None, None, Some(directory)) if orchestrator != Orchestrator::Kubernetes => {
            absolute(directory).map_err(|error| error.at("directory")).map(RcloneConfig::Directory)
        }
        (None, None, Some(_)) => {
            Err(Invalid::new("is for Swarm and hosts alone; on Kubernetes write secretKeyRef")
                .at("directory"))
        }
        (secret, file, None) => one_secret(secret.as_ref(), file.as_deref(), "rclone.conf", orchestrator)
            .map(RcloneConfig::Secret)
            .map_err(|error| match error.field.as_str() {
                "" => Invalid::new(choices("secretKeyRef, file and directory", orchestrator)),
                _ => error,
            }),
        _ => Err(Invalid::new(choices("secretKeyRef, file and directory", orchestrator))),
    }
}

/// Where a secret's text is found; `key` is the default key.
pub(super) fn secret(
    spec: &SecretSourceSpec,
    key: &str,
    orchestrator: Orchestrator,
) -> Result<SecretSource, Invalid> {
    let SecretSourceSpec { secret_key_ref, file } = spec;
    one_secret(secret_key_ref.as_ref(), file.as_deref(), key, orchestrator)
}

fn one_secret(
    secret: Option<&SecretKeyRef>,
    file: Option<&str>,
    key: &str,
    orchestrator: Orchestrator,
) -> Result<SecretSource, Invalid> {
    match (secret, file, orchestrator) {
        (Some(_), None, Orchestrator::Local) => Err(Invalid::new(
            "names a secret of Kubernetes or Swarm, and a host alone has none; write file: with an absolute path",
        )
        .at("secretKeyRef")),
        (None, Some(_), Orchestrator::Kubernetes) => {
            Err(Invalid::new("is for Swarm and hosts alone; on Kubernetes write secretKeyRef").at("file"))
        }
        (Some(SecretKeyRef { name, key: given }), None, _) => {
            Ok(SecretSource::Key { name: name.clone(), key: given.as_deref().unwrap_or(key).to_owned() })
        }
        (None, Some(file), _) => absolute(file).map_err(|error| error.at("file")).map(SecretSource::File),
        _ => Err(Invalid::new(choices("secretKeyRef and file", orchestrator))),
    }
}

fn choices(names: &str, orchestrator: Orchestrator) -> String {
    let advice = match orchestrator {
        Orchestrator::Local => "on a host alone write file: with an absolute path",
        Orchestrator::Swarm | Orchestrator::Kubernetes => "write secretKeyRef: {name: …}",
    };
    format!("needs exactly one of {names}; {advice}")
}

/// An absolute path that goes nowhere but down.
pub(super) fn absolute(text: &str) -> Result<PathBuf, Invalid> {
    if !text.starts_with('/') {
        return Err(Invalid::new(format!(
            "{text:?} is not an absolute path; write a path that starts with /"
        )));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(Invalid::new(format!("{text:?} contains \"..\"; write the path that is meant")));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Ok(PathBuf::from(format!("/{}", parts.join("/"))))
}
