//! `backstay prune`: removes what retention drops, as the end of every run does, but now.

use crate::{
    cli::{
        backups::Backups,
        exit::Exit,
        output::{self, Format, Output, OutputArgs},
        problem::Problem,
        runtime::{block_on, block_on_with},
        site::SiteArgs,
        time,
    },
    domain::{identity::PolicyId, names::SnapshotName, policy::Policy, run::StepName, verdict::Failure},
    orchestrators::{
        local::{lookup::Host, state::StateDir},
        random_number,
        site::{Known, find},
        swarm::{errand::Errand, site::SwarmSite},
    },
    plan::task_spec::{PruneWork, Work},
    storage::{owner, rclone::Mode},
    task::prune::{
        Request,
        work::{self, Kept, PruneOutcome},
    },
};
use anyhow::Context as _;
use std::{collections::BTreeSet, io};

/// Remove the snapshots that retention drops, now
///
/// A snapshot that no rule keeps any more stays for a grace period: two days, and the longest time that a run of the
/// policy can take. Then it goes, and its bytes with it.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay prune nightly --dry-run
  backstay prune nightly
  backstay prune nightly --confirm=nightly        # also when it is more than half of the snapshots")]
pub struct Args {
    /// The policy
    policy: String,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Also when more than half of the snapshots go: the policy's name once more
    #[arg(long, value_name = "POLICY", require_equals = true)]
    confirm: Option<String>,
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prunes, or says what would go.
///
/// # Errors
/// A policy that is not there or busy, why nothing was removed, a closed output.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let outcome = if args.site.is_swarm() { beside(args)? } else { here(args)? };
    match args.output.format {
        Format::Table | Format::Wide => print(&outcome, out)?,
        document => out.document(document, &outcome)?,
    }
    Ok(Exit::Ok)
}

fn here(args: &Args) -> Result<PruneOutcome, Problem> {
    let host = args.site.host()?;
    let known = host.find(&args.policy)?;
    let policy = known.valid()?;
    check_confirmation(args, policy)?;
    if !args.dry_run {
        idle(&known, host.state()?.is_restoring(&known.id).context("the restores cannot be read")?)?;
    }
    prune(args, &host, &known, policy)
}

/// By a task of a Swarm, which has the remote's secret.
fn beside(args: &Args) -> Result<PruneOutcome, Problem> {
    let site = SwarmSite::open()?;
    block_on_with(|stop| async move {
        let known = find(&site, &args.policy).await?;
        let policy = known.valid()?;
        check_confirmation(args, policy)?;
        let (keep, is_restoring) = site.kept_apart(&known.id).await?;
        if !args.dry_run {
            idle(&known, is_restoring)?;
        }
        let hands = site.hands(&args.policy).await?;
        let work = PruneWork {
            retention: policy.retention.clone(),
            keep,
            known: newest(&known),
            run_deadline_seconds: run_deadline(policy),
            allow_many: args.confirm.is_some(),
            dry_run: args.dry_run,
        };
        let errand = Errand {
            step: StepName::prune(),
            number: random_number()?,
            node: hands.facts.files_on.clone(),
            work: Work::Prune(work),
            hours: 24,
        };
        Ok(hands.carry_out(errand, &|_| (), &stop).await?.told()?)
    })
}

fn check_confirmation(args: &Args, policy: &Policy) -> Result<(), Problem> {
    if args.confirm.as_ref().is_some_and(|name| name != policy.name.as_str()) {
        return Err(Problem::Usage(format!("--confirm takes the policy's name: --confirm={}", policy.name)));
    }
    Ok(())
}

/// The snapshot that a listing must show.
fn newest(known: &Known) -> Vec<SnapshotName> {
    let last = known.status.as_ref().and_then(|status| status.snapshots.first());
    last.map(|snapshot| snapshot.name.clone()).into_iter().collect()
}

/// Nothing reads or writes the snapshots just now.
fn idle(known: &Known, is_restoring: bool) -> Result<(), Problem> {
    let busy = |what: String| {
        Err(Problem::from(
            Failure::temporary("Busy", format!("{}: {what}", known.id)).fix("wait for its end, then prune"),
        ))
    };
    if let Some(run) = known.status.as_ref().and_then(|status| status.active.first()) {
        return busy(format!("the run {} is under way", run.slot));
    }
    if is_restoring { busy("a restore is under way".to_owned()) } else { Ok(()) }
}

fn prune(args: &Args, host: &Host, known: &Known, policy: &Policy) -> Result<PruneOutcome, Problem> {
    let state = host.state()?;
    let read = || format!("{} cannot be read", state.root().display());
    let site = state.site().with_context(read)?;
    let held = kept_apart(state, &known.id).with_context(read)?;
    let claimant = owner::Claimant {
        policy: &policy.name,
        instance: &policy.instance,
        site: &site,
        destination: &policy.destination,
        settle: owner::SETTLE,
    };
    let request = Request {
        claimant: &claimant,
        rules: &policy.retention,
        held,
        known: newest(known).into_iter().collect(),
        run_deadline_seconds: run_deadline(policy),
        allow_many: args.confirm.is_some(),
    };
    let backups = Backups::of(policy)?;
    block_on(async {
        let store = backups.open(if args.dry_run { Mode::Read } else { Mode::Prune }).await?;
        let outcome = work::carry_out(&store, &request, args.dry_run, time::now()).await;
        store.stop().await;
        Ok(outcome?)
    })
}

/// Snapshots that stay whatever the rules say: those that people hold, and the newest that a restore was tested with.
///
/// # Errors
/// Files that cannot be read.
pub(super) fn kept_apart(state: &StateDir, policy: &PolicyId) -> io::Result<BTreeSet<SnapshotName>> {
    let tested = state.drill(policy)?.and_then(|drill| drill.last_passed);
    Ok(state.holds(policy)?.into_iter().chain(tested).collect())
}

/// Longest time that a run can take, generously: what is younger than this and two days is left alone.
pub(super) fn run_deadline(policy: &Policy) -> u64 {
    let task = &policy.task;
    let attempt = task.timeout.as_secs().saturating_add(task.pending.as_secs()).saturating_add(1800);
    let steps = policy.sources().len() as u64 + 1;
    attempt.saturating_mul(u64::from(task.retries) + 1).saturating_mul(steps)
}

fn print(outcome: &PruneOutcome, out: &mut Output) -> Result<(), Problem> {
    outcome.warnings.iter().for_each(output::warn);
    let verb = if outcome.dry_run { "would remove" } else { "removed" };
    for name in &outcome.removed {
        out.line(format!("{verb} {name}"))?;
    }
    for Kept { name, reasons } in &outcome.kept {
        out.line(format!("keeps {name}: {}", reasons.join(", ")))?;
    }
    if outcome.removed.is_empty() {
        out.line("no snapshot is dropped by retention")?;
    }
    Ok(())
}
