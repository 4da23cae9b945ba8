//! Whether a dump can carry the oplog.

use crate::{
    domain::{policy::OplogMode, verdict::Failure},
    task::mongodb::member::Topology,
};

/// Why the dump is without the oplog; `None` when it is with it.
pub(super) fn why_no_oplog(topology: Topology, mode: OplogMode) -> Result<Option<String>, Failure> {
    let reason = match (topology, mode) {
        (_, OplogMode::Never) => "the policy says mongodb.oplog: Never",
        (Topology::ReplicaSet, _) => return Ok(None),
        (Topology::Standalone, _) => "a server that is no member of a replica set has no oplog",
        (Topology::Sharded, _) => "a sharded cluster has no single oplog",
    };
    if mode == OplogMode::Required {
        return Err(Failure::permanent("NoOplog", format!("{reason}, and the policy requires one"))
            .fix("make the server a replica set of one member, or write mongodb.oplog: Auto"));
    }
    Ok(Some(reason.to_owned()))
}
