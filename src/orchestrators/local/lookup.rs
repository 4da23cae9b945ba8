//! What the command line asks: the policies of this host and how they are, with or without a controller.

use crate::{
    domain::{error::Invalid, identity::PolicyId, status::Status, verdict::Failure},
    orchestrators::{
        local::{
            files,
            policies::{Directory, Found},
            state::StateDir,
        },
        site::{Controller, Known, Problem, choose},
    },
};
use jiff::Timestamp;
use std::{os::unix::fs::MetadataExt as _, path::PathBuf};

/// The policies of this host and their state.
#[derive(Debug, Clone)]
pub struct Host {
    /// The controller's state, where it is named.
    pub state: Option<StateDir>,
    /// Where it would be, once a controller has run.
    absent: Option<PathBuf>,
    directory: Option<Directory>,
}

impl Host {
    /// From what a person named: a state directory, which knows where its policies are, or a directory of policies, or
    /// both; beside policies the state may not be there yet.
    ///
    /// # Errors
    /// Neither is named, or what is named cannot be used.
    pub fn open(
        state: Option<&PathBuf>,
        policies: Option<&PathBuf>,
        defaults: Option<&PathBuf>,
    ) -> Result<Self, Failure> {
        let absent = state.filter(|path| policies.is_some() && !StateDir::is_one(path)).cloned();
        let state = state.filter(|_| absent.is_none()).map(|path| StateDir::open(path)).transpose()?;
        let info =
            state.as_ref().and_then(|state| state.info().ok()).filter(|i| !i.policies.as_os_str().is_empty());
        let directory = match (policies, info) {
            (Some(policies), _) => {
                Some(Directory { policies: policies.clone(), defaults: defaults.cloned() })
            }
            (None, Some(info)) => Some(Directory { policies: info.policies, defaults: info.defaults }),
            (None, None) => None,
        };
        if directory.is_none() && state.is_none() {
            let fix = "name the controller's state directory with --state or BACKSTAY_STATE, or the policies' directory with --policies or BACKSTAY_POLICIES";
            return Err(Failure::permanent("NothingNamed", "nothing says where the policies are").fix(fix));
        }
        Ok(Self { state, absent, directory })
    }

    /// Of a host where none has run yet: where it would.
    pub(super) fn no_controller(&self) -> Controller {
        let place = self.absent.as_ref().map_or_else(|| "DIR".to_owned(), |path| path.display().to_string());
        Controller {
            start: format!("backstay controller --orchestrator local --policies DIR --state {place}"),
            place,
            ..Controller::default()
        }
    }

    /// The state directory.
    ///
    /// # Errors
    /// None is named.
    pub fn state(&self) -> Result<&StateDir, Failure> {
        self.state.as_ref().ok_or_else(|| match &self.absent {
            Some(path) => {
                let message = format!("this needs a controller, and none has run on {} yet", path.display());
                Failure::permanent("NoState", message).fix(StateDir::begin(path))
            }
            None => Failure::permanent("NoState", "this needs the controller's state directory")
                .fix("name it with --state or BACKSTAY_STATE"),
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
        choose(name, all, &problems)
    }
}
