//! A restore by this process, on this machine.

use super::{carrier::Carrier, claim::Claims};
use crate::{
    cli::{backups::Backups, problem::Problem, time},
    domain::{restore::RestoreRequest, verdict::Failure},
    orchestrators::local::lookup::Host,
    storage::{manifest::Manifest, rclone::Mode},
    task::{
        context::Meter,
        mongodb::tool::Tools,
        restore::{Restore, RestoreReport, plan::RestorePlan},
    },
};
use async_trait::async_trait;
use std::sync::Arc;

/// Memory for buffers, bytes: with the program's own part it stays below 128 MiB.
const MEMORY: u64 = 96 << 20;

/// This process.
pub struct Here {
    /// This host's policies, where there are any.
    host: Option<Host>,
    backups: Backups,
    request: RestoreRequest,
    meter: Arc<Meter>,
    planned: Option<(Restore, Manifest)>,
    claims: Option<Claims>,
}

impl Here {
    pub fn new(host: Option<Host>, backups: Backups, request: RestoreRequest, meter: Arc<Meter>) -> Self {
        Self { host, backups, request, meter, planned: None, claims: None }
    }
}

#[async_trait(?Send)]
impl Carrier for Here {
    async fn plan(&mut self) -> Result<RestorePlan, Problem> {
        let restore = Restore {
            store: Arc::new(self.backups.open(Mode::Read).await?),
            request: self.request.clone(),
            tools: Tools::default(),
            memory_bytes: MEMORY,
            meter: Arc::clone(&self.meter),
        };
        let (plan, manifest) = restore.plan().await?;
        self.planned = Some((restore, manifest));
        Ok(plan)
    }

    async fn claim(&mut self) -> Result<(), Problem> {
        self.claims = Some(Claims::of(self.host.as_ref(), &self.request, time::now()).await?);
        Ok(())
    }

    async fn execute(&mut self, plan: &RestorePlan) -> Result<RestoreReport, Failure> {
        let Some((restore, manifest)) = &self.planned else {
            return Err(Failure::permanent("NotPlanned", "a restore is planned before it is carried out"));
        };
        restore.execute(plan, manifest).await
    }

    async fn end(&mut self, result: &Result<RestoreReport, Failure>) -> Result<(), Problem> {
        let claims = self.claims.take();
        claims.map_or(Ok(()), |claims| claims.end(result, self.meter.has_changed())).map_err(Problem::from)
    }
}
