//! Goes through points, several at once, and counts.

use super::{
    cases::{CASES, Case, Point},
    stage::Stage,
};
use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
    time::Instant,
};

/// Points that one stage serves, all of one kind.
pub type Job = Vec<(&'static Case, Point)>;

/// What came of each case.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<&'static str, Row>);

#[derive(Debug, Default)]
struct Row {
    runs: usize,
    /// Runs that were there to be hit when the time came.
    hit: usize,
    succeeded: usize,
    failures: usize,
}

/// What came of one point.
#[derive(Debug)]
pub struct Came {
    pub hit: bool,
    pub succeeded: bool,
}

impl Table {
    pub fn failures(&self) -> usize {
        self.0.values().map(|row| row.failures).sum()
    }

    fn note(&mut self, case: &Case, came: Option<&Came>) {
        let row = self.0.entry(case.name).or_default();
        row.runs += 1;
        match came {
            Some(came) => {
                row.hit += usize::from(came.hit);
                row.succeeded += usize::from(came.succeeded);
            }
            None => row.failures += 1,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20}{:>6}{:>6}{:>12}{:>10}", "case", "runs", "hit", "succeeded", "failures")?;
        let rows = CASES.iter().filter_map(|case| Some((case.name, self.0.get(case.name)?)));
        for (name, Row { runs, hit, succeeded, failures }) in rows {
            writeln!(f, "{name:<20}{runs:>6}{hit:>6}{succeeded:>12}{failures:>10}")?;
        }
        let runs: usize = self.0.values().map(|row| row.runs).sum();
        write!(f, "{runs} runs, {} failures", self.failures())
    }
}

/// Goes through all of them. Most of a point is waiting, so there are more workers than processors.
pub fn go_through(jobs: Vec<Job>) -> Table {
    let workers = std::env::var("CRASH_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (jobs, table) = (Mutex::new(jobs.into_iter()), Mutex::new(Table::default()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = jobs.lock().unwrap().next();
                    let Some(job) = next else { return };
                    go_through_one(job, runtime.handle(), &table);
                }
            });
        }
    });
    table.into_inner().unwrap()
}

/// A stage on which something failed serves no more points.
fn go_through_one(job: Job, runtime: &tokio::runtime::Handle, table: &Mutex<Table>) {
    let mut stage = None;
    for (case, point) in job {
        let begin = Instant::now();
        let came = catch_unwind(AssertUnwindSafe(|| {
            let mut on = stage.take().unwrap_or_else(|| Stage::set(case.kind, runtime.clone()));
            let came = on.play(case, point);
            (on, came)
        }));
        if came.is_err() {
            eprintln!("*** FAILED: make crash CRASH_CASE={} CRASH_POINT={point}", case.name);
        }
        let seconds = begin.elapsed().as_secs_f32();
        if let Ok((_, Came { hit, succeeded })) = &came {
            println!("{} {point}: hit {hit}, succeeded {succeeded}, {seconds:.1} s", case.name);
        }
        table.lock().unwrap().note(case, came.as_ref().ok().map(|(_, came)| came));
        stage = came.ok().map(|(on, _)| on);
    }
}
