//! What the controller tells about itself in `controller.json`: where the policies are, and what it cannot do.

use crate::{
    domain::identity::PolicyId,
    orchestrators::{
        local::{
            files,
            policies::Directory,
            state::{ControllerInfo, StateDir},
        },
        site::{Problem, Trouble},
    },
    plan::observed::Declared,
};
use std::{
    io,
    sync::{Mutex, PoisonError},
};
use tracing::warn;

/// The controller's own notice; written where it changes.
#[derive(Debug)]
pub(super) struct Notice {
    state: StateDir,
    writing: Mutex<()>,
}

impl Notice {
    /// Puts it up before anything else is done, so that the command line finds the policies from the first moment on.
    pub(super) fn put_up(state: &StateDir, directory: &Directory) -> io::Result<Self> {
        let notice = Self { state: state.clone(), writing: Mutex::default() };
        let (policies, defaults) = (directory.policies.clone(), directory.defaults.clone());
        notice.change(|info| *info = ControllerInfo { policies, defaults, ..ControllerInfo::default() })?;
        Ok(notice)
    }

    /// The policies were listed; `problems` declare nothing.
    pub(super) fn listed(&self, problems: Vec<Problem>, declared: &[Declared]) {
        self.told(|info| {
            if info.problems != problems {
                problems.iter().for_each(|p| warn!(file = p.place, "{}", p.message));
            }
            info.problems = problems;
            let is_declared = |id: &PolicyId| declared.iter().any(|declared| declared.id == *id);
            info.troubles.retain(|trouble| trouble.policy.as_ref().is_some_and(is_declared));
        })
    }

    /// What keeps the controller from looking at a policy, or at all of them; `None` when nothing does.
    pub(super) fn looked(&self, policy: Option<&PolicyId>, error: Option<&io::Error>) {
        self.told(|info| {
            info.troubles.retain(|trouble| trouble.policy.as_ref() != policy);
            let trouble = |error: &io::Error| Trouble { policy: policy.cloned(), message: error.to_string() };
            info.troubles.extend(error.map(trouble));
            info.troubles.sort();
        });
    }

    /// Backups go on when it cannot be written.
    fn told(&self, edit: impl FnOnce(&mut ControllerInfo)) {
        if let Err(error) = self.change(edit) {
            warn!(%error, "controller.json cannot be written");
        }
    }

    fn change(&self, edit: impl FnOnce(&mut ControllerInfo)) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.state.info().ok();
        let mut new = old.clone().unwrap_or_default();
        edit(&mut new);
        if old.as_ref() == Some(&new) { Ok(()) } else { files::write_json(&self.state.info_file(), &new) }
    }
}
