//! The client of the cluster: which resources there are, and what a refusal means.

use crate::{
    api::API_VERSION, controller::port::PortError, domain::verdict::Failure, orchestrators::kubernetes::names,
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Namespace, PersistentVolumeClaim, Pod},
};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use std::time::Duration;

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Where commands look for what has no namespace in its name.
    pub namespace: String,
    /// What people call the cluster.
    pub name: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

impl Cluster {
    /// The cluster of the Pod that this runs in, else that of the configuration of kubectl.
    ///
    /// # Errors
    /// There is none that can be used.
    pub async fn connect(context: Option<&str>, namespace: Option<&str>) -> Result<Self, Failure> {
        let unusable = |error: &dyn std::fmt::Display| {
            Failure::permanent("ClusterUnusable", format!("no cluster can be used: {error}"))
                .fix("kubectl config get-contexts shows those that are known; name one with --context, or a file with KUBECONFIG")
        };
        let named =
            context.is_some() || std::env::var_os("KUBECONFIG").is_some_and(|files| !files.is_empty());
        let mut config = match Config::incluster() {
            Ok(config) if !named => config,
            _ => {
                let known = Kubeconfig::read().map_err(|error| unusable(&error))?;
                let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
                Config::from_custom_kubeconfig(known, &options).await.map_err(|error| unusable(&error))?
            }
        };
        config.connect_timeout = Some(CONNECT);
        // Whoever calls knows whether to try again.
        config.default_retry = false;
        let name = config.cluster_url.to_string();
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let client = Client::try_from(config).map_err(|error| unusable(&error))?;
        Ok(Self { client, namespace, name })
    }

    fn custom(&self, kind: &str, plural: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(names::GROUP, names::VERSION, kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// The policies.
    pub fn policies_in(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        self.custom("BackupPolicy", "backuppolicies", namespace)
    }

    /// The runs and requests.
    pub fn backups_in(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        self.custom("Backup", "backups", namespace)
    }

    /// The restores.
    pub fn restores_in(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        self.custom("Restore", "restores", namespace)
    }

    /// The Jobs.
    pub fn jobs_in(&self, namespace: Option<&str>) -> Api<Job> {
        self.of_namespace(namespace)
    }

    /// The Pods.
    pub fn pods_in(&self, namespace: Option<&str>) -> Api<Pod> {
        self.of_namespace(namespace)
    }

    /// The claims of a namespace.
    pub fn claims_in(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// What happened in a namespace.
    pub fn events_in(&self, namespace: &str) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The namespaces.
    pub fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    /// The client itself.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    fn of_namespace<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// The code of a refusal by the server.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// A call that has no answer after a while has failed.
///
/// # Errors
/// Those of the call.
pub async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    let answered = tokio::time::timeout(time, call).await;
    answered.unwrap_or_else(|_| Err(PortError::Unavailable("no answer".to_owned())))
}

/// What a failed read means.
pub fn unread(error: kube::Error) -> PortError {
    PortError::Unavailable(text(&error))
}

/// What a failed write means: without an answer it may have been done.
pub fn unwritten(error: kube::Error) -> PortError {
    let message = text(&error);
    match code(&error) {
        Some(404 | 409) => PortError::Conflict(message),
        Some(400 | 401 | 403 | 405 | 413 | 422) => PortError::Rejected(message),
        // The server may have gone on behind its own time limit, or behind a proxy's.
        Some(500 | 502 | 504) | None => PortError::MaybeDone(message),
        Some(_) => PortError::Unavailable(message),
    }
}

/// What the command line says of a failed call.
pub fn failed(error: kube::Error) -> Failure {
    let message = text(&error);
    match code(&error) {
        Some(401 | 403) => Failure::permanent("Forbidden", message)
            .fix("ask the administrator of the cluster for the role that this needs"),
        Some(404) if message.contains("could not find the requested resource") => {
            Failure::permanent("NotInstalled", "the cluster does not know the resources of Backstay")
                .fix("kubectl apply -f crds/backstay.yaml, and start a controller")
        }
        Some(_) => Failure::temporary("ClusterRefused", message),
        None => Failure::temporary("ClusterUnavailable", message),
    }
}

/// What the server said, or why it could not.
fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(deeper) = source {
                let more = deeper.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                source = deeper.source();
            }
            text
        }
    }
}

/// `None` for what is not there.
///
/// # Errors
/// Every other refusal.
pub fn found<T>(read: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if code(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a whole status over the state of an object that was seen.
///
/// # Errors
/// As all writes; a conflict, when it is in another state now.
pub async fn apply_status(
    api: &Api<DynamicObject>,
    kind: &str,
    name: &str,
    version: &str,
    status: Value,
) -> Result<DynamicObject, PortError> {
    let object = json!({
        "apiVersion": API_VERSION, "kind": kind,
        "metadata": {"name": name, "resourceVersion": version},
        "status": status,
    });
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    api.patch_status(name, &parameters, &Patch::Apply(object)).await.map_err(unwritten)
}
