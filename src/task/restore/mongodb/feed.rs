//! From the pack into mongorestore.

use super::job::{Job, damaged};
use crate::{
    domain::verdict::Failure,
    storage::{
        archive::{
            broken::FeedError,
            contents::{Contents, Entry},
            filter::Filter,
            parser::Parser,
        },
        pack::reader::PackReader,
    },
    task::mongodb::{
        connection::{Connection, Target},
        failure::{self, Needs},
        member,
        tool::{Flow, Stalled, Tool, Tools, config_pipe, data_pipe, ended},
    },
};
use bytes::Bytes;
use mongodb::bson::doc;
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Decompressed at once.
const CHUNK: usize = 256 << 10;
/// Reason of a write that mongorestore no longer takes: its own words say why.
const CLOSED: &str = "ToolClosed";

/// Feeds the archive to mongorestore. Good only when it exited 0, the archive is clean, and every document of it was
/// inserted.
pub(super) async fn feed(
    job: &Job<'_>,
    reader: PackReader,
    bytes: u64,
    filter: Filter,
    replay: bool,
) -> Result<Contents, Failure> {
    job.meter.begin("mongodb: restoring", Some(bytes));
    let (read, write) = data_pipe()?;
    let mut tool = start(job, read, replay)?;
    let flow = Arc::new(Flow::default());
    flow.ours(true);
    let (parts, receive) = mpsc::channel(1);
    let mut pump = Pump { parser: Parser::new(filter), flow: flow.clone() }.start(receive, write)?;
    let fetched = tokio::select! {
        fetched = fetch(job, &reader, parts) => fetched,
        stalled = flow.stalled(job.tools) => Err(stopped(stalled, job.tools)),
    };
    let outcome = match fetched {
        Ok(()) => tokio::select! {
            outcome = &mut pump => outcome.map_err(|_| Failure::temporary("Interrupted", "restoring was stopped")),
            stalled = flow.stalled(job.tools) => Err(stopped(stalled, job.tools)),
        },
        Err(failure) => Err(failure),
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => {
            tool.stop().await;
            return Err(touched(failure));
        }
    };
    let status = finish(&mut tool, job.connection, job.tools).await.map_err(touched)?;
    judge(&tool, status, outcome, job.connection).map_err(touched)
}

/// The database may hold a part of the backup now.
fn touched(mut failure: Failure) -> Failure {
    if matches!(failure.reason.as_str(), "AuthenticationFailed" | "AuthenticationRequired") {
        return failure;
    }
    failure.message.push_str("; the target may hold a part of the backup now");
    if failure.fix.is_none() {
        failure = failure.fix("restore again, with confirmation that the collections may be replaced");
    }
    failure
}

fn start(job: &Job<'_>, stdin: OwnedFd, replay: bool) -> Result<Tool, Failure> {
    let config = config_pipe(&job.connection.tool_config(Target::Deployment)?)?;
    Tool::start("mongorestore", &job.tools.mongorestore, |command| {
        // Standard input is the archive; the configuration takes the place of standard output, which it does not use.
        command.args(["--config=/dev/fd/1", "--archive", "--stopOnError", "--serverSelectionTimeout=30"]);
        if replay {
            command.arg("--oplogReplay");
        }
        if job.options.replace {
            command.arg("--drop");
        }
        command.stdin(Stdio::from(stdin)).stdout(Stdio::from(config));
    })
}

/// Sends verified parts, one ahead. Ends early when nobody takes them: the other side knows why.
async fn fetch(job: &Job<'_>, reader: &PackReader, parts: mpsc::Sender<Bytes>) -> Result<(), Failure> {
    for n in (0u32..).take(reader.parts().len()) {
        let part = reader.part(n).await?;
        let plain = job.record.packs[0].plain / reader.parts().len() as u64;
        if parts.send(part).await.is_err() {
            break;
        }
        job.meter.add(plain, 0);
    }
    Ok(())
}

/// Waits for its end: indexes may take hours after the last byte, as long as the server answers.
async fn finish(tool: &mut Tool, connection: &Connection, tools: &Tools) -> Result<ExitStatus, Failure> {
    let client = connection.client()?;
    let pause = (tools.stall / 2).min(Duration::from_secs(30));
    let mut silent = Duration::ZERO;
    loop {
        if let Ok(status) = tokio::time::timeout(pause, tool.end()).await {
            return status;
        }
        let answer = member::command(connection, &client, doc! {"ping": 1});
        match tokio::time::timeout(tools.stall, answer).await {
            Ok(Ok(_)) => silent = Duration::ZERO,
            _ => silent += pause,
        }
        if silent >= tools.stall {
            tool.stop().await;
            return Err(stopped(Stalled::Tool, tools));
        }
    }
}

fn judge(
    tool: &Tool,
    status: ExitStatus,
    outcome: Result<Contents, FeedError>,
    connection: &Connection,
) -> Result<Contents, Failure> {
    let said = tool.said();
    match outcome {
        Err(FeedError::Broken(broken)) => return Err(damaged(&broken.to_string())),
        Err(FeedError::Sink(failure)) if failure.reason != CLOSED => return Err(failure),
        _ if !status.success() => {
            return Err(failure::from_tool(
                "mongorestore",
                &said,
                &ended(status),
                connection,
                Needs::Restore,
            ));
        }
        _ => {}
    }
    let contents = outcome.map_err(|_| {
        Failure::temporary(
            "RestoreFailed",
            format!("mongorestore ended before the archive did; it said: {said}"),
        )
    })?;
    // It leaves out names of several lines; the comparison tells of each.
    let taken = |e: &&Entry| e.target.as_ref().is_some_and(|target| !target.has_lines());
    let expected: u64 = contents.namespaces.iter().filter(taken).map(|e| e.documents).sum();
    match inserted(&said) {
        Some(documents) if documents != expected => Err(Failure::permanent(
            "DocumentsMissing",
            format!("mongorestore inserted {documents} documents, and the backup has {expected}"),
        )),
        _ => Ok(contents),
    }
}

/// The number in its last line: `1500 document(s) restored successfully. 0 document(s) failed to restore.`
fn inserted(said: &str) -> Option<u64> {
    said.split_once(" document(s) restored successfully")?.0.parse().ok()
}

fn stopped(who: Stalled, tools: &Tools) -> Failure {
    match who {
        Stalled::Tool => Failure::temporary(
            "RestoreStalled",
            format!(
                "mongorestore stood still for {} s and was ended: the server does not answer",
                tools.stall.as_secs()
            ),
        )
        .fix("look at the MongoDB server's log and load"),
        Stalled::Store => Failure::temporary(
            "StoreStalled",
            format!("the remote gave no part for {} minutes", tools.store_stall.as_secs() / 60),
        ),
    }
}

/// The thread between the parts and mongorestore.
struct Pump {
    parser: Parser,
    flow: Arc<Flow>,
}

impl Pump {
    fn start(
        self,
        parts: mpsc::Receiver<Bytes>,
        write: OwnedFd,
    ) -> Result<oneshot::Receiver<Result<Contents, FeedError>>, Failure> {
        let (send, receive) = oneshot::channel();
        let run = move || {
            let _ = send.send(self.run(parts, File::from(write)));
        };
        std::thread::Builder::new()
            .name("archive".to_owned())
            .spawn(run)
            .map_err(|e| Failure::temporary("NoThreads", format!("no thread could be started: {e}")))?;
        Ok(receive)
    }

    /// The pipe is closed at the end, good or bad: a cut archive makes mongorestore fail.
    fn run(mut self, mut parts: mpsc::Receiver<Bytes>, mut pipe: File) -> Result<Contents, FeedError> {
        let mut buffer = vec![0; CHUNK];
        while let Some(part) = parts.blocking_recv() {
            let mut plain = zstd::stream::read::Decoder::with_buffer(&part[..]).map_err(undecodable)?;
            loop {
                let length = plain.read(&mut buffer).map_err(undecodable)?;
                if length == 0 {
                    break;
                }
                self.write(&buffer[..length], &mut pipe)?;
            }
        }
        self.parser.finish().map_err(FeedError::from)
    }

    fn write(&mut self, bytes: &[u8], pipe: &mut File) -> Result<(), FeedError> {
        let Self { parser, flow } = self;
        parser.feed(bytes, &mut |kept| {
            flow.ours(false);
            let written = pipe.write_all(kept);
            flow.ours(true);
            flow.passed(kept.len());
            written.map_err(|e| Failure::temporary(CLOSED, format!("writing to mongorestore: {e}")))
        })
    }
}

fn undecodable(error: std::io::Error) -> FeedError {
    FeedError::Sink(damaged(&format!("a part cannot be decompressed: {error}")))
}
