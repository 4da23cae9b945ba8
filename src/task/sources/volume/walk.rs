//! The walk: directories in path order, each sorted, cut into batches for the readers.

use super::{
    entry::{Chunk, Content, Entry, Outcome, Present, RacyAfter},
    filter::{Decision, Filter},
    input::{self, Status, XattrReader},
    listing::Listing,
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{FileType, OFlags},
    io::Errno,
    process::{Resource, Rlimit},
};
use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

/// Entries of one batch.
const BATCH_ITEMS: usize = 64;

/// Directories of one batch: each keeps a file descriptor open until the batch is done.
const BATCH_DIRECTORIES: usize = 8;

/// Memory for the listings of all directories that the walk is in, bytes.
const LISTINGS_BYTES: usize = 8 << 20;

/// Longest path, bytes: sixteen times what a single system call takes.
const MAX_PATH: usize = 64 << 10;

/// A directory that is being read, and that its entries are opened in.
#[derive(Debug)]
pub(super) struct Directory {
    pub fd: OwnedFd,
    /// As in the tar, with the slash.
    pub path: Vec<u8>,
}

impl Directory {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Consecutive entries of the walk.
pub(super) struct Batch {
    pub items: Vec<Item>,
    pub names: Vec<u8>,
    pub racy_after: RacyAfter,
    directories: usize,
}

/// One entry of a batch.
pub(super) enum Item {
    /// Done: directories, and what cannot be read.
    Ready(Entry),
    /// To be looked at by a reader. `kind` is what the directory said.
    Load { directory: Arc<Directory>, name: Range<usize>, kind: FileType },
}

/// A batch on its way to a reader, and where its chunks go.
pub(super) type Job = (Batch, SyncSender<Chunk>);

/// Where the walk sends batches: to the readers, and in order to whoever stores the chunks.
pub(super) struct Outlet {
    pub jobs: SyncSender<Job>,
    pub order: SyncSender<Receiver<Chunk>>,
}

/// Whoever stores the entries has stopped.
struct Stopped;

/// A directory on the way from the root to where the walk is.
struct Level {
    directory: Arc<Directory>,
    listing: Listing,
    /// Its own entry, held back until something below it is taken.
    held: Option<Entry>,
    /// Everything below is taken, unless excluded.
    within: bool,
}

/// The walk over one volume.
pub(super) struct Walk<'a> {
    filter: &'a Filter,
    /// Directories on other devices stay empty.
    device: Option<u64>,
    outlet: Outlet,
    levels: Vec<Level>,
    max_depth: usize,
    batch: Batch,
    xattrs: XattrReader,
    name: Vec<u8>,
}

impl<'a> Walk<'a> {
    /// A walk from an open root.
    pub fn new(
        root: OwnedFd,
        filter: &'a Filter,
        one_file_system: bool,
        outlet: Outlet,
    ) -> rustix::io::Result<Self> {
        let status = Status::of(&root)?;
        let listing = Listing::read(root.as_fd())?;
        let mut walk = Self {
            filter,
            device: one_file_system.then_some(status.device),
            outlet,
            levels: Vec::new(),
            max_depth: allowed_depth(),
            batch: Batch::new(),
            xattrs: XattrReader::new(),
            name: Vec::new(),
        };
        let xattrs = walk.xattrs.of(root.as_fd())?;
        let present = Present {
            status,
            xattrs,
            target: Vec::new(),
            racy: walk.batch.racy_after.is_racy(&status),
            content: Content::None,
        };
        let path = b"./".to_vec();
        walk.batch.items.push(Item::Ready(Entry { path: path.clone(), outcome: Outcome::Present(present) }));
        let directory = Arc::new(Directory { fd: root, path });
        walk.levels.push(Level { directory, listing, held: None, within: filter.takes_all() });
        Ok(walk)
    }

    /// Walks to the end, or until nobody takes the batches any more.
    pub fn run(mut self) {
        while let Some(level) = self.levels.last_mut() {
            let mut name = std::mem::take(&mut self.name);
            let directory = Arc::clone(&level.directory);
            let stopped = match level.listing.next(directory.fd(), &mut name) {
                Ok(Some(kind)) => self.visit(&directory, &name, kind),
                Ok(None) => {
                    self.levels.pop();
                    Ok(())
                }
                Err(error) => {
                    self.levels.pop();
                    let reason = format!("the rest of its names cannot be read: {error}");
                    self.unreadable(directory.path.clone(), None, reason)
                }
            };
            self.name = name;
            if stopped.is_err() {
                return;
            }
        }
        let _ = self.flush();
    }

    fn visit(&mut self, directory: &Arc<Directory>, name: &[u8], kind: FileType) -> Result<(), Stopped> {
        let kind = match kind {
            FileType::Unknown => match Status::at(directory.fd(), name) {
                Ok(status) => status.kind,
                Err(_) => kind,
            },
            kind => kind,
        };
        let is_directory = kind == FileType::Directory;
        let within = self.levels.last().is_some_and(|level| level.within);
        let decision = if self.filter.takes_all() {
            Decision::Take
        } else {
            let path = [&directory.path[2..], name].concat();
            self.filter.decide(&path, is_directory, within)
        };
        match decision {
            Decision::Skip => Ok(()),
            decision if is_directory => self.descend(directory, name, decision == Decision::Take),
            _ => {
                self.release()?;
                let start = self.batch.names.len();
                self.batch.names.extend_from_slice(name);
                let name = start..self.batch.names.len();
                self.push(Item::Load { directory: Arc::clone(directory), name, kind })
            }
        }
    }

    /// Enters a directory, if it can be read.
    fn descend(&mut self, parent: &Arc<Directory>, name: &[u8], take: bool) -> Result<(), Stopped> {
        let path = [&parent.path[..], name, b"/"].concat();
        if path.len() > MAX_PATH || self.levels.len() >= self.max_depth {
            return self.unreadable(
                path,
                Status::at(parent.fd(), name).ok(),
                "too deep below the root".to_owned(),
            );
        }
        let opened = input::open(parent.fd(), name, OFlags::DIRECTORY).and_then(|fd| {
            let status = Status::of(&fd)?;
            let xattrs = self.xattrs.of(fd.as_fd())?;
            let elsewhere = self.device.is_some_and(|device| device != status.device);
            let listing = if elsewhere { Listing::empty() } else { Listing::read(fd.as_fd())? };
            Ok((fd, status, xattrs, listing))
        });
        let (fd, status, xattrs, listing) = match opened {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return self.ready(Entry { path, outcome: Outcome::Vanished });
            }
            Err(error) => {
                return self.unreadable(path, Status::at(parent.fd(), name).ok(), error.to_string());
            }
        };
        let racy = self.batch.racy_after.is_racy(&status);
        let present = Present { status, xattrs, target: Vec::new(), racy, content: Content::None };
        let entry = Entry { path: path.clone(), outcome: Outcome::Present(present) };
        let held = if take {
            self.ready(entry)?;
            None
        } else {
            Some(entry)
        };
        self.levels.push(Level { directory: Arc::new(Directory { fd, path }), listing, held, within: take });
        self.shed();
        Ok(())
    }

    /// Stores the directories that lead here, if they were held back.
    fn release(&mut self) -> Result<(), Stopped> {
        if self.filter.takes_all() {
            return Ok(());
        }
        for i in 0..self.levels.len() {
            if let Some(entry) = self.levels[i].held.take() {
                self.push(Item::Ready(entry))?;
            }
        }
        Ok(())
    }

    /// Lets go of listings, those nearest to the root first: they are needed last.
    fn shed(&mut self) {
        let mut total: usize = self.levels.iter().map(|level| level.listing.weight()).sum();
        let last = self.levels.len() - 1;
        for level in &mut self.levels[..last] {
            if total <= LISTINGS_BYTES {
                break;
            }
            let before = level.listing.weight();
            level.listing.shed();
            total -= before - level.listing.weight();
        }
    }

    fn unreadable(&mut self, path: Vec<u8>, status: Option<Status>, reason: String) -> Result<(), Stopped> {
        self.ready(Entry { path, outcome: Outcome::Unreadable { status, reason } })
    }

    fn ready(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.release()?;
        self.push(Item::Ready(entry))
    }

    fn push(&mut self, item: Item) -> Result<(), Stopped> {
        if let Item::Load { directory, .. } = &item {
            let previous = self.batch.items.iter().rev().find_map(|item| match item {
                Item::Load { directory, .. } => Some(directory),
                Item::Ready(_) => None,
            });
            let new = previous.is_none_or(|previous| !Arc::ptr_eq(previous, directory));
            self.batch.directories += usize::from(new);
        }
        self.batch.items.push(item);
        if self.batch.items.len() >= BATCH_ITEMS || self.batch.directories >= BATCH_DIRECTORIES {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let batch = std::mem::replace(&mut self.batch, Batch::new());
        if batch.items.is_empty() {
            return Ok(());
        }
        let (sender, receiver) = sync_channel(1);
        self.outlet.order.send(receiver).map_err(|_| Stopped)?;
        self.outlet.jobs.send((batch, sender)).map_err(|_| Stopped)
    }
}

impl Batch {
    pub fn new() -> Self {
        Self {
            items: Vec::with_capacity(BATCH_ITEMS),
            names: Vec::new(),
            racy_after: RacyAfter::now(),
            directories: 0,
        }
    }
}

/// Levels that there are file descriptors for: half of what the process may open, once it asked for all it can have.
fn allowed_depth() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(1 << 16);
    let current = limit.current.unwrap_or(u64::MAX);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    let now = if wanted > current && rustix::process::setrlimit(Resource::Nofile, raised).is_ok() {
        wanted
    } else {
        current
    };
    usize::try_from(now / 2).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{Volume, VolumePlace};
    use std::{fs, path::Path};

    fn everything() -> Filter {
        Filter::new(&Volume {
            name: "homes".parse().unwrap(),
            place: VolumePlace::HostPath("/".into()),
            include: vec![],
            exclude: vec![],
            optional: false,
            allow_empty: false,
            node_selector: Default::default(),
            one_file_system: true,
        })
        .unwrap()
    }

    /// The paths of a walk that `change` was done to; unreadable ones with `!`.
    fn walk(root: &Path, change: impl FnOnce(&mut Walk<'_>)) -> Vec<String> {
        let (jobs, job_receiver) = sync_channel(10_000);
        let (order, _in_order) = sync_channel(10_000);
        let filter = everything();
        let root = fs::File::open(root).unwrap().into();
        let mut walk = Walk::new(root, &filter, true, Outlet { jobs, order }).ok().unwrap();
        change(&mut walk);
        walk.run();
        let mut paths = Vec::new();
        for (batch, _) in job_receiver {
            for item in batch.items {
                let path = match item {
                    Item::Ready(Entry { path, outcome: Outcome::Unreadable { .. } }) => {
                        [&path[..], b"!"].concat()
                    }
                    Item::Ready(entry) => entry.path,
                    Item::Load { directory, name, .. } => [&directory.path[..], &batch.names[name]].concat(),
                };
                paths.push(String::from_utf8(path).unwrap());
            }
        }
        paths
    }

    #[test]
    fn a_directory_on_another_device_is_stored_empty() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("mount")).unwrap();
        fs::write(root.path().join("mount/file"), b"x").unwrap();
        assert_eq!(walk(root.path(), |_| {}), ["./", "./mount/", "./mount/file"]);
        // As if the root were elsewhere.
        assert_eq!(walk(root.path(), |walk| walk.device = Some(u64::MAX)), ["./", "./mount/"]);
        assert_eq!(walk(root.path(), |walk| walk.device = None).len(), 3);
    }

    #[test]
    fn what_is_too_deep_is_not_left_out_silently() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b/c/d")).unwrap();
        assert_eq!(walk(root.path(), |walk| walk.max_depth = 3), ["./", "./a/", "./a/b/", "./a/b/c/!"]);
    }

    #[test]
    fn the_order_is_that_of_an_index() {
        use crate::storage::index::codec::path_order;
        let root = tempfile::tempdir().unwrap();
        for name in ["a/x", "a/x-/y", "a-/z", "a.b", "a/x!", "b", "c/d/e/f"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let paths = walk(root.path(), |_| {});
        assert!(paths.is_sorted_by(|a, b| path_order(a.as_bytes(), b.as_bytes()).is_lt()), "{paths:?}");
        assert_eq!(paths.len(), 14);
    }
}
