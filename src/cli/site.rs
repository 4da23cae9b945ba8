//! Which host's policies, and which controller's state, a verb looks at.

use crate::{
    cli::problem::Problem,
    orchestrators::{
        local::{lookup::Host, state::StateDir},
        site::Site,
        swarm::site::SwarmSite,
    },
};
use std::path::{Path, PathBuf};

/// Where the policies of this host are, and where their controller keeps its state.
#[derive(Debug, Clone, clap::Args)]
pub struct SiteArgs {
    /// What runs the tasks; found where it can be: a Swarm where there is no state directory, but Docker's socket
    #[arg(long, value_name = "KIND", value_enum, env = "BACKSTAY_ORCHESTRATOR")]
    pub orchestrator: Option<SiteKind>,
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

/// `--orchestrator`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SiteKind {
    /// This host alone
    Local,
    /// Docker Swarm
    Swarm,
}

/// Where a controller keeps its state when it is not told.
pub const DEFAULT_STATE: &str = "/var/lib/backstay";
/// Where an engine listens when it is not told.
const SOCKET: &str = "/var/run/docker.sock";

impl SiteArgs {
    /// True when there is something to look at.
    pub fn is_there(&self) -> bool {
        self.policies.is_some() || StateDir::is_one(&self.state)
    }

    /// True when the site is a Swarm.
    pub fn is_swarm(&self) -> bool {
        match self.orchestrator {
            Some(kind) => kind == SiteKind::Swarm,
            None => {
                let is_named = self.state != Path::new(DEFAULT_STATE) || self.is_there();
                let has_socket = || std::env::var_os("DOCKER_HOST").is_some() || Path::new(SOCKET).exists();
                !is_named && has_socket()
            }
        }
    }

    /// The site.
    ///
    /// # Errors
    /// What is named cannot be used.
    pub fn site(&self) -> Result<Box<dyn Site>, Problem> {
        Ok(if self.is_swarm() { Box::new(SwarmSite::open()?) } else { Box::new(self.host()?) })
    }

    /// The host. Policies alone will do where no state is there.
    ///
    /// # Errors
    /// What is named cannot be used.
    pub fn host(&self) -> Result<Host, Problem> {
        if self.is_swarm() {
            return Err(Problem::Usage(
                "this cannot be done for a Swarm yet; for a host alone: --orchestrator local".to_owned(),
            ));
        }
        Ok(Host::open(Some(&self.state), self.policies.as_ref(), self.defaults.as_ref())?)
    }
}
