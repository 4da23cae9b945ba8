//! A real Kubernetes on this machine: a control plane, and nodes with kubelets in namespaces of their own.
//!
//! [`shared`] gives the one cluster of the fast tests, which keep apart by namespaces; [`Cluster::start`] one for a test that
//! cuts nodes off or kills servers. As with a Swarm, clusters never meet, and all of a cluster ends with the test process.

pub mod control;
pub mod node;
pub mod pki;

pub use super::swarm::remote::Served;
use super::{
    children::Kept,
    swarm::{
        engine::Engine,
        image, in_parallel,
        janitor::{self, Janitor},
        node as machine,
    },
    tools,
};
use control::Control;
use mongodb::Client;
use node::Node;
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Longest time that any call of kubectl may take, seconds.
const PATIENCE: &str = "60";

/// Running nodes and their control plane.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    control: Control,
    switch: Kept,
    // Last, so that the nodes are gone when it waits for what they leave.
    janitor: Janitor,
}

/// The cluster of all tests that only apply and look: two nodes, the images loaded. `None`, and a word about it on the
/// terminal, where none can be had; with `BACKSTAY_REQUIRE_KUBERNETES` set that is a failure.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| start_or_say(2)).as_ref()
}

/// A cluster of a test's own, with so many nodes; `None` as in [`shared`].
pub fn start_or_say(nodes: usize) -> Option<Cluster> {
    match obstacle() {
        None => Some(Cluster::start(nodes)),
        Some(why) => {
            let is_required = std::env::var_os("BACKSTAY_REQUIRE_KUBERNETES").is_some();
            assert!(!is_required, "no Kubernetes can be had here: {why}");
            // Not by a macro: those are silenced in a test that passes.
            let _ = writeln!(std::io::stderr(), "NOT RUN, a test on a real Kubernetes: {why}");
            None
        }
    }
}

fn obstacle() -> Option<String> {
    let missing = [programs(), cni()].into_iter().find(|folder| !folder.as_ref().is_some_and(|f| f.exists()));
    match missing {
        Some(_) => Some(
            "Kubernetes or its networks are missing: `make setup` says why they could not be had".to_owned(),
        ),
        None => Engine::Debian.obstacle(),
    }
}

fn in_cache(prefix: &str) -> Option<PathBuf> {
    let cache = tools::bin().parent()?.to_owned();
    let found = std::fs::read_dir(cache).ok()?.flatten().map(|entry| entry.path());
    found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).max()
}

/// Where the programs of Kubernetes lie.
fn programs() -> Option<PathBuf> {
    in_cache("kubernetes-")
}

/// Where the plugins for the networks of Pods lie.
fn cni() -> Option<PathBuf> {
    in_cache("cni-")
}

/// The path of a program of Kubernetes.
pub fn program(name: &str) -> PathBuf {
    programs().expect("`make setup` builds Kubernetes").join(name)
}

impl Cluster {
    /// Starts it, and loads the images.
    ///
    /// # Panics
    /// When that fails.
    pub fn start(nodes: usize) -> Self {
        janitor::clear_earlier();
        let janitor = Janitor::new();
        let switch = machine::switch();
        let images = images(janitor.folder(), switch.pid());
        let control = Control::start(janitor.folder(), switch.pid());
        let numbers: Vec<usize> = (1..=nodes).collect();
        let nodes =
            in_parallel(&numbers, |n| Node::start(*n, janitor.folder(), switch.pid(), &control, &images));
        let cluster = Self { nodes, control, switch, janitor };
        cluster.apply(&json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
        }));
        for node in &cluster.nodes {
            wait(&format!("node {}", node.name()), || {
                let ready = [
                    "get",
                    "node",
                    &node.name(),
                    "-o",
                    "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}",
                ];
                cluster.ask(ready).is_ok_and(|text| text == "True")
            });
        }
        cluster
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The control plane.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// A folder that goes with the cluster.
    pub fn folder(&self) -> &Path {
        self.janitor.folder()
    }

    /// A remote that every Pod reaches.
    pub fn remote(&self, port: u16) -> Served {
        Served::behind(self.switch.pid(), self.folder(), port)
    }

    /// Does something with the MongoDB server of a Pod.
    pub fn on_mongodb<T: Send>(
        &self,
        namespace: &str,
        pod: &str,
        work: impl AsyncFnOnce(Client) -> T + Send,
    ) -> T {
        let address = self.address(namespace, pod);
        let network = format!("/proc/{}/ns/net", self.switch.pid());
        machine::in_network(Path::new(&network), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let uri = format!("mongodb://{address}:27017/?directConnection=true");
                work(Client::with_uri_str(uri).await.unwrap()).await
            })
        })
    }

    /// The address of a Pod, once it runs.
    pub fn address(&self, namespace: &str, pod: &str) -> String {
        let phase = || self.get(namespace, "pod", pod).map(|pod| pod["status"]["phase"] == "Running");
        wait(&format!("Pod {pod}"), || phase() == Some(true));
        let pod = self.get(namespace, "pod", pod).expect("it was there");
        pod["status"]["podIP"].as_str().expect("a Pod that runs has an address").to_owned()
    }

    /// The configuration of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.control.kubeconfig()
    }

    /// Takes a node off the network; containers on it keep running.
    pub fn cut(&self, node: &Node) {
        machine::link(self.switch.pid(), node.number(), "down");
    }

    /// Puts it back.
    pub fn heal(&self, node: &Node) {
        machine::link(self.switch.pid(), node.number(), "up");
    }

    /// `kubectl …`, to be started.
    pub fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", PATIENCE]).arg(program("kubectl")).args(arguments);
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.folder()).stdin(Stdio::null());
        command
    }

    /// What `kubectl …` prints, without the last line's end, or what it complains of.
    pub fn ask<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
        told(&self.kubectl(arguments).output().expect("kubectl starts"))
    }

    /// What `kubectl …` prints.
    ///
    /// # Panics
    /// With what it said, when it fails.
    pub fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let arguments: Vec<&str> = arguments.into_iter().collect();
        self.ask(arguments.iter().copied()).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// An object, as JSON.
    pub fn get(&self, namespace: &str, kind: &str, name: &str) -> Option<Value> {
        let text = self.ask(["--namespace", namespace, "get", kind, name, "--output", "json"]).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The objects of a kind in a namespace.
    pub fn list(&self, namespace: &str, kind: &str) -> Vec<Value> {
        let text = self.run(["--namespace", namespace, "get", kind, "--output", "json"]);
        let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// `kubectl apply` of a document.
    ///
    /// # Panics
    /// With what it said, when it fails.
    pub fn apply(&self, document: &Value) {
        self.try_apply(&document.to_string()).unwrap_or_else(|error| panic!("{document}: {error}"));
    }

    /// `kubectl apply` of a text; what it complains of is an error.
    pub fn try_apply(&self, text: &str) -> Result<String, String> {
        self.with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], text)
    }

    /// `kubectl …` with a text as its input.
    pub fn with_input(&self, arguments: &[&str], text: &str) -> Result<String, String> {
        let mut command = self.kubectl(arguments.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        child.stdin.take().expect("it has an input").write_all(text.as_bytes()).expect("kubectl reads");
        told(&child.wait_with_output().expect("kubectl ends"))
    }

    /// A volume on a node and a claim that is made for it; gives the folder on this machine.
    pub fn volume(&self, namespace: &str, claim: &str, node: &Node) -> PathBuf {
        let name = format!("{namespace}-{claim}");
        let folder = node.folder().join("volumes").join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let size = json!({"storage": "10Gi"});
        let terms = json!([{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name()]}]}]);
        self.apply(&json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": size, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "persistentVolumeReclaimPolicy": "Retain", "local": {"path": folder},
                "claimRef": {"namespace": namespace, "name": claim},
                "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
            },
        }));
        self.apply(&json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local", "resources": {"requests": size},
                     "volumeName": name},
        }));
        folder
    }
}

/// What a program printed, without the last line's end, or what it complained of.
fn told(output: &Output) -> Result<String, String> {
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The tarballs of the images; what is not in the cache yet is built by an engine that ends again.
fn images(folder: &Path, switch: u32) -> Vec<PathBuf> {
    let builder = machine::Node::start(99, Engine::Debian, folder, switch);
    vec![image::sleeper(&builder), image::mongo(&builder), image::backstay(&builder)]
}

/// Waits for something that comes within two minutes.
///
/// # Panics
/// When it does not.
pub fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(200));
    }
    panic!("{what} does not come");
}
