//! What is read: the database and the volumes.

use super::{destination, errors::Errors, mongo_uri, orchestrator::Orchestrator};
use crate::{
    api::{
        location::SecretSourceSpec,
        policy::{MongodbSpec, TlsSpec, VolumeSpec},
    },
    domain::{
        error::Invalid,
        location::SecretSource,
        names::{MONGODB_SOURCE, SourceName},
        policy::{MongoConnection, MongoUri, Mongodb, NamespacePattern, Volume, VolumePlace},
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
    let uri = connection_uri(uri.as_deref(), uri_from.as_ref(), orchestrator, errors);
    credentials(spec, errors);
    let mut secret = |field: &str, spec: Option<&SecretSourceSpec>, key: &str| -> Option<SecretSource> {
        errors.keep(&format!("mongodb.{field}"), destination::secret(spec?, key, orchestrator))
    };
    let TlsSpec { ca_from, certificate_from } = tls.clone().unwrap_or_default();
    let password = secret("passwordFrom", password_from.as_ref(), "password");
    let tls_ca = secret("tls.caFrom", ca_from.as_ref(), "ca.crt");
    let tls_certificate = secret("tls.certificateFrom", certificate_from.as_ref(), "tls.pem");
    let include = namespaces(include, "mongodb.include", errors);
    let exclude = namespaces(exclude, "mongodb.exclude", errors);
    let connection =
        MongoConnection { uri: uri?, username: username.clone(), password, tls_ca, tls_certificate };
    Some(Mongodb {
        connection,
        include,
        exclude,
        oplog: oplog.unwrap_or_default(),
        member: member.unwrap_or_default(),
        parallel_collections: parallel_collections
            .and_then(|n| u8::try_from(n).ok())
            .unwrap_or(PARALLEL_COLLECTIONS),
    })
}

fn connection_uri(
    uri: Option<&str>,
    from: Option<&SecretSourceSpec>,
    orchestrator: Orchestrator,
    errors: &mut Errors,
) -> Option<MongoUri> {
    match (uri, from) {
        (Some(uri), None) => {
            errors.keep("mongodb.uri", mongo_uri::check(uri))?;
            Some(MongoUri::Plain(uri.to_owned()))
        }
        (None, Some(from)) => {
            errors.keep("mongodb.uriFrom", destination::secret(from, "uri", orchestrator)).map(MongoUri::From)
        }
        (Some(_), Some(_)) => {
            errors.add("mongodb", "has both uri and uriFrom; leave one of them out");
            None
        }
        (None, None) => {
            errors.add("mongodb", "needs uri (without a password) or uriFrom (a secret)");
            None
        }
    }
}

/// A user without a password, or the reverse, is a slip wherever the URI can be seen.
fn credentials(spec: &MongodbSpec, errors: &mut Errors) {
    let uri = spec.uri.as_deref().unwrap_or_default();
    let user_in_uri = uri.contains('@');
    let password_in_uri = uri.rsplit_once('@').is_some_and(|(user, _)| user.matches(':').count() > 1);
    if password_in_uri {
        // That is told already, and the advice covers the rest.
        return;
    }
    if user_in_uri && spec.username.is_some() {
        errors.add("mongodb.username", "is given, and the URI names a user too; leave one of them out");
    }
    let user = user_in_uri || spec.username.is_some();
    let visible = spec.uri_from.is_none();
    if visible && !user && spec.password_from.is_some() {
        errors.add("mongodb.passwordFrom", "needs a user; write username");
    }
    // X.509 and Kerberos need no password.
    let other_mechanism = uri.to_ascii_lowercase().contains("authmechanism=");
    if user && spec.password_from.is_none() && !other_mechanism && visible {
        errors.add(
            "mongodb",
            "names a user without a password; write passwordFrom, or uriFrom for the whole URI",
        );
    }
}

fn namespaces(patterns: &[String], field: &str, errors: &mut Errors) -> Vec<NamespacePattern> {
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
        claim_name: _,
        volume_name: _,
        host_path: _,
        include,
        exclude,
        optional,
        allow_empty,
        node_selector,
        one_file_system,
    } = spec;
    let field = format!("volumes[{name}]");
    let parsed = errors.keep(&format!("{field}.name"), source_name(name));
    let place = errors.keep(&field, place(spec, orchestrator));
    if orchestrator == Orchestrator::Local && !node_selector.is_empty() {
        errors.add(&format!("{field}.nodeSelector"), "is for Swarm; a host alone has one node: leave it out");
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

fn source_name(name: &str) -> Result<SourceName, Invalid> {
    match name {
        MONGODB_SOURCE => {
            Err(Invalid::new(format!("{name:?} is the name of the database; call the volume otherwise")))
        }
        name => name.parse(),
    }
}

/// Where the volume is: one way to say it, and one that exists here.
fn place(spec: &VolumeSpec, orchestrator: Orchestrator) -> Result<VolumePlace, Invalid> {
    use Orchestrator::{Kubernetes, Local, Swarm};
    let elsewhere = |field: &str, owner: &str, advice: &str| {
        Err(Invalid::new(format!("is for {owner}; {advice}")).at(field))
    };
    let on_host = "on a host alone write hostPath";
    match (&spec.claim_name, &spec.volume_name, &spec.host_path, orchestrator) {
        (Some(claim), None, None, Kubernetes) => Ok(VolumePlace::Claim(claim.clone())),
        (Some(_), None, None, Local) => elsewhere("claimName", "Kubernetes", on_host),
        (Some(_), None, None, Swarm) => {
            elsewhere("claimName", "Kubernetes", "on Swarm write volumeName or hostPath")
        }
        (None, Some(name), None, Swarm) => Ok(VolumePlace::Named(name.clone())),
        (None, Some(name), None, Local) => elsewhere(
            "volumeName",
            "Swarm",
            &format!("{on_host}: what \"docker volume inspect {name}\" calls Mountpoint"),
        ),
        (None, Some(_), None, Kubernetes) => {
            elsewhere("volumeName", "Swarm", "on Kubernetes write claimName")
        }
        (None, None, Some(path), _) => {
            destination::absolute(path).map_err(|error| error.at("hostPath")).map(VolumePlace::HostPath)
        }
        (None, None, None, Local) => {
            Err(Invalid::new("needs a place: write hostPath: with an absolute path"))
        }
        _ => Err(Invalid::new(match orchestrator {
            Local => "has more than one place; leave only hostPath",
            _ => "needs exactly one of claimName, volumeName and hostPath",
        })),
    }
}

/// Globs that can be read. The task gives them their meaning.
fn globs(patterns: &[String], field: &str, errors: &mut Errors) {
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
