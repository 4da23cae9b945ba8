//! `backstay run`: a backup now.

use crate::{
    cli::{
        asking::{self, Presence},
        exit::Exit,
        output,
        output::Output,
        patient::Patient,
        problem::Problem,
        progress::Watch,
        runtime::block_on_with,
        site::SiteArgs,
        style::Style,
    },
    domain::{
        identity::PolicyId,
        names::Slot,
        run::{Outcome, RunEnd, RunState},
        size::human,
        status::Status,
        verdict::Failure,
    },
    orchestrators::{
        site::{Site, find},
        stop::Stop,
    },
    plan::{action::Answer, observed::Wish, task_spec::Progress},
    task::context::Meter,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A controller that runs tells an end within this time.
const TOLD: Duration = Duration::from_secs(5);

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
    let site = args.site.site()?;
    block_on_with(async |stop| {
        if args.wait {
            ask(args, &Patient::new(&*site, None), out, &stop).await
        } else {
            ask(args, &*site, out, &stop).await
        }
    })
}

async fn ask(args: &Args, site: &dyn Site, out: &mut Output, stop: &Stop) -> Result<Exit, Problem> {
    let known = find(site, &args.policy).await?;
    known.valid()?;
    let wish = Wish::Run { accept_shrink: args.accept_shrink, wait_turn: args.wait_turn };
    match asking::ask(site, &known.id, wish, args.wait, stop).await? {
        Some(Answer::Accepted(slot)) if args.wait => tokio::select! {
            end = follow(site, &known.id, slot, out) => end,
            () = stop.asked() => Err(Problem::Interrupted(format!(
                "run {slot} goes on; to stop it: backstay cancel {}",
                known.id
            ))),
        },
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
async fn follow(site: &dyn Site, policy: &PolicyId, slot: Slot, out: &mut Output) -> Result<Exit, Problem> {
    let meter = Arc::new(Meter::default());
    let watch = Watch::start(Arc::clone(&meter), false);
    let (mut attempts, mut presence) = (0, Presence::default());
    loop {
        let run = asking::need_run(site, policy, slot).await?;
        for attempt in run.attempts.iter().skip(attempts) {
            if let Some(failure) = &attempt.failure {
                output::warn(format!("{}, attempt {}: {}", attempt.step, attempt.number, failure.message));
            }
            attempt.warnings.iter().for_each(output::warn);
        }
        attempts = run.attempts.len();
        if let Some(end) = &run.end {
            drop(watch);
            wait_until_told(site, policy, slot).await;
            return finish(policy, slot, &run, end, out);
        }
        presence.check(site).await?;
        if let Some(progress) = site.progress(policy, slot).await? {
            feed(&meter, &progress);
        }
        tokio::time::sleep(site.pace()).await;
    }
}

/// The end is recorded a moment before the status tells it; whoever asks next must not hear that the run is active.
async fn wait_until_told(site: &dyn Site, policy: &PolicyId, slot: Slot) {
    let begun = Instant::now();
    while begun.elapsed() < TOLD {
        let status = site.status(policy).await.ok().flatten();
        if status.is_none_or(|status| tells_end(&status, slot)) {
            return;
        }
        tokio::time::sleep(site.pace()).await;
    }
}

fn tells_end(status: &Status, slot: Slot) -> bool {
    let is_active = status.active.iter().any(|run| run.slot == slot);
    !is_active && status.history.iter().any(|told| told.slot == slot)
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
