//! One ustar header block: fixed fields, numbers in octal, a checksum.

use super::BLOCK;

/// Largest number of an 11-digit octal field: 8 GiB − 1.
pub(super) const MAX_OCTAL_11: u64 = 0o777_7777_7777;
/// Largest number of a 7-digit octal field.
pub(super) const MAX_OCTAL_7: u64 = 0o777_7777;

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..265;
const MAJOR: std::ops::Range<usize> = 329..337;
const MINOR: std::ops::Range<usize> = 337..345;
const PREFIX: std::ops::Range<usize> = 345..500;

/// The fields of a header block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub name: &'a [u8],
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: u64,
    pub kind: u8,
    pub link: &'a [u8],
    pub device: (u32, u32),
}

/// Appends a header block. Names are cut at 100 bytes: the pax records before carry longer ones.
pub(super) fn write(out: &mut Vec<u8>, fields: &Fields<'_>) {
    let mut block = [0_u8; BLOCK];
    text(&mut block[NAME], fields.name);
    number(&mut block[MODE], u64::from(fields.mode));
    number(&mut block[UID], fields.uid);
    number(&mut block[GID], fields.gid);
    number(&mut block[SIZE], fields.size);
    number(&mut block[MTIME], fields.mtime);
    block[TYPE] = fields.kind;
    text(&mut block[LINK], fields.link);
    block[MAGIC].copy_from_slice(b"ustar\x0000");
    number(&mut block[MAJOR], u64::from(fields.device.0));
    number(&mut block[MINOR], u64::from(fields.device.1));
    let sum = checksum(&block);
    octal(&mut block[CHECKSUM.start..CHECKSUM.end - 1], u64::from(sum));
    block[CHECKSUM.end - 1] = b' ';
    out.extend_from_slice(&block);
}

/// The fields of a block, or why it is no header of ours.
pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Fields<'_>, &'static str> {
    let stored = read_number(&block[CHECKSUM]).ok_or("the header's checksum is not a number")?;
    if stored != u64::from(checksum(block)) {
        return Err("the header's checksum is wrong");
    }
    if &block[MAGIC] != b"ustar\x0000" || block[PREFIX].iter().any(|&c| c != 0) {
        return Err("not a header of this format");
    }
    let small = |range| read_number(&block[range]).and_then(|n| u32::try_from(n).ok());
    Ok(Fields {
        name: until_nul(&block[NAME]),
        mode: small(MODE).filter(|mode| *mode <= 0o7777).ok_or("the mode is not a number up to 7777")?,
        uid: read_number(&block[UID]).ok_or("the owner is not a number")?,
        gid: read_number(&block[GID]).ok_or("the group is not a number")?,
        size: read_number(&block[SIZE]).ok_or("the size is not a number")?,
        mtime: read_number(&block[MTIME]).ok_or("the time is not a number")?,
        kind: block[TYPE],
        link: until_nul(&block[LINK]),
        device: (
            small(MAJOR).ok_or("the device is not a number")?,
            small(MINOR).ok_or("the device is not a number")?,
        ),
    })
}

/// The sum of all bytes, those of the checksum itself taken as spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let all: u32 = block.iter().map(|&c| u32::from(c)).sum();
    let own: u32 = block[CHECKSUM].iter().map(|&c| u32::from(c)).sum();
    all - own + CHECKSUM.len() as u32 * u32::from(b' ')
}

fn text(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// Octal digits and a NUL; a number too large for them in GNU's base 256, which every reader of today knows.
fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    if value >> (3 * digits) == 0 {
        return octal(field, value);
    }
    field.fill(0);
    let bytes = value.to_be_bytes();
    let room = field.len() - 1;
    let (skip, at) = (bytes.len().saturating_sub(room), room.saturating_sub(bytes.len()) + 1);
    field[at..].copy_from_slice(&bytes[skip..]);
    field[0] = 0x80;
}

fn octal(field: &mut [u8], mut value: u64) {
    let (digits, end) = field.split_at_mut(field.len() - 1);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    end[0] = 0;
}

fn read_number(field: &[u8]) -> Option<u64> {
    if field[0] == 0x80 {
        return field[1..]
            .iter()
            .try_fold(0_u64, |sum, &c| (sum >> 56 == 0).then(|| (sum << 8) | u64::from(c)));
    }
    let digits = field.split(|&c| c == 0 || c == b' ').next().filter(|digits| !digits.is_empty())?;
    // At most 12 digits of 3 bits.
    digits
        .iter()
        .try_fold(0_u64, |sum, &c| matches!(c, b'0'..=b'7').then(|| (sum << 3) | u64::from(c - b'0')))
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&c| c == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_size_round_trip() {
        for width in [8, 12] {
            for value in [0, 1, 0o777_7777, 0o1000_0000, MAX_OCTAL_11, 1 << 33, (1 << 40) + 5] {
                let mut field = vec![0xff; width];
                number(&mut field, value);
                assert_eq!(read_number(&field), Some(value), "{value} in {width}");
            }
        }
        let mut field = vec![0; 12];
        number(&mut field, u64::MAX);
        assert_eq!(read_number(&field), Some(u64::MAX));
    }
}
