//! The crash matrix: a run is disturbed at many points, and whatever happens to it, nothing that was promised is lost.
//!
//! `cases` says what is done to whom; `stage` is the site that it is done to; `faults` does it; `oracles` judge what
//! is there afterwards; `count` goes through the points and counts.
//!
//! `make test` runs a sample, `make crash` everything. One point again: `make crash CRASH_CASE=… CRASH_POINT=…`.

mod cases;
mod count;
mod faults;
mod oracles;
mod stage;

use cases::{CASES, Point};
use count::{Job, go_through};

/// Points that share a stage: few enough for a failure to be told from what came before it.
const A_STAGE: usize = 10;

#[test]
fn a_sample_of_the_crash_matrix() {
    let mut jobs: Vec<Job> = Vec::new();
    for case in CASES {
        let points = Point::spread(case.sample, case.sample).map(|point| (case, point));
        match jobs.iter_mut().find(|job| job[0].0.kind == case.kind && job.len() < 2) {
            Some(job) => job.extend(points),
            None => jobs.extend((case.sample > 0).then(|| points.collect())),
        }
    }
    assert_eq!(go_through(jobs).failures(), 0);
}

/// `CRASH_CASE`: only this one. `CRASH_POINT`: only this point, such as `17/100`. `CRASH_POINTS`: at most so many a case.
#[test]
#[ignore = "takes hours: make crash"]
fn all_of_the_crash_matrix() {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let most = set("CRASH_POINTS").map_or(usize::MAX, |count| count.parse().unwrap());
    let only = set("CRASH_CASE");
    let mut jobs: Vec<Job> = Vec::new();
    for case in CASES.iter().filter(|case| only.as_deref().is_none_or(|only| only == case.name)) {
        let points: Vec<Point> = match set("CRASH_POINT") {
            Some(text) => vec![text.parse().unwrap()],
            None => Point::spread(case.points.min(most), case.points.min(most)).collect(),
        };
        jobs.extend(points.chunks(A_STAGE).map(|some| some.iter().map(|point| (case, *point)).collect()));
    }
    assert!(
        !jobs.is_empty(),
        "no such case; they are {:?}",
        CASES.iter().map(|c| c.name).collect::<Vec<_>>()
    );
    let table = go_through(jobs);
    println!("{table}");
    assert_eq!(table.failures(), 0);
}
