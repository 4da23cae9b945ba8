//! How the program ends.

use std::process::ExitCode;

/// The exit codes of every verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: failed.
    Failed,
    /// 2: the command line is wrong; nothing was done.
    Usage,
    /// 3: done in part; the output says what is missing.
    Partial,
    /// 130: interrupted by a person.
    Interrupted,
    /// What the verb defines itself: a task's verdict, `status --check`.
    Code(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Interrupted => 130,
            Self::Code(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
