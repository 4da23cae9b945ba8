//! Restores as resources.

use super::*;
use crate::support::{kube, tree};
use backstay::controller::clock::{Clock as _, SystemClock};

fn restore(site: &Site<'_>, name: &str, spec: &Value) {
    let metadata = json!({"name": name, "namespace": site.namespace});
    site.apply(&json!({"apiVersion": "backstay.dev/v1alpha1", "kind": "Restore", "metadata": metadata, "spec": spec}));
}

fn restored(site: &Site<'_>, name: &str) -> Value {
    let status = || site.get("restore", name)["status"].clone();
    let is_over = |phase: &str| !matches!(phase, "Planning" | "Waiting" | "Restoring");
    wait(&format!("the end of restore {name}"), || status()["phase"].as_str().is_some_and(is_over));
    status()
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn a_restore_shows_its_plan_refuses_to_replace_and_brings_everything_back_into_old_and_new_places() {
    let Some(cluster) = kube::shared() else { return };
    let site = Site::new(cluster, "restores");
    let (_served, homes) = site.furnish(9031);
    cluster.run(["annotate", "namespace", "restores", "backstay.dev/allow-root=true"]);
    let before = tree::digest(&homes);
    site.apply(&site.policy("nightly"));
    site.wait_for("nightly", "CredentialsValid", "True");
    site.ask_for_a_run("now");
    assert_eq!(site.ended("now")["phase"], "Succeeded");

    restore(&site, "look", &json!({"from": {"policy": "nightly"}, "dryRun": true}));
    let status = restored(&site, "look");
    assert_eq!(status["phase"], "Planned", "{status}");
    assert!(status["plan"]["mongodb"]["documents"].as_u64() >= Some(500), "{status}");

    restore(&site, "unconfirmed", &json!({"from": {"policy": "nightly"}}));
    let status = restored(&site, "unconfirmed");
    assert_eq!(status["phase"], "Failed", "{status}");
    assert!(status["fix"].as_str().is_some_and(|fix| fix.contains("confirm")), "{status}");
    let expired = json!({"policy": "nightly", "notAfter": "2026-01-01T00:00:00Z"});
    restore(&site, "expired", &json!({"from": {"policy": "nightly"}, "confirm": expired}));
    assert_eq!(restored(&site, "expired")["phase"], "Refused");

    // Everything is lost.
    std::fs::remove_dir_all(homes.join("ada")).unwrap();
    std::fs::write(homes.join("left.txt"), "over").unwrap();
    cluster.on_mongodb("restores", "mongo", async |client| client.database("girder").drop().await.unwrap());
    let soon = (SystemClock.now() + jiff::SignedDuration::from_hours(1)).to_string();
    let confirm = json!({"policy": "nightly", "notAfter": soon});
    let volumes = json!([{"name": "homes", "deleteExtra": true}]);
    restore(
        &site,
        "back",
        &json!({"from": {"policy": "nightly"}, "confirm": confirm, "volumes": volumes, "mongodb": {"replace": true}}),
    );
    let status = restored(&site, "back");
    assert_eq!(status["phase"], "Succeeded", "{status}");
    tree::assert_same(&before, &tree::digest(&homes));
    let count = cluster.on_mongodb("restores", "mongo", async |client| {
        client.database("girder").collection::<Document>("notes").count_documents(doc! {}).await.unwrap()
    });
    assert_eq!(count, 500);
    let changed = cluster.try_apply(&json!({
        "apiVersion": "backstay.dev/v1alpha1", "kind": "Restore", "metadata": {"name": "back", "namespace": "restores"},
        "spec": {"from": {"policy": "other"}},
    }).to_string());
    assert!(changed.unwrap_err().contains("carried out once"));

    // A new claim, from the remote alone, under another database name.
    let fresh = cluster.volume("restores", "fresh", &cluster.nodes()[0]);
    let address = cluster.address("restores", "mongo");
    let location =
        json!({"remote": remote::NAME, "path": "WT", "configFrom": {"secretKeyRef": {"name": "rclone"}}});
    restore(
        &site,
        "elsewhere",
        &json!({
            "from": {"policy": "nightly", "instance": "restores", "location": location},
            "volumes": [{"name": "homes", "claimName": "fresh"}],
            "mongodb": {"uri": format!("mongodb://{address}:27017/"), "include": ["girder"], "rename": [{"from": "girder", "to": "copy"}]},
        }),
    );
    let status = restored(&site, "elsewhere");
    assert_eq!(status["phase"], "Succeeded", "{status}");
    tree::assert_same(&before, &tree::digest(&fresh));
    let count = cluster.on_mongodb("restores", "mongo", async |client| {
        client.database("copy").collection::<Document>("notes").count_documents(doc! {}).await.unwrap()
    });
    assert_eq!(count, 500);
}
