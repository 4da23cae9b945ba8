//! Whether the archive holds what the deployment held before and after the dump.
//!
//! mongodump exits 0 with a clean archive also when a collection was renamed before its turn: it is then in neither name.

use crate::{
    domain::verdict::{Failure, Verdict},
    storage::archive::{contents::Contents, filter::Filter, namespace::Namespace},
    task::mongodb::catalog::Found,
};
use std::collections::{HashMap, HashSet};

/// Compares the archive with the catalogs.
///
/// # Errors
/// A namespace that was there all the time and is not in the archive; without the oplog, one that was renamed; an
/// `include` that fits nothing.
pub(super) fn check(
    before: &[Found],
    after: &[Found],
    filter: &Filter,
    contents: &Contents,
    oplog: bool,
) -> Result<(), Failure> {
    if !oplog && let Some((old, new)) = renamed(before, after) {
        return Err(Failure::temporary(
            "RenamedDuringDump",
            format!("{old} was renamed to {new} during the dump, which has it in neither name"),
        ));
    }
    let dumped: HashSet<&Namespace> =
        contents.namespaces.iter().filter(|e| e.target.is_some()).map(|e| &e.namespace).collect();
    if dumped.is_empty() && !filter.is_everything() {
        let message = format!("none of the deployment's {} namespaces is wanted", after.len());
        return Err(Failure::new(Verdict::Guard, "NothingSelected", message)
            .fix("correct mongodb.include and mongodb.exclude"));
    }
    let stayed =
        |found: &&Found| after.iter().any(|a| a.namespace == found.namespace && a.uuid == found.uuid);
    let missing: Vec<_> = before
        .iter()
        .filter(stayed)
        .map(|found| &found.namespace)
        .filter(|namespace| filter.target(namespace).is_some() && !dumped.contains(namespace))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = missing.iter().take(5).map(ToString::to_string).collect();
    Err(Failure::temporary(
        "NamespaceMissing",
        format!("{} namespaces of the deployment are not in the dump: {}", missing.len(), named.join(", ")),
    ))
}

/// A collection with one name before and another after.
fn renamed<'a>(before: &'a [Found], after: &'a [Found]) -> Option<(&'a Namespace, &'a Namespace)> {
    let named = |found: &'a Found| (!found.uuid.is_empty()).then_some((&*found.uuid, &found.namespace));
    let after: HashMap<&str, &Namespace> = after.iter().filter_map(named).collect();
    before.iter().find_map(|found| {
        let new = *after.get(&*found.uuid)?;
        (*new != found.namespace).then_some((&found.namespace, new))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::archive::contents::{Entry, Kind};
    use mongodb::bson::doc;

    fn found(list: &[(&str, &str)]) -> Vec<Found> {
        let one = |&(name, uuid): &(&str, &str)| Found {
            namespace: Namespace::split(name).unwrap(),
            kind: Kind::Collection,
            uuid: uuid.into(),
            options: doc! {},
        };
        list.iter().map(one).collect()
    }

    fn archive(names: &[&str], filter: &Filter) -> Contents {
        let entry = |name: &&str| {
            let namespace = Namespace::split(name).unwrap();
            Entry::new(namespace.clone(), filter.target(&namespace))
        };
        Contents { namespaces: names.iter().map(entry).collect(), ..Contents::default() }
    }

    #[test]
    fn what_must_be_in_the_archive() {
        let all = Filter::everything();
        let some = Filter { include: vec!["a.x".parse().unwrap()], ..Filter::everything() };
        let none = Filter { include: vec!["other".parse().unwrap()], ..Filter::everything() };
        let (x, y) = (("a.x", "1"), ("a.y", "2"));
        for (before, after, filter, dumped, oplog, reason) in [
            (&[x, y][..], &[x, y][..], &all, &["a.x", "a.y"][..], false, None),
            (&[x, y], &[x, y], &all, &["a.x"], true, Some("NamespaceMissing")),
            (&[x, y], &[x], &all, &["a.x"], true, None),
            (&[x], &[x, y], &all, &["a.x"], true, None),
            (&[x, y], &[x, ("a.y", "3")], &all, &["a.x"], true, None),
            (&[x, y], &[x, ("a.z", "2")], &all, &["a.x", "a.y"], false, Some("RenamedDuringDump")),
            (&[x, y], &[x, ("a.z", "2")], &all, &["a.x", "a.y"], true, None),
            (&[x, y], &[x, y], &some, &["a.x", "a.y"], true, None),
            (&[x, y], &[x, y], &none, &["a.x", "a.y"], true, Some("NothingSelected")),
            (&[], &[], &all, &[], true, None),
        ] {
            let outcome = check(&found(before), &found(after), filter, &archive(dumped, filter), oplog);
            assert_eq!(outcome.err().map(|f| f.reason).as_deref(), reason, "{before:?} {after:?}");
        }
    }
}
