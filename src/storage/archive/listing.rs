//! The list of an archive's namespaces as it is stored beside it: the index of a dump.
//!
//! ```text
//! #backstay-index 1 ⇥ source ⇥ snapshot ⇥ attempt
//! #pack ⇥ 0 ⇥ pack id
//! kind ⇥ documents ⇥ bytes ⇥ crc ⇥ digest ⇥ flags ⇥ uuid ⇥ options ⇥ indexes ⇥ namespace
//! #end ⇥ records ⇥ document bytes ⇥ BLAKE3 of everything before
//! ```
//!
//! `crc` and `digest` as in [`Entry`], hex · flags: `o` changed by the archive's oplog · `options`: checksum, empty for
//! none · `indexes`: `name=checksum`, joined by `,` · names escaped as in the index of a volume.

use crate::{
    domain::verdict::Failure,
    storage::{
        archive::{
            contents::{Entry, Kind},
            metadata::{IndexSummary, Metadata},
            namespace::Namespace,
        },
        index::{
            codec::{escape, unescape},
            objects::{LineWriter, fetch},
        },
        layout::PackId,
        manifest::{IndexObjects, SourceRecord},
        store::ObjectStore,
    },
};
use std::{fmt::Write as _, sync::Arc};

/// Stores the kept namespaces of an archive as `<prefix>.index.zst.<NNN>`.
///
/// # Errors
/// The failure of an upload.
pub async fn store(
    store: Arc<dyn ObjectStore>,
    pack: &PackId,
    entries: &[Entry],
) -> Result<IndexObjects, Failure> {
    let kept: Vec<String> = entries.iter().filter_map(line).collect();
    let bytes: u64 = entries.iter().filter(|e| e.target.is_some()).map(|e| e.bytes).sum();
    let name = format!("{}.index.zst", pack.prefix);
    let head = format!(
        "#backstay-index 1\t{}\t{}\t{}\n#pack\t0\t{pack}\n",
        pack.prefix.source, pack.snapshot, pack.prefix.attempt
    );
    let directory = pack.directory();
    let write = move || {
        let mut lines = LineWriter::start(store, &directory, &name);
        for line in std::iter::once(&head).chain(&kept) {
            lines.append(line.as_bytes())?;
        }
        let hash = lines.hash();
        lines.append(format!("#end\t{}\t{bytes}\t{hash}\n", kept.len()).as_bytes())?;
        Ok(IndexObjects { objects: lines.finish()?, records: kept.len() as u64 })
    };
    tokio::task::spawn_blocking(write)
        .await
        .map_err(|_| Failure::temporary("Interrupted", "writing the list of namespaces was stopped"))?
}

/// Reads the namespaces of a dump; `target` is their name in the archive.
///
/// # Errors
/// An object that is missing or damaged, by name.
pub async fn load(store: &dyn ObjectStore, record: &SourceRecord) -> Result<Vec<Entry>, Failure> {
    let damaged =
        |what: String| Failure::permanent("IndexDamaged", format!("the list of namespaces: {what}"));
    let pack = record.packs.first().ok_or_else(|| damaged("there is no pack".to_owned()))?;
    let pack: PackId = pack.id.parse().map_err(|e| damaged(format!("{e}")))?;
    let mut text = Vec::new();
    for object in &record.index.objects {
        text.extend(fetch(store, &pack.directory(), object).await?);
    }
    parse(&text).map_err(damaged)
}

fn escaped(text: &str) -> String {
    let mut out = Vec::new();
    escape(&mut out, text.as_bytes());
    // `,` and `=` part the indexes; the escapes of `escape` hold neither.
    String::from_utf8_lossy(&out).replace(',', "\\054").replace('=', "\\075")
}

/// The line of an entry; `None` when it was left out.
fn line(entry: &Entry) -> Option<String> {
    let Entry { target, kind, documents, bytes, crc, digest, metadata, touched, namespace: _ } = entry;
    let mut line = format!("{}\t{documents}\t{bytes}\t{crc:016x}\t{digest:016x}\t", kind.as_str());
    line.push_str(if *touched { "o" } else { "" });
    let indexes: Vec<_> =
        metadata.indexes.iter().map(|i| format!("{}={}", escaped(&i.name), i.hash)).collect();
    let name = escaped(&target.as_ref()?.to_string());
    let _ = writeln!(line, "\t{}\t{}\t{}\t{name}", metadata.uuid, metadata.options, indexes.join(","));
    Some(line)
}

fn parse(text: &[u8]) -> Result<Vec<Entry>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no text")?;
    let (body, end) =
        text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')).ok_or("it ends in the middle")?;
    let entries: Vec<Entry> = body
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(entry)
        .collect::<Option<_>>()
        .ok_or("a line is malformed")?;
    let hash = blake3::hash(&text.as_bytes()[..=body.len()]).to_hex();
    let fields: Vec<_> = end.split('\t').collect();
    match fields[..] {
        ["#end", records, _, sum] if sum == hash.as_str() && records == entries.len().to_string() => {
            Ok(entries)
        }
        _ => Err("its last line does not fit".to_owned()),
    }
}

fn entry(line: &str) -> Option<Entry> {
    let fields: Vec<_> = line.split('\t').collect();
    let [kind, documents, bytes, crc, digest, flags, uuid, options, indexes, name] = fields[..] else {
        return None;
    };
    let plain = |text: &str| String::from_utf8(unescape(text.as_bytes())?).ok();
    let index = |text: &str| {
        let (name, hash) = text.split_once('=')?;
        Some(IndexSummary { name: plain(name)?, hash: hash.to_owned() })
    };
    let indexes = indexes.split(',').filter(|text| !text.is_empty()).map(index).collect::<Option<_>>()?;
    let namespace = Namespace::split(&plain(name)?)?;
    Some(Entry {
        target: Some(namespace.clone()),
        namespace,
        kind: Kind::parse(kind)?,
        documents: documents.parse().ok()?,
        bytes: bytes.parse().ok()?,
        crc: u64::from_str_radix(crc, 16).ok()?,
        digest: u64::from_str_radix(digest, 16).ok()?,
        metadata: Metadata { options: options.to_owned(), indexes, uuid: uuid.to_owned() },
        touched: flags.contains('o'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd() -> Entry {
        let mut entry = Entry::new(Namespace::new("a", "old"), Some(Namespace::new("a", "b.c\t,=\\\n ü")));
        entry.metadata.indexes = vec![IndexSummary { name: "x=1,y\t".into(), hash: "0f".into() }];
        entry.metadata.uuid = "ab".into();
        (entry.documents, entry.bytes, entry.crc, entry.digest) = (3, 99, u64::MAX, 7);
        entry.touched = true;
        entry
    }

    fn text(entries: &[Entry]) -> String {
        let lines: String = entries.iter().filter_map(line).collect();
        let body = format!("#backstay-index 1\tmongodb\ts\ta\n#pack\t0\tp\n{lines}");
        format!("{body}#end\t{}\t0\t{}\n", lines.lines().count(), blake3::hash(body.as_bytes()).to_hex())
    }

    #[test]
    fn odd_names_come_back_and_what_was_left_out_does_not() {
        let left_out = Entry::new(Namespace::new("x", "y"), None);
        let mut expected = odd();
        expected.namespace = expected.target.clone().unwrap();
        let mut view = Entry::new(Namespace::new("a", "v"), Some(Namespace::new("a", "v")));
        view.kind = Kind::View;
        assert_eq!(parse(text(&[odd(), left_out, view.clone()]).as_bytes()).unwrap(), [expected, view]);
    }

    #[test]
    fn every_cut_and_change_is_found() {
        let text = text(&[odd()]).into_bytes();
        for at in 0..text.len() {
            assert!(parse(&text[..at]).is_err(), "cut at {at}");
            let mut changed = text.clone();
            changed[at] ^= 1;
            // The total of bytes is for people.
            let total = text.len() - 67..text.len() - 65;
            assert!(parse(&changed).is_err() || total.contains(&at), "changed at {at}");
        }
    }
}
