//! What rclone says on stderr, as far as it is of use: the last errors, by object.

use serde::Deserialize;
use std::{
    collections::VecDeque,
    io::BufRead,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Lines kept; with a few parallel transfers the line of a failed one is among the last.
const KEPT: usize = 100;
/// Longest message kept, characters.
const LONGEST: usize = 1000;

/// The last errors.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    last: VecDeque<Line>,
    /// Lines before those.
    dropped: usize,
}

/// A moment in the log: see [`Log::now`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(usize);

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    object: String,
}

impl Log {
    /// Reads until the end of the stream.
    pub fn follow(&self, stream: impl BufRead) {
        for line in stream.split(b'\n').map_while(Result::ok) {
            self.add(&String::from_utf8_lossy(&line));
        }
    }

    fn add(&self, text: &str) {
        // A line that is not JSON comes from before its log began, or is a crash of Go.
        let line: Line = serde_json::from_str(text).unwrap_or_else(|_| Line {
            level: "error".to_owned(),
            msg: text.to_owned(),
            object: String::new(),
        });
        if line.msg.trim().is_empty() {
            return;
        }
        let msg = redact(&line.msg);
        tracing::debug!(object = line.object, "rclone {}: {msg}", line.level);
        // That a name is taken is an answer, no error.
        let answer = msg.contains("refusing to overwrite");
        if answer || !matches!(line.level.as_str(), "error" | "critical" | "alert" | "emergency" | "fatal") {
            return;
        }
        let mut lines = self.lock();
        if lines.last.len() == KEPT {
            lines.last.pop_front();
            lines.dropped += 1;
        }
        lines.last.push_back(Line { msg, ..line });
    }

    /// Where the log ends now.
    pub fn now(&self) -> Moment {
        let lines = self.lock();
        Moment(lines.dropped + lines.last.len())
    }

    /// The last error about this object since then.
    pub fn about(&self, object: &str, since: Moment) -> Option<String> {
        let lines = self.lock();
        let new = lines.last.iter().skip(since.0.saturating_sub(lines.dropped));
        // One failure may have two lines; this is the first, and the second comes when an answer was given.
        let mut new = new.rev().filter(|line| !line.msg.starts_with("Post request put error"));
        new.find(|line| line.object == object).map(|line| line.msg.clone())
    }

    /// The last error about anything.
    pub fn last(&self) -> Option<String> {
        self.lock().last.back().map(|line| line.msg.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without what may be a secret: queries and users in URLs. Backends put whole requests into their errors.
pub(super) fn redact(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '>' | ')');
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        out.push_str(before);
        let end = url.find(ends).unwrap_or(url.len());
        let address = &url[..end];
        let host_end = address.find(['/', '?']).unwrap_or(address.len());
        let from = address[..host_end].rfind('@').map_or(0, |at| at + 1);
        match address.find('?') {
            Some(query) if query >= from => {
                out.push_str(&address[from..query]);
                out.push_str("?…");
            }
            _ => out.push_str(&address[from..]),
        }
        rest = &url[end..];
    }
    out.push_str(rest);
    out.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_not_repeated() {
        for (text, expected) in [
            ("no url", "no url"),
            (
                "Put \"https://u:p@host/a?X-Sig=1&b\": refused, see https://x/y",
                "Put \"https://host/a?…\": refused, see https://x/y",
            ),
            ("https://a@b:1/c@d?e@f", "https://b:1/c@d?…"),
            ("http://h?token=1 x", "http://h?… x"),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn the_last_error_of_an_object_is_found() {
        let log = Log::default();
        log.follow(
            &br#"Failed to load config
{"level":"error","msg":"one","object":"a","source":"x"}
{"level":"notice","msg":"two","object":"a"}
{"level":"error","msg":"three","object":"b"}
{"level":"error","msg":"four","object":{"not":"text"}}
{"level":"error","msg":"Post request: file already exists, refusing to overwrite in append-only mode","object":"c"}
"#[..],
        );
        assert!(log.last().unwrap().contains("four"));
        let start = Moment(0);
        assert_eq!(log.about("a", start).as_deref(), Some("one"));
        assert_eq!(log.about("b", start).as_deref(), Some("three"));
        assert_eq!(log.about("c", start), None);
        let now = log.now();
        assert_eq!(log.about("a", now), None, "that was about an earlier try");
        for n in 0..2 * KEPT {
            log.add(&format!(r#"{{"level":"error","msg":"{n}","object":"a"}}"#));
        }
        assert_eq!(log.about("a", now).as_deref(), Some("199"));
        assert_eq!(log.about("a", log.now()), None);
    }
}
