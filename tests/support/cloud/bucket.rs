//! Objects by name, as the JSON interface of Google's storage has them: as much of it as rclone uses.

use super::http::{Answer, Request, decoded};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

/// The objects of a cloud; every bucket is the same.
pub struct Bucket {
    url: String,
    objects: Mutex<BTreeMap<String, Object>>,
    sessions: Mutex<Vec<(Value, Vec<u8>)>>,
}

struct Object {
    bytes: Vec<u8>,
    metadata: Value,
}

impl Bucket {
    /// The objects behind the server at `url`.
    pub fn at(url: &str) -> Self {
        Self { url: url.to_owned(), objects: Mutex::default(), sessions: Mutex::default() }
    }

    pub fn answer(&self, request: &Request) -> Answer {
        let steps: Vec<&str> = request.path.trim_start_matches('/').splitn(4, '/').collect();
        match (request.method.as_str(), steps.as_slice()) {
            ("GET", ["b", _, "o"]) => self.list(request),
            ("GET", ["b", _, "o", name]) => self.found(&decoded(name), |object| object.described(&self.url)),
            ("GET", ["bytes", name]) => self.bytes(request, &decoded(name)),
            ("DELETE", ["b", _, "o", name]) => match self.objects.lock().unwrap().remove(&decoded(name)) {
                Some(_) => Answer::new(204, vec![]),
                None => none(),
            },
            ("POST", ["upload", ..]) => self.upload(request),
            ("PUT", ["session", number]) => self.chunk(request, number.parse().unwrap()),
            _ => none(),
        }
    }

    fn found(&self, name: &str, answer: impl FnOnce(&Object) -> Value) -> Answer {
        match self.objects.lock().unwrap().get(name) {
            Some(object) => Answer::json(200, answer(object).to_string()),
            None => none(),
        }
    }

    fn list(&self, request: &Request) -> Answer {
        let prefix = request.field("prefix").unwrap_or_default();
        let (mut items, mut prefixes) = (Vec::new(), BTreeSet::new());
        for (name, object) in &*self.objects.lock().unwrap() {
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            match rest.split_once('/').filter(|_| request.field("delimiter").is_some()) {
                Some((folder, _)) => _ = prefixes.insert(format!("{prefix}{folder}/")),
                None => items.push(object.described(&self.url)),
            }
        }
        Answer::json(200, json!({"items": items, "prefixes": prefixes}).to_string())
    }

    fn bytes(&self, request: &Request, name: &str) -> Answer {
        let objects = self.objects.lock().unwrap();
        let Some(object) = objects.get(name) else { return none() };
        let range = request.header("range").and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
        let Some((start, end)) = range else { return Answer::new(200, object.bytes.clone()) };
        let length = object.bytes.len();
        let end = end.parse::<usize>().map_or(length, |last| length.min(last + 1));
        let start: usize = start.parse().unwrap();
        let header = format!("Content-Range: bytes {start}-{}/{length}", end - 1);
        Answer::new(206, object.bytes[start..end].to_vec()).with(&header)
    }

    /// In one piece with its metadata in front, or the beginning of a session that chunks follow.
    fn upload(&self, request: &Request) -> Answer {
        if request.field("uploadType").as_deref() == Some("resumable") {
            let mut sessions = self.sessions.lock().unwrap();
            sessions.push((serde_json::from_slice(&request.body).unwrap(), Vec::new()));
            let place = format!("Location: {}/session/{}", self.url, sessions.len() - 1);
            return Answer::json(200, "{}").with(&place);
        }
        let end_of = |bytes: &[u8], what: &[u8]| {
            bytes.windows(what.len()).position(|window| window == what).map(|at| at + what.len())
        };
        let body = &request.body;
        let boundary = &body[..end_of(body, b"\r\n").unwrap() - 2];
        let metadata = end_of(body, b"\r\n\r\n").unwrap();
        let second = metadata + end_of(&body[metadata..], boundary).unwrap();
        let bytes = second + end_of(&body[second..], b"\r\n\r\n").unwrap();
        let end = body.len() - boundary.len() - b"\r\n--\r\n".len();
        let mut values = serde_json::Deserializer::from_slice(&body[metadata..]).into_iter();
        self.keep(values.next().unwrap().unwrap(), body[bytes..end].to_vec())
    }

    fn chunk(&self, request: &Request, number: usize) -> Answer {
        let mut sessions = self.sessions.lock().unwrap();
        let (metadata, bytes) = &mut sessions[number];
        bytes.extend_from_slice(&request.body);
        let whole = request.header("content-range").and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        if whole == Some(bytes.len()) {
            return self.keep(metadata.clone(), std::mem::take(bytes));
        }
        let so_far = format!("Range: bytes=0-{}", bytes.len().saturating_sub(1));
        Answer::json(200, "").with("X-Http-Status-Code-Override: 308").with(&so_far)
    }

    fn keep(&self, metadata: Value, bytes: Vec<u8>) -> Answer {
        let name = metadata["name"].as_str().unwrap().to_owned();
        let object = Object { bytes, metadata };
        let answer = Answer::json(200, object.described(&self.url).to_string());
        self.objects.lock().unwrap().insert(name, object);
        answer
    }
}

impl Object {
    fn described(&self, url: &str) -> Value {
        let mut described = self.metadata.clone();
        let name = described["name"].as_str().unwrap().replace('/', "%2F");
        described["size"] = json!(self.bytes.len().to_string());
        described["updated"] = json!("2026-01-01T00:00:00Z");
        described["mediaLink"] = json!(format!("{url}/bytes/{name}"));
        described
    }
}

fn none() -> Answer {
    Answer::json(404, r#"{"error":{"code":404,"message":"none"}}"#)
}
