//! What is done already, so that a restore which was interrupted goes on where it stopped.
//!
//! A unit is written down after the file system says that its files are on the disk, by a thread of its own: workers do
//! not wait for the disk. That is asked every other moment, not after each unit: the disk works while the processors do, and
//! still on much at once.

use super::units::Unit;
use crate::domain::verdict::Failure;
use rustix::{fd::OwnedFd, fs::syncfs};
use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{JoinHandle, spawn},
    time::{Duration, Instant},
};

/// The journal's name in our own directory.
pub const NAME: &str = "journal";
const HEAD: &str = "backstay-restore 1 ";
/// Work that an interruption may cost at most, beside the units under way.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The identity of the restore that a target is in the middle of, if any: what was given to [`Journal::open`].
pub fn identity(state: &Path) -> Option<String> {
    let mut head = String::new();
    let file = File::open(state.join(NAME)).ok()?;
    BufReader::new(file.take(4096)).read_line(&mut head).ok()?;
    head.strip_prefix(HEAD)?.strip_suffix('\n').map(str::to_owned)
}

/// The journal of one restore.
pub struct Journal {
    is_new: bool,
    done: BTreeSet<(u32, u64)>,
    finished: SyncSender<(u32, u64)>,
    writer: JoinHandle<Result<(), Failure>>,
}

impl Journal {
    /// Begins a journal, or goes on with the one that is there for the same `identity` (one line).
    ///
    /// # Errors
    /// The target is not writable.
    pub fn open(state: &Path, identity: &str, directory: OwnedFd) -> Result<Self, Failure> {
        let path = state.join(NAME);
        let done = read(&path, identity);
        let wrong = |e: std::io::Error| cannot(&path, &e);
        let file = match &done {
            Some(_) => OpenOptions::new().append(true).open(&path).map_err(wrong)?,
            None => {
                let mut file = File::create(&path).map_err(wrong)?;
                writeln!(file, "{HEAD}{identity}").and_then(|()| file.sync_all()).map_err(wrong)?;
                file
            }
        };
        let (finished, units) = sync_channel(64);
        let writer = spawn(move || write(&path, file, &directory, &units));
        Ok(Self { is_new: done.is_none(), done: done.unwrap_or_default(), finished, writer })
    }

    /// No earlier run of the same restore is gone on with.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// True when an earlier run has this unit on the disk.
    pub fn is_done(&self, unit: &Unit) -> bool {
        self.done.contains(&key(unit))
    }

    /// Where workers tell that all files of a unit are written.
    pub fn sender(&self) -> Finished {
        Finished(self.finished.clone())
    }

    /// Waits until everything that was finished is on the disk.
    ///
    /// # Errors
    /// The disk could not take it.
    pub fn close(self) -> Result<(), Failure> {
        drop(self.finished);
        match self.writer.join() {
            Ok(answer) => answer,
            Err(_) => Err(Failure::temporary("Internal", "the journal's thread ended early")),
        }
    }
}

/// A worker's end of the journal.
pub struct Finished(SyncSender<(u32, u64)>);

impl Finished {
    /// All files of the unit are written.
    pub fn unit(&self, unit: &Unit) {
        // The writer only goes away after an error, which closing the journal reports.
        let _ = self.0.send(key(unit));
    }
}

fn key(unit: &Unit) -> (u32, u64) {
    (unit.pack, unit.records.start)
}

fn read(path: &PathBuf, identity: &str) -> Option<BTreeSet<(u32, u64)>> {
    let mut lines = BufReader::new(File::open(path).ok()?).lines();
    let head = lines.next()?.ok()?;
    if head.strip_prefix(HEAD) != Some(identity) {
        return None;
    }
    // A last line that was cut off names no unit, or is an end that is missing: both are done again.
    let unit = |line: String| {
        let (pack, start) = line.strip_suffix(" done")?.split_once(' ')?;
        Some((pack.parse().ok()?, start.parse().ok()?))
    };
    Some(lines.map_while(Result::ok).filter_map(unit).collect())
}

fn write(
    path: &Path,
    mut file: File,
    directory: &OwnedFd,
    units: &Receiver<(u32, u64)>,
) -> Result<(), Failure> {
    let mut going_on = true;
    while going_on {
        let (batch, more) = finished_until(units, Instant::now() + SYNC_EVERY);
        going_on = more;
        if going_on && batch.is_empty() {
            continue;
        }
        syncfs(directory).map_err(|e| cannot(path, &e.into()))?;
        let lines: String = batch.iter().map(|(pack, start)| format!("{pack} {start} done\n")).collect();
        file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()).map_err(|e| cannot(path, &e))?;
    }
    Ok(())
}

/// The units that are finished by then, and whether there will be more.
fn finished_until(units: &Receiver<(u32, u64)>, until: Instant) -> (Vec<(u32, u64)>, bool) {
    let mut batch = Vec::new();
    loop {
        match units.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(unit) => batch.push(unit),
            Err(error) => return (batch, error == RecvTimeoutError::Timeout),
        }
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::permanent("TargetNotWritable", format!("{} could not be written: {error}", path.display()))
}
