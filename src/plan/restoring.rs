//! From a restore as a document asks for it to one whose targets are all named.

use crate::domain::{
    error::Invalid,
    names::SourceName,
    policy::{Policy, VolumePlace},
    restore::{MetadataOptions, MongodbTarget, Restore, RestoreRequest, RestoreVolume, VolumeTarget},
};

/// What is asked for. A target that is not named is where `own` reads from; no target at all: everything.
///
/// # Errors
/// A volume that `own` does not have.
pub fn request(
    restore: &Restore,
    own: Option<&Policy>,
    metadata: &MetadataOptions,
) -> Result<RestoreRequest, Invalid> {
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
) -> Result<VolumeTarget, Invalid> {
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

fn absent(what: &str) -> Invalid {
    Invalid::new(format!("the policy has no {what}, so the document must say where it goes"))
}
