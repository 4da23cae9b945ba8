//! Which host's policies, and which controller's state, a verb looks at.

use crate::{
    cli::problem::Problem,
    orchestrators::local::{lookup::Host, state::StateDir},
};
use std::path::PathBuf;

/// Where the policies of this host are, and where their controller keeps its state.
#[derive(Debug, Clone, clap::Args)]
pub struct SiteArgs {
    /// The controller's state directory
    #[arg(long, value_name = "DIR", env = "BACKSTAY_STATE", default_value = DEFAULT_STATE)]
    pub state: PathBuf,
    /// The directory of the policies; known from the state once a controller has run
    #[arg(long, value_name = "DIR", env = "BACKSTAY_POLICIES")]
    pub policies: Option<PathBuf>,
    /// The controller's own defaults: a partial policy that lies below each; known from the state as well
    #[arg(long, value_name = "FILE", env = "BACKSTAY_DEFAULTS")]
    pub defaults: Option<PathBuf>,
}

/// Where a controller keeps its state when it is not told.
pub const DEFAULT_STATE: &str = "/var/lib/backstay";

impl SiteArgs {
    /// True when there is something to look at.
    pub fn is_there(&self) -> bool {
        self.policies.is_some() || StateDir::is_one(&self.state)
    }

    /// The host. Policies alone will do where no state is there.
    ///
    /// # Errors
    /// What is named cannot be used.
    pub fn host(&self) -> Result<Host, Problem> {
        let needs_state = self.policies.is_none() || StateDir::is_one(&self.state);
        let state = needs_state.then_some(&self.state);
        Ok(Host::open(state, self.policies.as_ref(), self.defaults.as_ref())?)
    }
}
