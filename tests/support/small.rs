//! A folder that holds only so much.

use super::Scratch;
use std::{path::Path, process::Command};

/// A file system in memory of a fixed size, unmounted with this value.
#[derive(Debug)]
pub struct Small(Scratch);

impl Small {
    /// `None` where mounting is not allowed: only root may.
    pub fn new(mib: u32) -> Option<Self> {
        let scratch = Scratch::new("small");
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&*scratch).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(scratch))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&*self.0).status();
    }
}
