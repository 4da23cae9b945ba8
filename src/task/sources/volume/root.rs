//! The directory that a volume is.

use crate::{
    domain::{
        policy::VolumePlace,
        verdict::{Failure, Verdict},
    },
    task::restore::files::root::Root,
};
use rustix::{
    fd::{AsFd as _, OwnedFd},
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};
use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path},
};

/// Opens the root of a volume.
pub(super) fn open_root(place: &VolumePlace) -> Result<OwnedFd, Failure> {
    match place {
        VolumePlace::HostPath(path) => openat(CWD, path, TO_READ, Mode::empty())
            .map_err(|error| root_failure(&path.display().to_string(), error)),
        VolumePlace::Mounted { at, name } => open_mounted(at).map_err(|error| match error {
            Errno::LOOP | Errno::NOTDIR if leads_through_a_link(at) => link_failure(name),
            error => root_failure(name, error),
        }),
        VolumePlace::Named(name) | VolumePlace::Claim(name) => {
            let message =
                format!("{name} is not a path: this task can only read directories of its own host");
            Err(Failure::permanent("VolumeNotSupported", message).fix("use hostPath"))
        }
    }
}

const TO_READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens what was mounted for this task, through no symlink: whoever may write below the mount could lead to whatever else
/// is in the container, such as the secrets of the task.
fn open_mounted(at: &Path) -> Result<OwnedFd, Errno> {
    let names = at.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    });
    let relative = names.collect::<Vec<_>>().join(&b'/');
    let root = Root::open(Path::new("/"))?;
    let directory = root.directory(root.as_fd(), &relative)?;
    openat(directory, ".", TO_READ, Mode::empty())
}

fn leads_through_a_link(path: &Path) -> bool {
    path.ancestors().any(Path::is_symlink)
}

fn link_failure(name: &str) -> Failure {
    let message = format!("{name} leads through a symlink, which could lead out of what may be read");
    Failure::permanent("SourceIsALink", message).fix(
        "name the directory that it leads to in the policy; who may read that one is said by --allow-path",
    )
}

fn root_failure(path: &str, error: Errno) -> Failure {
    match error {
        Errno::NOENT => Failure::new(Verdict::Guard, "SourceMissing", format!("{path} does not exist"))
            .fix("mount or create it, or correct the volume's place in the policy"),
        Errno::NOTDIR | Errno::LOOP => {
            Failure::permanent("SourceNotADirectory", format!("{path} is not a directory"))
                .fix("give the directory that holds the files")
        }
        Errno::ACCESS | Errno::PERM => {
            Failure::permanent("SourceUnreadable", format!("{path} cannot be opened: {error}"))
                .fix("let the task run as a user who may read it, such as root")
        }
        error => Failure::temporary("SourceUnreadable", format!("{path} cannot be opened: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_link_below_what_is_mounted_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        // The folder for temporary files may itself lie behind a symlink.
        let mount = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(mount.join("secrets/below")).unwrap();
        fs::create_dir(mount.join("homes")).unwrap();
        fs::write(mount.join("file"), "").unwrap();
        for (link, target) in [("homes/out", "/etc"), ("homes/near", "../secrets"), ("homes/self", "self")] {
            symlink(target, mount.join(link)).unwrap();
        }
        let reason = |path: &str| {
            let place = VolumePlace::Mounted { at: mount.join(path), name: "/mnt/homes".to_owned() };
            open_root(&place).err().map(|failure| failure.reason)
        };
        for link in ["homes/out", "homes/near", "homes/near/below", "homes/self"] {
            assert_eq!(reason(link).as_deref(), Some("SourceIsALink"), "{link}");
        }
        assert_eq!(reason("homes"), None);
        assert_eq!(reason("secrets/below"), None);
        assert_eq!(reason("file").as_deref(), Some("SourceNotADirectory"));
        assert_eq!(reason("gone").as_deref(), Some("SourceMissing"));
    }

    #[test]
    fn a_person_may_name_a_link_on_the_own_host() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("homes")).unwrap();
        symlink("homes", folder.path().join("link")).unwrap();
        assert!(open_root(&VolumePlace::HostPath(folder.path().join("link"))).is_ok());
    }
}
