//! When a source is too small to be true: a volume that was not mounted, a database that was dropped.

use crate::{
    domain::{
        policy::{Guards, Source, Volume, VolumePlace},
        snapshot::SourceSummary,
        verdict::{Failure, Verdict},
    },
    storage::manifest::SourceRecord,
};

/// Compares what was stored with what is plausible. Gives what was let pass, as warnings.
///
/// # Errors
/// `SourceEmpty` or `SourceCollapsed`, unless a person said that it shrank on purpose.
pub fn check(
    source: &Source,
    record: &SourceRecord,
    last_good: Option<&SourceSummary>,
    guards: Guards,
    accept_shrink: bool,
) -> Result<Vec<String>, Failure> {
    let found = empty(source, record).or_else(|| {
        last_good.and_then(|last| collapsed(&record.summary(), last, guards.minimum_source_percent))
    });
    match found {
        Some(failure) if accept_shrink => Ok(vec![format!("{} (accepted)", failure.message)]),
        Some(failure) => Err(failure.fix(look_first(source))),
        None => Ok(vec![]),
    }
}

/// What is gone is mostly not mounted, or somewhere else; the flag would make that the newest snapshot.
fn look_first(source: &Source) -> String {
    let look = match source {
        Source::Volume(Volume { place: VolumePlace::HostPath(path), .. }) => {
            format!("look first whether {} is mounted and the right path", path.display())
        }
        Source::Volume(_) => "look first whether it is the right volume, and mounted".to_owned(),
        Source::Mongodb(_) => "look first whether it is the right deployment, and complete".to_owned(),
    };
    format!("{look}; only if it is meant to be so: backstay run POLICY --accept-shrink")
}

fn empty(source: &Source, record: &SourceRecord) -> Option<Failure> {
    let name = source.name();
    let message = match source {
        Source::Volume(volume) if volume.allow_empty => return None,
        // The root itself is a record; a lost mount leaves nothing but directories.
        Source::Volume(volume) if record.index.records <= record.counts.dirs => {
            format!("{name}: there is not one file in it{}", made_empty(&volume.place))
        }
        Source::Mongodb(_) if record.counts.files == 0 => format!("{name}: there is not one collection"),
        _ => return None,
    };
    Some(Failure::new(Verdict::Guard, "SourceEmpty", message))
}

/// What else an empty volume can mean, where its orchestrator makes one that is missing.
pub fn made_empty(place: &VolumePlace) -> String {
    match place {
        VolumePlace::Mounted { at: _, name } if !name.starts_with('/') => {
            format!(" (Docker makes a volume that is missing on a node, empty: is {name} on this one?)")
        }
        _ => String::new(),
    }
}

fn collapsed(now: &SourceSummary, last: &SourceSummary, percent: u8) -> Option<Failure> {
    let measures = [
        ("bytes", now.source_bytes, last.source_bytes),
        ("files", now.files, last.files),
        ("collections", now.collections, last.collections),
        ("documents", now.documents, last.documents),
    ];
    let (what, is, was) = measures
        .into_iter()
        .find(|(_, is, was)| u128::from(*is) * 100 < u128::from(*was) * u128::from(percent))?;
    Some(Failure::new(
        Verdict::Guard,
        "SourceCollapsed",
        format!("{}: {is} {what}, less than {percent} % of the last good backup's {was}", now.source),
    ))
}
