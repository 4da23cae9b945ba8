//! `backstay list`: the snapshots of an instance, from the remote alone.

use crate::{
    cli::{
        backups::{BackupsArgs, Meant, Told},
        exit::Exit,
        output::{self, Output, OutputArgs},
        problem::Problem,
        runtime::block_on,
        style::Style,
        table::{Cell, Table},
        time,
    },
    domain::{
        names::SnapshotName,
        size::human,
        snapshot::{Consistency, SnapshotSummary},
    },
    storage::{catalog::Catalog, manifest::Manifest, rclone::Mode},
};
use jiff::Timestamp;
use serde::Serialize;

/// List the snapshots of an instance
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay list nightly
  backstay list --from box:WT/production --rclone-config rclone.conf
  backstay list nightly --from box:WT/production -o wide
  backstay list --from box:WT/production -o json | jq -r '.snapshots[].name'")]
pub struct Args {
    /// Only those of this policy; without --from, one of this host's
    policy: Option<Meant>,
    #[command(flatten)]
    backups: BackupsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is on the remote.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    /// Newest first.
    snapshots: Vec<SnapshotSummary>,
    /// Those that this host's controller is told to keep, whatever retention says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<SnapshotName>,
    /// Begun and not finished, or removed and not quite gone.
    unfinished: Vec<SnapshotName>,
    /// With a manifest that cannot be read.
    damaged: Vec<SnapshotName>,
}

/// Lists them.
///
/// # Errors
/// A remote that cannot be read, a closed output.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let listing = match args.backups.told_by_status(args.policy.as_ref())? {
        Some(Told { snapshots, held }) => {
            output::note("as the status tells, the newest of each policy; all of them: --rclone-config FILE");
            Listing { snapshots, held, unfinished: Vec::new(), damaged: Vec::new() }
        }
        None => on_remote(args)?,
    };
    out.result(args.output.format, &listing, |wide| table(&listing, wide, time::now()))?;
    if listing.snapshots.is_empty() && listing.damaged.is_empty() {
        output::note("no snapshot is finished yet");
    }
    Ok(Exit::Ok)
}

fn on_remote(args: &Args) -> Result<Listing, Problem> {
    let backups = args.backups.find(args.policy.as_ref().map(|meant| &meant.name))?;
    let catalog = block_on(async {
        let store = backups.open(Mode::Read).await?;
        let catalog = Catalog::load(&store).await;
        store.stop().await;
        Ok(catalog?)
    })?;
    let policy = args.policy.as_ref().map(|meant| &meant.name);
    let meant = |name: &SnapshotName| policy.is_none_or(|policy| policy == name.policy());
    let snapshots: Vec<_> = catalog.of(policy).map(Manifest::summary).collect();
    let held = args.backups.held(&backups.place);
    let damaged: Vec<_> = catalog.damaged.iter().filter(|damaged| meant(&damaged.snapshot)).collect();
    for damaged in &damaged {
        output::warn(damaged.failure().to_string());
    }
    if catalog.legacy > 0 {
        output::note(format!("{} archives of other scripts (*.tgz) lie here too", catalog.legacy));
    }
    Ok(Listing {
        held: snapshots.iter().map(|s| &s.name).filter(|name| held.contains(name)).cloned().collect(),
        snapshots,
        unfinished: catalog.unfinished.iter().filter(|name| meant(name)).cloned().collect(),
        damaged: damaged.into_iter().map(|damaged| damaged.snapshot.clone()).collect(),
    })
}

fn table(listing: &Listing, wide: bool, now: Timestamp) -> Table {
    let mut headings = vec!["SNAPSHOT", ">AGE", ">SIZE", ">STORED", ">FILES", ">DOCUMENTS", "STATE"];
    if wide {
        headings.extend(["CONSISTENCY", "COMMITTED", "SOURCES"]);
    }
    let mut table = Table::new(&headings);
    for snapshot in &listing.snapshots {
        let mut row = vec![
            Cell::from(snapshot.name.to_string()),
            time::span_between(snapshot.name.slot().time(), now).into(),
            human(snapshot.source_bytes()).into(),
            human(snapshot.stored_bytes()).into(),
            count(snapshot.files()).into(),
            count(snapshot.documents()).into(),
            marked(state(snapshot), listing.held.contains(&snapshot.name)),
        ];
        if wide {
            let names: Vec<_> = snapshot.sources.iter().map(|source| source.source.to_string()).collect();
            row.push(snapshot.consistency().map_or("-", word).into());
            row.push(snapshot.committed_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
            row.push(names.join(",").into());
        }
        table.row(row);
    }
    let rest = |name: &SnapshotName, state: &str, style: Style| {
        let age = time::span_between(name.slot().time(), now);
        let blank = || Cell::from("-");
        vec![
            name.to_string().into(),
            age.into(),
            blank(),
            blank(),
            blank(),
            blank(),
            Cell::styled(state, style),
        ]
    };
    listing.damaged.iter().for_each(|name| table.row(rest(name, "manifest damaged", Style::Red)));
    listing.unfinished.iter().for_each(|name| table.row(rest(name, "unfinished", Style::Dim)));
    table
}

/// `complete`, or what keeps it from being so.
pub fn state(snapshot: &SnapshotSummary) -> Cell {
    if snapshot.complete {
        return Cell::styled("complete", Style::Green);
    }
    let missing: Vec<_> = snapshot.missing.iter().map(ToString::to_string).collect();
    let why = if missing.is_empty() {
        "unreadable files".to_owned()
    } else {
        format!("without {}", missing.join(", "))
    };
    Cell::styled(format!("partial: {why}"), Style::Yellow)
}

/// The same, of a snapshot that stays whatever retention says.
fn marked(state: Cell, is_held: bool) -> Cell {
    if is_held { Cell::styled(format!("{}, held", state.text()), Style::Plain) } else { state }
}

/// A number with thousands apart, or a dash for none.
pub fn count(number: u64) -> String {
    if number == 0 {
        return "-".to_owned();
    }
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// As the status writes it.
pub fn word(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::PointInTime => "PointInTime",
        Consistency::Fuzzy => "Fuzzy",
        Consistency::BestEffort => "BestEffort",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_apart() {
        for (number, text) in [(0, "-"), (7, "7"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(super::count(number), text);
        }
    }
}
