//! What can be told without opening anything: every object that the manifest names is there, with its size and, where
//! the backend has one, its own hash; the small ones are what was written.

use super::report::VerifyReport;
use crate::{
    domain::verdict::{Failure, Verdict},
    storage::{
        document,
        layout::{self, AttemptObject, ObjectName},
        manifest::{Manifest, PackRef, SourceRecord},
        pack::reader::PackReader,
        store::{Listed, ObjectStore, StoreError},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A source with the packs that can be opened.
pub struct Opened<'m> {
    /// Its record in the manifest.
    pub record: &'m SourceRecord,
    /// Readers of its packs, by number; those whose lists are damaged are missing.
    pub packs: BTreeMap<u32, Arc<PackReader>>,
}

/// Everything below the directories that a snapshot refers to.
struct Listing(BTreeMap<String, Listed>);

/// Compares the listing with the manifest, and reads lists and records. With `hashes` also the backend's own hashes: some
/// read every byte for that, a folder does.
///
/// # Errors
/// The store does not answer: nothing is known then.
pub async fn check<'m>(
    store: &Arc<dyn ObjectStore>,
    manifest: &'m Manifest,
    hashes: bool,
    report: &mut VerifyReport,
) -> Result<Vec<Opened<'m>>, Failure> {
    let listing = Listing::load(&**store, manifest, hashes).await?;
    let directory = layout::directory(&manifest.snapshot);
    restore_text(&**store, &listing, &directory, report).await?;
    let mut opened = Vec::new();
    for record in &manifest.sources {
        source_record(&**store, &listing, &directory, record, report).await?;
        for object in &record.index.objects {
            listing.compare(&format!("{directory}/{}", object.name), object.stored, "", report);
        }
        let mut packs = BTreeMap::new();
        for pack in &record.packs {
            if let Some(reader) = self::pack(store, &listing, pack, report).await? {
                packs.insert(pack.n, Arc::new(reader));
            }
        }
        opened.push(Opened { record, packs });
    }
    if store.native_hash().is_none() {
        report.remarks.push("this remote lists no hashes: by listing only sizes can be compared".to_owned());
    }
    Ok(opened)
}

impl Listing {
    async fn load(store: &dyn ObjectStore, manifest: &Manifest, hashes: bool) -> Result<Self, Failure> {
        let packs = manifest.sources.iter().flat_map(|source| &source.packs);
        let directories: BTreeSet<String> = packs
            .map(|pack| pack.directory().to_owned())
            .chain([layout::directory(&manifest.snapshot)])
            .collect();
        let mut objects = BTreeMap::new();
        for directory in directories {
            match store.list(&directory, false, hashes).await {
                Ok(listed) => objects.extend(listed.into_iter().map(|entry| (entry.path.clone(), entry))),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(Failure::from(error).within(&format!("listing {directory}"))),
            }
        }
        Ok(Self(objects))
    }

    /// Notes an object that is missing, or has another size or hash (`kind:hex`; empty where there is none).
    fn compare(&self, path: &str, size: u64, native: &str, report: &mut VerifyReport) {
        report.objects += 1;
        let Some(listed) = self.0.get(path) else {
            return report.damaged(path, "is missing");
        };
        if listed.size != size {
            return report.damaged(path, format!("has {} bytes instead of {size}", listed.size));
        }
        let Some(hash) = &listed.hash else { return };
        let (wanted, found) = (native.split_once(':'), hash.kind.as_str());
        if wanted.is_some_and(|(kind, hex)| kind == found && hex != hash.hex) {
            report.damaged(path, format!("has another {found} than was stored"));
        }
    }

    fn named<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = (&'a str, ObjectName)> {
        self.0.keys().filter_map(move |path| {
            let name = path.strip_prefix(directory)?.strip_prefix('/')?;
            Some((path.as_str(), ObjectName::parse(name)?))
        })
    }
}

/// An object that is read whole; `None` when it is not there.
async fn get(store: &dyn ObjectStore, path: &str) -> Result<Option<bytes::Bytes>, Failure> {
    match store.get(path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(Failure::from(error).within(&format!("reading {path}"))),
    }
}

/// The source record beside the manifest must say the same: it is what a person has if the manifest is lost.
async fn source_record(
    store: &dyn ObjectStore,
    listing: &Listing,
    directory: &str,
    record: &SourceRecord,
    report: &mut VerifyReport,
) -> Result<(), Failure> {
    let is_its = |name: &ObjectName| matches!(name, ObjectName::OfAttempt(prefix, AttemptObject::SourceRecord(_)) if *prefix == record.prefix());
    let mut whole = 0;
    let mut broken = Vec::new();
    for (path, _) in listing.named(directory).filter(|(_, name)| is_its(name)) {
        report.objects += 1;
        let Some(text) = get(store, path).await? else { continue };
        match document::open::<SourceRecord>(&text) {
            Ok(found) if found == *record => whole += 1,
            Ok(_) => broken.push((path, "says something else than the manifest".to_owned())),
            Err(error) => broken.push((path, error.to_string())),
        }
    }
    // Beside a whole one, a broken one is the first try of an upload that was interrupted.
    if whole == 0 {
        if broken.is_empty() {
            let name = record.prefix().source_record(0);
            report.damaged(format!("{directory}/{name}"), "is missing");
        }
        broken.into_iter().for_each(|(path, what)| report.damaged(path, what));
    }
    Ok(())
}

async fn restore_text(
    store: &dyn ObjectStore,
    listing: &Listing,
    directory: &str,
    report: &mut VerifyReport,
) -> Result<(), Failure> {
    let texts = listing.named(directory).filter(|(_, name)| matches!(name, ObjectName::RestoreText(_)));
    let mut broken = Vec::new();
    for (path, _) in texts {
        report.objects += 1;
        match get(store, path).await? {
            Some(text) if document::is_whole_text(&text) => return Ok(()),
            _ => broken.push(path),
        }
    }
    if broken.is_empty() {
        report.damaged(format!("{directory}/{}", layout::restore_text(0)), "is missing");
    }
    broken.into_iter().for_each(|path| report.damaged(path, "is not what was written"));
    Ok(())
}

/// Compares the lists of a pack, and all its parts with the listing.
async fn pack(
    store: &Arc<dyn ObjectStore>,
    listing: &Listing,
    pack: &PackRef,
    report: &mut VerifyReport,
) -> Result<Option<PackReader>, Failure> {
    let directory = pack.directory();
    let before = report.damage.len();
    for list in &pack.part_lists {
        let path = format!("{directory}/{}", list.name);
        report.objects += 1;
        match get(&**store, &path).await? {
            None => report.damaged(path, "is missing"),
            Some(text) if blake3::hash(&text).to_hex().as_str() != list.blake3 => {
                report.damaged(path, "is not the list that was written");
            }
            Some(_) => {}
        }
    }
    if report.damage.len() > before {
        return Ok(None);
    }
    match PackReader::open(Arc::clone(store), pack).await {
        Ok(reader) => {
            for part in reader.parts() {
                let path = format!("{directory}/{}", part.object);
                listing.compare(&path, part.stored_bytes, &part.native, report);
            }
            Ok(Some(reader))
        }
        Err(failure) if failure.verdict == Verdict::Permanent => {
            report.damaged(pack.id.clone(), failure.message);
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}
