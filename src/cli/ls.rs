//! `backstay ls`: the files, or the collections, in a snapshot.
//!
//! Read from the index alone; nothing of the data is fetched.

use crate::{
    cli::{
        backups::BackupsArgs,
        exit::Exit,
        list::count,
        output::{Format, Output, OutputArgs},
        problem::Problem,
        runtime::block_on,
        table::{Table, printable},
        time,
    },
    domain::{
        names::{PolicyName, SourceName},
        policy::NamespacePattern,
        size::human,
        snapshot::AsOf,
    },
    storage::{
        archive::listing,
        catalog::Catalog,
        index::{
            reader::IndexReader,
            record::{EntryKind, Record},
        },
        layout,
        manifest::{Manifest, SourceKind, SourceRecord},
        rclone::{Mode, Rclone},
    },
};
use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;

/// List the files or collections in a snapshot
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  backstay ls latest --from box:WT/production                     # the sources
  backstay ls latest homes/ada --from box:WT/production           # one directory
  backstay ls latest homes/ada -R --from box:WT/production        # and everything below it
  backstay ls latest mongodb/girder --from box:WT/production      # collections of a database")]
pub struct Args {
    /// latest, a time or day (the newest not after it), or a name
    #[arg(value_parser = time::as_of)]
    snapshot: AsOf,
    /// SOURCE, SOURCE/PATH, or mongodb/DATABASE
    path: Option<String>,
    /// Everything below the path, not only what lies directly in it
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Among the snapshots of this policy; without --from, one of this host's
    #[arg(long)]
    policy: Option<PolicyName>,
    #[command(flatten)]
    backups: BackupsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lists what is there.
///
/// # Errors
/// A remote that cannot be read, no such snapshot, source or path, a closed output.
pub fn run(args: &Args, out: &mut Output) -> Result<Exit, Problem> {
    let backups = args.backups.find(args.policy.as_ref())?;
    block_on(async {
        let store = backups.open(Mode::Read).await?;
        let listed = list(args, &store, out).await;
        store.stop().await;
        listed
    })
}

async fn list(args: &Args, store: &Rclone, out: &mut Output) -> Result<Exit, Problem> {
    let catalog = Catalog::load(store).await?;
    let manifest = catalog.find(&args.snapshot, args.policy.as_ref(), true)?;
    let Some(path) = &args.path else {
        sources(manifest, args.output.format, out)?;
        return Ok(Exit::Ok);
    };
    let (source, path) = path.split_once('/').unwrap_or((path, ""));
    let record = find(manifest, source)?;
    match record.kind {
        SourceKind::Mongodb => collections(record, path, store, args.output.format, out).await?,
        SourceKind::Files => {
            let reader = IndexReader::open(
                Arc::new(store.clone()),
                &layout::directory(&manifest.snapshot),
                &record.index,
            )
            .await?;
            let wanted = Wanted::new(path, args.recursive);
            if files(reader, &wanted, args.output.format, out).await? == 0 {
                return Err(anyhow::anyhow!("{} has no {path:?} in {source}", manifest.snapshot).into());
            }
        }
    }
    Ok(Exit::Ok)
}

fn find<'a>(manifest: &'a Manifest, source: &str) -> Result<&'a SourceRecord, Problem> {
    let name: SourceName = source.parse()?;
    manifest.sources.iter().find(|record| record.source == name).ok_or_else(|| {
        let there: Vec<_> = manifest.sources.iter().map(|record| record.source.as_str()).collect();
        anyhow::anyhow!("{} has no source {source}; it has {}", manifest.snapshot, there.join(", ")).into()
    })
}

fn sources(manifest: &Manifest, format: Format, out: &mut Output) -> Result<(), Problem> {
    let summaries = manifest.summary().sources;
    out.result(format, &summaries, |_| {
        let mut table = Table::new(&["SOURCE", ">SIZE", ">FILES", ">COLLECTIONS", ">DOCUMENTS"]);
        for source in &summaries {
            table.row([
                source.source.to_string().into(),
                human(source.source_bytes).into(),
                count(source.files).into(),
                count(source.collections).into(),
                count(source.documents).into(),
            ]);
        }
        table
    })
}

/// A collection of a dump.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Collection {
    namespace: String,
    kind: &'static str,
    documents: u64,
    bytes: u64,
    indexes: Vec<String>,
}

async fn collections(
    record: &SourceRecord,
    path: &str,
    store: &Rclone,
    format: Format,
    out: &mut Output,
) -> Result<(), Problem> {
    let pattern =
        Some(path).filter(|path| !path.is_empty()).map(str::parse::<NamespacePattern>).transpose()?;
    let entries = listing::load(store, record).await?;
    let collections: Vec<Collection> = entries
        .into_iter()
        .map(|entry| Collection {
            namespace: entry.namespace.to_string(),
            kind: entry.kind.as_str(),
            documents: entry.documents,
            bytes: entry.bytes,
            indexes: entry.metadata.indexes.into_iter().map(|index| index.name).collect(),
        })
        .filter(|one| pattern.as_ref().is_none_or(|pattern| pattern.matches(&one.namespace)))
        .collect();
    if collections.is_empty() {
        return Err(anyhow::anyhow!("no collection matches {path:?}").into());
    }
    out.result(format, &collections, |_| {
        let mut table = Table::new(&["NAMESPACE", "KIND", ">DOCUMENTS", ">SIZE", ">INDEXES"]);
        for one in &collections {
            let size = human(one.bytes);
            let indexes = one.indexes.len().to_string();
            table.row([
                one.namespace.clone().into(),
                one.kind.into(),
                count(one.documents).into(),
                size.into(),
                indexes.into(),
            ]);
        }
        table
    })
}

/// Which entries of an index are meant.
struct Wanted {
    /// `./` or `./a/b`, without a slash at its end.
    root: Vec<u8>,
    recursive: bool,
}

impl Wanted {
    fn new(path: &str, recursive: bool) -> Self {
        let root = format!("./{}", path.trim_matches('/')).trim_end_matches('/').as_bytes().to_vec();
        Self { root, recursive }
    }

    /// True for the path itself and what lies in it; deeper only when recursive.
    fn takes(&self, path: &[u8]) -> bool {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        match path.strip_prefix(self.root.as_slice()) {
            Some([]) => true,
            Some([b'/', below @ ..]) => self.recursive || !below.contains(&b'/'),
            _ => false,
        }
    }
}

/// One entry of a volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    modified: String,
    path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    target: String,
}

/// Prints entries as they come: an index may have millions. Gives their number.
async fn files(
    mut reader: IndexReader,
    wanted: &Wanted,
    format: Format,
    out: &mut Output,
) -> Result<u64, Problem> {
    let mut printed = 0;
    while let Some(record) = reader.next_record().await? {
        if !wanted.takes(&record.path) {
            continue;
        }
        let entry = entry(&record);
        match format {
            Format::Table | Format::Wide => out.line(entry.line())?,
            Format::Json | Format::Yaml => {
                let json = serde_json::to_string(&entry).map_err(anyhow::Error::from)?;
                let lead = match (format, printed) {
                    (Format::Yaml, _) => "- ",
                    (_, 0) => "[",
                    _ => ",",
                };
                out.line(format!("{lead}{json}"))?;
            }
        }
        printed += 1;
    }
    if format == Format::Json && printed > 0 {
        out.line("]")?;
    }
    Ok(printed)
}

fn entry(record: &Record) -> Entry {
    let modified = Timestamp::from_second(record.mtime.seconds);
    Entry {
        mode: mode(record),
        uid: record.uid,
        gid: record.gid,
        size: record.size,
        modified: modified.map_or("-".to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        path: match record.path.strip_prefix(b"./").unwrap_or(&record.path) {
            [] => ".".to_owned(),
            path => String::from_utf8_lossy(path).into_owned(),
        },
        target: String::from_utf8_lossy(&record.target).into_owned(),
    }
}

impl Entry {
    fn line(&self) -> String {
        let target =
            if self.target.is_empty() { String::new() } else { format!(" -> {}", printable(&self.target)) };
        format!(
            "{} {:>6} {:>6} {:>12} {} {}{target}",
            self.mode,
            self.uid,
            self.gid,
            self.size,
            self.modified,
            printable(&self.path)
        )
    }
}

/// `drwxr-xr-x`, as everybody's `ls` has it.
fn mode(record: &Record) -> String {
    let kind = match record.kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    for (index, letter) in "rwxrwxrwx".chars().enumerate() {
        let special = [(2, 0o4000, 's'), (5, 0o2000, 's'), (8, 0o1000, 't')]
            .iter()
            .find(|(at, bit, _)| *at == index && record.mode & bit != 0);
        let set = record.mode & (0o400 >> index) != 0;
        text.push(match (special, set) {
            (Some((_, _, letter)), true) => *letter,
            (Some((_, _, letter)), false) => letter.to_ascii_uppercase(),
            (None, true) => letter,
            (None, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_itself_and_what_lies_in_it() {
        let takes =
            |root: &str, recursive: bool, path: &str| Wanted::new(root, recursive).takes(path.as_bytes());
        for (root, recursive, path, expected) in [
            ("", false, "./", true),
            ("", false, "./a/", true),
            ("", false, "./a/b", false),
            ("", true, "./a/b", true),
            ("a", false, "./a/", true),
            ("a/", false, "./a/b", true),
            ("a", false, "./ab", false),
            ("a/b", false, "./a/b", true),
            ("a", false, "./", false),
        ] {
            assert_eq!(takes(root, recursive, path), expected, "{root} {recursive} {path}");
        }
    }
}
