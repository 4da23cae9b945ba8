//! Proving that a snapshot can be restored, level by level.
//!
//! 1. `stored`: every object that the manifest names is there, by listing; lists and records are what was written;
//! 2. `bits`: whole objects by their BLAKE3, a share of them or all;
//! 3. `files`, `dump`: decode, parse, and hash every file and namespace;
//! 4. `drill`: a restore into a scratch folder and a scratch server, and a comparison;
//! 5. `work`: all of it as a task does it.
//!
//! Nothing is written outside the scratch folder.

pub mod bits;
pub mod drill;
pub mod dump;
pub mod files;
pub mod report;
mod request;
pub mod stored;
pub mod work;

#[cfg(test)]
mod tests;

pub use request::Verify;

use crate::{
    domain::{verdict::Failure, verification::Level},
    storage::manifest::SourceKind,
};
use report::{Findings, VerifyReport};
use stored::Opened;

impl Verify {
    /// Verifies it. Damage is in the report.
    ///
    /// # Errors
    /// The store does not answer, or there is no room in the scratch folder: nothing is known then.
    pub async fn run(&self) -> Result<VerifyReport, Failure> {
        let mut report = VerifyReport::new(self.manifest.snapshot.clone(), self.level.to_string());
        self.meter.begin("comparing the listing", None);
        for opened in stored::check(&self.store, &self.manifest, true, &mut report).await? {
            match self.level {
                Level::Listing => {}
                Level::Scrub { n, of } => self.scrub(&opened, n, of.max(1), &mut report).await?,
                Level::Open => self.open(&opened, &mut report).await?,
                Level::Drill => {
                    let proof = drill::drill(self, opened.record, &mut report).await?;
                    report.sources.push(proof);
                }
            }
        }
        Ok(report)
    }

    async fn scrub(
        &self,
        opened: &Opened<'_>,
        n: u64,
        of: u64,
        report: &mut VerifyReport,
    ) -> Result<(), Failure> {
        self.meter.begin(&format!("{}: reading parts", opened.record.source), None);
        bits::index(&self.store, &self.manifest, opened.record, report).await?;
        let mut findings = Findings::default();
        report.objects += bits::share(opened, n, of, &self.meter, &mut findings).await?;
        report.add(findings);
        Ok(())
    }

    async fn open(&self, opened: &Opened<'_>, report: &mut VerifyReport) -> Result<(), Failure> {
        if !bits::index(&self.store, &self.manifest, opened.record, report).await? {
            // Without an index nothing tells what is in the parts; whether they are whole can still be told.
            return self.scrub(opened, 0, 1, report).await;
        }
        let proof = match opened.record.kind {
            SourceKind::Mongodb => dump::open(&self.store, opened, &self.meter, report).await?,
            SourceKind::Files => {
                let files = files::OpenFiles {
                    store: &self.store,
                    manifest: &self.manifest,
                    opened,
                    memory_bytes: self.memory_bytes,
                    scratch: &self.scratch,
                    meter: &self.meter,
                };
                files.run(report).await?
            }
        };
        report.sources.push(proof);
        Ok(())
    }
}
