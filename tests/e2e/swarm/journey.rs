//! From nothing to the first good backup and back, with the stack files of the repository as they are.

use super::{backstay, stack_file, status, until, with_controller};
use crate::{
    site::Site,
    support::{
        remote::{NAME, Remote},
        swarm::{Stack, Swarm, image, mongo, remote::Served},
        tree,
    },
};
use mongodb::bson::{Document, doc};
use std::{fs, os::unix::fs::PermissionsExt as _};

/// The stack's name, which is the instance of its policies.
const STACK: &str = "wt";

/// What an administrator does before: directories on the nodes, rclone.conf in those that may be written to.
fn prepare(swarm: &Swarm, remote: &Served) -> tree::Digest {
    let (manager, storage) = (swarm.manager().mnt(), swarm.storage().mnt());
    for mnt in [&manager, &storage] {
        fs::create_dir_all(mnt.join("backstay")).unwrap();
        fs::write(mnt.join("backstay/rclone.conf"), remote.config()).unwrap();
    }
    fs::create_dir_all(manager.join("acme")).unwrap();
    let certificates = manager.join("acme/acme.json");
    fs::write(&certificates, "{\"certificates\": []}").unwrap();
    fs::set_permissions(certificates, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(storage.join("homes")).unwrap();
    tree::difficult_tree(&storage.join("homes"));
    tree::digest(&storage.join("homes"))
}

#[test]
fn a_site_is_backed_up_by_its_labels() {
    let Some(swarm) = with_controller() else { return };
    let remote = Served::new(swarm, 8080);
    let homes = prepare(swarm, &remote);
    // The gateway of the tests is any program that stays.
    let small = [("MONGO_CACHE_GB", "0.25"), ("GATEWAY_IMAGE", image::MONGO)];
    let _stack = Stack::deploy(swarm, STACK, &stack_file("wholetale"), &small);
    mongo::initiate(swarm, STACK);
    mongo::on(swarm, "wt_mongo1", async |client| {
        let tales: Vec<Document> = (0..100).map(|n| doc! {"_id": n, "title": format!("tale {n}")}).collect();
        client.database("girder").collection("tales").insert_many(tales).await.unwrap();
    });
    // The next night is a long time away.
    for (service, policy) in [("wt_mongo1", "nightly"), ("wt_gateway", "certificates")] {
        let label = format!("backstay.{policy}.schedule=* * * * *");
        swarm.docker(["service", "update", "--detach", "--label-add", &label, service]);
    }
    for policy in ["wt/nightly", "wt/certificates"] {
        until(&format!("a backup of {policy}"), || {
            !status(swarm, policy, "backstay.last-success").is_empty()
        });
        assert_eq!(status(swarm, policy, "backstay.ready"), "True");
    }
    let healthy = ["ps", "--quiet", "--filter", "health=healthy", "--filter", "name=backstay_controller"];
    until("the controller is healthy", || !swarm.docker(healthy).is_empty());

    // All is lost, and one command on a machine that has nothing but Docker brings it back.
    swarm.docker([
        "service",
        "update",
        "--detach",
        "--label-add",
        "backstay.nightly.suspend=true",
        "wt_mongo1",
    ]);
    until("no run is active", || {
        let is_active = || backstay(swarm, &["status", "wt/nightly", "-o", "json"]).contains("\"active\"");
        status(swarm, "wt/nightly", "backstay.message") == "suspended" && !is_active()
    });
    let lost = swarm.storage().mnt().join("homes");
    for entry in fs::read_dir(&lost).unwrap().flatten() {
        let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
    }
    mongo::on(swarm, "wt_mongo1", async |client| client.database("girder").drop().await.unwrap());
    let plan = backstay(swarm, &["restore", "wt/nightly", "--dry-run"]);
    assert!(plan.contains("/mnt/homes") && plan.contains("into an empty directory"), "{plan}");
    let report = backstay(swarm, &["restore", "wt/nightly", "--preserve-setuid"]);
    assert!(report.contains("100 documents"), "{report}");
    tree::assert_same(&homes, &tree::digest(&lost));
    let tales = mongo::on(swarm, "wt_mongo1", async |client| {
        client.database("girder").collection::<Document>("tales").count_documents(doc! {}).await.unwrap()
    });
    assert_eq!(tales, 100);
    let left = ["service", "ls", "--quiet", "--filter", "label=backstay.kind=restore"];
    assert_eq!(swarm.docker(left), "");
    assert_eq!(swarm.docker(["config", "ls", "--quiet", "--filter", "label=backstay.kind=restore"]), "");

    // So it does from the remote alone.
    let alone = Site::on(Remote::at(remote.root()));
    let place = format!("{NAME}:WT/{STACK}");
    let target = alone.folder("target");
    let volume = format!("homes={}", target.display());
    alone.backstay(["restore", "nightly", "--from", &place, "--volume", &volume, "--preserve-setuid"]).ok();
    tree::assert_same(&homes, &tree::digest(&target));
}
