use super::*;
use crate::{
    domain::run::StepName,
    orchestrators::swarm::service::{Launch, service},
    plan::{
        action::NewTask,
        observed::TaskName,
        task_spec::{BackupWork, TASK_SPEC_VERSION, TaskSpec, Work},
    },
};
use serde_json::{Value, json};

fn cluster(services: Value, configs: Value) -> Cluster {
    let node = |id: &str, name: &str, role: &str, labels: Value| {
        json!({"ID": id, "Spec": {"Role": role, "Availability": "active", "Labels": labels},
               "Description": {"Hostname": name}, "Status": {"State": "ready"}})
    };
    let nodes = json!([
        node("n1", "manager", "manager", json!({})),
        node("n2", "store", "worker", json!({"storage": "1"})),
        node("n3", "other", "worker", json!({})),
    ]);
    let tasks = json!([
        {"ID": "t0", "ServiceID": "s1", "NodeID": "n3", "DesiredState": "shutdown", "CreatedAt": "2026-11-24T02:00:00Z"},
        {"ID": "t1", "ServiceID": "s1", "NodeID": "n2", "DesiredState": "running", "CreatedAt": "2026-11-25T02:00:00Z"},
    ]);
    let secrets =
        json!([{"ID": "x1", "Spec": {"Name": "wt_rclone"}}, {"ID": "x2", "Spec": {"Name": "other"}}]);
    Cluster {
        services: serde_json::from_value(services).unwrap(),
        configs: serde_json::from_value(configs).unwrap(),
        nodes: serde_json::from_value(nodes).unwrap(),
        secrets: serde_json::from_value(secrets).unwrap(),
        tasks: serde_json::from_value(tasks).unwrap(),
    }
}

fn labelled(id: &str, name: &str, stack: Option<&str>, labels: &[(&str, &str)]) -> Value {
    let mut all: serde_json::Map<String, Value> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    all.extend(stack.map(|stack| (STACK.to_owned(), json!(stack))));
    json!({
        "ID": id, "CreatedAt": "2026-11-20T00:00:00Z",
        "Spec": {"Name": name, "Labels": all, "TaskTemplate": {
            "ContainerSpec": {
                "Mounts": [{"Type": "volume", "Source": "wt_data", "Target": "/data"},
                           {"Type": "bind", "Source": "/mnt/homes", "Target": "/homes"}],
                "Secrets": [{"SecretID": "x1", "SecretName": "wt_rclone"}],
            },
            "Networks": [{"Target": "net1"}],
        }},
    })
}

const REMOTE: (&str, &str) = ("backstay.nightly.destination.remote", "box");
const CONFIG: (&str, &str) = ("backstay.nightly.destination.configFrom.secretKeyRef.name", "rclone");
const URI: (&str, &str) = ("backstay.nightly.mongodb.uri", "mongodb://mongo/");

fn told(cluster: &Cluster, rules: &Rules) -> Vec<String> {
    let (found, problems) = discover(cluster, rules);
    let policy = |found: Found| match found.policy {
        Ok(policy) => format!("{} of {}: {} {:?}", found.id, found.place, policy.instance, found.facts.nodes),
        Err(error) => format!("{} of {}: {error}", found.id, found.place),
    };
    let problem = |problem: Problem| format!("{}: {}", problem.place, problem.message);
    found.into_iter().map(policy).chain(problems.into_iter().map(problem)).collect()
}

#[test]
fn policies_of_services_and_configs_are_kept_apart_by_stack_and_told_with_what_is_wrong() {
    let document = "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: nightly}\nspec:\n  mongodb: {uri: 'mongodb://m/'}\n  destination: {remote: box, configFrom: {secretKeyRef: {name: other}}}\n";
    let config = |name: &str, index: u64, labels: Value, text: &str| {
        json!({"ID": name, "Version": {"Index": index},
               "Spec": {"Name": name, "Labels": labels, "Data": data_encoding::BASE64.encode(text.as_bytes())}})
    };
    let of_lab = json!({"backstay.policy": "nightly", "backstay.instance": "lab"});
    let services = json!([
        labelled("s1", "wt_mongo1", Some("wt"), &[REMOTE, CONFIG, URI, ("backstay.nightly.destination.path", "WT")]),
        labelled("s2", "lab_mongo", Some("dev"), &[REMOTE, CONFIG, URI]),
        labelled("s3", "alone", None, &[REMOTE, URI, ("backstay.nightly.destinaton.path", "x")]),
        labelled("s4", "twin_a", Some("twin"), &[REMOTE, CONFIG, URI]),
        labelled("s5", "twin_b", Some("twin"), &[REMOTE, CONFIG, URI]),
        labelled("s6", "odd", None, &[("backstay.enable", "true")]),
        {"ID": "s7", "Spec": {"Name": "backstay-nightly-x", "Labels": {"backstay.kind": "task", "backstay.policy": "x"}}},
        {"ID": "s8", "Spec": {"Name": "wrong", "Labels": {"backstay.n.suspend": "true"},
            "TaskTemplate": {"ContainerSpec": {"Labels": {"backstay.n.instance": "x"}}}}},
    ]);
    let configs = json!([
        config("nightly-1", 10, of_lab.clone(), "nonsense: ["),
        config("nightly-2", 12, of_lab, document),
        config("weekly-1", 13, json!({"backstay.policy": "weekly", "backstay.instance": "lab"}), document),
        config(
            "backstay-status-x",
            11,
            json!({"backstay.kind": "status", "backstay.policy": "wt/nightly"}),
            "x"
        ),
    ]);
    let mut rules = Rules::default();
    rules.grants.secrets.extend(["other".to_owned(), "rclone".to_owned()]);
    insta::assert_snapshot!(told(&cluster(services, configs), &rules).join("\n"));
}

#[test]
fn a_policy_gets_what_its_service_has_or_the_administrator_allows_and_volumes_find_their_nodes() {
    let volume = |fields: &[(&str, &str)]| {
        let labels: Vec<(String, String)> = fields
            .iter()
            .map(|(field, value)| (format!("backstay.nightly.{field}"), (*value).to_owned()))
            .collect();
        let mut all: Vec<(&str, &str)> =
            labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        all.push(REMOTE);
        if !fields.iter().any(|(field, _)| field.contains("configFrom")) {
            all.push(CONFIG);
        }
        let services = json!([labelled("s1", "wt_mongo1", Some("wt"), &all)]);
        let mut rules = Rules::default();
        rules.grants.paths.push("/srv/rclone".into());
        format!("{fields:?}\n  {}", told(&cluster(services, json!([])), &rules).join("\n  "))
    };
    let table = [
        volume(&[("volumes.d.volumeName", "data")]),
        volume(&[("volumes.d.volumeName", "wt_data"), ("volumes.d.nodeSelector.node.hostname", "other")]),
        volume(&[("volumes.d.volumeName", "secret")]),
        volume(&[("volumes.h.hostPath", "/mnt/homes/a"), ("volumes.h.nodeSelector.storage", "1")]),
        volume(&[("volumes.h.hostPath", "/mnt/homes/a"), ("volumes.h.nodeSelector.storage", "2")]),
        volume(&[("volumes.h.hostPath", "/mnt/homes/a"), ("volumes.h.nodeSelector.node.role", "worker")]),
        volume(&[("volumes.h.hostPath", "/mnt/homestead"), ("volumes.h.nodeSelector.storage", "1")]),
        volume(&[("volumes.h.hostPath", "/etc"), ("volumes.h.nodeSelector.storage", "1")]),
        volume(&[URI_FIELD, ("destination.configFrom.secretKeyRef.name", "other")]),
        volume(&[URI_FIELD, ("destination.configFrom.directory", "/srv/rclone")]),
        volume(&[
            URI_FIELD,
            ("destination.configFrom.directory", "/srv/rclone"),
            ("task.nodeSelector.storage", "1"),
        ]),
        volume(&[
            URI_FIELD,
            ("destination.configFrom.directory", "/srv/elsewhere"),
            ("task.nodeSelector.storage", "1"),
        ]),
        volume(&[
            ("destination.configFrom.directory", "/srv/rclone"),
            ("volumes.h.hostPath", "/mnt/homes"),
            ("volumes.h.nodeSelector.storage", "1"),
            ("volumes.d.volumeName", "data"),
            ("volumes.d.nodeSelector.node.hostname", "other"),
        ]),
    ];
    insta::assert_snapshot!(table.join("\n"));
}

const URI_FIELD: (&str, &str) = ("mongodb.uri", "mongodb://mongo/");

#[test]
fn the_service_of_a_task_is_as_swarm_must_have_it() {
    let labels = [
        REMOTE,
        URI,
        ("backstay.nightly.destination.configFrom.directory", "/srv/rclone/box"),
        ("backstay.nightly.mongodb.username", "backup"),
        ("backstay.nightly.mongodb.passwordFrom.secretKeyRef.name", "rclone"),
        ("backstay.nightly.volumes.homes.hostPath", "/mnt/homes/alice"),
        ("backstay.nightly.volumes.homes.nodeSelector.storage", "1"),
        ("backstay.nightly.volumes.data.volumeName", "data"),
    ];
    let mut rules = Rules::default();
    rules.grants.paths.push("/srv/rclone".into());
    let cluster = cluster(json!([labelled("s1", "wt_mongo1", Some("wt"), &labels)]), json!([]));
    let (found, _) = discover(&cluster, &rules);
    let policy = found[0].policy.as_ref().unwrap();
    let slot = "20261125T020000Z".parse().unwrap();
    let spec = TaskSpec {
        version: TASK_SPEC_VERSION,
        policy: policy.name.clone(),
        instance: policy.instance.clone(),
        destination: policy.destination.clone(),
        site: "site".to_owned(),
        take_over: false,
        known_place: false,
        not_after: Timestamp::UNIX_EPOCH,
        memory_mib: 128,
        work: Work::Backup(BackupWork {
            slot,
            attempt: 1,
            sources: policy.sources(),
            guards: policy.guards,
            last_good: vec![],
            accept_shrink: false,
            finish: None,
        }),
    };
    let name = TaskName::of_run(slot, StepName::backup(), 1);
    let task = NewTask { name, node: Some("n2".to_owned()), placement: policy.task.placement.clone(), spec };
    let secrets = BTreeMap::from([("wt_rclone".to_owned(), "x1".to_owned())]);
    let launch = |task| Launch {
        policy: &found[0].id,
        kind: crate::orchestrators::swarm::names::kind::TASK,
        task,
        facts: &found[0].facts,
        image: "backstay:1",
        secrets: &secrets,
    };
    let mut made = service(launch(&task)).unwrap();
    let text = made["TaskTemplate"]["ContainerSpec"]["Env"][0].take();
    let inner: Value = serde_json::from_str(text.as_str().unwrap().split_once('=').unwrap().1).unwrap();
    made["TaskTemplate"]["ContainerSpec"]["Env"][0] = inner;
    insta::assert_json_snapshot!(made);

    let mut large = task.clone();
    if let Work::Backup(work) = &mut large.spec.work {
        work.sources = work.sources.iter().cycle().take(1000).cloned().collect();
    }
    let refused = service(launch(&large)).unwrap_err();
    assert!(refused.contains("divide the policy"), "{refused}");
    let none = BTreeMap::new();
    let missing = service(Launch { secrets: &none, ..launch(&task) }).unwrap_err();
    assert!(missing.contains("docker secret create wt_rclone"), "{missing}");
}
