//! A document before it has types: values that know the line they were written on.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use std::fmt;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Line in the text, from 1; 0 where there is no text.
    pub line: u64,
    /// The value.
    pub value: Value,
}

/// A value of YAML.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: the same as a field that is not there.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Keys in the order of the text; no key comes twice.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Line of the key.
    pub line: u64,
    /// The value.
    pub node: Node,
}

impl Node {
    /// An empty map that stands nowhere.
    pub fn empty() -> Self {
        Self { line: 0, value: Value::Map(Vec::new()) }
    }

    /// The entries, of a map.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value below `key`, of a map; nothing for a null.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let entry = self.entries().iter().find(|entry| entry.key == key)?;
        (entry.node.value != Value::Null).then_some(&entry.node)
    }

    /// The text, of a text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// How item `index` of a list is named in paths: by its `name`, else by its number.
    pub fn item_label(&self, index: usize) -> String {
        match self.get("name").and_then(Self::as_str) {
            Some(name) if !name.is_empty() && name.len() <= 63 => format!("[{name}]"),
            _ => format!("[{index}]"),
        }
    }

    /// The line of `field` (`volumes[homes].hostPath`), or of the nearest thing around it that was written.
    pub fn line_of(&self, field: &str) -> u64 {
        let (mut node, mut line) = (self, self.line);
        for step in steps(field) {
            let below = match &node.value {
                Value::List(items) => {
                    let mut labelled = items.iter().enumerate();
                    labelled
                        .find(|(index, item)| item.item_label(*index) == step)
                        .map(|(_, item)| (item, item.line))
                }
                _ => node
                    .entries()
                    .iter()
                    .find(|entry| entry.key == step)
                    .map(|entry| (&entry.node, entry.line)),
            };
            let Some((inner, inner_line)) = below else { break };
            node = inner;
            line = if inner_line > 0 { inner_line } else { line };
        }
        line
    }

    /// Takes `field` out, if it is there; for an item of a list that has no name the whole list, since the numbers of the
    /// items after it must not change.
    pub fn remove(&mut self, field: &str) {
        let path: Vec<&str> = steps(field).collect();
        let numbered = path.iter().position(|step| {
            step.strip_prefix('[').is_some_and(|label| label.trim_end_matches(']').parse::<usize>().is_ok())
        });
        let path = &path[..numbered.unwrap_or(path.len())];
        if let [above @ .., last] = path
            && let Some(node) = above.iter().try_fold(self, |node, step| node.below_mut(step))
        {
            match &mut node.value {
                Value::List(items) => items.retain(|item| item.item_label(usize::MAX) != *last),
                Value::Map(entries) => entries.retain(|entry| entry.key != *last),
                _ => {}
            }
        }
    }

    fn below_mut(&mut self, step: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::List(items) => {
                let index =
                    items.iter().enumerate().position(|(index, item)| item.item_label(index) == step)?;
                items.get_mut(index)
            }
            Value::Map(entries) => {
                entries.iter_mut().find(|entry| entry.key == step).map(|entry| &mut entry.node)
            }
            _ => None,
        }
    }

    /// The value as JSON; what JSON cannot hold becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(value) => value.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                // A null is a field that is not there.
                let kept = entries.iter().filter(|entry| entry.node.value != Value::Null);
                kept.map(|entry| (entry.key.clone(), entry.node.to_json())).collect()
            }
        }
    }

    /// The value of a JSON text, which stands nowhere.
    pub fn from_json(value: &serde_json::Value) -> Self {
        let value = match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(value) => Value::Integer(value),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(value) => Value::Text(value.clone()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(fields) => {
                let entry =
                    |(key, value)| Entry { key: String::clone(key), line: 0, node: Self::from_json(value) };
                Value::Map(fields.iter().map(entry).collect())
            }
        };
        Self { line: 0, value }
    }

    /// Forgets the lines: for values that come from another text.
    pub fn without_lines(mut self) -> Self {
        self.line = 0;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(forget),
            Value::Map(entries) => {
                for entry in entries {
                    entry.line = 0;
                    forget(&mut entry.node);
                }
            }
            _ => {}
        }
        self
    }
}

fn forget(node: &mut Node) {
    *node = std::mem::replace(node, Node::empty()).without_lines();
}

/// The steps of a field's path: `volumes[homes].hostPath` is `volumes`, `[homes]`, `hostPath`.
fn steps(field: &str) -> impl Iterator<Item = &str> {
    field.split('.').flat_map(|part| {
        let (name, label) = part.split_at(part.find('[').unwrap_or(part.len()));
        [name, label].into_iter().filter(|step| !step.is_empty())
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a number beyond i64 is out of every range here; only that matters"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            entries.push(Entry { key: key.value, line, node: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}
