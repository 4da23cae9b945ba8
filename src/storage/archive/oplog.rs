//! The entries of an archive's oplog: which collections they touch, and the filter applied to them.
//!
//! Formats as the server writes them since 4.4: operations (`i`, `u`, `d`), commands on `<db>.$cmd` whose first field
//! names the command and its collection, and `applyOps`, alone or as a transaction's.

use crate::storage::archive::{filter::Filter, namespace::Namespace};
use mongodb::bson::{
    RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, Timestamp,
    raw::{CStr, RawBsonRef},
};

/// The server nests `applyOps` once; deeper is not its own.
const MAX_DEPTH: u8 = 4;

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is passed on as it is.
    Keep,
    /// It is left out.
    Drop,
    /// This is passed on in its place.
    Replace(RawDocumentBuf),
}

/// The moment of an entry.
///
/// # Errors
/// An entry without `ts`.
pub fn timestamp(entry: &RawDocument) -> Result<Timestamp, String> {
    entry.get_timestamp("ts").map_err(|e| format!("an oplog entry without a time: {e}"))
}

/// Applies `filter` to an entry, and calls `touched` with the collection of everything in it that is kept.
///
/// # Errors
/// An entry that is malformed, or that cannot be split: a rename of which only one side is kept.
pub fn apply(
    entry: &RawDocument,
    filter: &Filter,
    touched: &mut dyn FnMut(Namespace),
) -> Result<Outcome, String> {
    Visit { filter, touched }.entry(entry, 0)
}

struct Visit<'a> {
    filter: &'a Filter,
    touched: &'a mut dyn FnMut(Namespace),
}

impl Visit<'_> {
    fn entry(&mut self, entry: &RawDocument, depth: u8) -> Result<Outcome, String> {
        let ns = text(entry, "ns")?;
        match text(entry, "op")? {
            // A note of the server; one about a collection may hold a document's earlier content.
            "n" if ns.is_empty() || self.filter.is_everything() => Ok(Outcome::Keep),
            "n" => Ok(Outcome::Drop),
            "i" | "u" | "d" => self.operation(entry, ns),
            "c" => self.command(entry, ns, depth),
            other => Err(format!("an oplog entry of the unknown kind {other:?}")),
        }
    }

    fn operation(&mut self, entry: &RawDocument, ns: &str) -> Result<Outcome, String> {
        let namespace = split(ns)?;
        if namespace.collection == "system.views" {
            return self.view(entry, &namespace);
        }
        match self.target(&namespace) {
            None => Ok(Outcome::Drop),
            Some(target) if target == namespace => Ok(Outcome::Keep),
            Some(target) => replace(entry, &[("ns", target.to_string().into())]).map(Outcome::Replace),
        }
    }

    /// A view is a document of `system.views` whose `_id` is its full name.
    fn view(&mut self, entry: &RawDocument, namespace: &Namespace) -> Result<Outcome, String> {
        let holder = if text(entry, "op")? == "u" { "o2" } else { "o" };
        let view = split(text(document(entry, holder)?, "_id")?)?;
        let Some(target) = self.target(&view) else { return Ok(Outcome::Drop) };
        if target == view {
            return Ok(Outcome::Keep);
        }
        let ns = Namespace::new(&target.database, &namespace.collection);
        let mut changes = vec![("ns", RawBson::from(ns.to_string()))];
        for key in ["o", "o2"] {
            let Ok(Some(RawBsonRef::Document(body))) = entry.get(key) else { continue };
            let id = ("_id", RawBson::from(target.to_string()));
            let body = if body.get("_id").is_ok_and(|id| id.is_some()) {
                self.with_source(body, &view, id)?
            } else {
                body.to_owned()
            };
            changes.push((key, body.into()));
        }
        replace(entry, &changes).map(Outcome::Replace)
    }

    /// `body` with `change`, and with `viewOn` (a collection of `of`'s database) under its new name.
    fn with_source(
        &self,
        body: &RawDocument,
        of: &Namespace,
        change: (&str, RawBson),
    ) -> Result<RawDocumentBuf, String> {
        let mut changes = vec![change];
        if let Ok(Some(RawBsonRef::String(source))) = body.get("viewOn") {
            let source = Namespace::new(&of.database, source);
            let target = self.filter.target(&source).unwrap_or(source);
            changes.push(("viewOn", target.collection.into()));
        }
        replace(body, &changes)
    }

    fn command(&mut self, entry: &RawDocument, ns: &str, depth: u8) -> Result<Outcome, String> {
        let body = document(entry, "o")?;
        let (name, value) =
            body.iter().next().ok_or("an oplog command without content")?.map_err(malformed)?;
        match (name.as_str(), value) {
            ("applyOps", RawBsonRef::Array(_)) => self.apply_ops(entry, body, depth),
            ("commitTransaction" | "abortTransaction", _) => Ok(Outcome::Keep),
            // Every collection's drop is an entry of its own before this one.
            ("dropDatabase", _) if !self.filter.is_everything() => Ok(Outcome::Drop),
            ("dropDatabase", _) => Ok(Outcome::Keep),
            ("renameCollection", RawBsonRef::String(from)) => self.rename(entry, body, from),
            (_, RawBsonRef::String(collection)) => self.on_collection(entry, body, ns, name, collection),
            _ if self.filter.is_everything() => Ok(Outcome::Keep),
            (name, _) => Err(format!("the oplog holds the command {name:?}, which cannot be filtered")),
        }
    }

    /// `{create: "c", …}` and its like.
    fn on_collection(
        &mut self,
        entry: &RawDocument,
        body: &RawDocument,
        ns: &str,
        command: &CStr,
        collection: &str,
    ) -> Result<Outcome, String> {
        let namespace = Namespace::new(&split(ns)?.database, collection);
        let Some(target) = self.target(&namespace) else { return Ok(Outcome::Drop) };
        if target == namespace {
            return Ok(Outcome::Keep);
        }
        let name = (command.as_str(), RawBson::from(target.collection));
        let body = self.with_source(body, &namespace, name)?;
        let ns = format!("{}.$cmd", target.database);
        replace(entry, &[("ns", ns.into()), ("o", body.into())]).map(Outcome::Replace)
    }

    fn rename(&mut self, entry: &RawDocument, body: &RawDocument, from: &str) -> Result<Outcome, String> {
        let (source, destination) = (split(from)?, split(text(body, "to")?)?);
        let (Some(new_source), Some(new_destination)) = (self.target(&source), self.target(&destination))
        else {
            let kept = [&source, &destination].iter().any(|n| self.filter.target(n).is_some());
            return if kept {
                Err(format!("{source} was renamed to {destination}, and only one of them is kept"))
            } else {
                Ok(Outcome::Drop)
            };
        };
        if new_source == source && new_destination == destination {
            return Ok(Outcome::Keep);
        }
        let ns = format!("{}.$cmd", new_source.database);
        let body = replace(
            body,
            &[
                ("renameCollection", new_source.to_string().into()),
                ("to", new_destination.to_string().into()),
            ],
        )?;
        replace(entry, &[("ns", ns.into()), ("o", body.into())]).map(Outcome::Replace)
    }

    fn apply_ops(&mut self, entry: &RawDocument, body: &RawDocument, depth: u8) -> Result<Outcome, String> {
        if depth >= MAX_DEPTH {
            return Err("applyOps within applyOps too deep".to_owned());
        }
        let mut kept = RawArrayBuf::new();
        let (mut changed, mut empty) = (false, true);
        for operation in body.get_array("applyOps").map_err(|e| e.to_string())? {
            let RawBsonRef::Document(operation) = operation.map_err(malformed)? else {
                return Err("applyOps holds something that is no operation".to_owned());
            };
            match self.entry(operation, depth + 1)? {
                Outcome::Drop => changed = true,
                Outcome::Keep => {
                    empty = false;
                    kept.push(operation);
                }
                Outcome::Replace(new) => {
                    (changed, empty) = (true, false);
                    kept.push(new);
                }
            }
        }
        if !changed {
            return Ok(Outcome::Keep);
        }
        // A transaction's entries belong together: one that lost all its operations still begins or ends it.
        if empty && entry.get("txnNumber").is_ok_and(|number| number.is_none()) {
            return Ok(Outcome::Drop);
        }
        let body = replace(body, &[("applyOps", kept.into())])?;
        replace(entry, &[("o", body.into())]).map(Outcome::Replace)
    }

    fn target(&mut self, namespace: &Namespace) -> Option<Namespace> {
        let target = self.filter.target(namespace)?;
        (self.touched)(namespace.logical());
        Some(target)
    }
}

/// `document` with some of its fields replaced, in their order.
fn replace(document: &RawDocument, changes: &[(&str, RawBson)]) -> Result<RawDocumentBuf, String> {
    let mut new = RawDocumentBuf::new();
    for field in document {
        let (key, value) = field.map_err(malformed)?;
        match changes.iter().find(|(changed, _)| *changed == key.as_str()) {
            Some((_, changed)) => new.append(key, changed.clone()),
            None => new.append(key, value),
        }
    }
    Ok(new)
}

fn text<'a>(entry: &'a RawDocument, key: &str) -> Result<&'a str, String> {
    entry.get_str(key).map_err(|e| format!("an oplog entry without {key:?}: {e}"))
}

fn document<'a>(entry: &'a RawDocument, key: &str) -> Result<&'a RawDocument, String> {
    entry.get_document(key).map_err(|e| format!("an oplog entry without {key:?}: {e}"))
}

fn split(ns: &str) -> Result<Namespace, String> {
    Namespace::split(ns).ok_or_else(|| format!("an oplog entry about {ns:?}, which is no namespace"))
}

fn malformed(error: mongodb::bson::error::Error) -> String {
    format!("malformed BSON in an oplog entry: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::archive::filter::{Internal, Rename};
    use mongodb::bson::{Document, doc};

    fn filter() -> Filter {
        Filter {
            include: vec!["a".parse().unwrap(), "b.keep".parse().unwrap()],
            renames: vec![Rename::parse("a", "z").unwrap()],
            internal: Internal::OnRequest { users: true, config: false },
            ..Filter::everything()
        }
    }

    fn run(entry: &Document, filter: &Filter) -> Result<Option<Document>, String> {
        let raw = RawDocumentBuf::try_from(entry).unwrap();
        Ok(match apply(&raw, filter, &mut |_| ())? {
            Outcome::Keep => Some(entry.clone()),
            Outcome::Drop => None,
            Outcome::Replace(new) => Some(Document::try_from(&*new).unwrap()),
        })
    }

    fn op(op: &str, ns: &str, o: Document) -> Document {
        doc! {"op": op, "ns": ns, "ui": 7, "o": o}
    }

    #[test]
    fn entries_are_kept_renamed_or_dropped() {
        let x = || doc! {"_id": 1};
        for (entry, expected) in [
            (op("i", "a.c", x()), Some(op("i", "z.c", x()))),
            (op("d", "b.keep", x()), Some(op("d", "b.keep", x()))),
            (op("u", "b.other", x()), None),
            (op("n", "", doc! {"msg": "periodic noop"}), Some(op("n", "", doc! {"msg": "periodic noop"}))),
            (op("n", "b.other", x()), None),
            (op("i", "admin.system.users", x()), Some(op("i", "admin.backstay_restored_users", x()))),
            (op("u", "admin.system.version", x()), None),
            (
                op("c", "a.$cmd", doc! {"create": "c", "idIndex": {}}),
                Some(op("c", "z.$cmd", doc! {"create": "c", "idIndex": {}})),
            ),
            (op("c", "b.$cmd", doc! {"drop": "other"}), None),
            (op("c", "a.$cmd", doc! {"dropDatabase": 1}), None),
            (
                op("i", "a.system.views", doc! {"_id": "a.v", "viewOn": "c", "pipeline": []}),
                Some(op("i", "z.system.views", doc! {"_id": "z.v", "viewOn": "c", "pipeline": []})),
            ),
            (op("i", "b.system.views", doc! {"_id": "b.v", "viewOn": "keep"}), None),
            (
                op("c", "a.$cmd", doc! {"renameCollection": "a.x", "to": "a.y", "stayTemp": false}),
                Some(op("c", "z.$cmd", doc! {"renameCollection": "z.x", "to": "z.y", "stayTemp": false})),
            ),
            (op("c", "b.$cmd", doc! {"renameCollection": "b.x", "to": "b.y"}), None),
            (
                op("c", "admin.$cmd", doc! {"commitTransaction": 1}),
                Some(op("c", "admin.$cmd", doc! {"commitTransaction": 1})),
            ),
        ] {
            assert_eq!(run(&entry, &filter()).unwrap(), expected, "{entry}");
            assert_eq!(run(&entry, &Filter::everything()).unwrap(), Some(entry));
        }
    }

    #[test]
    fn transactions_lose_only_what_is_left_out() {
        let ops = |list: Vec<Document>| op("c", "admin.$cmd", doc! {"applyOps": list, "count": 2});
        let one = op("i", "a.c", doc! {"_id": 1});
        let other = op("i", "b.other", doc! {"_id": 2});
        let renamed = op("i", "z.c", doc! {"_id": 1});
        assert_eq!(run(&ops(vec![one, other.clone()]), &filter()).unwrap(), Some(ops(vec![renamed])));
        assert_eq!(run(&ops(vec![other.clone()]), &filter()).unwrap(), None);
        let mut transaction = ops(vec![other]);
        transaction.insert("txnNumber", 3i64);
        let mut emptied = ops(vec![]);
        emptied.insert("txnNumber", 3i64);
        assert_eq!(run(&transaction, &filter()).unwrap(), Some(emptied));
    }

    #[test]
    fn what_cannot_be_split_is_an_error() {
        for (entry, word) in [
            (op("c", "a.$cmd", doc! {"renameCollection": "a.x", "to": "b.y"}), "only one of them"),
            (op("c", "a.$cmd", doc! {"futureCommand": 1}), "futureCommand"),
            (op("i", "nodot", doc! {}), "no namespace"),
            (op("?", "a.b", doc! {}), "unknown kind"),
            (doc! {"op": "i"}, "without \"ns\""),
        ] {
            assert!(run(&entry, &filter()).unwrap_err().contains(word), "{entry}");
        }
        let mut deep = op("i", "a.b", doc! {});
        for _ in 0..6 {
            deep = op("c", "admin.$cmd", doc! {"applyOps": [deep]});
        }
        assert!(run(&deep, &filter()).unwrap_err().contains("deep"));
    }

    #[test]
    fn touched_collections_are_told() {
        let mut seen = Vec::new();
        for ns in ["a.system.buckets.ts", "b.other"] {
            let raw = RawDocumentBuf::try_from(&op("i", ns, doc! {})).unwrap();
            apply(&raw, &filter(), &mut |n| seen.push(n.to_string())).unwrap();
        }
        assert_eq!(seen, ["a.ts"]);
    }
}
