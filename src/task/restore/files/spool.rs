//! The index on disk, below the target, sorted by what is done with it: memory stays the same for any number of files.
//!
//! | file | records | read for |
//! |---|---|---|
//! | `directories` | directories, those above a selected entry too | making them, and their metadata at the end |
//! | `others` | symlinks, fifos, devices | making them |
//! | `links` | files with several names, also what is not selected: it may carry the content | joining them |
//! | `all` | everything, when what the backup lacks is to be removed | the comparison |
//! | `pack-<n>` | files whose bytes are in pack n, in its order | the units |

use super::{report::FilesReport, selection::Selection};
use crate::{
    domain::verdict::Failure,
    storage::index::{
        codec,
        record::{EntryKind, FileTime, Record},
    },
};
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

/// Name of our own directory below a target.
pub const STATE: &str = ".backstay-restore";
/// A record is a path, its target and attributes: more than this is no record.
const MAX_RECORD: u64 = 8 << 20;

/// Which file of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `directories`
    Directories,
    /// `others`
    Others,
    /// `links`
    Links,
    /// `all`
    All,
    /// `pack-<n>`
    Pack(u32),
}

impl Part {
    fn file(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Directories => "directories".to_owned(),
            Self::Others => "others".to_owned(),
            Self::Links => "links".to_owned(),
            Self::All => "all".to_owned(),
            Self::Pack(n) => format!("pack-{n}"),
        })
    }
}

/// What is in a spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Regular files that are selected.
    pub files: u64,
    /// Their bytes; sparse files count as nothing, their extents are not known before they are read.
    pub bytes: u64,
    /// Directories.
    pub directories: u64,
    /// Records in `links`.
    pub links: u64,
    /// The packs that are needed.
    pub packs: Vec<u32>,
    /// When the root was last changed, if it is restored as well.
    pub root_time: Option<FileTime>,
}

/// What a file adds to [`Contents::bytes`].
pub fn announced(record: &Record) -> u64 {
    if record.flags.sparse { 0 } else { record.size }
}

/// What a spool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To restore.
    Restore,
    /// To restore, and to remove what the backup does not have: with [`Part::All`].
    Replace,
    /// To read everything again: entries of all kinds are with their packs.
    Verify,
}

/// A record and where it is in its file.
#[derive(Debug, Clone)]
pub struct Spooled {
    /// The record.
    pub record: Record,
    /// Its line.
    pub at: Range<u64>,
}

/// Writes the spool, record by record in the order of the index, and refuses what no index of ours can hold.
pub struct SpoolWriter<'a> {
    directory: PathBuf,
    selection: &'a Selection,
    purpose: Purpose,
    matched: Vec<bool>,
    files: BTreeMap<Part, BufWriter<File>>,
    contents: Contents,
    previous: Vec<u8>,
    /// Directories from the root to the current place, and whether they are written already.
    ancestors: Vec<(Record, bool)>,
    line: Vec<u8>,
}

impl<'a> SpoolWriter<'a> {
    /// A spool in `directory`, which exists and holds none.
    pub fn new(directory: &Path, selection: &'a Selection, purpose: Purpose) -> Self {
        Self {
            directory: directory.to_owned(),
            selection,
            purpose,
            matched: vec![false; selection.named().count()],
            files: BTreeMap::new(),
            contents: Contents::default(),
            previous: Vec::new(),
            ancestors: Vec::new(),
            line: Vec::new(),
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// A path that no walk could have found, or not in order: the index is damaged or forged. No space for the spool.
    pub fn push(&mut self, record: Record, report: &mut FilesReport) -> Result<(), Failure> {
        self.place(&record)?;
        let path = relative(&record.path);
        if path == STATE.as_bytes() || path.starts_with(b".backstay-restore/") {
            // Left behind in the source by a restore: not the person's data, and the name is taken here.
            if record.kind == EntryKind::Directory {
                self.ancestors.push((record, true));
            }
            return Ok(());
        }
        let selected = self.selects(path);
        match record.kind {
            EntryKind::Directory => {
                // With a selection the target itself is not what was named.
                let written = path.is_empty() && !self.selection.is_everything();
                if path.is_empty() && !written {
                    self.contents.root_time = Some(record.mtime);
                }
                self.ancestors.push((record, written));
                if selected { self.write_ancestors() } else { Ok(()) }
            }
            _ if selected => self.write_ancestors().and_then(|()| self.selected(&record, report)),
            EntryKind::File if record.link.is_some() && record.place.is_some() => {
                self.contents.links += 1;
                self.write(Part::Links, &record)
            }
            _ => Ok(()),
        }
    }

    /// Completes the files.
    ///
    /// # Errors
    /// No space, or a named path that is not in the backup.
    pub fn finish(mut self) -> Result<Contents, Failure> {
        for (part, file) in &mut self.files {
            file.flush().map_err(|e| cannot_write(&part.file(&self.directory), &e))?;
        }
        self.contents.packs = self
            .files
            .keys()
            .filter_map(|part| if let Part::Pack(n) = part { Some(*n) } else { None })
            .collect();
        match self.selection.named().zip(&self.matched).find(|(_, matched)| !**matched) {
            Some((name, _)) => Err(Failure::permanent(
                "PathNotInBackup",
                format!("there is nothing at {name:?} in this backup"),
            )
            .fix("backstay ls lists what is in it; paths are relative to the volume's root")),
            None => Ok(self.contents),
        }
    }

    fn selects(&mut self, path: &[u8]) -> bool {
        let which = self.selection.which(path);
        which.into_iter().for_each(|i| self.matched[i] = true);
        self.selection.is_everything() || which.is_some()
    }

    fn selected(&mut self, record: &Record, report: &mut FilesReport) -> Result<(), Failure> {
        if self.purpose == Purpose::Replace {
            self.write(Part::All, record)?;
        }
        let Some(place) = record.place else {
            report.not_in_backup(&record.path);
            return Ok(());
        };
        let file = record.kind == EntryKind::File;
        match self.purpose {
            Purpose::Verify if !file => return self.write(Part::Pack(place.pack), record),
            _ if !file => return self.write(Part::Others, record),
            _ => {}
        }
        self.contents.files += 1;
        self.contents.bytes += announced(record);
        if record.link.is_some() && self.purpose != Purpose::Verify {
            self.contents.links += 1;
            self.write(Part::Links, record)?;
        }
        self.write(Part::Pack(place.pack), record)
    }

    fn write_ancestors(&mut self) -> Result<(), Failure> {
        let mut ancestors = std::mem::take(&mut self.ancestors);
        for (record, written) in ancestors.iter_mut().filter(|(_, written)| !written) {
            match record.place.filter(|_| self.purpose == Purpose::Verify) {
                Some(place) => self.write(Part::Pack(place.pack), record)?,
                None => self.write(Part::Directories, record)?,
            }
            if self.purpose == Purpose::Replace {
                self.write(Part::All, record)?;
            }
            self.contents.directories += 1;
            *written = true;
        }
        self.ancestors = ancestors;
        Ok(())
    }

    fn write(&mut self, part: Part, record: &Record) -> Result<(), Failure> {
        let path = part.file(&self.directory);
        let file = match self.files.entry(part) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(BufWriter::new(File::create(&path).map_err(|e| cannot_write(&path, &e))?))
            }
        };
        self.line.clear();
        codec::write_record(&mut self.line, record);
        file.write_all(&self.line).map_err(|e| cannot_write(&path, &e))
    }

    /// Checks the path and its place in the order, and goes up to its parent.
    fn place(&mut self, record: &Record) -> Result<(), Failure> {
        let path = relative(&record.path);
        let first = self.ancestors.is_empty() && self.previous.is_empty();
        let wrong = |why: &str| {
            let path = String::from_utf8_lossy(&record.path);
            Err(Failure::permanent("IndexDamaged", format!("the index is damaged: {path:?} {why}")))
        };
        if first {
            let root = record.path == b"./" && record.kind == EntryKind::Directory;
            self.previous = record.path.clone();
            return if root { Ok(()) } else { wrong("stands where the root must be") };
        }
        let directory = record.kind == EntryKind::Directory;
        if !is_clean(path) || directory != record.path.ends_with(b"/") || !record.path.starts_with(b"./") {
            return wrong("is not the path of an entry");
        }
        if codec::path_order(relative(&self.previous), path) != Ordering::Less {
            return wrong("is out of order or there twice");
        }
        self.previous.clone_from(&record.path);
        while self.ancestors.last().is_some_and(|(above, _)| !is_below(relative(&above.path), path)) {
            self.ancestors.pop();
        }
        let parent = path.iter().rposition(|&c| c == b'/').map_or(&b""[..], |slash| &path[..slash]);
        match self.ancestors.last() {
            Some((above, _)) if relative(&above.path) == parent => Ok(()),
            _ => wrong("has no directory above it"),
        }
    }
}

/// Reads one file of a spool.
pub struct SpoolReader {
    path: PathBuf,
    /// `None` where nothing was written.
    file: Option<BufReader<File>>,
    range: Range<u64>,
    line: Vec<u8>,
}

impl SpoolReader {
    /// All records of a part, in the order of the index.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(directory: &Path, part: Part) -> Result<Self, Failure> {
        Self::open_range(directory, part, 0..u64::MAX)
    }

    /// The records whose lines lie in `range`, which begins and ends between lines.
    ///
    /// # Errors
    /// As [`SpoolReader::open`].
    pub fn open_range(directory: &Path, part: Part, range: Range<u64>) -> Result<Self, Failure> {
        let path = part.file(directory);
        let file = match File::open(&path) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(range.start)).map_err(|e| cannot_read(&path, &e))?;
                Some(BufReader::with_capacity(64 << 10, file))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(cannot_read(&path, &e)),
        };
        Ok(Self { path, file, range, line: Vec::new() })
    }

    fn read(&mut self) -> Result<Option<Spooled>, Failure> {
        let Some(file) = self.file.as_mut().filter(|_| self.range.start < self.range.end) else {
            return Ok(None);
        };
        self.line.clear();
        let mut limited = std::io::Read::take(file, MAX_RECORD);
        let length = limited.read_until(b'\n', &mut self.line).map_err(|e| cannot_read(&self.path, &e))?;
        let Some(line) = self.line.strip_suffix(b"\n") else {
            return if length == 0 { Ok(None) } else { Err(self.cut()) };
        };
        let record = codec::parse_record(line).map_err(|_| self.cut())?;
        let at = self.range.start..self.range.start + length as u64;
        self.range.start = at.end;
        Ok(Some(Spooled { record, at }))
    }

    fn cut(&self) -> Failure {
        Failure::temporary("SpoolDamaged", format!("{} was changed while it was used", self.path.display()))
            .fix("start the restore again")
    }
}

impl Iterator for SpoolReader {
    type Item = Result<Spooled, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// A path of the index relative to the root, without `./` and the `/` of directories; `""` for the root.
pub fn relative(path: &[u8]) -> &[u8] {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    path.strip_suffix(b"/").unwrap_or(path)
}

fn is_clean(path: &[u8]) -> bool {
    path.split(|&c| c == b'/').all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0))
}

fn is_below(directory: &[u8], path: &[u8]) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::permanent("TargetNotWritable", format!("{} could not be written: {error}", path.display()))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::temporary("SpoolUnreadable", format!("{} could not be read: {error}", path.display()))
}
