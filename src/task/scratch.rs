//! A folder of our own for what must be on a disk for a while.

use crate::domain::verdict::Failure;
use data_encoding::HEXLOWER;
use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A private folder that is removed with everything in it when this value goes.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
}

impl ScratchFolder {
    /// Makes one in `place`, such as the directory for temporary files.
    ///
    /// # Errors
    /// The place cannot be written.
    pub fn make(place: &Path) -> Result<Self, Failure> {
        let mut random = [0; 8];
        let made = getrandom::fill(&mut random).map_err(io::Error::other).and_then(|()| {
            let path = place.join(format!("backstay-{}", HEXLOWER.encode(&random)));
            DirBuilder::new().mode(0o700).create(&path)?;
            Ok(Self { path })
        });
        made.map_err(|e| {
            let message = format!("no folder could be made in {}: {e}", place.display());
            Failure::permanent("ScratchFolder", message).fix("name another place for temporary files: TMPDIR")
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // Whoever looks after temporary files finds what cannot be removed here.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
