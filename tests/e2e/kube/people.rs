//! What people do with kubectl and the command line, and what they are told.

use super::*;
use crate::support::kube;

#[test]
#[ignore = "make e2e-kubernetes"]
fn wrong_policies_are_told_at_once_or_in_their_status_and_stop_no_other() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "wrong");
    let mut policy = site.policy_of_homes("nightly");
    policy["spec"]["volumes"] = json!([]);
    let refused = cluster.try_apply(&policy.to_string()).unwrap_err();
    assert!(refused.contains("the policy backs up nothing; give mongodb, volumes or both"), "{refused}");
    policy["spec"]["volumes"] = json!([{"name": "homes", "hostPath": "/mnt/homes"}]);
    let refused = cluster.try_apply(&policy.to_string()).unwrap_err();
    assert!(refused.contains("on Kubernetes a volume is a claim"), "{refused}");
    policy["spec"]["volumes"] = json!([{"name": "homes", "claimNam": "homes"}]);
    let refused = cluster.try_apply(&policy.to_string()).unwrap_err();
    assert!(refused.contains("claimNam"), "{refused}");

    let mut wrong = site.policy_of_homes("wrong");
    wrong["spec"]["schedule"] = json!("61 2 * * *");
    site.apply(&wrong);
    site.apply(&site.policy_of_homes("right"));
    site.wait_for("right", "Ready", "True");
    site.wait_for("wrong", "Ready", "False");
    let (_, reason, message) = site.condition("wrong", "Ready").unwrap();
    assert!(reason == "InvalidSpec" && message.contains("61"), "{reason}: {message}");
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn the_command_line_runs_cancels_holds_and_tells_and_nothing_is_written_while_nothing_happens() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "people");
    let _furnished = site.furnish(9002);
    site.apply(&site.policy("nightly"));
    site.wait_for("nightly", "CredentialsValid", "True");
    let said = site.said(&["run", "people/nightly", "--wait"]);
    assert!(said.contains("501 documents"), "{said}");
    let status = site.said(&["status", "-n", "people"]);
    assert!(status.contains("people/nightly"), "{status}");
    let listed = site.said(&["list", "people/nightly"]);
    let snapshot = listed
        .lines()
        .find_map(|line| line.split_whitespace().find(|word| word.starts_with("nightly-")))
        .unwrap();
    site.said(&["hold", snapshot, "-n", "people"]);
    let holds = site.get("backuppolicy", "nightly")["metadata"]["annotations"]["backstay.dev/holds"].clone();
    assert_eq!(holds, snapshot);
    assert!(site.said(&["list", "people/nightly"]).contains("held"), "a hold is shown");
    site.said(&["hold", snapshot, "--release", "-n", "people"]);

    // Whatever waits for a claim that nobody has is stopped by a person.
    let mut stuck = site.policy_of_homes("stuck");
    stuck["spec"]["volumes"][0]["claimName"] = json!("nobody-has-it");
    site.apply(&stuck);
    site.wait_for("stuck", "Ready", "True");
    site.ask_for_a_run_of("stuck", "waits");
    wait("the run", || site.get("backup", "waits")["status"]["phase"] == "Running");
    wait("the task", || {
        cluster
            .list("people", "jobs")
            .iter()
            .any(|job| job["metadata"]["labels"]["backstay.dev/run"].is_string())
    });
    site.said(&["cancel", "people/stuck"]);
    assert_eq!(site.ended("waits")["phase"], "Cancelled");

    let version = || site.get("backuppolicy", "nightly")["metadata"]["resourceVersion"].clone();
    wait("the end of all tasks", || {
        cluster
            .list("people", "jobs")
            .iter()
            .all(|job| job["metadata"]["labels"]["backstay.dev/policy"] != "nightly")
    });
    let before = version();
    std::thread::sleep(std::time::Duration::from_secs(20));
    assert_eq!(version(), before, "nothing happened, and something was written");
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn only_root_reads_what_others_may_not_and_only_where_the_administrator_lets_it() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "root");
    let (_served, homes) = site.furnish(9003);
    std::fs::write(homes.join("ada/secret.txt"), "for ada alone").unwrap();
    std::fs::set_permissions(
        homes.join("ada/secret.txt"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let mut policy = site.policy_of_homes("nightly");
    policy["spec"]["task"] = json!({"retries": 0});
    site.apply(&policy);
    site.ask_for_a_run("nobody");
    let status = site.ended("nobody");
    assert_eq!(status["phase"], "Partial", "{status}");
    wait("the status", || {
        site.condition("nightly", "LastRunSucceeded").is_some_and(|(is, ..)| is == "False")
    });
    let last = site.get("backuppolicy", "nightly")["status"]["lastRun"].clone();
    assert!(last["warnings"].to_string().contains("could not be read"), "{last}");
    // The controller notices within a minute.
    cluster.run(["annotate", "namespace", "root", "backstay.dev/allow-root=true"]);
    std::thread::sleep(std::time::Duration::from_secs(61));
    site.ask_for_a_run("root");
    let status = site.ended("root");
    assert_eq!(status["phase"], "Succeeded", "{status}");
}
