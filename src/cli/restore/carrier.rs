//! What carries a restore out: this process, or tasks beside the data.

use crate::{
    cli::problem::Problem,
    domain::verdict::Failure,
    task::restore::{RestoreReport, plan::RestorePlan},
};
use async_trait::async_trait;

/// What carries a restore out.
#[async_trait(?Send)]
pub trait Carrier {
    /// What would be done.
    async fn plan(&mut self) -> Result<RestorePlan, Problem>;

    /// Keeps the runs away of every policy whose sources are written into.
    async fn claim(&mut self) -> Result<(), Problem>;

    /// Does it.
    async fn execute(&mut self, plan: &RestorePlan) -> Result<RestoreReport, Failure>;

    /// Lets the runs in again, unless what was restored is not to be backed up so.
    async fn end(&mut self, result: &Result<RestoreReport, Failure>) -> Result<(), Problem>;
}
