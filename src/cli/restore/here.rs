//! A restore by this process, on this machine.

use super::{
    carrier::{Carrier, Ended},
    claim::Claims,
};
use crate::{
    cli::{backups::Backups, problem::Problem, time},
    domain::{restore::RestoreRequest, verdict::Failure},
    orchestrators::{
        local::lookup::Host,
        stop::{Stop, stopped},
    },
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
    async fn plan(&mut self, stop: &Stop) -> Result<RestorePlan, Problem> {
        let restore = Restore {
            store: Arc::new(self.backups.open(Mode::Read).await?),
            request: self.request.clone(),
            tools: Tools::default(),
            memory_bytes: MEMORY,
            meter: Arc::clone(&self.meter),
        };
        let (plan, manifest) = tokio::select! {
            planned = restore.plan() => planned?,
            () = stop.asked() => return Err(stopped("stopped by a signal").into()),
        };
        self.planned = Some((restore, manifest));
        Ok(plan)
    }

    async fn claim(&mut self) -> Result<(), Problem> {
        self.claims = Some(Claims::of(self.host.as_ref(), &self.request, time::now()).await?);
        Ok(())
    }

    async fn execute(&mut self, plan: &RestorePlan, stop: &Stop) -> Result<RestoreReport, Failure> {
        let Some((restore, manifest)) = &self.planned else {
            return Err(Failure::permanent("NotPlanned", "a restore is planned before it is carried out"));
        };
        tokio::select! {
            report = restore.execute(plan, manifest) => report,
            () = stop.asked() => Err(stopped("stopped by a signal")),
        }
    }

    async fn end(&mut self, result: &Result<RestoreReport, Failure>) -> Result<Ended, Problem> {
        let has_changed = self.meter.has_changed();
        let claims = self.claims.take();
        let held = claims.map_or(Ok(Vec::new()), |claims| claims.end(result, has_changed))?;
        Ok(Ended { has_changed, held })
    }
}
