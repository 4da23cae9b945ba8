//! Why a verb could not do what was asked, and how that is told.

use crate::{
    cli::exit::Exit,
    domain::{
        error::Invalid,
        verdict::{Failure, STOPPED},
    },
    storage::store::StoreError,
};
use std::io;

/// Why a verb ended early.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The command line cannot be meant: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A document or value that a person wrote is wrong.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// Something went wrong at run time.
    #[error("{0}")]
    Failure(Failure),
    /// What the program's own edge met: a file that cannot be read, a runtime that does not start.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
    /// A person, or the system, ended it.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// Whoever read the output has seen enough (`| head`): silent, exit code 0.
    #[error("the output was closed")]
    OutputClosed,
}

impl Problem {
    /// The exit code that goes with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::OutputClosed => Exit::Ok,
            Self::Interrupted(_) => Exit::Interrupted,
            Self::Invalid(_) | Self::Failure(_) | Self::Other(_) => Exit::Failed,
        }
    }

    /// What to do next, where it is known.
    pub fn fix(&self) -> Option<&str> {
        match self {
            Self::Failure(failure) => failure.fix.as_deref(),
            _ => None,
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        if failure.reason == STOPPED { Self::Interrupted(failure.message) } else { Self::Failure(failure) }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::OutputClosed } else { Self::Other(error.into()) }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}
