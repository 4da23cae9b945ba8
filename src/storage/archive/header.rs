//! The small documents of an archive: the prelude's and the blocks' headers.

use crate::storage::archive::{contents::Kind, namespace::Namespace};
use mongodb::bson::{RawDocument, RawDocumentBuf, raw::RawBsonRef, rawdoc};
use serde_json::Value;

/// Checks the prelude's header; gives the versions of server and tool.
pub(super) fn prelude(document: &RawDocument) -> Result<(String, String), String> {
    let text = |key| document.get_str(key).map_err(|e| format!("the prelude has no {key}: {e}"));
    let version = text("version")?;
    if version != "0.1" {
        return Err(format!("the archive has format {version:?}, and only 0.1 is known"));
    }
    document.get_i32("concurrent_collections").map_err(|e| format!("the prelude: {e}"))?;
    Ok((text("server_version")?.to_owned(), text("tool_version")?.to_owned()))
}

/// One namespace of the prelude.
pub(super) struct Collection<'a> {
    pub(super) namespace: Namespace,
    pub(super) metadata: &'a str,
    pub(super) kind: Kind,
}

/// Reads one namespace of the prelude.
pub(super) fn collection(document: &RawDocument) -> Result<Collection<'_>, String> {
    let text = |key| document.get_str(key).map_err(|e| format!("a namespace without {key}: {e}"));
    // Archives of old versions have no type.
    let kind = document.get_str("type").unwrap_or_default();
    Ok(Collection {
        namespace: Namespace::new(text("db")?, text("collection")?),
        metadata: text("metadata")?,
        kind: Kind::parse(kind).ok_or_else(|| format!("a namespace of the unknown type {kind:?}"))?,
    })
}

/// The prelude's document for a namespace under its new name. `source` gives a new name for what a view reads.
pub(super) fn rename(
    document: &RawDocument,
    target: &Namespace,
    source: impl Fn(&str) -> Option<String>,
) -> Result<RawDocumentBuf, String> {
    let mut new = RawDocumentBuf::new();
    for field in document {
        let (key, value) = field.map_err(|e| format!("malformed BSON: {e}"))?;
        match (key.as_str(), value) {
            ("db", _) => new.append(key, target.database.as_str()),
            ("collection", _) => new.append(key, target.collection.as_str()),
            ("metadata", RawBsonRef::String(text)) if !text.is_empty() => {
                new.append(key, rename_metadata(text, target, &source)?);
            }
            (_, value) => new.append(key, value),
        }
    }
    Ok(new)
}

fn rename_metadata(
    text: &str,
    target: &Namespace,
    source: impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut value: Value =
        serde_json::from_str(text).map_err(|e| format!("the metadata is not JSON: {e}"))?;
    if let Some(name) = value.get_mut("collectionName") {
        *name = target.collection.clone().into();
    }
    if let Some(view_on) = value.pointer_mut("/options/viewOn")
        && let Some(new) = view_on.as_str().and_then(source)
    {
        *view_on = new.into();
    }
    for index in value.get_mut("indexes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(ns) = index.get_mut("ns") {
            *ns = target.to_string().into();
        }
    }
    Ok(value.to_string())
}

/// What a block begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) namespace: Namespace,
    /// The namespace ends here; the block has no documents.
    pub(super) eof: bool,
    /// Of all its documents, when it ends; else 0.
    pub(super) crc: u64,
}

impl BlockHeader {
    pub(super) fn parse(document: &RawDocument) -> Result<Self, String> {
        let (mut database, mut collection, mut eof, mut crc) = (None, None, None, None);
        for field in document {
            let (key, value) = field.map_err(|e| format!("malformed BSON in a block's header: {e}"))?;
            match (key.as_str(), value) {
                ("db", RawBsonRef::String(text)) => database = Some(text),
                ("collection", RawBsonRef::String(text)) => collection = Some(text),
                ("EOF", RawBsonRef::Boolean(flag)) => eof = Some(flag),
                ("CRC", RawBsonRef::Int64(sum)) => crc = Some(sum),
                (key, _) => return Err(format!("a block's header with an unexpected {key:?}")),
            }
        }
        let (Some(database), Some(collection), Some(eof), Some(crc)) = (database, collection, eof, crc)
        else {
            return Err("a block's header that is not complete".to_owned());
        };
        Ok(Self { namespace: Namespace::new(database, collection), eof, crc: crc.cast_unsigned() })
    }

    pub(super) fn to_document(&self) -> RawDocumentBuf {
        let Namespace { database, collection } = &self.namespace;
        rawdoc! {
            "db": database.as_str(),
            "collection": collection.as_str(),
            "EOF": self.eof,
            "CRC": self.crc.cast_signed(),
        }
    }
}
