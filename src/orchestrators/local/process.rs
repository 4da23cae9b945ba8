//! A process, told from a later one of the same number by its start time and the boot it belongs to.

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};
use std::{fs, os::fd::OwnedFd};

/// A process's identity. As a leader of its own group it stands for the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// Clock ticks from boot to its start (`/proc/<pid>/stat`, field 22).
    pub start_ticks: u64,
    /// The boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    state: char,
    group: i32,
    start_ticks: u64,
}

impl ProcessId {
    /// The identity of the process that has this number now, also of one that ended and was not waited for.
    pub fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        Some(Self { pid, start_ticks: stat(pid)?.start_ticks, boot_id: boot_id() })
    }

    /// A process that ended before its number was known.
    pub fn gone() -> Self {
        Self { pid: 0, start_ticks: 0, boot_id: String::new() }
    }

    /// This process.
    pub fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// The process whose arguments contain `argument`, by a look at all processes.
    pub fn with_argument(argument: &str) -> Option<Self> {
        let has_argument = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
        };
        pids().find(has_argument).and_then(Self::of)
    }

    /// True while it runs. One that ended and was not waited for does not.
    pub fn is_alive(&self) -> bool {
        let is_same = |stat: &Stat| stat.start_ticks == self.start_ticks && !matches!(stat.state, 'Z' | 'X');
        stat(self.pid).as_ref().is_some_and(is_same) && boot_id() == self.boot_id
    }

    /// Sends a signal to it and all of its group.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Kills what is left of its group once it has ended itself.
    ///
    /// While a member lives the kernel gives the group's number to no new process; so where no process has the number,
    /// the members are its own.
    pub fn sweep_group(&self) {
        let Some(group) = Pid::from_raw(self.pid).filter(|_| boot_id() == self.boot_id) else { return };
        let is_gone = stat(self.pid).is_none_or(|s| s.start_ticks == self.start_ticks && s.state == 'Z');
        let is_member = |pid: u32| {
            let pid = i32::try_from(pid).unwrap_or(0);
            pid != self.pid && stat(pid).is_some_and(|s| s.group == self.pid)
        };
        if is_gone && pids().any(is_member) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// A descriptor that becomes readable when it ends; nothing when it has ended, or on an old kernel.
    pub fn watch(&self) -> Option<OwnedFd> {
        let descriptor = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        // Looked at only after the descriptor is open, so that it cannot belong to a later process.
        descriptor.filter(|_| self.is_alive())
    }
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.pid, self.start_ticks)
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold anything; what follows the last one is numbers.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    #[test]
    fn a_process_is_told_from_a_later_one_and_from_its_corpse() {
        let own = ProcessId::current().unwrap();
        assert!(own.is_alive());
        assert!(!ProcessId { start_ticks: own.start_ticks + 1, ..own.clone() }.is_alive());
        assert!(!ProcessId { boot_id: "another".to_owned(), ..own }.is_alive());

        let argument = format!("1000.{}", std::process::id());
        let mut child = Command::new("sleep")
            .arg(&argument)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        assert!(id.is_alive());
        // The kernel lets the parent go on a moment before it shows the arguments of the child.
        let found =
            std::iter::repeat_with(|| ProcessId::with_argument(&argument)).take(1000).flatten().next();
        id.signal(Signal::KILL);
        assert_eq!(found, Some(id.clone()));
        while id.is_alive() {
            std::thread::yield_now();
        }
        assert!(ProcessId::of(child.id()).is_some(), "not waited for yet");
        child.wait().unwrap();
        assert!(id.watch().is_none());
    }
}
