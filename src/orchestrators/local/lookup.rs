//! What the command line asks: the policies of this host and how they are, with or without a controller.

use crate::{
    api::check::nearest,
    domain::{error::Invalid, identity::PolicyId, policy::Policy, status::Status, verdict::Failure},
    orchestrators::local::{
        files,
        policies::{Directory, Found, Problem},
        state::StateDir,
    },
};
use jiff::Timestamp;
use std::{os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc};

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
    /// Number of what it says; nothing when nobody declares it any more, but a run of it is not over.
    pub generation: Option<i64>,
    /// When its file was changed or put there.
    pub changed_at: Option<Timestamp>,
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

    /// All policies, by name, also those that are declared no more and have a run that is not over; and the documents
    /// that are none.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn all(&self) -> Result<(Vec<Known>, Vec<Problem>), Failure> {
        let read = self.directory.as_ref().map(Directory::read).transpose();
        let (found, problems) =
            read.map_err(|message| Failure::permanent("PoliciesUnreadable", message))?.unwrap_or_default();
        let mut all: Vec<Known> = found.into_iter().map(|found| self.declared(found)).collect();
        let active = self.state.as_ref().map(StateDir::active_policies).transpose();
        let active = active.map_err(|error| Failure::permanent("StateUnusable", error.to_string()))?;
        for id in active.unwrap_or_default() {
            if all.iter().all(|known| known.id != id) {
                let policy = Err(Invalid::new("nobody declares it any more; its run goes on"));
                let status = self.status(&id);
                all.push(Known { id, generation: None, changed_at: None, policy, status });
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((all, problems))
    }

    fn declared(&self, found: Found) -> Known {
        let Found { id, generation, file, policy } = found;
        let changed_at = file.metadata().ok().and_then(|m| Timestamp::from_second(m.ctime()).ok());
        let status = self.status(&id);
        Known { id, generation: Some(generation), changed_at, policy, status }
    }

    fn status(&self, policy: &PolicyId) -> Option<Status> {
        files::read_json(&self.state.as_ref()?.status_file(policy)).ok().flatten()
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
        let fix = match self.generation {
            Some(_) => "mend the document; backstay validate -f FILE checks it".to_owned(),
            None => format!("declare it again; backstay cancel {} stops the run", self.id),
        };
        self.policy.as_ref().map_err(|error| {
            Failure::permanent("InvalidSpec", format!("policy {}: {error}", self.id)).fix(fix)
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
