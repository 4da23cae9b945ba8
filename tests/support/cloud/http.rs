//! As much of HTTP as a client of one request a connection needs.

use std::{
    io::{BufRead, BufReader, Read, Write as _},
    net::TcpStream,
};

/// A request.
pub struct Request {
    pub method: String,
    /// Without the query, as it was sent.
    pub path: String,
    query: String,
    /// Names and values in lower case.
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads one to its end; `None` when it is cut off.
    pub fn read(connection: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(connection);
        let first = line(&mut reader)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        loop {
            let header = line(&mut reader)?;
            let Some((name, value)) = header.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_lowercase()));
        }
        let mut request =
            Self { method, path: path.to_owned(), query: query.to_owned(), headers, body: Vec::new() };
        request.body = request.read_body(&mut reader)?;
        Some(request)
    }

    fn read_body(&self, reader: &mut impl BufRead) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        if self.header("transfer-encoding") == Some("chunked") {
            loop {
                let length = u64::from_str_radix(&line(reader)?, 16).ok()?;
                reader.by_ref().take(length).read_to_end(&mut body).ok()?;
                line(reader)?;
                if length == 0 {
                    return Some(body);
                }
            }
        }
        let length: u64 = self.header("content-length").map_or(Some(0), |text| text.parse().ok())?;
        reader.take(length).read_to_end(&mut body).ok()?;
        (body.len() as u64 == length).then_some(body)
    }

    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a field of the query.
    pub fn field(&self, name: &str) -> Option<String> {
        let fields = self.query.split('&').filter_map(|field| field.split_once('='));
        fields.into_iter().find(|(known, _)| *known == name).map(|(_, value)| decoded(value))
    }
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
    Some(line.trim_end().to_owned())
}

/// A text without `%` escapes.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap()
}

/// An answer.
pub struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, body.into().into_bytes()).with("Content-Type: application/json")
    }

    pub fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: String::new(), body }
    }

    /// With one more header.
    pub fn with(mut self, header: &str) -> Self {
        self.headers += header;
        self.headers += "\r\n";
        self
    }

    /// Sends it; who is gone does not get it.
    pub fn send(self, mut connection: &TcpStream) {
        let Self { status, headers, body } = self;
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} x\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n");
        let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
    }
}
