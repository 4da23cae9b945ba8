//! From nothing to the first good backup and back, with the stack files of the repository as they are.

use super::{stack_file, status, until, with_controller};
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

    // All of it comes back from the remote alone.
    let alone = Site::on(Remote::at(remote.root()));
    let place = format!("{NAME}:WT/{STACK}");
    let target = alone.folder("target");
    let volume = format!("homes={}", target.display());
    alone.backstay(["restore", "nightly", "--from", &place, "--volume", &volume, "--preserve-setuid"]).ok();
    tree::assert_same(&homes, &tree::digest(&target));
}
