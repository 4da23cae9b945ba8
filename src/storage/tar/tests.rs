//! Our reader, GNU tar and bsdtar must agree with what was written, on names and attributes that are made to be difficult.

use super::{reader::TarReader, writer::HeaderWriter, *};
use proptest::prelude::*;
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
    process::{Command, Stdio},
};

type Stored = (Member<'static>, Vec<u8>);

fn archive(members: &[Stored]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut headers = HeaderWriter::default();
    for (member, content) in members {
        headers.append(&mut out, member);
        assert_eq!(out.len() % BLOCK, 0);
        assert_eq!(content.len() as u64, member.payload());
        out.extend_from_slice(content);
        out.resize(out.len() + padding(content.len() as u64), 0);
    }
    out.extend_from_slice(&writer::END);
    out
}

fn read_all(archive: &[u8]) -> Result<Vec<Stored>, reader::TarError> {
    let mut reader = TarReader::new(archive);
    let mut members = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut content = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                n => content.extend_from_slice(&buffer[..n]),
            }
        }
        assert_eq!(reader.remaining(), 0);
        members.push((member, content));
    }
    assert!(reader.next_member()?.is_none());
    Ok(members)
}

/// What this machine lets a test do: owners and devices need root, attributes a file system that has them.
struct Powers {
    root: bool,
    xattrs: bool,
}

fn powers(directory: &Path) -> Powers {
    let probe = directory.join("probe");
    fs::write(&probe, b"").unwrap();
    let xattrs = rustix::fs::setxattr(&probe, "user.probe", b"x", rustix::fs::XattrFlags::empty()).is_ok();
    fs::remove_file(&probe).unwrap();
    Powers { root: rustix::process::geteuid().is_root(), xattrs }
}

fn member(kind: MemberKind, path: &[u8]) -> Member<'static> {
    Member {
        kind,
        path: path.to_vec().into(),
        target: Cow::Borrowed(b""),
        mode: if kind == MemberKind::Directory { 0o755 } else { 0o640 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        size: 0,
        mtime: FileTime { seconds: 1_700_000_000, nanos: 123_456_789 },
        device: None,
        xattrs: Cow::Borrowed(&[]),
        extents: None,
    }
}

fn file(path: &[u8], content: &[u8]) -> Stored {
    let size = content.len() as u64;
    (Member { size, ..member(MemberKind::File, path) }, content.to_vec())
}

fn link(kind: MemberKind, path: &[u8], target: &[u8]) -> Stored {
    let mode = if kind == MemberKind::Symlink { 0o777 } else { 0o640 };
    (Member { target: target.to_vec().into(), mode, ..member(kind, path) }, Vec::new())
}

fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"with space"[..],
        b" lead",
        b"trail ",
        b"new\nline",
        b"tab\t",
        b"-rf",
        b"--help",
        b"q'\"q",
        b"back\\slash",
        b"glob*?[x]",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
        b"\xff\xfe not utf8",
        b"latin1-\xe9",
        b"$HOME",
        b"`id`",
        b"%s%n",
        b".hidden",
        b"~tilde",
        b"\x01\x7f\x1b[31m",
        b"a=b",
        b"1 path=evil\n",
        b"...",
        b"PaxHeader",
    ]
    .map(<[u8]>::to_vec)
    .into();
    names.extend([99, 100, 101, 150, 155, 156, 255].map(|n| vec![b'x'; n - 2]));
    names.push(vec![0xc3; 200]);
    names
}

/// Everything that the format can say, as far as this machine can restore it.
fn corpus(powers: &Powers) -> Vec<Stored> {
    let mut members = vec![(member(MemberKind::Directory, b"./"), Vec::new())];
    for name in names() {
        members.push(file(&[b"./", &name[..]].concat(), &[&name[..], b"\n"].concat()));
        members.push(link(MemberKind::Symlink, &[b"./s-", &name[..name.len().min(250)]].concat(), &name));
        members.push(link(
            MemberKind::HardLink,
            &[b"./h-", &name[..name.len().min(250)]].concat(),
            &[b"./", &name[..]].concat(),
        ));
    }
    let mut path = b"./".to_vec();
    for level in 0..20 {
        path.extend_from_slice(format!("level-{level}-{}/", "y".repeat(level * 3)).as_bytes());
        members.push((member(MemberKind::Directory, &path), Vec::new()));
    }
    for (i, (seconds, nanos)) in
        [(-1, 500_000_000), (-86_400 * 365 * 30, 1), (0, 0), (1, 0), (4_000_000_000, 999_999_999)]
            .into_iter()
            .enumerate()
    {
        let mut stored = file(format!("./time-{i}").as_bytes(), b"t");
        stored.0.mtime = FileTime { seconds, nanos };
        members.push(stored);
    }
    for mode in [0, 0o400, 0o4755, 0o2755, 0o1777, 0o311] {
        let mut stored = file(format!("./mode-{mode:o}").as_bytes(), &vec![7; mode as usize]);
        stored.0.mode = mode;
        members.push(stored);
    }
    members.push((member(MemberKind::Fifo, b"./fifo"), Vec::new()));
    members.extend(sparse());
    if powers.root {
        for (kind, name) in [(MemberKind::CharDevice, b"./char"), (MemberKind::BlockDevice, b"./bloc")] {
            members.push((Member { device: Some((251, 300_000)), ..member(kind, name) }, Vec::new()));
        }
        let mut stored = file(b"./far-owner", b"x");
        (stored.0.uid, stored.0.gid) = (3_000_000_000, 2_097_152);
        members.push(stored);
    }
    if powers.xattrs {
        let mut stored = file(b"./attributes", b"x");
        let mut values = vec![
            (b"user.plain".to_vec(), b"value".to_vec()),
            (b"user.empty".to_vec(), Vec::new()),
            (b"user.line\nbreak".to_vec(), b"a\nb\0c\n".to_vec()),
            (b"user.binary".to_vec(), (0..=255).collect()),
        ];
        if powers.root {
            values.push((b"trusted.x".to_vec(), b"\x00".to_vec()));
        }
        stored.0.xattrs = values.into();
        members.push(stored);
        members.extend(access_lists());
    }
    members
}

/// A file and a directory with access control lists, one of them for what is made in it later.
fn access_lists() -> [Stored; 2] {
    let list = [
        &[2, 0, 0, 0][..],
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 0xe9, 3, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let access = (b"system.posix_acl_access".to_vec(), list.clone());
    let default = (b"system.posix_acl_default".to_vec(), list);
    let mut listed = file(b"./listed", b"x");
    listed.0.xattrs = vec![access.clone()].into();
    let directory = member(MemberKind::Directory, b"./listed-directory/");
    [listed, (Member { mode: 0o640, xattrs: vec![access, default].into(), ..directory }, Vec::new())]
}

fn sparse() -> Vec<Stored> {
    let extent = |offset, length| Extent { offset, length };
    let many: Vec<_> = (0..2000).map(|i| extent(i * 8192, 4096)).collect();
    [
        (b"./sparse-hole-at-end".to_vec(), 1 << 20, vec![extent(0, 4096)]),
        (b"./sparse-hole-at-start\n".to_vec(), 1 << 20, vec![extent((1 << 20) - 4096, 4096)]),
        (b"./sparse-nothing".to_vec(), 1 << 30, vec![]),
        (b"./sparse-many \xff".to_vec(), 2000 * 8192, many),
    ]
    .map(|(path, size, extents)| {
        let payload = extents.iter().map(|e| e.length).sum::<u64>();
        let content = (0..payload).map(|i| (i % 251) as u8 + 1).collect();
        (Member { size, extents: Some(extents.into()), ..member(MemberKind::File, &path) }, content)
    })
    .into()
}

/// Whether `program` is there; a test without it says so and passes.
fn available(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        let _ = writeln!(std::io::stderr(), "skipped: {program} is not installed");
    }
    found
}

fn extract(program: &str, arguments: &[&str], archive: &[u8], into: &Path) -> String {
    let mut child = Command::new(program)
        .args(["-x", "-p", "-f", "-", "--numeric-owner", "-C"])
        .arg(into)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let archive = archive.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&archive));
    let output = child.wait_with_output().unwrap();
    let _ = feeder.join().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program}: {text}");
    text
}

fn compare(reader: &str, members: &[Stored], root: &Path) {
    let mut inodes = HashMap::new();
    for (member, content) in members {
        let path = root.join(OsStr::from_bytes(&member.path[2..]));
        let name = member.path.escape_ascii().to_string();
        let stat = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        inodes.insert(member.path.to_vec(), stat.ino());
        if member.kind == MemberKind::HardLink {
            assert_eq!(inodes[&member.target[..]], stat.ino(), "{name}");
            continue;
        }
        let kind = stat.file_type();
        assert!(
            match member.kind {
                MemberKind::File | MemberKind::HardLink => kind.is_file(),
                MemberKind::Symlink => kind.is_symlink(),
                MemberKind::CharDevice => kind.is_char_device(),
                MemberKind::BlockDevice => kind.is_block_device(),
                MemberKind::Directory => kind.is_dir(),
                MemberKind::Fifo => kind.is_fifo(),
            },
            "{name}: {kind:?}"
        );
        assert_eq!((stat.uid(), stat.gid()), (member.uid, member.gid), "{name}");
        let time = FileTime { seconds: stat.mtime(), nanos: stat.mtime_nsec() as u32 };
        // bsdtar leaves a directory that is there as it is, the root of the restore, and reads the fraction of a time
        // before 1970 with the wrong sign.
        if reader != "bsdtar" || (&member.path[..] != b"./" && member.mtime.seconds >= 0) {
            assert_eq!(time, member.mtime, "{name}");
        }
        assert_eq!(stat.mode() & 0o7777, member.mode, "{name}");
        if let Some((major, minor)) = member.device {
            assert_eq!(stat.rdev(), rustix::fs::makedev(major, minor), "{name}");
        }
        match member.kind {
            MemberKind::Symlink => {
                assert_eq!(
                    fs::read_link(&path).unwrap().as_os_str().as_bytes(),
                    &member.target[..],
                    "{name}"
                );
            }
            MemberKind::File => {
                assert_eq!(stat.len(), member.size, "{name}");
                compare_content(member, content, &path, &name);
            }
            _ => {}
        }
        for (key, value) in member.xattrs.iter() {
            let mut buffer = vec![0; 1024];
            let n = rustix::fs::lgetxattr(&path, OsStr::from_bytes(key), &mut buffer[..])
                .unwrap_or_else(|e| panic!("{name} {}: {e}", key.escape_ascii()));
            assert_eq!(&buffer[..n], &value[..], "{name}");
        }
    }
}

fn compare_content(member: &Member<'_>, content: &[u8], path: &Path, name: &str) {
    let whole = [Extent { offset: 0, length: member.size }];
    let mut file = fs::File::open(path).unwrap();
    let mut at = 0;
    for extent in member.extents.as_deref().unwrap_or(&whole) {
        use std::io::Seek;
        file.seek(std::io::SeekFrom::Start(extent.offset)).unwrap();
        let mut bytes = vec![0; extent.length as usize];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, &content[at..at + bytes.len()], "{name}");
        at += bytes.len();
    }
    if member.size >= 1 << 30 {
        assert!(fs::metadata(path).unwrap().blocks() < 1000, "{name}: its hole was written");
    }
}

#[test]
fn our_reader_gives_back_what_was_written() {
    let mut members = corpus(&Powers { root: true, xattrs: true });
    members.push({
        let mut stored = file(b"./odd-attribute-names", b"");
        stored.0.xattrs = vec![(b"user.a=b%c%3D".to_vec(), b"=\n".to_vec())].into();
        stored
    });
    assert_eq!(read_all(&archive(&members)).unwrap(), members);
}

#[test]
fn gnu_tar_restores_everything() {
    let directory = tempfile::tempdir().unwrap();
    if !available("tar") {
        return;
    }
    let members = corpus(&powers(directory.path()));
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let attributes = ["--acls", "--xattrs", "--xattrs-include=*"];
    let warnings = extract("tar", &attributes, &archive(&members), &root);
    compare("tar", &members, &root);
    for line in warnings.lines() {
        let known = ["hdrcharset", "implausibly old", "in the future"].iter().any(|w| line.contains(w));
        assert!(known, "{line}");
    }
}

#[test]
fn bsdtar_restores_everything() {
    let directory = tempfile::tempdir().unwrap();
    if !available("bsdtar") {
        return;
    }
    let members = corpus(&powers(directory.path()));
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    let warnings = extract("bsdtar", &["--acls", "--xattrs"], &archive(&members), &root);
    assert_eq!(warnings, "");
    compare("bsdtar", &members, &root);
}

/// A header of a file of 9 GiB, and what three readers say of its size.
#[test]
fn sizes_beyond_eight_gib() {
    let size = 9 << 30;
    let mut out = Vec::new();
    let huge = Member { size, ..member(MemberKind::File, b"./huge") };
    HeaderWriter::default().append(&mut out, &huge);
    let mut reader = TarReader::new(&out[..]);
    assert_eq!(reader.next_member().unwrap().unwrap(), huge);
    assert_eq!(reader.remaining(), size);
    for program in ["tar", "bsdtar"] {
        if available(program) {
            let mut child = Command::new(program)
                .args(["-t", "-v", "-f", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let _ = child.stdin.take().unwrap().write_all(&out);
            let listing = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            assert!(listing.contains("9663676416"), "{program}: {listing}");
        }
    }
}

#[test]
fn errors_name_the_byte_and_the_member() {
    let bytes = archive(&[file(b"./fine", b"x"), file(b"./cut\n", &[1; 5000])]);
    let error = read_all(&bytes[..4000]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tar at byte 4000, in ./cut\\n: the archive ends here, before its end mark"
    );
    let mut damaged = bytes.clone();
    damaged[1030] ^= 1;
    let error = read_all(&damaged).unwrap_err().to_string();
    assert!(error.starts_with("tar at byte ") && error.contains("checksum"), "{error}");
    let cut = &bytes[..bytes.len() - BLOCK];
    assert!(read_all(cut).unwrap_err().message.contains("ends here"));
}

#[test]
fn a_pax_header_of_any_claimed_size_is_refused_before_it_is_read() {
    let mut out = archive(&[file(b"./a\n", b"")]);
    out[124..136].copy_from_slice(b"77777777777\0");
    out[148..156].fill(b' ');
    let sum: u32 = out[..BLOCK].iter().map(|&c| u32::from(c)).sum();
    out[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(read_all(&out).unwrap_err().message.contains("pax header of 8589934591 bytes"));
}

fn any_member() -> impl Strategy<Value = Stored> {
    let bytes = |max| prop::collection::vec(1_u8.., 1..max);
    let fields = (
        bytes(300),
        bytes(300),
        0_u32..=0o7777,
        any::<u32>(),
        any::<u32>(),
        any::<i64>(),
        0_u32..1_000_000_000,
    );
    let kinds = prop::sample::select(vec![
        MemberKind::File,
        MemberKind::HardLink,
        MemberKind::Symlink,
        MemberKind::Directory,
        MemberKind::Fifo,
        MemberKind::CharDevice,
    ]);
    let xattr = (bytes(20), prop::collection::vec(any::<u8>(), 0..50));
    let runs = prop::option::of(prop::collection::vec((1_u64..5000, 1_u64..3000), 0..40));
    (kinds, fields, prop::collection::vec(xattr, 0..4), runs, 0_u64..3000).prop_map(
        |(kind, fields, xattrs, runs, tail)| {
            let (path, target, mode, uid, gid, seconds, nanos) = fields;
            let is_file = kind == MemberKind::File;
            let is_link = matches!(kind, MemberKind::HardLink | MemberKind::Symlink);
            let mut end = 0;
            let extents = runs.filter(|_| is_file).map(|runs| {
                let place = |(gap, length)| {
                    let extent = Extent { offset: end + gap, length };
                    end += gap + length;
                    extent
                };
                Cow::Owned(runs.into_iter().map(place).collect())
            });
            let member = Member {
                kind,
                path: Cow::Owned(path),
                target: if is_link { Cow::Owned(target) } else { Cow::Borrowed(&[]) },
                mode,
                uid,
                gid,
                size: if is_file { end + tail } else { 0 },
                mtime: FileTime { seconds: seconds / 2, nanos },
                device: (kind == MemberKind::CharDevice).then_some((uid, gid)),
                xattrs: Cow::Owned(xattrs),
                extents,
            };
            let content = vec![9; member.payload() as usize];
            (member, content)
        },
    )
}

proptest! {
    #[test]
    fn any_archive_round_trips(members in prop::collection::vec(any_member(), 0..6)) {
        prop_assert_eq!(read_all(&archive(&members)).unwrap(), members);
    }

    #[test]
    fn hostile_input_never_panics(
        members in prop::collection::vec(any_member(), 1..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        repair: bool,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = archive(&members);
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
            if repair {
                // A right checksum lets the damage through to what follows.
                let block = at / BLOCK * BLOCK;
                let header = &mut bytes[block..block + BLOCK];
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().map(|&c| u32::from(c)).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = read_all(&bytes);
        let _ = read_all(&bytes[..cut.index(bytes.len())]);
    }
}
