//! What a verification found.

use crate::domain::names::{SnapshotName, SourceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many affected files or namespaces are named per object; all are counted.
const NAMED: usize = 20;

/// The result of verifying one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// Which snapshot.
    pub snapshot: SnapshotName,
    /// What was done: `listing`, `scrub 3/30`, `open`, `drill`.
    pub level: String,
    /// Objects that were compared with what is recorded of them.
    pub objects: u64,
    /// What was proven of each source.
    pub sources: Vec<Proof>,
    /// What is missing or damaged; empty when all is well.
    pub damage: Vec<Damage>,
    /// What could not be compared, and why: no failure.
    pub remarks: Vec<String>,
}

/// What was proven of one source. Zeros where the level does not look that deep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// Which.
    pub source: SourceName,
    /// Files whose content is the one that was backed up.
    pub files: u64,
    /// Other entries whose tar header is what the index says.
    pub entries: u64,
    /// Namespaces whose documents are those that were dumped.
    pub namespaces: u64,
    /// Their documents.
    pub documents: u64,
    /// Content bytes of files or documents.
    pub bytes: u64,
}

/// One object, or one thing in it, that is not what was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Damage {
    /// Path of the object below the instance's folder.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Files or namespaces that are hit.
    pub affected: u64,
    /// The first of them.
    pub examples: Vec<String>,
}

impl VerifyReport {
    /// Nothing known yet.
    pub fn new(snapshot: SnapshotName, level: String) -> Self {
        Self { snapshot, level, objects: 0, sources: vec![], damage: vec![], remarks: vec![] }
    }

    /// All is well.
    pub fn is_good(&self) -> bool {
        self.damage.is_empty()
    }

    /// Adds damage; of an object that is known to be damaged, who is hit.
    pub(super) fn add(&mut self, findings: Findings) {
        for found in findings.0.into_values() {
            match self.damage.iter_mut().find(|known| known.object == found.object) {
                Some(known) => {
                    known.affected += found.affected;
                    known.examples.extend(found.examples);
                }
                None => self.damage.push(found),
            }
        }
    }

    pub(super) fn damaged(&mut self, object: impl Into<String>, what: impl Into<String>) {
        self.damage.push(Damage { object: object.into(), what: what.into(), affected: 0, examples: vec![] });
    }
}

impl Proof {
    /// Nothing proven yet.
    pub fn new(source: SourceName) -> Self {
        Self { source, files: 0, entries: 0, namespaces: 0, documents: 0, bytes: 0 }
    }
}

/// Damage by object, in the order of their names.
#[derive(Debug, Default)]
pub struct Findings(BTreeMap<String, Damage>);

impl Findings {
    /// An object is damaged.
    pub fn object(&mut self, object: &str, what: &str) -> &mut Damage {
        self.0.entry(object.to_owned()).or_insert_with(|| Damage {
            object: object.to_owned(),
            what: what.to_owned(),
            affected: 0,
            examples: vec![],
        })
    }

    /// A file or namespace is hit by damage in an object.
    pub fn hit(&mut self, object: &str, what: &str, name: String) {
        let damage = self.object(object, what);
        damage.affected += 1;
        if damage.examples.len() < NAMED {
            damage.examples.push(name);
        }
    }
}
