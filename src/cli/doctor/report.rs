//! What was found, as it comes or all at the end.

use crate::{
    cli::{
        exit::Exit,
        output::{Format, Output},
        problem::Problem,
        style::Style,
    },
    domain::{
        status::{ConditionType, Truth},
        verdict::Failure,
    },
    orchestrators::site::Known,
};
use serde::Serialize;

/// What was looked at, and how it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `rclone`, `nightly: destination`, `nightly: volumes[homes]`.
    pub what: String,
    pub good: bool,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    pub fn good(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self { what: what.into(), good: true, message: message.into(), fix: None }
    }

    pub fn bad(what: impl Into<String>, failure: Failure) -> Self {
        Self { what: what.into(), good: false, message: failure.message, fix: failure.fix }
    }
}

/// Findings as they come, for a person; all at the end, as a document.
pub struct Report<'a> {
    out: &'a mut Output,
    format: Format,
    findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    pub fn new(out: &'a mut Output, format: Format) -> Self {
        Self { out, format, findings: Vec::new() }
    }

    pub fn add(&mut self, finding: Finding) -> Result<(), Problem> {
        if matches!(self.format, Format::Table | Format::Wide) {
            let color = self.out.color();
            let mark =
                if finding.good { Style::Green.paint("✓", color) } else { Style::Red.paint("✗", color) };
            self.out.line(format!("{mark} {}: {}", finding.what, finding.message))?;
            if let Some(fix) = &finding.fix {
                self.out.line(format!("  fix: {fix}"))?;
            }
        }
        self.findings.push(finding);
        Ok(())
    }

    pub fn end(self, host: bool) -> Result<Exit, Problem> {
        let bad = self.findings.iter().filter(|finding| !finding.good).count();
        match self.format {
            Format::Json | Format::Yaml => self.out.document(self.format, &self.findings)?,
            Format::Table | Format::Wide if !host => {
                self.out.line("No policies were looked at: say where they are with --policies DIR")?;
            }
            Format::Table | Format::Wide => {}
        }
        Ok(if bad == 0 { Exit::Ok } else { Exit::Failed })
    }
}

/// A restore drill that did not pass: nothing says that what is stored can be restored.
pub fn drill(known: &Known) -> Option<Finding> {
    let tested = known.status.as_ref()?.condition(ConditionType::RestoreTested)?;
    (tested.status == Truth::False).then(|| {
        let failure = Failure::permanent("DrillFailed", format!("it failed: {}", tested.message));
        let again = format!("mend what differs, then: backstay verify {} --level drill", known.id);
        Finding::bad(format!("{}: restore drill", known.id), failure.fix(again))
    })
}
