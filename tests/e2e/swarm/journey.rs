//! From nothing to the first good backup and back, with the stack files of the repository as they are.

use super::{backstay, stack_file, status, until, with_controller};
use crate::support::{
    remote::NAME,
    swarm::{Stack, Swarm, image, mongo, remote::Served},
    tree,
};
use mongodb::bson::{Document, doc};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

/// The stack's name, which is the instance of its policies.
const STACK: &str = "wt";

/// What an administrator does before: directories on the nodes, rclone.conf in those that may be written to.
fn prepare(swarm: &Swarm, remote: &Served) {
    for mnt in [swarm.manager().mnt(), swarm.storage().mnt()] {
        fs::create_dir_all(mnt.join("backstay")).unwrap();
        fs::write(mnt.join("backstay/rclone.conf"), remote.config()).unwrap();
    }
    for folder in folders(swarm) {
        fs::create_dir_all(folder).unwrap();
    }
}

/// The homes, and the certificates of the gateway.
fn folders(swarm: &Swarm) -> [PathBuf; 2] {
    [swarm.storage().mnt().join("homes"), swarm.manager().mnt().join("acme")]
}

fn files(swarm: &Swarm) -> [tree::Digest; 2] {
    folders(swarm).map(|folder| tree::digest(&folder))
}

fn fill(swarm: &Swarm) {
    let [homes, acme] = folders(swarm);
    tree::difficult_tree(&homes);
    let certificates = acme.join("acme.json");
    fs::write(&certificates, "{\"certificates\": []}").unwrap();
    fs::set_permissions(certificates, fs::Permissions::from_mode(0o600)).unwrap();
    mongo::on(swarm, "wt_mongo1", async |client| {
        let tales: Vec<Document> = (0..100).map(|n| doc! {"_id": n, "title": format!("tale {n}")}).collect();
        client.database("girder").collection("tales").insert_many(tales).await.unwrap();
    });
}

fn tales(swarm: &Swarm) -> u64 {
    mongo::on(swarm, "wt_mongo1", async |client| {
        client.database("girder").collection::<Document>("tales").count_documents(doc! {}).await.unwrap()
    })
}

/// Deploys the site, and gives a label to both policies: the next night is a long time away, or must not come meanwhile.
fn deploy<'a>(swarm: &'a Swarm, label: &str) -> Stack<'a> {
    // The gateway of the tests is any program that stays.
    let small = [("MONGO_CACHE_GB", "0.25"), ("GATEWAY_IMAGE", image::MONGO)];
    let stack = Stack::deploy(swarm, STACK, &stack_file("wholetale"), &small);
    mongo::initiate(swarm, STACK);
    for (service, policy) in [("wt_mongo1", "nightly"), ("wt_gateway", "certificates")] {
        let label = format!("backstay.{policy}.{label}");
        swarm.docker(["service", "update", "--detach", "--label-add", &label, service]);
    }
    stack
}

/// All of the site goes: services, networks, volumes, directories.
fn destroy(swarm: &Swarm, stack: Stack<'_>) {
    drop(stack);
    for node in swarm.nodes() {
        let volume = format!("wt_mongo{}", node.number());
        until(&format!("{volume} is gone"), || node.ask(["volume", "rm", &volume]).is_ok());
    }
    for folder in folders(swarm) {
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_site_is_backed_up_by_its_labels() {
    let Some(swarm) = with_controller() else { return };
    let remote = Served::new(swarm, 8080);
    prepare(swarm, &remote);
    let stack = deploy(swarm, "schedule=* * * * *");
    fill(swarm);
    let before = files(swarm);
    for policy in ["wt/nightly", "wt/certificates"] {
        until(&format!("a backup of {policy}"), || {
            !status(swarm, policy, "backstay.last-success").is_empty()
        });
        assert_eq!(status(swarm, policy, "backstay.ready"), "True");
    }
    let healthy = ["ps", "--quiet", "--filter", "health=healthy", "--filter", "name=backstay_controller"];
    until("the controller is healthy", || !swarm.docker(healthy).is_empty());

    destroy(swarm, stack);
    for folder in folders(swarm) {
        fs::create_dir_all(folder).unwrap();
    }
    let _stack = deploy(swarm, "suspend=true");
    for policy in ["wt/nightly", "wt/certificates"] {
        backstay(swarm, &["wait", policy, "--for", "Ready"]);
        until("no run is active", || {
            !backstay(swarm, &["status", policy, "-o", "json"]).contains("\"active\"")
        });
    }
    comes_back_with_one_command_each(swarm, &before);
    comes_back_from_the_remote_alone(swarm, &before);
}

fn comes_back_with_one_command_each(swarm: &Swarm, before: &[tree::Digest; 2]) {
    assert_eq!(tales(swarm), 0);
    let plan = backstay(swarm, &["restore", "wt/nightly", "--dry-run"]);
    assert!(plan.contains("/mnt/homes") && plan.contains("into an empty directory"), "{plan}");
    let report = backstay(swarm, &["restore", "wt/nightly", "--preserve-setuid"]);
    assert!(report.contains("100 documents"), "{report}");
    backstay(swarm, &["restore", "wt/certificates"]);
    for (before, after) in before.iter().zip(&files(swarm)) {
        tree::assert_same(before, after);
    }
    assert_eq!(tales(swarm), 100);
    for policy in ["wt/nightly", "wt/certificates"] {
        for (what, kind) in [("service", "restore"), ("config", "restore"), ("service", "errand")] {
            assert_eq!(super::left(swarm, what, kind, policy), "", "{policy}: {kind}s");
        }
    }
}

/// With `docker run` on the node that gets the files, and on one that has a server of the database.
fn comes_back_from_the_remote_alone(swarm: &Swarm, before: &[tree::Digest; 2]) {
    let place = format!("{NAME}:WT/{STACK}");
    let from = ["restore", "nightly", "--from", &place, "--rclone-config", "/mnt/backstay/rclone.conf"];
    let run = ["run", "--rm", "--volume", "/mnt:/mnt"];
    let target = ["--volume", "homes=/mnt/back", "--preserve-setuid"];
    let storage = swarm.storage();
    storage.docker(run.into_iter().chain([image::BACKSTAY]).chain(from).chain(target));
    tree::assert_same(&before[0], &tree::digest(&storage.mnt().join("back")));

    mongo::on(swarm, "wt_mongo1", async |client| client.database("girder").drop().await.unwrap());
    let server = swarm.docker(["ps", "--quiet", "--filter", "name=wt_mongo1"]);
    let network = format!("container:{server}");
    let within = ["--network", &network, image::BACKSTAY];
    let target = ["--mongodb", "mongodb://mongo1,mongo2,mongo3/?replicaSet=rs1"];
    swarm.docker(run.into_iter().chain(within).chain(from).chain(target));
    assert_eq!(tales(swarm), 100);
}
