//! `backstay task`: does one task and reports how it ended. The controller starts it.
//!
//! Progress goes to stdout, a line of JSON a second; what is said about it to stderr; the verdict is the exit code. In a
//! container there are no files to share: the task finds what it does in its environment, and its last line is the report.

use crate::{
    cli::{exit::Exit, output::Output, problem::Problem, runtime},
    domain::verdict::{Failure, INTERRUPTED, Verdict},
    orchestrators::stop::Stop,
    plan::task_spec::{SPEC_VARIABLE, TaskReport, TaskSpec},
    task::{context::Meter, real::Real, report, run, world::World},
};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

/// Do one task of a run (started by the controller)
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay task --spec spec.json --report report.json")]
pub struct Args {
    /// What to do, as the controller wrote it; without it, BACKSTAY_TASK_SPEC holds that
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Where to write how it ended; without it, on standard output
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Does the task. The exit code is the verdict's.
///
/// # Errors
/// A runtime that could not be started; everything else is a report.
pub fn run(args: &Args, _out: &mut Output) -> Result<Exit, Problem> {
    let report = match read(args.spec.as_deref()) {
        Ok(spec) => runtime::block_on_with(|stop| async move { Ok(perform(spec, stop).await) })?,
        Err(failure) => TaskReport::failed(failure),
    };
    if let Some(failure) = &report.failure {
        tracing::error!(reason = failure.reason, fix = failure.fix, "{failure}");
    }
    if let Err((place, error)) = write(args.report.as_deref(), &report) {
        let text = serde_json::to_string(&report).unwrap_or_default();
        tracing::error!("the report could not be written to {place}: {error}; it is {text}");
        // Without a report a success would be silent: the next attempt finds what is stored, and reports it.
        let verdict = if report.verdict == Verdict::Committed { Verdict::Temporary } else { report.verdict };
        return Ok(Exit::Code(verdict.exit_code()));
    }
    Ok(Exit::Code(report.verdict.exit_code()))
}

fn read(path: Option<&Path>) -> Result<TaskSpec, Failure> {
    let place = path.map_or_else(|| SPEC_VARIABLE.to_owned(), |path| path.display().to_string());
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::permanent("SpecUnreadable", format!("the task's spec {place}: {error}"))
    };
    let text = match path {
        Some(path) => fs::read(path).map_err(|error| unreadable(&error))?,
        None => std::env::var(SPEC_VARIABLE).map_err(|error| unreadable(&error))?.into_bytes(),
    };
    serde_json::from_slice(&text).map_err(|error| unreadable(&error))
}

fn write(path: Option<&Path>, report: &TaskReport) -> Result<(), (String, io::Error)> {
    if let Some(path) = path {
        return report::write(path, report).map_err(|error| (path.display().to_string(), error));
    }
    let line = || {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        let mut stdout = io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.flush()
    };
    line().map_err(|error: io::Error| ("standard output".to_owned(), error))
}

async fn perform(spec: TaskSpec, stop: Stop) -> TaskReport {
    let meter = Arc::new(Meter::default());
    let world: Arc<dyn World> = Arc::new(Real::new(&spec));
    let progress = show(Arc::clone(&meter));
    let mut report = run::run(spec, Arc::clone(&world), meter, stopped(stop)).await;
    // A token that was renewed is saved now. What hangs here changes nothing any more.
    let remarks = tokio::time::timeout(Duration::from_secs(15), world.close()).await.unwrap_or_default();
    report.warnings.splice(0..0, remarks);
    drop(progress);
    report::fit(report)
}

/// Waits for a signal to end. The same as an orchestrator's, a person's Ctrl-C leaves a report.
async fn stopped(stop: Stop) -> Failure {
    stop.asked().await;
    Failure::temporary(INTERRUPTED, "the task was told to end before it was done")
}

/// Prints the meter once a second, until what is returned is dropped. On a thread of its own: a reader that does not read
/// must not hold up the work, nor one that is gone.
fn show(meter: Arc<Meter>) -> Sender<()> {
    let (end, ended) = mpsc::channel();
    thread::spawn(move || {
        while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let Ok(mut line) = serde_json::to_vec(&meter.read()) else { return };
            line.push(b'\n');
            let mut stdout = io::stdout().lock();
            if stdout.write_all(&line).and_then(|()| stdout.flush()).is_err() {
                return;
            }
        }
    });
    end
}
