//! `backstay hold`: keeps snapshots from being pruned, whatever retention says.

use crate::{
    cli::{
        backups::Backups, exit::Exit, output, output::Output, problem::Problem, runtime::block_on,
        site::SiteArgs,
    },
    domain::{names::SnapshotName, snapshot::AsOf},
    orchestrators::site::{Known, find},
    storage::{catalog::Catalog, rclone::Mode},
};

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
/// A policy or a snapshot that is not there, a state directory that cannot be written.
pub fn run(args: &Args, _: &mut Output) -> Result<Exit, Problem> {
    let site = args.site.site()?;
    let known = block_on(async { Ok(find(&*site, args.snapshot.policy().as_str()).await?) })?;
    if !args.release {
        must_exist(&known, &args.snapshot)?;
    }
    let site = args.site.site()?;
    block_on(async { Ok(site.hold(&known.id, &args.snapshot, !args.release).await?) })?;
    output::note(match args.release {
        true => format!("{} is released: retention decides about it", args.snapshot),
        false => {
            format!("{} is held: it stays until \"backstay hold {} --release\"", args.snapshot, args.snapshot)
        }
    });
    Ok(Exit::Ok)
}

/// The status lists the newest snapshots; the remote knows them all, and what there is instead.
fn must_exist(known: &Known, snapshot: &SnapshotName) -> Result<(), Problem> {
    let listed = known.status.as_ref().map_or(&[][..], |status| &status.snapshots);
    if listed.iter().any(|summary| summary.name == *snapshot) {
        return Ok(());
    }
    let backups = Backups::of(known.valid()?)?;
    let catalog = block_on(async {
        let store = backups.open(Mode::Read).await?;
        let catalog = Catalog::load(&store).await;
        store.stop().await;
        Ok(catalog?)
    })?;
    catalog.find(&AsOf::Name(snapshot.clone()), None, true)?;
    Ok(())
}
