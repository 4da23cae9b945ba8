//! The store's contract, kept by the model in memory and by the real rclone; and what only the real one can do: die,
//! hang, be full.

use crate::support::{Scratch, children, cloud, remote, remote::Remote, tools};
use backstay::{
    domain::verdict::{Failure, Verdict},
    storage::{
        memory::MemoryStore,
        pack::{
            reader::PackReader,
            writer::{PackOptions, PackWriter},
        },
        rclone::{Mode, Rclone, RcloneOptions},
        store::{HashKind, ObjectStore, StoreError},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use rustix::process::Signal;
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    ops::Range,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

const DAY: &str = "20261125";

fn options(remote: &Remote, mode: Mode) -> RcloneOptions {
    let mut options = RcloneOptions::new(
        remote.config(),
        remote::NAME.parse().unwrap(),
        "WT/production".parse().unwrap(),
        mode,
    );
    options.program = tools::tool("rclone");
    options.backoff = vec![Duration::from_millis(10); 5];
    options
}

async fn start(remote: &Remote, mode: Mode) -> Rclone {
    Rclone::start(options(remote, mode)).await.unwrap()
}

async fn refused(options: RcloneOptions) -> Failure {
    match Rclone::start(options).await {
        Ok(_) => panic!("rclone started"),
        Err(failure) => failure,
    }
}

fn body(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

async fn read(store: &dyn ObjectStore, path: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
    let mut stream = store.read(path, range).await?;
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

fn is_missing<T>(result: Result<T, StoreError>, expected: &str) -> bool {
    matches!(result, Err(StoreError::NotFound { path }) if path == expected)
}

// ── One contract, two stores ────────────────────────────────────────────────────────────────────────────────────

/// Objects: made once, read whole and in ranges, deleted.
async fn objects(store: &dyn ObjectStore) {
    let path = format!("{DAY}/nightly/homes-0a.tar.zst.00000");
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let chunks = content.chunks(1_000_003).map(Bytes::copy_from_slice).collect();
    store.put(&path, chunks).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap(), content);

    let size = content.len() as u64;
    for (range, expected) in [
        (0..u64::MAX, &content[..]),
        (0..size, &content[..]),
        (0..1, &content[..1]),
        (999_999..2_000_001, &content[999_999..2_000_001]),
        (size - 1..u64::MAX, &content[content.len() - 1..]),
        (size - 1..size + 100, &content[content.len() - 1..]),
        (size..u64::MAX, &[]),
        (7..7, &[]),
    ] {
        assert!(read(store, &path, range.clone()).await.unwrap() == expected, "{range:?}");
    }

    let again = store.put(&path, body("other")).await;
    assert!(matches!(again, Err(StoreError::Exists { path: taken }) if taken == path));
    assert_eq!(store.get(&path).await.unwrap(), content);

    let absent = format!("{DAY}/nightly/absent");
    assert!(is_missing(store.get(&absent).await, &absent));
    assert!(is_missing(read(store, &absent, 3..5).await, &absent));
    assert!(is_missing(store.get("nowhere/at/all").await, "nowhere/at/all"));

    store.delete(&path).await.unwrap();
    assert!(is_missing(store.get(&path).await, &path));
    store.delete(&path).await.unwrap();
    store.delete("nowhere/at/all").await.unwrap();
}

/// Listings: complete, with sizes and hashes; directories made and removed.
async fn directories(store: &dyn ObjectStore) {
    assert!(is_missing(store.list("20200101", false, false).await, "20200101"));
    store.put("owner-nightly.json", body("{}")).await.unwrap();
    let directory = format!("{DAY}/nightly-2");
    store.make_directory(&directory).await.unwrap();
    store.make_directory(&directory).await.unwrap();
    assert_eq!(store.list(&directory, true, true).await.unwrap(), []);
    store.put(&format!("{directory}/a"), body("abc")).await.unwrap();
    store.put(&format!("{directory}/b"), body("")).await.unwrap();

    let listed = |hashes: bool, recursive: bool| async move {
        let mut entries = store.list("", recursive, hashes).await.unwrap();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let line = |e: backstay::storage::store::Listed| {
            let kind = if e.is_dir { "d" } else { "f" };
            format!("{kind} {} {} {}", e.path, e.size, e.hash.map(|h| h.to_string()).unwrap_or_default())
        };
        entries.into_iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(listed(false, false).await, [format!("d {DAY} 0 "), "f owner-nightly.json 2 ".to_owned()]);
    assert_eq!(store.native_hash(), Some(HashKind::Sha1));
    let hash = |hex| format!("sha1:{hex}");
    assert_eq!(
        listed(true, true).await,
        [
            format!("d {DAY} 0 "),
            format!("d {directory} 0 "),
            format!("f {directory}/a 3 {}", hash("a9993e364706816aba3e25717850c26c9cd0d89d")),
            format!("f {directory}/b 0 {}", hash("da39a3ee5e6b4b0d3255bfef95601890afd80709")),
            format!("f owner-nightly.json 2 {}", hash("bf21a9e8fbc5a3846fb05b4fa0859e0917b2202f")),
        ]
    );

    store.remove_directory(&directory).await.unwrap();
    assert_eq!(store.list(&directory, false, false).await.unwrap().len(), 2, "it was not empty");
    store.delete(&format!("{directory}/a")).await.unwrap();
    store.delete(&format!("{directory}/b")).await.unwrap();
    store.remove_directory(&directory).await.unwrap();
    assert!(is_missing(store.list(&directory, false, false).await, &directory));
    store.remove_directory(&directory).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_keeps_the_contract() {
    objects(&MemoryStore::with_hash(HashKind::Sha1)).await;
    directories(&MemoryStore::with_hash(HashKind::Sha1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rclone_keeps_the_contract() {
    for contract in [0, 1] {
        let remote = Remote::new();
        let store = start(&remote, Mode::Prune).await;
        match contract {
            0 => objects(&store).await,
            _ => directories(&store).await,
        }
    }
}

// ── What rclone is told, and what it tells ──────────────────────────────────────────────────────────────────────

#[tokio::test(flavor = "multi_thread")]
async fn objects_lie_where_people_look_for_them_and_nothing_else_does() {
    let remote = Remote::new();
    let store = start(&remote, Mode::Append).await;
    store.put("20261125/n/manifest.json", body("{}")).await.unwrap();
    store.put("20261125/n/RESTORE.txt", body("text")).await.unwrap();
    assert_eq!(
        remote.objects(),
        ["WT/production/20261125/n/RESTORE.txt", "WT/production/20261125/n/manifest.json"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_allows_what_it_says() {
    let remote = Remote::new();
    let refused = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Unusable { .. }));
    let append = start(&remote, Mode::Append).await;
    append.put("a", body("1")).await.unwrap();
    assert!(refused(append.delete("a").await) && refused(append.remove_directory("").await));
    let reader = start(&remote, Mode::Read).await;
    assert_eq!(reader.get("a").await.unwrap(), "1");
    assert!(refused(reader.put("b", body("1")).await) && refused(reader.make_directory("d").await));
    assert!(refused(reader.delete("a").await));
    let prune = start(&remote, Mode::Prune).await;
    assert!(matches!(prune.put("a", body("2")).await, Err(StoreError::Exists { .. })));
    prune.delete("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_configuration_is_said_at_once() {
    let remote = Remote::new();
    let with = |change: &dyn Fn(&mut RcloneOptions)| {
        let mut options = options(&remote, Mode::Append);
        change(&mut options);
        refused(options)
    };
    let failure = with(&|o| o.remote = "bx".parse().unwrap()).await;
    assert_eq!((failure.verdict, failure.reason.as_str()), (Verdict::Permanent, "UnknownRemote"));
    assert_eq!(failure.fix.as_deref(), Some("did you mean \"box\"?"));
    let failure = with(&|o| o.config = "/nonexistent/rclone.conf".into()).await;
    assert_eq!(failure.reason, "RcloneConfigUnreadable");
    assert!(failure.message.contains("/nonexistent/rclone.conf"), "{failure}");
    let failure = with(&|o| o.program = "/nonexistent/rclone".into()).await;
    assert_eq!(failure.reason, "RcloneMissing");
    let failure = with(&|o| o.program = "/bin/false".into()).await;
    assert_eq!(failure.reason, "RcloneFailed");
    let failure = with(&|o| o.bandwidth_limit = Some("fast".to_owned())).await;
    assert!(failure.message.contains("bwlimit"), "{failure}");

    remote.configure("[box]\ntype = nonesuch\n");
    let failure = refused(options(&remote, Mode::Append)).await;
    assert_eq!(
        (failure.verdict, failure.reason.as_str()),
        (Verdict::Permanent, "RemoteUnusable"),
        "{failure}"
    );
    let file = remote.root().join("file");
    fs::write(&file, "").unwrap();
    remote.configure(&format!("[box]\ntype = alias\nremote = {}\n", file.display()));
    let store = Rclone::start(options(&remote, Mode::Append)).await;
    let failure = match store {
        Ok(store) => store.put("a", body("1")).await.unwrap_err().into(),
        Err(failure) => failure,
    };
    assert_eq!(failure.reason, "RemoteUnusable", "{failure}");
}

/// A WebDAV server that has nothing and answers everything with one status.
struct Grumpy {
    status: Arc<Mutex<&'static str>>,
    url: String,
}

impl Grumpy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let status = Arc::new(Mutex::new("404 Not Found"));
        let answer = Arc::clone(&status);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || grumble(connection, &answer));
            }
        });
        Self { status, url }
    }

    fn answer(&self, status: &'static str) {
        *self.status.lock().unwrap() = status;
    }
}

fn grumble(connection: TcpStream, status: &Mutex<&'static str>) {
    let mut reader = BufReader::new(&connection);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        line.clear();
    }
    let status = *status.lock().unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = (&connection).write_all(answer.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_a_remote_passes_for_an_absent_object() {
    let remote = Remote::new();
    let server = Grumpy::new();
    let configure =
        |url: &str| remote.configure(&format!("[box]\ntype = webdav\nurl = {url}\nvendor = other\n"));
    configure("http://127.0.0.1:1/");
    let failure = refused(options(&remote, Mode::Append)).await;
    assert_eq!(
        (failure.verdict, failure.reason.as_str()),
        (Verdict::Temporary, "RemoteUnavailable"),
        "{failure}"
    );

    configure(&server.url);
    server.answer("401 Unauthorized");
    let failure = refused(options(&remote, Mode::Append)).await;
    assert_eq!(
        (failure.verdict, failure.reason.as_str()),
        (Verdict::Credentials, "RemoteCredentialsRefused"),
        "{failure}"
    );

    server.answer("404 Not Found");
    let store = start(&remote, Mode::Append).await;
    assert!(is_missing(store.get("a").await, "a"));
    for (status, expected) in [
        ("401 Unauthorized", "the remote refused the credentials"),
        ("507 Insufficient Storage", "the remote is full"),
        ("400 Bad Request", "failed: "),
    ] {
        server.answer(status);
        for error in [
            store.get("a").await.unwrap_err(),
            store.put("a", body("1")).await.unwrap_err(),
            store.list("", false, false).await.unwrap_err(),
            store.make_directory("d").await.unwrap_err(),
        ] {
            assert!(error.to_string().contains(expected), "{status}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_used_in_place_only_where_rclone_may_keep_a_token() {
    let remote = Remote::new();
    let folder = remote.config().parent().unwrap().to_owned();
    let config_of = |store: Rclone| async move {
        let id = store.process_id().await;
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap();
        let words: Vec<_> =
            command.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        words[words.iter().position(|word| word == "--config").unwrap() + 1].clone()
    };
    let copied = config_of(start(&remote, Mode::Read).await).await;
    assert!(!Path::new(&copied).starts_with(&folder), "{copied}");
    let mut in_place = options(&remote, Mode::Read);
    in_place.config = folder.into();
    let used = config_of(Rclone::start(in_place).await.unwrap()).await;
    assert_eq!(Path::new(&used), remote.config());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_can_be_renewed_once_is_kept_at_once() {
    let remote = Remote::new();
    let renewed = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&renewed);
    remote.configure(&cloud::single_use(move |n| count.store(n, Ordering::Relaxed)));
    let mut before = 0;
    for _ in 0..2 {
        let options = options(&remote, Mode::Read);
        let failure = refused(options.clone()).await;
        assert!(!failure.message.contains("invalid_grant"), "{failure}");
        let newest = renewed.load(Ordering::Relaxed);
        assert!(newest > before, "the token was not renewed");
        before = newest;
        // While `options` lives nothing is saved because something ends: a task that is killed now loses nothing.
        let kept = format!(r#""refresh_token":"r{newest}""#);
        until("it is kept", || fs::read_to_string(remote.config()).unwrap().contains(&kept)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_goes_with_its_store_and_leaves_nothing() {
    let remote = Remote::new();
    let store = start(&remote, Mode::Read).await;
    let id = store.process_id().await;
    let command = fs::read(format!("/proc/{id}/cmdline")).unwrap();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let socket = command.split("unix://").nth(1).unwrap().split(' ').next().unwrap();
    let private = Path::new(socket).parent().unwrap().to_owned();
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("GOMEMLIMIT=96MiB"));
    drop(store);
    assert!(!private.exists());
    until("rclone is gone", || !Path::new(&format!("/proc/{id}")).exists()).await;
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("30 s passed before {what}");
}

// ── Full and forbidden places ───────────────────────────────────────────────────────────────────────────────────

/// A small file system in memory, where this user may mount one.
struct Mount(Scratch);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let scratch = Scratch::new("mount");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&*scratch)
            .stderr(std::process::Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(scratch));
        }
        println!("skipped: this user cannot mount a file system");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&*self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_remote_is_told_from_a_broken_one() {
    let Some(mount) = Mount::new("size=2m") else { return };
    let remote = Remote::at(&mount.0);
    let store = start(&remote, Mode::Append).await;
    store.put("small", body("fits")).await.unwrap();
    let error = store.put("large", vec![Bytes::from(vec![7; 4 << 20])]).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(!error.may_retry());
    let failure = pack(&store, noise(4 << 20), &[Duration::from_secs(600)]).await.unwrap_err();
    assert_eq!((failure.verdict, failure.reason.as_str()), (Verdict::Permanent, "RemoteFull"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_may_not_be_written_is_no_reason_to_try_again() {
    let Some(mount) = Mount::new("ro") else { return };
    let remote = Remote::at(&mount.0);
    let store = start(&remote, Mode::Append).await;
    let error = store.put("a", body("1")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
}

// ── Packs through a daemon that dies or hangs ───────────────────────────────────────────────────────────────────

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

async fn pack(
    store: &Rclone,
    content: Vec<u8>,
    backoff: &[Duration],
) -> Result<backstay::storage::manifest::PackRef, Failure> {
    let options = PackOptions {
        directory: format!("{DAY}/nightly-20261125T020000Z"),
        prefix: "homes-0q7vh8000".to_owned(),
        stream: "tar",
        part_bytes: 4 << 20,
        memory_bytes: 48 << 20,
        transfers: 2,
        workers: 2,
    };
    let mut writer = PackWriter::start_with_backoff(options, Arc::new(store.clone()), backoff);
    tokio::task::spawn_blocking(move || {
        writer.write(&content)?;
        Ok(writer.finish()?.0)
    })
    .await
    .unwrap()
}

async fn unpack(store: &Rclone, pack: &backstay::storage::manifest::PackRef) -> Vec<u8> {
    let reader = PackReader::open(Arc::new(store.clone()), pack).await.unwrap();
    let mut all = Vec::new();
    for n in 0..reader.parts().len() {
        all.extend_from_slice(&reader.part(n as u32).await.unwrap());
    }
    zstd::decode_all(&all[..]).unwrap()
}

const SOON: [Duration; 5] = [Duration::from_millis(10); 5];

/// Stores a pack slowly, and does something to rclone in the middle of an upload.
async fn disturbed(stall: Duration, disturb: impl Fn(u32)) {
    let remote = Remote::new();
    let mut options = options(&remote, Mode::Append);
    options.bandwidth_limit = Some("10M".to_owned());
    options.stall = stall;
    let store = Rclone::start(options).await.unwrap();
    let first = store.process_id().await;
    let content = noise(16 << 20);
    let (packed, ()) = tokio::join!(pack(&store, content.clone(), &SOON), async {
        let name = "tar.zst.00001";
        until("the second part is on its way", || remote.objects().iter().any(|path| path.ends_with(name)))
            .await;
        disturb(first);
    });
    assert_ne!(store.process_id().await, first, "rclone runs again");
    assert!(unpack(&store, &packed.unwrap()).await == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_survives_the_death_of_rclone() {
    disturbed(Duration::from_secs(60), |id| children::signal_pid(id, Signal::KILL)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_survives_an_rclone_that_hangs() {
    disturbed(Duration::from_secs(2), |id| children::signal_pid(id, Signal::STOP)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_rclone_died() {
    let remote = Remote::new();
    let content = noise(12 << 20);
    fs::create_dir_all(remote.root().join("WT/production")).unwrap();
    fs::write(remote.root().join("WT/production/object"), &content).unwrap();
    let mut options = options(&remote, Mode::Read);
    options.bandwidth_limit = Some("6M".to_owned());
    let store = Rclone::start(options).await.unwrap();
    let mut stream = store.read("object", 5..u64::MAX).await.unwrap();
    let mut all = Vec::new();
    let mut killed = false;
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk.unwrap());
        if !killed && all.len() > 1 << 20 {
            killed = true;
            children::signal_pid(store.process_id().await, Signal::KILL);
        }
    }
    assert!(killed && all == content[5..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_replaces_a_dead_rclone_and_a_frozen_one() {
    let remote = Remote::new();
    let mut options = options(&remote, Mode::Append);
    options.stall = Duration::from_secs(1);
    let store = Rclone::start(options).await.unwrap();
    store.put("a", body("1")).await.unwrap();
    let first = store.process_id().await;
    children::signal_pid(first, Signal::KILL);
    // A signal takes a moment, in which rclone may still answer.
    until("it is dead", || matches!(state(first), None | Some('Z'))).await;
    assert_eq!(store.list("", false, false).await.unwrap().len(), 1);
    let second = store.process_id().await;
    children::signal_pid(second, Signal::STOP);
    until("it is frozen", || state(second) == Some('T')).await;
    // The frozen one is killed, and the question asked again.
    assert_eq!(store.list("", false, false).await.unwrap().len(), 1);
    assert!(first != second && second != store.process_id().await);
}

/// The letter of a process's state; `None` once it is gone.
fn state(id: u32) -> Option<char> {
    fs::read_to_string(format!("/proc/{id}/stat")).ok()?.rsplit_once(") ")?.1.chars().next()
}

/// The body must never end well when it is given up, or the remote would hold a short object that looks whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_given_up_leaves_no_whole_object() {
    let remote = Remote::new();
    let mut options = options(&remote, Mode::Append);
    options.bandwidth_limit = Some("2M".to_owned());
    let store = Rclone::start(options).await.unwrap();
    let upload = tokio::spawn({
        let store = store.clone();
        async move { store.put("object", vec![Bytes::from(noise(16 << 20))]).await }
    });
    until("the upload began", || !remote.objects().is_empty()).await;
    upload.abort();
    // rclone removes what it could not complete.
    until("the rest is gone", || remote.objects().is_empty()).await;
}
