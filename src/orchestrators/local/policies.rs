//! Policies from a directory that is only read: every `*.yaml` and `*.yml` in it, several documents a file.
//!
//! A document that is wrong spoils no other. Symbolic links are followed; hidden files and folders are left out.

use crate::{
    api::{document::Defaults, yaml::Located},
    domain::{error::Invalid, identity::PolicyId, names::PolicyName, policy::Policy},
    orchestrators::{checksum, local::files, site::Problem},
    plan::validate::{Facts, Loaded, Orchestrator, load, refuse_namesakes},
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where the policies are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The directory.
    pub policies: PathBuf,
    /// A file with a partial policy that lies below each.
    pub defaults: Option<PathBuf>,
}

/// A policy that the directory declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which; on one host, the name alone.
    pub id: PolicyId,
    /// Checksum of the file that it stands in and of the defaults.
    pub generation: i64,
    /// The file.
    pub file: PathBuf,
    /// What it says, or the first thing that is wrong with it.
    pub policy: Result<Arc<Policy>, Invalid>,
}

impl Directory {
    /// Reads all of it.
    ///
    /// # Errors
    /// A directory, or a file of defaults, that cannot be read or used: nothing is known then.
    pub fn read(&self) -> Result<(Vec<Found>, Vec<Problem>), String> {
        let (defaults, defaults_text) = self.defaults()?;
        let facts = Facts { orchestrator: Orchestrator::Local, defaults };
        let unreadable = |error: io::Error| format!("{} cannot be read: {error}", self.policies.display());
        if !self.policies.is_dir() {
            return Err(format!("{} is not a directory", self.policies.display()));
        }
        let (mut loaded, mut problems) = (Vec::new(), Vec::new());
        for (name, path) in files::entries(&self.policies).map_err(unreadable)? {
            if !(name.ends_with(".yaml") || name.ends_with(".yml")) || path.is_dir() {
                continue;
            }
            match read_file(&path, &facts) {
                Ok((text, policies)) => {
                    let generation = checksum(&[&text, &defaults_text]);
                    loaded.extend(policies.into_iter().map(|policy| (path.clone(), generation, policy)));
                }
                Err(message) => problems.push(Problem { place: path.display().to_string(), message }),
            }
        }
        refuse_namesakes(loaded.iter_mut().map(|(path, _, loaded)| (path.display().to_string(), loaded)));
        Ok(sort(loaded, problems))
    }

    fn defaults(&self) -> Result<(Defaults, String), String> {
        let Some(path) = &self.defaults else { return Ok((Defaults::default(), String::new())) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the defaults in {} cannot be read: {error}", path.display()))?;
        let defaults = Defaults::read(&text)
            .map_err(|errors| format!("the defaults in {}: {}", path.display(), told(&errors)))?;
        Ok((defaults, text))
    }
}

fn read_file(path: &Path, facts: &Facts) -> Result<(String, Vec<Loaded>), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let loaded = load(&text, facts).map_err(|error| told(&[error]))?;
    Ok((text, loaded))
}

/// One policy for each name.
fn sort(loaded: Vec<(PathBuf, i64, Loaded)>, mut problems: Vec<Problem>) -> (Vec<Found>, Vec<Problem>) {
    let mut found: BTreeMap<PolicyId, Found> = BTreeMap::new();
    for (file, generation, loaded) in loaded {
        let name = loaded.name.as_deref().and_then(|name| name.parse::<PolicyName>().ok());
        let policy = loaded.policy.map(Arc::new).map_err(|errors: Vec<Located>| Invalid::new(told(&errors)));
        let (Some(name), policy) = (name, policy) else {
            let message = "has a document without a name that can be used".to_owned();
            problems.push(Problem { place: file.display().to_string(), message });
            continue;
        };
        let id = PolicyId::new(None, name);
        // A name that comes again is refused where it comes first as well.
        found.entry(id.clone()).or_insert(Found { id, generation, file, policy });
    }
    (found.into_values().collect(), problems)
}

/// The first error in full, and how many more there are.
fn told(errors: &[Located]) -> String {
    let first = errors.first().map(ToString::to_string).unwrap_or_default();
    match errors.len() {
        0 | 1 => first,
        n => format!("{first} (and {} more; see backstay validate -f)", n - 1),
    }
}
