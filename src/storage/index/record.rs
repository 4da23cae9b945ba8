//! One entry of an index, as a value. Its text form is `codec`'s.

/// A moment as file systems keep it: seconds since 1970, negative before, and 0 to 999,999,999 nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

impl FileTime {
    /// Appends the decimal number of seconds with nine places: `-0.500000000` is half a second before 1970.
    pub fn write(self, out: &mut Vec<u8>) {
        let negative = self.seconds < 0 && self.nanos > 0;
        let (seconds, nanos) = if negative {
            (self.seconds + 1, 1_000_000_000 - self.nanos)
        } else {
            (self.seconds, self.nanos)
        };
        if negative && seconds == 0 {
            out.push(b'-');
        }
        write_i64(out, seconds);
        out.push(b'.');
        let digits = (0..9).rev().map(|power| b'0' + (nanos / 10_u32.pow(power) % 10) as u8);
        out.extend(digits);
    }

    /// Reads a decimal number with an optional sign and at most nine places; more places are cut off. `None` for
    /// anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let dot = digits.iter().position(|&c| c == b'.');
        let (whole, places) = dot.map_or((digits, &b""[..]), |at| (&digits[..at], &digits[at + 1..]));
        let whole = i64::try_from(parse_u64(whole)?).ok()?;
        if !places.iter().all(u8::is_ascii_digit) || (dot.is_some() && places.is_empty()) {
            return None;
        }
        let nanos = (0..9).fold(0_u32, |sum, i| sum * 10 + places.get(i).map_or(0, |c| u32::from(c - b'0')));
        Some(match (negative, nanos) {
            (false, _) => Self { seconds: whole, nanos },
            (true, 0) => Self { seconds: -whole, nanos },
            (true, _) => Self { seconds: -whole - 1, nanos: 1_000_000_000 - nanos },
        })
    }
}

/// Appends `value` in decimal, without the detour through a formatter: an index has ten numbers a record.
pub(crate) fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_i64(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    write_u64(out, value.unsigned_abs());
}

/// A decimal number of digits alone; `None` for anything else, or more than 64 bits.
pub(crate) fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, &c| {
        let digit = c.is_ascii_digit().then(|| u64::from(c - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// `f`
    File,
    /// `d`
    Directory,
    /// `l`
    Symlink,
    /// `p`
    Fifo,
    /// `c`
    CharDevice,
    /// `b`
    BlockDevice,
}

/// What is special about an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `r`: its ctime is too near to the reading to prove later that it did not change.
    pub racy: bool,
    /// `c`: it changed while it was read.
    pub changed: bool,
    /// `s`: it could not be read; older content is kept.
    pub stale: bool,
    /// `e`: it could not be read, and there is no content.
    pub unreadable: bool,
    /// `z`: sparse; the stored payload is the data extents only.
    pub sparse: bool,
}

/// Where a member lies: `pack:part:coff:clen:foff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the pack in this index's `#pack` lines.
    pub pack: u32,
    /// Number of the part, from 0.
    pub part: u32,
    /// Offset of the first frame in the part's zstd bytes.
    pub frame_offset: u64,
    /// Zstd bytes from there to the end of the last frame needed, skippable frames included; may run into later parts.
    pub frames_length: u64,
    /// Offset of the member's first header in the first frame, decoded.
    pub member_offset: u64,
}

/// One entry of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file as `stat` says, holes included; of anything else 0.
    pub size: u64,
    /// Last change of the content.
    pub mtime: FileTime,
    /// Last change of the inode.
    pub ctime: FileTime,
    /// Inode number.
    pub inode: u64,
    /// `(device, inode)` of a file with more than one name: equal on all its names.
    pub link: Option<(u64, u64)>,
    /// What is special.
    pub flags: Flags,
    /// First 128 bits of the BLAKE3 of a file's stored payload.
    pub hash: Option<[u8; 16]>,
    /// Where it lies; `None` only for an unreadable one.
    pub place: Option<Place>,
    /// Extended attributes by full name (`user.color`), raw values; ACLs as `system.posix_acl_access` and `…_default`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `(major, minor)` of a device.
    pub device: Option<(u32, u32)>,
    /// Target of a symlink, raw.
    pub target: Vec<u8>,
    /// Path as in the tar: `./` the root, `./a/b`, directories end in `/`. Raw bytes.
    pub path: Vec<u8>,
}
