//! `backstay restore -f`: the same request, from a `Restore` document.

use crate::{
    api::document,
    cli::{documents, facts, problem::Problem, restore::screen, time},
    domain::{
        names::{PolicyName, SourceName},
        policy::{Policy, VolumePlace},
        restore::{
            MetadataOptions, MongodbTarget, Restore, RestoreRequest, RestoreSource, RestoreVolume,
            VolumeTarget,
        },
    },
    orchestrators::local::lookup::Host,
    plan::validate::{self, Orchestrator},
};
use jiff::{SignedDuration, Timestamp};
use std::{path::Path, sync::Arc};

/// The one restore in a file, as of now.
///
/// # Errors
/// The file cannot be read, holds something else, or what it says is wrong.
pub fn read(path: &Path, orchestrator: Orchestrator) -> Result<Restore, Problem> {
    let wrong = |file: &str, lines: &[String]| {
        Problem::Other(anyhow::anyhow!("{file} cannot be carried out\n{}", lines.join("\n")))
    };
    let sources = documents::read(&[path.to_owned()])?;
    let [source] = &sources[..] else {
        return Err(Problem::Usage(format!("{} is no single file", path.display())));
    };
    let located = |errors: Vec<_>| {
        let lines: Vec<_> = errors.iter().map(|error| facts::place(&source.name, error)).collect();
        wrong(&source.name, &lines)
    };
    let mut documents = document::read(&source.text).map_err(|error| located(vec![error]))?;
    match (documents.pop(), documents.len()) {
        (Some(Ok(document)), 0) => validate::restore(&document, orchestrator, time::now()).map_err(located),
        (Some(Err(rejected)), 0) => Err(located(rejected.errors)),
        (_, others) => {
            let count = format!("  it holds {others} documents; one Restore is carried out at a time");
            Err(wrong(&source.name, &[count]))
        }
    }
}

/// The policy of this host whose backups are meant, if one is.
///
/// # Errors
/// It is not declared here, or is wrong.
pub fn own_policy(restore: &Restore, host: Option<&Host>) -> Result<Option<Arc<Policy>>, Problem> {
    let RestoreSource::Policy(name) = &restore.from else { return Ok(None) };
    let host = host.ok_or_else(|| {
        Problem::Usage(format!(
            "policy {name} is one of this host's: say where they are with --policies or --state, or write from.location"
        ))
    })?;
    Ok(Some(Arc::clone(host.find(name.as_str())?.valid()?)))
}

/// What is asked for. A target that is not named is where `own` reads from; no target at all: everything.
///
/// # Errors
/// A volume that `own` does not have.
pub fn request(
    restore: &Restore,
    own: Option<&Policy>,
    metadata: &MetadataOptions,
) -> Result<RestoreRequest, Problem> {
    let everything = restore.mongodb.is_none() && restore.volumes.is_empty();
    let own_database = own.and_then(|own| own.mongodb.as_ref()).map(|source| &source.connection);
    let mongodb = match &restore.mongodb {
        Some(target) => Some(MongodbTarget {
            connection: target
                .connection
                .as_ref()
                .or(own_database)
                .ok_or_else(|| absent("database"))?
                .clone(),
            include: target.include.clone(),
            rename: target.rename.clone(),
            users: target.users,
            replace: target.replace,
        }),
        None => own_database.filter(|_| everything).map(|connection| MongodbTarget {
            connection: connection.clone(),
            include: vec![],
            rename: vec![],
            users: false,
            replace: true,
        }),
    };
    let own_volumes = own.into_iter().flat_map(|own| &own.volumes).filter(|_| everything);
    let all = own_volumes.map(|volume| RestoreVolume {
        name: volume.name.clone(),
        place: None,
        include: vec![],
        delete_extra: false,
    });
    let volumes = restore.volumes.iter().cloned().chain(all);
    Ok(RestoreRequest {
        policy: restore.from.policy().cloned(),
        as_of: restore.as_of.clone(),
        allow_partial: restore.allow_partial,
        mongodb,
        volumes: volumes.map(|target| volume(target, own, metadata)).collect::<Result<_, _>>()?,
        confirmed: restore.confirmed,
    })
}

fn volume(
    target: RestoreVolume,
    own: Option<&Policy>,
    metadata: &MetadataOptions,
) -> Result<VolumeTarget, Problem> {
    let Some(place) = target.place.as_ref().or_else(|| source(own, &target.name)) else {
        return Err(absent(&format!("volume {}", target.name)));
    };
    Ok(VolumeTarget {
        place: place.clone(),
        name: target.name,
        include: target.include,
        delete_extra: target.delete_extra,
        metadata: metadata.clone(),
    })
}

fn source<'a>(own: Option<&'a Policy>, name: &SourceName) -> Option<&'a VolumePlace> {
    own?.volumes.iter().find(|volume| volume.name == *name).map(|volume| &volume.place)
}

fn absent(what: &str) -> Problem {
    Problem::Usage(format!("the policy has no {what}, so the document must say where it goes"))
}

/// How to carry the restore out after a dry run: as the document is, and where something that exists is replaced.
pub fn next_step(restore: &Restore, now: Timestamp) -> (String, String) {
    let command = screen::command(None);
    let command = match restore.dry_run {
        true => format!("{command}  # without dryRun in the document"),
        false => command,
    };
    let policy = restore.from.policy().map_or("POLICY", PolicyName::as_str);
    let end = now.saturating_add(SignedDuration::from_hours(1)).unwrap_or(now);
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ");
    let replace = match &restore.mongodb {
        Some(target) if !target.replace => ", and mongodb.replace: true",
        _ => "",
    };
    let confirmation =
        format!("{command}  # with confirm: {{policy: {policy}, notAfter: {end}}}{replace} in the document");
    (command, confirmation)
}
