//! Child processes that the kernel kills when this process dies, however it dies.
//!
//! Linux can do that (`PR_SET_PDEATHSIG`), but only a process can ask it for itself. So this program starts itself
//! anew as `backstay __child <parent> <program> …`, asks, and becomes the program. Two traps are in the details: the
//! signal is sent when the *thread* that started the child ends, so one thread that never ends starts them all; and
//! the parent may be gone before the child asks, so the child compares.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

/// First argument of a process that is to become a child.
const BECOME: &str = "__child";

/// Set once this process is known to be the program that understands [`BECOME`], and not some test.
static CAPABLE: OnceLock<()> = OnceLock::new();

/// The first act of the program: becomes the child, if that is what it was started for, and never returns then.
/// Otherwise children may be started from now on that die with this process.
///
/// # Errors
/// The child's program could not be started; the process should say so and end.
pub fn become_child(arguments: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next().is_none_or(|first| first != BECOME) {
        let _ = CAPABLE.set(());
        return Ok(());
    }
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: __child PARENT PROGRAM [ARGUMENT]...");
    let parent = arguments.next().and_then(|id| id.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let (Some(parent), Some(program)) = (parent, arguments.next()) else { return Err(usage()) };
    match exec(parent, &program, arguments) {
        Ok(never) => match never {},
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", program.display()))),
    }
}

fn exec(parent: Pid, program: &OsStr, arguments: impl Iterator<Item = OsString>) -> io::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        return Err(io::Error::other("the process that wanted this child is gone"));
    }
    Err(Command::new(program).args(arguments).exec())
}

/// A command that runs `program` in a process group of its own and, when it was started by [`spawn`], dies with this
/// process. Add arguments and streams; [`Command::arg0`] must not be changed.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = if CAPABLE.get().is_some() {
        // Also right when the file was replaced since: the kernel still knows the running one.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("backstay").arg(BECOME).arg(std::process::id().to_string()).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.process_group(0);
    command
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a command on the thread that never ends.
///
/// # Errors
/// The program cannot be started; a program that is missing shows as an exit code 1 and a message instead.
pub fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);
    let (reply, answer) = mpsc::channel();
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    let orders = match &*starter {
        Some(orders) => orders.clone(),
        None => starter.insert(start_starter()?).clone(),
    };
    drop(starter);
    let gone = |_| io::Error::other("the thread that starts children is gone");
    orders.send((command, reply)).map_err(|_| gone(mpsc::RecvError))?;
    answer.recv().map_err(gone)?
}

fn start_starter() -> io::Result<mpsc::Sender<Order>> {
    let (send, orders) = mpsc::channel::<Order>();
    thread::Builder::new().name("children".to_owned()).spawn(move || {
        for (mut command, reply) in orders {
            let _ = reply.send(command.spawn());
        }
    })?;
    Ok(send)
}
