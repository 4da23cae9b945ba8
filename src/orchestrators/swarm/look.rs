//! Looks at the cluster: one at everything, or one at what concerns one policy.

use crate::{
    domain::{identity::PolicyId, names::SnapshotName},
    orchestrators::swarm::{
        discover::is_carrier,
        engine::{
            Engine,
            model::{Config, Node, Service, Task},
            refusal::Refusal,
        },
        facts::Cluster,
        names::{self, kind},
        objects,
    },
    plan::observed::Drill,
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// A look at everything serves the policies that are observed right after it.
const FRESH: Duration = Duration::from_secs(5);

/// What concerns one policy.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its configs, all of our own.
    pub configs: Vec<Config>,
    /// The services of its tasks.
    pub services: Vec<Service>,
    /// The tasks of these, also of services that were removed.
    pub tasks: Vec<Task>,
    /// All nodes.
    pub nodes: Vec<Node>,
}

/// How often the cluster is looked at before services that go meanwhile are an error.
const LOOKS: usize = 5;

/// One look at everything.
#[derive(Debug)]
pub struct Look {
    at: Instant,
    nodes: Vec<Node>,
    by_identity: HashMap<String, Seen>,
}

impl Look {
    /// What people have made, and what concerns each policy.
    ///
    /// # Errors
    /// Whatever a call meets: absence must never be an accident.
    pub async fn at_everything(engine: &Engine) -> Result<(Cluster, Self), Refusal> {
        for _ in 1..LOOKS {
            match Self::once(engine).await {
                // A service went after it was listed, and then its tasks cannot be asked for.
                Err(refusal) if refusal.is_absent() => {}
                looked => return looked,
            }
        }
        Self::once(engine).await
    }

    async fn once(engine: &Engine) -> Result<(Cluster, Self), Refusal> {
        let at = Instant::now();
        let (services, configs, nodes, secrets, own_tasks) = tokio::try_join!(
            engine.services(None),
            engine.configs(names::POLICY),
            engine.nodes(),
            engine.secrets(),
            engine.tasks(names::KIND),
        )?;
        let carriers: Vec<&str> = services
            .iter()
            .filter(|service| is_carrier(service))
            .map(|service| service.id.as_str())
            .collect();
        let tasks = if carriers.is_empty() { Vec::new() } else { engine.tasks_of(&carriers).await? };
        let mut by_identity: HashMap<String, Seen> = HashMap::new();
        for config in configs.iter().filter(|config| config.label(names::KIND).is_some()) {
            let identity = config.label(names::IDENTITY).unwrap_or_default();
            by_identity.entry(identity.to_owned()).or_default().configs.push(config.clone());
        }
        for service in services.iter().filter(|service| service.spec.labels.contains_key(names::KIND)) {
            let identity = service.spec.labels.get(names::IDENTITY).cloned().unwrap_or_default();
            by_identity.entry(identity).or_default().services.push(service.clone());
        }
        for task in own_tasks {
            let identity = task.spec.container.labels.get(names::IDENTITY).cloned().unwrap_or_default();
            by_identity.entry(identity).or_default().tasks.push(task);
        }
        let cluster = Cluster { services, configs, nodes: nodes.clone(), secrets, tasks };
        Ok((cluster, Self { at, nodes, by_identity }))
    }

    /// What this look has seen of a policy, unless it is too old or began before `touched`.
    pub fn of(&self, policy: &PolicyId, touched: Option<Instant>) -> Option<Seen> {
        if self.at.elapsed() > FRESH || touched.is_some_and(|touched| touched >= self.at) {
            return None;
        }
        let seen = self.by_identity.get(&names::identity(policy)).cloned().unwrap_or_default();
        Some(Seen { nodes: self.nodes.clone(), ..seen })
    }
}

impl Seen {
    /// A look at one policy.
    ///
    /// # Errors
    /// Whatever a call meets.
    pub async fn of(engine: &Engine, policy: &PolicyId) -> Result<Self, Refusal> {
        let label = format!("{}={}", names::IDENTITY, names::identity(policy));
        let (configs, services, tasks, nodes) = tokio::try_join!(
            engine.configs(&label),
            engine.services(Some(&label)),
            engine.tasks(&label),
            engine.nodes(),
        )?;
        Ok(Self { configs, services, tasks, nodes })
    }

    /// Its configs of one [`kind`](names::kind).
    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Config> {
        self.configs.iter().filter(move |config| objects::kind_of(config) == Some(kind))
    }

    /// Snapshots that people hold.
    pub fn holds(&self) -> impl Iterator<Item = SnapshotName> {
        self.of_kind(kind::HOLD).filter_map(objects::hold)
    }

    /// The newest restore drill.
    pub fn drill(&self) -> Option<Drill> {
        self.of_kind(kind::DRILL).find_map(objects::drill)
    }

    /// The node of a task, while it is one of the cluster.
    pub fn node(&self, task: &Task) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == task.node_id)
    }

    /// The newest task of a service.
    pub fn task_of(&self, service: &Service) -> Option<&Task> {
        let own = self.tasks.iter().filter(|task| task.service_id == service.id);
        own.max_by_key(|task| task.created_at)
    }

    /// Tasks that go on although their services were removed.
    pub fn left_over(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| self.services.iter().all(|service| service.id != task.service_id))
    }
}
