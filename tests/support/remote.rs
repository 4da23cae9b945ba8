//! A remote for tests: a folder behind rclone's `alias` backend, in a configuration of its own.

use super::{Scratch, tools};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The remote's name in the configuration.
pub const NAME: &str = "box";

/// A scratch folder with `rclone.conf` and the folder that the remote [`NAME`] stands for.
#[derive(Debug)]
pub struct Remote {
    scratch: Scratch,
    root: PathBuf,
}

impl Remote {
    pub fn new() -> Self {
        let scratch = Scratch::new("remote");
        let root = scratch.folder("stored");
        Self { scratch, root }.aliased()
    }

    /// A remote that stands for an existing folder, such as a mount of limited size.
    pub fn at(root: &Path) -> Self {
        Self { scratch: Scratch::new("remote"), root: root.to_owned() }.aliased()
    }

    fn aliased(self) -> Self {
        self.configure(&format!("[{NAME}]\ntype = alias\nremote = {}\n", self.root.display()));
        self
    }

    /// Replaces the whole configuration.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
    }

    /// The configuration, in a folder that may be written.
    pub fn config(&self) -> PathBuf {
        self.scratch.join("rclone.conf")
    }

    /// The folder that the remote stands for.
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// rclone with this configuration.
    pub fn rclone(&self) -> Command {
        let mut command = Command::new(tools::tool("rclone"));
        command.arg("--config").arg(self.config());
        command
    }

    /// Every object below the root, sorted, as paths from it.
    pub fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.root(), &self.root(), &mut found);
        found.sort();
        found
    }

    /// The one object whose path ends so.
    pub fn object(&self, suffix: &str) -> PathBuf {
        let all = self.objects();
        let mut fits = all.iter().filter(|path| path.ends_with(suffix));
        let found = fits.next().unwrap_or_else(|| panic!("no object ends in {suffix:?} among {all:#?}"));
        assert_eq!(fits.next(), None, "more than one object ends in {suffix:?}");
        self.root().join(found)
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    // A folder may go while it is looked for.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            collect(root, &entry.path(), found);
        } else {
            found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}
