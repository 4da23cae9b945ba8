//! Removes what a swarm's nodes leave, when they are gone: also after a test process that was killed.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const PREFIX: &str = "backstay-swarm-";
/// Waits for the end of its input, which is the end of the swarm or of the test process; then removes the folder and the
/// empty control groups of its name as soon as nothing uses them any more.
const SCRIPT: &str = r#"
cat >/dev/null
for _ in $(seq 100); do
  rm -rf "$1" 2>/dev/null
  find /sys/fs/cgroup -depth -type d -path "*/$2*" -exec rmdir {} + 2>/dev/null
  [ -e "$1" ] || exit 0
  sleep 0.1
done
"#;

/// A folder, and a process of its own that removes it.
#[derive(Debug)]
pub struct Janitor {
    folder: PathBuf,
    process: Child,
}

impl Janitor {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap().keep();
        std::fs::write(folder.join("pid"), std::process::id().to_string()).unwrap();
        let name = folder.file_name().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "janitor"]).arg(&folder).arg(name);
        // A group of its own: an interrupt at the terminal ends the tests, not this.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let process = command.spawn().unwrap();
        Self { folder, process }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Removes folders of test processes that are gone, as after a power cut; nothing of theirs runs any more.
pub fn clear_earlier() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let mut pid = String::new();
        let read =
            std::fs::File::open(entry.path().join("pid")).and_then(|mut file| file.read_to_string(&mut pid));
        if read.is_ok() && !pid.is_empty() && !Path::new("/proc").join(&pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
