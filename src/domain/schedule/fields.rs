//! The five fields of a cron expression as sets of numbers, with `H` put in place.

use crate::domain::{
    error::Invalid,
    names::{InstanceName, PolicyName},
};

/// What a field may hold.
pub(super) struct Kind {
    /// Its name in messages.
    pub name: &'static str,
    /// Least value.
    min: u8,
    /// Greatest value; 7 stands for Sunday as 0 does.
    max: u8,
    /// Greatest value that `H` takes: what exists in every month and week.
    hash_max: u8,
    /// Names of the values, from `min` on.
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The fields in their order.
pub(super) const KINDS: [Kind; 5] = [
    Kind { name: "minute", min: 0, max: 59, hash_max: 59, names: &[] },
    Kind { name: "hour", min: 0, max: 23, hash_max: 23, names: &[] },
    Kind { name: "day of month", min: 1, max: 31, hash_max: 28, names: &[] },
    Kind { name: "month", min: 1, max: 12, hash_max: 12, names: MONTHS },
    Kind { name: "day of week", min: 0, max: 7, hash_max: 6, names: WEEKDAYS },
];

/// One field, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit n is set when n is meant.
    bits: u64,
    /// Written `*`: no restriction at all.
    pub any: bool,
    /// Written as a repetition (`*`, `*/n`, `H/n`), not as given times.
    pub repeats: bool,
}

impl Field {
    /// Whether `n` is meant.
    pub fn has(&self, n: i8) -> bool {
        self.bits.checked_shr(n.unsigned_abs().into()).is_some_and(|bits| bits & 1 == 1)
    }

    /// The least value from `n` on, which is not negative.
    pub fn first(&self, n: i8) -> Option<i8> {
        let skipped = u32::from(n.unsigned_abs());
        let bits = self.bits.checked_shr(skipped).filter(|bits| *bits != 0)?;
        i8::try_from(skipped + bits.trailing_zeros()).ok()
    }

    /// The greatest value up to `n`.
    pub fn last(&self, n: i8) -> Option<i8> {
        let above = 63u32.checked_sub(u32::try_from(n).ok()?)?;
        let bits = self.bits << above;
        (bits != 0).then(|| n - i8::try_from(bits.leading_zeros()).unwrap_or(0))
    }

    /// The values, ascending.
    pub fn values(&self) -> Vec<u8> {
        (0..64).filter(|n| self.bits >> n & 1 == 1).collect()
    }

    /// The field as plain numbers.
    pub fn canonical(&self) -> String {
        if self.any {
            return "*".to_owned();
        }
        self.values().iter().map(u8::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Where `H` falls: a stable function of the policy's identity.
///
/// The first eight bytes, little endian, of BLAKE3 over `backstay/schedule/1`, instance, policy and the field's number
/// (0 minute … 4 day of week), joined by NUL; modulo the number of choices. It must never change: schedules in use would
/// move.
pub(super) struct Spread<'a> {
    pub instance: &'a InstanceName,
    pub policy: &'a PolicyName,
}

impl Spread<'_> {
    fn pick(&self, field: usize, choices: u8) -> u8 {
        let text = format!("backstay/schedule/1\0{}\0{}\0{field}", self.instance, self.policy);
        let hash = blake3::hash(text.as_bytes());
        let first = hash.as_bytes().iter().take(8).rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        // The remainder is less than `choices`, which is a u8.
        u8::try_from(first % u64::from(choices.max(1))).unwrap_or(0)
    }
}

/// Parses field number `index`.
pub(super) fn parse(index: usize, text: &str, spread: &Spread<'_>) -> Result<Field, Invalid> {
    let kind = &KINDS[index];
    let mut field = Field { bits: 0, any: text == "*", repeats: false };
    for item in text.split(',') {
        let (from, to, step, repeats) = parse_item(index, kind, item, spread)?;
        field.repeats |= repeats;
        field.bits = (from..=to).step_by(usize::from(step)).fold(field.bits, |bits, n| bits | 1 << n);
    }
    if kind.max == 7 {
        // Sunday has two numbers.
        field.bits = (field.bits | field.bits >> 7) & 0x7f;
    }
    Ok(field)
}

/// First, last and step of one item, and whether it is a repetition.
fn parse_item(
    index: usize,
    kind: &Kind,
    item: &str,
    spread: &Spread<'_>,
) -> Result<(u8, u8, u8, bool), Invalid> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(parse_step(kind, item, step)?)),
        None => (item, None),
    };
    // Day of week 7 is only another name of 0.
    let last = if kind.max == 7 { 6 } else { kind.max };
    if range == "*" {
        return Ok((kind.min, last, step.unwrap_or(1), true));
    }
    if let Some(rest) = range.strip_prefix(['H', 'h']) {
        let (from, to) = match rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            Some(bounds) => parse_range(kind, item, bounds)?,
            None if rest.is_empty() => (kind.min, if step.is_some() { last } else { kind.hash_max }),
            None => return Err(wrong(kind, item)),
        };
        let choices = step.unwrap_or(u8::MAX).min(to - from + 1);
        let first = from + spread.pick(index, choices);
        return Ok(match step {
            Some(step) => (first, to, step, rest.is_empty()),
            None => (first, first, 1, false),
        });
    }
    match step {
        None => parse_range(kind, item, range).map(|(from, to)| (from, to, 1, false)),
        Some(step) if range.contains('-') => {
            parse_range(kind, item, range).map(|(from, to)| (from, to, step, false))
        }
        Some(step) => Err(Invalid::new(format!(
            "{} {item:?} has a step without a range: write {range}-{last}/{step}",
            kind.name
        ))),
    }
}

fn parse_step(kind: &Kind, item: &str, step: &str) -> Result<u8, Invalid> {
    let number = if step.len() <= 2 { step.parse::<u8>().ok() } else { None };
    match number {
        Some(step) if (1..=kind.max).contains(&step) => Ok(step),
        _ => Err(Invalid::new(format!("{} {item:?}: the step must be 1 to {}", kind.name, kind.max))),
    }
}

fn parse_range(kind: &Kind, item: &str, range: &str) -> Result<(u8, u8), Invalid> {
    let (from, to) = match range.split_once('-') {
        Some((from, to)) => (parse_value(kind, item, from)?, parse_value(kind, item, to)?),
        None => parse_value(kind, item, range).map(|value| (value, value))?,
    };
    // `fri-sun`: Sunday also ends a week.
    let to = if kind.max == 7 && to == 0 && from > 0 { 7 } else { to };
    if from > to {
        return Err(Invalid::new(format!(
            "{} {item:?} runs backwards: the first value must not be more than the last",
            kind.name
        )));
    }
    Ok((from, to))
}

fn parse_value(kind: &Kind, item: &str, text: &str) -> Result<u8, Invalid> {
    let named = kind.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    if let Some(position) = named.and_then(|position| u8::try_from(position).ok()) {
        return Ok(kind.min + position);
    }
    if text.is_empty() || text.len() > 2 || !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(wrong(kind, item));
    }
    match text.parse::<u8>() {
        Ok(value) if (kind.min..=kind.max).contains(&value) => Ok(value),
        _ => Err(Invalid::new(format!("{} {text:?} is outside {} to {}", kind.name, kind.min, kind.max))),
    }
}

fn wrong(kind: &Kind, item: &str) -> Invalid {
    let names = match (kind.names.first(), kind.names.last()) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        _ => String::new(),
    };
    Invalid::new(format!(
        "{} {item:?} cannot be read: write {} to {}{names}, '*', a range a-b, a step */n or a-b/n, H, H(a-b) or H/n, or several with ','",
        kind.name, kind.min, kind.max
    ))
}
