//! A database with what a dump may lose, and a reading of it that shares nothing with the program.

use futures_util::TryStreamExt as _;
use mongodb::{
    Client,
    bson::{DateTime, Document, doc},
};
use std::collections::BTreeMap;

/// Fills a database: documents, indexes, a time series, a capped collection, a view; and a user.
pub async fn fill(client: &Client, name: &str) {
    let db = client.database(name);
    let items: Vec<Document> = (0..2000)
        .map(|n| doc! {"_id": n, "name": format!("item {n}"), "folder": n % 7, "size": n * 4099})
        .collect();
    db.collection("item").insert_many(items).await.unwrap();
    let indexes = vec![
        doc! {"key": {"folder": 1, "size": -1}, "name": "by folder"},
        doc! {"key": {"name": 1}, "name": "unique name", "unique": true},
        doc! {"key": {"size": 1}, "name": "large", "partialFilterExpression": {"size": {"$gt": 1000}}},
    ];
    db.run_command(doc! {"createIndexes": "item", "indexes": indexes}).await.unwrap();
    db.run_command(doc! {"create": "readings", "timeseries": {"timeField": "at", "metaField": "sensor"}})
        .await
        .unwrap();
    let readings: Vec<Document> = (0..500_i64)
        .map(|n| doc! {"at": DateTime::from_millis(1_700_000_000_000 + n * 60_000), "sensor": n % 3, "value": n})
        .collect();
    db.collection("readings").insert_many(readings).await.unwrap();
    db.run_command(doc! {"create": "recent", "capped": true, "size": 65_536, "max": 100}).await.unwrap();
    db.collection("recent").insert_one(doc! {"_id": 1}).await.unwrap();
    db.run_command(doc! {"create": "empty"}).await.unwrap();
    db.run_command(
        doc! {"create": "small", "viewOn": "item", "pipeline": [{"$match": {"size": {"$lt": 10_000}}}]},
    )
    .await
    .unwrap();
    let user = doc! {"createUser": "girder", "pwd": "a password", "roles": ["readWrite"]};
    db.run_command(user).await.unwrap();
}

/// What a database holds: options, indexes and documents of each collection.
pub async fn read(client: &Client, name: &str) -> BTreeMap<String, String> {
    let db = client.database(name);
    let mut found = BTreeMap::new();
    let mut collections = db.list_collections().await.unwrap();
    while let Some(collection) = collections.try_next().await.unwrap() {
        let name = collection.name;
        if name.starts_with("system.") {
            continue;
        }
        found.insert(
            format!("{name} options"),
            format!("{:?} {:?}", collection.collection_type, collection.options),
        );
        let documents = db.collection::<Document>(&name).find(doc! {}).await.unwrap();
        let mut documents: Vec<String> = documents.map_ok(|d| d.to_string()).try_collect().await.unwrap();
        documents.sort();
        found.insert(format!("{name} documents"), documents.join("\n"));
        // A view has none to list.
        if let Ok(listed) = db.run_command(doc! {"listIndexes": &name}).await {
            let indexes = listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
            let mut indexes: Vec<String> = indexes.iter().map(ToString::to_string).collect();
            indexes.sort();
            found.insert(format!("{name} indexes"), indexes.join("\n"));
        }
    }
    found
}

/// The users of a database, with what their passwords are checked by.
pub async fn users(client: &Client, name: &str) -> String {
    let query = doc! {"usersInfo": 1, "showCredentials": true};
    client.database(name).run_command(query).await.unwrap().get_array("users").unwrap()[..]
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Fails with the names of what differs.
#[track_caller]
pub fn assert_same(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>) {
    let names = expected.keys().chain(found.keys());
    let differing: Vec<&String> = names.filter(|name| expected.get(*name) != found.get(*name)).collect();
    let first = differing.first().map(|name| (expected.get(*name), found.get(*name)));
    assert!(differing.is_empty(), "these differ: {differing:?}; the first: {first:?}");
}
