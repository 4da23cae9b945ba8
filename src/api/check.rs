//! A tree against a schema: all that is wrong at once, each with its field, its value and what is allowed.

use crate::{
    api::tree::{Node, Value},
    domain::error::Invalid,
};
use serde_json::Value as Schema;

/// Most errors of one document: the rest are consequences or more of the same.
const MOST_ERRORS: usize = 50;

/// What is wrong with `node` by `schema`, fields named from `at` on.
pub fn check(node: &Node, schema: &Schema, at: &str) -> Vec<Invalid> {
    let mut check = Check { root: schema, errors: Vec::new() };
    check.node(node, schema, at);
    check.errors.truncate(MOST_ERRORS);
    check.errors
}

struct Check<'a> {
    root: &'a Schema,
    errors: Vec<Invalid>,
}

impl Check<'_> {
    fn wrong(&mut self, field: &str, message: impl Into<String>) {
        if self.errors.len() < MOST_ERRORS {
            self.errors.push(Invalid { field: field.to_owned(), message: message.into() });
        }
    }

    fn node(&mut self, node: &Node, schema: &Schema, at: &str) {
        match (schema["type"].as_str().unwrap_or_default(), &node.value) {
            (_, Value::Null) | ("boolean", Value::Bool(_)) => {}
            ("object", Value::Map(_)) if schema["properties"].is_object() => self.structure(node, schema, at),
            ("object", Value::Map(_)) => self.map(node, schema, at),
            ("array", Value::List(items)) => self.list(items, schema, at),
            ("string", Value::Text(text)) => self.text(text, schema, at),
            ("integer", Value::Integer(number)) => self.integer(*number, schema, at),
            ("string", _) if schema["enum"].is_array() => {
                self.wrong(at, format!("is {}; write one of {}", node.kind(), allowed(schema).join(", ")));
            }
            (expected, _) => self.wrong(at, mismatch(expected, node)),
        }
    }

    fn structure(&mut self, node: &Node, schema: &Schema, at: &str) {
        for entry in node.entries() {
            let field = join(at, &entry.key);
            match schema["properties"].get(&entry.key) {
                Some(property) => self.node(&entry.node, property, &field),
                None => {
                    let hint = unknown(&entry.key, schema, self.root);
                    self.wrong(&field, hint);
                }
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Schema::as_str) {
            if node.get(name).is_none() {
                let meaning =
                    first_sentence(schema["properties"][name]["description"].as_str().unwrap_or_default());
                self.wrong(&join(at, name), format!("is missing: {}", lower_first(meaning)));
            }
        }
    }

    fn map(&mut self, node: &Node, schema: &Schema, at: &str) {
        let most = schema["maxProperties"].as_u64().unwrap_or(u64::MAX);
        if node.entries().len() as u64 > most {
            self.wrong(at, format!("has {} keys; at most {most} are allowed", node.entries().len()));
        }
        for entry in node.entries() {
            if entry.key.is_empty() || entry.key.len() > 317 {
                self.wrong(at, "has a key that is empty or longer than 317 bytes");
            }
            if schema["additionalProperties"].is_object() {
                self.node(&entry.node, &schema["additionalProperties"], &join(at, &entry.key));
                if entry.node.value == Value::Null {
                    self.wrong(
                        &join(at, &entry.key),
                        "has no value; write \"\" where it is meant to be empty",
                    );
                }
            }
        }
    }

    fn list(&mut self, items: &[Node], schema: &Schema, at: &str) {
        let (least, most) =
            (schema["minItems"].as_u64().unwrap_or(0), schema["maxItems"].as_u64().unwrap_or(u64::MAX));
        let count = items.len() as u64;
        if count > most || count < least {
            self.wrong(at, format!("has {count} items; {least} to {most} are allowed"));
        }
        let keyed = schema["x-kubernetes-list-map-keys"].is_array();
        let mut seen = Vec::new();
        for (index, item) in items.iter().take(usize::try_from(most).unwrap_or(usize::MAX)).enumerate() {
            let label = item.item_label(index);
            let field = format!("{at}{label}");
            if item.value == Value::Null {
                self.wrong(&field, "is empty; remove the item or write it out");
            }
            if keyed && item.get("name").is_some() {
                if seen.contains(&label) {
                    self.wrong(&field, "comes twice; each name may be used once in this list");
                }
                seen.push(label);
            }
            self.node(item, &schema["items"], &field);
        }
    }

    fn text(&mut self, text: &str, schema: &Schema, at: &str) {
        if schema["enum"].is_array() {
            let allowed = allowed(schema);
            if !allowed.contains(&text) {
                let hint = nearest(text, allowed.iter().copied())
                    .map(|name| format!("; did you mean {name}?"))
                    .unwrap_or_default();
                self.wrong(at, format!("{} is not one of {}{hint}", shown(text), allowed.join(", ")));
            }
            return;
        }
        let (least, most) =
            (schema["minLength"].as_u64().unwrap_or(0), schema["maxLength"].as_u64().unwrap_or(u64::MAX));
        let length = text.chars().count() as u64;
        if length < least {
            self.wrong(at, "is empty; leave the field out or give it a value");
        } else if length > most {
            self.wrong(at, format!("has {length} characters; at most {most} are allowed"));
        } else if text.contains('\0') {
            self.wrong(at, "contains a NUL character");
        }
    }

    fn integer(&mut self, number: i64, schema: &Schema, at: &str) {
        let (least, most) =
            (schema["minimum"].as_i64().unwrap_or(i64::MIN), schema["maximum"].as_i64().unwrap_or(i64::MAX));
        if number < least || number > most {
            self.wrong(at, format!("{number} is outside {least} to {most}"));
        }
    }
}

fn allowed(schema: &Schema) -> Vec<&str> {
    schema["enum"].as_array().into_iter().flatten().filter_map(Schema::as_str).collect()
}

/// Why a value of another kind cannot be meant, and how to write it where that is only a matter of quotes.
fn mismatch(expected: &str, node: &Node) -> String {
    match (expected, &node.value) {
        ("string", Value::Integer(number)) => format!("{number} is a number; write \"{number}\" in quotes"),
        ("string", Value::Float(number)) => format!("{number} is a number; write it in quotes"),
        ("string", Value::Bool(truth)) => format!("{truth} is a boolean; write \"{truth}\" in quotes"),
        ("integer", Value::Float(number)) => format!("{number} is not a whole number"),
        ("integer", Value::Text(text)) if text.parse::<i64>().is_ok() => {
            format!("{} is text; write the number without quotes", shown(text))
        }
        ("boolean", Value::Text(text)) => {
            format!("{} is not a boolean; write true or false, without quotes", shown(text))
        }
        ("array", _) => format!("is {}; write a list: [a, b] or one \"- item\" a line", node.kind()),
        ("object", _) => format!("is {}; write a map: fields below it, each with its name", node.kind()),
        ("string", _) => format!("is {}; write text", node.kind()),
        ("integer", _) => format!("is {}; write a whole number", node.kind()),
        _ => format!("is {}; write true or false", node.kind()),
    }
}

/// A field that is not known here: the nearest name here, else where a field of that name belongs, else all names.
fn unknown(name: &str, schema: &Schema, root: &Schema) -> String {
    let known = || schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    if let Some(near) = nearest(name, known()) {
        return format!("there is no such field; did you mean {near}?");
    }
    let mut places = Vec::new();
    find(name, root, "", &mut places);
    match places.as_slice() {
        [] => format!("there is no such field; known here: {}", known().collect::<Vec<_>>().join(", ")),
        places => format!("there is no such field here; it belongs to {}", places.join(" or ")),
    }
}

/// Paths in `schema` at which a field called `name` stands, three at most.
fn find(name: &str, schema: &Schema, at: &str, places: &mut Vec<String>) {
    for (property, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = join(at, property);
        if property.eq_ignore_ascii_case(name) && places.len() < 3 {
            places.push(path.clone());
        }
        find(name, below, &path, places);
        find(name, &below["items"], &format!("{path}[]"), places);
    }
}

/// The name that `text` is most likely a slip of.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.chars().take(64).collect::<String>().to_lowercase();
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&lower, &name.to_lowercase());
    let best = names.map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness >= 0.6).map(|(_, name)| name)
}

/// A value in quotes, cut where it is long.
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn first_sentence(text: &str) -> &str {
    let end = text.find([':', ';']).or_else(|| text.find(". ")).unwrap_or(text.len());
    text[..end].trim_end_matches('.')
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
