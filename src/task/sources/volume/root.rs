//! The directory that a volume is.

use crate::domain::{
    policy::VolumePlace,
    verdict::{Failure, Verdict},
};
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags},
    io::Errno,
};

/// Opens the root of a volume.
pub(super) fn open_root(place: &VolumePlace) -> Result<OwnedFd, Failure> {
    let (path, name) = match place {
        VolumePlace::HostPath(path) => (path, path.display().to_string()),
        VolumePlace::Mounted { at, name } => (at, name.clone()),
        VolumePlace::Named(name) | VolumePlace::Claim(name) => {
            let message =
                format!("{name} is not a path: this task can only read directories of its own host");
            return Err(Failure::permanent("VolumeNotSupported", message).fix("use hostPath"));
        }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| root_failure(&name, error))
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
