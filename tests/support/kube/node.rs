//! One node: containerd, a kubelet and a proxy in namespaces of their own.

use super::{
    super::{
        children::{self, Kept},
        swarm::{
            engine::Engine,
            node::{self as machine, GATEWAY, SUBNET, enter, first_process, ip, plug},
        },
    },
    cni,
    control::Control,
    program, wait,
};
use crate::support::swarm::image::SLEEPER;
use rustix::process::Signal;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// The first process of a node's namespaces: when it ends, all others in them do, and every mount is gone. What a kubelet
/// writes beside its own folder stays within; name servers are out of reach, so that a missing image is noticed at once.
const INIT: &str = r#"
hostname "$1"
mount --bind "$2/resolv.conf" /etc/resolv.conf
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mount -t tmpfs none /var/lib
mkdir -p /run/netns
echo 1 >/proc/sys/net/ipv4/ip_forward
exec "$3" -s -- sleep infinity
"#;

/// A running node of a cluster.
#[derive(Debug)]
pub struct Node {
    number: usize,
    folder: PathBuf,
    init: u32,
    kubelet: Mutex<Option<Kept>>,
    // Dropped in this order: the namespaces last.
    _others: Vec<Kept>,
    _namespaces: Kept,
}

impl Node {
    /// Starts a node and plugs it into the switch.
    pub fn start(number: usize, cluster: &Path, switch: u32, control: &Control, images: &[PathBuf]) -> Self {
        let folder = cluster.join(format!("k{number}"));
        std::fs::create_dir_all(folder.join("cni")).unwrap();
        std::fs::write(folder.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let group = format!("{}-k{number}", cluster.file_name().unwrap().to_string_lossy());
        write_settings(number, &folder, &group, control);
        make_groups(&group);
        let namespaces = machine::namespaces(&format!("node{number}"), INIT, Engine::Debian, &folder);
        let init = first_process(&namespaces);
        plug(number, init, switch);
        for other in (1..=9).filter(|other| *other != number) {
            let (net, via) = (format!("10.244.{other}.0/24"), format!("{SUBNET}.{other}"));
            ip(init, &["route", "add", &net, "via", &via]);
        }
        ip(switch, &["route", "add", &format!("10.244.{number}.0/24"), "via", &format!("{SUBNET}.{number}")]);
        let mut containerd =
            machine::within(init, Engine::Debian, &Engine::Debian.program("containerd"), &folder);
        containerd.arg("--config").arg(folder.join("containerd.toml"));
        let containerd = children::start(containerd);
        wait("containerd", || folder.join("containerd.sock").exists());
        let mut proxy = machine::within(init, Engine::Debian, &program("kube-proxy"), &folder);
        proxy.arg("--config").arg(folder.join("proxy.json"));
        let others = vec![children::start(proxy), containerd];
        let node = Self {
            number,
            folder,
            init,
            kubelet: Mutex::new(None),
            _others: others,
            _namespaces: namespaces,
        };
        node.load(images);
        node.start_kubelet();
        node
    }

    /// Its number in the cluster, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its name in the cluster.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the kubelet, the first time or after its end.
    pub fn start_kubelet(&self) {
        let mut command = machine::within(self.init, Engine::Debian, &program("kubelet"), &self.folder);
        let path = |name: &str| self.folder.join(name).display().to_string();
        command.arg(format!("--config={}", path("kubelet.json")));
        command.arg(format!("--kubeconfig={}", path("kubelet.kubeconfig")));
        command.arg(format!("--hostname-override={}", self.name()));
        command.arg(format!("--root-dir={}", path("kubelet")));
        command.arg(format!("--cert-dir={}", path("kubelet-pki")));
        command.arg(format!("--node-ip={SUBNET}.{}", self.number));
        *self.kubelet.lock().unwrap_or_else(PoisonError::into_inner) = Some(children::start(command));
    }

    /// Ends the kubelet; Pods run on.
    pub fn stop_kubelet(&self) {
        let mut kubelet = self.kubelet.lock().unwrap_or_else(PoisonError::into_inner);
        let outer = kubelet.as_ref().expect("the kubelet runs").pid();
        children::descendants(outer)
            .into_iter()
            .take(1)
            .for_each(|pid| children::signal_pid(pid, Signal::TERM));
        let _ = kubelet.take().expect("the kubelet runs").child().wait();
    }

    /// Any program within the node's namespaces: it reaches the Pods and Services of the cluster.
    pub fn within(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        enter(&mut command, self.init);
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Loads tarballs of images.
    pub fn load(&self, images: &[PathBuf]) {
        for image in images {
            let mut command = Command::new("nsenter");
            enter(&mut command, self.init);
            command
                .arg(Engine::Debian.program("ctr"))
                .arg("--address")
                .arg(self.folder.join("containerd.sock"));
            command
                .args(["--namespace", "k8s.io", "images", "import", "--no-unpack"])
                .arg(image)
                .stdin(Stdio::null());
            Engine::Debian.prepare(&mut command);
            let output = command.output().expect("ctr starts");
            crate::support::swarm::said(&command, &output);
        }
    }
}

/// The control groups of the node's Pods: a root of its own, or kubelets would end each other's Pods.
fn make_groups(group: &str) {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let (root, own) = (hierarchy.path(), hierarchy.path().join(group));
        if !root.is_dir() || std::fs::create_dir_all(&own).is_err() {
            continue;
        }
        for file in ["cpuset.mems", "cpuset.cpus"] {
            if let Ok(value) = std::fs::read(root.join(file)) {
                std::fs::write(own.join(file), value).unwrap();
            }
        }
    }
}

fn write_settings(number: usize, folder: &Path, group: &str, control: &Control) {
    let pki = &control.pki;
    let subject = format!("/O=system:nodes/CN=system:node:node{number}");
    pki.certificate(&format!("node{number}"), &subject, "");
    let server = format!("{GATEWAY}:6443");
    pki.kubeconfig(&folder.join("kubelet.kubeconfig"), &format!("node{number}"), &server);
    pki.kubeconfig(&folder.join("proxy.kubeconfig"), "proxy", &server);
    let place = folder.display();
    let containerd = format!(
        "version = 2\nroot = \"{place}/containerd\"\nstate = \"/run/containerd-node\"\n\
         [grpc]\n  address = \"{place}/containerd.sock\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"docker.io/{SLEEPER}\"\n  restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"{}\"\n  conf_dir = \"{place}/cni\"\n",
        cni().expect("`make setup` fetches the plugins").display()
    );
    std::fs::write(folder.join("containerd.toml"), containerd).unwrap();
    let range = json!([[{"subnet": format!("10.244.{number}.0/24")}]]);
    let network = json!({"cniVersion": "0.4.0", "name": "pod", "plugins": [
        {"type": "ptp", "ipam": {"type": "host-local", "dataDir": folder.join("addresses"), "ranges": range,
                                 "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": true}}]});
    std::fs::write(folder.join("cni/10-pod.conflist"), network.to_string()).unwrap();
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": pki.path("ca.crt")}},
        "authorization": {"mode": "Webhook"}, "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{group}"),
        "containerRuntimeEndpoint": format!("unix://{place}/containerd.sock"), "podLogsDir": folder.join("pod-logs"),
        "clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local", "resolvConf": folder.join("resolv.conf"),
        "failSwapOn": false, "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    });
    std::fs::write(folder.join("kubelet.json"), kubelet.to_string()).unwrap();
    let proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "iptables",
        "clientConnection": {"kubeconfig": folder.join("proxy.kubeconfig")},
        "hostnameOverride": format!("node{number}"), "clusterCIDR": "10.244.0.0/16",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    std::fs::write(folder.join("proxy.json"), proxy.to_string()).unwrap();
}
