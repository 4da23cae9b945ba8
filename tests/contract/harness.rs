//! The helpers of the other tests do what they say.

use crate::support::{Scratch, children, mongo, mongo::Mongo, remote, remote::Remote, tree};
use mongodb::bson::doc;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

/// `cp -a` keeps all of the tree, so its copy shows what the comparison accepts, and a spoilt one what it finds.
#[test]
fn the_difficult_tree_survives_a_copy_and_every_change_is_named() {
    let scratch = Scratch::new("tree");
    let (original, copy) = (scratch.folder("original"), scratch.folder("copy"));
    tree::difficult_tree(&original);
    let copied = Command::new("cp").arg("-a").arg("-T").arg(&original).arg(&copy).status().unwrap();
    assert!(copied.success());
    let expected = tree::digest(&original);
    tree::assert_same(&expected, &tree::digest(&copy));

    spoil(&copy);
    let mut named = tree::differences(&expected, &tree::digest(&copy));
    named.sort();
    let named: Vec<String> =
        named.iter().map(|line| line.split(" was ").next().unwrap().to_owned()).collect();
    insta::assert_yaml_snapshot!(named);
}

fn spoil(copy: &Path) {
    let touched = |path: &str, change: &dyn Fn(&Path)| {
        let path = copy.join(path);
        let before = fs::symlink_metadata(&path).unwrap().modified().unwrap();
        change(&path);
        fs::File::open(&path).unwrap().set_modified(before).unwrap();
    };
    touched("files/one", &|path| fs::write(path, b"2").unwrap());
    touched("sparse", &|path| fs::write(path, fs::read(path).unwrap()).unwrap());
    fs::set_permissions(copy.join("files/text"), fs::Permissions::from_mode(0o640)).unwrap();
    tree::set_time(&copy.join("links/dangling"), 1_000_000_000, 0);
    rustix::fs::removexattr(copy.join("with-xattrs"), "user.empty").unwrap();
    touched("links", &|links| {
        fs::copy(links.join("first-name"), links.join("apart")).unwrap();
        fs::rename(links.join("apart"), links.join("second-name")).unwrap();
    });
    touched("nested", &|nested| fs::remove_dir(nested.join("empty-too")).unwrap());
    touched("with-acl", &|folder| fs::write(folder.join("new"), b"").unwrap());
}

#[test]
fn rclone_reaches_the_remote() {
    let remote = Remote::new();
    let scratch = Scratch::new("rclone");
    let source = scratch.file("hello", "hi");
    let status = remote
        .rclone()
        .arg("copyto")
        .arg(source)
        .arg(format!("{}:a/b/hello", remote::NAME))
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(remote.objects(), ["a/b/hello"]);
    assert_eq!(fs::read_to_string(remote.object("hello")).unwrap(), "hi");
}

#[tokio::test]
async fn servers_start_with_and_without_access_control_and_end_with_their_value() {
    let set = Mongo::start(mongo::Plan { members: 3, auth: true, ..Default::default() }).await;
    let notes = set.client().await.database("test").collection("notes");
    notes.insert_one(doc! {"_id": 1}).await.unwrap();
    assert_eq!(set.primary().await, 0);
    let stranger = mongodb::Client::with_uri_str(set.uri()).await.unwrap();
    let refused = stranger.database("test").collection("notes").insert_one(doc! {"_id": 2}).await;
    assert!(refused.unwrap_err().to_string().contains("requires authentication"));

    let alone = Mongo::start(mongo::Plan { members: 0, auth: true, ..Default::default() }).await;
    alone.client().await.database("test").run_command(doc! {"ping": 1}).await.unwrap();

    let ports = [set.ports(), alone.ports()].concat();
    drop((set, alone));
    for port in ports {
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok(), "port {port} is still taken");
    }
}

/// The process that started a server is killed: nothing of it stays.
#[test]
fn a_child_dies_with_the_test_process() {
    let mut sleeper = Command::new("sh");
    sleeper.args(["-c", "setpriv --pdeathsig KILL -- sleep 1000 & echo $!; wait"]);
    let mut shell = sleeper.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid: u32 = line.trim().parse().unwrap();
    while children::name(pid).as_deref() != Some("sleep") {
        std::thread::yield_now();
    }
    assert_eq!(children::descendants(shell.id()), [pid]);
    shell.kill().unwrap();
    shell.wait().unwrap();
    while children::name(pid).is_some_and(|name| name == "sleep") && !is_zombie(pid) {
        std::thread::yield_now();
    }
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
