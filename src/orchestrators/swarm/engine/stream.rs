//! What the engine sends bit by bit: events, and logs in frames.

use super::{
    Engine, LOGS,
    model::Event,
    refusal::{Refusal, refused},
};
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

/// A frame of a log: which stream, three zeros, the length, big-endian.
const HEADER: usize = 8;
/// Most of a log that is read.
const MOST: usize = 8 << 20;
/// Longest line of events.
const LINE: usize = 1 << 20;

/// Which output of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// What it says by the line for machines: progress, and its report.
    Standard,
    /// What it says for people.
    Error,
}

impl Engine {
    /// What a task has said last, `lines` at most; all of it when none are given.
    ///
    /// # Errors
    /// As all calls. Logs of a node that is away do not come; those of an engine that was started again are empty.
    pub async fn task_log(&self, task: &str, output: Output, lines: Option<u32>) -> Result<String, Refusal> {
        let chosen = match output {
            Output::Standard => "stdout",
            Output::Error => "stderr",
        };
        let tail = lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let query = [(chosen, "1".to_owned()), ("tail", tail)];
        let request = self.request(Method::GET, &format!("/tasks/{task}/logs"), &query).await?.timeout(LOGS);
        let frames = self.send(request, false).await?;
        Ok(unframed(&frames[..frames.len().min(MOST)], output))
    }

    /// What happens to services, configs, secrets and nodes from now on, until the connection breaks.
    ///
    /// # Errors
    /// As all calls.
    pub async fn events(&self) -> Result<impl Stream<Item = Event> + Send + use<>, Refusal> {
        let wanted = json!({"scope": ["swarm"], "type": ["service", "config", "secret", "node"]});
        let request = self.request(Method::GET, "/events", &[("filters", wanted.to_string())]).await?;
        let answer = tokio::time::timeout(Duration::from_secs(20), request.send()).await;
        let silent = || Refusal::unanswered("no answer to /events".to_owned(), false);
        let answer = answer.map_err(|_| silent())?.map_err(|error| self.no_answer(&error, false))?;
        let status = answer.status();
        if !status.is_success() {
            let body = answer.bytes().await.unwrap_or_default();
            return Err(refused(status, &body, false));
        }
        let mut rest = Vec::new();
        let pieces = answer.bytes_stream().take_while(|piece| std::future::ready(piece.is_ok()));
        Ok(pieces.flat_map(move |piece| stream::iter(events(&mut rest, &piece.unwrap_or_default()))))
    }
}

/// The events that are whole by now.
fn events(rest: &mut Vec<u8>, piece: &[u8]) -> Vec<Event> {
    rest.extend_from_slice(piece);
    let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines: Vec<u8> = rest.drain(..whole).collect();
    if rest.len() > LINE {
        rest.clear();
    }
    lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// The text of one output. A frame of another kind says that something is missing; a log without frames is of a terminal.
fn unframed(bytes: &[u8], output: Output) -> String {
    let wanted = match output {
        Output::Standard => 1,
        Output::Error => 2,
    };
    let (mut text, mut rest) = (Vec::new(), bytes);
    while let Some((header, body)) = rest.split_at_checked(HEADER) {
        let length = header.get(4..).and_then(|length| <[u8; 4]>::try_from(length).ok()).unwrap_or_default();
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX).min(body.len());
        let (frame, after) = body.split_at(length);
        if header.first() == Some(&wanted) {
            text.extend_from_slice(frame);
        }
        rest = after;
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
    }

    #[test]
    fn frames_are_told_apart_and_a_cut_one_is_no_error() {
        let log = [frame(1, "a\n"), frame(2, "b\n"), frame(1, "c"), frame(3, "incomplete"), frame(1, "d\n")]
            .concat();
        assert_eq!(unframed(&log, Output::Standard), "a\ncd\n");
        assert_eq!(unframed(&log, Output::Error), "b\n");
        for end in 0..log.len() {
            unframed(&log[..end], Output::Standard);
        }
    }

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = "{\"Type\":\"node\",\"Action\":\"update\"}\n\nnonsense\n{\"Type\":\"service\"}\n";
        let mut rest = Vec::new();
        let found: Vec<Event> =
            text.as_bytes().chunks(5).flat_map(|piece| events(&mut rest, piece)).collect();
        let kinds: Vec<&str> = found.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["node", "service"]);
    }
}
