//! A network between a program and an HTTP server that does to some requests what real remotes do.
//!
//! One request a connection, so that a request is a stretch of bytes and nothing more needs to be understood.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    ops::Range,
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Only half of the body is stored, and the answer is a success.
    Truncates,
    /// Nothing is stored, and the answer is a success.
    Discards,
    /// One bit of the body is stored flipped, and the answer is a success.
    Flips,
    /// The answer is this status, whatever was asked.
    Answers(u16),
    /// There is no room for what is to be stored.
    IsFull,
    /// The connection ends in the middle of the body.
    HangsUp,
    /// There is no answer until the proxy is healed.
    Silent,
}

impl Trouble {
    /// True when only requests that store something can meet it.
    pub fn is_of_uploads(self) -> bool {
        matches!(self, Self::Truncates | Self::Discards | Self::Flips | Self::HangsUp | Self::IsFull)
    }
}

/// A proxy in front of a server on this host; ends with this value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    upstream: u16,
    armed: Mutex<Armed>,
    healed: Condvar,
}

#[derive(Debug, Default)]
struct Armed {
    trouble: Option<Trouble>,
    /// Which of the requests that could meet it do.
    hit: Range<usize>,
    /// As [`Proxy::seen`].
    seen: [usize; 2],
    hits: usize,
    ended: bool,
}

impl Proxy {
    /// In front of the server on this port.
    pub fn before(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { upstream, ..State::default() });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.armed.lock().unwrap().ended {
                    return;
                }
                let state = Arc::clone(&shared);
                // What fails here is what programs see of a bad network.
                thread::spawn(move || _ = state.serve(client));
            }
        });
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the `hit`-th requests that can meet the trouble do.
    pub fn arm(&self, trouble: Trouble, hit: Range<usize>) {
        *self.state.armed.lock().unwrap() = Armed { trouble: Some(trouble), hit, ..Armed::default() };
    }

    /// From now on all is well; whoever waits is cut off.
    pub fn heal(&self) {
        *self.state.armed.lock().unwrap() = Armed::default();
        self.state.healed.notify_all();
    }

    /// How many requests met the trouble since it was armed.
    pub fn hits(&self) -> usize {
        self.state.armed.lock().unwrap().hits
    }

    /// Requests and, among them, uploads, since it was armed or healed.
    pub fn seen(&self) -> [usize; 2] {
        self.state.armed.lock().unwrap().seen
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        *self.state.armed.lock().unwrap() = Armed { ended: true, ..Armed::default() };
        self.state.healed.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    /// What this request meets.
    fn meets(&self, is_upload: bool) -> Option<Trouble> {
        let mut armed = self.armed.lock().unwrap();
        let before = armed.seen;
        armed.seen[0] += 1;
        armed.seen[1] += usize::from(is_upload);
        let trouble = armed.trouble?;
        let number = before[usize::from(trouble.is_of_uploads())];
        let fits = is_upload || !trouble.is_of_uploads();
        (fits && armed.hit.contains(&number)).then(|| {
            armed.hits += 1;
            trouble
        })
    }

    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let request = Request::read(&mut reader, &client)?;
        match self.meets(request.is_upload()) {
            None => self.pass(&request.head, &request.body, client),
            Some(Trouble::Truncates) => {
                let half = &request.body[..request.body.len() / 2];
                self.pass(&request.head_for(half.len()), half, client)
            }
            Some(Trouble::Flips) => {
                let mut body = request.body.clone();
                let middle = body.len() / 2;
                if let Some(byte) = body.get_mut(middle) {
                    *byte ^= 0x10;
                }
                self.pass(&request.head, &body, client)
            }
            Some(Trouble::Discards) => answer(client, 201),
            Some(Trouble::Answers(status)) => answer(client, status),
            Some(Trouble::IsFull) => answer(client, 507),
            Some(Trouble::HangsUp) => client.shutdown(Shutdown::Both),
            Some(Trouble::Silent) => {
                let armed = self.armed.lock().unwrap();
                drop(self.healed.wait_while(armed, |armed| armed.trouble.is_some()));
                client.shutdown(Shutdown::Both)
            }
        }
    }

    fn pass(&self, head: &str, body: &[u8], mut client: TcpStream) -> io::Result<()> {
        let mut upstream = TcpStream::connect(("127.0.0.1", self.upstream))?;
        upstream.write_all(head.as_bytes())?;
        upstream.write_all(body)?;
        io::copy(&mut upstream, &mut client)?;
        client.shutdown(Shutdown::Both)
    }
}

fn answer(mut client: TcpStream, status: u16) -> io::Result<()> {
    let reason = match status {
        201 => "Created",
        429 => "Too Many Requests",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    };
    write!(client, "HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    client.shutdown(Shutdown::Both)
}

struct Request {
    /// Up to the empty line, with the connection to be closed.
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn read(reader: &mut BufReader<TcpStream>, mut client: &TcpStream) -> io::Result<Self> {
        let (mut head, mut length, mut chunked) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let lower = line.to_ascii_lowercase();
            match lower.trim_end().split_once(':') {
                Some(("content-length", value)) => {
                    length = value.trim().parse().map_err(io::Error::other)?;
                }
                Some(("transfer-encoding", _)) => {
                    chunked = true;
                    continue;
                }
                Some(("expect", _)) => {
                    client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                    continue;
                }
                Some(("connection", _)) => continue,
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
            head.push_str(&line);
        }
        if head.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut body = vec![0; length];
        if chunked {
            body = chunks(reader)?;
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        } else {
            reader.read_exact(&mut body)?;
        }
        head.push_str("Connection: close\r\n\r\n");
        Ok(Self { head, body })
    }

    fn is_upload(&self) -> bool {
        self.head.starts_with("PUT ")
    }

    /// The head of the same request with a body of another length.
    fn head_for(&self, length: usize) -> String {
        let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
        let lines = self.head.trim_end().split("\r\n");
        let kept: Vec<&str> = lines.filter(|line| !is_length(line)).collect();
        format!("{}\r\nContent-Length: {length}\r\n\r\n", kept.join("\r\n"))
    }
}

fn chunks(reader: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
