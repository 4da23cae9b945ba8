//! A policy back in the words of its document, with every value that is in force.

use crate::{
    api::{
        location::{ConfigSourceSpec, LocationSpec, SecretKeyRef, SecretSourceSpec},
        policy::{
            BackupPolicySpec, GuardsSpec, MongodbSpec, RestoreFromMongodbSpec, RestoreFromSpec,
            RetentionSpec, TlsSpec, VolumeSpec,
        },
        task::{LocalReference, ResourcesSpec, TaskSettingsSpec},
    },
    domain::{
        location::{Location, RcloneConfig, SecretSource},
        policy::{MongoUri, Mongodb, Policy, RestoreFrom, TaskSettings, Volume, VolumePlace},
        retention::Retention,
    },
};
use std::time::Duration;

/// The specification that says explicitly what `policy` does. Validated again, it gives the same policy.
pub fn specification(policy: &Policy) -> BackupPolicySpec {
    let Policy {
        name: _,
        instance,
        schedule,
        starting_deadline,
        suspend,
        mongodb,
        volumes,
        restore_from,
        destination,
        take_over,
        retention,
        guards,
        fresh_within,
        task,
    } = policy;
    BackupPolicySpec {
        instance: Some(instance.to_string()),
        schedule: Some(schedule.expression().to_owned()),
        time_zone: Some(schedule.time_zone_name().to_owned()),
        starting_deadline_seconds: starting_deadline.map(seconds),
        suspend: Some(*suspend),
        mongodb: mongodb.as_ref().map(database),
        volumes: volumes.iter().map(volume).collect(),
        destination: LocationSpec { take_over: Some(*take_over), ..location(destination) },
        retention: Some(rules(retention)),
        guards: Some(GuardsSpec { minimum_source_percent: Some(guards.minimum_source_percent.into()) }),
        fresh_within_seconds: fresh_within.map(seconds),
        task: Some(settings(task)),
        encryption: None,
        verify: None,
        restore_from: restore_from.as_ref().map(site_from),
        notify: Vec::new(),
    }
}

fn site_from(from: &RestoreFrom) -> RestoreFromSpec {
    RestoreFromSpec {
        location: Some(location(&from.location)),
        instance: Some(from.instance.to_string()),
        policy: Some(from.policy.to_string()),
        as_of: Some(from.as_of.to_string()),
        mongodb: Some(RestoreFromMongodbSpec { users: Some(from.users) }),
        identity_from: None,
    }
}

fn database(mongodb: &Mongodb) -> MongodbSpec {
    let connection = &mongodb.connection;
    let (uri, uri_from) = match &connection.uri {
        MongoUri::Plain(uri) => (Some(uri.clone()), None),
        MongoUri::From(from) => (None, Some(secret(from))),
    };
    let tls = TlsSpec {
        ca_from: connection.tls_ca.as_ref().map(secret),
        certificate_from: connection.tls_certificate.as_ref().map(secret),
    };
    MongodbSpec {
        uri,
        uri_from,
        username: connection.username.clone(),
        password_from: connection.password.as_ref().map(secret),
        tls: Some(tls).filter(|tls| *tls != TlsSpec::default()),
        include: mongodb.include.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        exclude: mongodb.exclude.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        oplog: Some(mongodb.oplog),
        member: Some(mongodb.member),
        parallel_collections: Some(mongodb.parallel_collections.into()),
    }
}

fn volume(volume: &Volume) -> VolumeSpec {
    let mut spec = VolumeSpec {
        name: volume.name.to_string(),
        include: volume.include.clone(),
        exclude: volume.exclude.clone(),
        optional: Some(volume.optional),
        allow_empty: Some(volume.allow_empty),
        node_selector: volume.node_selector.clone(),
        one_file_system: Some(volume.one_file_system),
        ..VolumeSpec::default()
    };
    match &volume.place {
        VolumePlace::Claim(name) => spec.claim_name = Some(name.clone()),
        VolumePlace::Named(name) => spec.volume_name = Some(name.clone()),
        VolumePlace::HostPath(path) => spec.host_path = Some(path.display().to_string()),
        VolumePlace::Mounted { name, .. } => spec.host_path = Some(name.clone()),
    }
    spec
}

fn location(location: &Location) -> LocationSpec {
    LocationSpec {
        remote: location.remote.to_string(),
        path: Some(location.path.to_string()),
        config_from: match &location.config {
            RcloneConfig::Directory(path) => ConfigSourceSpec {
                directory: Some(path.display().to_string()),
                ..ConfigSourceSpec::default()
            },
            RcloneConfig::Secret(source) => {
                let SecretSourceSpec { secret_key_ref, file } = secret(source);
                ConfigSourceSpec { secret_key_ref, file, directory: None }
            }
        },
        bandwidth_limit: location.bandwidth_limit.clone(),
        transfers: Some(location.transfers.into()),
        part_size_mib: Some(location.part_size_mib.into()),
        take_over: None,
    }
}

fn secret(source: &SecretSource) -> SecretSourceSpec {
    match source {
        SecretSource::File(path) => {
            SecretSourceSpec { file: Some(path.display().to_string()), secret_key_ref: None }
        }
        SecretSource::Key { name, key } => SecretSourceSpec {
            file: None,
            secret_key_ref: Some(SecretKeyRef { name: name.clone(), key: Some(key.clone()) }),
        },
    }
}

fn rules(retention: &Retention) -> RetentionSpec {
    let Retention { keep_within_days, keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly } =
        *retention;
    RetentionSpec {
        keep_within_days: Some(keep_within_days.into()),
        keep_last: Some(keep_last.into()),
        keep_daily: Some(keep_daily.into()),
        keep_weekly: Some(keep_weekly.into()),
        keep_monthly: Some(keep_monthly.into()),
        keep_yearly: Some(keep_yearly.into()),
    }
}

fn settings(task: &TaskSettings) -> TaskSettingsSpec {
    let TaskSettings { timeout, pending, retries, memory_mib, placement } = task;
    let pod = placement.pod.clone();
    let mut limits = pod.limits;
    limits.entry("memory".to_owned()).or_insert_with(|| format!("{memory_mib}Mi"));
    let toleration = |value: &serde_json::Value| serde_json::from_value(value.clone()).unwrap_or_default();
    TaskSettingsSpec {
        resources: Some(ResourcesSpec { requests: pod.requests, limits }),
        timeout_seconds: Some(seconds(*timeout)),
        pending_seconds: Some(seconds(*pending)),
        retries: Some((*retries).into()),
        node_selector: placement.node_selector.clone(),
        networks: placement.networks.clone(),
        security_context: Some(pod.security_context).filter(|fields| !fields.is_empty()),
        priority_class_name: pod.priority_class_name,
        tolerations: pod.tolerations.iter().map(toleration).collect(),
        service_account_name: pod.service_account_name,
        image_pull_secrets: pod.image_pull_secrets.into_iter().map(|name| LocalReference { name }).collect(),
    }
}

/// Durations of policies come from seconds that the schema bounds.
fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
