//! Pruning over a store in memory: whenever it dies, whatever it is told, and whoever else is at work.

use super::{all_whole, back_up, perform, unavailable};
use crate::{
    plan::{
        observed::Drill,
        task_spec::{KeepFiles, TaskReport, TaskSpec, Work},
    },
    storage::{
        layout,
        memory::{Effect, Fault, Operation},
        store::{ObjectStore as _, StoreError},
    },
    task::{
        model::{DAY, Dying, Meanwhile, Model, NIGHT, Stale, at, backup_work, finish_work, snapshot},
        world::Access,
    },
};
use std::sync::{Arc, atomic::AtomicUsize};

/// Another model with the same objects.
fn copy_of(model: &Model) -> Arc<Model> {
    let copy = Model::new();
    for path in model.memory.paths() {
        copy.memory.overwrite(&path, model.memory.peek(&path).unwrap());
    }
    copy
}

/// Nights 0 to 13 committed; foreign things and debris among them; kept are seven days.
async fn a_fortnight() -> Arc<Model> {
    let model = Model::new();
    for night in 0..14 {
        model.set_now(NIGHT + night * DAY);
        let mut work = backup_work(NIGHT + night * DAY);
        work.finish.as_mut().unwrap().retention.keep_within_days = 1000;
        assert!(back_up(&model, work).await.snapshot.is_some());
    }
    for path in FOREIGN {
        model.memory.overwrite(path, "not ours");
    }
    let young =
        format!("{}/homes-{}.tar.zst.00000", layout::directory(&snapshot(NIGHT + 13 * DAY)), attempt(13));
    let old =
        format!("{}/homes-{}.tar.zst.00000", layout::directory(&snapshot(NIGHT + 12 * DAY)), attempt(2));
    let lost = format!("20261126/nightly-20261126T050000Z/mail-{}.tar.zst.00000", attempt(1));
    for path in [young, old, lost] {
        model.memory.overwrite(&path, "debris");
    }
    model
}

const FOREIGN: [&str; 6] = [
    "home.tgz",
    "20261125/home.tgz",
    "20261126/notes/readme",
    "20261126/nightly-20261126T020000Z/notes.txt",
    "20261126/weekly-20261126T030000Z/homes-0aj3k9v00.tar.zst.00000",
    "owner-weekly-20261126T030000Z-there.json",
];

fn attempt(night: i64) -> crate::domain::names::AttemptId {
    crate::domain::names::AttemptId::new(at(NIGHT + night * DAY + 60), 99)
}

fn prune_at(model: &Model, night: i64) -> TaskSpec {
    model.set_now(NIGHT + night * DAY);
    model.spec(Work::Finish(finish_work(NIGHT + 13 * DAY, &["homes", "mail"])))
}

#[tokio::test]
async fn pruning_removes_what_both_evaluations_drop_and_nothing_foreign() {
    let model = a_fortnight().await;
    let report = perform(&model, prune_at(&model, 13)).await;
    assert_eq!(report.warnings, Vec::<String>::new());
    // The newest that is two days and an hour old is night 10: kept since then are nights 3 to 10.
    assert_eq!(report.pruned, [2, 1, 0].map(|night| snapshot(NIGHT + night * DAY)));
    let paths = model.memory.paths();
    for night in 0..3 {
        let directory = layout::directory(&snapshot(NIGHT + night * DAY));
        let left: Vec<_> = paths.iter().filter(|path| path.starts_with(&directory)).collect();
        assert!(left.iter().all(|path| FOREIGN.contains(&path.as_str())), "{left:?}");
    }
    assert!(FOREIGN.iter().all(|path| paths.iter().any(|p| p == path)));
    let debris: Vec<_> = paths.iter().filter(|path| path.contains(&attempt(13).to_string())).collect();
    assert_eq!(debris.len(), 1, "an attempt of tonight may be under way");
    assert!(
        !paths.iter().any(|path| path.contains(attempt(2).as_str()) || path.contains(attempt(1).as_str()))
    );
    assert_eq!(all_whole(&model.memory).await.len(), 11);
    let listed = model.memory.list("", true, false).await.unwrap();
    assert!(!listed.iter().any(|entry| entry.path == "20261127"), "an empty day is removed");
}

#[tokio::test]
async fn what_is_held_or_tested_while_the_run_is_under_way_is_not_pruned() {
    let model = a_fortnight().await;
    let state = tempfile::tempdir().unwrap();
    let files = KeepFiles { holds: state.path().join("holds"), drill: state.path().join("drill.json") };
    let mut spec = prune_at(&model, 13);
    let Work::Finish(work) = &mut spec.work else { panic!("{spec:?}") };
    work.keep_files = Some(files.clone());
    let report = perform(&model, spec.clone()).await;
    assert_eq!(report.pruned, [], "unreadable: nothing is deleted");
    assert!(report.warnings[0].starts_with("nothing was pruned: what is held is not known"), "{report:?}");

    std::fs::create_dir(&files.holds).unwrap();
    std::fs::write(files.holds.join(format!("nightly~{}", snapshot(NIGHT + DAY))), "").unwrap();
    let drill = Drill {
        snapshot: snapshot(NIGHT),
        at: at(NIGHT),
        passed: true,
        message: String::new(),
        last_passed: Some(snapshot(NIGHT)),
    };
    std::fs::write(&files.drill, serde_json::to_vec(&drill).unwrap()).unwrap();
    let report = perform(&model, spec).await;
    assert_eq!(report.pruned, [snapshot(NIGHT + 2 * DAY)], "{report:?}");
}

#[tokio::test]
async fn any_doubt_deletes_nothing() {
    let manifest =
        |night: i64| format!("{}/manifest.json", layout::directory(&snapshot(NIGHT + night * DAY)));
    let part = |model: &Model, night: i64| {
        let directory = layout::directory(&snapshot(NIGHT + night * DAY));
        model
            .memory
            .paths()
            .into_iter()
            .find(|p| p.starts_with(&directory) && p.contains("homes") && p.ends_with(".00000"))
            .unwrap()
    };
    type Break<'a> = Box<dyn Fn(&Model) + 'a>;
    let fault = |operation, path: &str| {
        let path = path.to_owned();
        Box::new(move |model: &Model| {
            let effect = Effect::Refuse(unavailable());
            model.memory.fault(Fault { operation, path: path.clone(), skip: 0, times: usize::MAX, effect });
        }) as Break<'_>
    };
    let breaks: Vec<(&str, Break<'_>)> = vec![
        ("a day cannot be listed", fault(Operation::List, "20261128")),
        ("a manifest cannot be read", fault(Operation::Get, "20261128T020000Z/manifest.json")),
        ("a manifest is cut", Box::new(|model| model.memory.overwrite(&manifest(5), "{"))),
        (
            "a part is lost",
            Box::new(|model| {
                model.memory.lose(&part(model, 6));
            }),
        ),
        ("the clock is behind", Box::new(|model| model.set_now(NIGHT + 12 * DAY))),
        (
            "another site owns it",
            Box::new(|model| {
                let claim =
                    model.memory.paths().into_iter().find(|path| path.starts_with("owner-nightly")).unwrap();
                model.memory.lose(&claim);
            }),
        ),
    ];
    for (what, damage) in breaks {
        let model = a_fortnight().await;
        let spec = prune_at(&model, 13);
        damage(&model);
        let before = model.memory.paths();
        let report = perform(&model, spec).await;
        assert_eq!(model.memory.paths(), before, "{what}");
        assert!(report.pruned.is_empty(), "{what}");
        assert!(
            report.warnings.iter().any(|warning| warning.starts_with("nothing was pruned")),
            "{what}: {report:?}"
        );
    }
}

#[tokio::test]
async fn a_manifest_that_is_listed_but_not_found_keeps_its_bytes() {
    let model = a_fortnight().await;
    let path = format!("{}/manifest.json", snapshot(NIGHT + 5 * DAY));
    let effect = Effect::Refuse(StoreError::NotFound { path: path.clone() });
    model.memory.fault(Fault { operation: Operation::Get, path, skip: 0, times: usize::MAX, effect });
    let before = all_of(&model, 5);
    let report = perform(&model, prune_at(&model, 13)).await;
    assert_eq!(all_of(&model, 5), before);
    assert!(report.warnings[0].contains("listed but cannot be read"), "{:?}", report.warnings);
}

fn all_of(model: &Model, night: i64) -> Vec<String> {
    let directory = layout::directory(&snapshot(NIGHT + night * DAY));
    model.memory.paths().into_iter().filter(|path| path.starts_with(&directory)).collect()
}

#[tokio::test]
async fn a_store_that_can_delete_is_opened_only_to_delete() {
    let model = Model::new();
    back_up(&model, backup_work(NIGHT)).await;
    let opened = || model.opened.lock().unwrap().clone();
    assert_eq!(opened(), [Access::Append]);
    let model = a_fortnight().await;
    perform(&model, prune_at(&model, 13)).await;
    assert_eq!(model.opened.lock().unwrap().last(), Some(&Access::Prune));
}

#[tokio::test]
async fn more_than_half_at_once_stops() {
    let model = a_fortnight().await;
    let Work::Finish(mut work) = prune_at(&model, 40).work else { unreachable!() };
    work.retention.keep_within_days = 1;
    let before = model.memory.paths();
    let report = perform(&model, model.spec(Work::Finish(work))).await;
    assert_eq!(model.memory.paths(), before);
    insta::assert_snapshot!(report.warnings.join("\n"));
}

#[tokio::test]
async fn a_locked_manifest_stays_live_and_keeps_its_bytes() {
    let model = a_fortnight().await;
    let path = format!("{}/manifest.json", snapshot(NIGHT + DAY));
    let effect =
        Effect::Refuse(StoreError::Unavailable { operation: "delete".into(), detail: "locked".into() });
    model.memory.fault(Fault { operation: Operation::Delete, path, skip: 0, times: usize::MAX, effect });
    let report = perform(&model, prune_at(&model, 13)).await;
    assert_eq!(report.pruned, [2, 0].map(|night| snapshot(NIGHT + night * DAY)));
    assert!(report.warnings[0].contains("locked"), "{:?}", report.warnings);
    assert_eq!(all_whole(&model.memory).await.len(), 12);
}

#[tokio::test]
async fn pruning_that_dies_anywhere_harms_nothing_and_is_finished_by_the_next() {
    let fortnight = a_fortnight().await;
    let expected = pruned(&fortnight).await;
    for done_but_lost in [false, true] {
        for calls in 0.. {
            let model = copy_of(&fortnight);
            let spec = prune_at(&model, 13);
            model.through(|inner| Arc::new(Dying { inner, left: AtomicUsize::new(calls), done_but_lost }));
            let report = perform(&model, spec.clone()).await;
            let whole = all_whole(&model.memory).await;
            assert!(whole.len() >= 11, "after {calls} calls");
            assert!(FOREIGN.iter().all(|path| model.memory.peek(path).is_some()));
            model.through(|inner| inner);
            perform(&model, spec).await;
            assert_eq!(model.memory.paths(), expected, "after {calls} calls");
            assert!(all_whole(&model.memory).await.is_subset(&whole));
            if report.warnings.is_empty() && report.failure.is_none() {
                break;
            }
            assert!(calls < 2000, "it never ends: {report:?}");
        }
    }
}

/// Goes on with `left` calls of `model`'s tasks, then does `act` whole while the task waits for an answer. `None` once
/// the task is done before that.
async fn while_waiting(
    model: &Arc<Model>,
    spec: TaskSpec,
    calls: usize,
    act: impl Future<Output = ()> + Send + 'static,
) -> Option<TaskReport> {
    let meanwhile = Arc::new(Meanwhile::new(model.memory.clone(), calls, act));
    model.through(|_| meanwhile.clone());
    let report = perform(model, spec).await;
    model.through(|inner| inner);
    meanwhile.happened().then_some(report)
}

/// After whatever happened: nothing that must stay is lost, and an undisturbed pass comes to the `expected` end.
async fn assert_heals(model: &Arc<Model>, expected: &[String], when: &str) {
    assert!(all_whole(&model.memory).await.len() >= 11, "{when}");
    assert!(FOREIGN.iter().all(|path| model.memory.peek(path).is_some()), "{when}");
    perform(model, prune_at(model, 13)).await;
    assert_eq!(model.memory.paths(), expected, "{when}");
}

#[tokio::test]
async fn two_pruners_at_once_come_to_the_end_of_one() {
    let fortnight = a_fortnight().await;
    let expected = pruned(&fortnight).await;
    for calls in 0.. {
        let model = copy_of(&fortnight);
        let other = model.beside();
        let second = async move { drop(perform(&other, prune_at(&other, 13)).await) };
        let spec = prune_at(&model, 13);
        if while_waiting(&model, spec, calls, second).await.is_none() {
            break;
        }
        assert_heals(&model, &expected, &format!("the second began after {calls} calls")).await;
    }
}

#[tokio::test]
async fn a_run_and_a_pruner_do_not_disturb_each_other() {
    let fortnight = a_fortnight().await;
    let tonight = |model: &Model| {
        model.set_now(NIGHT + 13 * DAY + 3600);
        model.spec(Work::Backup(backup_work(NIGHT + 13 * DAY + 3600)))
    };
    for pruner_waits in [false, true] {
        for calls in 0.. {
            let model = copy_of(&fortnight);
            let other = model.beside();
            let (first, second) = match pruner_waits {
                true => (prune_at(&model, 13), tonight(&other)),
                false => (tonight(&model), prune_at(&other, 13)),
            };
            let act = async move { drop(perform(&other, second).await) };
            if while_waiting(&model, first, calls, act).await.is_none() {
                break;
            }
            let whole = all_whole(&model.memory).await;
            assert!(whole.contains("nightly-20261208T030000Z"), "after {calls} calls: {whole:?}");
            assert!(whole.len() >= 11 && FOREIGN.iter().all(|path| model.memory.peek(path).is_some()));
        }
    }
}

#[tokio::test]
async fn an_attempt_that_wakes_up_after_its_time_commits_nothing_that_was_swept() {
    let fortnight = a_fortnight().await;
    let (slot, mut committed) = (NIGHT + 2 * DAY + 7200, 0);
    for calls in 0.. {
        let model = copy_of(&fortnight);
        model.set_now(slot);
        let zombie = TaskSpec { not_after: at(slot + 3600), ..model.spec(Work::Backup(backup_work(slot))) };
        let (pruner, asleep) = (model.beside(), model.clone());
        let act = async move {
            drop(perform(&pruner, prune_at(&pruner, 13)).await);
            asleep.set_now(NIGHT + 13 * DAY);
        };
        let Some(report) = while_waiting(&model, zombie, calls, act).await else { break };
        let whole = all_whole(&model.memory).await;
        assert!(whole.len() >= 11, "asleep after {calls} calls");
        committed += usize::from(report.snapshot.is_some());
    }
    assert!(committed > 0, "asleep after its manifest was written, it has committed all the same");
}

#[tokio::test]
async fn a_listing_of_another_time_loses_nothing() {
    let fortnight = a_fortnight().await;
    let expected = pruned(&fortnight).await;
    // As before the newest nights, as after some nights were lost, and as after the pass that is under way.
    let younger = copy_of(&fortnight);
    forget(&younger, |path| path.contains("20261207T") || path.contains("20261208T"));
    let holes = copy_of(&fortnight);
    forget(&holes, |path| path.contains("20261130T") || path.contains("20261203T"));
    let later = copy_of(&fortnight);
    forget(&later, |path| !expected.iter().any(|kept| kept == path));
    for (listed, wrong) in
        [younger, holes, later].iter().flat_map(|listed| [(listed, 1), (listed, usize::MAX)])
    {
        for right in 0.. {
            let model = copy_of(&fortnight);
            let stale = Arc::new(Stale::new(model.memory.clone(), listed.memory.clone(), right, wrong));
            model.through(|_| stale.clone());
            perform(&model, prune_at(&model, 13)).await;
            model.through(|inner| inner);
            if !stale.was_shown() {
                break;
            }
            assert_heals(&model, &expected, &format!("{wrong} wrong listings after {right}")).await;
        }
    }
}

fn forget(model: &Model, what: impl Fn(&str) -> bool) {
    for path in model.memory.paths().iter().filter(|path| what(path)) {
        model.memory.lose(path);
    }
}

/// What an undisturbed pass leaves.
async fn pruned(model: &Arc<Model>) -> Vec<String> {
    let copy = copy_of(model);
    perform(&copy, prune_at(&copy, 13)).await;
    copy.memory.paths()
}
