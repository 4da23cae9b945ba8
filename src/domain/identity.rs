//! Which policy is meant, within one orchestrator.

use crate::domain::{
    error::Invalid,
    names::{PolicyName, ScopeName},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Which policy, within one orchestrator: its name, and its namespace or stack where there is one.
///
/// Written `nightly` or `wholetale/nightly`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyId {
    scope: Option<ScopeName>,
    name: PolicyName,
}

impl PolicyId {
    /// The policy `name` of a namespace or stack.
    pub fn new(scope: Option<ScopeName>, name: PolicyName) -> Self {
        Self { scope, name }
    }

    /// The namespace or stack.
    pub fn scope(&self) -> Option<&ScopeName> {
        self.scope.as_ref()
    }

    /// The policy's own name.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// As a file name: `nightly` or `wholetale.nightly` (no part of it can hold a dot).
    pub fn file_name(&self) -> String {
        self.to_string().replace('/', ".")
    }

    /// The policy whose [`PolicyId::file_name`] this is.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_file_name(name: &str) -> Result<Self, Invalid> {
        name.replace('.', "/").parse()
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => write!(f, "{scope}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for PolicyId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once('/') {
            Some((scope, name)) => Ok(Self { scope: Some(scope.parse()?), name: name.parse()? }),
            None => Ok(Self { scope: None, name: text.parse()? }),
        }
    }
}

impl TryFrom<String> for PolicyId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<PolicyId> for String {
    fn from(id: PolicyId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_round_trip_as_text_and_as_file_names() {
        for text in ["nightly", "wholetale/nightly"] {
            let id: PolicyId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(PolicyId::from_file_name(&id.file_name()).unwrap(), id);
        }
        for bad in ["", "/a", "a/", "a/b/c", "../a", "a.b"] {
            assert!(bad.parse::<PolicyId>().is_err(), "{bad}");
        }
    }
}
