//! The controller's defaults below a policy: what the policy does not say is taken from them.

use crate::api::tree::{Entry, Node, Value};

/// Fields of which only one may be given: a policy that gives one does not inherit another.
const ALTERNATIVES: &[&[&str]] =
    &[&["uri", "uriFrom"], &["secretKeyRef", "file", "directory"], &["uriFrom", "image"]];

/// Sections that defaults only complete: a policy has a database because it says so.
const ONLY_WHERE_GIVEN: &[&str] = &["mongodb", "verify", "restoreFrom"];

/// `spec` with `defaults` below it. Structures merge field by field; a list or a map of free keys is taken as a whole
/// from the policy, if it gives one.
pub fn merge(spec: &Node, defaults: &Node) -> Node {
    let given = |name: &str| spec.entries().iter().any(|entry| entry.key == name);
    let kept = defaults
        .entries()
        .iter()
        .filter(|entry| given(&entry.key) || !ONLY_WHERE_GIVEN.contains(&entry.key.as_str()));
    let defaults = Node { line: 0, value: Value::Map(kept.cloned().collect()) };
    below(spec, &defaults)
}

fn below(own: &Node, defaults: &Node) -> Node {
    let Value::Map(own_entries) = &own.value else { return own.clone() };
    let mut entries = own_entries.clone();
    for default in defaults.entries() {
        match entries.iter_mut().find(|entry| entry.key == default.key) {
            Some(entry) if !is_free_map(&entry.key) => entry.node = inherited(&entry.node, &default.node),
            Some(_) => {}
            None if has_alternative(own_entries, &default.key) => {}
            None => entries.push(Entry {
                node: default.node.clone().without_lines(),
                line: 0,
                key: default.key.clone(),
            }),
        }
    }
    Node { line: own.line, value: Value::Map(entries) }
}

/// A field that is written but empty (`mongodb:`) inherits everything.
fn inherited(own: &Node, default: &Node) -> Node {
    match own.value {
        Value::Null => Node { line: own.line, value: default.clone().without_lines().value },
        _ => below(own, default),
    }
}

fn is_free_map(name: &str) -> bool {
    matches!(name, "nodeSelector" | "requests" | "limits" | "securityContext")
}

fn has_alternative(entries: &[Entry], name: &str) -> bool {
    let groups = ALTERNATIVES.iter().filter(|group| group.contains(&name));
    groups.flat_map(|group| group.iter()).any(|other| entries.iter().any(|entry| entry.key == *other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::yaml;

    fn merged(spec: &str, defaults: &str) -> String {
        let tree = |text: &str| yaml::read(text).unwrap().pop().unwrap_or(Node::empty());
        merge(&tree(spec), &tree(defaults)).to_json().to_string()
    }

    #[test]
    fn a_policy_goes_before_the_defaults() {
        for (spec, defaults, expected) in [
            ("{a: 1}", "{a: 2, b: 3}", r#"{"a":1,"b":3}"#),
            ("{d: {path: x}}", "{d: {path: y, remote: z}}", r#"{"d":{"path":"x","remote":"z"}}"#),
            ("{volumes: [1]}", "{volumes: [2, 3]}", r#"{"volumes":[1]}"#),
            ("{c: {file: /x}}", "{c: {directory: /y}}", r#"{"c":{"file":"/x"}}"#),
            ("{nodeSelector: {a: b}}", "{nodeSelector: {c: d}}", r#"{"nodeSelector":{"a":"b"}}"#),
            // Defaults make no database where the policy has none, and complete it where it is only named.
            ("{a: 1}", "{mongodb: {uri: x}}", r#"{"a":1}"#),
            ("mongodb:", "{mongodb: {uri: x}}", r#"{"mongodb":{"uri":"x"}}"#),
            (
                "{mongodb: {uri: y}}",
                "{mongodb: {uriFrom: x, member: z}}",
                r#"{"mongodb":{"uri":"y","member":"z"}}"#,
            ),
        ] {
            assert_eq!(merged(spec, defaults), expected, "{spec} over {defaults}");
        }
    }
}
