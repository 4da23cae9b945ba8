//! What is known about the controller that policies are meant for.

use crate::{
    api::{document::Defaults, yaml::Located},
    cli::{documents, problem::Problem},
    orchestrators::{kubernetes::site::KubernetesSite, site::Site, swarm::site::SwarmSite},
    plan::validate::{Facts, Orchestrator},
};
use std::path::PathBuf;

/// What is known about the controller that policies are meant for.
#[derive(Debug, Clone, clap::Args)]
pub struct FactsArgs {
    /// What the policies are meant for
    #[arg(long, value_name = "KIND", value_enum, default_value_t = OrchestratorArg::Local)]
    orchestrator: OrchestratorArg,
    /// The controller's own defaults: a partial policy that lies below each
    #[arg(long, value_name = "FILE")]
    defaults: Option<PathBuf>,
}

/// `--orchestrator`
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum OrchestratorArg {
    /// This host alone
    Local,
    /// Docker Swarm
    Swarm,
    /// Kubernetes
    Kubernetes,
}

impl From<OrchestratorArg> for Orchestrator {
    fn from(argument: OrchestratorArg) -> Self {
        match argument {
            OrchestratorArg::Local => Self::Local,
            OrchestratorArg::Swarm => Self::Swarm,
            OrchestratorArg::Kubernetes => Self::Kubernetes,
        }
    }
}

impl FactsArgs {
    /// Where the policies are declared, when that is no file.
    ///
    /// # Errors
    /// What is named cannot be used.
    pub fn site(&self) -> Result<Option<Box<dyn Site>>, Problem> {
        Ok(match self.orchestrator {
            OrchestratorArg::Local => None,
            OrchestratorArg::Swarm => Some(Box::new(SwarmSite::open()?)),
            OrchestratorArg::Kubernetes => {
                Some(Box::new(KubernetesSite::new(None, None, defaults(self.defaults.as_ref())?)))
            }
        })
    }

    /// Reads the defaults.
    ///
    /// # Errors
    /// A file that cannot be read or is wrong.
    pub fn read(&self) -> Result<Facts, Problem> {
        Ok(Facts { orchestrator: self.orchestrator.into(), defaults: defaults(self.defaults.as_ref())? })
    }
}

/// The controller's own defaults.
///
/// # Errors
/// A file that cannot be read or is wrong.
pub fn defaults(file: Option<&PathBuf>) -> Result<Defaults, Problem> {
    let mut defaults = Defaults::default();
    for source in documents::read(file.map(std::slice::from_ref).unwrap_or_default())? {
        defaults = Defaults::read(&source.text).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(|error| place(&source.name, error)).collect();
            Problem::Other(anyhow::anyhow!("the defaults are wrong\n{}", lines.join("\n")))
        })?;
    }
    Ok(defaults)
}

/// `file:line: error`
pub fn place(file: &str, error: &Located) -> String {
    if error.line > 0 { format!("  {file}:{}: {error}", error.line) } else { format!("  {file}: {error}") }
}
