//! `backstay hold`: keeps snapshots from being pruned, whatever retention says.

use crate::{
    cli::{exit::Exit, output, output::Output, problem::Problem, site::SiteArgs},
    domain::names::SnapshotName,
};
use anyhow::Context as _;

/// Keep a snapshot from being pruned, until it is released
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay hold nightly-20261125T020000Z
  backstay hold nightly-20261125T020000Z --release")]
pub struct Args {
    /// The snapshot
    snapshot: SnapshotName,
    /// Let retention decide about it again
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    site: SiteArgs,
}

/// Writes it down for the controller; every pruning from now on keeps it.
///
/// # Errors
/// A policy that is not there, a state directory that cannot be written.
pub fn run(args: &Args, _: &mut Output) -> Result<Exit, Problem> {
    let host = args.site.host()?;
    let policy = host.find(args.snapshot.policy().as_str())?.id;
    let state = host.state()?;
    state
        .hold(&policy, &args.snapshot, !args.release)
        .with_context(|| format!("{} cannot be written", state.root().display()))?;
    output::note(match args.release {
        true => format!("{} is released: retention decides about it", args.snapshot),
        false => {
            format!("{} is held: it stays until \"backstay hold {} --release\"", args.snapshot, args.snapshot)
        }
    });
    Ok(Exit::Ok)
}
