//! On a real Kubernetes.

mod journey;

use crate::support::{
    children::{self, Kept},
    kube::{Cluster, wait},
    swarm::image,
    tools,
};
use serde_json::Value;
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

    /// Starts a controller of this namespace as a process of this machine.
    fn start_controller(&mut self) {
        let mut command = children::tied(env!("CARGO_BIN_EXE_backstay"));
        command.args(["controller", "--orchestrator", "kubernetes", "--namespace", &self.namespace]);
        command
            .args(["--image", image::BACKSTAY, "-v"])
            .env("NO_COLOR", "1")
            .env("KUBECONFIG", self.cluster.kubeconfig());
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.folder.join("controller.log"))
            .unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.controller = Some(children::start(command));
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
