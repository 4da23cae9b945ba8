//! Policies as labels of a service: `backstay.<policy>.<field.path>` → a tree as a document would give it.
//!
//! Fields are named as in a document, in any case. A segment below a list whose items have names selects or makes that
//! item; below a map of free keys the rest of the label is the key, verbatim. A value that starts with `[` or `{` is YAML
//! where a list or a structure is meant; any other value of a plain list is its one item.

use crate::{
    api::{
        check::{nearest, shown},
        schema::Kind,
        tree::{Entry, Node, Value},
        yaml,
    },
    domain::error::Invalid,
};
use serde_json::Value as Schema;
use std::collections::BTreeMap;

/// What every label of ours begins with.
pub const PREFIX: &str = "backstay.";

/// Where a policy's status is mirrored, besides its own object.
const STATUS: &str = "status";

/// A policy as a service's labels declare it.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// Its name as written, in lower case.
    pub name: String,
    /// Its specification.
    pub spec: Node,
    /// The status is to be copied onto the service's labels.
    pub mirrors_status: bool,
    /// Labels that say nothing that can be understood; their fields are whole labels.
    pub errors: Vec<Invalid>,
}

/// The policies that `labels` declare, by name. Labels that are not ours are left out.
pub fn policies<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Labelled> {
    let mut found: BTreeMap<String, Labelled> = BTreeMap::new();
    // Shorter labels first, so that a list as a whole comes before its items.
    let mut own: Vec<(&str, &str)> = labels.into_iter().filter(|(key, _)| is_own(key)).collect();
    own.sort_unstable();
    for (label, text) in own {
        let path = label.get(PREFIX.len()..).unwrap_or_default();
        let (name, path) = path.split_once('.').unwrap_or((path, ""));
        let name = name.to_lowercase();
        let policy = found.entry(name.clone()).or_insert_with(|| Labelled {
            name,
            spec: Node::empty(),
            mirrors_status: false,
            errors: Vec::new(),
        });
        if let Err(message) = policy.take(path, text) {
            policy.errors.push(Invalid { field: label.to_owned(), message });
        }
    }
    found.into_values().collect()
}

/// The label that gives `field` (`volumes[homes].hostPath`) of a policy.
pub fn label_of(policy: &str, field: &str) -> String {
    let path = field.replace('[', ".").replace(']', "");
    if path.is_empty() { format!("{PREFIX}{policy}") } else { format!("{PREFIX}{policy}.{path}") }
}

fn is_own(label: &str) -> bool {
    label.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

impl Labelled {
    fn take(&mut self, path: &str, text: &str) -> Result<(), String> {
        if path.is_empty() {
            return Err(format!(
                "names no field; write {PREFIX}<policy>.<field>, such as {PREFIX}nightly.destination.remote"
            ));
        }
        if path.eq_ignore_ascii_case(STATUS) {
            self.mirrors_status = text.eq_ignore_ascii_case("service");
            return if self.mirrors_status {
                Ok(())
            } else {
                Err(format!("{} is not known; write service, or leave it out", shown(text)))
            };
        }
        place(&mut self.spec, Kind::BackupPolicy.spec_schema(), path, text)
    }
}

/// Puts a value where `path` says, below `node`.
fn place(node: &mut Node, schema: &Schema, path: &str, text: &str) -> Result<(), String> {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    if schema["properties"].is_object() {
        let (name, below) = property(schema, step)?;
        return inner(member(node, name)?, below, rest, text);
    }
    if schema["type"] == "array" {
        if !is_keyed(schema) {
            return Err("is a list without names; give it whole, as YAML: [a, b]".to_owned());
        }
        return inner(item(node, step)?, &schema["items"], rest, text);
    }
    if schema["type"] == "object" {
        // The key may have dots.
        return inner(member(node, path)?, &schema["additionalProperties"], None, text);
    }
    Err(format!("is one value; there is nothing called {} in it", shown(path)))
}

fn inner(node: &mut Node, schema: &Schema, rest: Option<&str>, text: &str) -> Result<(), String> {
    if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
        return place(node, schema, rest, text);
    }
    let value = value(schema, text)?;
    if !is_unset(node) {
        return Err("is given twice".to_owned());
    }
    node.value = value;
    Ok(())
}

/// Nothing was put there; an item of a list has its name from the beginning.
fn is_unset(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Map(entries) => entries.is_empty(),
        _ => false,
    }
}

/// The field of a structure that is called `name` in any case.
fn property<'s>(schema: &'s Schema, name: &str) -> Result<(&'s str, &'s Schema), String> {
    let mut known = schema["properties"].as_object().into_iter().flatten();
    if let Some((name, below)) = known.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Ok((name, below));
    }
    let names = || schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    Err(match nearest(name, names()) {
        Some(near) => format!("there is no field {}; did you mean {near}?", shown(name)),
        None => {
            format!(
                "there is no field {}; known here: {}",
                shown(name),
                names().collect::<Vec<_>>().join(", ")
            )
        }
    })
}

fn is_keyed(schema: &Schema) -> bool {
    schema["x-kubernetes-list-map-keys"].is_array()
}

/// The value of a map's key, made where it is missing.
fn member<'n>(node: &'n mut Node, key: &str) -> Result<&'n mut Node, String> {
    if node.value == Value::Null {
        node.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut node.value else { return Err("is given twice".to_owned()) };
    let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
        let node = Node { line: 0, value: Value::Null };
        entries.push(Entry { key: key.to_owned(), line: 0, node });
        entries.len() - 1
    });
    entries.get_mut(at).map(|entry| &mut entry.node).ok_or_else(String::new)
}

/// The item of a list that is called `name`, made where it is missing.
fn item<'n>(node: &'n mut Node, name: &str) -> Result<&'n mut Node, String> {
    if node.value == Value::Null {
        node.value = Value::List(Vec::new());
    }
    let Value::List(items) = &mut node.value else { return Err("is given twice".to_owned()) };
    let is_meant = |item: &Node| item.get("name").and_then(Node::as_str) == Some(name);
    let at = items.iter().position(is_meant).unwrap_or_else(|| {
        let node = Node { line: 0, value: Value::Text(name.to_owned()) };
        let value = Value::Map(vec![Entry { key: "name".to_owned(), line: 0, node }]);
        items.push(Node { line: 0, value });
        items.len() - 1
    });
    items.get_mut(at).ok_or_else(String::new)
}

/// A label's text as a value of what `schema` describes.
fn value(schema: &Schema, text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    match schema["type"].as_str().unwrap_or_default() {
        "boolean" => match trimmed.to_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(format!("{} is not a boolean; write true or false", shown(text))),
        },
        "integer" => match trimmed.parse() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => Err(format!("{} is not a whole number", shown(text))),
        },
        "array" if trimmed.starts_with('[') => document(trimmed),
        "array" if schema["items"]["type"] == "string" => {
            let item = Node { line: 0, value: Value::Text(text.to_owned()) };
            Ok(Value::List(vec![item]))
        }
        "array" => {
            Err("is a list; write a label below it for each item, or all of it as YAML: [{…}]".to_owned())
        }
        "object" if trimmed.starts_with('{') => document(trimmed),
        "object" => Err(format!(
            "{} is no structure; write a label for each of its fields, or all of it as YAML: {{…}}",
            shown(text)
        )),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

fn document(text: &str) -> Result<Value, String> {
    let mut trees = yaml::read(text).map_err(|error| error.error.message)?;
    match (trees.pop(), trees.is_empty()) {
        (Some(tree), true) => Ok(tree.without_lines().value),
        _ => Err("is not one value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(&str, &str)]) -> Vec<String> {
        let show = |policy: Labelled| {
            let errors: Vec<String> = policy.errors.iter().map(ToString::to_string).collect();
            let mirror = if policy.mirrors_status { " mirrored" } else { "" };
            format!("{}{mirror} {} {errors:?}", policy.name, policy.spec.to_json())
        };
        policies(labels.iter().copied()).into_iter().map(show).collect()
    }

    #[test]
    fn labels_become_the_tree_that_a_document_gives() {
        let found = read(&[
            ("com.docker.stack.namespace", "wt"),
            ("backstay.nightly.mongodb.uri", "mongodb://wt_mongo1/?replicaSet=rs1"),
            ("backstay.nightly.volumes.homes.hostPath", "/mnt/homes"),
            ("backstay.nightly.volumes.homes.nodeSelector.storage", "1"),
            ("backstay.nightly.volumes.homes.nodeSelector.node.role", "worker"),
            ("backstay.nightly.volumes.homes.exclude", "[\"*.tmp\", .cache]"),
            ("backstay.nightly.volumes.acme.volumeName", "acme"),
            ("backstay.nightly.volumes.acme.include", "acme.json"),
            ("backstay.nightly.destination.remote", "box"),
            ("Backstay.Nightly.Destination.PARTSIZEMIB", "8"),
            ("backstay.nightly.retention", "{keepDaily: 7}"),
            ("backstay.nightly.suspend", "True"),
            ("backstay.nightly.status", "service"),
            ("backstay.hourly.schedule", "@hourly"),
        ]);
        insta::assert_snapshot!(found.join("\n"), @r#"
        hourly {"schedule":"@hourly"} []
        nightly mirrored {"destination":{"partSizeMiB":8,"remote":"box"},"mongodb":{"uri":"mongodb://wt_mongo1/?replicaSet=rs1"},"retention":{"keepDaily":7},"suspend":true,"volumes":[{"name":"acme","include":["acme.json"],"volumeName":"acme"},{"name":"homes","exclude":["*.tmp",".cache"],"hostPath":"/mnt/homes","nodeSelector":{"node.role":"worker","storage":"1"}}]} []
        "#);
    }

    #[test]
    fn what_cannot_be_understood_is_told_by_its_label() {
        let found = read(&[
            ("backstay.enable", "true"),
            ("backstay.n.destinaton.remote", "box"),
            ("backstay.n.suspend", "yes"),
            ("backstay.n.schedule.x", "1"),
            ("backstay.n.volumes", "homes"),
            ("backstay.n.retention.keepLast", "many"),
            ("backstay.n.retention.keepDaily", "1"),
            ("backstay.n.Retention.KeepDaily", "2"),
            ("backstay.n.mongodb", "{uri: x"),
            ("backstay.n.status", "label"),
            ("backstay.n.task.tolerations.x", "y"),
        ]);
        insta::assert_snapshot!(found.join("\n"));
    }

    #[test]
    fn fields_have_their_labels() {
        for (field, label) in [
            ("", "backstay.n"),
            ("instance", "backstay.n.instance"),
            ("volumes[homes].hostPath", "backstay.n.volumes.homes.hostPath"),
            ("mongodb.include[0]", "backstay.n.mongodb.include.0"),
        ] {
            assert_eq!(label_of("n", field), label);
        }
    }
}
