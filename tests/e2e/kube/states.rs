//! What keeps a task from starting or ends it, and what is said of that.

use super::*;
use crate::support::kube;

type Change = dyn Fn(&mut Value);

/// A policy whose tasks wait ten seconds for their start, and try once.
fn impatient(site: &Site<'_>, name: &str) -> Value {
    let mut policy = site.policy_of_homes(name);
    policy["spec"]["task"] = json!({"pendingSeconds": 12, "retries": 0});
    policy
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn what_keeps_a_task_from_starting_is_told_with_its_reason() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "states");
    let _furnished = site.furnish(9011);
    cluster.apply(&json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "new", "namespace": "states"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local", "resources": {"requests": {"storage": "1Gi"}}},
    }));
    let secret = |policy: &mut Value| {
        policy["spec"]["destination"]["configFrom"]["secretKeyRef"]["name"] = json!("gone")
    };
    let claim = |policy: &mut Value| policy["spec"]["volumes"][0]["claimName"] = json!("gone");
    let unbound = |policy: &mut Value| policy["spec"]["volumes"][0]["claimName"] = json!("new");
    let node = |policy: &mut Value| policy["spec"]["task"]["nodeSelector"] = json!({"nobody": "has"});
    let account = |policy: &mut Value| policy["spec"]["task"]["serviceAccountName"] = json!("gone");
    let table: [(&str, &Change, &str); 5] = [
        ("secret", &secret, "secret \"gone\" not found"),
        ("claim", &claim, "persistentvolumeclaim \"gone\" not found"),
        ("unbound", &unbound, "claim new has no volume yet"),
        ("node", &node, "0/2 nodes are available"),
        ("account", &account, "serviceaccount \"gone\" not found"),
    ];
    for (name, change, _) in &table {
        let mut policy = impatient(&site, name);
        change(&mut policy);
        site.apply(&policy);
        site.ask_for_a_run_of(name, name);
    }
    for (name, _, expected) in &table {
        let status = site.ended(name);
        assert_eq!(status["phase"], "Failed", "{name}: {status}");
        assert!(status["message"].as_str().is_some_and(|text| text.contains(expected)), "{name}: {status}");
    }
    let claim = site.get("pvc", "new");
    assert_eq!(claim["status"]["phase"], "Pending", "a backup has bound an empty volume to a claim: {claim}");
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn a_namespace_with_the_strictest_rules_is_backed_up_and_a_quota_is_told() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "strict");
    let (_served, _homes) = site.furnish(9012);
    cluster.run(["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"]);
    site.apply(&site.policy_of_homes("nightly"));
    site.ask_for_a_run("now");
    assert_eq!(site.ended("now")["phase"], "Succeeded");
    cluster.apply(&json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight", "namespace": "strict"},
        "spec": {"hard": {"requests.memory": "1Mi"}},
    }));
    site.apply(&impatient(&site, "later"));
    site.ask_for_a_run_of("later", "later");
    let status = site.ended("later");
    assert!(
        status["message"].as_str().is_some_and(|text| text.contains("exceeded quota: tight")),
        "{status}"
    );
}
