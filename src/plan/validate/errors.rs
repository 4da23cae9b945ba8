//! Everything that is wrong with a specification, gathered.

use crate::domain::error::{AtField as _, Invalid};

/// Collects what is wrong while the rest goes on.
#[derive(Debug, Default)]
pub(super) struct Errors(pub(super) Vec<Invalid>);

impl Errors {
    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(Invalid { field: field.to_owned(), message: message.into() });
    }

    /// The value, or its error below `field`.
    pub(super) fn keep<T>(&mut self, field: &str, result: Result<T, Invalid>) -> Option<T> {
        result.at(field).map_err(|error| self.0.push(error)).ok()
    }
}
