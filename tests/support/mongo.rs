//! Real MongoDB servers for one test, alone or as a replica set, gone with their value.

use super::{
    Scratch,
    children::{self, Kept},
    tools,
};
use mongodb::{
    Client,
    bson::{Document, doc},
    options::{ClientOptions, Credential, ServerAddress},
};
use rustix::process::Signal;
use std::{
    net::TcpListener,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// Name of the replica sets.
pub const SET: &str = "rs1";
/// User of a server with access control, role `root`.
pub const USER: &str = "root";
/// Its password: characters that must be escaped in a URI, so that a missing escape shows.
pub const PASSWORD: &str = "p@ss:w/rd%";

/// A server that is there answers within this time, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Running servers of one deployment.
#[derive(Debug)]
pub struct Mongo {
    members: Vec<Member>,
    plan: Plan,
    _scratch: Scratch,
}

#[derive(Debug)]
struct Member {
    port: u16,
    process: Kept,
    folder: PathBuf,
}

/// What to start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    /// Members of a replica set; 0: a server alone.
    pub members: usize,
    /// With access control, the user [`USER`] and its [`PASSWORD`].
    pub auth: bool,
    /// Size of the oplog, MiB; 0: 128. A small one rolls over within a test.
    pub oplog_mib: u32,
}

impl Mongo {
    /// A server alone, without an oplog.
    pub async fn standalone() -> Self {
        Self::start(Plan::default()).await
    }

    /// A replica set with its primary ready; one member is enough for an oplog, and starts quickest.
    pub async fn replica_set(members: usize) -> Self {
        Self::start(Plan { members, ..Plan::default() }).await
    }

    /// Starts servers and waits until they can be written to and, in a set, every member is primary or secondary.
    pub async fn start(plan: Plan) -> Self {
        let scratch = Scratch::new("mongo");
        let key_file = plan.auth.then(|| key_file(&scratch));
        let mut members = Vec::new();
        for number in 0..plan.members.max(1) {
            let folder = scratch.folder(&number.to_string());
            members.push(Member::start(folder, plan, key_file.as_deref()).await);
        }
        let mongo = Self { members, plan, _scratch: scratch };
        if mongo.is_set() {
            mongo.initiate().await;
        }
        if mongo.plan.auth {
            mongo.create_root().await;
        }
        mongo
    }

    fn is_set(&self) -> bool {
        self.plan.members > 0
    }

    /// The connection string without user and password, `directConnection` for a server alone.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.members.iter().map(|m| format!("127.0.0.1:{}", m.port)).collect();
        let option =
            if self.is_set() { format!("replicaSet={SET}") } else { "directConnection=true".to_owned() };
        format!("mongodb://{}/?{option}", hosts.join(","))
    }

    /// The connection string with user and password, where there is access control.
    pub fn uri_with_password(&self) -> String {
        if !self.plan.auth {
            return self.uri();
        }
        self.uri().replacen("mongodb://", "mongodb://root:p%40ss%3Aw%2Frd%25@", 1)
    }

    /// A driver's client for the whole deployment.
    pub async fn client(&self) -> Client {
        Client::with_uri_str(self.uri_with_password()).await.unwrap()
    }

    /// The ports of the members.
    pub fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|m| m.port).collect()
    }

    /// Kills a member with SIGKILL.
    pub fn kill(&mut self, member: usize) {
        self.members[member].process.kill();
    }

    /// Stops a member where it is (SIGSTOP): it keeps its connections and answers nothing.
    pub fn freeze(&self, member: usize) {
        self.members[member].process.signal(Signal::STOP);
    }

    /// Starts a member of a set without access control that was killed, and waits until the set can be written to.
    pub async fn restart(&mut self, number: usize) {
        let plan = self.plan;
        let member = &mut self.members[number];
        member.process.kill();
        member.process = launch(&member.folder, member.port, plan, None);
        let client = direct(member.port, None);
        wait_hello(&client, &member.folder, |hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
            .await;
    }

    /// Waits until the set can be written to.
    pub async fn wait_for_primary(&self) {
        // The driver waits for one.
        self.client()
            .await
            .database("admin")
            .run_command(doc! {"appendOplogNote": 1, "data": {}})
            .await
            .unwrap();
    }

    /// Sends a signal to a member.
    pub fn signal(&self, member: usize, signal: Signal) {
        self.members[member].process.signal(signal);
    }

    /// Lets a frozen member go on.
    pub fn thaw(&self, member: usize) {
        self.members[member].process.signal(Signal::CONT);
    }

    /// The index of the member that is primary now.
    pub async fn primary(&self) -> usize {
        for (number, member) in self.members.iter().enumerate() {
            let hello = direct(member.port, None).database("admin").run_command(doc! {"hello": 1}).await;
            if hello.is_ok_and(|reply| reply.get_bool("isWritablePrimary").unwrap_or(false)) {
                return number;
            }
        }
        panic!("no member is primary");
    }

    async fn initiate(&self) {
        let members: Vec<Document> = self
            .members
            .iter()
            .enumerate()
            .map(|(id, m)| {
                // The first one wins the first election at once, whatever the others do.
                let priority = if id == 0 { 2.0 } else { 1.0 };
                doc! {"_id": i32::try_from(id).unwrap(), "host": format!("127.0.0.1:{}", m.port), "priority": priority}
            })
            .collect();
        let settings = doc! {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500};
        let config = doc! {"_id": SET, "members": members, "settings": settings};
        let first = client(self.members[0].port, None, PATIENCE);
        first.database("admin").run_command(doc! {"replSetInitiate": config}).await.unwrap();
        for (number, member) in self.members.iter().enumerate() {
            let client = direct(member.port, None);
            let ready: &[&str] =
                if number == 0 { &["isWritablePrimary"] } else { &["isWritablePrimary", "secondary"] };
            wait_hello(&client, &member.folder, |hello| {
                ready.iter().any(|key| matches!(hello.get_bool(key), Ok(true)))
            })
            .await;
        }
    }

    /// Allowed without a password, from this host, as long as there is no user.
    async fn create_root(&self) {
        let create = doc! {"createUser": USER, "pwd": PASSWORD, "roles": ["root"]};
        client(self.members[0].port, None, PATIENCE).database("admin").run_command(create).await.unwrap();
    }
}

impl Member {
    /// A port that was free a moment ago may be taken when the server binds it: then the next one.
    async fn start(folder: PathBuf, plan: Plan, key_file: Option<&Path>) -> Self {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut process = launch(&folder, port, plan, key_file);
            let client = direct(port, None);
            while !process.ended() {
                if client.database("admin").run_command(doc! {"hello": 1}).await.is_ok() {
                    return Self { port, process, folder };
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        panic!("mongod does not start: {}", tail(&folder));
    }
}

fn launch(folder: &Path, port: u16, plan: Plan, key_file: Option<&Path>) -> Kept {
    let set = plan.members > 0;
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = children::tied(tools::tool("mongod"));
    command.args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]);
    command.args(["--setParameter", "diagnosticDataCollectionEnabled=false", "--port", &port.to_string()]);
    command.arg("--dbpath").arg(&data).stdout(log).stderr(Stdio::null());
    if set {
        let oplog = if plan.oplog_mib == 0 { 128 } else { plan.oplog_mib };
        command.args(["--replSet", SET, "--oplogSize", &oplog.to_string()]);
        if plan.oplog_mib > 0 {
            // What the last checkpoint needs is kept, and the usual minute is longer than a test.
            command.args(["--syncdelay", "1"]);
        }
    }
    match key_file {
        Some(file) if set => _ = command.arg("--keyFile").arg(file),
        Some(_) => _ = command.arg("--auth"),
        None => {}
    }
    children::start(command)
}

fn key_file(scratch: &Path) -> PathBuf {
    use std::io::Write as _;
    let path = scratch.join("keyfile");
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o400).open(&path).unwrap();
    file.write_all(b"dGhlIG1lbWJlcnMgb2YgYSB0ZXN0IHNldCBrbm93IGVhY2ggb3RoZXI=").unwrap();
    path
}

/// A client of one member that is asked whether it is there yet.
fn direct(port: u16, credential: Option<Credential>) -> Client {
    client(port, credential, Duration::from_secs(1))
}

/// A client of one member, with a password where asked for, that waits so long for it.
fn client(port: u16, credential: Option<Credential>, patience: Duration) -> Client {
    let options = ClientOptions::builder()
        .hosts(vec![ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: Some(port) }])
        .direct_connection(true)
        .server_selection_timeout(patience)
        .credential(credential)
        .build();
    Client::with_options(options).unwrap()
}

async fn wait_hello(client: &Client, folder: &Path, ready: impl Fn(&Document) -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    while tokio::time::Instant::now() < deadline {
        let hello = client.database("admin").run_command(doc! {"hello": 1}).await;
        if hello.is_ok_and(|reply| ready(&reply)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("mongod does not become ready: {}", tail(folder));
}

fn tail(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
