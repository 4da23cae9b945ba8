//! MongoDB as a source and as a target, on real servers with the pinned tools.

use crate::support::{
    Scratch,
    mongo::{Mongo, PASSWORD, Plan, USER},
    tools,
};
use ::mongodb::{
    Client,
    bson::{Document, doc},
};
use backstay::{
    domain::{
        location::SecretSource,
        names::{AttemptId, Slot, SnapshotName},
        policy::{MemberPreference, MongoConnection, MongoUri, Mongodb, OplogMode},
        snapshot::Consistency,
        verdict::{Failure, Verdict},
    },
    storage::{
        archive::{
            contents::{Contents, Entry},
            filter::{Filter, Rename},
            listing,
            parser::Parser,
        },
        manifest::SourceRecord,
        memory::MemoryStore,
        pack::reader::PackReader,
    },
    task::{
        context::{Meter, SourceContext},
        mongodb::{
            compare::{self, Depth},
            tool::Tools,
        },
        restore::mongodb::{self as restore, MongoOptions, MongoReport},
        sources::mongodb,
    },
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// What a test backs up from, and to.
struct Site {
    mongo: Mongo,
    store: Arc<MemoryStore>,
    scratch: Scratch,
}

fn pinned() -> Tools {
    Tools {
        mongodump: tools::tool("mongodump"),
        mongorestore: tools::tool("mongorestore"),
        mongod: tools::tool("mongod"),
        stall: Duration::from_secs(20),
        pause: Duration::from_millis(100),
        ..Tools::default()
    }
}

fn policy(connection: MongoConnection) -> Mongodb {
    Mongodb {
        connection,
        include: Vec::new(),
        exclude: Vec::new(),
        oplog: OplogMode::Auto,
        member: MemberPreference::PreferSecondary,
        parallel_collections: 4,
    }
}

impl Site {
    async fn start(plan: Plan) -> Self {
        Self {
            mongo: Mongo::start(plan).await,
            store: Arc::new(MemoryStore::new()),
            scratch: Scratch::new("mongodb"),
        }
    }

    /// With user and password, when the server wants them.
    fn connection(&self) -> MongoConnection {
        let auth = self.mongo.uri() != self.mongo.uri_with_password();
        let password = self.scratch.join("password");
        std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        MongoConnection {
            uri: MongoUri::Plain(self.mongo.uri()),
            username: auth.then(|| USER.to_owned()),
            password: auth.then_some(SecretSource::File(password)),
            tls_ca: None,
            tls_certificate: None,
        }
    }

    fn context(&self, number: u16) -> SourceContext {
        let time: Timestamp = "2026-11-25T02:00:00Z".parse().unwrap();
        SourceContext {
            store: self.store.clone(),
            snapshot: SnapshotName::new("nightly".parse().unwrap(), Slot::scheduled(time)),
            attempt: AttemptId::new(time, number),
            part_bytes: 4 << 20,
            memory_bytes: 64 << 20,
            transfers: 2,
            meter: Arc::default(),
        }
    }

    async fn dump(&self, number: u16, mongodb: &Mongodb) -> Result<SourceRecord, Failure> {
        mongodb::store_with(&self.context(number), mongodb, &pinned()).await
    }

    async fn restore(
        &self,
        record: &SourceRecord,
        target: &Site,
        options: &MongoOptions,
    ) -> Result<MongoReport, Failure> {
        let meter = Meter::default();
        restore::restore(self.store.clone(), record, &target.connection(), options, &pinned(), &meter).await
    }

    /// The archive as it was stored.
    async fn archive(&self, record: &SourceRecord) -> Vec<u8> {
        let reader = PackReader::open(self.store.clone(), &record.packs[0]).await.unwrap();
        let mut archive = Vec::new();
        for n in 0..reader.parts().len() {
            let part = reader.part(u32::try_from(n).unwrap()).await.unwrap();
            archive.extend(zstd::decode_all(&part[..]).unwrap());
        }
        archive
    }
}

fn parse(archive: &[u8]) -> Contents {
    let mut parser = Parser::new(Filter::everything());
    for chunk in archive.chunks(10_000) {
        parser.feed(chunk, &mut |_| Ok(())).unwrap();
    }
    parser.finish().unwrap()
}

/// Collections of all kinds, with names that few expect.
async fn fill(client: &Client) {
    let girder = client.database("girder");
    let items = girder.collection::<Document>("item");
    let documents: Vec<_> = (0..2000i64)
        .map(|i| doc! {"_id": i, "n": i % 7, "text": "x".repeat(200), "when": {"a": i}})
        .collect();
    items.insert_many(documents).await.unwrap();
    for index in [
        doc! {"key": {"n": -1, "text": 1}, "name": "n_text", "partialFilterExpression": {"n": {"$gt": 3}}},
        doc! {"key": {"when.a": 1}, "name": "unique", "unique": true, "sparse": true},
    ] {
        girder.run_command(doc! {"createIndexes": "item", "indexes": [index]}).await.unwrap();
    }
    girder.run_command(doc! {"create": "capped", "capped": true, "size": 8192, "max": 10}).await.unwrap();
    girder.run_command(doc! {"create": "empty"}).await.unwrap();
    girder
        .run_command(doc! {"create": "view", "viewOn": "item", "pipeline": [{"$match": {"n": 3}}]})
        .await
        .unwrap();
    let series = doc! {"timeField": "at", "metaField": "m", "granularity": "minutes"};
    girder.run_command(doc! {"create": "series", "timeseries": series}).await.unwrap();
    let at = |i: i64| ::mongodb::bson::DateTime::from_millis(1_700_000_000_000 + 60_000 * i);
    let measured: Vec<_> = (0..50).map(|i| doc! {"at": at(i), "m": i % 2, "v": i}).collect();
    girder.collection::<Document>("series").insert_many(measured).await.unwrap();
    let odd = client.database("odd");
    for name in ["a.b.c", "with space", "ünïcode", "100%", "tab\there", "q\"uote"] {
        odd.collection::<Document>(name).insert_one(doc! {"_id": name}).await.unwrap();
    }
    for name in ["oplog", "EOF"] {
        client.database("logs").collection::<Document>(name).insert_one(doc! {"_id": 1}).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_server_and_back() {
    let (site, other) = tokio::join!(Site::start(Plan::default()), Site::start(Plan::default()));
    let client = site.mongo.client().await;
    fill(&client).await;
    let record = site.dump(1, &policy(site.connection())).await.unwrap();
    let dump = record.dump.as_ref().unwrap();
    assert_eq!(dump.class, Consistency::Fuzzy);
    assert!(dump.class_reason.contains("no oplog"), "{}", dump.class_reason);
    assert_eq!((dump.topology.as_str(), dump.server_version.as_str()), ("standalone", "6.0.5"));
    assert_eq!(dump.feature_compatibility_version, "6.0");
    let contents = parse(&site.archive(&record).await);
    let stored = listing::load(&*site.store, &record).await.unwrap();
    assert_eq!(stored, contents.namespaces);
    assert_eq!(record.counts.files, 12, "{:#?}", names(&contents));
    let required = Mongodb { oplog: OplogMode::Required, ..policy(site.connection()) };
    assert_eq!(site.dump(2, &required).await.unwrap_err().reason, "NoOplog");

    let report = site.restore(&record, &other, &MongoOptions::default()).await.unwrap();
    assert_eq!(report.differences, Vec::<String>::new());
    assert_eq!((report.namespaces, report.documents), (13, record.counts.new - internal(&contents)));
    let everything = compare::read(&client, Depth::Content).await.unwrap();
    let restored = other.mongo.client().await;
    let differences = compare::compare(&restored, &everything, Depth::Content).await.unwrap();
    assert!(differences.is_empty(), "{differences:?}");

    // Not empty: refused, and nothing touched.
    let failure = site.restore(&record, &other, &MongoOptions::default()).await.unwrap_err();
    assert_eq!((failure.verdict, failure.reason.as_str()), (Verdict::Permanent, "TargetNotEmpty"));
    // Confirmed: replaced, and what the backup does not have stays.
    let items = restored.database("girder").collection::<Document>("item");
    items.delete_many(doc! {"n": 3}).await.unwrap();
    restored.database("girder").collection("own").insert_one(doc! {"_id": 1}).await.unwrap();
    let replace = MongoOptions { replace: true, ..MongoOptions::default() };
    let report = site.restore(&record, &other, &replace).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(
        restored.database("girder").collection::<Document>("own").count_documents(doc! {}).await.unwrap(),
        1
    );
    // Under other names.
    let renamed = MongoOptions {
        include: vec!["girder".parse().unwrap()],
        exclude: vec!["girder.capped".parse().unwrap()],
        renames: vec![
            Rename::parse("girder", "copy").unwrap(),
            Rename::parse("girder.item", "copy.thing").unwrap(),
        ],
        ..MongoOptions::default()
    };
    let report = site.restore(&record, &other, &renamed).await.unwrap();
    assert!(report.is_whole() && report.namespaces == 4, "{report:?}");
    let copy = restored.database("copy");
    assert_eq!(copy.collection::<Document>("view").count_documents(doc! {}).await.unwrap(), 286);
    let none = MongoOptions { include: vec!["nothing".parse().unwrap()], ..MongoOptions::default() };
    assert_eq!(site.restore(&record, &other, &none).await.unwrap_err().reason, "NothingSelected");
    drill_finds_what_is_damaged(&site, &record).await;
}

/// A drill of a good backup is whole; of one with a flipped bit it says which object, and starts no server in vain.
async fn drill_finds_what_is_damaged(site: &Site, record: &SourceRecord) {
    let folder = site.scratch.folder("drill");
    let report =
        restore::drill(site.store.clone(), record, &folder, &pinned(), &Meter::default()).await.unwrap();
    assert!(report.is_whole() && report.namespaces == 13, "{report:?}");
    let part = site.store.paths().into_iter().find(|path| path.ends_with(".archive.zst.00000")).unwrap();
    let mut bytes = site.store.peek(&part).unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    site.store.overwrite(&part, bytes);
    let folder = site.scratch.folder("damaged");
    let failure =
        restore::drill(site.store.clone(), record, &folder, &pinned(), &Meter::default()).await.unwrap_err();
    assert_eq!(failure.reason, "BackupDamaged");
    assert!(failure.message.contains(&part) && !failure.message.contains("the target"), "{failure}");
}

/// Documents of the server's own databases.
fn internal(contents: &Contents) -> u64 {
    let own = |e: &&Entry| matches!(e.namespace.database.as_str(), "admin" | "config");
    contents.namespaces.iter().filter(own).map(|e| e.documents).sum()
}

fn names(contents: &Contents) -> Vec<String> {
    contents.namespaces.iter().map(|e| format!("{} {}", e.kind.as_str(), e.namespace)).collect()
}
