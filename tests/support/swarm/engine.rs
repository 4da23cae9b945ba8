//! Which Docker Engine a node runs, and whether it can run here.

use super::super::tools;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// An engine that `tools/setup.py` put into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// 20.10.24, Debian's; `make setup` fetches it.
    Debian,
    /// 29.0.0, built from its source; `setup.py engine29` does.
    Newest,
}

impl Engine {
    /// The one that this run of the tests is about: `BACKSTAY_ENGINE=29` for the newest.
    pub fn wanted() -> Self {
        if std::env::var_os("BACKSTAY_ENGINE").is_some_and(|engine| engine == "29") {
            Self::Newest
        } else {
            Self::Debian
        }
    }

    /// Why a node of this engine cannot run here, for a person.
    pub fn obstacle(self) -> Option<String> {
        if let Some(missing) = self.folders().into_iter().find(|folder| !folder.join("bin").exists()) {
            return Some(format!(
                "{} is missing: `make setup` says why it could not be had",
                missing.display()
            ));
        }
        let mut namespaces = Command::new("unshare");
        namespaces.args(["--mount", "--uts", "--net", "--pid", "--fork", "--mount-proc"]);
        namespaces.args(["sh", "-c", "mount -t tmpfs none /mnt && test -d /sys/fs/cgroup"]);
        match namespaces.stdin(Stdio::null()).output() {
            Err(error) => Some(format!("`unshare` does not start: {error}")),
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!(
                "namespaces and mounts of its own are not allowed here, only root may have them: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    /// Where its programs lie, the folder to be searched first first.
    fn folders(self) -> Vec<PathBuf> {
        let cache = tools::bin().parent().expect("the tools are in a folder of the cache").to_owned();
        let debian = cache.join("engine-20.10.24");
        match self {
            Self::Debian => vec![debian],
            // It runs on Debian's containerd and with Debian's iptables.
            Self::Newest => vec![cache.join("engine29-29.0.0"), debian],
        }
    }

    /// Makes a program of the engine find the others and their libraries.
    pub fn prepare(self, command: &mut Command) {
        let folders = self.folders();
        let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        let path = std::env::join_paths(folders.iter().map(|folder| folder.join("bin")).chain(system));
        let lib = folders.last().expect("an engine has a folder").join("lib");
        command.env("PATH", path.expect("the cache's path holds no colon")).env("LD_LIBRARY_PATH", &lib);
        command.env("XTABLES_LIBDIR", lib.join("xtables"));
    }

    /// The path of one of its programs.
    pub fn program(self, name: &str) -> PathBuf {
        let found =
            self.folders().into_iter().map(|folder| folder.join("bin").join(name)).find(|path| path.exists());
        found.unwrap_or_else(|| panic!("the engine has no {name}: run `make setup` first"))
    }

    /// The docker CLI for an engine behind a socket, with settings of its own below a folder.
    pub fn cli(self, socket: &Path, config: &Path) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", super::PATIENCE]).arg(self.program("docker"));
        command.env("DOCKER_HOST", format!("unix://{}", socket.display())).env("DOCKER_CONFIG", config);
        command.env("DOCKER_BUILDKIT", "1").env_remove("DOCKER_CONTEXT").stdin(Stdio::null());
        command
    }
}
