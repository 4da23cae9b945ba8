//! `backstay prune`: removes what retention drops, as the end of every run does, but now.

use crate::{
    cli::{
        backups::Backups,
        exit::Exit,
        output::{self, Format, Output, OutputArgs},
        problem::Problem,
        runtime::block_on,
        site::SiteArgs,
        time,
    },
    domain::{
        identity::PolicyId, names::SnapshotName, policy::Policy, retention::Decision, verdict::Failure,
    },
    orchestrators::{
        local::{lookup::Host, state::StateDir},
        site::Known,
    },
    storage::{catalog::Catalog, owner, rclone::Mode, store::ObjectStore},
    task::prune::{self, Pruned, Request},
};
use anyhow::Context as _;
use serde::Serialize;
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
    /// The policy, by its name on this host
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

/// What was, or would be, removed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    dry_run: bool,
    removed: Vec<SnapshotName>,
    /// Told before anything is removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept: Vec<Kept>,
    objects: u64,
    warnings: Vec<String>,
}

/// A snapshot that stays, and why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    name: SnapshotName,
    reasons: Vec<String>,
}

impl From<&Decision> for Kept {
    fn from(decision: &Decision) -> Self {
        let reasons = decision.reasons.iter().map(ToString::to_string).collect();
        Self { name: decision.name.clone(), reasons }
    }
}

/// Prunes, or says what would go.
///
/// # Errors
/// A policy that is not there or busy, why nothing was removed, a closed output.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let host = args.site.host()?;
    let known = host.find(&args.policy)?;
    let policy = known.valid()?;
    if args.confirm.as_ref().is_some_and(|name| name != policy.name.as_str()) {
        return Err(Problem::Usage(format!("--confirm takes the policy's name: --confirm={}", policy.name)));
    }
    if !args.dry_run {
        idle(&host, &known)?;
    }
    let outcome = prune(args, &host, &known, policy)?;
    match args.output.format {
        Format::Table | Format::Wide => print(&outcome, out)?,
        document => out.document(document, &outcome)?,
    }
    Ok(Exit::Ok)
}

/// Nothing reads or writes the snapshots just now.
fn idle(host: &Host, known: &Known) -> Result<(), Problem> {
    let busy = |what: String| {
        Err(Problem::from(
            Failure::temporary("Busy", format!("{}: {what}", known.id)).fix("wait for its end, then prune"),
        ))
    };
    if let Some(run) = known.status.as_ref().and_then(|status| status.active.first()) {
        return busy(format!("the run {} is under way", run.slot));
    }
    match host.state()?.is_restoring(&known.id).context("the restores cannot be read")? {
        true => busy("a restore is under way".to_owned()),
        false => Ok(()),
    }
}

fn prune(args: &Args, host: &Host, known: &Known, policy: &Policy) -> Result<Outcome, Problem> {
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
    let last = known.status.as_ref().and_then(|status| status.snapshots.first());
    let request = Request {
        claimant: &claimant,
        rules: &policy.retention,
        held,
        known: last.map(|snapshot| snapshot.name.clone()).into_iter().collect(),
        run_deadline_seconds: run_deadline(policy),
        allow_many: args.confirm.is_some(),
    };
    let backups = Backups::of(policy)?;
    block_on(async {
        let store = backups.open(if args.dry_run { Mode::Read } else { Mode::Prune }).await?;
        let outcome = carry_out(args, &store, &request).await;
        store.stop().await;
        outcome
    })
}

async fn carry_out(args: &Args, store: &dyn ObjectStore, request: &Request<'_>) -> Result<Outcome, Problem> {
    if args.dry_run {
        let decisions = request.decide(&Catalog::load(store).await?, time::now());
        let (removed, kept): (Vec<_>, Vec<_>) = decisions.into_iter().partition(Decision::is_doomed);
        return Ok(Outcome {
            dry_run: true,
            removed: removed.into_iter().map(|decision| decision.name).collect(),
            kept: kept.iter().map(Kept::from).collect(),
            objects: 0,
            warnings: Vec::new(),
        });
    }
    let Pruned { removed, objects, warnings } = prune::prune(store, request, time::now()).await?;
    Ok(Outcome { dry_run: false, removed, kept: Vec::new(), objects, warnings })
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

fn print(outcome: &Outcome, out: &mut Output) -> Result<(), Problem> {
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
