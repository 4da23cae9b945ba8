//! The verbs over a store in memory: what a run leaves, whatever goes wrong, and whenever it dies.

mod prune;

use super::{
    fragments::{self, Listing},
    model::{DAY, Dying, Model, NIGHT, at, backup_work, finish_work, snapshot, totals, volume},
    run,
    world::World,
};
use crate::{
    domain::{
        snapshot::AsOf,
        verdict::{Failure, Verdict},
    },
    plan::task_spec::{BackupWork, TaskReport, TaskSpec, Work},
    storage::{
        catalog::Catalog,
        layout,
        memory::{Effect, Fault, MemoryStore, Operation},
        store::{ObjectStore, StoreError},
    },
};
use std::{
    collections::BTreeSet,
    future::pending,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
};

async fn perform(model: &Arc<Model>, spec: TaskSpec) -> TaskReport {
    let world: Arc<dyn World> = model.clone();
    run::run(spec, world, Arc::default(), pending()).await
}

async fn back_up(model: &Arc<Model>, work: BackupWork) -> TaskReport {
    perform(model, model.spec(Work::Backup(work))).await
}

async fn catalog(model: &Model) -> Catalog {
    Catalog::load(&*model.memory).await.unwrap()
}

/// Every snapshot that is listed is whole: all that its records name is stored.
async fn all_whole(memory: &Arc<MemoryStore>) -> BTreeSet<String> {
    let store: Arc<dyn ObjectStore> = memory.clone();
    let mut whole = BTreeSet::new();
    for manifest in Catalog::load(&*store).await.unwrap().snapshots {
        let directories = fragments::directories(&manifest.snapshot, &manifest.sources);
        let listing = Listing::of(&*store, directories.iter().map(String::as_str)).await.unwrap();
        for record in &manifest.sources {
            fragments::prove(&store, &manifest.snapshot, record, &listing).await.unwrap();
        }
        whole.insert(manifest.snapshot.to_string());
    }
    whole
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { operation: "it".to_owned(), detail: "no answer".to_owned() }
}

#[tokio::test]
async fn a_run_is_committed_and_found_again() {
    let model = Model::new();
    let report = back_up(&model, backup_work(NIGHT)).await;
    assert_eq!(report.failure, None);
    let summary = report.snapshot.unwrap();
    assert!(summary.complete);
    assert_eq!(totals(&summary), [("homes".to_owned(), 150, 3), ("mail".to_owned(), 100, 2)]);
    let catalog = catalog(&model).await;
    assert_eq!(catalog.find(&AsOf::Latest, None, false).unwrap().summary(), summary);
    assert_eq!(catalog.unknown, 0);
    assert!(model.memory.paths().contains(&format!("{}/RESTORE.txt", layout::directory(&summary.name))));
    let deletions = model.memory.calls().into_iter().filter(|(call, _)| *call == Operation::Delete).count();
    assert_eq!(deletions, 0, "a backup deletes nothing");
}

#[tokio::test]
async fn a_repeated_task_adopts_what_is_there() {
    let model = Model::new();
    let mut work = backup_work(NIGHT);
    work.finish = None;
    let first = back_up(&model, work.clone()).await;
    let objects = model.memory.paths();
    let again = back_up(&model, work).await;
    assert_eq!((first.sources, &model.memory.paths()), (again.sources, &objects));
    let committed = perform(&model, model.spec(Work::Finish(finish_work(NIGHT, &["homes", "mail"])))).await;
    let objects = model.memory.paths();
    let again = back_up(&model, backup_work(NIGHT)).await;
    assert_eq!((committed.snapshot, &model.memory.paths()), (again.snapshot, &objects));
    assert_eq!(model.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_attempt_that_lost_a_part_is_not_adopted() {
    let model = Model::new();
    let work = BackupWork { finish: None, ..backup_work(NIGHT) };
    back_up(&model, work).await;
    let part =
        model.memory.paths().into_iter().find(|path| path.contains("homes") && path.ends_with("00000"));
    model.memory.lose(&part.unwrap());
    model.set_now(NIGHT + 600);
    let report = back_up(&model, backup_work(NIGHT)).await;
    assert!(report.snapshot.unwrap().complete);
    assert_eq!(model.reads.load(Ordering::Relaxed), 3);
    all_whole(&model.memory).await;
}

#[tokio::test]
async fn guards_stop_what_cannot_be_true() {
    let last_good = |report: &TaskReport| report.snapshot.clone().unwrap().sources;
    for (contents, accept, reason) in [
        (vec![], false, Some("SourceEmpty")),
        (vec![vec![1; 150]], false, Some("SourceCollapsed")),
        (vec![vec![1; 2], vec![2; 2], vec![3; 2]], false, Some("SourceCollapsed")),
        (vec![vec![1; 50], vec![2; 50]], false, None),
        (vec![], true, None),
    ] {
        let model = Model::new();
        let first = back_up(&model, backup_work(NIGHT)).await;
        model.set("homes", Ok(contents.clone()));
        model.set_now(NIGHT + DAY);
        let work =
            BackupWork { last_good: last_good(&first), accept_shrink: accept, ..backup_work(NIGHT + DAY) };
        let report = back_up(&model, work).await;
        let failure = report.failure.as_ref();
        assert_eq!(failure.map(|failure| failure.reason.as_str()), reason, "{contents:?}");
        assert_eq!(report.verdict, if reason.is_some() { Verdict::Guard } else { Verdict::Committed });
        if let Some(failure) = failure {
            assert_eq!(report.sources.len(), 1, "the other source was stored all the same");
            assert!(failure.fix.as_ref().unwrap().contains("backstay run nightly --accept-shrink"));
            assert_eq!(catalog(&model).await.snapshots.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_missing_source_makes_the_run_partial_only_at_the_finish() {
    let model = Model::new();
    model.set("mail", Err(Failure::permanent("NoSuchFolder", "mail: /srv does not exist")));
    let report = back_up(&model, backup_work(NIGHT)).await;
    assert_eq!(report.failure.unwrap().reason, "NoSuchFolder");
    assert_eq!(report.sources.len(), 1);
    assert!(catalog(&model).await.latest(None).is_none());

    let report = perform(&model, model.spec(Work::Finish(finish_work(NIGHT, &["homes", "mail"])))).await;
    let summary = report.snapshot.unwrap();
    assert_eq!((summary.complete, summary.missing), (false, vec!["mail".parse().unwrap()]));
    let catalog = catalog(&model).await;
    assert_eq!(catalog.find(&AsOf::Latest, None, true).unwrap_err().reason, "SnapshotNotFound");
    let by_name = AsOf::Name(summary.name);
    assert_eq!(catalog.find(&by_name, None, false).unwrap_err().reason, "SnapshotIncomplete");
    assert!(catalog.find(&by_name, None, true).is_ok());
}

#[tokio::test]
async fn a_listing_that_is_late_makes_no_snapshot_partial() {
    let model = Model::new();
    back_up(&model, BackupWork { finish: None, ..backup_work(NIGHT) }).await;
    let path = layout::directory(&snapshot(NIGHT));
    // The look for a manifest, and the first for a source.
    let effect = Effect::Refuse(StoreError::NotFound { path: path.clone() });
    model.memory.fault(Fault { operation: Operation::List, path, skip: 0, times: 3, effect });
    let report = perform(&model, model.spec(Work::Finish(finish_work(NIGHT, &["homes", "mail"])))).await;
    assert!(report.snapshot.unwrap().complete);
}

#[tokio::test]
async fn what_a_source_remarks_is_in_the_report() {
    let model = Model::new();
    *model.remarks.lock().unwrap() = vec!["odd".to_owned(), "odd".to_owned()];
    let report = back_up(&model, backup_work(NIGHT)).await;
    assert_eq!(report.warnings, ["homes: odd", "mail: odd"]);
}

#[tokio::test]
async fn an_optional_source_is_a_remark() {
    let model = Model::new();
    model.set("optional-scratch", Err(Failure::temporary("Gone", "scratch is gone")));
    let mut work = backup_work(NIGHT);
    work.sources.push(volume("optional-scratch"));
    work.finish.as_mut().unwrap().optional = vec!["optional-scratch".parse().unwrap()];
    let report = back_up(&model, work).await;
    assert!(report.snapshot.unwrap().complete);
    assert!(
        report.warnings.iter().any(|warning| warning.contains("scratch is gone")),
        "{:?}",
        report.warnings
    );
}

#[tokio::test]
async fn a_finish_without_anything_stored_says_so() {
    let model = Model::new();
    back_up(&model, BackupWork { finish: None, ..backup_work(NIGHT) }).await;
    let spec = model.spec(Work::Finish(finish_work(NIGHT + DAY, &["homes"])));
    assert_eq!(perform(&model, spec).await.failure.unwrap().reason, "NothingStored");
}

#[tokio::test]
async fn a_remote_that_is_out_of_reach_is_asked_once_not_for_every_source() {
    let model = Model::new();
    model.memory.fault(Fault {
        operation: Operation::Put,
        path: "homes".to_owned(),
        skip: 0,
        times: usize::MAX,
        effect: Effect::Refuse(StoreError::Full { detail: "quota exceeded".to_owned() }),
    });
    let report = back_up(&model, backup_work(NIGHT)).await;
    assert_eq!(report.failure.unwrap().reason, "RemoteFull");
    assert_eq!(model.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_interrupted_manifest_is_written_again_under_another_name() {
    for effect in
        [Effect::CutAt(100, unavailable()), Effect::DoneButLost(unavailable()), Effect::Refuse(unavailable())]
    {
        for object in ["manifest", "RESTORE", "source"] {
            let model = Model::new();
            let fault = Fault {
                operation: Operation::Put,
                path: object.to_owned(),
                skip: 0,
                times: 1,
                effect: effect.clone(),
            };
            model.memory.fault(fault);
            let report = back_up(&model, backup_work(NIGHT)).await;
            assert!(report.snapshot.unwrap().complete, "{object} {effect:?}");
            assert_eq!(all_whole(&model.memory).await.len(), 1);
            // And the next night's pruning is not stopped by what is left of it.
            model.set_now(NIGHT + DAY);
            let report = back_up(&model, backup_work(NIGHT + DAY)).await;
            assert_eq!(report.warnings, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn another_site_is_refused_until_it_takes_over() {
    let model = Model::new();
    back_up(&model, backup_work(NIGHT)).await;
    let spec = |take_over: bool, night: i64| TaskSpec {
        site: "elsewhere".to_owned(),
        take_over,
        ..model.spec(Work::Backup(backup_work(NIGHT + night * DAY)))
    };
    model.set_now(NIGHT + DAY);
    let refused = perform(&model, spec(false, 1)).await.failure.unwrap();
    assert_eq!((refused.verdict, refused.reason.as_str()), (Verdict::Permanent, "OwnedElsewhere"));
    insta::assert_snapshot!(format!("{refused}\n{}", refused.fix.as_deref().unwrap()));

    let taken = perform(&model, spec(true, 1)).await;
    assert!(taken.snapshot.is_some());
    assert!(taken.warnings[0].contains("takeOver can be removed"));
    model.set_now(NIGHT + 2 * DAY);
    assert!(perform(&model, spec(false, 2)).await.snapshot.is_some());
    let old = back_up(&model, backup_work(NIGHT + 3 * DAY)).await.failure.unwrap();
    assert!(old.message.contains("site elsewhere since 2026-11-26T02:00:00Z"), "{old}");
}

#[tokio::test]
async fn a_place_that_was_known_and_is_empty_is_claimed_only_on_purpose() {
    let model = Model::new();
    let spec = |work| TaskSpec { known_place: true, ..model.spec(work) };
    let looked = perform(&model, spec(Work::Preflight { sources: vec![] })).await.failure.unwrap();
    let refused = perform(&model, spec(Work::Backup(backup_work(NIGHT)))).await.failure.unwrap();
    assert_eq!(looked, refused);
    assert_eq!((refused.verdict, refused.reason.as_str()), (Verdict::Guard, "RemoteLost"));
    insta::assert_snapshot!(format!("{refused}\n{}", refused.fix.as_deref().unwrap()), @r"
    box:WT/production holds no owner claim of policy nightly any more, though this site has backed up there: the snapshots are gone, or it is another place than it was
    is the remote mounted, and is it the right one? Only if it was emptied on purpose: backstay run nightly --accept-shrink claims it anew
    ");
    let written = [Operation::Put, Operation::MakeDirectory]
        .map(|kind| model.memory.calls().iter().filter(|c| c.0 == kind).count());
    assert_eq!(written, [0, 0], "nothing is made under a mount point");

    let accepted = BackupWork { accept_shrink: true, ..backup_work(NIGHT) };
    assert!(perform(&model, spec(Work::Backup(accepted))).await.snapshot.is_some());
    model.set_now(NIGHT + DAY);
    assert!(perform(&model, spec(Work::Backup(backup_work(NIGHT + DAY)))).await.snapshot.is_some());
    assert_eq!(perform(&model, spec(Work::Preflight { sources: vec![] })).await.failure, None);
    // Of a policy that takes over, another site's claim is none that is lost.
    let taker =
        TaskSpec { site: "other".to_owned(), take_over: true, ..spec(Work::Preflight { sources: vec![] }) };
    assert_eq!(perform(&model, taker).await.failure, None);
}

#[tokio::test]
async fn a_snapshot_of_another_site_for_the_same_slot_is_not_adopted() {
    let model = Model::new();
    back_up(&model, backup_work(NIGHT)).await;
    for work in [Work::Backup(backup_work(NIGHT)), Work::Finish(finish_work(NIGHT, &["homes", "mail"]))] {
        let spec = TaskSpec { site: "elsewhere".to_owned(), ..model.spec(work) };
        let report = perform(&model, spec).await;
        assert_eq!(report.snapshot, None);
        assert_eq!(report.failure.unwrap().reason, "OwnedElsewhere");
    }
}

#[tokio::test]
async fn of_two_sites_that_begin_together_one_goes_on() {
    let model = Model::new();
    let spec = |site: &str| TaskSpec {
        site: site.to_owned(),
        ..model.spec(Work::Backup(BackupWork { finish: None, ..backup_work(NIGHT) }))
    };
    let (one, two) = tokio::join!(perform(&model, spec("one")), perform(&model, spec("two")));
    let refused = [&one, &two].iter().filter(|report| report.failure.is_some()).count();
    assert_eq!(refused, 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn a_run_that_dies_anywhere_is_finished_by_the_next_attempt() {
    for done_but_lost in [false, true] {
        for calls in 0.. {
            let model = Model::new();
            model.through(|inner| Arc::new(Dying { inner, left: AtomicUsize::new(calls), done_but_lost }));
            let first = back_up(&model, backup_work(NIGHT)).await;
            let before = all_whole(&model.memory).await;
            assert!(first.snapshot.is_none() || !before.is_empty(), "success without a manifest");
            model.through(|inner| inner);
            model.set_now(NIGHT + 300);
            let second = back_up(&model, backup_work(NIGHT)).await;
            assert!(second.snapshot.expect("committed").complete, "after {calls} calls");
            assert_eq!(all_whole(&model.memory).await.len(), 1);
            if first.failure.is_none() && first.warnings.is_empty() {
                break;
            }
            assert!(calls < 200, "it never ends: {first:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_makes_a_snapshot_incomplete() {
    let model = Model::new();
    model.unreadable.store(2, Ordering::Relaxed);
    let report = back_up(&model, backup_work(NIGHT)).await;
    let summary = report.snapshot.unwrap();
    assert!(!summary.complete && summary.missing.is_empty());
    assert_eq!(
        report.warnings,
        [
            "homes: 2 entries could not be read: the snapshot is incomplete",
            "mail: 2 entries could not be read: the snapshot is incomplete"
        ]
    );
    let found = catalog(&model).await.find(&AsOf::Name(summary.name), None, false).unwrap_err();
    assert_eq!(
        found.message,
        "nightly-20261125T020000Z is incomplete: 2 of homes could not be read, 2 of mail could not be read"
    );
}

#[tokio::test]
async fn a_signal_the_deadline_and_a_panic_have_a_report() {
    let model = Model::new();
    let stall = Fault {
        operation: Operation::Put,
        path: "homes".to_owned(),
        skip: 0,
        times: usize::MAX,
        effect: Effect::Stall,
    };
    model.memory.fault(stall);
    let world: Arc<dyn World> = model.clone();
    let spec = model.spec(Work::Backup(backup_work(NIGHT)));
    let interrupted = async { Failure::temporary("Interrupted", "a signal") };
    let report = run::run(spec.clone(), world.clone(), Arc::default(), interrupted).await;
    assert_eq!(report, TaskReport::failed(Failure::temporary("Interrupted", "a signal")));

    let late = TaskSpec { not_after: at(NIGHT), ..spec.clone() };
    let report = run::run(late, world.clone(), Arc::default(), pending()).await;
    assert_eq!(report.failure.unwrap().reason, "DeadlineExceeded");
    let soon = TaskSpec { not_after: at(NIGHT + 1), ..spec.clone() };
    let report = run::run(soon, world.clone(), Arc::default(), pending()).await;
    assert_eq!(report.failure.unwrap().reason, "DeadlineExceeded");

    // A source that the model does not know panics.
    let work = BackupWork { sources: vec![volume("unknown")], ..backup_work(NIGHT) };
    let report = back_up(&model, work).await;
    assert_eq!(
        (report.verdict, report.failure.unwrap().reason.as_str()),
        (Verdict::Temporary, "TaskCrashed")
    );

    let newer = TaskSpec { version: 9, ..spec };
    assert_eq!(perform(&model, newer).await.failure.unwrap().reason, "SpecNewer");
}

#[tokio::test]
async fn whatever_stops_answering_a_snapshot_that_exists_is_reported() {
    let stalled = (0..30).map(|skip| async move {
        let model = Model::new();
        model.memory.fault(Fault {
            operation: Operation::List,
            path: String::new(),
            skip,
            times: usize::MAX,
            effect: Effect::Stall,
        });
        let spec = TaskSpec { not_after: at(NIGHT + 1), ..model.spec(Work::Backup(backup_work(NIGHT))) };
        let report = run::run(spec, model.clone(), Arc::default(), pending()).await;
        let exists = model.memory.paths().iter().any(|path| path.ends_with("manifest.json"));
        let told = (report.verdict == Verdict::Committed, report.snapshot.is_some());
        assert_eq!(told, (exists, exists), "{report:?}");
        exists && report.warnings.iter().any(|warning| warning.contains("not everything was pruned"))
    });
    let cut = futures_util::future::join_all(stalled).await;
    assert!(cut.contains(&true) && cut.ends_with(&[false]), "{cut:?}");
}

#[tokio::test]
async fn a_preflight_tells_all_that_is_wrong_and_leaves_nothing() {
    let model = Model::new();
    let sources = || vec![volume("homes"), volume("mail")];
    let report = perform(&model, model.spec(Work::Preflight { sources: sources() })).await;
    assert_eq!((report.failure, report.warnings), (None, vec![]));
    assert_eq!(model.memory.paths(), ["owner-nightly-20261125T020000Z-here.json"]);

    model.set("homes", Err(Failure::permanent("VolumeEmpty", "homes is empty")));
    model.set("mail", Err(Failure::permanent("VolumeMissing", "mail does not exist")));
    let report = perform(&model, model.spec(Work::Preflight { sources: sources() })).await;
    assert_eq!(report.failure.unwrap().reason, "VolumeEmpty");
    assert_eq!(report.warnings, ["mail does not exist"]);

    let other = TaskSpec { site: "other".to_owned(), ..model.spec(Work::Preflight { sources: vec![] }) };
    assert_eq!(perform(&model, other).await.failure.unwrap().reason, "OwnedElsewhere");
}
