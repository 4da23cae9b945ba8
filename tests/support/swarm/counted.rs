//! A socket in front of an engine's that counts what is asked through it.

use super::super::Scratch;
use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// What was asked, by method and kind of path, and how often.
pub type Calls = BTreeMap<String, u64>;

/// The socket; it answers as long as this value is there, and then until the test process ends.
#[derive(Debug)]
pub struct Counted {
    scratch: Scratch,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    calls: Mutex<Calls>,
    /// Bytes of all answers.
    bytes: AtomicU64,
}

impl Counted {
    /// In front of this socket.
    pub fn before(engine: PathBuf) -> Self {
        let scratch = Scratch::new("counted");
        let listener = UnixListener::bind(scratch.join("docker.sock")).unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (counts, engine) = (Arc::clone(&shared), engine.clone());
                // What fails here is a connection that ended.
                thread::spawn(move || _ = serve(client, &engine, &counts));
            }
        });
        Self { scratch, counts }
    }

    /// Where to ask.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("docker.sock")
    }

    /// All calls so far, and the bytes of the answers.
    pub fn so_far(&self) -> (Calls, u64) {
        let calls = self.counts.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (calls, self.counts.bytes.load(Ordering::Relaxed))
    }
}

fn serve(client: UnixStream, engine: &Path, counts: &Arc<Counts>) -> io::Result<()> {
    let upstream = UnixStream::connect(engine)?;
    let (mut answers, mut back, counting) = (upstream.try_clone()?, client.try_clone()?, Arc::clone(counts));
    let answering = thread::spawn(move || {
        let mut block = vec![0; 64 << 10];
        while let Ok(read @ 1..) = answers.read(&mut block) {
            counting.bytes.fetch_add(read as u64, Ordering::Relaxed);
            if back.write_all(&block[..read]).is_err() {
                break;
            }
        }
        let _ = back.shutdown(Shutdown::Both);
    });
    let asked = ask(client, upstream.try_clone()?, counts);
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = answering.join();
    asked
}

/// Passes requests on, one after the other.
fn ask(client: UnixStream, mut upstream: UnixStream, counts: &Counts) -> io::Result<()> {
    let mut client = BufReader::new(client);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let begin = head.len();
            if client.read_line(&mut head)? == 0 {
                return Ok(());
            }
            let line = head[begin..].trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            assert!(
                !line.starts_with("transfer-encoding:"),
                "a body without a length is not understood: {head}"
            );
            if line.is_empty() {
                break;
            }
        }
        let mut calls = counts.calls.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(kind(&head)).or_default() += 1;
        drop(calls);
        upstream.write_all(head.as_bytes())?;
        io::copy(&mut client.by_ref().take(length), &mut upstream)?;
    }
}

/// `GET /configs of one`, `POST /configs/*/update`.
fn kind(head: &str) -> String {
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts = path.split('/').filter(|part| !part.is_empty() && !part.starts_with("v1."));
    let named = |(n, part): (usize, &str)| match part {
        "create" => part.to_owned(),
        _ if n == 1 => "*".to_owned(),
        _ => part.to_owned(),
    };
    let path: Vec<String> = parts.enumerate().map(named).collect();
    // Filters by a policy's identity, or by some services.
    let of_one = ["backstay.identity", "%22service%22"].iter().any(|filter| query.contains(filter));
    format!("{method} /{}{}", path.join("/"), if of_one { " of one" } else { "" })
}
