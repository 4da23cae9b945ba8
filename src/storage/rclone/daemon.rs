//! One running rclone: its sockets, what it serves, and calls of its API.
//!
//! Start: private directory → configuration → process → socket answers → version → objects are served.

use super::{
    log::{self, Moment},
    options::RcloneOptions,
    private::PrivateDirectory,
    process::Process,
    reason,
};
use crate::{
    domain::verdict::Failure,
    storage::store::{HashKind, StoreError},
};
use bytes::Bytes;
use reqwest::{Client, StatusCode};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tokio::{net::UnixStream, time};

/// Oldest rclone that is used: older ones can be led out of their root by names.
const OLDEST: [u64; 2] = [1, 75];
/// For the socket to appear, on a machine that is busy with other things.
const START: Duration = Duration::from_secs(30);
/// For saving the configuration at the end.
const STOP: Duration = Duration::from_secs(5);

/// A running daemon.
pub(super) struct Daemon {
    process: Process,
    api: Client,
    pub objects: Client,
    /// `remote:path`
    fs: String,
    stall: Duration,
    _private: PrivateDirectory,
}

impl Daemon {
    /// Starts one.
    ///
    /// # Errors
    /// As [`super::Rclone::start`].
    pub async fn start(options: &RcloneOptions) -> Result<Self, Failure> {
        let private = PrivateDirectory::make().map_err(|error| {
            Failure::temporary("NoPrivateDirectory", format!("no private directory can be made: {error}"))
        })?;
        let config = options.config.place()?;
        let (api_socket, object_socket) = (private.path().join("rc.sock"), private.path().join("d.sock"));
        let process =
            Process::start(&options.program, &config, &api_socket, options.bandwidth_limit.as_deref())
                .map_err(|error| missing(&format!("{}: {error}", options.program.display())))?;
        let daemon = Self {
            api: client(&api_socket)?,
            objects: client(&object_socket)?,
            fs: format!("{}:{}", options.remote, options.path),
            stall: options.stall,
            _private: private,
            process,
        };
        daemon.wait_until_ready(&api_socket).await?;
        daemon.check_version().await?;
        let served = daemon.serve(&object_socket).await;
        if let Err(error) = served {
            return Err(daemon.explain(error, options).await);
        }
        tracing::debug!(mode = ?options.mode, "rclone serves {}", daemon.fs);
        Ok(daemon)
    }

    pub fn fs(&self) -> &str {
        &self.fs
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Whether it ended, or ends now: its sockets close a moment before.
    pub async fn ends_soon(&self) -> bool {
        time::timeout(Duration::from_millis(500), self.process.end()).await.is_ok()
    }

    pub fn kill(&self) {
        self.process.signal(Signal::KILL);
    }

    /// Asks it to end, then makes it.
    pub async fn stop(&self) {
        self.process.signal(Signal::TERM);
        if time::timeout(STOP, self.process.end()).await.is_err() {
            self.kill();
            let _ = time::timeout(STOP, self.process.end()).await;
        }
    }

    /// Its last error, for a person.
    pub fn last_words(&self) -> String {
        self.process.log.last().unwrap_or_else(|| "it gave no reason".to_owned())
    }

    /// A moment in its log.
    pub fn moment(&self) -> Moment {
        self.process.log.now()
    }

    /// Why an operation on `object` that began at `since` failed, from the log; it may come a moment after the answer.
    pub async fn words_about(&self, object: &str, since: Moment) -> Option<String> {
        for _ in 0..25 {
            if let Some(words) = self.process.log.about(object, since) {
                return Some(words);
            }
            time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// The hash that the remote has and this crate computes.
    ///
    /// # Errors
    /// What the remote says.
    pub async fn hashes(&self) -> Result<Option<HashKind>, StoreError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info {
            #[serde(default)]
            hashes: Option<Vec<String>>,
        }
        let answer = self.call("operations/fsinfo", &json!({"fs": self.fs})).await?;
        let info: Info = parse("operations/fsinfo", &answer)?;
        let names = info.hashes.unwrap_or_default();
        Ok(HashKind::ALL.into_iter().find(|kind| names.iter().any(|name| name == kind.as_str())))
    }

    /// Calls rclone's API. Takes as long as rclone takes, while rclone answers at all.
    ///
    /// # Errors
    /// What rclone says, or that it does not.
    pub async fn call(&self, method: &str, input: &Value) -> Result<Bytes, StoreError> {
        let operation = match input["remote"].as_str() {
            Some(path) => format!("{method} {path:?}"),
            None => method.to_owned(),
        };
        let unavailable = |detail: String| StoreError::Unavailable { operation: operation.clone(), detail };
        let request = async {
            let answer = self.post(method, input).send().await?;
            Ok::<_, reqwest::Error>((answer.status(), answer.bytes().await?))
        };
        let (status, body) = tokio::select! {
            answer = request => answer.map_err(|error| unavailable(self.broken(&error)))?,
            () = self.silence() => return Err(unavailable("rclone does not answer any more".to_owned())),
            () = self.process.end() => return Err(unavailable(format!("rclone ended: {}", self.last_words()))),
        };
        if status == StatusCode::OK {
            return Ok(body);
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let words = match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => log::redact(&refusal.error),
            Err(_) => format!("status {status}"),
        };
        if status == StatusCode::NOT_FOUND {
            let path = input["remote"].as_str().unwrap_or(method).to_owned();
            return Err(StoreError::NotFound { path });
        }
        Err(reason::of(&operation, &words))
    }

    /// What a broken connection means.
    pub fn broken(&self, error: &reqwest::Error) -> String {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        format!("the connection to rclone broke: {cause}")
    }

    /// Returns once rclone has not answered for the time of a stall; it is killed then, for it will not recover.
    async fn silence(&self) {
        loop {
            time::sleep(self.stall / 4).await;
            let beat = self.post("rc/noop", &json!({})).send();
            if time::timeout(self.stall, beat).await.is_err() {
                tracing::warn!("rclone does not answer; killing it");
                self.kill();
                self.process.end().await;
                return;
            }
        }
    }

    fn post(&self, method: &str, input: &Value) -> reqwest::RequestBuilder {
        self.api.post(format!("http://rclone/{method}")).json(input)
    }

    async fn wait_until_ready(&self, socket: &Path) -> Result<(), Failure> {
        let ready = async {
            while UnixStream::connect(socket).await.is_err() {
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = ready => Ok(()),
            () = self.process.end() => {
                let words = self.last_words();
                let failure = match reason::of("starting rclone", &words) {
                    // The words of `storage::child`, which is started in any case.
                    _ if words.contains("(os error 2)") => missing(&words),
                    StoreError::Unavailable { .. } => Failure::permanent("RcloneFailed", format!("rclone ended at once: {words}")),
                    error => error.into(),
                };
                Err(failure)
            }
            () = time::sleep(START) => Err(Failure::temporary("RcloneFailed", "rclone did not open its socket in 30 s")),
        }
    }

    async fn check_version(&self) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
            decomposed: Vec<u64>,
        }
        let answer = self.call("core/version", &json!({})).await?;
        let version: Version = parse("core/version", &answer)?;
        if version.decomposed.as_slice() >= OLDEST.as_slice() {
            return Ok(());
        }
        let [major, minor] = OLDEST;
        let message = format!("rclone is {}, and names can lead that one out of its folder", version.version);
        Err(Failure::permanent("RcloneTooOld", message)
            .fix(format!("install rclone {major}.{minor} or later")))
    }

    /// Lets objects be read, and created where there are none. Deleting goes through the API, for which the mode is
    /// checked on our side; so nobody can overwrite an object, not even a task that prunes.
    async fn serve(&self, socket: &Path) -> Result<(), StoreError> {
        let input = json!({
            "type": "restic", "fs": self.fs, "addr": format!("unix://{}", socket.display()),
            "append_only": true, "cache_objects": false,
            "server_read_timeout": "24h", "server_write_timeout": "24h",
        });
        self.call("serve/start", &input).await.map(drop)
    }

    /// A remote that is not in the configuration is mostly a misspelt one.
    async fn explain(&self, error: StoreError, options: &RcloneOptions) -> Failure {
        let StoreError::Unusable { detail } = &error else { return error.into() };
        if !detail.contains("didn't find section in config file") {
            return error.into();
        }
        #[derive(Default, Deserialize)]
        struct Remotes {
            #[serde(default)]
            remotes: Vec<String>,
        }
        let answer = self.call("config/listremotes", &json!({})).await.unwrap_or_default();
        let remotes = serde_json::from_slice::<Remotes>(&answer).unwrap_or_default().remotes;
        let wanted = options.remote.as_str();
        let near = remotes.iter().filter(|name| strsim::damerau_levenshtein(name, wanted) <= 2).min();
        let message = format!("{} has no remote {wanted:?}", options.config.given().display());
        Failure::permanent("UnknownRemote", message).fix(match (near, remotes.as_slice()) {
            (Some(near), _) => format!("did you mean {near:?}?"),
            (None, []) => "it has none at all: make one with `rclone config`".to_owned(),
            (None, some) => format!("it has {}", some.join(", ")),
        })
    }
}

fn parse<T: for<'a> Deserialize<'a>>(method: &str, answer: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(answer).map_err(|error| StoreError::Unavailable {
        operation: method.to_owned(),
        detail: format!("rclone's answer cannot be read: {error}"),
    })
}

fn client(socket: &Path) -> Result<Client, Failure> {
    Client::builder()
        .unix_socket(socket)
        .build()
        .map_err(|error| Failure::permanent("NoHttpClient", format!("no HTTP client can be made: {error}")))
}

fn missing(words: &str) -> Failure {
    Failure::permanent("RcloneMissing", format!("rclone cannot be started: {words}"))
        .fix("install rclone 1.75 or later, on the PATH")
}
