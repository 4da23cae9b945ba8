//! Certificates and configurations of a cluster, made by openssl.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The authority of a cluster, below a folder.
#[derive(Debug, Clone)]
pub struct Pki(PathBuf);

impl Pki {
    /// A new authority.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let pki = Self(folder.to_owned());
        pki.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-keyout",
            &pki.path("ca.key"),
            "-out",
            &pki.path("ca.crt"),
            "-subj",
            "/CN=ca",
        ]);
        pki.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &pki.path("sa.key")]);
        pki
    }

    /// The path of one of its files.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("paths of tests are text").to_owned()
    }

    /// A certificate for a client or a server, with its key.
    pub fn certificate(&self, name: &str, subject: &str, names: &str) {
        let mut arguments: Vec<String> =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend([
            "-keyout".into(),
            self.path(&format!("{name}.key")),
            "-out".into(),
            self.path(&format!("{name}.crt")),
        ]);
        arguments.extend([
            "-subj".into(),
            subject.into(),
            "-CA".into(),
            self.path("ca.crt"),
            "-CAkey".into(),
            self.path("ca.key"),
        ]);
        for extension in ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth,serverAuth"] {
            arguments.extend(["-addext".into(), extension.into()]);
        }
        if !names.is_empty() {
            arguments.extend(["-addext".into(), format!("subjectAltName={names}")]);
        }
        self.openssl(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// A configuration of kubectl for the owner of a certificate.
    pub fn kubeconfig(&self, file: &Path, name: &str, server: &str) {
        let cluster = serde_json::json!({"server": format!("https://{server}"), "certificate-authority": self.path("ca.crt")});
        let user = serde_json::json!({
            "client-certificate": self.path(&format!("{name}.crt")), "client-key": self.path(&format!("{name}.key"))});
        let context = serde_json::json!({"cluster": "test", "user": name});
        let document = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}], "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": context}],
        });
        std::fs::write(file, document.to_string()).unwrap();
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments).stdin(Stdio::null()).output().expect("openssl starts");
        super::super::swarm::said(&command, &output);
    }
}
