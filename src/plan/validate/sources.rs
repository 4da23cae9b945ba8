//! What is read: the database and the volumes.

use super::{connection::Given, destination, errors::Errors, orchestrator::Orchestrator};
use crate::{
    api::policy::{MongodbSpec, VolumeSpec},
    domain::{
        error::Invalid,
        names::{MONGODB_SOURCE, SourceName},
        policy::{Mongodb, NamespacePattern, Volume, VolumePlace},
    },
};

/// Collections read at once where a policy does not say.
const PARALLEL_COLLECTIONS: u8 = 4;

/// The database.
pub(super) fn mongodb(
    spec: &MongodbSpec,
    orchestrator: Orchestrator,
    errors: &mut Errors,
) -> Option<Mongodb> {
    let MongodbSpec {
        uri,
        uri_from,
        username,
        password_from,
        tls,
        include,
        exclude,
        oplog,
        member,
        parallel_collections,
    } = spec;
    let given = Given {
        uri: uri.as_deref(),
        uri_from: uri_from.as_ref(),
        username: username.as_deref(),
        password_from: password_from.as_ref(),
        tls: tls.as_ref(),
    };
    let connection = given.connection(orchestrator, errors);
    let include = namespaces(include, "mongodb.include", errors);
    let exclude = namespaces(exclude, "mongodb.exclude", errors);
    Some(Mongodb {
        connection: connection?,
        include,
        exclude,
        oplog: oplog.unwrap_or_default(),
        member: member.unwrap_or_default(),
        parallel_collections: parallel_collections
            .and_then(|n| u8::try_from(n).ok())
            .unwrap_or(PARALLEL_COLLECTIONS),
    })
}

pub(super) fn namespaces(patterns: &[String], field: &str, errors: &mut Errors) -> Vec<NamespacePattern> {
    let parse = |(index, text): (usize, &String)| errors.keep(&format!("{field}[{index}]"), text.parse());
    patterns.iter().enumerate().filter_map(parse).collect()
}

/// The volumes, without those that are wrong.
pub(super) fn volumes(specs: &[VolumeSpec], orchestrator: Orchestrator, errors: &mut Errors) -> Vec<Volume> {
    specs.iter().filter_map(|spec| volume(spec, orchestrator, errors)).collect()
}

fn volume(spec: &VolumeSpec, orchestrator: Orchestrator, errors: &mut Errors) -> Option<Volume> {
    let VolumeSpec {
        name,
        claim_name,
        volume_name,
        host_path,
        include,
        exclude,
        optional,
        allow_empty,
        node_selector,
        one_file_system,
    } = spec;
    let field = format!("volumes[{name}]");
    let parsed = errors.keep(&format!("{field}.name"), source_name(name));
    let places = (claim_name.as_deref(), volume_name.as_deref(), host_path.as_deref());
    let place = errors.keep(&field, place(places, orchestrator));
    let no_selector = match orchestrator {
        Orchestrator::Local => Some("is for Swarm; a host alone has one node: leave it out"),
        Orchestrator::Kubernetes => {
            Some("is for Swarm; on Kubernetes a claim says where it is: leave it out")
        }
        Orchestrator::Swarm => None,
    };
    if let Some(message) = no_selector.filter(|_| !node_selector.is_empty()) {
        errors.add(&format!("{field}.nodeSelector"), message);
    }
    globs(include, &format!("{field}.include"), errors);
    globs(exclude, &format!("{field}.exclude"), errors);
    Some(Volume {
        name: parsed?,
        place: place?,
        include: include.clone(),
        exclude: exclude.clone(),
        optional: optional.unwrap_or(false),
        allow_empty: allow_empty.unwrap_or(false),
        node_selector: node_selector.clone(),
        one_file_system: one_file_system.unwrap_or(true),
    })
}

pub(super) fn source_name(name: &str) -> Result<SourceName, Invalid> {
    match name {
        MONGODB_SOURCE => {
            Err(Invalid::new(format!("{name:?} is the name of the database; call the volume otherwise")))
        }
        name => name.parse(),
    }
}

/// Where the volume is: one way to say it, and one that exists here.
pub(super) fn place(
    (claim_name, volume_name, host_path): (Option<&str>, Option<&str>, Option<&str>),
    orchestrator: Orchestrator,
) -> Result<VolumePlace, Invalid> {
    use Orchestrator::{Kubernetes, Local, Swarm};
    let elsewhere = |field: &str, owner: &str, advice: &str| {
        Err(Invalid::new(format!("is for {owner}; {advice}")).at(field))
    };
    let on_host = "on a host alone write hostPath";
    match (claim_name, volume_name, host_path, orchestrator) {
        (Some(claim), None, None, Kubernetes) => Ok(VolumePlace::Claim(claim.to_owned())),
        (Some(_), None, None, Local) => elsewhere("claimName", "Kubernetes", on_host),
        (Some(_), None, None, Swarm) => {
            elsewhere("claimName", "Kubernetes", "on Swarm write volumeName or hostPath")
        }
        (None, Some(name), None, Swarm) => Ok(VolumePlace::Named(name.to_owned())),
        (None, Some(name), None, Local) => elsewhere(
            "volumeName",
            "Swarm",
            &format!("{on_host}: what \"docker volume inspect {name}\" calls Mountpoint"),
        ),
        (None, Some(_), None, Kubernetes) => {
            elsewhere("volumeName", "Swarm", "on Kubernetes write claimName")
        }
        (None, None, Some(_), Kubernetes) => elsewhere(
            "hostPath",
            "Swarm and hosts alone",
            "on Kubernetes write claimName, with a PersistentVolumeClaim in the policy's namespace",
        ),
        (None, None, Some(path), _) => {
            destination::absolute(path).map_err(|error| error.at("hostPath")).map(VolumePlace::HostPath)
        }
        (None, None, None, Local) => {
            Err(Invalid::new("needs a place: write hostPath: with an absolute path"))
        }
        _ => Err(Invalid::new(match orchestrator {
            Local => "has more than one place; leave only hostPath",
            Kubernetes => "needs a place: write claimName, and no other",
            _ => "needs exactly one of claimName, volumeName and hostPath",
        })),
    }
}

/// Globs that can be read. The task gives them their meaning.
pub(super) fn globs(patterns: &[String], field: &str, errors: &mut Errors) {
    for (index, pattern) in patterns.iter().enumerate() {
        if let Err(message) = glob(pattern) {
            errors.add(&format!("{field}[{index}]"), message);
        }
    }
}

fn glob(pattern: &str) -> Result<(), String> {
    if pattern.starts_with('!') {
        return Err(format!(
            "{pattern:?} negates; write what to take in include and what to leave out in exclude"
        ));
    }
    match globset::GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{pattern:?} is not a glob: {}", error.kind())),
    }
}
