//! `RESTORE.txt`: how to get a snapshot back with rclone, zstd, tar and mongorestore alone.
//!
//! Lines that begin with four spaces are commands for bash or zsh, to be run in order; a test follows them literally. The
//! text depends on nothing but the records, so that attempts which commit the same write the same.

use crate::{
    domain::{
        location::Location,
        names::{InstanceName, SnapshotName},
    },
    storage::{
        document, layout,
        manifest::{PackRef, SourceKind, SourceRecord},
    },
};
use std::fmt::Write as _;

/// The text for `snapshot` of what `records` name.
pub fn restore_text(
    destination: &Location,
    instance: &InstanceName,
    snapshot: &SnapshotName,
    records: &[SourceRecord],
) -> String {
    let root = format!("{}:{}", destination.remote, destination.instance_path(instance));
    let directory = layout::directory(snapshot);
    let mut text = HEAD
        .replace("@SNAPSHOT@", &snapshot.to_string())
        .replace("@INSTANCE@", instance.as_str())
        .replace("@REMOTE@", destination.remote.as_str())
        .replace("@ROOT@", &shell_quote(&root))
        .replace("@DIRECTORY@", &directory);
    for record in records {
        let section = match record.kind {
            SourceKind::Files => volume(record),
            SourceKind::Mongodb => database(record),
        };
        text.push_str(&section);
    }
    let lists: Vec<_> = records.iter().flat_map(|record| &record.packs).map(lists_of).collect();
    text.push_str(&CHECK.replace("@LISTS@", &lists.join(" ")));
    document::seal_text(text)
}

const HEAD: &str = "\
How to restore this snapshot without Backstay

Snapshot  @SNAPSHOT@
Instance  @INSTANCE@

You need rclone with a configuration that has the remote \"@REMOTE@\", zstd and GNU tar; for a database also mongorestore.
Lines that begin with four spaces are commands for bash or zsh. Run them in order, in a directory with enough space.

R is the instance's folder. If the remote has another name now, or the folder was moved or copied, change R and nothing
else: every other name is relative to it. rclone reads ~/.config/rclone/rclone.conf, or the file that RCLONE_CONFIG names.

    set -e -o pipefail
    R=@ROOT@
    D=@DIRECTORY@
    list() { for l in \"$@\"; do rclone cat \"$R/$D/$l\" | grep -v '^#'; done; }
    stream() { list \"$@\" | cut -f1 | while read -r o; do rclone cat \"$R/$D/$o\" </dev/null; done; }
";

const CHECK: &str = "
== Checking (optional) ==

Every part's BLAKE3 is in the lists. With b3sum this reads all of them once and names those that are damaged; take away
the \"# \" to use it:

    # list @LISTS@ | cut -f1,5 | while read -r o b; do
    #   [ \"$(rclone cat \"$R/$D/$o\" </dev/null | b3sum --no-names)\" = \"$b\" ] || echo \"damaged: $o\"
    # done
";

fn volume(record: &SourceRecord) -> String {
    let name = &record.source;
    let mut text = format!(
        "
== Volume {name}: {} files, {} bytes ==

Into a new directory; run it as root to get the owners back. For a part of it, put its paths at the end of the tar
command, such as ./alice/Documents. Where the file system has no ACLs or no extended attributes, leave out the option.

    mkdir -p restored/{name}
",
        record.counts.files, record.counts.bytes
    );
    for pack in &record.packs {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "    stream {} | zstd -dc | tar -C restored/{name} -xp --numeric-owner --acls --xattrs --xattrs-include='*'",
            lists_of(pack)
        );
    }
    text
}

fn database(record: &SourceRecord) -> String {
    let oplog = record.dump.as_ref().is_some_and(|dump| dump.oplog.is_some());
    let (replay, note) = if oplog {
        (
            " --oplogReplay",
            "The oplog in the archive makes it one moment: --oplogReplay applies it, which needs the roles restore and\n\
             readWriteAnyDatabase (or root). mongorestore cannot combine it with a choice of databases or with renaming:\n\
             for that, leave it out and add --nsInclude='girder.*', --nsFrom and --nsTo; the moment is then less exact.\n",
        )
    } else {
        ("", "For a part of it add --nsInclude='girder.*'; --nsFrom and --nsTo rename.\n")
    };
    let server = record.dump.as_ref().map_or("", |dump| dump.server_version.as_str());
    let mut text = format!(
        "
== MongoDB: {} collections, {} documents, {} bytes, from a server of version {server} ==

Into an empty deployment. mongodb.yaml is a file of your own with one line, so that no password shows in a list of
processes:  uri: mongodb://USER:PASSWORD@HOST/?retryWrites=true
{note}
",
        record.counts.files, record.counts.new, record.counts.bytes
    );
    for pack in &record.packs {
        let _ = writeln!(
            text,
            "    stream {} | zstd -dc | mongorestore --config=mongodb.yaml --archive{replay} --stopOnError",
            lists_of(pack)
        );
    }
    text
}

fn lists_of(pack: &PackRef) -> String {
    let names: Vec<_> = pack.part_lists.iter().map(|list| list.name.as_str()).collect();
    names.join(" ")
}

/// Remotes and paths may hold spaces and quotes.
fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
