//! `Backup`: a run's record, and a person's request for a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A run of a policy, now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupSpec {
    /// The policy, in the same namespace.
    #[schemars(length(min = 1, max = 50))]
    pub policy: String,
    /// The sources shrank on purpose: the guards only warn. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_shrink: Option<bool>,
    /// Wait for the run that is active instead of being refused. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_turn: Option<bool>,
    /// Stop the run. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
}
