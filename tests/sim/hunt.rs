//! The simulator is itself put to the test: every planted bug must be found, and soon.

use crate::{
    bugs::Bug,
    simulation::{Plan, simulate},
};
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// The first of `seeds` that finds a bug, and what it saw.
fn hunt(bug: Bug, focus: bool, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| {
        let report = simulate(Plan { seed, bug: Some(bug), faults: true, focus, readable: false });
        report.violations.into_iter().next().map(|what| (seed, what))
    })
}

/// Fails when a bug survives.
fn hunt_all(focus: bool, seeds: u64) {
    let (next, found, survivors) = (AtomicUsize::new(0), Mutex::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match hunt(*bug, focus, seeds) {
                        Some((seed, what)) => {
                            println!("{bug:?}: after {} seeds: {what}", seed + 1);
                            *found.lock().unwrap() += 1;
                        }
                        None => survivors.lock().unwrap().push(*bug),
                    }
                }
            });
        }
    });
    println!("{} of {} planted bugs found", found.lock().unwrap(), Bug::ALL.len());
    let survivors = survivors.into_inner().unwrap();
    assert!(survivors.is_empty(), "not found within {seeds} seeds: {survivors:?}");
}

#[test]
fn every_planted_bug_is_found_by_faults_that_fit_it() {
    hunt_all(true, 30);
}

#[test]
#[ignore = "long: make soak"]
fn every_planted_bug_is_found_by_any_faults() {
    hunt_all(false, 200);
}
