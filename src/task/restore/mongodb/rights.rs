//! Whether the user may restore, before anything is touched: else the first collection says so, and others wait half done.

use crate::{
    domain::verdict::Failure,
    task::mongodb::{
        connection::Connection,
        failure::{self, Needs},
    },
};
use mongodb::{
    Client,
    bson::{Bson, Document, doc},
};
use std::collections::BTreeSet;

/// What mongorestore does to a collection.
const ACTIONS: [&str; 3] = ["createCollection", "createIndex", "insert"];
/// What it does to one that exists.
const DROP: &str = "dropCollection";

/// Asks the server for the user's privileges. A server without users lets everyone do everything.
///
/// # Errors
/// `RoleMissing`, with the step that grants it; or what the driver says.
pub(super) async fn check(
    client: &Client,
    connection: &Connection,
    databases: &BTreeSet<&str>,
    drops: bool,
) -> Result<(), Failure> {
    let question = doc! {"connectionStatus": 1, "showPrivileges": true};
    let answer = client.database("admin").run_command(question).await;
    let answer = answer.map_err(|e| failure::from_driver_for(&e, connection, Needs::Restore))?;
    let Ok(about) = answer.get_document("authInfo") else { return Ok(()) };
    match missing(about, databases, drops) {
        None => Ok(()),
        Some(what) => Err(failure::unauthorized(&what, connection, Needs::Restore)),
    }
}

/// The first thing that a user who is known may not do.
fn missing(about: &Document, databases: &BTreeSet<&str>, drops: bool) -> Option<String> {
    if about.get_array("authenticatedUsers").map_or(true, Vec::is_empty) {
        return None;
    }
    let privileges = about.get_array("authenticatedUserPrivileges").map_or(&[][..], Vec::as_slice);
    let privileges: Vec<&Document> = privileges.iter().filter_map(Bson::as_document).collect();
    let actions = || ACTIONS.into_iter().chain(drops.then_some(DROP));
    let lacking =
        |database: &&str| actions().find(|action| !privileges.iter().any(|p| allows(p, database, action)));
    databases.iter().find_map(|database| Some(format!("{} in {database}", lacking(database)?)))
}

fn allows(privilege: &Document, database: &str, action: &str) -> bool {
    let Ok(resource) = privilege.get_document("resource") else { return false };
    let any = resource.get_bool("anyResource").unwrap_or(false);
    // An empty name stands for all.
    let all_of = |name: &str| resource.get_str(name).is_ok_and(|value| value.is_empty());
    let here =
        all_of("collection") && (all_of("db") || resource.get_str("db").is_ok_and(|name| name == database));
    let actions = privilege.get_array("actions").map_or(&[][..], Vec::as_slice);
    (any || here)
        && actions
            .iter()
            .any(|known| matches!(known.as_str(), Some("anyAction")) || known.as_str() == Some(action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_may_not_do_is_named() {
        let privilege = |db: &str, actions: &[&str]| {
            doc! {"resource": {"db": db, "collection": ""}, "actions": actions.to_vec()}
        };
        let all = ["createCollection", "createIndex", "insert", "dropCollection"];
        let about = |privileges: Vec<Document>| {
            doc! {"authenticatedUsers": [{"user": "u", "db": "admin"}], "authenticatedUserPrivileges": privileges}
        };
        let backup = about(vec![privilege("", &["find", "listCollections"])]);
        let one = about(vec![privilege("girder", &all)]);
        let everywhere = about(vec![privilege("", &all[..2]), privilege("", &all[2..])]);
        let root = about(vec![doc! {"resource": {"anyResource": true}, "actions": ["anyAction"]}]);
        let table = [
            (&backup, Some("createCollection in girder")),
            (&one, Some("createCollection in other")),
            (&everywhere, None),
            (&root, None),
            (&doc! {"authenticatedUsers": [], "authenticatedUserPrivileges": []}, None),
        ];
        for (about, expected) in table {
            assert_eq!(missing(about, &["girder", "other"].into(), true).as_deref(), expected);
        }
        let inserts = about(vec![privilege("girder", &all[..3])]);
        assert_eq!(missing(&inserts, &["girder"].into(), false), None);
        assert_eq!(missing(&inserts, &["girder"].into(), true).as_deref(), Some("dropCollection in girder"));
    }
}
