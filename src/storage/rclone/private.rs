//! A directory in memory that only this user can enter: rclone makes its sockets accessible to all, so the directory
//! must not be.

use data_encoding::HEXLOWER;
use rustix::fs::{FlockOperation, flock};
use std::{
    env,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

const PREFIX: &str = "backstay-rclone-";
/// The system takes 107 bytes for the path of a socket.
const LONGEST: usize = 107 - "/rc.sock".len();

/// The directory; removed with all it holds when dropped.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
    /// Locked as long as this process lives: what is not locked was left by one that was killed.
    _lock: File,
}

impl PrivateDirectory {
    /// Makes one where memory is, or where temporary files are; and removes those that killed processes left behind,
    /// since they may hold a copy of the credentials.
    ///
    /// # Errors
    /// No place allows it.
    pub fn make() -> io::Result<Self> {
        let runtime = env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
        let places = runtime.into_iter().chain(["/dev/shm".into(), env::temp_dir()]);
        let mut last = io::Error::other("there is no place for temporary files");
        for place in places {
            sweep(&place);
            match make_in(&place) {
                Ok(made) => return Ok(made),
                Err(error) => last = io::Error::new(error.kind(), format!("{}: {error}", place.display())),
            }
        }
        Err(last)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn make_in(place: &Path) -> io::Result<PrivateDirectory> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = place.join(format!("{PREFIX}{}", HEXLOWER.encode(&random)));
    if path.as_os_str().len() > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            "the path is too long for a socket in it",
        ));
    }
    DirBuilder::new().mode(0o700).create(&path)?;
    let lock = File::open(&path)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(PrivateDirectory { path, _lock: lock })
}

/// Best effort: what cannot be removed harms nobody who could not read it before.
fn sweep(place: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(about) = entry.metadata() else { continue };
        // A new one is locked only a moment after it was made.
        let new = about.modified().ok().and_then(|at| at.elapsed().ok()).is_none_or(|age| age.as_secs() < 10);
        if !about.is_dir() || about.uid() != own || new {
            continue;
        }
        let free = File::open(entry.path())
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if free {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::fs::PermissionsExt as _,
        time::{Duration, SystemTime},
    };

    #[test]
    fn it_is_private_and_only_what_nobody_holds_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let made = make_in(place.path()).unwrap();
        assert_eq!(fs::metadata(made.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let left = place.path().join("backstay-rclone-0123456789abcdef");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("rclone.conf"), "secret").unwrap();
        let foreign = place.path().join("other");
        fs::create_dir(&foreign).unwrap();
        sweep(place.path());
        assert!(left.exists(), "it may just have been made");
        for path in [made.path(), &left] {
            #[expect(clippy::disallowed_methods, reason = "an hour before the real now")]
            let old = SystemTime::now() - Duration::from_secs(3600);
            File::open(path).unwrap().set_modified(old).unwrap();
        }
        sweep(place.path());
        assert!(made.path().exists() && foreign.exists() && !left.exists());
        assert!(make_in(&place.path().join("a".repeat(80))).unwrap_err().to_string().contains("too long"));
        let path = made.path().to_owned();
        drop(made);
        assert!(!path.exists());
    }
}
