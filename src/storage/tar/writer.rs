//! Headers of members, appended to a buffer; the caller adds payload and padding.

use super::{Member, MemberKind, acl, block, pax, sparse};

/// The end of an archive: two zero blocks.
pub const END: [u8; 2 * super::BLOCK] = [0; 2 * super::BLOCK];

/// Name of a pax header's own block, and of a sparse file's: seen only by readers that do not know pax.
const PAX_NAME: &[u8] = b"./@PaxHeader";
const SPARSE_NAME: &[u8] = b"./GNUSparseFile.0/data";

/// Buffers that are used again for each member.
#[derive(Debug, Default)]
pub struct HeaderWriter {
    records: Vec<u8>,
    keyword: Vec<u8>,
    map: Vec<u8>,
}

impl HeaderWriter {
    /// Appends everything of `member` up to its content: the pax header if one is needed, the ustar header, the map of
    /// a sparse file. [`Member::payload`] bytes and [`super::padding`] must follow.
    pub fn append(&mut self, out: &mut Vec<u8>, member: &Member<'_>) {
        self.map.clear();
        if let Some(extents) = &member.extents {
            sparse::write_map(&mut self.map, extents, member.size);
        }
        let stored =
            if member.kind == MemberKind::File { self.map.len() as u64 + member.payload() } else { 0 };
        self.collect(member, stored);
        if !self.records.is_empty() {
            let fields = block::Fields { kind: b'x', size: self.records.len() as u64, ..plain(PAX_NAME) };
            block::write(out, &fields);
            out.extend_from_slice(&self.records);
            out.resize(out.len() + super::padding(self.records.len() as u64), 0);
        }
        let name = if member.extents.is_some() { SPARSE_NAME } else { stand_in(&member.path) };
        let fields = block::Fields {
            name,
            mode: member.mode & 0o7777,
            uid: u64::from(member.uid),
            gid: u64::from(member.gid),
            size: stored,
            mtime: u64::try_from(member.mtime.seconds).unwrap_or(0).min(block::MAX_OCTAL_11),
            kind: type_flag(member.kind),
            link: &member.target,
            device: member.device.unwrap_or_default(),
        };
        block::write(out, &fields);
        out.extend_from_slice(&self.map);
    }

    /// The pax records of what the ustar header cannot say.
    fn collect(&mut self, member: &Member<'_>, stored: u64) {
        let records = &mut self.records;
        records.clear();
        let sparse = member.extents.is_some();
        let path = sparse || is_long(&member.path);
        let target = is_long(&member.target);
        // Without it bsdtar takes a pax name for Unicode and composes it, so that `e` + U+0301 becomes `é`.
        if (path && !member.path.is_ascii()) || (target && !member.target.is_ascii()) {
            pax::record(records, b"hdrcharset", b"BINARY");
        }
        if sparse {
            pax::record(records, b"GNU.sparse.major", b"1");
            pax::record(records, b"GNU.sparse.minor", b"0");
            pax::record(records, b"GNU.sparse.name", &member.path);
            number(records, b"GNU.sparse.realsize", member.size, 0);
        } else if path {
            pax::record(records, b"path", &member.path);
        }
        if target {
            pax::record(records, b"linkpath", &member.target);
        }
        if member.mtime.nanos != 0 || !(0..=block::MAX_OCTAL_11 as i64).contains(&member.mtime.seconds) {
            self.keyword.clear();
            member.mtime.write(&mut self.keyword);
            pax::record(records, b"mtime", &self.keyword);
        }
        number(records, b"size", stored, block::MAX_OCTAL_11 + 1);
        number(records, b"uid", u64::from(member.uid), block::MAX_OCTAL_7 + 1);
        number(records, b"gid", u64::from(member.gid), block::MAX_OCTAL_7 + 1);
        for (name, value) in member.xattrs.iter() {
            self.keyword.clear();
            pax::xattr_keyword(&mut self.keyword, name);
            pax::record(records, &self.keyword, value);
            if let Some((keyword, text)) = acl::keyword(name).zip(acl::text(value)) {
                pax::record(records, keyword, text.as_bytes());
            }
        }
    }
}

/// A record of a number, if it is at least `from`.
fn number(records: &mut Vec<u8>, keyword: &[u8], value: u64, from: u64) {
    if value >= from {
        pax::record(records, keyword, value.to_string().as_bytes());
    }
}

/// True for a name that needs a pax record. A short one is best in the header, where every reader takes its bytes as
/// they are.
fn is_long(name: &[u8]) -> bool {
    name.len() > 100
}

/// What stands in the ustar header: the name, cut so that no reader takes a file for a directory by its last `/`.
fn stand_in(path: &[u8]) -> &[u8] {
    if path.len() <= 100 {
        return path;
    }
    let cut = &path[..100];
    let end = cut.iter().rposition(|&c| c != b'/').map_or(0, |at| at + 1);
    &cut[..end]
}

fn plain(name: &[u8]) -> block::Fields<'_> {
    let (mode, mtime, link, device) = (0o644, 0, &b""[..], (0, 0));
    block::Fields { name, mode, uid: 0, gid: 0, size: 0, mtime, kind: 0, link, device }
}

fn type_flag(kind: MemberKind) -> u8 {
    match kind {
        MemberKind::File => b'0',
        MemberKind::HardLink => b'1',
        MemberKind::Symlink => b'2',
        MemberKind::CharDevice => b'3',
        MemberKind::BlockDevice => b'4',
        MemberKind::Directory => b'5',
        MemberKind::Fifo => b'6',
    }
}
