//! What runs the tasks.

/// What runs the tasks: some ways to name a volume or a secret exist only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orchestrator {
    /// This host alone.
    Local,
    /// Docker Swarm.
    Swarm,
    /// Kubernetes.
    Kubernetes,
}
