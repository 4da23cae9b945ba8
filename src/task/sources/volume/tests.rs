//! Whole volumes into a store in memory, and back by two ways: GNU tar over the whole pack, and each record by its place.

use super::{
    entry::{Content, Entry, Outcome, Present},
    input::{Input, Status},
    *,
};
use crate::{
    domain::{names::SourceName, policy::VolumePlace, verdict::Verdict},
    storage::{
        index::{
            reader::IndexReader,
            record::{EntryKind, Record},
        },
        memory::MemoryStore,
        pack::reader::PackReader,
        store::ObjectStore,
        tar::{Member, MemberKind, reader::TarReader},
    },
    task::context::Meter,
};
use std::{
    collections::BTreeMap,
    fs,
    io::{Seek, SeekFrom, Write},
    os::{
        linux::fs::MetadataExt,
        unix::{ffi::OsStrExt, fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn context(store: Arc<dyn ObjectStore>) -> SourceContext {
    SourceContext {
        store,
        snapshot: "nightly-20261125T020000Z".parse().unwrap(),
        attempt: "0123456ab".parse().unwrap(),
        part_bytes: 1 << 20,
        memory_bytes: 64 << 20,
        transfers: 2,
        meter: Arc::new(Meter::default()),
    }
}

fn volume(root: &Path) -> Volume {
    Volume {
        name: "homes".parse::<SourceName>().unwrap(),
        place: VolumePlace::HostPath(root.to_owned()),
        include: vec![],
        exclude: vec![],
        optional: false,
        allow_empty: false,
        node_selector: BTreeMap::new(),
        one_file_system: true,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

/// What a backup left behind.
struct Stored {
    store: Arc<MemoryStore>,
    record: SourceRecord,
    meter: Arc<Meter>,
}

/// What is stored of entries that a walk might have given.
fn emit(entries: Vec<Entry>, data: &[u8]) -> Stored {
    let store = Arc::new(MemoryStore::new());
    let context = context(store.clone());
    let meter = Arc::clone(&context.meter);
    let volume = volume(Path::new("/"));
    let work = Work { filter: Filter::new(&volume).unwrap(), volume, context, stop: Arc::default() };
    let chunk = Chunk { entries, data: data.to_vec(), last: true };
    let storing = move || {
        let mut emitter = work.begin()?;
        emitter.chunk(chunk)?;
        work.record(clock::now(), emitter)
    };
    let record = runtime().block_on(async { tokio::task::spawn_blocking(storing).await.unwrap() }).unwrap();
    Stored { store, record, meter }
}

/// The entry of a file as a reader gives it; `claimed` is the size at the first look.
fn streamed(path: &Path, claimed: u64) -> Entry {
    let input = Input::new(fs::File::open(path).unwrap().into());
    let status = Status { size: claimed, ..Status::of(&input.fd).unwrap() };
    let content = Content::Stream { input, extents: None };
    let present = Present { status, xattrs: vec![], target: vec![], racy: false, content };
    Entry { path: b"./file".to_vec(), outcome: Outcome::Present(present) }
}

fn back_up(volume: &Volume) -> Result<Stored, Failure> {
    let store = Arc::new(MemoryStore::new());
    let context = context(store.clone());
    let meter = Arc::clone(&context.meter);
    let record = runtime().block_on(super::store(&context, volume))?;
    Ok(Stored { store, record, meter })
}

impl Stored {
    fn index(&self) -> Vec<Record> {
        runtime().block_on(async {
            let directory = crate::storage::layout::directory(&"nightly-20261125T020000Z".parse().unwrap());
            let mut reader =
                IndexReader::open(self.store.clone(), &directory, &self.record.index).await.unwrap();
            let mut records = Vec::new();
            while let Some(record) = reader.next_record().await.unwrap() {
                records.push(record);
            }
            records
        })
    }

    fn find(&self, path: &str) -> Record {
        self.index()
            .into_iter()
            .find(|record| record.path == path.as_bytes())
            .unwrap_or_else(|| panic!("{path}"))
    }

    fn paths(&self) -> Vec<String> {
        self.index().iter().map(|record| record.path.escape_ascii().to_string()).collect()
    }

    fn tar(&self) -> Vec<u8> {
        runtime().block_on(async {
            let reader = PackReader::open(self.store.clone(), &self.record.packs[0]).await.unwrap();
            let mut tar = Vec::new();
            for part in 0..reader.parts().len() {
                let bytes = reader.part(u32::try_from(part).unwrap()).await.unwrap();
                zstd::stream::copy_decode(&bytes[..], &mut tar).unwrap();
            }
            tar
        })
    }

    /// The member of a record, read from the frames that its place names and no others.
    fn member(&self, record: &Record) -> (Member<'static>, Vec<u8>) {
        let place = record.place.unwrap();
        let frames = runtime().block_on(async {
            let reader = PackReader::open(self.store.clone(), &self.record.packs[0]).await.unwrap();
            reader
                .range(place.part, place.frame_offset, place.frames_length, Default::default())
                .await
                .unwrap()
        });
        let mut plain = Vec::new();
        zstd::stream::copy_decode(&frames[..], &mut plain).unwrap();
        let mut reader = TarReader::new(&plain[place.member_offset as usize..]);
        let member = reader.next_member().unwrap().unwrap();
        let mut content = vec![0; usize::try_from(reader.remaining()).unwrap()];
        let mut at = 0;
        while at < content.len() {
            at += reader.read(&mut content[at..]).unwrap();
        }
        (member, content)
    }

    /// Each record's place leads to its member, and to content of its hash.
    fn check_places(&self) {
        for record in self.index() {
            let name = record.path.escape_ascii().to_string();
            let (member, content) = self.member(&record);
            assert_eq!(&member.path[..], &record.path[..], "{name}");
            assert_eq!(
                (member.mode, member.uid, member.mtime),
                (record.mode, record.uid, record.mtime),
                "{name}"
            );
            assert_eq!(member.extents.is_some(), record.flags.sparse, "{name}");
            assert_eq!(record.hash.is_some(), record.kind == EntryKind::File, "{name}");
            if member.kind == MemberKind::File {
                assert_eq!(member.size, record.size, "{name}");
                assert_eq!(
                    Some(&blake3::hash(&content).as_bytes()[..16]),
                    record.hash.as_ref().map(|h| &h[..]),
                    "{name}"
                );
            }
        }
    }

    fn extract(&self, into: &Path) {
        let mut tar = Command::new("tar")
            .args([
                "-x",
                "-p",
                "-f",
                "-",
                "--numeric-owner",
                "--acls",
                "--xattrs",
                "--xattrs-include=*",
                "-C",
            ])
            .arg(into)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = tar.stdin.take().unwrap();
        let archive = self.tar();
        let feeder = std::thread::spawn(move || stdin.write_all(&archive));
        let output = tar.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Everything about a tree that a restore must bring back, one line an entry.
fn fingerprint(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    let mut groups = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths.extend((directory == root).then_some(directory));
        for path in paths {
            let stat = fs::symlink_metadata(&path).unwrap();
            let kind = stat.file_type();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let content = match () {
                () if kind.is_file() => blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string(),
                () if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
                () => String::new(),
            };
            if kind.is_dir() && path != root {
                directories.push(path.clone());
            }
            let mut xattrs = vec![0; 4096];
            let length = rustix::fs::llistxattr(&path, &mut xattrs[..]).unwrap_or(0);
            let mut names: Vec<_> = xattrs[..length].split(|&c| c == 0).filter(|n| !n.is_empty()).collect();
            names.sort_unstable();
            let xattrs: Vec<_> = names
                .iter()
                .map(|name| {
                    let mut value = vec![0; 4096];
                    let n = rustix::fs::lgetxattr(&path, *name, &mut value[..]).unwrap();
                    format!("{}={}", name.escape_ascii(), value[..n].escape_ascii())
                })
                .collect();
            let links = if kind.is_dir() { 0 } else { stat.st_nlink() };
            let group: &mut PathBuf = groups.entry(stat.st_ino()).or_insert_with(|| name.clone());
            let line = format!(
                "{:o} {} {} {} {}.{:09} {links} {:?} {content} {xattrs:?}",
                stat.st_mode(),
                stat.st_uid(),
                stat.st_gid(),
                if kind.is_file() { stat.st_size() } else { 0 },
                stat.st_mtime(),
                stat.st_mtime_nsec(),
                if links > 1 { group.clone() } else { PathBuf::new() },
            );
            // The socket is not kept.
            if !std::os::unix::fs::FileTypeExt::is_socket(&kind) {
                lines.insert(name, line);
            }
        }
    }
    lines
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A tree of everything that is difficult. Gives what the file system here can hold.
fn difficult(root: &Path) {
    let write = |name: &[u8], content: &[u8]| {
        let path = root.join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    };
    for name in [
        &b"new\nline"[..],
        b"tab\t",
        b"\xff\xfe",
        b"-rf",
        b"back\\slash",
        b" ",
        b"a b",
        b".hidden",
        b"cafe\xcc\x81",
    ] {
        write(name, name);
    }
    write(&[b'x'; 255], b"long");
    write(b"deep/er/and/deeper/file", b"deep");
    write(b"a.txt", b"sorted after a/");
    write(b"a/inner", b"x");
    write(b"a-", b"sorted before a.txt");
    write(b"empty", b"");
    fs::create_dir(root.join("emptydir")).unwrap();
    write(b"buffered", &noise(BUFFERED));
    write(b"streamed", &noise(BUFFERED + 1));
    write(b"large", &noise(10 << 20));
    write(b"large-text", &b"0123456789abcdef\n".repeat(600_000));
    for i in 0..200 {
        write(format!("many/{i:03}").as_bytes(), &noise(i * 37));
    }
    let mut sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.seek(SeekFrom::Start(32 << 20)).unwrap();
    sparse.write_all(&noise(100_000)).unwrap();
    fs::File::create(root.join("hole")).unwrap().set_len(1 << 20).unwrap();
    fs::hard_link(root.join("large"), root.join("a/link to large")).unwrap();
    fs::hard_link(root.join("many/007"), root.join("zz link")).unwrap();
    fs::hard_link(root.join("many/007"), root.join("many/007 link")).unwrap();
    std::os::unix::fs::symlink("nowhere\n\t", root.join("dangling")).unwrap();
    std::os::unix::fs::symlink(".", root.join("loop")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    let attributes = write(b"attributes", b"x");
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
    };
    if set(&attributes, "user.a", b"1\n\0") {
        set(&root.join("emptydir"), "user.directory", b"");
        let access = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 4, 0, 0xe9, 3, 0, 0],
            &[4, 0, 4, 0, 255, 255, 255, 255],
            &[16, 0, 4, 0, 255, 255, 255, 255],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ];
        set(&attributes, "system.posix_acl_access", &access.concat());
        set(&root.join("emptydir"), "system.posix_acl_default", &access.concat());
    }
    if rustix::process::geteuid().is_root() {
        set(&root.join("dangling"), "trusted.link", b"on a link");
        std::os::unix::fs::chown(root.join("a/inner"), Some(1234), Some(4_000_000_000)).unwrap();
    }
    for (name, mode) in [("a.txt", 0o4711), ("a", 0o1777), ("many/000", 0o600)] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for name in ["many", "a", "a.txt"] {
        let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
        fs::File::open(root.join(name)).unwrap().set_modified(old).unwrap();
    }
}

const BUFFERED: usize = entry::BUFFERED_BYTES;

#[test]
fn a_difficult_tree_comes_back_by_tar_and_by_each_records_place() {
    let source = tempfile::tempdir().unwrap();
    difficult(source.path());
    let before = fingerprint(source.path());
    let stored = back_up(&volume(source.path())).unwrap();
    let counts = &stored.record.counts;
    assert_eq!((counts.sockets, counts.unreadable, counts.changed_while_read), (1, 0, 0));
    assert_eq!(counts.new + 3, counts.files);
    assert_eq!(stored.record.index.records as usize, before.len());
    assert_eq!(stored.meter.read().bytes, counts.bytes);
    assert_eq!(stored.meter.read().items, counts.files);
    stored.check_places();
    let target = tempfile::tempdir().unwrap();
    stored.extract(target.path());
    let after = fingerprint(target.path());
    for (path, line) in &before {
        assert_eq!(after.get(path), Some(line), "{}", path.display());
    }
    assert_eq!(after.len(), before.len());
}

#[test]
fn large_members_have_frames_of_their_own_and_holes_are_not_stored() {
    let source = tempfile::tempdir().unwrap();
    difficult(source.path());
    let stored = back_up(&volume(source.path())).unwrap();
    for name in ["./a/link to large", "./large-text"] {
        assert_eq!(stored.find(name).place.unwrap().member_offset, 0, "{name}");
    }
    let neighbour = stored.find("./large-text").place.unwrap();
    let large = stored.find("./a/link to large").place.unwrap();
    assert_ne!((large.part, large.frame_offset), (neighbour.part, neighbour.frame_offset));
    let sparse = stored.find("./sparse");
    assert!(sparse.flags.sparse && sparse.size == 64 << 20);
    let (member, content) = stored.member(&sparse);
    assert!(content.len() < 300_000, "{}", content.len());
    assert_eq!(member.extents.unwrap().len(), 1);
    assert!(stored.member(&stored.find("./hole")).1.is_empty());
}

#[test]
fn patterns_choose_and_parents_are_kept() {
    let source = tempfile::tempdir().unwrap();
    for name in ["alice/.cache/x", "alice/src/a.c", "alice/src/a.o", "bob/src/b.c", "carol/notes", "top.c"] {
        let path = source.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    let taken = |include: &[&str], exclude: &[&str]| {
        let texts = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
        let volume = Volume { include: texts(include), exclude: texts(exclude), ..volume(source.path()) };
        back_up(&volume).unwrap().paths()
    };
    assert_eq!(taken(&["*.c"], &["/bob"]), ["./", "./alice/", "./alice/src/", "./alice/src/a.c", "./top.c"]);
    assert_eq!(
        taken(&[], &[".cache", "*.o", "carol/**"]),
        [
            "./",
            "./alice/",
            "./alice/src/",
            "./alice/src/a.c",
            "./bob/",
            "./bob/src/",
            "./bob/src/b.c",
            "./carol/",
            "./top.c"
        ]
    );
    assert_eq!(taken(&["alice/src"], &["*.o"]), ["./", "./alice/", "./alice/src/", "./alice/src/a.c"]);
    assert_eq!(taken(&["nothing"], &[]), ["./"]);
}

#[test]
fn a_root_that_is_not_there_or_no_directory_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    for (path, verdict, text) in [
        (directory.path().join("gone"), Verdict::Guard, "does not exist"),
        (file, Verdict::Permanent, "is not a directory"),
    ] {
        let failure = back_up(&volume(&path)).err().unwrap();
        assert_eq!(failure.verdict, verdict);
        assert!(
            failure.message.starts_with("volume homes: /") && failure.message.contains(text),
            "{failure}"
        );
        assert!(failure.fix.is_some());
    }
    let named = Volume { place: VolumePlace::Named("data".to_owned()), ..volume(directory.path()) };
    assert_eq!(back_up(&named).err().unwrap().reason, "VolumeNotSupported");
    let wrong = Volume { exclude: vec!["[".to_owned()], ..volume(directory.path()) };
    assert_eq!(back_up(&wrong).err().unwrap().reason, "InvalidPattern");
}

#[test]
fn an_empty_directory_is_a_volume() {
    let directory = tempfile::tempdir().unwrap();
    let stored = back_up(&volume(directory.path())).unwrap();
    assert_eq!(stored.paths(), ["./"]);
    assert_eq!((stored.record.counts.files, stored.record.counts.dirs), (0, 1));
}

#[test]
fn what_cannot_be_read_is_counted_and_recorded_without_content() {
    if rustix::process::geteuid().is_root() {
        return; // Root can read everything; the same is tested below without a file system.
    }
    let directory = tempfile::tempdir().unwrap();
    for name in ["locked", "locked-directory"] {
        fs::create_dir_all(directory.path().join("locked-directory")).unwrap();
        let _ = fs::write(directory.path().join(name), b"x");
        fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let stored = back_up(&volume(directory.path())).unwrap();
    assert_eq!(stored.record.counts.unreadable, 2);
    assert!(stored.find("./locked").flags.unreadable && stored.find("./locked-directory/").place.is_none());
}

#[test]
fn a_file_that_shrank_is_padded_and_one_that_grew_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, noise(700_000)).unwrap();
    for (claimed, expected) in [
        (900_000, [noise(700_000), vec![0; 200_000]].concat()),
        (500_000, noise(700_000)[..500_000].to_vec()),
    ] {
        let stored = emit(vec![streamed(&file, claimed)], b"");
        let record = stored.find("./file");
        assert!(record.flags.changed && record.size == claimed);
        assert_eq!(stored.record.counts.changed_while_read, 1);
        assert_eq!(stored.member(&record).1, expected);
        stored.check_places();
    }
    let quiet = emit(vec![streamed(&file, 700_000)], b"");
    assert!(!quiet.find("./file").flags.changed);
}

#[test]
fn a_file_that_stops_to_be_readable_has_a_record_and_no_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"x").unwrap();
    // Reading a directory fails as a bad block does.
    let mut broken = streamed(directory.path(), 2_000_000);
    let status = Status::of(fs::File::open(&file).unwrap()).unwrap();
    if let Outcome::Present(present) = &mut broken.outcome {
        present.status = Status { size: 2_000_000, ..status };
    }
    let locked = Outcome::Unreadable { status: Some(status), reason: "denied".to_owned() };
    let lost = Outcome::Unreadable { status: None, reason: "denied".to_owned() };
    let entry = |path: &[u8], outcome| Entry { path: path.to_vec(), outcome };
    let gone = entry(b"./gone", Outcome::Vanished);
    let stored = emit(vec![broken, gone, entry(b"./locked", locked), entry(b"./lost", lost)], b"");
    assert_eq!(stored.paths(), ["./file", "./locked"]);
    for record in stored.index() {
        assert!(record.flags.unreadable && record.place.is_none() && record.hash.is_none());
    }
    let counts = &stored.record.counts;
    assert_eq!((counts.unreadable, counts.vanished, counts.new), (3, 1, 0));
    let target = tempfile::tempdir().unwrap();
    stored.extract(target.path());
}

#[test]
fn another_file_with_the_number_of_a_deleted_one_has_its_own_content() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"0123456789").unwrap();
    fs::hard_link(&file, directory.path().join("other")).unwrap();
    fs::hard_link(&file, directory.path().join("third")).unwrap();
    let mut first = streamed(&file, 10);
    // As if it had been another file at the first look, with the same device and inode.
    if let Outcome::Present(present) = &mut first.outcome {
        present.status.ctime.seconds -= 1;
    }
    fs::write(&file, b"9876543210").unwrap();
    let named = |path: &[u8]| Entry { path: path.to_vec(), ..streamed(&file, 10) };
    let stored = emit(vec![first, named(b"./other"), named(b"./third")], b"");
    let other = stored.find("./other");
    let (member, content) = stored.member(&other);
    assert_eq!((member.kind, &content[..]), (MemberKind::File, &b"9876543210"[..]));
    let third = stored.find("./third");
    assert_eq!((third.hash, &stored.member(&third).0.target[..]), (other.hash, &b"./other"[..]));
}

#[test]
fn a_path_never_contradicts_its_kind() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"x").unwrap();
    let unreadable = |path: &[u8], now: &Path| {
        let status = Status::of(fs::File::open(now).unwrap()).ok();
        Entry { path: path.to_vec(), outcome: Outcome::Unreadable { status, reason: "denied".to_owned() } }
    };
    let stored = emit(
        vec![
            unreadable(b"./a", directory.path()),
            unreadable(b"./b/", &file),
            unreadable(b"./c", &file),
            unreadable(b"./d/", directory.path()),
        ],
        b"",
    );
    assert_eq!(stored.paths(), ["./c", "./d/"]);
    let counts = &stored.record.counts;
    assert_eq!((counts.changed_while_read, counts.unreadable), (2, 2));
}

#[test]
fn records_without_bytes_do_not_pile_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"x").unwrap();
    let status = Status::of(fs::File::open(&file).unwrap()).unwrap();
    let unreadable = |i: usize| Entry {
        path: format!("./{i:06}").into_bytes(),
        outcome: Outcome::Unreadable { status: Some(status), reason: "denied".to_owned() },
    };
    let mut entries: Vec<_> = (1..70_000).map(unreadable).collect();
    entries.insert(0, Entry { path: b"./000000".to_vec(), ..streamed(&file, 1) });
    assert_eq!(emit(entries, b"").index().len(), 70_000);
}

/// Resident memory at its highest since it was last asked for, KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Run alone, with the allocator set as it is for tasks:
/// `MALLOC_MMAP_THRESHOLD_=131072 cargo test --lib memory_does_not_grow -- --ignored`. The first tree is as large as it
/// takes to fill every buffer once, that of one large directory's names among them.
#[test]
#[ignore = "takes a minute, and measures the whole process"]
fn memory_does_not_grow_with_the_number_of_files() {
    let mut peaks = Vec::new();
    for files in [150_000, 150_000, 450_000] {
        let source = tempfile::tempdir().unwrap();
        for i in 0..files {
            let folder = if i % 8 == 0 { format!("d{}", i / 1000) } else { "one".to_owned() };
            let folder = source.path().join(folder);
            if i < 2 || i % 1000 == 0 {
                fs::create_dir_all(&folder).unwrap();
            }
            fs::write(folder.join(format!("file-with-a-name-of-usual-length-{i:07}")), i.to_string())
                .unwrap();
        }
        peak_memory();
        let store = Arc::new(MemoryStore::forgetful());
        let record = runtime().block_on(super::store(&context(store), &volume(source.path()))).unwrap();
        assert_eq!(record.counts.files, files);
        peaks.push(peak_memory());
    }
    assert!(peaks[2] < peaks[1] + peaks[1] / 4, "{peaks:?} KiB");
}

#[test]
fn a_store_that_fails_ends_every_thread() {
    use crate::storage::{
        memory::{Effect, Fault, Operation},
        store::StoreError,
    };
    let source = tempfile::tempdir().unwrap();
    difficult(source.path());
    let store = Arc::new(MemoryStore::new());
    let error = StoreError::Full { detail: "quota".to_owned() };
    let effect = Effect::Refuse(error);
    store.fault(Fault {
        operation: Operation::Put,
        path: "tar.zst".to_owned(),
        skip: 1,
        times: usize::MAX,
        effect,
    });
    let failure = runtime().block_on(super::store(&context(store), &volume(source.path()))).unwrap_err();
    assert_eq!(failure.reason, "RemoteFull");
    assert!(failure.message.starts_with("volume homes: "), "{failure}");
}
