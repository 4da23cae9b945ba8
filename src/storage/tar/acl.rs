//! Access control lists as text. GNU tar and bsdtar restore `SCHILY.acl.*` records and pass over the raw attribute.

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The pax keyword for an attribute that is a list; `None` for any other.
pub(super) fn keyword(attribute: &[u8]) -> Option<&'static [u8]> {
    match attribute {
        ACCESS => Some(b"SCHILY.acl.access"),
        DEFAULT => Some(b"SCHILY.acl.default"),
        _ => None,
    }
}

/// The text of a raw list: the kernel's version 2, four bytes of version and eight an entry, little endian (Linux,
/// `posix_acl_xattr.h`). `None` for anything else.
pub(super) fn text(raw: &[u8]) -> Option<String> {
    let entries = raw.strip_prefix(&[2, 0, 0, 0])?;
    let chunks = entries.chunks_exact(8);
    let texts: Option<Vec<_>> = chunks.remainder().is_empty().then(|| chunks.map(entry).collect())?;
    texts.map(|texts| texts.join(","))
}

fn entry(raw: &[u8]) -> Option<String> {
    let [tag, 0, permissions, 0, id @ ..] = raw else { return None };
    let id = u32::from_le_bytes(id.try_into().ok()?);
    let who = match tag {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{id}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{id}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let letter = |bit: u8, letter: char| if permissions & bit != 0 { letter } else { '-' };
    Some(format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_as_setfacl_writes_them() {
        let raw = [
            &[2, 0, 0, 0][..],
            &[1, 0, 6, 0, 255, 255, 255, 255],
            &[2, 0, 5, 0, 0xe9, 3, 0, 0],
            &[4, 0, 4, 0, 255, 255, 255, 255],
            &[8, 0, 7, 0, 0, 0, 0, 1],
            &[16, 0, 4, 0, 255, 255, 255, 255],
            &[32, 0, 0, 0, 255, 255, 255, 255],
        ];
        assert_eq!(
            text(&raw.concat()).unwrap(),
            "user::rw-,user:1001:r-x,group::r--,group:16777216:rwx,mask::r--,other::---"
        );
        for bad in [&b""[..], &[1, 0, 0, 0], &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(text(bad), None);
        }
    }
}
