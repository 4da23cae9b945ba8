//! Whether a dump would work, without one.

use super::oplog::why_no_oplog;
use crate::{
    domain::{policy::Mongodb, verdict::Failure},
    task::mongodb::{
        connection::Connection,
        member::{self, Topology, timely},
    },
};
use mongodb::bson::{Document, doc};

/// Asks the deployment whether this user may dump it; gives remarks for a person.
///
/// # Errors
/// What a dump would fail with: no answer, refused credentials, a missing role, no member to read.
pub async fn preflight(mongodb: &Mongodb) -> Result<Vec<String>, Failure> {
    let connection = Connection::resolve(&mongodb.connection, "mongodb").await?;
    let (member, refused) = member::choose(&connection, mongodb.member).await?;
    let no_oplog = why_no_oplog(member.topology, mongodb.oplog)?;
    let client = connection.member(&member.address)?;
    let build = member::command(&connection, &client, doc! {"buildInfo": 1}).await?;
    let version = build.get_str("version").unwrap_or("unknown");
    let mut remarks = vec![format!(
        "MongoDB {version}, {}: a backup now would read {} ({})",
        member.topology.as_str(),
        member.address,
        member.role()
    )];
    // What the role `backup` may and a lesser one may not.
    timely(&connection, client.list_database_names()).await?;
    for name in ["system.users", "system.roles"] {
        let collection = client.database("admin").collection::<Document>(name);
        timely(&connection, collection.find_one(doc! {}).projection(doc! {"_id": 1})).await?;
    }
    match no_oplog {
        Some(reason) => remarks.push(format!("backups will be Fuzzy: {reason}")),
        None if member.topology == Topology::ReplicaSet => {
            let window = member::oplog_window(&connection, &client).await?;
            let hours = window.map(|(first, last)| f64::from(last.time.saturating_sub(first.time)) / 3600.0);
            remarks.push(format!(
                "backups will be PointInTime; the oplog covers {:.1} h, and a dump must take less",
                hours.unwrap_or(0.0)
            ));
        }
        None => {}
    }
    remarks.extend(refused);
    Ok(remarks)
}
