//! Every name on the remote, in one place: printed and parsed here and nowhere else.
//!
//! ```text
//! <path>/<instance>/                                            the store's root
//!   owner-<policy>-<UTC>-<site>.json                            who may write here
//!   <YYYYMMDD>/<policy>-<slot>/                                 a snapshot's directory
//!     <source>-<attempt>.tar.zst.<NNNNN>[r<k>]                  part of a pack (.archive.zst of a dump)
//!     <source>-<attempt>.parts.<NNN>[r<k>]                      list of parts
//!     <source>-<attempt>.index.zst.<NNN>[r<k>]                  index
//!     <source>-<attempt>.source[.r<k>].json                     what the attempt stored: its last object
//!     RESTORE[.r<k>].txt, manifest[.r<k>].json                  manifest last of all
//! ```
//!
//! `r<k>` is a retry: a name that an interrupted upload may have left half written is never used again.

use crate::domain::{
    error::Invalid,
    names::{AttemptId, PolicyName, Slot, SnapshotName, SourceName},
};
use jiff::Timestamp;
use std::{fmt, str::FromStr};

/// Highest retry of a document's name. A reader tries no more.
pub const MAX_DOCUMENT_RETRY: u32 = 9;

/// The snapshot's directory below the store's root: `<YYYYMMDD>/<snapshot>`.
pub fn directory(snapshot: &SnapshotName) -> String {
    format!("{}/{snapshot}", snapshot.slot().day())
}

/// Whether `name` is the directory of a day: eight digits that are a date.
pub fn is_day(name: &str) -> bool {
    name.len() == 8 && format!("{name}T000000Z").parse::<Slot>().is_ok()
}

/// `manifest.json`, or the name of a retry.
pub fn manifest(retry: u32) -> String {
    document("manifest", retry, "json")
}

/// `RESTORE.txt`, or the name of a retry.
pub fn restore_text(retry: u32) -> String {
    document("RESTORE", retry, "txt")
}

fn document(stem: &str, retry: u32, extension: &str) -> String {
    if retry == 0 { format!("{stem}.{extension}") } else { format!("{stem}.r{retry}.{extension}") }
}

/// `<source>-<attempt>`: begins the name of every object that one attempt of one source stores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The source.
    pub source: SourceName,
    /// The attempt.
    pub attempt: AttemptId,
}

impl Prefix {
    /// The source record's name, or that of a retry.
    pub fn source_record(&self, retry: u32) -> String {
        document(&format!("{self}.source"), retry, "json")
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.source, self.attempt)
    }
}

impl FromStr for Prefix {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong =
            || Invalid::new(format!("{text:?} is not an attempt of a source: expected <source>-<attempt>"));
        let (source, attempt) = text.rsplit_once('-').ok_or_else(wrong)?;
        Ok(Self {
            source: source.parse().map_err(|_| wrong())?,
            attempt: attempt.parse().map_err(|_| wrong())?,
        })
    }
}

/// Where a pack is: `<YYYYMMDD>/<snapshot>/<source>-<attempt>`, relative to the instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId {
    /// The snapshot in whose directory it lies.
    pub snapshot: SnapshotName,
    /// What its objects' names begin with.
    pub prefix: Prefix,
}

impl PackId {
    /// The directory of its objects.
    pub fn directory(&self) -> String {
        directory(&self.snapshot)
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", directory(&self.snapshot), self.prefix)
    }
}

impl FromStr for PackId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(format!(
                "{text:?} is not a pack: expected <YYYYMMDD>/<policy>-<slot>/<source>-<attempt>"
            ))
        };
        let mut pieces = text.split('/');
        let (Some(_), Some(snapshot), Some(prefix), None) =
            (pieces.next(), pieces.next(), pieces.next(), pieces.next())
        else {
            return Err(wrong());
        };
        let id = Self {
            snapshot: snapshot.parse().map_err(|_| wrong())?,
            prefix: prefix.parse().map_err(|_| wrong())?,
        };
        // Catches a day that is not the slot's: only one spelling finds the objects.
        if id.to_string() == text { Ok(id) } else { Err(wrong()) }
    }
}

/// An object in a snapshot's directory, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectName {
    /// Stored by an attempt.
    OfAttempt(Prefix, AttemptObject),
    /// How to restore by hand; which retry.
    RestoreText(u32),
    /// The manifest; which retry.
    Manifest(u32),
}

/// What an attempt's object is. In the order in which pruning deletes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptObject {
    /// A part of the pack; its number.
    Part(u32),
    /// A list of parts.
    PartsList,
    /// A piece of the index.
    Index,
    /// The source record; which retry.
    SourceRecord(u32),
}

impl ObjectName {
    /// What `name` (without a directory) is; `None` for a name that this program does not give.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(retry) = retry_of(name, "manifest", "json") {
            return Some(Self::Manifest(retry));
        }
        if let Some(retry) = retry_of(name, "RESTORE", "txt") {
            return Some(Self::RestoreText(retry));
        }
        let (prefix, rest) = name.split_once('.')?;
        let prefix: Prefix = prefix.parse().ok()?;
        if let Some(retry) = retry_of(rest, "source", "json") {
            return Some(Self::OfAttempt(prefix, AttemptObject::SourceRecord(retry)));
        }
        let (kind, number) = rest.rsplit_once('.')?;
        let number = parse_number(number)?;
        let object = match kind {
            "tar.zst" | "tar.zst.age" | "archive.zst" | "archive.zst.age" => AttemptObject::Part(number),
            "parts" => AttemptObject::PartsList,
            "index.zst" | "index.zst.age" => AttemptObject::Index,
            _ => return None,
        };
        Some(Self::OfAttempt(prefix, object))
    }
}

fn retry_of(name: &str, stem: &str, extension: &str) -> Option<u32> {
    let middle = name.strip_prefix(stem)?.strip_suffix(extension)?.strip_suffix('.')?;
    if middle.is_empty() {
        return Some(0);
    }
    let retry = middle.strip_prefix(".r")?.parse().ok()?;
    (document(stem, retry, extension) == name && retry > 0).then_some(retry)
}

/// `00012`, or `00012r3` of a retry.
fn parse_number(text: &str) -> Option<u32> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    let (number, retry) = text.split_once('r').unwrap_or((text, "0"));
    if digits(number) && digits(retry) { number.parse().ok() } else { None }
}

/// The name of an owner's claim: `owner-<policy>-<UTC>-<site>.json`. In order of precedence: earliest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimName {
    /// When it was made, whole seconds.
    pub at: Slot,
    /// Who made it: letters and digits, 1 to 64.
    pub site: String,
    /// What for.
    pub policy: PolicyName,
}

impl ClaimName {
    /// A claim of `site` at `at`.
    ///
    /// # Errors
    /// A site id with other characters than letters and digits.
    pub fn new(policy: PolicyName, at: Timestamp, site: &str) -> Result<Self, Invalid> {
        if (1..=64).contains(&site.len()) && site.bytes().all(|c| c.is_ascii_alphanumeric()) {
            return Ok(Self { at: Slot::scheduled(at), site: site.to_owned(), policy });
        }
        Err(Invalid::new(format!("{site:?} is not a site id: expected 1 to 64 letters and digits")))
    }
}

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "owner-{}-{}-{}.json", self.policy, self.at, self.site)
    }
}

impl FromStr for ClaimName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        stamped(text, "owner-", ".json").ok_or_else(|| {
            Invalid::new(format!(
                "{text:?} is not an owner's claim: expected owner-<policy>-<UTC>-<site>.json"
            ))
        })
    }
}

/// The name of a probe, which a preflight writes, reads and deletes again: `probe-<policy>-<UTC>-<site>.txt`.
pub fn probe(policy: &PolicyName, at: Timestamp, site: &str) -> String {
    format!("probe-{policy}-{}-{site}.txt", Slot::scheduled(at))
}

/// When the probe of `policy` with this name was made; `None` for any other name.
pub fn probe_time(name: &str, policy: &PolicyName) -> Option<Timestamp> {
    let parsed = stamped(name, "probe-", ".txt")?;
    (parsed.policy == *policy).then(|| parsed.at.time())
}

fn stamped(text: &str, start: &str, end: &str) -> Option<ClaimName> {
    // A policy's name has dashes, but a site id has none and a slot's spelling of 16 characters has neither.
    let (rest, site) = text.strip_prefix(start)?.strip_suffix(end)?.rsplit_once('-')?;
    let (policy, at) = rest.rsplit_once('-')?;
    ClaimName::new(policy.parse().ok()?, at.parse::<Slot>().ok()?.time(), site).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_are_known_by_their_names() {
        let prefix = || "homes-of-all-0aj3k9x00".replace('x', "v").parse::<Prefix>().unwrap();
        let of = |object| Some(ObjectName::OfAttempt(prefix(), object));
        for (name, expected) in [
            ("manifest.json", Some(ObjectName::Manifest(0))),
            ("manifest.r2.json", Some(ObjectName::Manifest(2))),
            ("manifest.r02.json", None),
            ("manifest.r0.json", None),
            ("manifest.json.bak", None),
            ("RESTORE.txt", Some(ObjectName::RestoreText(0))),
            ("restore.txt", None),
            ("homes-of-all-0aj3k9v00.tar.zst.00000", of(AttemptObject::Part(0))),
            ("homes-of-all-0aj3k9v00.tar.zst.age.00012r3", of(AttemptObject::Part(12))),
            ("homes-of-all-0aj3k9v00.archive.zst.00012", of(AttemptObject::Part(12))),
            ("homes-of-all-0aj3k9v00.parts.000", of(AttemptObject::PartsList)),
            ("homes-of-all-0aj3k9v00.index.zst.000", of(AttemptObject::Index)),
            ("homes-of-all-0aj3k9v00.source.json", of(AttemptObject::SourceRecord(0))),
            ("homes-of-all-0aj3k9v00.source.r1.json", of(AttemptObject::SourceRecord(1))),
            ("homes-of-all-0aj3k9v00.tar.zst.", None),
            ("homes-of-all-0aj3k9v00.tar.gz", None),
            ("homes-of-all-0AJ3K9V00.parts.000", None),
            ("homes.tgz", None),
            ("notes.txt", None),
        ] {
            assert_eq!(ObjectName::parse(name), expected, "{name}");
        }
    }

    #[test]
    fn a_pack_has_one_spelling() {
        let id = "20261125/nightly-20261125T020000Z-m/homes-0aj3k9v00";
        assert_eq!(id.parse::<PackId>().unwrap().to_string(), id);
        for bad in [
            "20261126/nightly-20261125T020000Z/homes-0aj3k9v00",
            "20261125/nightly-20261125T020000Z/homes-0aj3k9v00/x",
            "../nightly-20261125T020000Z/homes-0aj3k9v00",
            "20261125/nightly-20261125T020000Z",
        ] {
            assert!(bad.parse::<PackId>().is_err(), "{bad}");
        }
        assert!(is_day("20261125") && !is_day("20261325") && !is_day("2026112"));
    }

    #[test]
    fn claims_and_probes_of_policies_with_dashes() {
        let at = Timestamp::from_second(1_764_036_000).unwrap();
        let policy: PolicyName = "home-of-all".parse().unwrap();
        let claim = ClaimName::new(policy.clone(), at, "9f3a").unwrap();
        assert_eq!(claim.to_string().parse::<ClaimName>().unwrap(), claim);
        assert_eq!(probe_time(&probe(&policy, at, "9f3a"), &policy), Some(at));
        assert_eq!(probe_time(&probe(&policy, at, "9f3a"), &"all".parse().unwrap()), None);
        assert!(ClaimName::new(policy, at, "a-b").is_err());
    }

    proptest! {
        #[test]
        fn no_name_panics(name in "\\PC{0,60}") {
            let _ = ObjectName::parse(&name);
            let _ = name.parse::<ClaimName>();
            let _ = name.parse::<PackId>();
        }
    }
}
