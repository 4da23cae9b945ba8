//! From documents to policies that can be carried out, or to everything that is wrong with them, at once.
//!
//! ```text
//! text → documents → typed specification (crate::api) → unsupported · destination · sources · settings → Policy
//! ```
//!
//! What this version cannot do is refused, never ignored.

mod connection;
mod destination;
mod errors;
mod mongo_uri;
mod orchestrator;
mod restore;
mod settings;
mod sources;
mod unsupported;

use crate::{
    api::{
        document::{self, Defaults, Document, Rejected},
        policy::{BackupPolicySpec, RestoreFromSpec},
        schema::Kind,
        yaml::Located,
    },
    domain::{
        error::Invalid,
        location::Location,
        names::{InstanceName, PolicyName},
        policy::{Policy, RestoreFrom},
        schedule::Schedule,
        snapshot::AsOf,
    },
};
use errors::Errors;
use jiff::Timestamp;
use settings::seconds;
use std::collections::BTreeMap;

pub use orchestrator::Orchestrator;
pub use restore::restore;
pub use settings::CHILDREN_MIB;

/// What is known before a policy is read.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What runs the tasks.
    pub orchestrator: Orchestrator,
    /// The controller's partial policy below every policy.
    pub defaults: Defaults,
}

/// One policy of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Its name as written, where it could be read.
    pub name: Option<String>,
    /// Line on which its name stands, or its document begins.
    pub line: u64,
    /// The policy, or everything that is wrong with it.
    pub policy: Result<Policy, Vec<Located>>,
}

/// The policies of a text, each by itself: one that is wrong spoils no other.
///
/// # Errors
/// A text that is no YAML at all.
pub fn load(text: &str, facts: &Facts) -> Result<Vec<Loaded>, Located> {
    Ok(document::read(text)?.into_iter().map(|document| loaded(document, facts)).collect())
}

/// The policy of a document that was read.
pub fn loaded(document: Result<Document, Rejected>, facts: &Facts) -> Loaded {
    match document {
        Ok(document) => {
            let policy = policy(&document, facts);
            Loaded { name: Some(document.name), line: document.name_line, policy }
        }
        Err(Rejected { name, errors }) => {
            Loaded { name, line: errors.first().map_or(0, |error| error.line), policy: Err(errors) }
        }
    }
}

/// The policy that a document declares.
///
/// # Errors
/// Everything that is wrong with it, each with its line.
pub fn policy(document: &Document, facts: &Facts) -> Result<Policy, Vec<Located>> {
    if document.kind != Kind::BackupPolicy {
        let kind = document.kind.as_str();
        let message =
            format!("{kind} is no policy; a {kind} is given to the command line, not declared here");
        let error = Invalid { field: "kind".to_owned(), message };
        return Err(vec![Located { line: document.line, error }]);
    }
    let (spec, mut errors) = document.readable_spec::<BackupPolicySpec>(&facts.defaults);
    let place = Place { orchestrator: facts.orchestrator, namespace: document.namespace.as_deref() };
    let more = match spec.map(|spec| validate(&document.name, &spec, place)) {
        Some(Ok(policy)) if errors.is_empty() => return Ok(policy),
        Some(Err(more)) => more,
        _ => Vec::new(),
    };
    // What follows from a field that could not be read is no error of its own.
    let told = errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>();
    let related = |error: &Invalid| {
        told.iter().any(|field| field.starts_with(&error.field) || error.field.starts_with(field.as_str()))
    };
    errors.extend(more.into_iter().filter(|error| !related(error)));
    Err(document.locate(errors))
}

/// Refuses every policy that has the same name, instance and destination as another: they would write into one place.
pub fn refuse_twins<'a>(policies: impl IntoIterator<Item = &'a mut Loaded>) {
    let mut by_place: BTreeMap<String, Vec<&mut Loaded>> = BTreeMap::new();
    for loaded in policies {
        if let Ok(policy) = &loaded.policy {
            let place = format!(
                "{}:{}",
                policy.destination.remote,
                policy.destination.instance_path(&policy.instance)
            );
            by_place.entry(format!("{}\0{place}", policy.name)).or_default().push(loaded);
        }
    }
    for (key, twins) in by_place.into_iter().filter(|(_, twins)| twins.len() > 1) {
        let place = key.split('\0').nth(1).unwrap_or_default();
        for twin in twins {
            let message = format!(
                "another policy has this name and keeps its backups in {place} too; rename one of them"
            );
            let error = Invalid { field: "metadata.name".to_owned(), message };
            twin.policy = Err(vec![Located { line: twin.line, error }]);
        }
    }
}

/// Refuses every policy that has the same name as another of the same host, each with the file that it stands in: all of
/// its records go by the name.
pub fn refuse_namesakes<'a>(policies: impl IntoIterator<Item = (String, &'a mut Loaded)>) {
    let mut by_name: BTreeMap<String, Vec<(String, &mut Loaded)>> = BTreeMap::new();
    for (file, loaded) in policies {
        if let Some(name) = loaded.name.clone() {
            by_name.entry(name).or_default().push((file, loaded));
        }
    }
    for (name, namesakes) in by_name.into_iter().filter(|(_, namesakes)| namesakes.len() > 1) {
        let places: Vec<_> =
            namesakes.iter().map(|(file, loaded)| format!("{file} (line {})", loaded.line)).collect();
        let message =
            format!("{name} is declared more than once, in {}; rename one", places.join(" and in "));
        for (_, Loaded { line, policy, .. }) in namesakes {
            let error = Invalid { field: "metadata.name".to_owned(), message: message.clone() };
            let mut errors = vec![Located { line: *line, error }];
            errors.extend(policy.as_mut().err().map(std::mem::take).unwrap_or_default());
            *policy = Err(errors);
        }
    }
}

/// Where a policy is declared.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    orchestrator: Orchestrator,
    namespace: Option<&'a str>,
}

/// A specification to a policy. Every part is looked at, whatever the others say.
fn validate(name: &str, spec: &BackupPolicySpec, place: Place<'_>) -> Result<Policy, Vec<Invalid>> {
    let mut errors = Errors::default();
    unsupported::refuse(spec, place.orchestrator, &mut errors);
    let name = errors.keep("metadata.name", name.parse::<PolicyName>());
    let instance = instance(spec, place, &mut errors);
    let schedule = schedule(spec, name.as_ref(), instance.as_ref(), &mut errors);
    let mongodb = spec.mongodb.as_ref().map(|spec| sources::mongodb(spec, place.orchestrator, &mut errors));
    let volumes = sources::volumes(&spec.volumes, place.orchestrator, &mut errors);
    if mongodb.is_none() && spec.volumes.is_empty() {
        errors.add("", "the policy backs up nothing; give mongodb, volumes or both");
    }
    let task = settings::task(spec.task.as_ref(), place.orchestrator, &mut errors);
    let destination =
        destination::location(&spec.destination, place.orchestrator, "destination", &mut errors);
    if let (Some(destination), Some(task)) = (&destination, &task) {
        settings::parts_fit(destination, task, &mut errors);
    }
    let from = restore_from(spec, name.as_ref(), instance.as_ref(), destination.as_ref(), place, &mut errors);
    let retention = settings::retention(spec.retention.as_ref(), &mut errors);
    let whole = (name, instance, schedule, mongodb.transpose_inner(), destination, task, retention);
    let (
        Some(name),
        Some(instance),
        Some(schedule),
        Some(mongodb),
        Some(destination),
        Some(task),
        Some(retention),
    ) = whole
    else {
        return Err(errors.0);
    };
    if !errors.0.is_empty() {
        return Err(errors.0);
    }
    Ok(Policy {
        name,
        instance,
        schedule,
        starting_deadline: spec.starting_deadline_seconds.and_then(seconds),
        suspend: spec.suspend.unwrap_or(false),
        mongodb,
        volumes,
        restore_from: from,
        destination,
        take_over: spec.destination.take_over.unwrap_or(false),
        retention,
        guards: settings::guards(spec.guards.as_ref()),
        fresh_within: spec.fresh_within_seconds.and_then(seconds),
        task,
    })
}

/// From where an empty site is filled; what is not said is as in the policy itself.
fn restore_from(
    spec: &BackupPolicySpec,
    name: Option<&PolicyName>,
    instance: Option<&InstanceName>,
    destination: Option<&Location>,
    place: Place<'_>,
    errors: &mut Errors,
) -> Option<RestoreFrom> {
    let RestoreFromSpec { location, instance: other, policy, as_of, mongodb, identity_from } =
        spec.restore_from.as_ref()?;
    if identity_from.is_some() {
        errors.add("restoreFrom.identityFrom", "is not carried out yet by this version; leave it out");
    }
    let location = match location {
        None => destination.cloned(),
        Some(location) => {
            if location.take_over.is_some() {
                errors.add("restoreFrom.location.takeOver", "has no meaning for a restore; leave it out");
            }
            destination::location(location, place.orchestrator, "restoreFrom.location", errors)
        }
    };
    let other = other.as_ref().map(|text| errors.keep("restoreFrom.instance", text.parse()));
    let policy = policy.as_ref().map(|text| errors.keep("restoreFrom.policy", text.parse()));
    // No time is relative here: what a policy says must mean the same tomorrow.
    let as_of = match as_of.as_deref().unwrap_or("latest") {
        "yesterday" => {
            Err(Invalid::new("is another day each day; write latest, a time or a snapshot's name"))
        }
        text => AsOf::parse(text, Timestamp::UNIX_EPOCH),
    };
    let as_of = errors.keep("restoreFrom.asOf", as_of);
    Some(RestoreFrom {
        location: location?,
        instance: other.unwrap_or_else(|| instance.cloned())?,
        policy: policy.unwrap_or_else(|| name.cloned())?,
        as_of: as_of?,
        users: mongodb.as_ref().and_then(|mongodb| mongodb.users).unwrap_or(false),
    })
}

/// An absent source is fine, one that is wrong is not.
trait TransposeInner<T> {
    fn transpose_inner(self) -> Option<Option<T>>;
}

impl<T> TransposeInner<T> for Option<Option<T>> {
    fn transpose_inner(self) -> Option<Option<T>> {
        match self {
            None => Some(None),
            Some(None) => None,
            Some(some) => Some(some),
        }
    }
}

fn instance(spec: &BackupPolicySpec, place: Place<'_>, errors: &mut Errors) -> Option<InstanceName> {
    match spec.instance.as_deref().or(place.namespace) {
        Some(text) => errors.keep("instance", text.parse()),
        None => {
            errors.add("instance", "is missing: write whose data this is, such as production");
            None
        }
    }
}

fn schedule(
    spec: &BackupPolicySpec,
    name: Option<&PolicyName>,
    instance: Option<&InstanceName>,
    errors: &mut Errors,
) -> Option<Schedule> {
    let expression = spec.schedule.as_deref().unwrap_or(Schedule::DEFAULT);
    let zone = spec.time_zone.as_deref().unwrap_or(Schedule::DEFAULT_ZONE);
    // With a wrong name the hash does not matter; the expression is looked at all the same.
    let (stand_in, nobody) = ("unknown".parse().ok()?, "unknown".parse().ok()?);
    let (instance, name) = (instance.unwrap_or(&stand_in), name.unwrap_or(&nobody));
    let parsed = Schedule::parse(expression, zone, instance, name);
    if parsed.is_err() {
        // The expression is looked at first; a zone that is wrong is told all the same.
        let zone = Schedule::parse(Schedule::DEFAULT, zone, instance, name);
        errors.0.extend(zone.err().filter(|error| parsed.as_ref().err() != Some(error)));
    }
    errors.keep("", parsed)
}

#[cfg(test)]
mod tests;
