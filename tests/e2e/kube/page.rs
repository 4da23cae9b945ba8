//! What `docs/kubernetes.md` tells a person to type, from its first line to its last.

use super::{chart::helm, *};
use crate::support::{Scratch, kube, tree};
use serde_json::json;

/// Blocks of a page in their order: the language and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((language.to_owned(), body.join("\n")));
        }
    }
    blocks
}

/// The page as a script: its commands, and the files that it shows with their names.
fn script(page: &str) -> String {
    let mut script = "set -euxo pipefail\n".to_owned();
    for (language, body) in blocks(page) {
        let name = body.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
        if language == "yaml" && name.ends_with(".yaml") {
            script += &format!("cat >{name} <<'END'\n{body}\nEND\n");
        }
        if language == "console" {
            let commands = body.lines().filter_map(|line| line.strip_prefix("$ "));
            // There is neither Docker nor a registry here; the nodes have the image.
            commands
                .filter(|line| !line.starts_with("docker "))
                .for_each(|line| script += &format!("{line}\n"));
        }
    }
    script
        .replace("REGISTRY/backstay", "docker.io/library/backstay")
        .replace("image.tag=0.1.0", "image.tag=latest")
}

#[test]
#[ignore = "make e2e-kubernetes"]
fn the_page_leads_from_nothing_to_a_backup_and_away_again() {
    let Some(helm) = helm() else { return };
    let Some(cluster) = kube::start_or_say(1) else { return };
    cluster.run(["create", "namespace", "wt"]);
    let homes = cluster.volume("wt", "homes", &cluster.nodes()[0]);
    std::fs::write(homes.join("notes.txt"), "hello").unwrap();
    let mounts = json!([{"name": "homes", "mountPath": "/homes"}]);
    cluster.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": "wt"},
        "spec": {"terminationGracePeriodSeconds": 1,
                 "containers": [{"name": "user", "image": image::SLEEPER, "volumeMounts": mounts}],
                 "volumes": [{"name": "homes", "persistentVolumeClaim": {"claimName": "homes"}}]},
    }));
    cluster.address("wt", "user");
    let served = cluster.remote(9001);
    let desk = Scratch::new("page");
    desk.file("rclone.conf", served.config());
    std::fs::copy(cluster.kubeconfig(), desk.join("kubeconfig")).unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::os::unix::fs::symlink(repository.join("charts"), desk.join("charts")).unwrap();

    let page = std::fs::read_to_string(repository.join("docs/kubernetes.md")).unwrap();
    let folders = [kube::program("kubectl"), helm].map(|program| program.parent().unwrap().to_owned());
    let plugin = desk.folder("plugin");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_backstay"), plugin.join("kubectl-backstay")).unwrap();
    let system = ["/usr/bin", "/bin"].map(PathBuf::from);
    let path = std::env::join_paths(folders.into_iter().chain([plugin]).chain(system)).unwrap();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "900", "bash", "-c", &script(&page)]).current_dir(&*desk);
    command.env_clear().env("PATH", path).env("HOME", &*desk).env("KUBECONFIG", desk.join("kubeconfig"));
    let start = std::time::Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    println!("{}{}\n{:?}", said[0], said[1], start.elapsed());
    assert!(output.status.success(), "a command of the page fails:\n{}{}", said[0], said[1]);
    let kept = tree::digest(served.root());
    let is_snapshot = |path: &&PathBuf| path.ends_with("RESTORE.txt");
    assert_eq!(
        kept.keys().filter(is_snapshot).count(),
        2,
        "the remote keeps both backups: {:?}",
        kept.keys()
    );
}
