//! Many seeds: on all cores, with the sum of what they did.

use crate::{
    bugs::Bug,
    effort::Effort,
    simulation::{Plan, Report, simulate},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Fails with the command that shows what happened.
pub fn check(report: &Report) {
    assert!(
        report.violations.is_empty(),
        "seed {0}:\n{1}\nto see it happen: make replay SEED={0}",
        report.seed,
        report.violations.join("\n")
    );
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    years: f64,
    effort: Effort,
    injected: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.years += report.years;
        self.effort += report.effort;
        for (what, count) in report.injected {
            *self.injected.entry(what).or_default() += count;
        }
        if let Some(first) = report.violations.into_iter().next() {
            self.failed.push((report.seed, first));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn tell(&self, seconds: f64, threads: usize) -> String {
        let Effort { observes, creates, run_writes, status_writes, answers, deletes, runs, attempts, .. } =
            self.effort;
        let per_year = |n: u64| n as f64 / self.years;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:.0} policy-years, {} seeds, {runs} runs, {attempts} attempts in {seconds:.1} s on {threads} threads: {:.0} policy-years a CPU-second",
            self.years,
            self.seeds,
            self.years / seconds / threads as f64
        );
        let _ = writeln!(
            text,
            "a policy-year: {:.0} looks, {:.1} creations, {:.1} writes of runs, {:.1} of the status, {:.2} answers, {:.1} deletions",
            per_year(observes),
            per_year(creates),
            per_year(run_writes),
            per_year(status_writes),
            per_year(answers),
            per_year(deletes)
        );
        for (what, count) in &self.injected {
            let _ = writeln!(text, "{count:>12}  {what}");
        }
        let _ = writeln!(text, "{} seeds failed", self.failed.len());
        for (seed, what) in self.failed.iter().take(20) {
            let _ = writeln!(text, "  make replay SEED={seed}   # {what}");
        }
        text
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "long: make soak"]
fn soak() {
    let wanted = number("SOAK_YEARS").unwrap_or(1_000_000);
    let faults = std::env::var_os("SOAK_CALM").is_none();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicU64::new(number("SOAK_SEED").unwrap_or(0)), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let report = simulate(Plan { seed, bug: None, faults, focus: false, readable: false });
                    let mut sum = sum.lock().unwrap();
                    sum.add(report);
                    #[expect(clippy::cast_precision_loss, reason = "years are far below 2^52")]
                    let enough = sum.years >= wanted as f64
                        || sum.failed.len() >= 50
                        || number("SOAK_SECONDS").is_some_and(|limit| begun.elapsed().as_secs() >= limit);
                    done.fetch_or(enough, Ordering::Relaxed);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!("{}", sum.tell(begun.elapsed().as_secs_f64(), threads));
    assert!(sum.failed.is_empty(), "{} seeds failed", sum.failed.len());
}

#[test]
#[ignore = "for a person: make replay SEED=…"]
fn replay() {
    let seed = number("SEED").expect("SEED=… says which");
    let wanted = std::env::var("BUG").ok();
    let bug = Bug::ALL.into_iter().find(|bug| Some(format!("{bug:?}")) == wanted);
    let (faults, focus) = (std::env::var_os("SOAK_CALM").is_none(), std::env::var_os("FOCUS").is_some());
    let report = simulate(Plan { seed, bug, faults, focus, readable: true });
    report.lines.iter().for_each(|line| println!("{line}"));
    println!("hash {:016x}, {:.2} policy-years, {:?}", report.hash, report.years, report.effort);
    check(&report);
}
