//! Whether all parts are there and are what was stored, before the database is touched.

use crate::{
    domain::verdict::Failure,
    storage::{
        manifest::PackRef,
        pack::reader::{PackReader, PartRecord},
        store::{Listed, ObjectStore},
    },
    task::context::Meter,
};
use std::collections::HashMap;

/// Compares every part with one listing: size and the backend's own hash. Where the backend has none, the parts are
/// read once.
///
/// # Errors
/// A part that is missing or damaged, by name.
pub(super) async fn check(
    store: &dyn ObjectStore,
    reader: &PackReader,
    pack: &PackRef,
    meter: &Meter,
) -> Result<(), Failure> {
    meter.begin("mongodb: checking the backup", Some(pack.stored));
    let directory = pack.id.rsplit_once('/').map_or("", |(directory, _)| directory);
    let listed: HashMap<String, Listed> = store
        .list(directory, false, true)
        .await
        .map_err(|e| Failure::from(e).within("listing the backup"))?
        .into_iter()
        .map(|object| (object.path.clone(), object))
        .collect();
    let mut unproven = Vec::new();
    for (n, part) in (0u32..).zip(reader.parts()) {
        let path = format!("{directory}/{}", part.object);
        if compare(&path, part, listed.get(&path))? {
            meter.add(part.stored_bytes, 0);
        } else {
            unproven.push((n, part.stored_bytes));
        }
    }
    for (n, bytes) in unproven {
        reader.part(n).await?;
        meter.add(bytes, 0);
    }
    Ok(())
}

/// True when the listing proves the part.
fn compare(path: &str, part: &PartRecord, listed: Option<&Listed>) -> Result<bool, Failure> {
    let damaged = |what: String| Err(Failure::permanent("BackupDamaged", format!("{path} {what}")));
    let Some(listed) = listed else { return damaged("is missing on the remote".to_owned()) };
    if listed.size != part.stored_bytes {
        return damaged(format!("has {} bytes instead of {}", listed.size, part.stored_bytes));
    }
    let (Some(hash), Some((kind, hex))) = (&listed.hash, part.native.split_once(':')) else {
        return Ok(false);
    };
    if hash.kind.as_str() != kind {
        return Ok(false);
    }
    if hash.hex != hex {
        return damaged("has another hash than was stored".to_owned());
    }
    Ok(true)
}
