//! A policy as the document that declares it.

use crate::{
    api::{API_VERSION, policy::BackupPolicySpec},
    cli::{
        output::{Format, to_document},
        problem::Problem,
    },
};
use serde::Serialize;

/// A policy as the document that declares it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDocument {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: BackupPolicySpec,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: String,
}

impl PolicyDocument {
    /// The document of the policy `name`.
    pub fn new(name: &str, spec: BackupPolicySpec) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "BackupPolicy",
            metadata: Metadata { name: name.to_owned() },
            spec,
        }
    }

    /// Its YAML.
    ///
    /// # Errors
    /// None that a policy can cause.
    pub fn to_yaml(&self) -> Result<String, Problem> {
        to_document(Format::Yaml, self)
    }
}
