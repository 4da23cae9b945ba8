//! One node: containerd and dockerd in namespaces of their own (processes, mounts, network, host name).

use super::{
    super::children::{self, Kept},
    engine::Engine,
    said,
};
use rustix::{
    process::Signal,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// The first process of a node's namespaces: when it ends, all others in them do, and every mount is gone. A node has its
/// own `/mnt` and `/run`; name servers are out of reach, so that a missing image is noticed at once.
const INIT: &str = r#"
hostname "$1"
mount --bind "$2/resolv.conf" /etc/resolv.conf
mount --bind "$2/mnt" /mnt
mount -t tmpfs none /run
exec "$3" -s -- sleep infinity
"#;
/// An address for documentation (RFC 5737); nobody answers there.
const NAME_SERVER: &str = "192.0.2.53";
pub const SUBNET: &str = "10.77.0";
/// The switch itself: where the nodes send what is for nobody of them.
pub const GATEWAY: &str = "10.77.0.254";

/// A running node of a swarm.
#[derive(Debug)]
pub struct Node {
    number: usize,
    engine: Engine,
    /// State, logs and sockets.
    folder: PathBuf,
    /// The control group of its containers.
    group: String,
    dockerd: Mutex<Option<Kept>>,
    // Dropped in this order: the namespaces last.
    _containerd: Kept,
    init: u32,
    _namespaces: Kept,
}

/// A network namespace with a bridge, for nodes to be plugged into.
pub fn switch() -> Kept {
    let mut command = children::tied("unshare");
    command.args(["--net", "sleep", "infinity"]);
    let switch = children::start(command);
    wait("the switch's namespace", || net_of(switch.pid()) != net_of(std::process::id()));
    ip(switch.pid(), &["link", "add", "br0", "type", "bridge"]);
    ip(switch.pid(), &["link", "set", "lo", "up"]);
    ip(switch.pid(), &["addr", "add", &format!("{GATEWAY}/24"), "dev", "br0"]);
    ip(switch.pid(), &["link", "set", "br0", "up"]);
    switch
}

/// Puts the link of a node up or down.
pub fn link(switch: u32, number: usize, state: &str) {
    ip(switch, &["link", "set", &format!("v{number}"), state]);
}

/// Makes a node lose what it sends to another one, and only that; or no longer.
pub fn route(node: &Node, to: &Node, change: Route) {
    let change = match change {
        Route::Lost => "add",
        Route::Found => "del",
    };
    ip(node.init, &["route", change, "unreachable", &format!("{}/32", to.address())]);
}

/// See [`route`].
#[derive(Debug, Clone, Copy)]
pub enum Route {
    Lost,
    Found,
}

/// `ip` in the network namespace of a process.
pub fn ip(pid: u32, arguments: &[&str]) {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--net"]).arg(Engine::Debian.program("ip")).args(arguments);
    Engine::Debian.prepare(&mut command);
    let output = command.stdin(Stdio::null()).output().expect("nsenter starts");
    said(&command, &output);
}

fn net_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

pub fn wait(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} does not come up");
}

impl Node {
    /// Starts a node below a folder and plugs it into the switch.
    pub fn start(number: usize, engine: Engine, swarm: &Path, switch: u32) -> Self {
        let folder = swarm.join(format!("n{number}"));
        for part in ["mnt", "cli"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        std::fs::write(folder.join("resolv.conf"), format!("nameserver {NAME_SERVER}\n")).unwrap();
        std::fs::write(folder.join("containerd.toml"), containerd_settings(&folder)).unwrap();
        std::fs::write(folder.join("daemon.json"), "{}").unwrap();
        let namespaces = namespaces(&format!("n{number}"), INIT, engine, &folder);
        let init = first_process(&namespaces);
        plug(number, init, switch);
        let mut command = within(init, engine, &engine.program("containerd"), &folder);
        command.arg("--config").arg(folder.join("containerd.toml"));
        let containerd = children::start(command);
        wait("containerd", || folder.join("containerd.sock").exists());
        let name = swarm.file_name().unwrap().to_string_lossy();
        let group = format!("/{name}-n{number}");
        let dockerd = Mutex::new(None);
        let node = Self {
            number,
            engine,
            folder,
            group,
            dockerd,
            _containerd: containerd,
            init,
            _namespaces: namespaces,
        };
        node.start_daemon();
        node
    }

    /// Its number in the swarm, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its host name, `n1` and so on, which is its name in the swarm.
    pub fn name(&self) -> String {
        format!("n{}", self.number)
    }

    /// Its address, known only within the swarm.
    pub fn address(&self) -> String {
        format!("{SUBNET}.{}", self.number)
    }

    /// The engine's socket; within the node it is also where everybody expects it, `/var/run/docker.sock`.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// What this node, and no other, has as `/mnt`: the place for bind mounts.
    pub fn mnt(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    /// `docker …` on this node; gives its output without the last line's end.
    ///
    /// # Panics
    /// With what docker said, when it fails.
    pub fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let mut command = self.command(arguments);
        let output = command.output().expect("docker starts");
        said(&command, &output)
    }

    /// As [`Node::docker`], of an engine that may be away or without a leader: what it said is an error then.
    pub fn ask<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
        let output = self.command(arguments).output().expect("docker starts");
        let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Makes a container stand still. A machine that is busy may not freeze one at once.
    pub fn pause(&self, container: &str) {
        wait("a container that stands still", || self.ask(["pause", container]).is_ok());
    }

    /// `docker …` on this node, to be started.
    pub fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.engine.cli(&self.socket(), &self.folder.join("cli"));
        command.args(arguments);
        command
    }

    /// Any program within the node's namespaces: it reaches the addresses of containers of its bridges, and sees its `/mnt`.
    pub fn within(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        enter(&mut command, self.init);
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// The node's `/proc`: all that runs on it, in its containers as well.
    pub fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/proc", self.init))
    }

    /// Does something in the network of a container of this node.
    pub fn in_network_of<T: Send>(&self, container: &str, work: impl FnOnce() -> T + Send) -> T {
        let pid = self.docker(["inspect", "--format", "{{.State.Pid}}", container]);
        // That id is one of the node's own.
        in_network(&self.proc().join(pid).join("ns/net"), work)
    }

    /// Loads a tarball of images.
    pub fn load(&self, tarball: &Path) {
        self.docker(["load", "--quiet", "--input", tarball.to_str().expect("paths of tests are text")]);
    }

    /// Joins a swarm by a token.
    pub fn join(&self, token: &str, manager: &str) {
        let own = self.address();
        self.docker([
            "swarm",
            "join",
            "--token",
            token,
            "--advertise-addr",
            &own,
            &format!("{manager}:2377"),
        ]);
    }

    /// Sends a signal to dockerd. Containers live on without it.
    pub fn signal_daemon(&self, signal: Signal) {
        let dockerd = self.dockerd.lock().unwrap_or_else(PoisonError::into_inner);
        let outer = dockerd.as_ref().expect("the daemon runs").pid();
        // The process that entered the namespaces waits for the one within.
        for pid in children::descendants(outer).into_iter().take(1) {
            children::signal_pid(pid, signal);
        }
    }

    /// Kills dockerd with SIGKILL and waits for its end.
    pub fn kill_daemon(&self) {
        self.end_daemon(Signal::KILL);
    }

    /// Stops dockerd as its service manager would.
    pub fn stop_daemon(&self) {
        self.end_daemon(Signal::TERM);
    }

    fn end_daemon(&self, signal: Signal) {
        self.signal_daemon(signal);
        let mut ended =
            self.dockerd.lock().unwrap_or_else(PoisonError::into_inner).take().expect("the daemon runs");
        let _ = ended.child().wait();
    }

    /// Starts dockerd, the first time or after its end, and waits until it answers.
    pub fn start_daemon(&self) {
        let _ = std::fs::remove_file(self.folder.join("docker.pid"));
        let mut command = within(self.init, self.engine, &self.engine.program("dockerd"), &self.folder);
        command.arg("--config-file").arg(self.folder.join("daemon.json"));
        command
            .arg("--data-root")
            .arg(self.folder.join("data"))
            .arg("--exec-root")
            .arg(self.folder.join("exec"));
        command.arg("--pidfile").arg(self.folder.join("docker.pid"));
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.args(["--host", "unix:///run/docker.sock"]);
        command
            .arg("--containerd")
            .arg(self.folder.join("containerd.sock"))
            .args(["--cgroup-parent", &self.group]);
        *self.dockerd.lock().unwrap_or_else(PoisonError::into_inner) = Some(children::start(command));
        for _ in 0..1200 {
            if self.answers() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("dockerd of node {} does not come up: {}", self.number, self.log());
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(self.socket())?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply)?;
            Ok(reply)
        };
        ask().is_ok_and(|reply| reply.contains(" 200 "))
    }

    /// The end of dockerd's log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("dockerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// Does something in the network namespace that a path stands for.
pub fn in_network<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let network = std::fs::File::open(namespace).unwrap();
    // A thread has a network of its own, and takes it to its grave.
    thread::scope(|scope| {
        let inside = move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        scope.spawn(inside).join().expect("what was done in another network worked")
    })
}

/// Opens namespaces of a machine with a name, in which the first process runs a script, with the machine's folder and the
/// program that is to become it; the value's end is their end.
pub fn namespaces(name: &str, script: &str, engine: Engine, folder: &Path) -> Kept {
    let mut command = children::tied("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "--uts",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.args(["sh", "-c", script, "init", name]).arg(folder).arg(engine.program("tini-static"));
    command.stderr(log(folder, "init"));
    children::start(command)
}

/// The id of the namespaces' first process, once it has made the mounts.
pub fn first_process(namespaces: &Kept) -> u32 {
    let ready = || {
        let inner = children::descendants(namespaces.pid());
        inner.iter().copied().find(|pid| children::name(*pid).is_some_and(|name| name == "tini-static"))
    };
    wait("a node's first process", || ready().is_some());
    ready().expect("it was there")
}

pub fn plug(number: usize, init: u32, switch: u32) {
    let (port, pid) = (format!("v{number}"), init.to_string());
    ip(switch, &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
    ip(switch, &["link", "set", &port, "master", "br0", "up"]);
    ip(init, &["addr", "add", &format!("{SUBNET}.{number}/24"), "dev", "eth0"]);
    ip(init, &["link", "set", "lo", "up"]);
    ip(init, &["link", "set", "eth0", "up"]);
    ip(init, &["route", "add", "default", "via", GATEWAY]);
    ip(init, &["route", "add", "unreachable", &format!("{NAME_SERVER}/32")]);
}

/// A program within the namespaces, with the engine's own at hand, its output appended to a log of its name.
pub fn within(init: u32, engine: Engine, program: &Path, folder: &Path) -> Command {
    let mut command = children::tied("nsenter");
    enter(&mut command, init);
    let name = program.file_name().expect("a program has a name").to_string_lossy();
    command.arg(program).current_dir(folder).stdout(log(folder, &name)).stderr(log(folder, &name));
    engine.prepare(&mut command);
    command
}

pub fn enter(command: &mut Command, init: u32) {
    command.args(["--target", &init.to_string(), "--mount", "--uts", "--net", "--pid", "--"]);
}

pub fn log(folder: &Path, program: &str) -> std::fs::File {
    std::fs::File::options().append(true).create(true).open(folder.join(format!("{program}.log"))).unwrap()
}

fn containerd_settings(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "version = 2\nroot = \"{folder}/containerd\"\nstate = \"/run/containerd-node\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"{folder}/containerd.sock\"\n"
    )
}
