//! The rclone process: how it is started, how its end is noticed, how it is ended.

use super::log::Log;
use crate::storage::child;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::{
    env,
    ffi::OsStr,
    io::{self, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};
use tokio::sync::watch;

/// Memory at which Go collects harder; the process then stays near 100 MiB with a few parallel transfers.
const MEMORY: &str = "96MiB";

/// Flags that do not depend on the task. What a call of ours repeats is not repeated inside; native hashes are
/// compared by listing, so the passes that rclone would make for them are saved (measured: 40 % of its CPU time).
const FLAGS: &[&str] = &[
    "--rc-no-auth",
    "--use-json-log",
    "--ignore-checksum",
    "--ask-password=false",
    "--retries=1",
    "--low-level-retries=3",
    "--timeout=2m",
    "--contimeout=30s",
    "--buffer-size=1M",
    "--rc-server-read-timeout=24h",
    "--rc-server-write-timeout=24h",
];

/// Settings of Go and rclone that a person's shell may hold must not change what a backup does. The password of an
/// encrypted configuration is no such setting.
fn is_surprising(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let go = matches!(&*name, "GOGC" | "GODEBUG" | "GOTRACEBACK" | "GOMAXPROCS");
    go || name.starts_with("RCLONE_") && name != "RCLONE_CONFIG_PASS"
}

/// A started rclone. Dropping it kills it, with whatever it started.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    ended: watch::Receiver<bool>,
    /// Held while the process is signalled, and while it is taken from the system's table: never a foreign process.
    alive: Arc<Mutex<bool>>,
    pub log: Arc<Log>,
}

impl Process {
    /// Starts `rclone rcd` on `socket`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(program: &Path, config: &Path, socket: &Path, bandwidth: Option<&str>) -> io::Result<Self> {
        let mut command = child::command(program);
        command.arg("rcd").args(FLAGS).arg("--config").arg(config);
        command.arg("--rc-addr").arg(format!("unix://{}", socket.display()));
        if let Some(limit) = bandwidth {
            command.arg(format!("--bwlimit={limit}"));
        }
        set_environment(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self::watch(child::spawn(command)?)
    }

    fn watch(mut child: Child) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let (tell, ended) = watch::channel(false);
        let process = Self { pid, ended, alive: Arc::new(Mutex::new(true)), log: Arc::new(Log::default()) };
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&process.log);
            let follow = move || log.follow(BufReader::new(stderr));
            thread::Builder::new().name("rclone-log".to_owned()).spawn(follow)?;
        }
        let alive = Arc::clone(&process.alive);
        thread::Builder::new().name("rclone-end".to_owned()).spawn(move || {
            // Sees the end and leaves the process in the table, so that its id stays its own until `alive` is false.
            while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_err_and(again) {}
            *alive.lock().unwrap_or_else(PoisonError::into_inner) = false;
            let _ = child.wait();
            let _ = tell.send(true);
        })?;
        Ok(process)
    }

    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub fn is_alive(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Waits for its end.
    pub async fn end(&self) {
        let mut ended = self.ended.clone();
        // An error means that the watching thread is gone, which it is only after the end.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Sends a signal to it and to what it started.
    pub fn signal(&self, signal: Signal) {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if *alive {
            let _ = kill_process_group(self.pid, signal);
        }
    }
}

fn again(error: rustix::io::Errno) -> bool {
    error == rustix::io::Errno::INTR
}

fn set_environment(command: &mut Command) {
    for (name, _) in env::vars_os().filter(|(name, _)| is_surprising(name)) {
        command.env_remove(name);
    }
    command.env("GOMEMLIMIT", MEMORY);
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_shell_do_not_reach_rclone() {
        for name in ["RCLONE_BWLIMIT", "RCLONE_CONFIG_BOX_TYPE", "RCLONE_CONFIG", "GODEBUG"] {
            assert!(is_surprising(OsStr::new(name)), "{name}");
        }
        for name in ["RCLONE_CONFIG_PASS", "HOME", "HTTPS_PROXY", "AWS_PROFILE"] {
            assert!(!is_surprising(OsStr::new(name)), "{name}");
        }
    }
}
