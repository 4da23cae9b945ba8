//! `backstay run`: a backup now.

use crate::{
    cli::{
        asking::{self, Presence},
        exit::Exit,
        output,
        output::Output,
        problem::Problem,
        progress::Watch,
        site::SiteArgs,
        style::Style,
    },
    domain::{
        identity::PolicyId,
        names::Slot,
        run::{Outcome, RunEnd, RunState},
        size::human,
        verdict::Failure,
    },
    orchestrators::local::{files, state::StateDir, tasks},
    plan::{action::Answer, observed::Wish, task_spec::Progress},
    task::context::Meter,
};
use std::{path::Path, sync::Arc, thread::sleep};

/// Back up now, beside the schedule
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay run nightly
  backstay run nightly --wait
  backstay run nightly --wait --accept-shrink    # the sources shrank on purpose")]
pub struct Args {
    /// The policy
    policy: String,
    /// Wait for the end and show the progress; the exit code tells the outcome
    #[arg(long)]
    wait: bool,
    /// The sources shrank on purpose: the guards only warn, this once
    #[arg(long)]
    accept_shrink: bool,
    /// When a run is active, wait for its end instead of being refused
    #[arg(long)]
    wait_turn: bool,
    #[command(flatten)]
    site: SiteArgs,
}

/// Asks the controller for a run and, when told to, waits for its end.
///
/// # Errors
/// No such policy, no controller, or the run is refused.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let host = args.site.host()?;
    let known = host.find(&args.policy)?;
    known.valid()?;
    let wish = Wish::Run { accept_shrink: args.accept_shrink, wait_turn: args.wait_turn };
    match asking::ask(&host, &known.id, wish, args.wait)? {
        Some(Answer::Accepted(slot)) if args.wait => follow(host.state()?, &known.id, slot, out),
        Some(Answer::Accepted(slot)) => {
            out.line(format!("run {slot} of {} has begun", known.id))?;
            output::note(format!("see it with: backstay status {}", known.id));
            Ok(Exit::Ok)
        }
        Some(Answer::Refused(why)) => Err(Failure::temporary("Refused", why)
            .fix(format!("see it with: backstay status {}", known.id))
            .into()),
        None => {
            out.line(format!("the run of {} is queued; it begins within 6 h or not at all", known.id))?;
            Ok(Exit::Ok)
        }
    }
}

/// Shows a run until it is over, or nobody is left to end it.
fn follow(state: &StateDir, policy: &PolicyId, slot: Slot, out: &mut Output) -> Result<Exit, Problem> {
    let folder = state.run(policy, slot);
    let meter = Arc::new(Meter::default());
    let watch = Watch::start(Arc::clone(&meter), false);
    let (mut attempts, mut presence) = (0, Presence::default());
    loop {
        let run: RunState = files::read_json(&folder.join("state.json"))?.unwrap_or_default();
        for attempt in run.attempts.iter().skip(attempts) {
            if let Some(failure) = &attempt.failure {
                output::warn(format!("{}, attempt {}: {}", attempt.step, attempt.number, failure.message));
            }
            attempt.warnings.iter().for_each(output::warn);
        }
        attempts = run.attempts.len();
        if let Some(end) = &run.end {
            drop(watch);
            return finish(policy, slot, &run, end, out);
        }
        asking::need_record(&folder)?;
        presence.check(state)?;
        if let Some(progress) = progress(&folder)? {
            feed(&meter, &progress);
        }
        sleep(asking::LOOK);
    }
}

/// What the newest task of a run says that it is doing.
fn progress(folder: &Path) -> Result<Option<Progress>, Problem> {
    let mut newest = None;
    for (_, task) in files::entries(folder)? {
        let file = task.join(tasks::names::PROGRESS);
        if let Ok(modified) = file.metadata().and_then(|m| m.modified()) {
            newest = newest.max(Some((modified, file)));
        }
    }
    Ok(newest.and_then(|(_, file)| tasks::last_progress(&file)))
}

/// What a task says, as the meter that is drawn.
fn feed(meter: &Meter, progress: &Progress) {
    let before = meter.read();
    if before.phase != progress.phase || before.bytes > progress.bytes || before.items > progress.items {
        meter.begin(&progress.phase, progress.total_bytes);
        return meter.add(progress.bytes, progress.items);
    }
    meter.add(progress.bytes - before.bytes, progress.items - before.items);
}

fn finish(
    policy: &PolicyId,
    slot: Slot,
    run: &RunState,
    end: &RunEnd,
    out: &mut Output,
) -> Result<Exit, Problem> {
    if let Some(snapshot) = run.snapshot() {
        let text = format!(
            "{}  {} from {} files and {} documents, {} stored",
            snapshot.name,
            human(snapshot.source_bytes()),
            snapshot.files(),
            snapshot.documents(),
            human(snapshot.stored_bytes()),
        );
        let style = if snapshot.complete { Style::Green } else { Style::Yellow };
        out.line(style.paint(&text, out.color()))?;
    }
    match end.outcome {
        Outcome::Succeeded => Ok(Exit::Ok),
        Outcome::Partial => {
            output::warn(&end.message);
            Ok(Exit::Partial)
        }
        _ => {
            let message = format!("run {slot} of {policy} {:?}: {}", end.outcome, end.message);
            let fix = end.fix.clone().unwrap_or_else(|| format!("backstay logs {policy}"));
            Err(Failure::permanent(&end.reason, message).fix(fix).into())
        }
    }
}
