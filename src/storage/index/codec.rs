//! The text of an index: one line a record, TAB-separated, so that `grep`, `awk` and `tar -T` can work with it.
//!
//! ```text
//! #backstay-index 1 ⇥ source ⇥ snapshot ⇥ attempt
//! #pack ⇥ n ⇥ pack id                                          one per pack
//! type mode uid gid size mtime ctime ino link flags hash loc extra target path
//! #end ⇥ records ⇥ content bytes ⇥ BLAKE3 of everything before
//! ```

use super::record::{EntryKind, FileTime, Flags, Place, Record, parse_u64, write_u64};
use data_encoding::{BASE64, HEXLOWER};
use std::cmp::Ordering;

/// Begins the first line.
pub(super) const MAGIC: &[u8] = b"#backstay-index 1";
/// Begins the line of a pack.
pub(super) const PACK: &[u8] = b"#pack";
/// Begins the last line.
pub(super) const END: &[u8] = b"#end";

/// Fields of a record's line.
const FIELDS: usize = 15;

/// Compares paths in an index's order, depth first: by bytes, `/` before every other.
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    let key = |c: &u8| if *c == b'/' { 0 } else { *c };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// Appends `text` with `\` and control bytes escaped: `\\`, `\n`, `\t`, `\ooo`.
pub fn escape(out: &mut Vec<u8>, text: &[u8]) {
    escape_also(out, text, b"");
}

/// As [`escape`], with the bytes in `also` as `\ooo`.
fn escape_also(out: &mut Vec<u8>, text: &[u8], also: &[u8]) {
    for &c in text {
        match c {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            c if c < 0x20 || c == 0x7f || also.contains(&c) => {
                out.extend_from_slice(&[b'\\', b'0' + (c >> 6), b'0' + (c >> 3 & 7), b'0' + (c & 7)]);
            }
            c => out.push(c),
        }
    }
}

/// The bytes that [`escape`] made `text` from; `None` if it is no such text.
pub fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    while let Some((&c, rest)) = text.split_first() {
        text = rest;
        if c != b'\\' {
            out.push(c);
            continue;
        }
        let (byte, length) = match rest {
            [b'\\', ..] => (b'\\', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), 3)
            }
            _ => return None,
        };
        out.push(byte);
        text = &rest[length..];
    }
    Some(out)
}

/// Appends the line of a record, with its end.
pub fn write_record(out: &mut Vec<u8>, record: &Record) {
    let Record { kind, mode, uid, gid, size, mtime, ctime, inode, .. } = record;
    out.extend_from_slice(&[kind_letter(*kind), b'\t']);
    octal(out, *mode);
    for number in [u64::from(*uid), u64::from(*gid), *size] {
        out.push(b'\t');
        write_u64(out, number);
    }
    for time in [mtime, ctime] {
        out.push(b'\t');
        time.write(out);
    }
    out.push(b'\t');
    write_u64(out, *inode);
    out.push(b'\t');
    if let Some((device, inode)) = record.link {
        numbers(out, b'.', &[device, inode]);
    }
    out.push(b'\t');
    flags(out, record.flags);
    out.push(b'\t');
    if let Some(hash) = &record.hash {
        let at = out.len();
        out.resize(at + 32, 0);
        HEXLOWER.encode_mut(hash, &mut out[at..]);
    }
    out.push(b'\t');
    if let Some(Place { pack, part, frame_offset, frames_length, member_offset }) = record.place {
        numbers(out, b':', &[u64::from(pack), u64::from(part), frame_offset, frames_length, member_offset]);
    }
    out.push(b'\t');
    extra(out, record);
    out.push(b'\t');
    escape(out, &record.target);
    out.push(b'\t');
    escape(out, &record.path);
    out.push(b'\n');
}

/// Attributes and device numbers, `;`-separated. A name's own `;` and `=` are escaped, so that both separate.
fn extra(out: &mut Vec<u8>, record: &Record) {
    let mut separator: &[u8] = b"";
    for (name, value) in &record.xattrs {
        out.extend_from_slice(separator);
        out.extend_from_slice(b"x.");
        escape_also(out, name, b";=");
        out.push(b'=');
        let at = out.len();
        out.resize(at + BASE64.encode_len(value.len()), 0);
        BASE64.encode_mut(value, &mut out[at..]);
        separator = b";";
    }
    if let Some((major, minor)) = record.device {
        out.extend_from_slice(separator);
        out.extend_from_slice(b"dev=");
        numbers(out, b',', &[u64::from(major), u64::from(minor)]);
    }
}

fn numbers(out: &mut Vec<u8>, separator: u8, values: &[u64]) {
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(separator);
        }
        write_u64(out, *value);
    }
}

fn octal(out: &mut Vec<u8>, mode: u32) {
    let digits = (mode.checked_ilog2().unwrap_or(0) / 3 + 1).max(1);
    out.extend((0..digits).rev().map(|digit| b'0' + (mode >> (3 * digit) & 7) as u8));
}

const KINDS: [(u8, EntryKind); 6] = [
    (b'f', EntryKind::File),
    (b'd', EntryKind::Directory),
    (b'l', EntryKind::Symlink),
    (b'p', EntryKind::Fifo),
    (b'c', EntryKind::CharDevice),
    (b'b', EntryKind::BlockDevice),
];

fn kind_letter(kind: EntryKind) -> u8 {
    KINDS.iter().find(|(_, k)| *k == kind).map_or(b'?', |(letter, _)| *letter)
}

fn flags(out: &mut Vec<u8>, flags: Flags) {
    let Flags { racy, changed, stale, unreadable, sparse } = flags;
    let all = [(racy, b'r'), (changed, b'c'), (stale, b's'), (unreadable, b'e'), (sparse, b'z')];
    out.extend(all.iter().filter(|(set, _)| *set).map(|(_, letter)| letter));
}

/// Reads the line of a record, without its end. Says which field is wrong.
///
/// # Errors
/// The name of the field.
pub fn parse_record(line: &[u8]) -> Result<Record, &'static str> {
    let mut fields = [&b""[..]; FIELDS];
    let mut parts = line.split(|&c| c == b'\t');
    for field in &mut fields {
        *field = parts.next().ok_or("too few fields")?;
    }
    if parts.next().is_some() {
        return Err("too many fields");
    }
    let [kind, mode, uid, gid, size, mtime, ctime, inode, link, flags, hash, place, extra, target, path] =
        fields;
    let mut record = Record {
        kind: parse_kind(kind).ok_or("type")?,
        mode: parse_octal(mode).ok_or("mode")?,
        uid: parse_u32(uid).ok_or("uid")?,
        gid: parse_u32(gid).ok_or("gid")?,
        size: parse_u64(size).ok_or("size")?,
        mtime: FileTime::parse(mtime).ok_or("mtime")?,
        ctime: FileTime::parse(ctime).ok_or("ctime")?,
        inode: parse_u64(inode).ok_or("ino")?,
        link: optional(link, parse_link).ok_or("link")?,
        flags: parse_flags(flags).ok_or("flags")?,
        hash: optional(hash, parse_hash).ok_or("hash")?,
        place: optional(place, parse_place).ok_or("loc")?,
        xattrs: Vec::new(),
        device: None,
        target: unescape(target).ok_or("target")?,
        path: unescape(path).filter(|path| !path.is_empty()).ok_or("path")?,
    };
    parse_extra(extra, &mut record).ok_or("extra")?;
    Ok(record)
}

/// An empty field is an absent value; `None` is a wrong one.
fn optional<T>(field: &[u8], parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<Option<T>> {
    if field.is_empty() { Some(None) } else { parse(field).map(Some) }
}

fn parse_kind(field: &[u8]) -> Option<EntryKind> {
    KINDS.iter().find(|(letter, _)| field == [*letter]).map(|(_, kind)| *kind)
}

fn parse_u32(field: &[u8]) -> Option<u32> {
    parse_u64(field)?.try_into().ok()
}

fn parse_octal(field: &[u8]) -> Option<u32> {
    let digit = |c: &u8| matches!(c, b'0'..=b'7').then(|| u32::from(c - b'0'));
    let short = (1..=4).contains(&field.len());
    short.then(|| field.iter().try_fold(0, |sum, c| Some(sum << 3 | digit(c)?)))?
}

/// Exactly `N` numbers.
fn parse_numbers<const N: usize>(field: &[u8], separator: u8) -> Option<[u64; N]> {
    let mut parts = field.split(|&c| c == separator);
    let mut out = [0; N];
    for value in &mut out {
        *value = parse_u64(parts.next()?)?;
    }
    parts.next().is_none().then_some(out)
}

fn parse_link(field: &[u8]) -> Option<(u64, u64)> {
    parse_numbers(field, b'.').map(|[device, inode]| (device, inode))
}

fn parse_hash(field: &[u8]) -> Option<[u8; 16]> {
    HEXLOWER.decode(field).ok()?.try_into().ok()
}

fn parse_place(field: &[u8]) -> Option<Place> {
    let [pack, part, frame_offset, frames_length, member_offset] = parse_numbers(field, b':')?;
    let (pack, part) = (pack.try_into().ok()?, part.try_into().ok()?);
    Some(Place { pack, part, frame_offset, frames_length, member_offset })
}

fn parse_flags(field: &[u8]) -> Option<Flags> {
    let mut flags = Flags::default();
    for letter in field {
        let flag = match letter {
            b'r' => &mut flags.racy,
            b'c' => &mut flags.changed,
            b's' => &mut flags.stale,
            b'e' => &mut flags.unreadable,
            b'z' => &mut flags.sparse,
            _ => return None,
        };
        *flag = true;
    }
    Some(flags)
}

fn parse_extra(field: &[u8], record: &mut Record) -> Option<()> {
    for item in field.split(|&c| c == b';').filter(|item| !item.is_empty()) {
        let equals = item.iter().position(|&c| c == b'=')?;
        let (key, value) = (&item[..equals], &item[equals + 1..]);
        if let Some(name) = key.strip_prefix(b"x.") {
            record.xattrs.push((unescape(name)?, BASE64.decode(value).ok()?));
        } else if key == b"dev" {
            let [major, minor] = parse_numbers(value, b',')?;
            record.device = Some((major.try_into().ok()?, minor.try_into().ok()?));
        }
        // Other keys are for later versions of this format: they add, and never change what is here.
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_time() -> impl Strategy<Value = FileTime> {
        (-i64::MAX / 2..i64::MAX / 2, 0_u32..1_000_000_000)
            .prop_map(|(seconds, nanos)| FileTime { seconds, nanos })
    }

    fn any_flags() -> impl Strategy<Value = Flags> {
        any::<[bool; 5]>().prop_map(|[racy, changed, stale, unreadable, sparse]| Flags {
            racy,
            changed,
            stale,
            unreadable,
            sparse,
        })
    }

    fn any_place() -> impl Strategy<Value = Place> {
        any::<(u32, u32, u64, u64, u64)>().prop_map(
            |(pack, part, frame_offset, frames_length, member_offset)| Place {
                pack,
                part,
                frame_offset,
                frames_length,
                member_offset,
            },
        )
    }

    pub(in crate::storage::index) fn any_record() -> impl Strategy<Value = Record> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let path = prop::collection::vec(any::<u8>(), 1..80);
        let kind = prop::sample::select(KINDS.map(|(_, kind)| kind).to_vec());
        let xattrs = prop::collection::vec((bytes(), bytes()), 0..3);
        let stat = (
            kind,
            0_u32..=0o7777,
            any::<u32>(),
            any::<u32>(),
            any::<u64>(),
            any_time(),
            any_time(),
            any::<u64>(),
        );
        let rest = (
            any::<Option<(u64, u64)>>(),
            any_flags(),
            any::<Option<[u8; 16]>>(),
            prop::option::of(any_place()),
        );
        (stat, rest, xattrs, any::<Option<(u32, u32)>>(), bytes(), path).prop_map(
            |(stat, rest, xattrs, device, target, path)| {
                let (kind, mode, uid, gid, size, mtime, ctime, inode) = stat;
                let (link, flags, hash, place) = rest;
                Record {
                    kind,
                    mode,
                    uid,
                    gid,
                    size,
                    mtime,
                    ctime,
                    inode,
                    link,
                    flags,
                    hash,
                    place,
                    xattrs,
                    device,
                    target,
                    path,
                }
            },
        )
    }

    #[test]
    fn lines_look_as_the_format_says() {
        let mut record = Record {
            kind: EntryKind::File,
            mode: 0o4755,
            uid: 0,
            gid: 1000,
            size: 12,
            mtime: FileTime { seconds: -1, nanos: 500_000_000 },
            ctime: FileTime { seconds: 1_764_028_800, nanos: 7 },
            inode: 42,
            link: Some((2049, 42)),
            flags: Flags { racy: true, sparse: true, ..Flags::default() },
            hash: Some([0xab; 16]),
            place: Some(Place {
                pack: 0,
                part: 3,
                frame_offset: 100,
                frames_length: 2000,
                member_offset: 512,
            }),
            xattrs: vec![(b"user.a;b=c".to_vec(), b"red".to_vec()), (b"user.e".to_vec(), vec![])],
            device: None,
            target: Vec::new(),
            path: b"./tab\t back\\ line\n bell\x07 \xff".to_vec(),
        };
        let mut line = Vec::new();
        write_record(&mut line, &record);
        let expected = [
            &b"f\t4755\t0\t1000\t12\t-0.500000000\t1764028800.000000007\t42\t2049.42\trz\t"[..],
            b"abababababababababababababababab\t0:3:100:2000:512\tx.user.a\\073b\\075c=cmVk;x.user.e=\t\t",
            b"./tab\\t back\\\\ line\\n bell\\007 \xff\n",
        ];
        assert_eq!(line, expected.concat());
        record.kind = EntryKind::CharDevice;
        (record.device, record.mode, record.xattrs) = (Some((5, 1)), 0, vec![]);
        line.clear();
        write_record(&mut line, &record);
        assert!(line.starts_with(b"c\t0\t"));
        assert!(line.windows(9).any(|w| w == b"\tdev=5,1\t"));
    }

    #[test]
    fn the_order_is_depth_first() {
        let sorted = [
            "./", "./a", "./a/", "./a/b", "./a/b/", "./a/b/c", "./a/c", "./a\u{1}", "./a b", "./a.txt", "./b",
        ];
        for pair in sorted.windows(2) {
            let (a, b) = (pair[0].as_bytes(), pair[1].as_bytes());
            assert_eq!(path_order(a, b), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn wrong_lines_say_which_field() {
        let good = "f\t644\t0\t0\t1\t1.0\t1.0\t1\t\t\t\t0:0:0:1:0\t\t\t./a";
        assert!(parse_record(good.as_bytes()).is_ok());
        for (field, value, expected) in [
            (0, "x", "type"),
            (1, "8", "mode"),
            (1, "17777", "mode"),
            (2, "-1", "uid"),
            (3, "4294967296", "gid"),
            (4, "", "size"),
            (5, "1.", "mtime"),
            (6, "+1.0", "ctime"),
            (7, "18446744073709551616", "ino"),
            (8, "1", "link"),
            (9, "q", "flags"),
            (10, "ab", "hash"),
            (11, "0:0:0:1", "loc"),
            (12, "x.a=*", "extra"),
            (12, "novalue", "extra"),
            (13, "\\", "target"),
            (14, "\\400", "path"),
            (14, "", "path"),
        ] {
            let mut fields: Vec<_> = good.split('\t').collect();
            fields[field] = value;
            assert_eq!(parse_record(fields.join("\t").as_bytes()), Err(expected), "{value:?}");
        }
        assert_eq!(parse_record(b"f\t644"), Err("too few fields"));
        assert_eq!(parse_record(format!("{good}\t").as_bytes()), Err("too many fields"));
    }

    proptest! {
        #[test]
        fn records_round_trip(record in any_record()) {
            let mut line = Vec::new();
            write_record(&mut line, &record);
            let body = line.strip_suffix(b"\n").unwrap();
            prop_assert!(!body.iter().any(|&c| c < 0x20 && c != b'\t'));
            prop_assert_eq!(parse_record(body), Ok(record));
        }

        #[test]
        fn hostile_lines_never_panic(record in any_record(), at: prop::sample::Index, byte: u8, noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut line = Vec::new();
            write_record(&mut line, &record);
            let at = at.index(line.len());
            line[at] = byte;
            let _ = parse_record(&line);
            let _ = parse_record(&noise);
        }

        #[test]
        fn escaping_round_trips(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = Vec::new();
            escape(&mut out, &text);
            prop_assert_eq!(unescape(&out), Some(text));
        }
    }
}
