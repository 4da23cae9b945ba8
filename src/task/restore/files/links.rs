//! Files with several names: each further name is joined to the first one that was restored.

use super::{
    entries::settle,
    extract::Extractor,
    job::Job,
    place::{Trouble, clear, is_same_content, put},
    report::FilesReport,
    root::Directories,
    selection::Selection,
    spool::{Contents, Part, SpoolReader, Spooled, relative},
};
use crate::{domain::verdict::Failure, storage::index::record::Record};
use rustix::{
    fd::AsFd,
    fs::{AtFlags, linkat},
    io::Errno,
};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Groups held in memory at once, about 16 MiB; more are done in several passes.
const GROUPS: u64 = 100_000;
const SCRATCH: &str = "new-link";

/// One file with several names: places of records in `links`.
struct Group {
    /// The first name of all: it carries the content.
    carrier: u64,
    /// The first name that is restored, once there is one.
    first: Option<u64>,
    /// That failed.
    lost: bool,
}

/// Joins names, and gives content to a name whose carrier is not selected.
pub struct Linker<'a, 'b> {
    job: &'a Job<'a>,
    selection: &'a Selection,
    /// For the content of carriers that are not selected, by pack.
    extractors: &'b mut dyn FnMut(u32) -> Result<Extractor<'a>, Failure>,
}

impl<'a, 'b> Linker<'a, 'b> {
    /// `extractors` makes one that reads ranges of a pack.
    pub fn new(
        job: &'a Job<'a>,
        selection: &'a Selection,
        extractors: &'b mut dyn FnMut(u32) -> Result<Extractor<'a>, Failure>,
    ) -> Self {
        Self { job, selection, extractors }
    }

    /// Joins everything in `links`.
    ///
    /// # Errors
    /// The store or the target gives out.
    pub fn run(&mut self, contents: &Contents, report: &mut FilesReport) -> Result<(), Failure> {
        let passes = contents.links.div_ceil(GROUPS);
        (0..passes).try_for_each(|pass| self.pass(pass, passes, report))
    }

    fn pass(&mut self, pass: u64, passes: u64, report: &mut FilesReport) -> Result<(), Failure> {
        // A file that changed between two of its names, or took a deleted one's number, was stored anew.
        let mut groups: HashMap<_, Group> = HashMap::new();
        let mut directories = Directories::new(self.job.root);
        for spooled in SpoolReader::open(&self.job.spool, Part::Links)? {
            let spooled = spooled?;
            let Some(link) = spooled.record.link.filter(|link| share(link, passes) == pass) else { continue };
            let Record { hash, mtime, .. } = spooled.record;
            let new = Group { carrier: spooled.at.start, first: None, lost: false };
            let group = groups.entry((link, hash, mtime)).or_insert(new);
            if self.selection.selects(relative(&spooled.record.path)) {
                self.name(group, &spooled, &mut directories, report)?;
            }
        }
        Ok(())
    }

    fn name(
        &mut self,
        group: &mut Group,
        spooled: &Spooled,
        directories: &mut Directories<'_>,
        report: &mut FilesReport,
    ) -> Result<(), Failure> {
        let Spooled { record, at } = spooled;
        let Some(first) = group.first else {
            group.first = Some(at.start);
            if group.carrier != at.start {
                self.adopt(group.carrier, record, report)?;
            }
            group.lost = self.job.is_lost(&record.path);
            return Ok(());
        };
        let done = if group.lost {
            Err(Trouble::entry("is another name of a file that is not restored"))
        } else {
            self.join(directories, &self.record_at(first)?, record)
        };
        if done.is_ok() {
            report.hard_links += 1;
        }
        settle(done, record, report)
    }

    /// Restores the carrier's content under the name of `record`.
    fn adopt(&mut self, carrier: u64, record: &Record, report: &mut FilesReport) -> Result<(), Failure> {
        let carrier = self.record_at(carrier)?;
        let Some(place) = carrier.place else { return Ok(()) };
        let mut extractor = (self.extractors)(place.pack)?;
        extractor.file(&carrier, &record.path)?;
        report.merge(extractor.report);
        Ok(())
    }

    fn join(
        &self,
        directories: &mut Directories<'_>,
        first: &Record,
        record: &Record,
    ) -> Result<(), Trouble> {
        let mut to_first = Directories::new(self.job.root);
        let (from, from_name) = to_first.parent(relative(&first.path))?;
        let (parent, name) = directories.parent(relative(&record.path))?;
        match linkat(from, from_name, parent, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            // What has this very content may be what we restored: a name can be stored with content of its own.
            Err(Errno::EXIST)
                if self.job.existing.may_replace() || is_same_content(from, from_name, parent, name) =>
            {
                let state = self.job.state.as_fd();
                clear(self.job, state, SCRATCH.as_bytes())?;
                linkat(from, from_name, state, SCRATCH, AtFlags::empty())?;
                put(self.job, state, SCRATCH.as_bytes(), parent, name)?;
                // Two names of one file are not moved onto each other: the scratch name is still there then.
                clear(self.job, state, SCRATCH.as_bytes())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn record_at(&self, at: u64) -> Result<Record, Failure> {
        let mut reader = SpoolReader::open_range(&self.job.spool, Part::Links, at..u64::MAX)?;
        let record = reader.next().transpose()?.map(|spooled| spooled.record);
        record.ok_or_else(|| {
            Failure::temporary("SpoolDamaged", "our own list of links was changed")
                .fix("start the restore again")
        })
    }
}

fn share(link: &(u64, u64), passes: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    link.hash(&mut hasher);
    hasher.finish() % passes
}
