//! How rclone is run, and for what.

use super::config::Config;
use crate::domain::location::{RemoteName, RemotePath};
use std::{path::PathBuf, time::Duration};

/// What a task may do with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Read only.
    Read,
    /// Read, and create objects that are not there yet.
    Append,
    /// As [`Mode::Append`], and delete.
    Prune,
}

/// How rclone is run, and for what.
#[derive(Debug, Clone)]
pub struct RcloneOptions {
    /// The program: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// `rclone.conf`: a file, or a writable directory with an `rclone.conf`.
    pub config: Config,
    /// The remote, a section of the configuration.
    pub remote: RemoteName,
    /// The instance's folder on the remote: paths of objects are relative to it.
    pub path: RemotePath,
    /// What may be done.
    pub mode: Mode,
    /// rclone's `--bwlimit`: a rate such as `8M`, or a timetable.
    pub bandwidth_limit: Option<String>,
    /// A transfer without a byte of progress for so long is given up; the second one in a row ends the daemon.
    pub stall: Duration,
    /// Waits between tries to go on with a download.
    pub backoff: Vec<Duration>,
}

impl RcloneOptions {
    /// The usual: `rclone` on `PATH`, no bandwidth limit, five minutes for a stall.
    pub fn new(config: impl Into<Config>, remote: RemoteName, path: RemotePath, mode: Mode) -> Self {
        Self {
            program: "rclone".into(),
            config: config.into(),
            remote,
            path,
            mode,
            bandwidth_limit: None,
            stall: Duration::from_secs(300),
            backoff: [1, 4, 16, 60, 240].map(Duration::from_secs).to_vec(),
        }
    }
}
