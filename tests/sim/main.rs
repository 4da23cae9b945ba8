//! The controller through years of bad luck: the real machine and the real decisions, in virtual time, against an
//! orchestrator, tasks and a remote in memory, with everything going wrong that can, from one seed.

mod bugs;
mod clock;
mod effort;
mod faults;
mod hunt;
mod invariants;
mod memory;
mod orchestrator;
mod people;
mod policies;
mod remote;
mod rng;
mod simulation;
mod site;
mod soak;
mod tasks;
mod trace;

use simulation::{Plan, simulate};

fn plan(seed: u64) -> Plan {
    Plan { seed, bug: None, faults: true, focus: false, readable: false }
}

#[test]
fn years_of_faults() {
    for seed in 0..25 {
        soak::check(&simulate(plan(seed)));
    }
}

#[test]
fn years_without_faults() {
    for seed in 0..10 {
        soak::check(&simulate(Plan { faults: false, ..plan(seed) }));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..3 {
        let plan = Plan { readable: true, ..plan(seed) };
        let (first, second) = (simulate(plan), simulate(plan));
        assert_eq!(first.lines, second.lines);
        assert_eq!(first.hash, second.hash);
        assert_eq!(first.hash, simulate(Plan { readable: false, ..plan }).hash);
    }
}
