//! A remote that every container of a swarm or a cluster reaches, and nobody else: WebDAV behind the switch.

use super::{
    super::{
        children::{self, Kept},
        remote, tools,
    },
    Swarm, node,
};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Stdio,
};

/// A folder that is served; the server ends with this value.
#[derive(Debug)]
pub struct Served {
    root: PathBuf,
    port: u16,
    _server: Kept,
}

impl Served {
    /// Serves a new folder at a port of the swarm's gateway.
    pub fn new(swarm: &Swarm, port: u16) -> Self {
        Self::behind(swarm.switch.pid(), swarm.folder(), port)
    }

    /// Serves a new folder at a port of the gateway of a switch.
    pub fn behind(switch: u32, folder: &Path, port: u16) -> Self {
        let root = folder.join(format!("remote-{port}"));
        fs::create_dir_all(&root).unwrap();
        let mut command = children::tied("nsenter");
        command.args(["--target", &switch.to_string(), "--net", "--"]).arg(tools::tool("rclone"));
        command.args([
            "serve",
            "webdav",
            "--config",
            "/dev/null",
            "--addr",
            &format!("{}:{port}", node::GATEWAY),
        ]);
        command.arg(&root).stdout(Stdio::null()).stderr(Stdio::null());
        let server = children::start(command);
        let network = format!("/proc/{switch}/ns/net");
        let listens = || TcpStream::connect((node::GATEWAY, port)).is_ok();
        node::in_network(Path::new(&network), || node::wait("the remote", listens));
        Self { root, port, _server: server }
    }

    /// The rclone configuration of it, under the name of all remotes of tests.
    pub fn config(&self) -> String {
        let (name, gateway, port) = (remote::NAME, node::GATEWAY, self.port);
        format!("[{name}]\ntype = webdav\nurl = http://{gateway}:{port}\nvendor = other\n")
    }

    /// What is stored, as a folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
