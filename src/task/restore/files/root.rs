//! Opening directories beneath the target so that no path leads out of it, whatever somebody plants there meanwhile.

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// Directories are opened for their place in the tree only: reading them needs no permission.
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// One call resolves at most this much of a path; the kernel's limit is 4096 with the final zero.
const MAX_PATH: usize = 4000;
/// Directories kept open along the current path.
const MAX_OPEN: usize = 32;

/// The directory that is restored into.
pub struct Root {
    fd: OwnedFd,
    component_wise: AtomicBool,
}

impl Root {
    /// Opens the target. Its own path is the person's and may lead through symlinks.
    ///
    /// # Errors
    /// As `open` says.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: openat(CWD, path, flags, Mode::empty())?, component_wise: AtomicBool::new(false) })
    }

    /// Never asks for `openat2`, as on kernels and seccomp profiles that have none.
    #[cfg(test)]
    pub fn without_openat2(self) -> Self {
        self.component_wise.store(true, Ordering::Relaxed);
        self
    }

    /// The directory `relative` (no empty, `.` or `..` component; `""` is `from`) below `from`.
    ///
    /// # Errors
    /// `ELOOP` or `ENOTDIR` where a component is a symlink, `ENOENT` where it is missing.
    pub fn directory(&self, from: BorrowedFd<'_>, relative: &[u8]) -> Result<OwnedFd, Errno> {
        let mut opened: Option<OwnedFd> = None;
        for chunk in chunks(relative) {
            let base = opened.as_ref().map_or(from, |fd| fd.as_fd());
            opened = Some(self.step(base, chunk)?);
        }
        match opened {
            Some(fd) => Ok(fd),
            None => openat(from, ".", PLACE, Mode::empty()),
        }
    }

    fn step(&self, base: BorrowedFd<'_>, chunk: &[u8]) -> Result<OwnedFd, Errno> {
        if !self.component_wise.load(Ordering::Relaxed) {
            match openat2(base, chunk, PLACE, Mode::empty(), INSIDE) {
                // EPERM comes from seccomp profiles that do not know the call.
                Err(Errno::NOSYS | Errno::PERM) => self.component_wise.store(true, Ordering::Relaxed),
                // A rename somewhere on the machine can make a lookup uncertain; the other way has no such case.
                Err(Errno::AGAIN) => {}
                answer => return answer,
            }
        }
        let mut at: Option<OwnedFd> = None;
        for component in chunk.split(|&c| c == b'/') {
            let from = at.as_ref().map_or(base, |fd| fd.as_fd());
            at = Some(openat(from, component, PLACE, Mode::empty())?);
        }
        at.ok_or(Errno::NOENT)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Cuts a path at `/` into pieces that one call can resolve.
fn chunks(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if rest.len() <= MAX_PATH {
            return Some(std::mem::take(&mut rest));
        }
        // A component is at most 255 bytes on any file system; one that is longer fails in the call.
        let cut = rest[..MAX_PATH].iter().rposition(|&c| c == b'/').unwrap_or(rest.len());
        let chunk = &rest[..cut];
        rest = rest.get(cut + 1..).unwrap_or_default();
        Some(chunk)
    })
}

/// The chain of directories along the current path, so that neighbours in path order cost no lookup.
pub struct Directories<'a> {
    root: &'a Root,
    chain: Vec<(Vec<u8>, OwnedFd)>,
}

impl<'a> Directories<'a> {
    /// Nothing open yet.
    pub fn new(root: &'a Root) -> Self {
        Self { root, chain: Vec::new() }
    }

    /// The directory that holds `path` (relative to the root, no `./`), and its name there.
    ///
    /// # Errors
    /// As [`Root::directory`].
    pub fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(BorrowedFd<'_>, &'p [u8]), Errno> {
        match path.iter().rposition(|&c| c == b'/') {
            None => Ok((self.root.as_fd(), path)),
            Some(slash) => Ok((self.open(&path[..slash])?, &path[slash + 1..])),
        }
    }

    fn open(&mut self, directory: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        while self.chain.last().is_some_and(|(open, _)| below(open, directory).is_none()) {
            self.chain.pop();
        }
        let (from, rest) = match self.chain.last() {
            Some((open, fd)) => (fd.as_fd(), below(open, directory).unwrap_or_default()),
            None => (self.root.as_fd(), directory),
        };
        if !rest.is_empty() {
            let fd = self.root.directory(from, rest)?;
            if self.chain.len() == MAX_OPEN {
                self.chain.remove(0);
            }
            self.chain.push((directory.to_vec(), fd));
        }
        Ok(self.chain.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }
}

/// What is left of `path` below `directory`: `""` when equal, `None` when it is elsewhere.
fn below<'p>(directory: &[u8], path: &'p [u8]) -> Option<&'p [u8]> {
    match path.strip_prefix(directory)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn no_way_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("in")).unwrap();
        let target = tempfile::tempdir().unwrap();
        fs::create_dir_all(target.path().join("a/b")).unwrap();
        symlink(outside.path(), target.path().join("a/link")).unwrap();
        symlink("b", target.path().join("a/near")).unwrap();
        for root in [Root::open(target.path()).unwrap(), Root::open(target.path()).unwrap().without_openat2()]
        {
            assert!(root.directory(root.as_fd(), b"a/b").is_ok());
            assert!(root.directory(root.as_fd(), b"").is_ok());
            for bad in ["a/link", "a/link/in", "a/near", "a/near/x", "missing"] {
                assert!(root.directory(root.as_fd(), bad.as_bytes()).is_err(), "{bad}");
            }
        }
    }

    #[test]
    fn paths_longer_than_the_kernel_takes_at_once() {
        let target = tempfile::tempdir().unwrap();
        let root = Root::open(target.path()).unwrap();
        let name = "n".repeat(200);
        let mut directories = Directories::new(&root);
        let mut path = Vec::new();
        for _ in 0..50 {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            let (parent, name) = directories.parent(&path).unwrap();
            rustix::fs::mkdirat(parent, name, Mode::RWXU).unwrap();
        }
        assert!(path.len() > 10_000);
        assert!(root.directory(root.as_fd(), &path).is_ok());
        // Back up to a neighbour near the top.
        assert_eq!(directories.parent(b"other").unwrap().1, b"other");
        assert!(directories.parent(&path[..401]).is_ok());
    }
}
