//! A `Restore` document to a restore that can be carried out.

use super::{
    connection::Given,
    destination,
    errors::Errors,
    orchestrator::Orchestrator,
    sources::{globs, namespaces, place, source_name},
};
use crate::{
    api::{
        document::{Defaults, Document},
        restore::{
            ConfirmSpec, RenameSpec, RestoreMongodbSpec, RestoreSourceSpec, RestoreSpec, RestoreVolumeSpec,
        },
        schema::Kind,
        yaml::Located,
    },
    domain::{
        error::Invalid,
        restore::{Restore, RestoreMongodb, RestoreSource, RestoreVolume},
        snapshot::AsOf,
    },
};
use jiff::{SignedDuration, Timestamp};

/// A confirmation is good for no longer than this.
const LONGEST_CONFIRMATION: SignedDuration = SignedDuration::from_hours(24);

/// The restore that a document asks for at `now`.
///
/// # Errors
/// Everything that is wrong with it, each with its line; a confirmation that has expired among them.
pub fn restore(
    document: &Document,
    orchestrator: Orchestrator,
    now: Timestamp,
) -> Result<Restore, Vec<Located>> {
    if document.kind != Kind::Restore {
        let message = format!("{} is no Restore", document.kind.as_str());
        let error = Invalid { field: "kind".to_owned(), message };
        return Err(vec![Located { line: document.line, error }]);
    }
    let spec: RestoreSpec = document.spec(&Defaults::default())?;
    let mut errors = Errors::default();
    match validate(&document.name, &spec, orchestrator, now, &mut errors) {
        Some(restore) if errors.0.is_empty() => Ok(restore),
        _ => Err(document.locate(errors.0)),
    }
}

fn validate(
    name: &str,
    spec: &RestoreSpec,
    orchestrator: Orchestrator,
    now: Timestamp,
    errors: &mut Errors,
) -> Option<Restore> {
    let RestoreSpec { from, as_of, allow_partial, identity_from, mongodb, volumes, dry_run, confirm } = spec;
    if identity_from.is_some() {
        errors.add("identityFrom", "is not carried out yet by this version; leave it out");
    }
    let from = source(from, orchestrator, errors);
    let as_of = errors.keep("asOf", AsOf::parse(as_of.as_deref().unwrap_or("latest"), now));
    let mongodb = mongodb.as_ref().map(|spec| database(spec, orchestrator, errors));
    let volumes = volumes.iter().filter_map(|spec| volume(spec, orchestrator, errors)).collect();
    if let (Some(confirm), Some(from)) = (confirm, &from) {
        check_confirmation(confirm, from, now, errors);
    }
    let (from, as_of) = (from?, as_of?);
    let in_full = matches!(from, RestoreSource::Place { .. });
    let restore = Restore {
        name: name.to_owned(),
        from,
        as_of,
        allow_partial: allow_partial.unwrap_or(false),
        mongodb,
        volumes,
        dry_run: dry_run.unwrap_or(false),
        confirmed: confirm.is_some(),
    };
    if in_full {
        check_targets(&restore, errors);
    }
    Some(restore)
}

fn source(
    spec: &RestoreSourceSpec,
    orchestrator: Orchestrator,
    errors: &mut Errors,
) -> Option<RestoreSource> {
    let RestoreSourceSpec { policy, location, instance } = spec;
    let policy = match policy {
        Some(name) => Some(errors.keep("from.policy", name.parse())?),
        None => None,
    };
    let Some(location) = location else {
        if instance.is_some() {
            errors.add("from.instance", "goes with location; a policy alone knows its own instance");
        }
        if policy.is_none() {
            errors.add("from", "needs policy (one of this site), or location and instance");
        }
        return policy.map(RestoreSource::Policy);
    };
    if location.take_over.is_some() {
        errors.add("from.location.takeOver", "has no meaning for a restore; leave it out");
    }
    let location = destination::location(location, orchestrator, "from.location", errors);
    let Some(instance) = instance else {
        errors.add("from.instance", "is missing: write whose data it is, such as production");
        return None;
    };
    let instance = errors.keep("from.instance", instance.parse());
    Some(RestoreSource::Place { location: Box::new(location?), instance: instance?, policy })
}

fn database(spec: &RestoreMongodbSpec, orchestrator: Orchestrator, errors: &mut Errors) -> RestoreMongodb {
    let RestoreMongodbSpec { uri, uri_from, username, password_from, tls, include, rename, users, replace } =
        spec;
    let given = Given {
        uri: uri.as_deref(),
        uri_from: uri_from.as_ref(),
        username: username.as_deref(),
        password_from: password_from.as_ref(),
        tls: tls.as_ref(),
    };
    let connection = if given.is_nothing() { None } else { given.connection(orchestrator, errors) };
    RestoreMongodb {
        connection,
        include: namespaces(include, "mongodb.include", errors),
        rename: rename.iter().map(|RenameSpec { from, to }| (from.clone(), to.clone())).collect(),
        users: users.unwrap_or(false),
        replace: replace.unwrap_or(false),
    }
}

fn volume(
    spec: &RestoreVolumeSpec,
    orchestrator: Orchestrator,
    errors: &mut Errors,
) -> Option<RestoreVolume> {
    let RestoreVolumeSpec { name, claim_name, volume_name, host_path, include, delete_extra } = spec;
    let field = format!("volumes[{name}]");
    let parsed = errors.keep(&format!("{field}.name"), source_name(name));
    let places = (claim_name.as_deref(), volume_name.as_deref(), host_path.as_deref());
    let place = match places {
        (None, None, None) => None,
        places => Some(errors.keep(&field, place(places, orchestrator))?),
    };
    globs(include, &format!("{field}.include"), errors);
    Some(RestoreVolume {
        name: parsed?,
        place,
        include: include.clone(),
        delete_extra: delete_extra.unwrap_or(false),
    })
}

/// The permission names what it is for, and ends soon: no replay of a document destroys a site.
fn check_confirmation(confirm: &ConfirmSpec, from: &RestoreSource, now: Timestamp, errors: &mut Errors) {
    let ConfirmSpec { policy, not_after } = confirm;
    match from.policy() {
        Some(name) if name.as_str() == policy => {}
        Some(name) => errors.add(
            "confirm.policy",
            format!("{policy:?} is not the policy that is restored: from.policy is {name}"),
        ),
        None => errors.add("confirm.policy", "needs from.policy, which it repeats"),
    }
    match not_after.parse::<Timestamp>() {
        Err(_) => errors.add(
            "confirm.notAfter",
            format!("{not_after:?} is not a time; write one such as 2026-11-25T20:00:00Z"),
        ),
        Ok(end) if end < now => errors.add(
            "confirm.notAfter",
            format!("{not_after} is over: if the restore is still meant, confirm it with a time ahead"),
        ),
        Ok(end) if end.duration_since(now) > LONGEST_CONFIRMATION => {
            errors.add("confirm.notAfter", format!("{not_after} is more than 24 hours ahead"));
        }
        Ok(_) => {}
    }
}

/// Without a policy of this site nothing says where things came from: each target is named.
fn check_targets(restore: &Restore, errors: &mut Errors) {
    let message = "is missing: no policy of this site says where it came from";
    if restore.mongodb.is_none() && restore.volumes.is_empty() {
        errors.add("", "names no target: write mongodb, volumes or both");
    }
    if restore.mongodb.as_ref().is_some_and(|target| target.connection.is_none()) {
        errors.add("mongodb.uri", message);
    }
    for volume in restore.volumes.iter().filter(|volume| volume.place.is_none()) {
        errors.add(&format!("volumes[{}].hostPath", volume.name), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::document;

    const PLACE: &str = "from: {policy: nightly, instance: prod, location: {remote: box, path: WT, configFrom: {file: /r.conf}}}";

    fn read(spec: &str) -> Result<Restore, Vec<Located>> {
        let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!(
            "apiVersion: backstay.dev/v1alpha1\nkind: Restore\nmetadata: {{name: r}}\nspec:\n{indented}"
        );
        let document = document::read(&text).unwrap().remove(0).unwrap();
        restore(&document, Orchestrator::Local, "2026-11-25T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_policy_alone_is_enough() {
        let restore = read("from: {policy: nightly}").unwrap();
        assert_eq!(restore.from.to_string(), "policy nightly");
        assert_eq!((restore.as_of, restore.confirmed, restore.dry_run), (AsOf::Latest, false, false));
        assert!(restore.mongodb.is_none() && restore.volumes.is_empty());
    }

    #[test]
    fn everything_can_be_said() {
        let restore = read(&format!(
            "{PLACE}\nasOf: '2026-11-20'\nallowPartial: true\ndryRun: true\n\
             mongodb: {{uri: 'mongodb://h/', include: [girder], rename: [{{from: girder, to: old}}], replace: true, users: true}}\n\
             volumes: [{{name: homes, hostPath: /back, include: [ada], deleteExtra: true}}]\n\
             confirm: {{policy: nightly, notAfter: '2026-11-25T20:00:00Z'}}"
        ))
        .unwrap();
        assert_eq!(restore.from.to_string(), "box:WT/prod");
        assert!(restore.confirmed && restore.dry_run && restore.allow_partial);
        let database = restore.mongodb.unwrap();
        assert_eq!(database.rename, [("girder".to_owned(), "old".to_owned())]);
        assert!(database.replace && database.users && database.connection.is_some());
        assert!(restore.volumes[0].delete_extra && restore.volumes[0].place.is_some());
    }

    #[test]
    fn what_is_wrong_is_told() {
        let table = [
            "from: {}",
            "from: {policy: nightly, instance: prod}",
            "from: {location: {remote: box, configFrom: {file: /r.conf}}}",
            &PLACE.replace("configFrom", "takeOver: true, configFrom"),
            &format!("{PLACE}\nmongodb: {{}}\nvolumes: [{{name: homes}}]"),
            "from: {policy: nightly}\nasOf: tomorrow\nidentityFrom: {file: /key}",
            "from: {policy: nightly}\nmongodb: {username: me}",
            "from: {policy: nightly}\nvolumes: [{name: homes, claimName: x}]",
            "from: {policy: nightly}\nconfirm: {policy: weekly, notAfter: '2026-11-25T09:59:59Z'}",
            "from: {policy: nightly}\nconfirm: {policy: nightly, notAfter: '2026-11-26T10:00:01Z'}",
            "from: {policy: nightly}\nconfirm: {policy: nightly, notAfter: 'in twenty-four hours'}",
        ];
        let told = table.map(|spec| {
            let errors = read(spec).unwrap_err();
            errors.iter().map(|error| format!("{}: {error}", error.line)).collect::<Vec<_>>().join("\n")
        });
        insta::assert_snapshot!(told.join("\n--\n"));
    }
}
