//! What becomes of what a policy leaves when nobody declares it any more.

use super::{until, with_controller};
use crate::support::{
    Scratch,
    swarm::{Swarm, node::Node},
};
use backstay::{
    controller::clock::{Clock as _, SystemClock},
    orchestrators::swarm::engine::Engine,
};
use jiff::SignedDuration;
use std::fs;

const POLICY: &str = "left/folder";

/// Declares a policy whose look at its remote takes a while, since nobody is there.
fn declare(swarm: &Swarm) {
    let storage = swarm.storage().mnt();
    for folder in ["backstay", "homes"] {
        fs::create_dir_all(storage.join(folder)).unwrap();
    }
    let nobody = "[nobody]\ntype = webdav\nurl = http://10.77.0.199:9\nvendor = other\n";
    fs::write(storage.join("backstay/left.conf"), nobody).unwrap();
    let scratch = Scratch::new("policy");
    let text = "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: folder}\nspec:\n  \
                volumes: [{name: homes, hostPath: /mnt/homes, nodeSelector: {storage: '1'}}]\n  \
                destination: {remote: nobody, path: LEFT, configFrom: {file: /mnt/backstay/left.conf}}\n";
    let file = scratch.file("policy.yaml", text);
    let labels = ["--label", "backstay.policy=folder", "--label", "backstay.instance=left"];
    let create = ["config", "create"].into_iter().chain(labels);
    swarm.docker(create.chain(["left-1", file.to_str().unwrap()]));
}

/// The time since when nobody declares it, as the controller keeps it.
fn absent_since(swarm: &Swarm, status: &str) -> Option<String> {
    let format = "{{index .Spec.Labels \"backstay.absent-since\"}}";
    swarm.manager().ask(["config", "inspect", "--format", format, status]).ok().filter(|at| !at.is_empty())
}

/// As if it had been gone for so long.
fn age(manager: &Node, status: &str, by: SignedDuration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Engine::at(&manager.socket()).unwrap();
        let config = engine.config(status).await.unwrap();
        let mut labels = config.spec.labels.clone();
        labels.insert("backstay.absent-since".to_owned(), (SystemClock.now() - by).to_string());
        engine.label_config(&config.spec.name, config.version.index, &labels).await.unwrap();
    });
}

/// Its tasks go after ten minutes, all that is known about it after seven days.
#[test]
#[ignore = "two minutes: make e2e-swarm"]
fn what_a_removed_policy_leaves_is_swept() {
    let Some(swarm) = with_controller() else { return };
    let of_policy = |what: &'static str| {
        let filter = format!("label=backstay.policy={POLICY}");
        swarm.docker([what, "ls", "--quiet", "--filter", &filter])
    };
    declare(swarm);
    until("its remote is looked at", || !of_policy("service").is_empty() && !of_policy("config").is_empty());
    swarm.docker(["config", "rm", "left-1"]);
    let status = of_policy("config").lines().next().unwrap().to_owned();
    until("it is seen that it is gone", || absent_since(swarm, &status).is_some());
    assert!(!of_policy("service").is_empty(), "it may come back in a moment");
    age(swarm.manager(), &status, SignedDuration::from_mins(11));
    until("its tasks are removed", || of_policy("service").is_empty());
    assert!(!of_policy("config").is_empty(), "its status is kept");
    age(swarm.manager(), &status, SignedDuration::from_hours(7 * 24 + 1));
    until("it is forgotten", || of_policy("config").is_empty());
}
