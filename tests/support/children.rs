//! Child processes that never outlive the tests.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, mpsc},
};

/// A process that is killed, by its id, when this value goes; the kernel kills it should the test process die first.
#[derive(Debug)]
pub struct Kept(Child);

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// One thread starts all of them, since the kernel's parent-death signal follows the *thread* that forked.
static STARTER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (send, orders) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, reply) in orders {
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(send)
});

/// A command that the kernel kills when the test process dies. Give it to [`start`].
pub fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// Starts a command made by [`tied`].
pub fn start(command: Command) -> Kept {
    let (reply, answer) = mpsc::channel();
    STARTER.lock().unwrap().send((command, reply)).unwrap();
    Kept(answer.recv().unwrap().expect("the program starts"))
}

impl Kept {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// True once it has ended.
    pub fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    pub fn signal(&self, signal: Signal) {
        signal_pid(self.pid(), signal);
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to one process; no error when it is gone.
pub fn signal_pid(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The ids of the direct and indirect children of a process, from `/proc`.
pub fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let of = found[next];
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the state and the parent's id follow its last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The program's name of a process.
pub fn name(pid: u32) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}
