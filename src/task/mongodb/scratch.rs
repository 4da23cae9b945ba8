//! A MongoDB server to throw away: where a backup proves that it restores.

use super::{connection::Connection, tool::Tool};
use crate::domain::verdict::Failure;
use mongodb::{bson::doc, options::ServerAddress};
use std::{
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// Longest path of a unix socket, bytes.
const SOCKET_PATH: usize = 100;

/// A running server without access control, which only its own user reaches: through a socket in a private folder.
/// Stopped by [`ScratchServer::stop`], killed when this value goes; the folder is the caller's to remove.
pub struct ScratchServer {
    tool: Tool,
    connection: Connection,
    /// The folder by which clients find the socket.
    _home: OwnedFd,
}

impl ScratchServer {
    /// Starts `mongod` with its data in the new folder `folder/mongod`, and waits until it answers.
    ///
    /// # Errors
    /// A folder that cannot be used, and a server that does not start within a minute.
    pub async fn start(mongod: &Path, folder: &Path) -> Result<Self, Failure> {
        let home = folder.join("mongod");
        let made = std::fs::DirBuilder::new().mode(0o700).create(&home);
        made.and_then(|()| std::fs::create_dir(home.join("data")))
            .map_err(|e| Failure::permanent("ScratchFolder", format!("{}: {e}", home.display())))?;
        let socket = home.join("s.sock");
        if socket.as_os_str().len() > SOCKET_PATH {
            let message = format!("{} is too long a path for a socket", socket.display());
            return Err(Failure::permanent("ScratchFolder", message).fix("choose a shorter scratch folder"));
        }
        let tool = Tool::start("mongod", mongod, |command| {
            command.arg("--dbpath").arg(home.join("data")).arg("--bind_ip").arg(&socket);
            command.args(["--wiredTigerCacheSizeGB", "0.25", "--setParameter"]);
            command.args(["diagnosticDataCollectionEnabled=false", "--logpath"]).arg(home.join("log"));
            command.stdin(Stdio::null()).stdout(Stdio::null());
        })?;
        let folder = open(&home)?;
        // The tools make a socket's path lower-case. This one is, whatever the folder is called.
        let path = format!("/proc/{}/fd/{}/s.sock", std::process::id(), folder.as_raw_fd());
        let connection = Connection::local(ServerAddress::Unix { path: path.into() });
        let mut server = Self { tool, connection, _home: folder };
        server.ready(&home).await?;
        Ok(server)
    }

    /// How to reach it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ends the server.
    pub async fn stop(mut self) {
        self.tool.stop().await;
    }

    async fn ready(&mut self, home: &Path) -> Result<(), Failure> {
        let client = self.connection.client()?;
        let wait = async {
            while client.database("admin").run_command(doc! {"ping": 1}).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = wait => Ok(()),
            _ = self.tool.end() => Err(failed(home, "ended")),
            () = tokio::time::sleep(Duration::from_secs(60)) => Err(failed(home, "does not answer")),
        }
    }
}

fn open(folder: &Path) -> Result<OwnedFd, Failure> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Failure::permanent("ScratchFolder", format!("{}: {e}", folder.display())))
}

fn failed(home: &Path, how: &str) -> Failure {
    let log: PathBuf = home.join("log");
    Failure::temporary("ScratchServer", format!("the scratch mongod {how}; its log is {}", log.display()))
}
