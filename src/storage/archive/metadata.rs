//! Options and indexes of a collection in one form, whether they come from an archive or from a server.
//!
//! An archive has them as canonical extended JSON, a server as BSON. What is compared is a canonical text: keys of an
//! index keep their order (it is meaning), other keys are sorted, and numbers lose their type.

use mongodb::bson::Document;
use serde_json::Value;

/// An index: its name and the checksum of its definition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexSummary {
    /// The name.
    pub name: String,
    /// 16 hex digits over the definition.
    pub hash: String,
}

/// What a collection is besides its documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// 16 hex digits over the options; empty for none.
    pub options: String,
    /// The indexes, by name.
    pub indexes: Vec<IndexSummary>,
    /// The collection's UUID, hex; empty where there is none.
    pub uuid: String,
}

impl Metadata {
    /// Reads the metadata text of an archive; an empty one is that of a namespace without options and indexes.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_archive(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let value: Value =
            serde_json::from_str(text).map_err(|e| format!("the metadata is not JSON: {e}"))?;
        let indexes = value.get("indexes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(Self::new(
            value.get("options").unwrap_or(&Value::Null),
            indexes,
            value.get("uuid").and_then(Value::as_str).unwrap_or_default(),
        ))
    }

    /// From the answers of `listCollections` and `listIndexes`.
    pub fn from_server(options: &Document, indexes: &[Document], uuid: &str) -> Self {
        // Every BSON value has an extended JSON form: serialization of a document that a server sent does not fail.
        let json = |document: &Document| serde_json::to_value(document).unwrap_or(Value::Null);
        let indexes: Vec<Value> = indexes.iter().map(json).collect();
        Self::new(&json(options), &indexes, uuid)
    }

    fn new(options: &Value, indexes: &[Value], uuid: &str) -> Self {
        let mut indexes: Vec<_> = indexes.iter().map(summary).collect();
        indexes.sort();
        let empty = options.as_object().is_none_or(serde_json::Map::is_empty);
        let options = if empty { String::new() } else { hash(&canonical(options, false)) };
        Self { options, indexes, uuid: uuid.to_owned() }
    }
}

fn summary(index: &Value) -> IndexSummary {
    let mut index = index.clone();
    let name = index.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(map) = index.as_object_mut() {
        // The namespace is gone since 4.4, and `background` has no meaning since 4.2: restoring drops them.
        for key in ["ns", "background", "name"] {
            map.remove(key);
        }
    }
    IndexSummary { name, hash: hash(&canonical(&index, false)) }
}

/// Checksum of a canonical text, 16 hex digits.
fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().chars().take(16).collect()
}

/// Writes `value` with sorted keys (below `ordered`: in their order) and numbers without their type.
fn canonical(value: &Value, ordered: bool) -> String {
    match value {
        Value::Object(map) => {
            if let Some(number) = number(map) {
                return number;
            }
            let mut entries: Vec<_> = map.iter().collect();
            if !ordered {
                entries.sort_by_key(|(key, _)| *key);
            }
            // The order of an index's keys, of a view's stages and of what they hold is meaning.
            let inner = |key: &str| ordered || matches!(key, "key" | "weights" | "pipeline");
            let text: Vec<_> =
                entries.iter().map(|(key, v)| format!("{key:?}:{}", canonical(v, inner(key)))).collect();
            format!("{{{}}}", text.join(","))
        }
        Value::Array(list) => {
            let text: Vec<_> = list.iter().map(|v| canonical(v, ordered)).collect();
            format!("[{}]", text.join(","))
        }
        Value::Number(n) => n.as_f64().map_or_else(|| n.to_string(), |n| n.to_string()),
        Value::Bool(_) | Value::Null | Value::String(_) => value.to_string(),
    }
}

/// The number in `{"$numberInt": "1"}` and its like.
fn number(map: &serde_json::Map<String, Value>) -> Option<String> {
    let (key, value) = map.iter().next().filter(|_| map.len() == 1)?;
    if !matches!(key.as_str(), "$numberInt" | "$numberLong" | "$numberDouble") {
        return None;
    }
    let text = value.as_str()?;
    Some(text.parse::<f64>().map_or_else(|_| text.to_owned(), |n| n.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    #[test]
    fn archive_and_server_agree() {
        let archive = r#"{"options":{"capped":true,"size":{"$numberInt":"4096"}},"uuid":"00ff",
            "indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},
                       {"v":{"$numberInt":"2"},"key":{"b":{"$numberDouble":"1.0"},"a":{"$numberInt":"-1"}},"name":"b_1_a_-1",
                        "ns":"x.y","background":true,"expireAfterSeconds":{"$numberLong":"60"}}]}"#;
        let server = Metadata::from_server(
            &doc! {"size": 4096i64, "capped": true},
            &[
                doc! {"v": 2, "key": {"b": 1, "a": -1}, "name": "b_1_a_-1", "expireAfterSeconds": 60},
                doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"},
            ],
            "00ff",
        );
        assert_eq!(Metadata::from_archive(archive).unwrap(), server);
    }

    #[test]
    fn what_differs_differs() {
        let of = |index: Document| Metadata::from_server(&doc! {}, &[index], "").indexes.remove(0).hash;
        let base = of(doc! {"key": {"a": 1, "b": 1}, "name": "x"});
        assert_ne!(base, of(doc! {"key": {"b": 1, "a": 1}, "name": "x"}));
        assert_ne!(base, of(doc! {"key": {"a": 1, "b": -1}, "name": "x"}));
        assert_ne!(base, of(doc! {"key": {"a": 1, "b": 1}, "name": "x", "unique": true}));
        assert_eq!(base, of(doc! {"name": "y", "key": {"a": 1, "b": 1}}));
        assert!(Metadata::from_archive("{").is_err());
    }
}
