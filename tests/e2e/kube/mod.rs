//! On a real Kubernetes.

mod chart;
mod controller;
mod journey;
mod page;
mod people;
mod restores;
mod states;

use crate::support::{
    children::{self, Kept},
    kube::{Cluster, Served, wait},
    remote,
    swarm::image,
    tools,
};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The definitions of the resources, as they lie in the repository.
fn definitions() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/backstay.yaml");
    std::fs::read_to_string(path).expect("the definitions are in the repository")
}

/// Makes the resources known to the cluster, once.
fn install(cluster: &Cluster) {
    cluster.try_apply(&definitions()).expect("the definitions are applied");
    for plural in ["backuppolicies", "backups", "restores"] {
        let name = format!("crd/{plural}.backstay.dev");
        cluster.run(["wait", "--for=condition=Established", "--timeout=30s", &name]);
    }
}

/// A namespace of a test's own, and a controller for it.
struct Site<'a> {
    cluster: &'a Cluster,
    namespace: String,
    folder: PathBuf,
    controller: Option<Kept>,
}

impl<'a> Site<'a> {
    fn new(cluster: &'a Cluster, namespace: &str) -> Self {
        install(cluster);
        cluster.run(["create", "namespace", namespace]);
        let folder = cluster.folder().join(format!("site-{namespace}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut site = Self { cluster, namespace: namespace.to_owned(), folder, controller: None };
        site.start_controller();
        site
    }

    /// A server in a Pod of its own, a claim on the second node with a Pod that uses it, and the Secret for a remote at a
    /// port; gives the remote and the claim's folder.
    fn furnish(&self, port: u16) -> (Served, PathBuf) {
        let (cluster, namespace) = (self.cluster, self.namespace.as_str());
        let homes = cluster.volume(namespace, "homes", &cluster.nodes()[1]);
        std::fs::create_dir_all(homes.join("ada")).unwrap();
        std::fs::write(homes.join("ada/notes.txt"), "hello").unwrap();
        std::os::unix::fs::symlink("notes.txt", homes.join("ada/link")).unwrap();
        let mounts = json!([{"name": "homes", "mountPath": "/homes"}]);
        self.pod(
            "user",
            &json!({
                "containers": [{"name": "user", "image": image::SLEEPER, "volumeMounts": mounts}],
                "volumes": [{"name": "homes", "persistentVolumeClaim": {"claimName": "homes"}}],
            }),
        );
        self.pod("mongo", &json!({
            "containers": [{"name": "mongo", "image": image::MONGO, "command": ["mongod", "--bind_ip_all"]}],
        }));
        cluster.on_mongodb(namespace, "mongo", async |client| {
            let notes = client.database("girder").collection::<Document>("notes");
            notes.insert_many((0..500).map(|n| doc! {"_id": n, "text": "x".repeat(100)})).await.unwrap();
        });
        cluster.address(namespace, "user");
        let served = cluster.remote(port);
        cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rclone", "namespace": namespace},
            "stringData": {"rclone.conf": served.config()},
        }));
        (served, homes)
    }

    /// Makes a Pod that ends at once when it is told to.
    fn pod(&self, name: &str, spec: &Value) {
        let mut spec = spec.clone();
        spec["terminationGracePeriodSeconds"] = json!(1);
        let metadata = json!({"name": name, "namespace": self.namespace});
        self.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
    }

    fn apply(&self, document: &Value) {
        self.cluster.apply(document);
    }

    /// A policy of all that [`Site::furnish`] made.
    fn policy(&self, name: &str) -> Value {
        let address = self.cluster.address(&self.namespace, "mongo");
        let mut policy = self.policy_of_homes(name);
        policy["spec"]["mongodb"] = json!({"uri": format!("mongodb://{address}:27017/")});
        policy
    }

    /// A policy of the claim alone.
    fn policy_of_homes(&self, name: &str) -> Value {
        let config = json!({"secretKeyRef": {"name": "rclone"}});
        json!({
            "apiVersion": "backstay.dev/v1alpha1", "kind": "BackupPolicy",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "volumes": [{"name": "homes", "claimName": "homes"}],
                "destination": {"remote": remote::NAME, "path": "WT", "configFrom": config},
            },
        })
    }

    /// `kubectl create` of a request for a run of the policy `nightly`.
    fn ask_for_a_run(&self, name: &str) {
        self.ask_for_a_run_of("nightly", name);
    }

    fn ask_for_a_run_of(&self, policy: &str, name: &str) {
        let metadata = json!({"name": name, "namespace": self.namespace});
        let (version, spec) = ("backstay.dev/v1alpha1", json!({"policy": policy}));
        self.apply(&json!({"apiVersion": version, "kind": "Backup", "metadata": metadata, "spec": spec}));
    }

    /// Waits until a backup has ended, and gives its status.
    fn ended(&self, backup: &str) -> Value {
        let status = || self.get("backup", backup)["status"].clone();
        wait(&format!("the end of backup {backup}"), || {
            status()["phase"].as_str().is_some_and(|phase| phase != "Running")
        });
        status()
    }

    /// Starts a controller of this namespace as a process of this machine.
    fn start_controller(&mut self) {
        self.controller = Some(self.another_controller("controller"));
    }

    /// One more controller, with a log of its own.
    fn another_controller(&self, log: &str) -> Kept {
        let lease = format!("{}/backstay", self.namespace);
        let mut command = children::tied(env!("CARGO_BIN_EXE_backstay"));
        command.args(["controller", "--orchestrator", "kubernetes", "--namespace", &self.namespace]);
        command.args(["--image", image::BACKSTAY, "--lease", &lease, "-v"]);
        command.env("NO_COLOR", "1").env("KUBECONFIG", self.cluster.kubeconfig());
        let log = self.folder.join(format!("{log}.log"));
        let log = std::fs::File::options().append(true).create(true).open(log).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        children::start(command)
    }

    /// What `backstay …` says to a person of this namespace.
    fn said(&self, arguments: &[&str]) -> String {
        let mut command = self.backstay(arguments);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command:?}: {output:?}\n{}", self.log());
        text
    }

    /// `backstay …` as a person of this namespace.
    fn backstay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(arguments).env("KUBECONFIG", self.cluster.kubeconfig());
        command.env("PATH", tools::path_variable()).stdin(Stdio::null());
        command
    }

    fn get(&self, kind: &str, name: &str) -> Value {
        self.cluster.get(&self.namespace, kind, name).unwrap_or_default()
    }

    /// The status of a condition of a policy, its reason and message.
    fn condition(&self, policy: &str, kind: &str) -> Option<(String, String, String)> {
        let policy = self.get("backuppolicy", policy);
        let conditions = policy["status"]["conditions"].as_array()?.clone();
        let condition = conditions.into_iter().find(|condition| condition["type"] == kind)?;
        let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("reason"), text("message")))
    }

    /// Waits until a condition of a policy is as it should be.
    fn wait_for(&self, policy: &str, kind: &str, status: &str) {
        let told = || self.condition(policy, kind);
        let start = std::time::Instant::now();
        while start.elapsed().as_secs() < 120 {
            if told().is_some_and(|(is, ..)| is == status) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        panic!("{kind} of {policy} is not {status}: {:?}\n{}", told(), self.log());
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("controller.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the controller of {} said:\n{}", self.namespace, self.log());
        }
        self.controller = None;
        let _ = self.cluster.ask(["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}
