//! What carries a restore out: this process, or tasks beside the data.

use crate::{
    cli::problem::Problem,
    domain::{identity::PolicyId, verdict::Failure},
    orchestrators::stop::Stop,
    task::restore::{RestoreReport, plan::RestorePlan},
};
use async_trait::async_trait;

/// How things are after a restore.
pub struct Ended {
    /// Something may have been written.
    pub has_changed: bool,
    /// Policies whose runs wait until a restore succeeds.
    pub held: Vec<PolicyId>,
}

/// What carries a restore out.
#[async_trait(?Send)]
pub trait Carrier {
    /// What would be done.
    async fn plan(&mut self, stop: &Stop) -> Result<RestorePlan, Problem>;

    /// Keeps the runs away of every policy whose sources are written into.
    async fn claim(&mut self) -> Result<(), Problem>;

    /// Does it.
    async fn execute(&mut self, plan: &RestorePlan, stop: &Stop) -> Result<RestoreReport, Failure>;

    /// Lets the runs in again, unless what was restored is not to be backed up so.
    async fn end(&mut self, result: &Result<RestoreReport, Failure>) -> Result<Ended, Problem>;
}
