//! Whether a volume could be stored, without storing it.

use super::root::open_root;
use crate::{
    domain::{
        policy::Volume,
        verdict::{Failure, Verdict},
    },
    task::guard::made_empty,
};
use rustix::fs::Dir;

/// Opens the root and looks whether there is anything in it.
///
/// # Errors
/// A root that is missing, cannot be read, or is empty without `allowEmpty`: most likely nothing is mounted there.
pub fn preflight(volume: &Volume) -> Result<(), Failure> {
    let within = |failure: Failure| failure.within(&format!("volume {}", volume.name));
    let root = open_root(&volume.place).map_err(within)?;
    let unreadable = |error: rustix::io::Errno| {
        within(Failure::permanent("SourceUnreadable", format!("its root cannot be read: {error}")))
    };
    for entry in Dir::new(root).map_err(unreadable)? {
        // A file system without files still has this one.
        if !matches!(entry.map_err(unreadable)?.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            return Ok(());
        }
    }
    if volume.allow_empty {
        return Ok(());
    }
    let message = format!("there is nothing in it{}", made_empty(&volume.place));
    let empty = Failure::new(Verdict::Guard, "SourceEmpty", message);
    Err(within(empty.fix("mount it, or set allowEmpty for the volume in the policy")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::VolumePlace;
    use std::{collections::BTreeMap, path::Path};

    fn reason(path: &Path, allow_empty: bool) -> Option<String> {
        let volume = Volume {
            name: "homes".parse().unwrap(),
            place: VolumePlace::HostPath(path.to_owned()),
            include: vec![],
            exclude: vec![],
            optional: false,
            allow_empty,
            node_selector: BTreeMap::new(),
            one_file_system: true,
        };
        preflight(&volume).err().map(|failure| failure.reason)
    }

    #[test]
    fn a_mount_point_without_its_mount_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(reason(&folder.path().join("gone"), true).as_deref(), Some("SourceMissing"));
        std::fs::create_dir(folder.path().join("lost+found")).unwrap();
        assert_eq!(reason(folder.path(), false).as_deref(), Some("SourceEmpty"));
        assert_eq!(reason(folder.path(), true), None);
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(reason(folder.path(), false), None);
        assert_eq!(reason(&folder.path().join("file"), false).as_deref(), Some("SourceNotADirectory"));
    }
}
