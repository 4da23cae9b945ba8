//! The configuration that rclone is given: in place in a directory that may be written, since rclone keeps a token that
//! it renews by replacing the file; of anything else a private copy, and what rclone renews in it is written back.

use super::private::PrivateDirectory;
use crate::domain::verdict::Failure;
use data_encoding::HEXLOWER;
use rustix::fs::Access;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const NAME: &str = "rclone.conf";
/// A token that can be used once is lost with a process that is killed sooner after it was renewed.
const LOOK: Duration = Duration::from_millis(200);

/// A configuration. Clones share its private copy, and with it what was renewed, also where it cannot be written back.
#[derive(Debug, Clone)]
pub struct Config(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    given: PathBuf,
    copy: OnceLock<Copied>,
}

#[derive(Debug)]
struct Copied {
    original: PathBuf,
    folder: PrivateDirectory,
    /// What both held when they were last the same.
    same: Mutex<Vec<u8>>,
    warned: AtomicBool,
}

impl<P: Into<PathBuf>> From<P> for Config {
    fn from(given: P) -> Self {
        Self(Arc::new(Shared { given: given.into(), copy: OnceLock::new() }))
    }
}

impl Config {
    /// The file or directory that was given.
    pub fn given(&self) -> &Path {
        &self.0.given
    }

    /// The file for rclone. A copy is made once, and watched until the last clone is gone.
    pub(super) fn place(&self) -> Result<PathBuf, Failure> {
        let given = self.given();
        if let Some(copied) = self.0.copy.get() {
            return Ok(copied.path());
        }
        let is_directory = given.is_dir();
        let file = if is_directory { given.join(NAME) } else { given.to_owned() };
        let content = fs::read(&file).map_err(|error| {
            let message = format!("the rclone configuration {} cannot be read: {error}", file.display());
            Failure::permanent("RcloneConfigUnreadable", message)
                .fix("make it with `rclone config`, and name it in the policy's destination")
        })?;
        if is_directory && rustix::fs::access(given, Access::WRITE_OK).is_ok() {
            return Ok(file);
        }
        let copied = Copied::make(file, content).map_err(|error| {
            Failure::temporary("NoPrivateDirectory", format!("the configuration cannot be copied: {error}"))
        })?;
        let path = self.0.copy.get_or_init(|| copied).path();
        self.watch();
        Ok(path)
    }

    fn watch(&self) {
        let shared = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(shared) = shared.upgrade() else { return };
                let _ = shared.save();
            }
        });
    }

    /// Writes back what rclone changed.
    ///
    /// # Errors
    /// Why that is lost with the last clone, and what to do, for a person.
    pub fn save(&self) -> Result<(), String> {
        self.0.save()
    }
}

impl Shared {
    fn save(&self) -> Result<(), String> {
        let Some(copied) = self.copy.get() else { return Ok(()) };
        let saved = copied.save();
        if let Err(why) = &saved
            && !copied.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{why}");
        }
        saved
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = self.save();
    }
}

impl Copied {
    fn make(original: PathBuf, content: Vec<u8>) -> io::Result<Self> {
        let folder = PrivateDirectory::make()?;
        create(&folder.path().join(NAME))?.write_all(&content)?;
        Ok(Self { original, folder, same: Mutex::new(content), warned: AtomicBool::new(false) })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    fn save(&self) -> Result<(), String> {
        let mut same = self.same.lock().unwrap_or_else(PoisonError::into_inner);
        // While rclone replaces it there is none.
        let Ok(renewed) = fs::read(self.path()) else { return Ok(()) };
        if renewed == *same {
            return Ok(());
        }
        let lost = |why: &str, fix: &str| {
            let original = self.original.display();
            format!("rclone renewed a token, and {original} does not have it: {why}; {fix}")
        };
        let cannot = |error: io::Error| {
            let fix = "put rclone.conf into a directory that Backstay may write, and name that in the policy: destination.configFrom.directory";
            lost(&format!("it cannot be written ({error})"), fix)
        };
        if fs::read(&self.original).map_err(cannot)? != *same {
            let fix = "if the remote refuses the credentials from now on: rclone config reconnect";
            return Err(lost("somebody changed it meanwhile", fix));
        }
        replace(&self.original, &renewed).map_err(cannot)?;
        *same = renewed;
        Ok(())
    }
}

/// Replaces a file at once; a link to it, its owner and its mode stay.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let about = fs::metadata(&path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let temporary = folder.join(format!(".{NAME}.{}", HEXLOWER.encode(&random)));
    let mut file = create(&temporary)?;
    let mut write = || {
        file.write_all(content)?;
        fchown(&file, Some(about.uid()), Some(about.gid()))?;
        file.set_permissions(about.permissions())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const OLD: &str = "token = old";
    const NEW: &str = "token = new";

    /// A configuration that is a link, and where rclone finds it.
    fn placed(folder: &Path) -> (Config, PathBuf) {
        fs::write(folder.join("real"), OLD).unwrap();
        fs::set_permissions(folder.join("real"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real", folder.join(NAME)).unwrap();
        let config = Config::from(folder.join(NAME));
        let copy = config.place().unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), OLD);
        (config, copy)
    }

    fn original(folder: &Path) -> String {
        assert!(folder.join(NAME).is_symlink());
        assert_eq!(fs::read_dir(folder).unwrap().count(), 2, "nothing is left beside them");
        assert_eq!(fs::metadata(folder.join("real")).unwrap().permissions().mode() & 0o777, 0o640);
        fs::read_to_string(folder.join(NAME)).unwrap()
    }

    #[tokio::test]
    async fn a_renewed_token_is_written_back_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (config, copy) = placed(folder.path());
        fs::write(&copy, NEW).unwrap();
        while original(folder.path()) != NEW {
            tokio::time::sleep(LOOK / 4).await;
        }
        fs::remove_file(&copy).unwrap();
        assert_eq!(config.save(), Ok(()));
        fs::write(&copy, "token = newest").unwrap();
        drop(config);
        assert_eq!(original(folder.path()), "token = newest");
        assert!(!copy.exists());
    }

    #[tokio::test]
    async fn what_a_person_changed_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (config, copy) = placed(folder.path());
        fs::write(folder.path().join("real"), "mine").unwrap();
        assert_eq!(config.save(), Ok(()));
        fs::write(&copy, NEW).unwrap();
        let why = config.save().unwrap_err();
        assert!(why.contains("somebody changed it") && why.contains("rclone config reconnect"), "{why}");
        assert_eq!(original(folder.path()), "mine");
    }

    #[tokio::test]
    async fn what_cannot_be_written_back_is_said_and_kept_for_the_next_rclone() {
        let folder = tempfile::tempdir().unwrap();
        let (config, copy) = placed(folder.path());
        fs::write(&copy, NEW).unwrap();
        // As a secret that its keeper took away; where root may write all, no mode says no.
        fs::remove_file(folder.path().join("real")).unwrap();
        let why = config.save().unwrap_err();
        assert!(
            why.contains("cannot be written") && why.contains("destination.configFrom.directory"),
            "{why}"
        );
        assert_eq!(fs::read_to_string(config.clone().place().unwrap()).unwrap(), NEW);
    }
}
