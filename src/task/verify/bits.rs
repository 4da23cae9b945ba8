//! The bits at rest: whole objects, compared with the BLAKE3 of what was sent. Needs no key.

use super::{
    report::{Findings, VerifyReport},
    stored::Opened,
};
use crate::{
    domain::verdict::{Failure, Verdict},
    storage::{
        index::objects,
        layout,
        manifest::{Manifest, SourceRecord},
        pack::reader::PackReader,
        store::ObjectStore,
    },
    task::context::Meter,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::sync::Arc;

/// Objects that are read at once: each is in memory as a whole.
const AT_ONCE: usize = 2;

/// Reads the index of a source. True when all of it is what was stored.
///
/// # Errors
/// The store does not answer.
pub async fn index(
    store: &Arc<dyn ObjectStore>,
    manifest: &Manifest,
    record: &SourceRecord,
    report: &mut VerifyReport,
) -> Result<bool, Failure> {
    let directory = layout::directory(&manifest.snapshot);
    let mut good = true;
    for object in &record.index.objects {
        match objects::fetch(&**store, &directory, object).await {
            Ok(_) => {}
            Err(failure) if is_damage(&failure) => {
                good = false;
                note(report, &format!("{directory}/{}", object.name), &failure.message);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(good)
}

/// Reads the parts of a pack that `wanted` accepts; gives the damaged ones.
///
/// # Errors
/// The store does not answer.
pub async fn parts(
    pack: &Arc<PackReader>,
    directory: &str,
    wanted: impl Fn(usize) -> bool,
    meter: &Meter,
    findings: &mut Findings,
) -> Result<u64, Failure> {
    let wanted: Vec<usize> = (0..pack.parts().len()).filter(|&part| wanted(part)).collect();
    let read = |part: usize| async move {
        let n = u32::try_from(part).unwrap_or(u32::MAX);
        match pack.part(n).await {
            Ok(bytes) => {
                meter.add(bytes.len() as u64, 1);
                Ok(None)
            }
            Err(failure) if is_damage(&failure) => Ok(Some((part, failure.message))),
            Err(failure) => Err(failure),
        }
    };
    let count = wanted.len() as u64;
    let mut results = stream::iter(wanted.into_iter().map(read)).buffered(AT_ONCE);
    while let Some(result) = results.try_next().await? {
        if let Some((part, what)) = result {
            findings.object(&format!("{directory}/{}", pack.parts()[part].object), &what);
        }
    }
    Ok(count)
}

/// Share `n` of `of` of all parts of a source: over `of` nights every part is read once.
///
/// # Errors
/// The store does not answer.
pub async fn share(
    opened: &Opened<'_>,
    n: u64,
    of: u64,
    meter: &Meter,
    findings: &mut Findings,
) -> Result<u64, Failure> {
    let mut count = 0;
    for pack in &opened.record.packs {
        if let Some(reader) = opened.packs.get(&pack.n) {
            let wanted = |part: usize| part as u64 % of == n % of;
            count += parts(reader, pack.directory(), wanted, meter, findings).await?;
        }
    }
    Ok(count)
}

/// What another try cannot mend.
pub fn is_damage(failure: &Failure) -> bool {
    failure.verdict == Verdict::Permanent
}

/// Notes damage, unless something else was found in that object before.
fn note(report: &mut VerifyReport, object: &str, what: &str) {
    if !report.damage.iter().any(|damage| damage.object == object) {
        report.damaged(object, what);
    }
}
