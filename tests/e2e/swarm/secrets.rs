//! What must not be seen is not seen, and a path leads nowhere but below what is allowed.

use super::{
    states::{backstay, carrier, deploy, known, said},
    until, with_controller,
    witness::{CONTROLLER, Witness},
};
use crate::support::{
    Scratch,
    remote::{NAME, Remote},
    swarm::{Stack, Swarm, image, mongo, remote::Served},
};
use mongodb::{
    Client,
    bson::{Binary, doc, spec::BinarySubtype},
    options::{ClientOptions, Credential, ServerAddress},
};
use std::{
    fs,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

const STACK: &str = "guarded";
/// The database's password.
const PASSWORD: &str = "mark-of-the-password-5f1c";
/// In a connection string with which nobody can sign in.
const WRONG: &str = "mark-of-a-wrong-one-88d2";
/// In the configuration of rclone: a token, and what stands in an address.
const TOKEN: &str = "mark-of-the-token-c07e";
const IN_ADDRESS: &str = "mark-in-an-address-41aa";

/// A database with a password, and what is to be stored of it: enough to be seen under way, at the rate of the policies.
fn fill(swarm: &Swarm) {
    mongo::on(swarm, &format!("{STACK}_db"), async |client| {
        let user = doc! {"createUser": "keeper", "pwd": PASSWORD, "roles": ["root"]};
        client.database("admin").run_command(user).await.unwrap();
        let credential = Credential::builder()
            .username("keeper".to_owned())
            .password(PASSWORD.to_owned())
            .source("admin".to_owned())
            .build();
        let options = ClientOptions::builder()
            .hosts(vec![ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: None }])
            .direct_connection(true)
            .credential(credential)
            .build();
        let random: Vec<u8> =
            (0..10_000u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
        let tale = doc! {"data": Binary { subtype: BinarySubtype::Generic, bytes: random }};
        let signed_in = Client::with_options(options).unwrap();
        signed_in.database("girder").collection("tales").insert_one(tale).await.unwrap();
    });
}

/// A service with a database, the secrets, and three policies: one that works, one whose sign-in is refused, and one whose
/// remote is away.
fn stack(secrets: &Scratch, remote: &Served) -> String {
    let wrong = format!("mongodb://keeper:{WRONG}@db/?directConnection=true");
    let away = format!(
        "[away]\ntype = webdav\nurl = http://someone:{IN_ADDRESS}@10.77.0.254:9\nvendor = other\nbearer_token = {TOKEN}\n"
    );
    let rclone = format!("{}bearer_token = {TOKEN}\n\n{away}", remote.config());
    let mut text = format!(
        "version: '3.8'\nservices:\n  db:\n    image: {}\n    command: [mongod, --auth, --bind_ip_all, --wiredTigerCacheSizeGB, '0.25']\n    \
         stop_grace_period: 1s\n    networks: [net]\n    secrets: [password, wrong, rclone]\n    \
         deploy:\n      endpoint_mode: dnsrr\n      labels:\n",
        image::MONGO
    );
    let uri = ("mongodb.uri", "mongodb://db/?directConnection=true");
    let sign_in = [("mongodb.username", "keeper"), ("mongodb.passwordFrom.secretKeyRef.name", "password")];
    let policies = [
        ("good", NAME, vec![uri, sign_in[0], sign_in[1]]),
        ("refused", NAME, vec![("mongodb.uriFrom.secretKeyRef.name", "wrong")]),
        ("away", "away", vec![uri, sign_in[0], sign_in[1]]),
    ];
    for (policy, remote, fields) in policies {
        let common = [
            ("destination.remote", remote),
            ("destination.path", "GUARDED"),
            ("destination.configFrom.secretKeyRef.name", "rclone"),
            ("destination.bandwidthLimit", "64k"),
            ("task.retries", "0"),
        ];
        for (field, value) in common.iter().chain(&fields) {
            text.push_str(&format!("        backstay.{policy}.{field}: '{value}'\n"));
        }
    }
    text.push_str("networks: {net: {driver: overlay}}\nsecrets:\n");
    for (name, content) in [("password", PASSWORD), ("wrong", &wrong), ("rclone", &rclone)] {
        text.push_str(&format!("  {name}: {{file: {}}}\n", secrets.file(name, content).display()));
    }
    text
}

#[test]
#[ignore = "a minute and more: make e2e-swarm"]
fn no_secret_is_seen_anywhere() {
    let Some(swarm) = with_controller() else { return };
    let remote = Served::new(swarm, 8084);
    let secrets = Scratch::new("secrets");
    let (witness, done) = (Witness::default(), AtomicBool::new(false));
    let policies = ["good", "refused", "away"].map(|policy| format!("{STACK}/{policy}"));
    let ends = thread::scope(|scope| {
        scope.spawn(|| witness.watch(swarm, &done));
        // Ends the watch also when the rest panics.
        let _ends = Ends(&done);
        let _stack = Stack::deploy_text(swarm, STACK, &stack(&secrets, &remote));
        fill(swarm);
        policies.iter().for_each(|policy| known(swarm, policy));
        let run = |policy: &String| backstay(swarm, &["run", policy, "--wait"]);
        let ends = thread::scope(|scope| {
            policies.each_ref().map(|policy| scope.spawn(move || run(policy))).map(|run| run.join().unwrap())
        });
        ask(swarm, &witness, &policies);
        witness.configs(swarm);
        ends.map(|end| (end.status.code(), said(&end)))
    });
    // Docker does not give it every time.
    until("the controller's log is read", || witness.log(swarm, CONTROLLER).contains("launching the task"));
    witness.files(remote.root());
    ends.iter().for_each(|(_, said)| witness.note("runs", said.as_str()));

    assert_eq!(ends.each_ref().map(|(code, _)| *code), [Some(0), Some(1), Some(1)], "{ends:#?}");
    assert!(ends[1].1.contains("keeper"), "{}", ends[1].1);
    for (place, text) in [
        ("services", "guarded/good"),
        ("services", "allow-path"),
        ("tasks", "guarded/good"),
        ("containers", "guarded/good"),
        ("events", "backstay-good-"),
        ("logs of services", "launching the task"),
        ("logs of services", "\"verdict\""),
        ("arguments", "rclone"),
        ("environment", "BACKSTAY_TASK_SPEC"),
        ("configs", "guarded/refused"),
        ("status", "guarded/away"),
        ("logs", "mongodb"),
        ("remote", "\"snapshot\": \"good-"),
    ] {
        witness.must_have_seen(place, text);
    }
    witness.must_not_have_seen(&[PASSWORD, WRONG, TOKEN, IN_ADDRESS]);
}

/// All that the command line tells about the policies.
fn ask(swarm: &Swarm, witness: &Witness, policies: &[String]) {
    let ask = |place, arguments: &[&str]| witness.note(place, said(&backstay(swarm, arguments)));
    ask("status", &["status", "-o", "json"]);
    ask("status", &["status"]);
    for policy in policies {
        ask("status", &["status", policy, "-o", "json"]);
        ask("status", &["explain", policy, "--orchestrator", "swarm"]);
        ask("logs", &["logs", policy]);
        ask("logs", &["logs", policy, "--preflight"]);
    }
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Below an allowed path somebody has made links: to the node's files, to what the task has besides, to another folder.
#[test]
fn a_link_below_an_allowed_path_leads_nowhere() {
    let Some(swarm) = with_controller() else { return };
    let remote = Served::new(swarm, 8085);
    let node = swarm.nodes().last().expect("a swarm has a node");
    let (links, outside) = (node.mnt().join("backstay/links"), node.mnt().join("outside"));
    fs::create_dir_all(links.join("real")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(links.join("real/note"), "text").unwrap();
    fs::write(outside.join("key"), "nobody may have this").unwrap();
    for (link, target) in [
        ("etc", "/etc"),
        ("secrets", "/run/secrets"),
        ("outside", "/mnt/outside"),
        ("beside", "../../outside"),
        ("near", "real"),
    ] {
        symlink(target, links.join(link)).unwrap();
    }
    let host: &'static str = node.name().leak();
    let of = |policy: &'static str| {
        let path: &'static str = format!("/mnt/backstay/links/{policy}").leak();
        carrier(policy, &[("volumes.d.hostPath", path), ("volumes.d.nodeSelector.node.hostname", host)])
    };
    let linked = ["etc", "secrets", "outside", "beside", "near"];
    let foreign = [
        ("mongodb.uri", "mongodb://db/?directConnection=true"),
        ("mongodb.username", "keeper"),
        ("mongodb.passwordFrom.secretKeyRef.name", "foreign"),
    ];
    let mut carriers: Vec<String> = linked.map(of).into();
    carriers.extend([of("real"), carrier("foreign", &foreign)]);
    let (_stack, _secret) = deploy(swarm, "links", &remote.config(), &carriers);
    let mut cases: Vec<(&str, Option<i32>, &str)> =
        linked.iter().map(|policy| (*policy, Some(1), "leads through a symlink")).collect();
    cases.extend([("real", Some(0), "stored"), ("foreign", Some(1), "--allow-secret foreign")]);
    let ends = thread::scope(|scope| {
        let run = |policy: &str| {
            let name = format!("links/{policy}");
            known(swarm, &name);
            backstay(swarm, &["run", &name, "--wait"])
        };
        let runs: Vec<_> = cases.iter().map(|(policy, ..)| scope.spawn(move || run(policy))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    for ((policy, code, text), end) in cases.iter().zip(&ends) {
        assert_eq!(end.status.code(), *code, "{policy}: {}", said(end));
        assert!(said(end).contains(text), "{policy}: nothing says {text:?}:\n{}", said(end));
    }
    let remote = Remote::at(remote.root());
    let manifests = remote.objects().into_iter().filter(|path| path.ends_with("/manifest.json"));
    assert_eq!(manifests.count(), 1);
}
