//! What can end the reading of an archive.

use crate::domain::verdict::Failure;

/// Where the kept bytes go.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), Failure> + 'a;

/// Why an archive is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the archive is broken at byte {offset}{}: {problem}", place(namespace))]
pub struct Broken {
    /// Offset of the item that is wrong, or of the end of the input.
    pub offset: u64,
    /// The namespace whose block it is in.
    pub namespace: Option<String>,
    /// What is wrong.
    pub problem: String,
}

fn place(namespace: &Option<String>) -> String {
    namespace.as_ref().map(|n| format!(" in {n}")).unwrap_or_default()
}

/// Why feeding ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The archive is no good.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The sink would take no more.
    #[error(transparent)]
    Sink(Failure),
}
