//! `backstay show`: what one snapshot holds, and how it came to be.

use crate::{
    cli::{
        backups::BackupsArgs,
        exit::Exit,
        list::{count, state, word},
        output::{Format, Output, OutputArgs},
        problem::Problem,
        runtime::block_on,
        style::Style,
        table::Table,
        time,
    },
    domain::{names::PolicyName, size::human, snapshot::AsOf},
    storage::{
        catalog::Catalog,
        manifest::{Manifest, SourceRecord},
        rclone::Mode,
    },
};

/// Show what a snapshot holds
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay show --from box:WT/production
  backstay show nightly-20261125T020000Z --from box:WT/production
  backstay show 2026-11-20T00:00:00Z --policy nightly --from box:WT/production -o json")]
pub struct Args {
    /// latest, a time or day (the newest not after it), or a name
    #[arg(default_value = "latest", value_parser = time::as_of)]
    snapshot: AsOf,
    /// Among the snapshots of this policy; without --from, one of this host's
    #[arg(long)]
    policy: Option<PolicyName>,
    #[command(flatten)]
    backups: BackupsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows it; as a document, its manifest.
///
/// # Errors
/// A remote that cannot be read, no such snapshot, a closed output.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let backups = args.backups.find(args.policy.as_ref())?;
    let catalog = block_on(async {
        let store = backups.open(Mode::Read).await?;
        let catalog = Catalog::load(&store).await;
        store.stop().await;
        Ok(catalog?)
    })?;
    let manifest = catalog.find(&args.snapshot, args.policy.as_ref(), true)?;
    match args.output.format {
        Format::Table | Format::Wide => show(manifest, out)?,
        document => out.document(document, manifest)?,
    }
    Ok(Exit::Ok)
}

fn show(manifest: &Manifest, out: &mut Output) -> Result<(), Problem> {
    let summary = manifest.summary();
    out.line(Style::Bold.paint(&manifest.snapshot.to_string(), out.color()))?;
    let committed = manifest.committed_at;
    let mut lines = vec![
        ("Instance", manifest.instance.to_string()),
        ("Slot", format!("{} ({})", manifest.slot.time(), time::until(time::now(), manifest.slot.time()))),
        ("Committed", format!("{} by {}", committed.strftime("%Y-%m-%dT%H:%M:%SZ"), manifest.tool)),
        ("State", state(&summary).text().to_owned()),
        ("Size", format!("{}, stored {}", human(summary.source_bytes()), human(summary.stored_bytes()))),
    ];
    lines.extend(manifest.sources.iter().flat_map(remarks).map(|text| ("Note", text)));
    for (label, text) in lines {
        out.line(format!("{label:<10} {text}"))?;
    }
    out.line("")?;
    out.bytes(sources(manifest).render(out.color()).as_bytes())
}

fn sources(manifest: &Manifest) -> Table {
    let mut table = Table::new(&["SOURCE", "MODE", ">SIZE", ">STORED", ">ITEMS", "CONSISTENCY", "READ"]);
    for record in &manifest.sources {
        let summary = record.summary();
        let mode = format!("{:?}", record.mode).to_lowercase();
        let items = if summary.collections > 0 {
            format!(
                "{} documents, {} {}",
                count(summary.documents),
                count(summary.collections),
                match summary.collections {
                    1 => "collection",
                    _ => "collections",
                }
            )
        } else {
            format!("{} files", count(summary.files))
        };
        let window = format!(
            "{} to {}",
            record.window.start.strftime("%H:%M:%S"),
            record.window.end.strftime("%H:%M:%SZ")
        );
        table.row([
            summary.source.to_string().into(),
            mode.into(),
            human(summary.source_bytes).into(),
            human(summary.stored_bytes).into(),
            items.into(),
            word(summary.consistency).into(),
            window.into(),
        ]);
    }
    table
}

/// What a person should know before relying on it.
fn remarks(record: &SourceRecord) -> Vec<String> {
    let counts = &record.counts;
    let told = [
        (counts.unreadable, "could not be read"),
        (counts.stale, "are kept with older content, because they could not be read"),
        (counts.changed_while_read, "changed while they were read"),
        (counts.vanished, "vanished before they could be read"),
        (counts.sockets, "sockets were left out"),
    ];
    let mut lines: Vec<String> = told
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{}: {} {what}", record.source, count(*number)))
        .collect();
    if let Some(dump) = &record.dump {
        lines.push(format!(
            "{}: MongoDB {} ({}), read from a {}",
            record.source, dump.server_version, dump.topology, dump.member_role
        ));
        if !dump.class_reason.is_empty() {
            lines.push(format!("{}: {}", record.source, dump.class_reason));
        }
    }
    lines
}
