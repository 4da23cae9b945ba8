//! Hints from the kernel: changed files through inotify, ended processes through their descriptors. One thread sleeps in
//! epoll until there is one.

use crate::{
    controller::port::Wake,
    domain::identity::PolicyId,
    orchestrators::local::{people::policy_of, policies::Directory, process::ProcessId, state::StateDir},
};
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, epoll, eventfd},
    fs::inotify::{self, CreateFlags, WatchFlags},
};
use std::{
    collections::BTreeMap,
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;
use tracing::warn;

/// Folders of the state directory in which people leave something.
const PEOPLE: [&str; 4] = ["requests", "restores", "holds", "drills"];
/// What epoll calls the end of watching, and inotify; processes have their numbers.
const END: u64 = 0;
const FILES: u64 = u64::MAX;

/// What a watched directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Policies,
    People,
}

/// The watches.
#[derive(Debug)]
pub(super) struct Watcher(Option<Arc<Watched>>);

#[derive(Debug)]
struct Watched {
    epoll: OwnedFd,
    inotify: OwnedFd,
    end: OwnedFd,
    meanings: Mutex<BTreeMap<i32, Meaning>>,
    /// Processes whose end is waited for, by number.
    processes: Mutex<BTreeMap<u64, (OwnedFd, PolicyId)>>,
    wakes: mpsc::Sender<Wake>,
}

impl Watcher {
    /// Starts watching. Where the kernel refuses (too many watches), the slow look at everything remains.
    pub(super) fn start(state: &StateDir, directory: &Directory, wakes: mpsc::Sender<Wake>) -> Self {
        let started = Watched::new(wakes).map(Arc::new).and_then(|watched| {
            let listener = Arc::clone(&watched);
            std::thread::Builder::new().name("watch".to_owned()).spawn(move || listener.listen())?;
            Ok(watched)
        });
        match &started {
            Ok(watched) => {
                for folder in PEOPLE {
                    watched.add(&state.root().join(folder), Meaning::People);
                }
            }
            Err(error) => warn!(%error, "changes are noticed only every ten minutes"),
        }
        let watcher = Self(started.ok());
        watcher.watch_policies(directory);
        watcher
    }

    /// Watches the policies, also after the directory was replaced by another of its name.
    pub(super) fn watch_policies(&self, directory: &Directory) {
        let Some(watched) = &self.0 else { return };
        watched.add(&directory.policies, Meaning::Policies);
        if let Some(folder) = directory.defaults.as_ref().and_then(|file| file.parent()) {
            watched.add(folder, Meaning::Policies);
        }
    }

    /// Says so when a process of the policy ends.
    pub(super) fn watch_process(&self, policy: &PolicyId, process: &ProcessId) {
        if let Some(watched) = &self.0 {
            watched.add_process(policy, process);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(watched) = &self.0 {
            let _ = rustix::io::write(&watched.end, &1u64.to_ne_bytes());
        }
    }
}

impl Watched {
    fn new(wakes: mpsc::Sender<Wake>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &inotify, epoll::EventData::new_u64(FILES), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &end, epoll::EventData::new_u64(END), epoll::EventFlags::IN)?;
        let (meanings, processes) = (Mutex::default(), Mutex::default());
        Ok(Self { epoll, inotify, end, meanings, processes, wakes })
    }

    fn add(&self, path: &Path, meaning: Meaning) {
        let mut events = WatchFlags::MOVED_TO | WatchFlags::DELETE;
        if meaning == Meaning::Policies {
            events |= WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_FROM | WatchFlags::CREATE;
        }
        if let Ok(watch) = inotify::add_watch(&self.inotify, path, events) {
            self.meanings.lock().unwrap_or_else(PoisonError::into_inner).insert(watch, meaning);
        }
    }

    fn add_process(&self, policy: &PolicyId, process: &ProcessId) {
        let Ok(number) = u64::try_from(process.pid) else { return };
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        if processes.contains_key(&number) {
            return;
        }
        match process.watch() {
            Some(descriptor) => {
                let data = epoll::EventData::new_u64(number);
                if epoll::add(&self.epoll, &descriptor, data, epoll::EventFlags::IN).is_ok() {
                    processes.insert(number, (descriptor, policy.clone()));
                }
            }
            // It ended between the look at it and now.
            None => drop(self.wakes.try_send(Wake::Policy(policy.clone()))),
        }
    }

    fn listen(&self) {
        let mut events = Vec::with_capacity(16);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            for event in events.drain(..) {
                let wakes = match event.data.u64() {
                    END => return,
                    FILES => self.read_files(),
                    number => self.read_process(number),
                };
                for wake in wakes {
                    if self.wakes.blocking_send(wake).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn read_process(&self, number: u64) -> Vec<Wake> {
        // Closing the descriptor takes it out of epoll.
        let ended = self.processes.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        ended.map(|(_, policy)| Wake::Policy(policy)).into_iter().collect()
    }

    /// All events that are there, each hint once.
    fn read_files(&self) -> Vec<Wake> {
        let meanings = self.meanings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut wakes = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().and_then(|name| name.to_str().ok()).unwrap_or_default();
            let wake = match meanings.get(&event.wd()) {
                Some(Meaning::People) => policy_of(name).map(Wake::Policy),
                // An overflow of the kernel's queue has no watch: look at everything.
                Some(Meaning::Policies) | None => Some(Wake::Policies),
            };
            wakes.extend(wake.filter(|wake| !wakes.contains(wake)));
        }
        wakes
    }
}
