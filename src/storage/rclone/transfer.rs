//! Bytes up and down, watched: a transfer that makes no progress is given up, a download goes on where it broke.

use super::{daemon::Daemon, reason, supervisor::Supervisor};
use crate::storage::store::StoreError;
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use reqwest::{
    Body, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
};
use serde_json::json;
use std::{
    convert::Infallible,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time;

/// Bytes handed to the connection at once: what is in flight when progress is measured.
const PIECE: usize = 128 << 10;

/// Stores an object. The body is only ever ended well when all of it was sent: given up, the connection is cut, and
/// the remote sees a short body.
///
/// # Errors
/// As [`crate::storage::store::ObjectStore::put`].
pub(super) async fn put(supervisor: &Supervisor, path: &str, body: &[Bytes]) -> Result<(), StoreError> {
    let daemon = supervisor.daemon().await?;
    let operation = format!("storing {path}");
    let size: usize = body.iter().map(Bytes::len).sum();
    let (sent, began) = (Arc::new(AtomicU64::new(0)), daemon.moment());
    let request = daemon.objects.post(url(path)).header(CONTENT_LENGTH, size);
    let request = request.header(CONTENT_TYPE, "application/octet-stream").body(pieces(body, &sent)).send();
    let Some(answer) = moving(request, &sent, supervisor.options.stall).await else {
        supervisor.stalled(&daemon);
        return Err(unavailable(&operation, "no byte moved for too long"));
    };
    let answer = answer.map_err(|error| unavailable(&operation, daemon.broken(&error)))?;
    match answer.status() {
        StatusCode::OK => {
            supervisor.moved();
            Ok(())
        }
        StatusCode::FORBIDDEN => Err(StoreError::Exists { path: path.to_owned() }),
        status => Err(match daemon.words_about(path, began).await {
            Some(words) => reason::of(&operation, &words),
            None => unavailable(&operation, format!("rclone answered {status} and gave no reason")),
        }),
    }
}

fn pieces(body: &[Bytes], sent: &Arc<AtomicU64>) -> Body {
    let sent = Arc::clone(sent);
    let chunks = body.to_vec();
    let pieces = chunks.into_iter().flat_map(|chunk| {
        let starts = (0..chunk.len()).step_by(PIECE);
        starts.map(move |at| chunk.slice(at..chunk.len().min(at + PIECE)))
    });
    Body::wrap_stream(stream::iter(pieces.map(move |piece| {
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok::<_, Infallible>(piece)
    })))
}

/// The future's output; `None` when `progress` did not change for `stall`.
async fn moving<F: Future>(future: F, progress: &AtomicU64, stall: Duration) -> Option<F::Output> {
    const LOOKS: u32 = 8;
    let mut future = std::pin::pin!(future);
    let (mut seen, mut quiet) = (0, 0);
    while quiet < LOOKS {
        if let Ok(output) = time::timeout(stall / LOOKS, future.as_mut()).await {
            return Some(output);
        }
        let now = progress.load(Ordering::Relaxed);
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
    None
}

/// The bytes of an object in `range`, cut to the object.
///
/// # Errors
/// As [`crate::storage::store::ObjectStore::read`].
pub(super) async fn read(
    supervisor: Arc<Supervisor>,
    path: &str,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
    let (at, end) = (range.start, range.end.max(range.start));
    let mut download = Download { supervisor, path: path.to_owned(), at, end, tries: 0, open: None };
    // Opened here, so that an object that is not there is the call's own error.
    download.ensure_open().await?;
    let chunks = stream::unfold(Some(download), |download| async {
        let mut download = download?;
        match download.next().await {
            Ok(None) => None,
            Ok(Some(chunk)) => Some((Ok(chunk), Some(download))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(chunks.boxed())
}

/// A download on its way.
struct Download {
    supervisor: Arc<Supervisor>,
    path: String,
    /// The next byte, and the end; the object's own once that is known.
    at: u64,
    end: u64,
    /// Failures since the last byte.
    tries: usize,
    open: Option<(Response, Arc<Daemon>)>,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        while self.at < self.end {
            self.ensure_open().await?;
            let Some((response, daemon)) = &mut self.open else { break };
            let error = match time::timeout(self.supervisor.options.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) if !chunk.is_empty() => {
                    let wanted = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
                    let chunk = chunk.slice(..chunk.len().min(wanted));
                    self.at += chunk.len() as u64;
                    self.tries = 0;
                    self.supervisor.moved();
                    return Ok(Some(chunk));
                }
                Ok(Ok(Some(_))) => continue,
                Ok(Ok(None)) => format!("it ended at byte {} of {}", self.at, self.end),
                Ok(Err(error)) => daemon.broken(&error),
                Err(_) => {
                    self.supervisor.stalled(daemon);
                    "no byte moved for too long".to_owned()
                }
            };
            self.open = None;
            self.pause(unavailable(&self.operation(), error)).await?;
        }
        Ok(None)
    }

    /// Opens the object at the next byte, if it is not open; again and again while that may help.
    async fn ensure_open(&mut self) -> Result<(), StoreError> {
        while self.open.is_none() && self.at < self.end {
            match self.open().await {
                Ok(open) => self.open = open,
                Err(error @ StoreError::Unavailable { .. }) => self.pause(error).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits before the next try, or gives `error` back after the last.
    async fn pause(&mut self, error: StoreError) -> Result<(), StoreError> {
        let Some(&wait) = self.supervisor.options.backoff.get(self.tries) else { return Err(error) };
        tracing::warn!("{error}; trying again in {} s", wait.as_secs());
        self.tries += 1;
        time::sleep(wait).await;
        Ok(())
    }

    async fn open(&mut self) -> Result<Option<(Response, Arc<Daemon>)>, StoreError> {
        let daemon = self.supervisor.daemon().await?;
        let mut request = daemon.objects.get(url(&self.path));
        request = match (self.at, self.end) {
            (0, u64::MAX) => request,
            (at, u64::MAX) => request.header(RANGE, format!("bytes={at}-")),
            (at, end) => request.header(RANGE, format!("bytes={at}-{}", end - 1)),
        };
        let Ok(answer) = time::timeout(self.supervisor.options.stall, request.send()).await else {
            self.supervisor.stalled(&daemon);
            return Err(unavailable(&self.operation(), "no answer for too long"));
        };
        let response = answer.map_err(|error| unavailable(&self.operation(), daemon.broken(&error)))?;
        match response.status() {
            StatusCode::OK if self.at == 0 => {
                self.end = self.end.min(response.content_length().unwrap_or(self.end));
            }
            StatusCode::PARTIAL_CONTENT => {
                let size = total(&response).ok_or_else(|| {
                    unavailable(&self.operation(), "rclone's answer does not say which bytes it has")
                })?;
                self.end = self.end.min(size);
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.end = self.at;
                return Ok(None);
            }
            StatusCode::NOT_FOUND => return Err(StoreError::NotFound { path: self.path.clone() }),
            status => return Err(self.ask_why(&daemon, status).await),
        }
        Ok(Some((response, daemon)))
    }

    /// The restic protocol gives no reason; asking for the object over the API does.
    async fn ask_why(&self, daemon: &Daemon, status: StatusCode) -> StoreError {
        let input = json!({"fs": daemon.fs(), "remote": self.path});
        match daemon.call("operations/stat", &input).await {
            Ok(_) => unavailable(&self.operation(), format!("rclone answered {status}")),
            Err(error) => error,
        }
    }

    fn operation(&self) -> String {
        format!("reading {}", self.path)
    }
}

/// The object's size in `Content-Range: bytes 0-9/100`.
fn total(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.parse().ok()
}

fn unavailable(operation: &str, detail: impl Into<String>) -> StoreError {
    StoreError::Unavailable { operation: operation.to_owned(), detail: detail.into() }
}

/// Object names need no escaping: see [`crate::storage::store::ObjectPath`].
fn url(path: &str) -> String {
    format!("http://rclone/{path}")
}
