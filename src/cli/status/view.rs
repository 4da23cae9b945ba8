//! Everything that the screen shows.

use super::verdict::{Severity, State};
use crate::{
    domain::{identity::PolicyId, status::Status},
    orchestrators::site::{Problem as Unusable, Trouble},
};
use serde::Serialize;

/// Everything that the screen shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    /// Process number of the controller, when one runs.
    pub controller: Option<String>,
    /// Worst first.
    pub policies: Vec<Row>,
    /// Documents that declare nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Unusable>,
    /// What keeps the controller from looking at policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
}

/// One policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub policy: PolicyId,
    pub state: State,
    /// What is wrong with the document, also when no controller has seen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    pub status: Option<Status>,
}

impl View {
    /// The worst of all that is shown.
    pub(super) fn severity(&self) -> Severity {
        let worst = self.policies.iter().map(|row| row.state.severity()).max();
        let unusable = !(self.problems.is_empty() && self.troubles.is_empty());
        let unusable = unusable.then_some(Severity::Critical);
        let no_controller = self.controller.is_none().then_some(Severity::Warning);
        let nothing = self.policies.is_empty().then_some(Severity::Unknown);
        let all = worst.into_iter().chain(unusable).chain(no_controller).chain(nothing);
        all.max().unwrap_or(Severity::Good)
    }
}
