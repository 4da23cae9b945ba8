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
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_mongorestore_leaves_out_is_told() {
    let site = Site::start(Plan::default()).await;
    let odd = site.mongo.client().await.database("odd");
    odd.collection("new\nline").insert_one(doc! {"_id": 1}).await.unwrap();
    let context = site.context(1);
    let record = mongodb::store_with(&context, &policy(site.connection()), &pinned()).await.unwrap();
    let remarks = context.meter.take_remarks();
    assert!(remarks.len() == 1 && remarks[0].contains(r#""odd.new\nline""#), "{remarks:?}");
    let restore = async |from: &str, to: &str| {
        let renames = vec![Rename::parse(from, to).unwrap()];
        let options = MongoOptions { renames, ..MongoOptions::default() };
        site.restore(&record, &site, &options).await.unwrap()
    };
    let report = restore("odd", "copy").await;
    assert!(report.differences[0].contains("leaves out names with a newline"), "{report:?}");
    assert!(restore("odd.new\nline", "copy.new line").await.is_whole());
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

/// Transactions over two collections of different databases, and a counter of them.
async fn trade(client: Client, stop: Arc<AtomicBool>) -> i64 {
    let orders = client.database("shop").collection::<Document>("order");
    let payments = client.database("bank").collection::<Document>("payment");
    let counters = client.database("shop").collection::<Document>("counter");
    let mut session = client.start_session().await.unwrap();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        session.start_transaction().await.unwrap();
        orders.insert_one(doc! {"_id": number}).session(&mut session).await.unwrap();
        payments.insert_one(doc! {"_id": number, "order": number}).session(&mut session).await.unwrap();
        let next = doc! {"$inc": {"n": 1}};
        counters.update_one(doc! {"_id": 1}, next).upsert(true).session(&mut session).await.unwrap();
        session.commit_transaction().await.unwrap();
        number += 1;
    }
    number
}

async fn count(client: &Client, database: &str, collection: &str) -> u64 {
    client.database(database).collection::<Document>(collection).count_documents(doc! {}).await.unwrap()
}

/// So much that a dump of it can be interrupted.
async fn bulk(client: &Client, mebibytes: i32) {
    let collection = client.database("bulk").collection::<Document>("big");
    for batch in 0..mebibytes {
        let text = |i: i32| blake3::hash(&i.to_le_bytes()).to_hex().repeat(8);
        let documents: Vec<_> = (0..2048).map(|i| doc! {"_id": batch * 2048 + i, "text": text(i)}).collect();
        collection.insert_many(documents).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_with_access_control() {
    let (site, other) = tokio::join!(
        Site::start(Plan { members: 3, auth: true, ..Plan::default() }),
        Site::start(Plan { members: 0, auth: true, ..Plan::default() })
    );
    let client = site.mongo.client().await;
    fill(&client).await;
    bulk(&client, 24).await;
    for (database, create) in [
        ("admin", doc! {"createUser": "backup", "pwd": "b", "roles": ["backup"]}),
        ("admin", doc! {"createUser": "reader", "pwd": "r", "roles": ["readAnyDatabase"]}),
        ("girder", doc! {"createRole": "clerk", "privileges": [], "roles": ["read"]}),
        ("girder", doc! {"createUser": "alice", "pwd": "secret", "roles": ["clerk"]}),
    ] {
        client.database(database).run_command(create).await.unwrap();
    }
    wrong_credentials_say_what_to_do(&site).await;
    a_member_that_refuses_is_not_read(&site, &other).await;
    let record = a_dump_under_writes_is_one_moment(&site, &other, &client).await;
    users_come_back_and_none_is_lost(&site, &other, &record).await;
    a_part_of_the_deployment_is_one_moment_too(&site, &other).await;
    a_server_that_stands_still_ends_the_dump(&site).await;
}

async fn wrong_credentials_say_what_to_do(site: &Site) {
    let good = site.connection();
    let as_user = |user: &str, password: &str| {
        let path = site.scratch.file(&format!("password-{user}"), password);
        MongoConnection {
            username: Some(user.into()),
            password: Some(SecretSource::File(path)),
            ..good.clone()
        }
    };
    let nobody = MongoConnection { username: None, password: None, ..good.clone() };
    for (number, connection, reason, fix) in [
        (10, as_user("backup", "wrong"), "AuthenticationFailed", "passwordFrom"),
        (11, nobody, "AuthenticationRequired", "mongodb.username"),
        (12, as_user("reader", "r"), "RoleMissing", r#"["backup"]"#),
    ] {
        let checks = [
            site.dump(number, &policy(connection.clone())).await.err(),
            mongodb::preflight(&policy(connection)).await.err(),
        ];
        for failure in checks {
            let failure = failure.unwrap();
            assert_eq!(
                (failure.verdict, failure.reason.as_str()),
                (Verdict::Credentials, reason),
                "{failure:?}"
            );
            assert!(failure.fix.as_ref().is_some_and(|f| f.contains(fix)), "{failure:?}");
        }
    }
    let backup = policy(as_user("backup", "b"));
    let remarks = mongodb::preflight(&backup).await.unwrap();
    assert!(remarks[0].contains("(secondary)") && remarks[1].contains("PointInTime"), "{remarks:?}");
    let record = site.dump(13, &backup).await.unwrap();
    assert_eq!(record.dump.unwrap().class, Consistency::PointInTime);
}

/// Here one that was never a member.
async fn a_member_that_refuses_is_not_read(site: &Site, other: &Site) {
    let uri = other.mongo.uri();
    let stranger = uri["mongodb://".len()..].split('/').next().unwrap();
    let password = SecretSource::File(site.scratch.file("password-stranger", "b"));
    let connection = MongoConnection {
        uri: MongoUri::Plain(site.mongo.uri().replace("mongodb://", &format!("mongodb://{stranger},"))),
        username: Some("backup".into()),
        password: Some(password),
        ..site.connection()
    };
    let context = site.context(14);
    mongodb::store_with(&context, &policy(connection), &pinned()).await.unwrap();
    let remarks = context.meter.take_remarks();
    assert!(remarks[0].contains(&format!("MongoDB at {stranger} refused the user")), "{remarks:?}");
}

async fn a_dump_under_writes_is_one_moment(site: &Site, other: &Site, client: &Client) -> SourceRecord {
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(trade(client.clone(), stop.clone()));
    while count(client, "shop", "order").await < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let record = site.dump(20, &policy(site.connection())).await;
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    let record = record.unwrap();
    let dump = record.dump.as_ref().unwrap();
    assert_eq!((dump.class, dump.member_role.as_str()), (Consistency::PointInTime, "secondary"));
    assert!(dump.oplog.as_ref().unwrap().entries > 1, "{dump:?}");
    let report = site.restore(&record, other, &MongoOptions::default()).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    consistent(&other.mongo.client().await, "shop", "bank", written).await;
    record
}

/// Orders, payments and counter are those of one moment.
async fn consistent(client: &Client, shop: &str, bank: &str, written: i64) {
    let orders = count(client, shop, "order").await;
    assert_eq!(orders, count(client, bank, "payment").await);
    let counter = client.database(shop).collection::<Document>("counter").find_one(doc! {}).await.unwrap();
    assert_eq!(counter.unwrap().get_i32("n").unwrap() as u64, orders);
    assert!(orders >= 20 && orders <= written as u64, "{orders} of {written}");
}

async fn users_come_back_and_none_is_lost(site: &Site, other: &Site, record: &SourceRecord) {
    let admin = other.mongo.client().await.database("admin");
    admin.run_command(doc! {"createUser": "resident", "pwd": "x", "roles": ["root"]}).await.unwrap();
    // A user that both have, with another password in the backup.
    admin.run_command(doc! {"createUser": "reader", "pwd": "local", "roles": []}).await.unwrap();
    let some =
        MongoOptions { include: vec!["logs".parse().unwrap()], replace: true, ..MongoOptions::default() };
    let report = site.restore(record, other, &some).await.unwrap();
    assert_eq!((report.users, report.users_kept.len()), (0, 0));
    let can_sign_in = async |user: &str, database: &str, password: &str| {
        let mut options = ::mongodb::options::ClientOptions::parse(other.mongo.uri()).await.unwrap();
        options.credential = Some(
            ::mongodb::options::Credential::builder()
                .username(user.to_owned())
                .password(password.to_owned())
                .source(database.to_owned())
                .build(),
        );
        let client = Client::with_options(options).unwrap();
        client.database("admin").run_command(doc! {"connectionStatus": 1}).await.is_ok()
    };
    assert!(!can_sign_in("alice", "girder", "secret").await);
    // With `replace`: the backup's passwords, but for the user that restores; others stay.
    let report = site.restore(record, other, &MongoOptions { users: true, ..some.clone() }).await.unwrap();
    assert_eq!(report.users_kept, ["admin.root"], "{report:?}");
    assert_eq!(report.users, 4, "alice, clerk, backup, reader: {report:?}");
    for (user, database, password, expected) in [
        ("alice", "girder", "secret", true),
        ("reader", "admin", "r", true),
        ("reader", "admin", "local", false),
        ("resident", "admin", "x", true),
        (USER, "admin", PASSWORD, true),
    ] {
        assert_eq!(can_sign_in(user, database, password).await, expected, "{user} with {password}");
    }
    // Without: what is there stays.
    admin.run_command(doc! {"updateUser": "reader", "pwd": "changed"}).await.unwrap();
    other.mongo.client().await.database("logs").drop().await.unwrap();
    let merge = MongoOptions { users: true, replace: false, ..some };
    let report = site.restore(record, other, &merge).await.unwrap();
    assert_eq!((report.users, report.users_kept.len()), (0, 5), "{report:?}");
    assert!(can_sign_in("reader", "admin", "changed").await);
    let left = admin.list_collection_names().await.unwrap();
    assert!(!left.iter().any(|name| name.starts_with("backstay")), "{left:?}");
}

/// Of a dump with `include`, and of a whole one restored in part under other names.
async fn a_part_of_the_deployment_is_one_moment_too(site: &Site, other: &Site) {
    let client = site.mongo.client().await;
    for (database, collection) in [("shop", "order"), ("shop", "counter"), ("bank", "payment")] {
        client.database(database).collection::<Document>(collection).drop().await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(trade(client.clone(), stop.clone()));
    while count(&client, "shop", "order").await < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let some = Mongodb {
        include: vec!["shop".parse().unwrap(), "bank".parse().unwrap(), "girder".parse().unwrap()],
        exclude: vec!["girder.item".parse().unwrap()],
        ..policy(site.connection())
    };
    let record = site.dump(30, &some).await;
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    let record = record.unwrap();
    assert_eq!(record.dump.as_ref().unwrap().class, Consistency::PointInTime);
    let contents = parse(&site.archive(&record).await);
    let databases: std::collections::BTreeSet<_> =
        contents.namespaces.iter().map(|e| e.namespace.database.as_str()).collect();
    assert_eq!(databases.into_iter().collect::<Vec<_>>(), ["bank", "girder", "shop"]);
    assert!(!names(&contents).iter().any(|name| name.ends_with("girder.item")), "{contents:?}");
    let renamed = MongoOptions {
        include: vec!["shop".parse().unwrap(), "bank".parse().unwrap()],
        renames: vec![Rename::parse("shop", "shop2").unwrap(), Rename::parse("bank", "bank2").unwrap()],
        ..MongoOptions::default()
    };
    let report = site.restore(&record, other, &renamed).await.unwrap();
    assert!(report.is_whole() && report.namespaces == 3, "{report:?}");
    consistent(&other.mongo.client().await, "shop2", "bank2", written).await;
}

async fn a_server_that_stands_still_ends_the_dump(site: &Site) {
    let primary = site.mongo.primary().await;
    let frozen: Vec<usize> = (0..3).filter(|n| *n != primary).collect();
    let context = site.context(40);
    let meter = context.meter.clone();
    let freeze = async {
        while meter.read().bytes < 1 << 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        frozen.iter().for_each(|n| site.mongo.freeze(*n));
    };
    let tools = Tools { stall: Duration::from_secs(3), ..pinned() };
    let policy = policy(site.connection());
    let (outcome, ()) = tokio::join!(mongodb::store_with(&context, &policy, &tools), freeze);
    frozen.iter().for_each(|n| site.mongo.thaw(*n));
    let failure = outcome.unwrap_err();
    assert_eq!(failure.verdict, Verdict::Temporary, "{failure:?}");
}

/// mongodump in a script's hands.
fn tools_with(site: &Site, name: &str, script: &str) -> Tools {
    use std::os::unix::fs::PermissionsExt as _;
    let real = tools::tool("mongodump");
    let text = format!("#!/bin/sh\nreal={}\n{script}\n", real.display());
    let path = site.scratch.file(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    Tools { mongodump: path, stall: Duration::from_secs(3), ..pinned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_goes_wrong_is_never_a_backup() {
    let site = Site::start(Plan { members: 1, auth: false, ..Plan::default() }).await;
    let client = site.mongo.client().await;
    fill(&client).await;
    bulk(&client, 4).await;
    let policy = policy(site.connection());
    let store = async |number, policy: &Mongodb, tools: &Tools| {
        mongodb::store_with(&site.context(number), policy, tools).await
    };
    for (number, name, script, reason) in [
        (1, "cut", r#""$real" "$@" | head -c 300000"#, "ArchiveBroken"),
        (2, "killed", r#""$real" "$@" | head -c 300000; kill -9 $$"#, "DumpFailed"),
        (3, "clean-but-1", r#""$real" "$@"; exit 1"#, "DumpFailed"),
        (4, "hangs", "sleep 1000", "DumpStalled"),
        (5, "nothing", "exit 0", "ArchiveBroken"),
        (6, "chatty", r"echo hello; exit 0", "ArchiveBroken"),
    ] {
        let failure = store(number, &policy, &tools_with(&site, name, script)).await.unwrap_err();
        assert_eq!(
            (failure.verdict, failure.reason.as_str()),
            (Verdict::Temporary, reason),
            "{name}: {failure:?}"
        );
    }
    assert!(!site.store.paths().iter().any(|path| path.contains(".parts.")), "{:?}", site.store.paths());

    let script = r#"case " $* " in *" --oplog "*) "$real" "$@"; printf 't\tFailed: oplog overflow: lost\n' >&2; exit 1;; esac
exec "$real" "$@""#;
    let overflow = tools_with(&site, "overflow", script);
    let record = store(7, &policy, &overflow).await.unwrap();
    let dump = record.dump.as_ref().unwrap();
    assert_eq!(dump.class, Consistency::Fuzzy);
    assert!(dump.class_reason.contains("twice") && dump.class_reason.contains("oplog overflow"), "{dump:?}");
    assert_ne!(record.attempt, site.context(7).attempt);
    assert!(record.packs[0].id.ends_with(record.attempt.as_str()));
    assert_eq!(parse(&site.archive(&record).await).oplog, None);
    let required = Mongodb { oplog: OplogMode::Required, ..policy.clone() };
    let failure = store(8, &required, &overflow).await.unwrap_err();
    assert_eq!((failure.verdict, failure.reason.as_str()), (Verdict::Temporary, "OplogInterrupted"));

    let nothing = Mongodb { include: vec!["nowhere".parse().unwrap()], ..policy.clone() };
    assert_eq!(store(9, &nothing, &pinned()).await.unwrap_err().reason, "NothingSelected");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (uri, verdict, reason) in [
        (format!("mongodb://127.0.0.1:{closed},nowhere.invalid/"), Verdict::Temporary, "DatabaseUnreachable"),
        (site.mongo.uri().replace("rs1", "other"), Verdict::Permanent, "WrongReplicaSet"),
        (site.mongo.uri().replace("/?", "/girder?"), Verdict::Permanent, "DatabaseInConnectionString"),
    ] {
        let mut policy = policy.clone();
        policy.connection.uri = MongoUri::Plain(uri);
        let failure = store(10, &policy, &pinned()).await.unwrap_err();
        assert_eq!((failure.verdict, failure.reason.as_str()), (verdict, reason), "{failure:?}");
        if reason == "DatabaseUnreachable" {
            let said = format!(
                "MongoDB cannot be reached: 127.0.0.1:{closed}: connection refused; nowhere.invalid:27017: unknown host"
            );
            assert_eq!(failure.message, said);
        }
    }
    no_secret_shows(&site).await;
}

/// Neither in the command line nor in the environment of the tool.
async fn no_secret_shows(site: &Site) {
    let script = r#"tr '\0' '\n' < /proc/$$/cmdline > "$0.seen"; env >> "$0.seen"; cat /dev/fd/0 > "$0.config"; exit 1"#;
    let tools = tools_with(site, "spy", script);
    let secret = site.scratch.file("uri", site.mongo.uri().replace("mongodb://", "mongodb://who:geheim@"));
    let mut policy = policy(site.connection());
    policy.connection.uri = MongoUri::From(SecretSource::File(secret));
    // Signing in fails first where there is no such user: ask the tool alone.
    let failure = mongodb::store_with(&site.context(11), &policy, &tools).await.unwrap_err();
    assert_eq!(failure.reason, "AuthenticationFailed");
    assert!(!format!("{failure:?}").contains("geheim"));
    policy.connection = site.connection();
    mongodb::store_with(&site.context(12), &policy, &tools).await.unwrap_err();
    let seen = std::fs::read_to_string(site.scratch.join("spy.seen")).unwrap();
    assert!(seen.contains("--config=/dev/fd/0") && !seen.contains("mongodb://"), "{seen}");
    let config = std::fs::read_to_string(site.scratch.join("spy.config")).unwrap();
    assert!(config.contains("mongodb://127.0.0.1"), "{config}");
}
