//! Pax records, `<length> <keyword>=<value>\n`: written and read by their length.

use crate::storage::index::record::{FileTime, parse_u64, write_u64};

/// Appends a record whose value is `parts`, one after the other.
pub(super) fn record(out: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = keyword.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).ilog10() as usize + 1 > digits {
        digits += 1;
    }
    write_u64(out, (rest + digits) as u64);
    out.push(b' ');
    out.extend_from_slice(keyword);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Takes one record off the front of `rest`: keyword and value.
pub(super) fn take<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8]), &'static str> {
    const WRONG: &str = "a pax record is malformed";
    let space = rest.iter().take(12).position(|&c| c == b' ').ok_or(WRONG)?;
    let length = parse_u64(&rest[..space]).and_then(|n| usize::try_from(n).ok()).ok_or(WRONG)?;
    let whole = rest.get(..length).ok_or(WRONG)?;
    let body = whole.get(space + 1..).and_then(|body| body.strip_suffix(b"\n")).ok_or(WRONG)?;
    let equals = body.iter().position(|&c| c == b'=').ok_or(WRONG)?;
    *rest = &rest[length..];
    Ok((&body[..equals], &body[equals + 1..]))
}

/// The records of one pax header that this format knows; others are passed over, as pax demands.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub path: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<FileTime>,
    /// Size of a sparse file, holes included; its path and format version came with it.
    pub real_size: Option<u64>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Values {
    /// Reads a whole header.
    pub(super) fn parse(mut rest: &[u8]) -> Result<Self, &'static str> {
        let mut values = Self::default();
        let number = |value: &[u8]| parse_u64(value).map(Some).ok_or("a pax record is not a number");
        while !rest.is_empty() {
            let (keyword, value) = take(&mut rest)?;
            match keyword {
                b"path" | b"GNU.sparse.name" => values.path = Some(value.to_vec()),
                b"linkpath" => values.target = Some(value.to_vec()),
                b"size" => values.size = number(value)?,
                b"uid" => values.uid = number(value)?,
                b"gid" => values.gid = number(value)?,
                b"mtime" => values.mtime = Some(FileTime::parse(value).ok_or("a pax time is malformed")?),
                b"GNU.sparse.realsize" => values.real_size = number(value)?,
                b"GNU.sparse.major" if value != b"1" => return Err("a sparse format other than 1.0"),
                b"GNU.sparse.minor" if value != b"0" => return Err("a sparse format other than 1.0"),
                _ => {
                    if let Some(name) = keyword.strip_prefix(XATTR) {
                        values.xattrs.push((xattr_name(name), value.to_vec()));
                    }
                }
            }
        }
        Ok(values)
    }
}

/// Keyword prefix of an extended attribute.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Appends the keyword of an attribute. GNU tar escapes `%` and `=`, which would end the keyword.
pub(super) fn xattr_keyword(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(XATTR);
    for &c in name {
        match c {
            b'%' => out.extend_from_slice(b"%25"),
            b'=' => out.extend_from_slice(b"%3D"),
            c => out.push(c),
        }
    }
}

/// The attribute's name from the keyword after [`XATTR`].
pub(super) fn xattr_name(mut escaped: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(escaped.len());
    while let Some((&first, rest)) = escaped.split_first() {
        let (byte, rest) = match escaped {
            [b'%', b'2', b'5', rest @ ..] => (b'%', rest),
            [b'%', b'3', b'D', rest @ ..] => (b'=', rest),
            _ => (first, rest),
        };
        name.push(byte);
        escaped = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_their_own_digits() {
        for length in [0, 1, 3, 4, 5, 85, 86, 87, 88, 980, 990, 1000, 9990, 10_000] {
            let mut out = Vec::new();
            record(&mut out, b"path", &vec![b'\n'; length]);
            let mut rest = &out[..];
            assert_eq!(take(&mut rest), Ok((&b"path"[..], &vec![b'\n'; length][..])), "{length}");
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in ["", "5", "4 a=\n", "99 a=b\n", "7 a=bcd", "6 abc\n", "-6 a=b\n", "0 a=b\n", " a=b\n"] {
            assert!(take(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
