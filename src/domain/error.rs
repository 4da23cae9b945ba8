//! The one shape of a wrong value: which field, what it was, what is allowed.

use std::fmt;

/// A value that a person wrote and that cannot be accepted.
///
/// Printed as `volumes[homes].hostPath: "mnt/homes" is not an absolute path; write a path that starts with /`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", Field(field))]
pub struct Invalid {
    /// Path of the field as written in YAML, `volumes[homes].hostPath`; empty where a bare value was parsed.
    pub field: String,
    /// Names the value and what is allowed instead.
    pub message: String,
}

struct Field<'a>(&'a str);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

impl Invalid {
    /// An error about a bare value; [`Invalid::at`] adds the field when the caller knows it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { field: String::new(), message: message.into() }
    }

    /// The first of several errors, and how many more there are.
    pub fn first_of(errors: impl IntoIterator<Item = Self>) -> Self {
        let mut errors = errors.into_iter();
        let first = errors.next().unwrap_or_else(|| Self::new("it cannot be understood"));
        match errors.count() {
            0 => first,
            more => Self { message: format!("{} (and {more} more)", first.message), ..first },
        }
    }

    /// Puts `field` before the path known so far: `at("volumes[homes]")` on `hostPath` gives `volumes[homes].hostPath`.
    #[must_use]
    pub fn at(mut self, field: &str) -> Self {
        self.field = match (field, self.field.as_str()) {
            (outer, "") => outer.to_owned(),
            ("", inner) => inner.to_owned(),
            (outer, inner) if inner.starts_with('[') => format!("{outer}{inner}"),
            (outer, inner) => format!("{outer}.{inner}"),
        };
        self
    }
}

/// Adds the field name to a failed parse.
pub trait AtField<T> {
    /// See [`Invalid::at`].
    ///
    /// # Errors
    /// The same error, with the field in front.
    fn at(self, field: &str) -> Result<T, Invalid>;
}

impl<T> AtField<T> for Result<T, Invalid> {
    fn at(self, field: &str) -> Result<T, Invalid> {
        self.map_err(|e| e.at(field))
    }
}
