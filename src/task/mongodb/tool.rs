//! mongodump and mongorestore as supervised children.
//!
//! A child leads a process group of its own, reads its configuration from a pipe and nothing from a terminal, and its
//! standard error becomes our log. Should this process die, the kernel kills it.

use crate::{domain::verdict::Failure, storage::child};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, kill_process_group},
};
use secrecy::{ExposeSecret, SecretString};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};

/// A pipe takes this much without a reader on every Linux.
const PIPE_BYTES: usize = 4096;
/// Longest line of a tool that is kept.
const LINE_BYTES: u64 = 8192;

/// Where the tools are, and how long they may stand still.
#[derive(Debug, Clone)]
pub struct Tools {
    /// mongodump.
    pub mongodump: PathBuf,
    /// mongorestore.
    pub mongorestore: PathBuf,
    /// mongod, for drills.
    pub mongod: PathBuf,
    /// A tool that moves no byte for so long is ended.
    pub stall: Duration,
    /// The store may keep a dump waiting for so long: less than the 30 minutes after which servers end a session.
    pub store_stall: Duration,
    /// Wait before a dump that the oplog would not carry is tried again: longer than the server's 10 s between notes.
    pub pause: Duration,
}

impl Default for Tools {
    /// The tools of `PATH`.
    fn default() -> Self {
        Self {
            mongodump: "mongodump".into(),
            mongorestore: "mongorestore".into(),
            mongod: "mongod".into(),
            stall: Duration::from_secs(600),
            store_stall: Duration::from_secs(25 * 60),
            pause: Duration::from_secs(16),
        }
    }
}

/// A pipe that the configuration waits in, and the end that the child reads.
///
/// # Errors
/// A configuration that no pipe takes at once.
pub fn config_pipe(config: &SecretString) -> Result<OwnedFd, Failure> {
    let text = config.expose_secret().as_bytes();
    if text.len() > PIPE_BYTES {
        let message =
            format!("connection string and password have {} bytes, at most {PIPE_BYTES}", text.len());
        return Err(Failure::permanent("ConnectionString", message));
    }
    let make = || {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::write(&write, text)?;
        Ok(read)
    };
    make().map_err(|e: rustix::io::Errno| Failure::temporary("NoPipe", format!("making a pipe: {e}")))
}

/// A pipe of 1 MiB where the system allows that: fewer changes between the two processes.
///
/// # Errors
/// No file descriptor is left.
pub fn data_pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|e| Failure::temporary("NoPipe", format!("making a pipe: {e}")))?;
    let _ = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
    Ok((read, write))
}

/// A running tool. Killed when this value goes.
pub struct Tool {
    name: &'static str,
    /// Its process group, until its end was seen.
    group: Option<Pid>,
    exit: oneshot::Receiver<std::io::Result<ExitStatus>>,
    status: Option<ExitStatus>,
    /// Reads standard error; gone once its end was seen.
    log: Option<JoinHandle<()>>,
    said: Arc<Said>,
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What a tool wrote to standard error.
#[derive(Debug, Default)]
struct Said {
    last: Mutex<String>,
    failed: Mutex<String>,
}

impl Tool {
    /// Starts `program`; the file descriptors that `command` holds are closed here.
    ///
    /// # Errors
    /// A program that is not there.
    pub fn start(
        name: &'static str,
        program: &Path,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self, Failure> {
        let missing = |e: &dyn std::fmt::Display| {
            Failure::permanent("ToolMissing", format!("{} cannot be started: {e}", program.display())).fix(
                match name {
                    "mongod" => "install mongod of the version that is backed up, in PATH".to_owned(),
                    _ => format!("install {name} (MongoDB database tools 100.7 or later) in PATH"),
                },
            )
        };
        let program = find(program).ok_or_else(|| missing(&"there is no such program"))?;
        let mut command = child::command(program);
        configure(&mut command);
        // Go's collector keeps to it, at no cost in speed; four large collections took 366 MiB without.
        command.env("GOMEMLIMIT", "150MiB").stderr(Stdio::piped());
        let mut child = child::spawn(command).map_err(|e| missing(&e))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let said = Arc::new(Said::default());
        let log = child.stderr.take().map(|stderr| tokio::spawn(read_log(name, stderr, said.clone())));
        Ok(Self { name, group, exit: wait(child)?, status: None, log, said })
    }

    /// The tool's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Waits for its end, and for the last line that it wrote.
    ///
    /// # Errors
    /// The system does not tell.
    pub async fn end(&mut self) -> Result<ExitStatus, Failure> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let ended = (&mut self.exit).await;
        self.group = None;
        if let Some(log) = self.log.take() {
            // A grandchild could keep the pipe open; the tools have none, so this is only a guard.
            let _ = tokio::time::timeout(Duration::from_secs(5), log).await;
        }
        let unknown = |e: &dyn std::fmt::Display| {
            Failure::temporary("NoChild", format!("waiting for {}: {e}", self.name))
        };
        let status = ended.map_err(|e| unknown(&e))?.map_err(|e| unknown(&e))?;
        self.status = Some(status);
        Ok(status)
    }

    /// The line in which it said why it failed, else its last one.
    pub fn said(&self) -> String {
        let get = |text: &Mutex<String>| text.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let failed = get(&self.said.failed);
        if failed.is_empty() { get(&self.said.last) } else { failed }
    }

    /// Ends it: asks twice (one that waits for its reader takes no notice of the first time), then kills.
    pub async fn stop(&mut self) {
        for (signal, grace) in [(Signal::TERM, 2), (Signal::TERM, 3), (Signal::KILL, 10)] {
            let Some(group) = self.group else { return };
            let _ = kill_process_group(group, signal);
            if tokio::time::timeout(Duration::from_secs(grace), self.end()).await.is_ok() {
                return;
            }
        }
    }
}

/// A thread of its own waits for each tool: there is one at a time.
fn wait(mut child: Child) -> Result<oneshot::Receiver<std::io::Result<ExitStatus>>, Failure> {
    let (send, receive) = oneshot::channel();
    let run = move || {
        let _ = send.send(child.wait());
    };
    std::thread::Builder::new()
        .name("tool".to_owned())
        .spawn(run)
        .map_err(|e| Failure::temporary("NoThreads", format!("no thread could be started: {e}")))?;
    Ok(receive)
}

/// The file of a program: as it is, or found in `PATH`.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

async fn read_log(name: &'static str, stderr: ChildStderr, said: Arc<Said>) {
    let Ok(stderr) = tokio::process::ChildStderr::from_std(stderr) else { return };
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => said.note(name, &String::from_utf8_lossy(&line)),
        }
    }
}

impl Said {
    fn note(&self, name: &str, line: &str) {
        let line = line.trim_end();
        // `2026-11-25T02:00:01.123+0000⇥…`
        let text = line.split_once('\t').map_or(line, |(_, text)| text).trim();
        // One line every three seconds for each collection: `[####....]  db.c  1/2  (50.0%)`.
        if text.is_empty() || text.starts_with('[') {
            return;
        }
        tracing::debug!(tool = name, "{text}");
        let place = if text.starts_with("Failed: ") || text.starts_with("error parsing") {
            &self.failed
        } else {
            &self.last
        };
        text.clone_into(&mut place.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// How an exit reads in a message.
pub fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// Counts the bytes that pass between a tool and us, for the watchdog.
#[derive(Debug, Default)]
pub struct Flow {
    bytes: AtomicU64,
    /// We are the ones who wait: for the store, or for the next part.
    ours: AtomicBool,
}

impl Flow {
    /// Bytes passed.
    pub fn passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// From now on the tool waits for us, or no longer.
    pub fn ours(&self, ours: bool) {
        self.ours.store(ours, Ordering::Relaxed);
    }

    /// Returns when nothing moved for too long, with who is to blame.
    pub async fn stalled(&self, tools: &Tools) -> Stalled {
        let step = (tools.stall.min(tools.store_stall) / 10)
            .clamp(Duration::from_millis(20), Duration::from_secs(5));
        let (mut seen, mut since) = (u64::MAX, Instant::now());
        loop {
            let bytes = self.bytes.load(Ordering::Relaxed);
            if bytes != seen {
                (seen, since) = (bytes, Instant::now());
            }
            let (limit, stalled) = if self.ours.load(Ordering::Relaxed) {
                (tools.store_stall, Stalled::Store)
            } else {
                (tools.stall, Stalled::Tool)
            };
            if since.elapsed() >= limit {
                return stalled;
            }
            tokio::time::sleep(step).await;
        }
    }
}

/// Who stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalled {
    /// The tool, or the server behind it.
    Tool,
    /// The store.
    Store,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn shell(script: &str) -> Tool {
        Tool::start("sh", Path::new("/bin/sh"), |command| {
            command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
        })
        .unwrap()
    }

    #[tokio::test]
    async fn the_line_that_says_why_is_found() {
        let script = r"printf 't\twriting a\nt\tFailed: no luck\nt\t[###..] a 1/2\nt\tdumped\n' >&2; exit 3";
        let mut tool = shell(script);
        assert_eq!(ended(tool.end().await.unwrap()), "exit code 3");
        assert_eq!(tool.said(), "Failed: no luck");
    }

    #[tokio::test]
    async fn a_tool_that_ignores_the_first_signal_is_ended_by_the_second() {
        let mut tool =
            shell("trap 'trap \"exit 1\" TERM' TERM; echo ready >&2; while :; do sleep 0.05; done");
        while tool.said().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tool.stop().await;
        assert_eq!(ended(tool.end().await.unwrap()), "exit code 1");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_says_what_to_install() {
        let failure = Tool::start("mongodump", Path::new("/nowhere/mongodump"), |_| ()).err().unwrap();
        assert_eq!(failure.reason, "ToolMissing");
    }

    #[tokio::test]
    async fn whoever_stands_still_is_blamed() {
        let milliseconds = Duration::from_millis;
        let tools = Tools { stall: milliseconds(30), store_stall: milliseconds(90), ..Tools::default() };
        let flow = Flow::default();
        assert_eq!(flow.stalled(&tools).await, Stalled::Tool);
        flow.ours(true);
        let begin = Instant::now();
        assert_eq!(flow.stalled(&tools).await, Stalled::Store);
        assert!(begin.elapsed() >= tools.store_stall);
    }

    #[test]
    fn a_configuration_waits_in_its_pipe() {
        use std::io::Read;
        let pipe = config_pipe(&"{\"uri\": \"x\"}".into()).unwrap();
        let mut text = String::new();
        std::fs::File::from(pipe).read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"uri\": \"x\"}");
        assert!(config_pipe(&"x".repeat(5000).into()).is_err());
    }
}
