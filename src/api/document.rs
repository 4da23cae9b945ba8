//! One document of a text: which resource it is, and its specification as a typed value.

use crate::{
    api::{
        API_VERSION,
        check::{check, nearest, shown},
        merge::merge,
        schema::Kind,
        tree::{Node, Value},
        yaml::{self, Located},
    },
    domain::error::Invalid,
};
use serde::de::DeserializeOwned;

/// A document whose envelope is right; its specification is checked when it is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it is.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// Line on which the document begins.
    pub line: u64,
    /// Line on which its name stands.
    pub name_line: u64,
    spec: Node,
}

/// A document that cannot be taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// `metadata.name`, where it could be read.
    pub name: Option<String>,
    /// Everything that is wrong with it; at least one.
    pub errors: Vec<Located>,
}

/// A partial policy that lies below every policy of a controller.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults(Node);

impl Default for Defaults {
    fn default() -> Self {
        Self(Node::empty())
    }
}

impl Defaults {
    /// The same values have the same text.
    pub fn to_text(&self) -> String {
        self.0.to_json().to_string()
    }

    /// The orchestrator's secrets that are named, by name; and the files and directories with secrets.
    pub fn secrets(&self) -> (Vec<String>, Vec<String>) {
        let (mut secrets, mut paths) = (Vec::new(), Vec::new());
        name_secrets(&self.0, &mut secrets, &mut paths);
        (secrets, paths)
    }

    /// Reads the fields of a specification, without an envelope.
    ///
    /// # Errors
    /// Everything that is wrong. A field that a policy must have may be missing; `volumes` is refused.
    pub fn read(text: &str) -> Result<Self, Vec<Located>> {
        let mut trees = yaml::read(text).map_err(|error| vec![error])?;
        if trees.len() > 1 {
            return Err(vec![Located {
                line: trees[1].line,
                error: Invalid::new("defaults are one document"),
            }]);
        }
        let tree = trees.pop().unwrap_or_else(Node::empty);
        let mut errors = check(&tree, Kind::BackupPolicy.spec_schema(), "");
        errors.retain(|error| !error.message.starts_with("is missing"));
        if tree.get("volumes").is_some() {
            let message = "cannot be a default: every policy names its own volumes";
            errors.push(Invalid { field: "volumes".to_owned(), message: message.to_owned() });
        }
        if errors.is_empty() { Ok(Self(tree)) } else { Err(locate(&tree, errors)) }
    }
}

fn name_secrets(node: &Node, secrets: &mut Vec<String>, paths: &mut Vec<String>) {
    for entry in node.entries() {
        match (entry.key.as_str(), entry.node.as_str()) {
            ("file" | "directory", Some(path)) => paths.push(path.to_owned()),
            ("secretKeyRef", _) => {
                secrets.extend(entry.node.get("name").and_then(Node::as_str).map(str::to_owned));
            }
            _ => name_secrets(&entry.node, secrets, paths),
        }
    }
}

/// The documents of a text, each by itself: one that is wrong spoils no other.
///
/// # Errors
/// A text that is no YAML at all.
pub fn read(text: &str) -> Result<Vec<Result<Document, Rejected>>, Located> {
    let trees = yaml::read(text)?;
    Ok(trees.into_iter().filter(|tree| tree.value != Value::Null).map(envelope).collect())
}

impl Document {
    /// A policy that stands in no text.
    pub fn policy(name: &str, namespace: Option<&str>, spec: Node) -> Self {
        let (name, namespace) = (name.to_owned(), namespace.map(str::to_owned));
        Self { kind: Kind::BackupPolicy, name, namespace, line: 0, name_line: 0, spec }
    }

    /// A restore that stands in no text.
    pub fn restore(name: &str, spec: Node) -> Self {
        Self { kind: Kind::Restore, ..Self::policy(name, None, spec) }
    }

    /// The same as if it stood in `namespace`, where it says no other.
    #[must_use]
    pub fn within(self, namespace: Option<&str>) -> Self {
        Self { namespace: self.namespace.or_else(|| namespace.map(str::to_owned)), ..self }
    }

    /// The specification, with `defaults` below it.
    ///
    /// # Errors
    /// Everything that is wrong with its form.
    pub fn spec<T: DeserializeOwned>(&self, defaults: &Defaults) -> Result<T, Vec<Located>> {
        match self.readable_spec(defaults) {
            (Some(spec), errors) if errors.is_empty() => Ok(spec),
            (_, errors) => Err(self.locate(errors)),
        }
    }

    /// What can be read of the specification, with `defaults` below it, and everything that is wrong with its form. What
    /// is wrong is left out, so that the rest can be looked at too; nothing, where that leaves no specification.
    pub fn readable_spec<T: DeserializeOwned>(&self, defaults: &Defaults) -> (Option<T>, Vec<Invalid>) {
        let mut tree = merge(&self.spec, &defaults.0);
        let mut errors = check(&tree, self.kind.spec_schema(), "");
        for error in &errors {
            tree.remove(&error.field);
        }
        match serde_json::from_value(tree.to_json()) {
            Ok(spec) => (Some(spec), errors),
            Err(error) if errors.is_empty() => {
                // The check has left nothing to complain of; should it have missed something, that is told all the same.
                errors.push(Invalid::new(error.to_string()));
                (None, errors)
            }
            Err(_) => (None, errors),
        }
    }

    /// Adds to each error the line on which its field stands, or the document begins.
    pub fn locate(&self, errors: Vec<Invalid>) -> Vec<Located> {
        let line = |located: &Located| match located.line {
            _ if located.error.field == "metadata.name" => self.name_line,
            0 => self.line,
            line => line,
        };
        locate(&self.spec, errors)
            .into_iter()
            .map(|located| Located { line: line(&located), ..located })
            .collect()
    }
}

fn locate(tree: &Node, errors: Vec<Invalid>) -> Vec<Located> {
    errors.into_iter().map(|error| Located { line: tree.line_of(&error.field), error }).collect()
}

/// Reads what is around a specification.
fn envelope(tree: Node) -> Result<Document, Rejected> {
    let name = tree.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::as_str);
    let reject = |errors| Rejected { name: name.map(str::to_owned), errors: locate(&tree, errors) };
    let mut errors = Vec::new();
    if !matches!(tree.value, Value::Map(_)) {
        return Err(reject(vec![Invalid::new(format!(
            "the document is {}; expected a resource",
            tree.kind()
        ))]));
    }
    let fields = ["apiVersion", "kind", "metadata", "spec", "status"];
    for entry in tree.entries().iter().filter(|entry| !fields.contains(&entry.key.as_str())) {
        let hint = match nearest(&entry.key, fields.into_iter()) {
            Some(near) => format!("did you mean {near}?"),
            None => "fields of a policy stand below spec".to_owned(),
        };
        errors.push(Invalid {
            field: entry.key.clone(),
            message: format!("there is no such field here; {hint}"),
        });
    }
    let version = tree.get("apiVersion").and_then(Node::as_str);
    if version != Some(API_VERSION) {
        errors.push(expected("apiVersion", version, API_VERSION));
    }
    let kind_text = tree.get("kind").and_then(Node::as_str);
    let kind = Kind::ALL.into_iter().find(|kind| Some(kind.as_str()) == kind_text);
    if kind.is_none() {
        errors.push(expected("kind", kind_text, "BackupPolicy, Backup or Restore"));
    }
    if name.is_none() {
        let message = "is missing: the resource's name, such as nightly".to_owned();
        errors.push(Invalid { field: "metadata.name".to_owned(), message });
    }
    match (kind, name) {
        (Some(kind), Some(name)) if errors.is_empty() => Ok(Document {
            kind,
            name: name.to_owned(),
            namespace: tree
                .get("metadata")
                .and_then(|m| m.get("namespace"))
                .and_then(Node::as_str)
                .map(str::to_owned),
            line: tree.line,
            name_line: tree.line_of("metadata.name"),
            spec: tree.get("spec").cloned().unwrap_or_else(Node::empty),
        }),
        _ => Err(reject(errors)),
    }
}

fn expected(field: &str, found: Option<&str>, allowed: &str) -> Invalid {
    let message = match found {
        Some(found) => format!("{} is not known; write {allowed}", shown(found)),
        None => format!("is missing; write {allowed}"),
    };
    Invalid { field: field.to_owned(), message }
}
