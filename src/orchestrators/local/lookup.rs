//! What the command line asks: the policies of this host and how they are, with or without a controller.

use crate::{
    api::check::nearest,
    domain::{error::Invalid, identity::PolicyId, policy::Policy, status::Status, verdict::Failure},
    orchestrators::local::{
        files,
        policies::{Directory, Problem},
        state::StateDir,
    },
};
use std::{path::PathBuf, sync::Arc};

/// The policies of this host and their state.
#[derive(Debug, Clone)]
pub struct Host {
    /// The controller's state, where it is named.
    pub state: Option<StateDir>,
    directory: Option<Directory>,
}

/// A policy and how it is.
#[derive(Debug, Clone)]
pub struct Known {
    /// Which.
    pub id: PolicyId,
    /// What it says, or what is wrong with it.
    pub policy: Result<Arc<Policy>, Invalid>,
    /// How it is; nothing before a controller has seen it.
    pub status: Option<Status>,
}

impl Host {
    /// From what a person named: a state directory, which knows where its policies are, or a directory of policies, or
    /// both.
    ///
    /// # Errors
    /// Neither is named, or what is named cannot be used.
    pub fn open(
        state: Option<&PathBuf>,
        policies: Option<&PathBuf>,
        defaults: Option<&PathBuf>,
    ) -> Result<Self, Failure> {
        let state = state.map(|path| StateDir::open(path)).transpose()?;
        let info =
            state.as_ref().and_then(|state| state.info().ok()).filter(|i| !i.policies.as_os_str().is_empty());
        let directory = match (policies, info) {
            (Some(policies), _) => {
                Some(Directory { policies: policies.clone(), defaults: defaults.cloned() })
            }
            (None, Some(info)) => Some(Directory { policies: info.policies, defaults: info.defaults }),
            (None, None) => None,
        };
        if state.is_none() && directory.is_none() {
            let fix = "name the controller's state directory with --state or BACKSTAY_STATE, or the policies' directory with --policies or BACKSTAY_POLICIES";
            return Err(Failure::permanent("NothingNamed", "nothing says where the policies are").fix(fix));
        }
        Ok(Self { state, directory })
    }

    /// The state directory.
    ///
    /// # Errors
    /// None is named.
    pub fn state(&self) -> Result<&StateDir, Failure> {
        self.state.as_ref().ok_or_else(|| {
            Failure::permanent("NoState", "this needs the controller's state directory")
                .fix("name it with --state or BACKSTAY_STATE")
        })
    }

    /// All policies, by name, and the documents that are none.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn all(&self) -> Result<(Vec<Known>, Vec<Problem>), Failure> {
        let Some(directory) = &self.directory else { return Ok((Vec::new(), Vec::new())) };
        let (found, problems) =
            directory.read().map_err(|message| Failure::permanent("PoliciesUnreadable", message))?;
        let known = found.into_iter().map(|found| {
            let status = self.state.as_ref().map(|state| state.status_file(&found.id));
            let status = status.and_then(|path| files::read_json(&path).ok().flatten());
            Known { id: found.id, policy: found.policy, status }
        });
        Ok((known.collect(), problems))
    }

    /// The policy that `name` means: `nightly` or `scope/nightly`.
    ///
    /// # Errors
    /// There is none, or the name means several.
    pub fn find(&self, name: &str) -> Result<Known, Failure> {
        let (all, problems) = self.all()?;
        let is_meant = |known: &&Known| known.id.to_string() == name || known.id.name().as_str() == name;
        let meant: Vec<&Known> = all.iter().filter(is_meant).collect();
        match meant.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(unknown(name, &all, &problems)),
            several => {
                let ids: Vec<String> = several.iter().map(|known| known.id.to_string()).collect();
                let message = format!("{name:?} means {}; write one of them in full", ids.join(" and "));
                Err(Failure::permanent("AmbiguousPolicy", message))
            }
        }
    }
}

impl Known {
    /// The policy, valid.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn valid(&self) -> Result<&Arc<Policy>, Failure> {
        self.policy.as_ref().map_err(|error| {
            Failure::permanent("InvalidSpec", format!("policy {}: {error}", self.id))
                .fix("mend the document; backstay validate -f FILE checks it")
        })
    }
}

fn unknown(name: &str, all: &[Known], problems: &[Problem]) -> Failure {
    let names: Vec<String> = all.iter().map(|known| known.id.to_string()).collect();
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near}?"),
        None if names.is_empty() => "; no policy is declared".to_owned(),
        None => format!("; there are {}", names.join(", ")),
    };
    let broken = match problems.first() {
        Some(problem) => format!(" ({} declares nothing: {})", problem.file.display(), problem.message),
        None => String::new(),
    };
    Failure::permanent("NoSuchPolicy", format!("there is no policy {name:?}{hint}{broken}"))
}
