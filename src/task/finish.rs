//! The finish step: what makes a backup exist.
//!
//! Records of all sources → everything that they name is stored → the place is still ours → `RESTORE.txt` → the
//! manifest, read back. A manifest that is there already is adopted. Pruning comes after, and its failures are remarks.

use crate::{
    domain::{
        names::{SnapshotName, SourceName},
        snapshot::SnapshotSummary,
        verdict::Failure,
    },
    plan::task_spec::{FinishWork, TaskSpec},
    storage::{
        catalog,
        document::{self, DocumentWriter, FORMAT},
        layout,
        manifest::{Manifest, SourceRecord},
        owner::Claimant,
        store::ObjectStore,
    },
    task::{
        by_hand,
        context::Meter,
        fragments::{self, Listing},
        kept, prune,
        world::{Access, World},
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// The program's name and version, as manifests carry it.
const TOOL: &str = concat!("backstay ", env!("CARGO_PKG_VERSION"));

/// Listings that are tried before something is taken for lost: some stores list a new object late.
const LISTINGS: u32 = 3;

/// What finishing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The snapshot.
    pub snapshot: SnapshotSummary,
    /// Remarks for a person.
    pub warnings: Vec<String>,
    /// Snapshots that pruning removed.
    pub pruned: Vec<SnapshotName>,
}

/// Who asks for the place that `spec` names.
pub fn claimant<'a>(spec: &'a TaskSpec, world: &dyn World) -> Claimant<'a> {
    Claimant {
        policy: &spec.policy,
        instance: &spec.instance,
        site: &spec.site,
        destination: &spec.destination,
        settle: world.settle(),
    }
}

/// Commits the snapshot of `work`, or adopts it, and prunes.
///
/// # Errors
/// Why there is no manifest.
pub async fn finish(
    spec: &TaskSpec,
    work: &FinishWork,
    store: &Arc<dyn ObjectStore>,
    world: &dyn World,
    meter: &Meter,
) -> Result<Finished, Failure> {
    let snapshot = SnapshotName::new(spec.policy.clone(), work.slot);
    meter.begin("checking what was stored", None);
    let (manifest, mut warnings) = match catalog::committed(&**store, &snapshot).await? {
        Some(manifest) => {
            claimant(spec, world).refuse_other(&**store).await?;
            (manifest, vec![])
        }
        None => commit(spec, work, &snapshot, store, world).await?,
    };
    meter.commit(manifest.summary(), warnings.clone());
    meter.begin("pruning", None);
    let pruned = match prune(spec, work, &snapshot, &**store, world).await {
        Ok(pruned) => pruned,
        Err(failure) => {
            let fix = failure.fix.map(|fix| format!(" ({fix})")).unwrap_or_default();
            warnings.push(format!("nothing was pruned: {}{fix}", failure.message));
            prune::Pruned::default()
        }
    };
    warnings.extend(pruned.warnings);
    Ok(Finished { snapshot: manifest.summary(), warnings, pruned: pruned.removed })
}

async fn prune(
    spec: &TaskSpec,
    work: &FinishWork,
    snapshot: &SnapshotName,
    store: &dyn ObjectStore,
    world: &dyn World,
) -> Result<prune::Pruned, Failure> {
    let claimant = claimant(spec, world);
    let request = prune::Request {
        claimant: &claimant,
        rules: &work.retention,
        held: kept::kept(work)?,
        known: BTreeSet::from([snapshot.clone()]),
        run_deadline_seconds: work.run_deadline_seconds,
        allow_many: false,
    };
    let pass = prune::plan(store, &request, world.now()).await?.without(&kept::kept(work)?);
    if pass.is_idle() {
        return Ok(prune::Pruned::default());
    }
    let store = world.open(Access::Prune).await?;
    prune::carry_out(&*store, &request, pass, world.now()).await
}

async fn commit(
    spec: &TaskSpec,
    work: &FinishWork,
    snapshot: &SnapshotName,
    store: &Arc<dyn ObjectStore>,
    world: &dyn World,
) -> Result<(Manifest, Vec<String>), Failure> {
    let Gathered { records, missing, mut warnings } = gather(work, snapshot, store, world).await?;
    if records.is_empty() {
        return Err(Failure::permanent(
            "NothingStored",
            format!("{snapshot}: no source was stored, so there is nothing to commit"),
        ));
    }
    claimant(spec, world).check(&**store).await?;
    warnings.extend(records.iter().flat_map(remarks));
    let directory = layout::directory(snapshot);
    // A timer alone does not tell: it stands still while the whole machine sleeps.
    let in_time = || world.now() < spec.not_after;
    let writer =
        DocumentWriter { store: &**store, directory: &directory, pause: world.pause(), in_time: &in_time };
    let text = by_hand::restore_text(&spec.destination, &spec.instance, snapshot, &records).into();
    writer.put(layout::restore_text, &text, |_| false).await?;
    let (_, text) = document::seal(Manifest {
        format: FORMAT.to_owned(),
        snapshot: snapshot.clone(),
        policy: spec.policy.clone(),
        instance: spec.instance.clone(),
        slot: work.slot,
        committed_at: world.now(),
        complete: missing.is_empty() && records.iter().all(SourceRecord::is_complete),
        missing,
        tool: TOOL.to_owned(),
        sources: records,
        self_hash: String::new(),
    });
    let valid = |text: &[u8]| document::open::<Manifest>(text).is_ok_and(|other| other.snapshot == *snapshot);
    let stored = writer.put(layout::manifest, &text, valid).await?;
    let manifest = document::open(&stored.text).map_err(|error| {
        Failure::temporary("ManifestDamaged", format!("{directory}/{}: {error}", stored.name))
    })?;
    Ok((manifest, warnings))
}

struct Gathered {
    /// The chosen attempt of each source, the database first.
    records: Vec<SourceRecord>,
    /// Required sources without one.
    missing: Vec<SourceName>,
    warnings: Vec<String>,
}

/// Chooses an attempt of each source and proves that it is stored whole.
async fn gather(
    work: &FinishWork,
    snapshot: &SnapshotName,
    store: &Arc<dyn ObjectStore>,
    world: &dyn World,
) -> Result<Gathered, Failure> {
    let mut gathered = Gathered { records: vec![], missing: vec![], warnings: vec![] };
    let mut sources: Vec<_> = work.required.iter().chain(&work.optional).collect();
    sources.sort_by_key(|source| !source.is_mongodb());
    for source in sources {
        let required = work.required.contains(source);
        match choose(source, snapshot, required, store, world).await {
            Ok(Some(record)) => gathered.records.push(record),
            Ok(None) if required => gathered.missing.push(source.clone()),
            Ok(None) => gathered.warnings.push(format!("{source}: optional, and not stored")),
            Err(failure) if required || failure.reason != "StoredBytesMissing" => return Err(failure),
            Err(failure) => gathered.warnings.push(format!("{source}: optional, left out: {failure}")),
        }
    }
    Ok(gathered)
}

/// The best attempt of `source` that is stored whole; `None` without any record. One that is `required` to be there is
/// looked for as often as what a record names: a listing may be late.
///
/// # Errors
/// Records are there, but what the last one names is not; or the store's failure.
pub async fn choose(
    source: &SourceName,
    snapshot: &SnapshotName,
    required: bool,
    store: &Arc<dyn ObjectStore>,
    world: &dyn World,
) -> Result<Option<SourceRecord>, Failure> {
    let mut last = None;
    for look in 1..=LISTINGS {
        let own = Listing::of(&**store, [layout::directory(snapshot).as_str()]).await?;
        let records = fragments::records(&**store, snapshot, source, &own).await?;
        if records.is_empty() && !required {
            return Ok(None);
        }
        let directories = fragments::directories(snapshot, &records);
        let listing = Listing::of(&**store, directories.iter().map(String::as_str)).await?;
        for record in records {
            match fragments::prove(store, snapshot, &record, &listing).await {
                Ok(()) => return Ok(Some(record)),
                Err(failure) => last = Some(failure),
            }
        }
        if look < LISTINGS {
            tokio::time::sleep(world.settle()).await;
        }
    }
    last.map_or(Ok(None), Err)
}

/// What a person should know about a source that was stored.
pub fn remarks(record: &SourceRecord) -> Vec<String> {
    let source = &record.source;
    let counted = [
        (record.counts.changed_while_read, "changed while they were read"),
        (record.counts.unreadable, "could not be read: the snapshot is incomplete"),
        (record.counts.stale, "could not be read and kept older content: the snapshot is incomplete"),
        (record.counts.sockets, "are sockets, which are left out"),
    ];
    let mut remarks: Vec<_> = counted
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{source}: {count} entries {what}"))
        .collect();
    if let Some(dump) = record.dump.as_ref().filter(|dump| !dump.class_reason.is_empty()) {
        remarks.push(format!("{source}: {:?}: {}", dump.class, dump.class_reason));
    }
    remarks
}
