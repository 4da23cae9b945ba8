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

/// What many simulations did.
#[derive(Default)]
struct Sum {
    seeds: u64,
    policies: u64,
    years: f64,
    steps: u64,
    effort: Effort,
    injected: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.policies += report.policies;
        self.years += report.years;
        self.steps += report.steps;
        self.effort += report.effort;
        for (what, count) in report.injected {
            *self.injected.entry(what).or_default() += count;
        }
        if let Some(first) = report.violations.into_iter().next() {
            self.failed.push((report.seed, first));
        }
    }

    /// Calls by kind in a policy-year.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn per_year(&self) -> [(&'static str, f64); 7] {
        let effort = self.effort;
        [
            ("looks (reconciles)", effort.observes),
            ("creations", effort.creates),
            ("writes of runs", effort.run_writes),
            ("writes of the status", effort.status_writes),
            ("answers", effort.answers),
            ("deletions", effort.deletes),
            ("runs that ended", effort.runs),
        ]
        .map(|(what, count)| (what, count as f64 / self.years))
    }

    /// `calm` are seeds of these without faults, to compare with.
    fn tell(&self, calm: &Self, seconds: f64, cpu: f64) -> String {
        let mut text = String::new();
        let Self { seeds, policies, years, steps, .. } = self;
        let _ = writeln!(
            text,
            "{years:.0} policy-years: {seeds} seeds, {policies} policies, {steps} steps, {} attempts of {} runs",
            self.effort.attempts, self.effort.runs
        );
        let _ = writeln!(
            text,
            "{seconds:.0} s, {cpu:.0} CPU-seconds: {:.1} policy-years in each",
            (years + calm.years) / cpu
        );
        let _ = writeln!(text, "in a policy-year       with faults  without");
        for ((what, with), (_, without)) in self.per_year().into_iter().zip(calm.per_year()) {
            let _ = writeln!(text, "{what:<20}  {with:>12.1} {without:>8.1}");
        }
        for (what, count) in &self.injected {
            let _ = writeln!(text, "{count:>12}  {what}");
        }
        let failed =
            || self.failed.iter().map(|f| (f, "")).chain(calm.failed.iter().map(|f| (f, "SOAK_CALM=1 ")));
        let _ = writeln!(text, "{} seeds failed", failed().count());
        for ((seed, what), calm) in failed().take(20) {
            let _ = writeln!(text, "  {calm}make replay SEED={seed}   # {what}");
        }
        text
    }
}

/// What all threads do together.
struct Soak {
    next: AtomicU64,
    done: AtomicBool,
    faults: bool,
    begun: Instant,
    /// With faults, without, and CPU seconds.
    sums: Mutex<(Sum, Sum, f64)>,
}

impl Soak {
    /// Takes seeds until there are enough years.
    fn work(&self) {
        while !self.done.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let plan = Plan { seed, bug: None, faults: self.faults, focus: false, readable: false };
            let report = simulate(plan);
            let calm =
                (seed.is_multiple_of(CALM) && self.faults).then(|| simulate(Plan { faults: false, ..plan }));
            let mut sums = self.sums.lock().unwrap();
            sums.0.add(report);
            calm.into_iter().for_each(|calm| sums.1.add(calm));
            self.done.fetch_or(self.is_enough(&sums.0), Ordering::Relaxed);
        }
        self.sums.lock().unwrap().2 += cpu_seconds();
    }

    #[expect(clippy::cast_precision_loss, reason = "years are far below 2^52")]
    fn is_enough(&self, sum: &Sum) -> bool {
        sum.years >= number("SOAK_YEARS").unwrap_or(1_000_000) as f64
            || sum.failed.len() >= 50
            || number("SOAK_SECONDS").is_some_and(|limit| self.begun.elapsed().as_secs() >= limit)
    }
}

/// One seed in so many is simulated without faults as well.
const CALM: u64 = 16;

/// What this thread has used.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).map_or(0.0, |ns| ns as f64 / 1e9)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "long: make soak"]
fn soak() {
    let soak = Soak {
        next: AtomicU64::new(number("SOAK_SEED").unwrap_or(0)),
        done: AtomicBool::new(false),
        faults: std::env::var_os("SOAK_CALM").is_none(),
        begun: Instant::now(),
        sums: Mutex::default(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| soak.work()))));
    let (sum, calm, cpu) = soak.sums.into_inner().unwrap();
    println!("{}", sum.tell(&calm, soak.begun.elapsed().as_secs_f64(), cpu));
    let failed = sum.failed.len() + calm.failed.len();
    assert!(failed == 0, "{failed} seeds failed");
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
