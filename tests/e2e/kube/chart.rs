//! The Helm chart: what it makes of its values, and a controller that it installed, with no other rights than it gives.

use super::*;
use crate::support::{kube, remote};
use serde_json::json;
use std::io::Write as _;

/// Where the chart's controller is.
const HOME: &str = "backstay";
/// Who the controller is, for the server.
const CONTROLLER: &str = "system:serviceaccount:backstay:backstay";
/// Somebody without any right.
const NOBODY: &str = "system:serviceaccount:backstay:default";
/// A person who has the role `edit` where policies are.
const ADA: &str = "ada";
/// Values by which the image of the tests is found.
const IMAGE: &[&str] = &["--set", "image.repository=docker.io/library/backstay,image.tag=latest"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `helm`, where it is in the cache; a word about it where it is not.
pub fn helm() -> Option<PathBuf> {
    let path = tools::bin().join("helm");
    if path.exists() {
        return Some(path);
    }
    let is_required = std::env::var_os("BACKSTAY_REQUIRE_KUBERNETES").is_some();
    assert!(!is_required, "helm is missing: `tools/setup.py helm` builds it");
    let _ = writeln!(std::io::stderr(), "NOT RUN, a test of the chart: `tools/setup.py helm` builds helm");
    None
}

/// What `helm …` prints, or what it complains of.
fn ask(mut helm: Command, arguments: &[&str]) -> Result<String, String> {
    let output = helm.args(arguments).current_dir(repository()).output().expect("helm starts");
    let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{}\n{}", text(&output.stdout), text(&output.stderr))),
    }
}

/// `helm template` with some values, without the definitions.
fn template(helm: &Path, values: &[&str]) -> Result<String, String> {
    let common =
        ["template", "backstay", "charts/backstay", "--namespace", HOME, "--set", "crds.install=false"];
    ask(Command::new(helm), &[&common, values].concat())
}

#[test]
fn the_chart_has_the_definitions_and_the_version_of_the_program() {
    let copy = std::fs::read_to_string(repository().join("charts/backstay/files/crds.yaml")).unwrap();
    assert!(copy == definitions(), "the definitions have changed: make generate");
    let chart = std::fs::read_to_string(repository().join("charts/backstay/Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("\nappVersion: {}\n", env!("CARGO_PKG_VERSION"))), "{chart}");
}

#[test]
fn the_chart_makes_what_its_values_say() {
    let Some(helm) = helm() else { return };
    ask(Command::new(&helm), &["lint", "--strict", "charts/backstay"]).unwrap();
    insta::assert_snapshot!("cluster_mode", template(&helm, &[]).unwrap());
    let everything = repository().join("tests/e2e/kube/everything.yaml");
    let everything = ["--values", everything.to_str().unwrap()];
    ask(Command::new(&helm), &[&["lint", "--strict", "charts/backstay"], &everything[..]].concat()).unwrap();
    insta::assert_snapshot!("namespaced_with_everything", template(&helm, &everything).unwrap());
}

#[test]
fn the_chart_installs_the_definitions_so_that_they_stay() {
    let Some(helm) = helm() else { return };
    let only = ["template", "backstay", "charts/backstay", "--show-only", "templates/crds.yaml"];
    let text = ask(Command::new(&helm), &only).unwrap();
    let read = |text: &str| serde_saphyr::from_multiple::<Value>(text).unwrap();
    let mut rendered = read(&text);
    for definition in &mut rendered {
        let metadata = definition["metadata"].as_object_mut().unwrap();
        assert_eq!(metadata.remove("annotations").unwrap(), json!({"helm.sh/resource-policy": "keep"}));
        assert_eq!(metadata.remove("labels").unwrap()["app.kubernetes.io/managed-by"], "Helm");
    }
    assert_eq!(rendered, read(&definitions()));
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let Some(helm) = helm() else { return };
    for wrong in [
        "namespace=lab",
        "namespaces[0]=Lab",
        "namespaces=lab",
        "replicas=0.5",
        "image.digest=latest",
        "image.pullPolicy=Sometimes",
        "metrics.enabled=true",
        "extraArgs[0]=--namespace=kube-system",
        "extraArgs[0]=--orchestrator",
    ] {
        let said = template(&helm, &["--set", wrong]).expect_err(wrong);
        assert!(said.contains("values don't meet the specifications of the schema"), "{wrong}: {said}");
    }
}

/// A cluster with namespaces, one of which Ada may edit.
struct Bed {
    cluster: Cluster,
    helm: PathBuf,
    served: kube::Served,
}

impl Bed {
    fn new() -> Option<Self> {
        let helm = helm()?;
        let cluster = kube::start_or_say(1)?;
        let served = cluster.remote(9001);
        let bed = Self { cluster, helm, served };
        bed.cluster.run(["create", "namespace", HOME]);
        bed.restrict(HOME);
        bed.furnish("lab");
        bed.furnish("elsewhere");
        Some(bed)
    }

    /// `helm …` on the cluster.
    fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "240"]).arg(&self.helm);
        command.env("KUBECONFIG", self.cluster.kubeconfig()).env("HOME", self.cluster.folder());
        ask(command, &[&["--namespace", HOME], arguments].concat())
    }

    fn install(&self, values: &[&str]) {
        let command = ["install", "backstay", "charts/backstay", "--wait", "--timeout", "180s"];
        if let Err(said) = self.helm(&[&command, IMAGE, values].concat()) {
            let pods = self.cluster.ask(["--namespace", HOME, "describe", "pods"]);
            panic!("{said}\n{}\n{}", self.log(), pods.unwrap_or_else(|error| error));
        }
    }

    /// A namespace with a claim that has files, the remote's Secret, and Ada.
    fn furnish(&self, namespace: &str) {
        let Self { cluster, served, .. } = self;
        cluster.run(["create", "namespace", namespace]);
        let homes = cluster.volume(namespace, "homes", &cluster.nodes()[0]);
        std::fs::write(homes.join("notes.txt"), "hello").unwrap();
        let binding = ["create", "rolebinding", "ada", "--clusterrole=edit", "--user=ada"];
        cluster.run(["--namespace", namespace].into_iter().chain(binding));
        let mounts = json!([{"name": "homes", "mountPath": "/homes"}]);
        self.as_ada(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": namespace},
            "spec": {"terminationGracePeriodSeconds": 1,
                     "containers": [{"name": "user", "image": image::SLEEPER, "volumeMounts": mounts}],
                     "volumes": [{"name": "homes", "persistentVolumeClaim": {"claimName": "homes"}}]},
        }));
        self.as_ada(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rclone", "namespace": namespace},
            "stringData": {"rclone.conf": served.config()},
        }));
        cluster.address(namespace, "user");
        self.restrict(namespace);
    }

    /// From now on every Pod of a namespace is held to the strictest standard.
    fn restrict(&self, namespace: &str) {
        let label = "pod-security.kubernetes.io/enforce=restricted";
        self.cluster.run(["label", "namespace", namespace, label]);
    }

    fn as_ada(&self, document: &Value) {
        let applied = self.cluster.with_input(&["--as", ADA, "apply", "-f", "-"], &document.to_string());
        applied.unwrap_or_else(|error| panic!("{document}: {error}"));
    }

    /// A policy with the configuration of a Secret, by Ada.
    fn declare(&self, namespace: &str, name: &str, secret: &str) {
        let config = json!({"secretKeyRef": {"name": secret}});
        self.as_ada(&json!({
            "apiVersion": "backstay.dev/v1alpha1", "kind": "BackupPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "volumes": [{"name": "homes", "claimName": "homes"}],
                "destination": {"remote": remote::NAME, "path": "WT", "configFrom": config},
                "task": {"pendingSeconds": 60, "retries": 0},
            },
        }));
    }

    /// A run, by Ada.
    fn ask_for_a_run(&self, namespace: &str, policy: &str, name: &str) {
        self.as_ada(&json!({
            "apiVersion": "backstay.dev/v1alpha1", "kind": "Backup",
            "metadata": {"name": name, "namespace": namespace}, "spec": {"policy": policy},
        }));
    }

    /// A run, asked for by Ada, which must succeed.
    fn back_up(&self, namespace: &str, name: &str) {
        self.ask_for_a_run(namespace, "nightly", name);
        let phase = || self.status(namespace, "backup", name)["phase"].as_str().map(str::to_owned);
        self.wait("the end of the run", || phase().is_some_and(|phase| phase != "Running"));
        let status = self.status(namespace, "backup", name);
        assert_eq!(status["phase"], "Succeeded", "{status}\n{}", self.log());
        let is_ours = |job: &Value| job["metadata"]["labels"]["backstay.dev/policy"] == "nightly";
        self.wait("the end of all tasks", || !self.cluster.list(namespace, "jobs").iter().any(is_ours));
    }

    fn status(&self, namespace: &str, kind: &str, name: &str) -> Value {
        let mut object = self.cluster.get(namespace, kind, name).unwrap_or_default();
        object["status"].take()
    }

    /// True once a preflight has shown that a policy can be carried out.
    fn is_ready(&self, namespace: &str) -> bool {
        let status = self.status(namespace, "backuppolicy", "nightly");
        let is_true = |kind: &str| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|one| one["type"] == kind && one["status"] == "True")
        };
        is_true("Ready") && is_true("CredentialsValid")
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..300 {
            if done() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(400));
        }
        let policies = self.cluster.ask(["get", "bsp", "--all-namespaces", "-o", "yaml"]);
        panic!("{what} does not come\n{policies:?}\n{}", self.log());
    }

    fn log(&self) -> String {
        let selector = "--selector=app.kubernetes.io/component=controller";
        let log = ["--namespace", HOME, "logs", selector, "--prefix", "--tail=100"];
        self.cluster.ask(log).unwrap_or_else(|error| error)
    }

    fn may(&self, who: &str, what: &[&str]) -> bool {
        let question = ["auth", "can-i", "--quiet", "--as", who].into_iter().chain(what.iter().copied());
        self.cluster.ask(question).is_ok()
    }

    /// All that somebody may do in a namespace, as the server says it.
    fn rights(&self, who: &str, namespace: &str) -> String {
        self.cluster.run(["--namespace", namespace, "auth", "can-i", "--list", "--as", who])
    }
}

/// The controller may do its work in a namespace, and reads no Secret anywhere.
fn check_rights(bed: &Bed, inside: &str) {
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        for namespace in [HOME, "lab", "elsewhere", "kube-system", "default"] {
            let question = [verb, "secrets", "--namespace", namespace];
            assert!(!bed.may(CONTROLLER, &question), "the controller may {question:?}");
        }
        assert!(!bed.may(CONTROLLER, &[verb, "secrets", "--all-namespaces"]));
        assert!(!bed.may(CONTROLLER, &[verb, "nodes"]));
        let others = ["configmaps", "serviceaccounts", "roles.rbac.authorization.k8s.io"];
        let parts = ["--subresource=exec", "--subresource=log", "--subresource=portforward"];
        let of_pods = parts.map(|part| [verb, "pods", part, "--namespace", inside]);
        for question in
            others.map(|what| [verb, what, "--quiet", "--namespace", inside]).into_iter().chain(of_pods)
        {
            assert!(!bed.may(CONTROLLER, &question), "the controller may {question:?}");
        }
    }
    assert!(bed.may(CONTROLLER, &["create", "jobs", "--namespace", inside]));
    assert!(bed.may(CONTROLLER, &["get", &format!("namespaces/{inside}"), "--namespace", inside]));
    let log = bed.log();
    assert!(!log.contains("forbidden"), "{log}");
    let from_backstay = |event: &Value| event["reportingController"] == "backstay.dev/controller";
    bed.wait("an event", || bed.cluster.list(inside, "events.events.k8s.io").iter().any(from_backstay));
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn a_controller_that_helm_installed_does_its_work_with_what_the_chart_grants() {
    let Some(bed) = Bed::new() else { return };
    // For one namespace, with all that can be switched on.
    bed.install(&[
        "--set",
        "namespaces={lab}",
        "--set",
        "defaults.retention.keepLast=3",
        "--set",
        "replicas=2",
    ]);
    bed.declare("lab", "nightly", "rclone");
    bed.declare("lab", "astray", "missing");
    bed.declare("elsewhere", "nightly", "rclone");
    bed.wait("a policy that is ready", || bed.is_ready("lab"));
    bed.back_up("lab", "first");
    bed.ask_for_a_run("lab", "astray", "astray");
    let astray = || bed.status("lab", "backuppolicy", "astray").to_string();
    bed.wait("why a task does not start", || astray().contains("secret \\\"missing\\\" not found"));
    bed.cluster.run(["--namespace", "lab", "--as", ADA, "delete", "bsp", "astray"]);
    check_rights(&bed, "lab");
    for outside in ["elsewhere", "kube-system", "default"] {
        assert_eq!(bed.rights(CONTROLLER, outside), bed.rights(NOBODY, outside), "{outside}");
    }
    assert_eq!(
        bed.status("elsewhere", "backuppolicy", "nightly"),
        Value::Null,
        "it is of another's namespace"
    );
    bed.helm(&["test", "backstay", "--timeout", "120s"]).unwrap();

    people(&bed);
    stays_after_uninstall(&bed);

    // For all namespaces; what was known is known again.
    bed.install(&["--set", "podDisruptionBudget.enabled=true,networkPolicy.enabled=true"]);
    bed.wait("a policy of another namespace that is ready", || bed.is_ready("elsewhere"));
    bed.back_up("elsewhere", "first");
    bed.back_up("lab", "second");
    check_rights(&bed, "elsewhere");
}

/// What the roles of every cluster allow, with those of the chart added to them.
fn people(bed: &Bed) {
    let cluster = &bed.cluster;
    for role in ["view", "admin"] {
        let binding = ["create", "rolebinding", role, "--clusterrole", role, "--user", role];
        cluster.run(["--namespace", "lab"].into_iter().chain(binding));
    }
    let table = [
        ("view", ["get", "list"].as_slice(), ["backuppolicies", "backups", "restores"].as_slice(), true),
        ("view", &["create", "patch", "delete"], &["backuppolicies", "backups", "restores"], false),
        (ADA, &["get", "create", "patch", "delete"], &["backuppolicies", "backups"], true),
        (ADA, &["create", "patch"], &["restores", "backuppolicies/status", "backups/status"], false),
        ("admin", &["get", "create", "patch", "delete"], &["backuppolicies", "backups", "restores"], true),
    ];
    for (who, verbs, whats, expected) in table {
        for (verb, what) in verbs.iter().flat_map(|verb| whats.iter().map(move |what| (verb, what))) {
            let (resource, sub) = what.split_once('/').unwrap_or((what, ""));
            let (resource, sub) = (format!("{resource}.backstay.dev"), format!("--subresource={sub}"));
            let is = bed.may(who, &[verb, &resource, &sub, "--namespace", "lab"]);
            assert_eq!(is, expected, "{who}: {verb} {what}");
        }
    }
}

/// Policies, records and definitions are not the release's.
fn stays_after_uninstall(bed: &Bed) {
    let before = bed.status("lab", "backuppolicy", "nightly");
    bed.helm(&["uninstall", "backstay", "--wait"]).unwrap();
    assert_eq!(bed.status("lab", "backuppolicy", "nightly"), before);
    assert_eq!(bed.status("lab", "backup", "first")["phase"], "Succeeded");
    let left = bed.cluster.run([
        "get",
        "clusterroles,clusterrolebindings,roles,rolebindings,deployments,serviceaccounts,configmaps,poddisruptionbudgets",
        "--all-namespaces",
        "--selector=app.kubernetes.io/instance=backstay",
        "--output=name",
    ]);
    assert_eq!(left, "");
}
