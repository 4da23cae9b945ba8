//! The control plane: etcd, the server, its controllers and the scheduler, in the network of the switch.

use super::{
    super::{
        children::{self, Kept},
        swarm::node::{GATEWAY, in_network, log},
    },
    pki::Pki,
    program, wait,
};
use rustix::process::Signal;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// Where the services of the cluster are.
const SERVICES: &str = "10.96.0.0/16";

/// A running control plane.
#[derive(Debug)]
pub struct Control {
    pub pki: Pki,
    folder: PathBuf,
    switch: u32,
    server: Mutex<Option<Kept>>,
    _others: Vec<Kept>,
}

impl Control {
    /// Starts it in the network of a process.
    pub fn start(cluster: &Path, switch: u32) -> Self {
        let folder = cluster.join("control");
        std::fs::create_dir_all(&folder).unwrap();
        let pki = Pki::new(&folder.join("pki"));
        let names = format!(
            "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1,IP:{GATEWAY}"
        );
        pki.certificate("apiserver", "/CN=kube-apiserver", &names);
        pki.certificate("admin", "/O=system:masters/CN=admin", "");
        pki.certificate("manager", "/CN=system:kube-controller-manager", "");
        pki.certificate("scheduler", "/CN=system:kube-scheduler", "");
        pki.certificate("proxy", "/CN=system:kube-proxy", "");
        let port = forward(switch);
        pki.kubeconfig(&folder.join("admin.kubeconfig"), "admin", &format!("127.0.0.1:{port}"));
        for name in ["manager", "scheduler"] {
            pki.kubeconfig(&folder.join(format!("{name}.kubeconfig")), name, &format!("{GATEWAY}:6443"));
        }
        let data = folder.join("etcd");
        let etcd = run(
            switch,
            &folder,
            "etcd",
            &[
                format!("--data-dir={}", data.display()),
                "--unsafe-no-fsync".into(),
                "--listen-client-urls=http://127.0.0.1:2379".into(),
                "--advertise-client-urls=http://127.0.0.1:2379".into(),
                "--listen-peer-urls=http://127.0.0.1:2380".into(),
                "--log-level=error".into(),
            ],
        );
        let mut control = Self { pki, folder, switch, server: Mutex::new(None), _others: vec![etcd] };
        control.start_server();
        control._others.extend([control.manager(), control.scheduler()]);
        wait("the default service account", || control.answers("get serviceaccount default"));
        control
    }

    /// The configuration of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// Starts the server, the first time or after its end, and waits until it is ready.
    pub fn start_server(&self) {
        let path = |name: &str| self.pki.path(name);
        let server = run(
            self.switch,
            &self.folder,
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379".into(),
                format!("--advertise-address={GATEWAY}"),
                format!("--client-ca-file={}", path("ca.crt")),
                format!("--tls-cert-file={}", path("apiserver.crt")),
                format!("--tls-private-key-file={}", path("apiserver.key")),
                format!("--service-account-key-file={}", path("sa.key")),
                format!("--service-account-signing-key-file={}", path("sa.key")),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-cluster-ip-range={SERVICES}"),
                "--authorization-mode=Node,RBAC".into(),
                "--enable-admission-plugins=NodeRestriction".into(),
                "--allow-privileged".into(),
                format!("--kubelet-client-certificate={}", path("admin.crt")),
                format!("--kubelet-client-key={}", path("admin.key")),
                "--kubelet-preferred-address-types=InternalIP".into(),
            ],
        );
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        wait("the server", || self.answers("get --raw /readyz"));
    }

    /// Kills the server.
    pub fn kill_server(&self) {
        drop(self.server.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Sends the server a signal.
    pub fn signal_server(&self, signal: Signal) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().expect("the server runs").signal(signal);
    }

    fn manager(&self) -> Kept {
        run(
            self.switch,
            &self.folder,
            "kube-controller-manager",
            &[
                format!("--kubeconfig={}", self.folder.join("manager.kubeconfig").display()),
                format!("--service-account-private-key-file={}", self.pki.path("sa.key")),
                format!("--root-ca-file={}", self.pki.path("ca.crt")),
                "--use-service-account-credentials".into(),
                "--leader-elect=false".into(),
                "--bind-address=127.0.0.1".into(),
            ],
        )
    }

    fn scheduler(&self) -> Kept {
        run(
            self.switch,
            &self.folder,
            "kube-scheduler",
            &[
                format!("--kubeconfig={}", self.folder.join("scheduler.kubeconfig").display()),
                "--leader-elect=false".into(),
                "--bind-address=127.0.0.1".into(),
            ],
        )
    }

    fn answers(&self, question: &str) -> bool {
        let mut command = std::process::Command::new("timeout");
        command
            .arg("5")
            .arg(program("kubectl"))
            .args(question.split(' '))
            .env("KUBECONFIG", self.kubeconfig());
        command.env("HOME", &self.folder).output().is_ok_and(|output| output.status.success())
    }
}

fn run(switch: u32, folder: &Path, name: &str, arguments: &[String]) -> Kept {
    let mut command = children::tied("nsenter");
    command.args(["--target", &switch.to_string(), "--net", "--"]).arg(program(name)).args(arguments);
    command.current_dir(folder).stdout(log(folder, name)).stderr(log(folder, name));
    children::start(command)
}

/// A free port of this machine that leads to the server within the switch's network.
fn forward(switch: u32) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let network = PathBuf::from(format!("/proc/{switch}/ns/net"));
        for client in listener.incoming().flatten() {
            let network = network.clone();
            thread::spawn(move || {
                if !network.exists() {
                    return;
                }
                let connect = || {
                    let address = format!("{GATEWAY}:6443").parse().expect("an address");
                    TcpStream::connect_timeout(&address, Duration::from_secs(5))
                };
                if let Ok(server) = in_network(&network, connect) {
                    let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                    thread::spawn(move || copy(server, client));
                    copy(from, to);
                }
            });
        }
    });
    port
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut block = [0; 64 << 10];
    while let Ok(read) = from.read(&mut block) {
        if read == 0 || to.write_all(&block[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
