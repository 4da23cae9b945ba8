//! A small tree with everything that backups of home directories trip over, and a comparison that names differences.

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

/// Names that are legal on Linux and break naive tools.
pub const ODD_NAMES: &[&[u8]] = &[
    b"with space",
    b" lead",
    b"trail ",
    b"new\nline",
    b"tab\there",
    b"carriage\rreturn",
    b"-rf",
    b"--help",
    b"quote'\"q",
    b"back\\slash",
    b"back\\nslash-n",
    b"glob*?[x]",
    "caf\u{e9}-nfc".as_bytes(),
    "cafe\u{301}-nfd".as_bytes(),
    b"\xff\xfe-not-utf8",
    b"latin1-\xe9",
    "日本語.txt".as_bytes(),
    "😀.md".as_bytes(),
    b"CON",
    b"a:b",
    b"$HOME",
    b"`id`",
    b"%s%n",
    b".hidden",
    b"..dots",
    b"~tilde",
    b"#hash",
    b"\x01control\x7f",
];

/// Fills an existing folder: odd and long names, sparse files, hard links, xattrs, ACLs, setuid, a fifo, times before
/// 1970, empty and read-only folders, links that dangle, loop and lead out. Needs root only for foreign owners and
/// files that nobody can read, which it leaves out otherwise.
pub fn difficult_tree(root: &Path) {
    names(root);
    contents(root);
    links(root);
    modes(root);
    attributes(root);
    times(root);
}

fn file(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn folder(root: &Path, name: &str) -> PathBuf {
    let path = root.join(name);
    fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

/// Bytes that do not compress, the same at every run.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn names(root: &Path) {
    let odd = folder(root, "odd");
    for (number, name) in ODD_NAMES.iter().enumerate() {
        file(&odd.join(OsStr::from_bytes(name)), format!("odd name {number}\n").as_bytes());
    }
    file(&odd.join("x".repeat(255)), b"255 letters");
    let inner = odd.join(OsStr::from_bytes(b"folder\nwith \xff"));
    fs::create_dir(&inner).unwrap();
    file(&inner.join("inside"), b"inside");
    let mut deep = root.join("deep");
    for level in 0..30 {
        deep.push(format!("level-{level:02}-abcdefghijklmnop"));
    }
    fs::create_dir_all(&deep).unwrap();
    file(&deep.join("bottom.txt"), b"a path of more than 700 bytes\n");
    // Names whose order differs by bytes and by path components.
    for name in ["a", "a-b", "a.b", "a0"] {
        file(&folder(root, name).join("z"), name.as_bytes());
    }
}

fn contents(root: &Path) {
    let files = folder(root, "files");
    file(&files.join("empty"), b"");
    file(&files.join("one"), b"1");
    for size in [511, 512, 513, 65_536, 1_048_575, 1_048_576, 1_048_577] {
        file(&files.join(format!("noise-{size}")), &noise(size as u64, size));
    }
    file(&files.join("text"), &b"the same line again and again\n".repeat(40_000));
    file(&files.join("large"), &noise(7, 9 << 20));
    for number in 0..200 {
        file(&files.join(format!("small-{number:03}")), &noise(number, 40 * number as usize));
    }
    sparse(&root.join("sparse"), 64 << 20, &[0, 17 << 20, 63 << 20]);
    sparse(&root.join("only-a-hole"), 1 << 20, &[]);
    sparse(&root.join("data-at-end"), (8 << 20) + 5, &[(8 << 20) + 1]);
    folder(root, "empty-folder");
    folder(&folder(root, "nested"), "empty-too");
}

fn sparse(path: &Path, size: u64, data_at: &[u64]) {
    let mut file = fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    for offset in data_at {
        file.seek(SeekFrom::Start(*offset)).unwrap();
        let length = usize::try_from((size - offset).min(4096)).unwrap();
        file.write_all(&noise(*offset + 1, length)).unwrap();
    }
}

fn links(root: &Path) {
    let links = folder(root, "links");
    let first = links.join("first-name");
    file(&first, &noise(99, 70_000));
    fs::hard_link(&first, links.join("second-name")).unwrap();
    fs::hard_link(&first, root.join("third-name")).unwrap();
    symlink("first-name", links.join("relative")).unwrap();
    symlink("/etc/hostname", links.join("absolute")).unwrap();
    symlink("../../../../../../etc/passwd", links.join("leads-out")).unwrap();
    symlink("no/such/target", links.join("dangling")).unwrap();
    symlink(".", links.join("loop")).unwrap();
    symlink("../files", links.join("to-folder")).unwrap();
    symlink(OsStr::from_bytes(b"odd\n\xff target"), links.join("odd-target")).unwrap();
    symlink("t".repeat(1000), links.join("long-target")).unwrap();
}

fn modes(root: &Path) {
    let modes = folder(root, "modes");
    let put = |mode: u32| {
        let path = modes.join(format!("{mode:04o}"));
        file(&path, format!("{mode:o}").as_bytes());
        chmod(&path, mode);
    };
    [0o400, 0o600, 0o644, 0o755, 0o777, 0o4755, 0o2755].into_iter().for_each(put);
    chmod(&folder(&modes, "sticky"), 0o1777);
    chmod(&folder(&modes, "setgid-folder"), 0o2775);
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    if rustix::process::geteuid().is_root() {
        [0o000, 0o311].into_iter().for_each(put);
        let owned = modes.join("owned");
        file(&owned, b"by 1000:1001");
        std::os::unix::fs::chown(&owned, Some(1000), Some(1001)).unwrap();
        let large = modes.join("owned-large-id");
        file(&large, b"an id that does not fit ustar's octal field");
        std::os::unix::fs::chown(&large, Some(3_000_000), Some(3_000_001)).unwrap();
        std::os::unix::fs::lchown(root.join("links/relative"), Some(1000), Some(1000)).unwrap();
    }
    let read_only = folder(root, "read-only");
    file(&read_only.join("inside"), b"in a folder that cannot be written");
    chmod(&read_only, 0o500);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn attributes(root: &Path) {
    let path = root.join("with-xattrs");
    file(&path, b"has extended attributes");
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty())
            .unwrap_or_else(|error| panic!("{name} on {}: {error}", path.display()));
    };
    set(&path, "user.comment", b"hello");
    set(&path, "user.empty", b"");
    set(&path, "user.binary", &(0..=255).collect::<Vec<u8>>());
    set(&path, "user.line\nbreak=", b"a name that pax records must carry\n");
    set(&path, "system.posix_acl_access", &acl(1000));
    let folder = folder(root, "with-acl");
    set(&folder, "system.posix_acl_default", &acl(1001));
    set(&folder, "user.on-a-folder", b"yes");
}

/// The kernel's form of `u::rw-,u:<id>:r--,g::r--,m::r--,o::---`: version 2, then (tag, permissions, id).
fn acl(user: u32) -> Vec<u8> {
    const UNDEFINED: u32 = u32::MAX;
    let entries = [
        (0x01_u16, 6_u16, UNDEFINED),
        (0x02, 4, user),
        (0x04, 4, UNDEFINED),
        (0x10, 4, UNDEFINED),
        (0x20, 0, UNDEFINED),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn times(root: &Path) {
    let times = folder(root, "times");
    for (name, seconds, nanoseconds) in [
        ("before-1970", -1, 5),
        ("long-before-1970", -86_400 * 365, 999_999_999),
        ("zero", 0, 0),
        ("future", 4_102_444_800, 1),
    ] {
        file(&times.join(name), name.as_bytes());
        set_time(&times.join(name), seconds, nanoseconds);
    }
    set_time(&root.join("links/dangling"), 1_000_000_000, 123_456_789);
    for (number, path) in every(root).into_iter().rev().enumerate() {
        if path.is_dir() && !path.is_symlink() {
            set_time(&path, 1_500_000_000 + i64::try_from(number).unwrap(), 987_654_321);
        }
    }
    set_time(root, 1_234_567_890, 1);
}

/// Sets the modification time of a path, not following a link.
pub fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Everything below a folder, parents first.
fn every(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// What is compared of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    size: u64,
    content: String,
    sparse: bool,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first, in order, of the names that this content has.
    linked_to: Option<PathBuf>,
}

/// A tree as it is: paths from the root, `""` the root itself.
pub type Digest = BTreeMap<PathBuf, Entry>;

/// Reads a whole tree.
pub fn digest(root: &Path) -> Digest {
    let mut paths = every(root);
    paths.push(root.to_owned());
    paths.sort();
    let mut inodes = BTreeMap::new();
    let entry = |path: PathBuf| {
        let relative = path.strip_prefix(root).unwrap().to_owned();
        let entry = read_entry(&path, &relative, &mut inodes);
        (relative, entry)
    };
    paths.into_iter().map(entry).collect()
}

fn read_entry(path: &Path, relative: &Path, inodes: &mut BTreeMap<(u64, u64), PathBuf>) -> Entry {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = match FileType::from_raw_mode(meta.mode()) {
        FileType::RegularFile => "file",
        FileType::Directory => "folder",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        _ => "device",
    };
    let content = match kind {
        "file" => hash(path),
        "symlink" => format!("{:?}", fs::read_link(path).unwrap()),
        "device" => format!("{:x}", meta.rdev()),
        _ => String::new(),
    };
    let first = (kind != "folder" && meta.nlink() > 1)
        .then(|| inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| relative.to_owned()).clone());
    Entry {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        size: if kind == "file" { meta.size() } else { 0 },
        content,
        sparse: kind == "file" && meta.blocks() * 512 + 65_536 <= meta.size(),
        attributes: attributes_of(path),
        linked_to: first,
    }
}

fn hash(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    std::io::copy(&mut file, &mut hasher).unwrap();
    hasher.finalize().to_hex().to_string()
}

fn attributes_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0_u8; 65_536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && *name != b"security.selinux");
    let value = |name: &[u8]| {
        let mut value = vec![0_u8; 65_536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_owned(), value(name))).collect()
}

/// Each difference of two trees on a line of its own: the path, what differs, both values.
pub fn differences(expected: &Digest, found: &Digest) -> Vec<String> {
    let missing =
        expected.keys().filter(|path| !found.contains_key(*path)).map(|path| format!("{path:?}: is missing"));
    let extra =
        found.keys().filter(|path| !expected.contains_key(*path)).map(|path| format!("{path:?}: is new"));
    let changed = expected.iter().filter_map(|(path, entry)| Some((path, entry, found.get(path)?)));
    let changed = changed.flat_map(|(path, a, b)| entry_differences(path, a, b));
    missing.chain(extra).chain(changed).collect()
}

fn entry_differences(path: &Path, a: &Entry, b: &Entry) -> Vec<String> {
    let mut all = Vec::new();
    let mut note = |what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
        let (a, b) = (format!("{a:?}"), format!("{b:?}"));
        if a != b {
            all.push(format!("{path:?}: {what} was {a}, is {b}"));
        }
    };
    note("type", &a.kind, &b.kind);
    note("mode", &format_args!("{:04o}", a.mode), &format_args!("{:04o}", b.mode));
    note("owner", &a.owner, &b.owner);
    note("mtime", &a.mtime, &b.mtime);
    note("size", &a.size, &b.size);
    note("content", &a.content, &b.content);
    // A restored file may well be sparser than it was.
    note("sparse", &a.sparse, &(b.sparse && a.sparse));
    note("xattrs", &a.attributes, &b.attributes);
    note("hard link to", &a.linked_to, &b.linked_to);
    all
}

/// Fails with every difference (the first fifty) unless two trees are the same in everything a backup keeps.
#[track_caller]
pub fn assert_same(expected: &Digest, found: &Digest) {
    let all = differences(expected, found);
    assert!(all.is_empty(), "{} differences:\n{}", all.len(), all[..all.len().min(50)].join("\n"));
}
