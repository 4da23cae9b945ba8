//! The text of a parts list.
//!
//! ```text
//! object⇥zstd bytes⇥stored bytes⇥age header bytes⇥blake3⇥hashname:native      one line a part
//! #end⇥count⇥blake3 of the lines above
//! ```

/// One line of a parts list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    /// Object name in the pack's directory.
    pub object: String,
    /// Bytes of zstd.
    pub zstd_bytes: u64,
    /// Bytes of the object.
    pub stored_bytes: u64,
    /// Bytes of the age header; 0 without encryption.
    pub age_header_bytes: u64,
    /// BLAKE3-256 of the object, hex.
    pub blake3: String,
    /// `md5:<hex>`, `sha1:<hex>`, `sha256:<hex>`, or empty where the backend has none.
    pub native: String,
}

/// Parts in one list; a longer pack has several.
pub(super) const PARTS_PER_LIST: usize = 10_000;

/// The list of these parts.
pub(super) fn write<'a>(records: impl IntoIterator<Item = &'a PartRecord>) -> String {
    let mut text = String::new();
    let mut count = 0u64;
    for record in records {
        let PartRecord { object, zstd_bytes, stored_bytes, age_header_bytes, blake3, native } = record;
        text.push_str(&format!(
            "{object}\t{zstd_bytes}\t{stored_bytes}\t{age_header_bytes}\t{blake3}\t{native}\n"
        ));
        count += 1;
    }
    let hash = blake3::hash(text.as_bytes()).to_hex();
    text.push_str(&format!("#end\t{count}\t{hash}\n"));
    text
}

/// Reads a list. Unknown lines that begin with `#` are skipped, for a later version.
///
/// # Errors
/// What is wrong, for a person.
pub(super) fn parse(text: &[u8]) -> Result<Vec<PartRecord>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    let body = text.strip_suffix('\n').ok_or("it is cut off")?;
    let (above, end) = match body.rfind('\n') {
        Some(at) => (&text[..=at], &body[at + 1..]),
        None => ("", body),
    };
    let (count, hash) =
        end.strip_prefix("#end\t").and_then(|end| end.split_once('\t')).ok_or("it is cut off")?;
    if blake3::hash(above.as_bytes()).to_hex().as_str() != hash {
        return Err("its lines are not what was written".to_owned());
    }
    let lines = above.lines().filter(|line| !line.starts_with('#'));
    let records = lines.map(parse_line).collect::<Result<Vec<_>, _>>()?;
    if count.parse() != Ok(records.len()) {
        return Err(format!("it has {} parts and should have {count}", records.len()));
    }
    Ok(records)
}

fn parse_line(line: &str) -> Result<PartRecord, String> {
    let wrong = || format!("{line:?} is not a line of a parts list");
    let [object, zstd_bytes, stored_bytes, age_header_bytes, blake3, native] =
        line.split('\t').collect::<Vec<_>>()[..]
    else {
        return Err(wrong());
    };
    // A name that could leave the pack's directory is no name of ours.
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if object.is_empty() || object.starts_with('.') || !object.bytes().all(plain) {
        return Err(wrong());
    }
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    Ok(PartRecord {
        object: object.to_owned(),
        zstd_bytes: number(zstd_bytes)?,
        stored_bytes: number(stored_bytes)?,
        age_header_bytes: number(age_header_bytes)?,
        blake3: blake3.to_owned(),
        native: native.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(object: &str, bytes: u64) -> PartRecord {
        PartRecord {
            object: object.to_owned(),
            zstd_bytes: bytes,
            stored_bytes: bytes,
            age_header_bytes: 0,
            blake3: blake3::hash(object.as_bytes()).to_hex().to_string(),
            native: "sha1:00".to_owned(),
        }
    }

    #[test]
    fn the_text_is_the_format() {
        let hash = "e0c84590fa2fc5199c8b2c4df64fc5f2d415d7c9aed5f7c2604b28662a7b1cfe";
        let text = format!("homes-0a.tar.zst.00000\t42\t42\t0\t{hash}\tsha1:00\n");
        let end = "#end\t1\tce31068a950b38efd41ef304f6636c955ed9239dc590c6106011c179c7a65825\n";
        assert_eq!(write([&record("homes-0a.tar.zst.00000", 42)]), text + end);
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for bad in ["../x", "a/b", "", ".x", "a b"] {
            assert!(parse(write([&record(bad, 1)]).as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn lists_round_trip_and_every_change_is_found(
            sizes in prop::collection::vec(any::<u64>(), 0..5), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let records: Vec<_> =
                sizes.iter().enumerate().map(|(n, &size)| record(&format!("homes-0a.tar.zst.{n:05}"), size)).collect();
            let text = write(&records).into_bytes();
            prop_assert_eq!(parse(&text).unwrap(), records);
            let at = at.index(text.len());
            prop_assert!(parse(&text[..at]).is_err());
            let mut flipped = text;
            flipped[at] ^= 1 << bit;
            prop_assert!(parse(&flipped).is_err());
        }
    }
}
