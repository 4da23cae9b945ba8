//! Which host's policies, and which controller's state, a verb looks at.

use crate::{
    cli::{facts, problem::Problem},
    orchestrators::{
        kubernetes::site::KubernetesSite,
        local::{lookup::Host, state::StateDir},
        site::Site,
        swarm::site::SwarmSite,
    },
};
use std::path::{Path, PathBuf};

/// Where the policies of this host are, and where their controller keeps its state.
#[derive(Debug, Clone, clap::Args)]
pub struct SiteArgs {
    /// What runs the tasks; found where it can be: Kubernetes for kubectl-backstay, where a cluster is named or KUBECONFIG
    /// is set; else a Swarm where there is no state directory, but Docker's socket; else Kubernetes, where kubectl has a
    /// configuration
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
    /// The context of the kubectl configuration (Kubernetes)
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace whose policies are meant; without it, those of all that may be looked at (Kubernetes)
    #[arg(short = 'n', long = "kube-namespace", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// `--orchestrator`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SiteKind {
    /// This host alone
    Local,
    /// Docker Swarm
    Swarm,
    /// Kubernetes
    Kubernetes,
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

    /// What runs the tasks of the site.
    pub fn kind(&self) -> SiteKind {
        if let Some(kind) = self.orchestrator {
            return kind;
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if is_plugin() || self.context.is_some() || self.namespace.is_some() {
            return SiteKind::Kubernetes;
        }
        if self.state != Path::new(DEFAULT_STATE) || self.is_there() {
            return SiteKind::Local;
        }
        let home =
            || std::env::var_os("HOME").is_some_and(|home| Path::new(&home).join(".kube/config").exists());
        if set("KUBECONFIG") {
            SiteKind::Kubernetes
        } else if set("DOCKER_HOST") || Path::new(SOCKET).exists() {
            SiteKind::Swarm
        } else if set("KUBERNETES_SERVICE_HOST") || home() {
            SiteKind::Kubernetes
        } else {
            SiteKind::Local
        }
    }

    /// True when the site is a Swarm.
    pub fn is_swarm(&self) -> bool {
        self.kind() == SiteKind::Swarm
    }

    /// The site.
    ///
    /// # Errors
    /// What is named cannot be used.
    pub fn site(&self) -> Result<Box<dyn Site>, Problem> {
        Ok(match self.kind() {
            SiteKind::Swarm => Box::new(SwarmSite::open()?),
            SiteKind::Kubernetes => {
                let defaults = facts::defaults(self.defaults.as_ref())?;
                Box::new(KubernetesSite::new(self.context.clone(), self.namespace.clone(), defaults))
            }
            SiteKind::Local => Box::new(self.host()?),
        })
    }

    /// The host. Policies alone will do where no state is there.
    ///
    /// # Errors
    /// What is named cannot be used.
    pub fn host(&self) -> Result<Host, Problem> {
        let what = match self.kind() {
            SiteKind::Local => None,
            SiteKind::Swarm => Some("a Swarm"),
            SiteKind::Kubernetes => Some("Kubernetes"),
        };
        if let Some(what) = what {
            return Err(Problem::Usage(format!(
                "this cannot be done for {what} yet; with a configuration of rclone the backups themselves can be named: --from REMOTE:PATH/INSTANCE; for a host alone: --orchestrator local"
            )));
        }
        Ok(Host::open(Some(&self.state), self.policies.as_ref(), self.defaults.as_ref())?)
    }
}

/// True when kubectl has called the program as one of its plugins.
fn is_plugin() -> bool {
    let program = std::env::args_os().next().map(PathBuf::from);
    program.is_some_and(|path| path.file_stem().is_some_and(|name| name == "kubectl-backstay"))
}
