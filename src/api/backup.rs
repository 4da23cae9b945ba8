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
}
