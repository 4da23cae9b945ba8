//! The schemas of the resources, derived from their types and brought into the one form that everything else reads.
//!
//! The form is what a Kubernetes custom resource definition allows, plus `additionalProperties: false` where unknown
//! fields are errors: no references, one type each, enums as lists, and a limit on every text, list, map and number.

use crate::api::{backup::BackupSpec, policy::BackupPolicySpec, restore::RestoreSpec};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Longest text where the type does not say.
const TEXT: u64 = 1024;
/// Most keys of a map where the type does not say.
const KEYS: u64 = 64;

/// What a document can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// [`BackupPolicySpec`]
    BackupPolicy,
    /// [`BackupSpec`]
    Backup,
    /// [`RestoreSpec`]
    Restore,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::BackupPolicy, Self::Backup, Self::Restore];

    /// The value of `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackupPolicy => "BackupPolicy",
            Self::Backup => "Backup",
            Self::Restore => "Restore",
        }
    }

    /// The schema of its `spec`.
    pub fn spec_schema(self) -> &'static Value {
        static POLICY: LazyLock<Value> = LazyLock::new(of::<BackupPolicySpec>);
        static BACKUP: LazyLock<Value> = LazyLock::new(of::<BackupSpec>);
        static RESTORE: LazyLock<Value> = LazyLock::new(of::<RestoreSpec>);
        match self {
            Self::BackupPolicy => &POLICY,
            Self::Backup => &BACKUP,
            Self::Restore => &RESTORE,
        }
    }
}

fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    plain(settings.into_generator().into_root_schema_for::<T>().to_value())
}

/// One schema in the form of this module.
fn plain(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return json!({}) };
    for noise in ["$schema", "title", "format", "default"] {
        schema.remove(noise);
    }
    let mut schema = enumerated(unwrapped(schema));
    if let Some(Value::Array(types)) = schema.get("type") {
        // An optional field: nothing is the same as absent.
        let one = types.iter().find(|name| *name != "null").cloned().unwrap_or(Value::Null);
        schema.insert("type".to_owned(), one);
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut() {
            *property = plain(property.take());
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(below @ Value::Object(_)) = schema.get_mut(inner) {
            *below = plain(below.take());
        }
    }
    bounded(&mut schema);
    Value::Object(schema)
}

/// `anyOf [X, null]` is X; what stands beside it (the field's own description) goes before what X says.
fn unwrapped(mut schema: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Array(choices)) = schema.remove("anyOf") else { return schema };
    let inner = choices.into_iter().find(|choice| choice.get("type") != Some(&json!("null")));
    let Some(Value::Object(mut inner)) = inner else { return schema };
    inner.extend(schema);
    inner
}

/// `oneOf` constants is an enum; what each constant means is kept in `x-values`, in the same order.
fn enumerated(mut schema: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Array(choices)) = schema.remove("oneOf") else { return schema };
    let names: Vec<Value> = choices.iter().filter_map(|choice| choice.get("const").cloned()).collect();
    let meanings: Vec<Value> =
        choices.iter().map(|choice| choice.get("description").cloned().unwrap_or_default()).collect();
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), Value::Array(names));
    schema.insert("x-values".to_owned(), Value::Array(meanings));
    schema
}

fn bounded(schema: &mut Map<String, Value>) {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    let (name, limit) = match kind {
        "string" if !schema.contains_key("enum") => ("maxLength", TEXT),
        "object" if !schema.contains_key("properties") => ("maxProperties", KEYS),
        _ => return,
    };
    schema.entry(name).or_insert_with(|| json!(limit));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        if schema["items"].is_object() {
            walk(&format!("{path}[]"), &schema["items"], visit);
        }
        if schema["additionalProperties"].is_object() {
            walk(&format!("{path}.*"), &schema["additionalProperties"], visit);
        }
    }

    #[test]
    fn everything_is_bounded_described_and_of_one_type() {
        for kind in Kind::ALL {
            walk(kind.as_str(), kind.spec_schema(), &mut |path, schema| {
                let kind = schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no type: {schema}"));
                let bounds: &[&str] = match kind {
                    "string" if schema["enum"].is_array() => &[],
                    "string" => &["maxLength"],
                    "integer" => &["minimum", "maximum"],
                    "array" => &["maxItems"],
                    "object" if schema["properties"].is_object() => {
                        assert_eq!(
                            schema["additionalProperties"],
                            json!(false),
                            "{path} takes unknown fields"
                        );
                        &[]
                    }
                    "object" => &["maxProperties"],
                    "boolean" => &[],
                    other => panic!("{path} is {other}"),
                };
                for bound in bounds {
                    assert!(schema[bound].is_number(), "{path} has no {bound}");
                }
                if !path.ends_with("[]") && !path.ends_with(".*") {
                    assert!(schema["description"].is_string(), "{path} is not described");
                }
                for word in ["anyOf", "oneOf", "$ref", "$defs", "allOf"] {
                    assert!(schema.get(word).is_none(), "{path} has {word}");
                }
            });
        }
    }
}
