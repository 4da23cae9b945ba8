//! What the engine says, as far as it is looked at. Read leniently: what is missing or null is empty, what is not known is
//! left out; nothing of this is ever written back.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Names of things to what is said of them.
pub type Labels = BTreeMap<String, String>;

macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $wire:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(rename = $wire, deserialize_with = "or_default")] pub $field: $type,)*
        }
    )*};
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

objects! {
    /// A version, for compare-and-set: an index that grows in the whole cluster.
    Version {
        /// The index.
        index: u64 = "Index",
    }
    /// A service.
    Service {
        /// Identity.
        id: String = "ID",
        /// Version.
        version: Version = "Version",
        /// When it was made, RFC 3339.
        created_at: Option<Timestamp> = "CreatedAt",
        /// What was asked for.
        spec: ServiceSpec = "Spec",
    }
    /// What a service is to be.
    ServiceSpec {
        /// Name.
        name: String = "Name",
        /// Labels of the service (`deploy.labels`).
        labels: Labels = "Labels",
        /// What its tasks are.
        task: TaskSpec = "TaskTemplate",
        /// Networks, as old clients wrote them.
        networks: Vec<Attachment> = "Networks",
    }
    /// What a task is to be.
    TaskSpec {
        /// The container.
        container: ContainerSpec = "ContainerSpec",
        /// Networks.
        networks: Vec<Attachment> = "Networks",
    }
    /// What a container is to be.
    ContainerSpec {
        /// Image.
        image: String = "Image",
        /// Labels of the container.
        labels: Labels = "Labels",
        /// Mounts.
        mounts: Vec<Mount> = "Mounts",
        /// Secrets.
        secrets: Vec<SecretReference> = "Secrets",
    }
    /// A mount.
    Mount {
        /// `bind`, `volume`, `tmpfs`.
        kind: String = "Type",
        /// Path on the node, or the volume's name.
        source: String = "Source",
        /// Path in the container.
        target: String = "Target",
    }
    /// A secret of a container.
    SecretReference {
        /// Its name.
        name: String = "SecretName",
    }
    /// A network of a task.
    Attachment {
        /// The network, by identity or name.
        target: String = "Target",
    }
    /// A task.
    Task {
        /// Identity.
        id: String = "ID",
        /// When it was made.
        created_at: Option<Timestamp> = "CreatedAt",
        /// What it is of.
        spec: TaskSpec = "Spec",
        /// Its service, which may be gone.
        service_id: String = "ServiceID",
        /// Its node, once it has one.
        node_id: String = "NodeID",
        /// What the cluster wants it to be.
        desired: String = "DesiredState",
        /// What it is.
        status: TaskStatus = "Status",
    }
    /// What a task is.
    TaskStatus {
        /// Since when.
        at: Option<Timestamp> = "Timestamp",
        /// `pending`, `running`, `complete`…
        state: String = "State",
        /// What the engine says about it.
        message: String = "Message",
        /// What went wrong.
        error: String = "Err",
        /// Its container.
        container: ContainerStatus = "ContainerStatus",
    }
    /// A container of a task. 0 where there never was one: the state tells.
    ContainerStatus {
        /// Exit code.
        exit_code: i32 = "ExitCode",
    }
    /// A node.
    Node {
        /// Identity.
        id: String = "ID",
        /// When anything about it changed.
        updated_at: Option<Timestamp> = "UpdatedAt",
        /// What people want of it.
        spec: NodeSpec = "Spec",
        /// What it is.
        description: NodeDescription = "Description",
        /// How it is.
        status: NodeStatus = "Status",
    }
    /// What people want of a node.
    NodeSpec {
        /// Labels.
        labels: Labels = "Labels",
        /// `manager`, `worker`.
        role: String = "Role",
        /// `active`, `pause`, `drain`.
        availability: String = "Availability",
    }
    /// What a node is.
    NodeDescription {
        /// Host name.
        hostname: String = "Hostname",
    }
    /// How a node is.
    NodeStatus {
        /// `ready`, `down`, `unknown`, `disconnected`.
        state: String = "State",
    }
    /// A config: data that never change, and labels.
    Config {
        /// Identity.
        id: String = "ID",
        /// Version.
        version: Version = "Version",
        /// When it was made.
        created_at: Option<Timestamp> = "CreatedAt",
        /// When its labels were changed last.
        updated_at: Option<Timestamp> = "UpdatedAt",
        /// What it holds.
        spec: ConfigSpec = "Spec",
    }
    /// What a config holds.
    ConfigSpec {
        /// Name.
        name: String = "Name",
        /// Labels.
        labels: Labels = "Labels",
        /// Data, base64.
        data: String = "Data",
    }
    /// A secret, without what it holds.
    Secret {
        /// Identity: another after it was replaced.
        id: String = "ID",
        /// What is known.
        spec: SecretSpec = "Spec",
    }
    /// What is known of a secret.
    SecretSpec {
        /// Name.
        name: String = "Name",
    }
    /// What was made.
    Made {
        /// Its identity.
        id: String = "ID",
    }
    /// A container of this engine.
    Container {
        /// What it is.
        config: ContainerConfig = "Config",
    }
    /// What a container of this engine is.
    ContainerConfig {
        /// Image.
        image: String = "Image",
        /// Labels.
        labels: Labels = "Labels",
    }
    /// What an event is about.
    Event {
        /// `service`, `config`, `node`, `secret`.
        kind: String = "Type",
        /// `create`, `update`, `remove`.
        action: String = "Action",
        /// What it happened to.
        actor: Actor = "Actor",
    }
    /// What an event happened to.
    Actor {
        /// Its name among others; no labels.
        attributes: Labels = "Attributes",
    }
}

impl Service {
    /// The stack that it belongs to.
    pub fn stack(&self) -> Option<&str> {
        self.spec.labels.get(STACK).map(String::as_str)
    }

    /// The networks of its tasks.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        let task = self.spec.task.networks.iter();
        task.chain(&self.spec.networks).map(|network| network.target.as_str())
    }
}

impl Config {
    /// The data.
    pub fn bytes(&self) -> Vec<u8> {
        data_encoding::BASE64.decode(self.spec.data.as_bytes()).unwrap_or_default()
    }

    /// A label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.spec.labels.get(name).map(String::as_str)
    }
}

impl Node {
    /// What people call it.
    pub fn name(&self) -> &str {
        if self.description.hostname.is_empty() { &self.id } else { &self.description.hostname }
    }
}

/// The label that `docker stack deploy` puts on everything of a stack.
pub const STACK: &str = "com.docker.stack.namespace";
