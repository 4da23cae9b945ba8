//! The restore itself, into something to throw away, and what came of it beside the backup.
//!
//! Owners and devices are left out: whoever drills need not be root. Modes, times, links, attributes and every byte are
//! restored as for real.

use super::{
    report::{Findings, Proof, VerifyReport},
    request::Verify,
};
use crate::{
    domain::{
        restore::{MetadataOptions, Ownership},
        verdict::Failure,
    },
    storage::{
        index::reader::IndexReader,
        layout,
        manifest::{SourceKind, SourceRecord},
    },
    task::{
        restore::{
            files::{
                compare::{Difference, difference},
                job::FilesOptions,
                root::Root,
                run::FilesRestore,
            },
            mongodb,
        },
        scratch::ScratchFolder,
    },
};
use std::sync::Arc;

/// Drills one source.
///
/// # Errors
/// The store does not answer, no scratch space, a scratch server that does not start.
pub async fn drill(
    verify: &Verify,
    record: &SourceRecord,
    report: &mut VerifyReport,
) -> Result<Proof, Failure> {
    let folder = ScratchFolder::make(&verify.scratch)?;
    match record.kind {
        SourceKind::Files => files(verify, record, &folder, report).await,
        SourceKind::Mongodb => database(verify, record, &folder, report).await,
    }
}

async fn files(
    verify: &Verify,
    record: &SourceRecord,
    folder: &ScratchFolder,
    report: &mut VerifyReport,
) -> Result<Proof, Failure> {
    let target = folder.path().join(record.source.as_str());
    let restore = FilesRestore {
        store: Arc::clone(&verify.store),
        snapshot: verify.manifest.snapshot.clone(),
        source: record.clone(),
        target: target.clone(),
        options: FilesOptions {
            metadata: MetadataOptions { ownership: Ownership::Me, ..MetadataOptions::default() },
            ..FilesOptions::default()
        },
        confirmed: false,
        memory_bytes: verify.memory_bytes,
        meter: Arc::clone(&verify.meter),
    };
    let restored = restore.run().await?;
    let mut findings = Findings::default();
    let pack = record.packs.first().map_or(record.source.as_str(), |pack| pack.id.as_str());
    for object in &restored.damaged_objects {
        findings.object(object, "is missing or damaged");
    }
    for problem in restored.problems.iter().take(usize::try_from(restored.failed).unwrap_or(usize::MAX)) {
        findings.hit(pack, "was not restored whole", format!("{}: {}", problem.path, problem.what));
    }
    verify.meter.begin(&format!("{}: comparing", record.source), None);
    let found = compare(verify, record, target).await?;
    // Devices are not made, and what could not be read is not in the backup.
    let missing = found.missing.saturating_sub(restored.skipped_devices + restored.unreadable);
    if (missing, found.differing, found.extra) != (0, 0, 0) && restored.failed == 0 {
        let what = format!(
            "restores differently: {missing} entries are missing, {} differ, {} are new",
            found.differing, found.extra
        );
        findings.object(pack, &what);
    }
    report.add(findings);
    let entries = found.same.saturating_sub(restored.files + restored.hard_links);
    let files = restored.files + restored.hard_links;
    Ok(Proof { files, entries, bytes: restored.bytes, ..Proof::new(record.source.clone()) })
}

async fn compare(
    verify: &Verify,
    record: &SourceRecord,
    target: std::path::PathBuf,
) -> Result<Difference, Failure> {
    let directory = layout::directory(&verify.manifest.snapshot);
    let mut index = IndexReader::open(Arc::clone(&verify.store), &directory, &record.index).await?;
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let root = Root::open(&target)
            .map_err(|e| Failure::temporary("ScratchFolder", format!("{}: {e}", target.display())))?;
        let next = || runtime.block_on(index.next_record()).transpose();
        difference(&root, std::iter::from_fn(next), &|_| true)
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Failure::temporary("Internal", "the comparison ended early")))
}

async fn database(
    verify: &Verify,
    record: &SourceRecord,
    folder: &ScratchFolder,
    report: &mut VerifyReport,
) -> Result<Proof, Failure> {
    let store = Arc::clone(&verify.store);
    let mut proof = Proof::new(record.source.clone());
    let pack = record.packs.first().map_or(record.source.as_str(), |pack| pack.id.as_str());
    match mongodb::drill(store, record, folder.path(), &verify.tools, &verify.meter).await {
        Ok(restored) => {
            let mut findings = Findings::default();
            for difference in &restored.differences {
                findings.hit(pack, "restores differently", difference.clone());
            }
            report.add(findings);
            report.remarks.push(format!(
                "{}: a drill does not compare users, roles and the database config, nor the documents of the {} collections that changed during the dump",
                record.source, restored.changed_by_oplog
            ));
            if restored.is_whole() {
                (proof.namespaces, proof.documents, proof.bytes) =
                    (restored.namespaces, restored.documents, restored.bytes);
            }
        }
        Err(failure) if failure.reason == "BackupDamaged" => report.damaged(pack, failure.message),
        Err(failure) => return Err(failure),
    }
    Ok(proof)
}
