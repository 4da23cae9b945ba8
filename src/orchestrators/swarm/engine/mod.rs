//! The Docker Engine as far as it is needed: a thin client of its API on its socket.
//!
//! Each call has a deadline, nothing is tried again, and a write without an answer is told from one that was refused.
//! The version that is spoken is the newest that both sides know: an engine that is spoken to in an old one drops what
//! that one has not known, without a word.

pub mod model;
pub mod refusal;
pub mod stream;

use crate::controller::port::PortError;
use model::{Config, Container, Made, Node, Secret, Service, Task};
use refusal::{Refusal, refused};
use reqwest::{Client, Method, RequestBuilder};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

/// The newest version that is spoken, and the oldest.
const NEWEST: (u32, u32) = (1, 56);
const OLDEST: (u32, u32) = (1, 40);
/// One call may take this long.
const DEADLINE: Duration = Duration::from_secs(20);
/// Logs of a node that does not answer hang; they are a hint only.
const LOGS: Duration = Duration::from_secs(5);

/// An engine.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
    client: Client,
    version: OnceLock<String>,
}

impl Engine {
    /// The engine at `DOCKER_HOST` (`unix://…`), else at its usual socket.
    ///
    /// # Errors
    /// Another kind of address.
    pub fn from_environment() -> Result<Self, PortError> {
        match std::env::var("DOCKER_HOST").unwrap_or_default().as_str() {
            "" => Self::at(Path::new("/var/run/docker.sock")),
            host => match host.strip_prefix("unix://") {
                Some(path) => Self::at(Path::new(path)),
                None => Err(PortError::Rejected(format!(
                    "DOCKER_HOST={host} is no socket of this host; write unix:///path/to/docker.sock"
                ))),
            },
        }
    }

    /// The engine behind a socket.
    ///
    /// # Errors
    /// A client that cannot be built.
    pub fn at(socket: &Path) -> Result<Self, PortError> {
        let client = Client::builder().unix_socket(socket).no_proxy().build();
        let client = client.map_err(|error| PortError::Unavailable(error.to_string()))?;
        Ok(Self { socket: socket.to_owned(), client, version: OnceLock::new() })
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// All services, or those with a label.
    ///
    /// # Errors
    /// As all calls: [`Refusal`].
    pub async fn services(&self, label: Option<&str>) -> Result<Vec<Service>, Refusal> {
        self.get("/services", &filters("label", label)).await
    }

    /// One service.
    ///
    /// # Errors
    /// As all calls.
    pub async fn service(&self, id: &str) -> Result<Service, Refusal> {
        self.get(&format!("/services/{id}"), &[]).await
    }

    /// One service with everything that the engine says of it, to be written back.
    ///
    /// # Errors
    /// As all calls.
    pub async fn whole_service(&self, id: &str) -> Result<Value, Refusal> {
        self.get(&format!("/services/{id}"), &[]).await
    }

    /// Replaces the specification of a service that has `version`.
    ///
    /// # Errors
    /// As all calls; see [`Refusal::is_stale`].
    pub async fn update_service(&self, id: &str, version: u64, spec: &Value) -> Result<(), Refusal> {
        let query = [("version", version.to_string())];
        self.done(Method::POST, &format!("/services/{id}/update"), &query, Some(spec)).await
    }

    /// Makes a service.
    ///
    /// # Errors
    /// As all calls; 409 when the name is taken.
    pub async fn create_service(&self, spec: &Value) -> Result<Made, Refusal> {
        self.write(Method::POST, "/services/create", &[], Some(spec)).await
    }

    /// Removes a service; its tasks are stopped.
    ///
    /// # Errors
    /// As all calls; 404 when there is none.
    pub async fn remove_service(&self, id: &str) -> Result<(), Refusal> {
        self.done(Method::DELETE, &format!("/services/{id}"), &[], None).await
    }

    /// The tasks of services with a label, also of services that were removed.
    ///
    /// # Errors
    /// As all calls.
    pub async fn tasks(&self, label: &str) -> Result<Vec<Task>, Refusal> {
        self.get("/tasks", &filters("label", Some(label))).await
    }

    /// The tasks of some services.
    ///
    /// # Errors
    /// As all calls.
    pub async fn tasks_of(&self, services: &[&str]) -> Result<Vec<Task>, Refusal> {
        let query = [("filters", json!({"service": services}).to_string())];
        self.get("/tasks", &query).await
    }

    /// All nodes.
    ///
    /// # Errors
    /// As all calls.
    pub async fn nodes(&self) -> Result<Vec<Node>, Refusal> {
        self.get("/nodes", &[]).await
    }

    /// All secrets, without what they hold.
    ///
    /// # Errors
    /// As all calls.
    pub async fn secrets(&self) -> Result<Vec<Secret>, Refusal> {
        self.get("/secrets", &[]).await
    }

    /// The configs with a label.
    ///
    /// # Errors
    /// As all calls.
    pub async fn configs(&self, label: &str) -> Result<Vec<Config>, Refusal> {
        self.get("/configs", &filters("label", Some(label))).await
    }

    /// One config, by name or identity.
    ///
    /// # Errors
    /// As all calls; 404 when there is none.
    pub async fn config(&self, name: &str) -> Result<Config, Refusal> {
        self.get(&format!("/configs/{name}"), &[]).await
    }

    /// One config, by name or identity; nothing when there is none.
    ///
    /// # Errors
    /// As all calls.
    pub async fn find_config(&self, name: &str) -> Result<Option<Config>, Refusal> {
        match self.config(name).await {
            Err(refusal) if refusal.is_absent() => Ok(None),
            config => config.map(Some),
        }
    }

    /// One service, by name or identity; nothing when there is none.
    ///
    /// # Errors
    /// As all calls.
    pub async fn find_service(&self, name: &str) -> Result<Option<Service>, Refusal> {
        match self.service(name).await {
            Err(refusal) if refusal.is_absent() => Ok(None),
            service => service.map(Some),
        }
    }

    /// Makes a config.
    ///
    /// # Errors
    /// As all calls; 409 when the name is taken.
    pub async fn create_config(
        &self,
        name: &str,
        labels: &model::Labels,
        data: &[u8],
    ) -> Result<Made, Refusal> {
        let body = json!({"Name": name, "Labels": labels, "Data": data_encoding::BASE64.encode(data)});
        self.write(Method::POST, "/configs/create", &[], Some(&body)).await
    }

    /// Replaces the labels of a config that has `version`.
    ///
    /// # Errors
    /// As all calls; see [`Refusal::is_stale`].
    pub async fn label_config(
        &self,
        name: &str,
        version: u64,
        labels: &model::Labels,
    ) -> Result<(), Refusal> {
        let body = json!({"Name": name, "Labels": labels});
        let query = [("version", version.to_string())];
        self.done(Method::POST, &format!("/configs/{name}/update"), &query, Some(&body)).await
    }

    /// Removes a config.
    ///
    /// # Errors
    /// As all calls; 404 when there is none.
    pub async fn remove_config(&self, name: &str) -> Result<(), Refusal> {
        self.done(Method::DELETE, &format!("/configs/{name}"), &[], None).await
    }

    /// A container of this engine.
    ///
    /// # Errors
    /// As all calls; 404 when there is none.
    pub async fn container(&self, id: &str) -> Result<Container, Refusal> {
        self.get(&format!("/containers/{id}/json"), &[]).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Refusal> {
        let request = self.request(Method::GET, path, query).await?.timeout(DEADLINE);
        let body = self.send(request, false).await?;
        serde_json::from_slice(&body).map_err(|error| unreadable(path, &error, false))
    }

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<T, Refusal> {
        let mut request = self.request(method, path, query).await?.timeout(DEADLINE);
        if let Some(body) = body {
            request = request.json(body);
        }
        let body = self.send(request, true).await?;
        serde_json::from_slice(&body).map_err(|error| unreadable(path, &error, true))
    }

    async fn done(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<(), Refusal> {
        let mut request = self.request(method, path, query).await?.timeout(DEADLINE);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request, true).await.map(|_| ())
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<RequestBuilder, Refusal> {
        let version = self.version().await?;
        Ok(self.client.request(method, url(&format!("/v{version}{path}"), query)))
    }

    async fn send(&self, request: RequestBuilder, is_write: bool) -> Result<Vec<u8>, Refusal> {
        let answer = request.send().await.map_err(|error| self.no_answer(&error, is_write))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.no_answer(&error, is_write))?;
        if status.is_success() {
            return Ok(body.to_vec());
        }
        Err(refused(status, &body, is_write))
    }

    /// The version that both sides speak, asked for once.
    async fn version(&self) -> Result<&str, Refusal> {
        if let Some(version) = self.version.get() {
            return Ok(version);
        }
        let request = self.client.get(url("/version", &[])).timeout(DEADLINE);
        let body = self.send(request, false).await?;
        let spoken = agreed(&body).map_err(|message| Refusal {
            status: 400,
            message,
            maybe_done: false,
            unreachable: false,
        })?;
        Ok(self.version.get_or_init(|| spoken))
    }

    fn no_answer(&self, error: &reqwest::Error, is_write: bool) -> Refusal {
        let socket = self.socket.display();
        let why = if error.is_timeout() {
            format!("the Docker engine at {socket} did not answer in time")
        } else if error.is_connect() {
            format!(
                "the Docker engine at {socket} cannot be reached: {}; is it running, and may this user use its socket?",
                innermost(error)
            )
        } else {
            format!("the Docker engine at {socket}: {}", innermost(error))
        };
        let unreachable = error.is_connect();
        Refusal { status: 0, message: why, maybe_done: is_write && !unreachable, unreachable }
    }
}

fn unreadable(path: &str, error: &serde_json::Error, is_write: bool) -> Refusal {
    Refusal::unanswered(format!("the engine's answer to {path} cannot be read: {error}"), is_write)
}

/// The cause that says something.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn url(path: &str, query: &[(&str, String)]) -> String {
    let encode = |text: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let piece =
            |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        text.bytes().map(piece).collect()
    };
    let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("http://docker{path}{mark}{}", query.join("&"))
}

fn filters(kind: &str, value: Option<&str>) -> Vec<(&'static str, String)> {
    value.map(|value| ("filters", json!({kind: [value]}).to_string())).into_iter().collect()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Versions {
    #[serde(rename = "ApiVersion")]
    newest: String,
    #[serde(rename = "MinAPIVersion")]
    oldest: String,
    #[serde(rename = "Version")]
    engine: String,
}

/// The newest version that this build and the engine know.
fn agreed(answer: &[u8]) -> Result<String, String> {
    let said: Versions = serde_json::from_slice(answer).unwrap_or_default();
    let number = |text: &str| -> Option<(u32, u32)> {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let Some(newest) = number(&said.newest) else {
        return Err("the engine does not say which API it speaks".to_owned());
    };
    let spoken = newest.min(NEWEST);
    let (major, minor) = spoken;
    if spoken < number(&said.oldest).unwrap_or(OLDEST).max(OLDEST) {
        return Err(format!(
            "engine {} speaks API {} to {}, this build {}.{} to {}.{}",
            said.engine, said.oldest, said.newest, OLDEST.0, OLDEST.1, NEWEST.0, NEWEST.1
        ));
    }
    Ok(format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_both_sides_is_spoken() {
        let agreed = |newest: &str, oldest: &str| {
            agreed(
                json!({"ApiVersion": newest, "MinAPIVersion": oldest, "Version": "1"}).to_string().as_bytes(),
            )
        };
        assert_eq!(agreed("1.41", "1.12").as_deref(), Ok("1.41"));
        assert_eq!(agreed("1.56", "1.40").as_deref(), Ok("1.56"));
        assert_eq!(agreed("1.70", "1.44").as_deref(), Ok("1.56"));
        for (newest, oldest) in [("1.38", "1.12"), ("1.80", "1.60"), ("", "")] {
            assert!(agreed(newest, oldest).is_err(), "{newest} {oldest}");
        }
    }

    #[test]
    fn what_the_engine_leaves_out_or_says_to_be_null_is_empty() {
        let text =
            r#"[{"ID":"x","Spec":{"Name":"n","Labels":null,"TaskTemplate":{"Networks":null,"New":1}}}]"#;
        let services: Vec<Service> = serde_json::from_str(text).unwrap();
        assert_eq!(services[0].spec.name, "n");
        assert_eq!(services[0].networks().count(), 0);
        assert_eq!(
            url("/tasks", &filters("label", Some("a=b"))),
            "http://docker/tasks?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"
        );
    }
}
