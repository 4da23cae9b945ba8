//! One run of mongodump, from its start to a checked archive in a pack that is not yet finished.

use crate::{
    domain::verdict::Failure,
    storage::{
        archive::{
            broken::{Broken, FeedError},
            contents::Contents,
            filter::Filter,
            parser::Parser,
        },
        pack::writer::PackWriter,
    },
    task::{
        context::Meter,
        mongodb::{
            connection::{Connection, Target},
            failure::{self, Needs, OPLOG_INTERRUPTED},
            tool::{Flow, Stalled, Tool, Tools, config_pipe, data_pipe, ended},
        },
    },
};
use mongodb::options::ServerAddress;
use std::{fs::File, io::Read, os::fd::OwnedFd, process::Stdio, sync::Arc};
use tokio::sync::oneshot;

/// Taken from the pipe at once.
const CHUNK: usize = 256 << 10;

/// What to dump, and how.
pub(super) struct Dump<'a> {
    pub(super) connection: &'a Connection,
    pub(super) member: &'a ServerAddress,
    pub(super) tools: &'a Tools,
    pub(super) oplog: bool,
    pub(super) parallel: u8,
}

/// How the reading of the archive ended, and the pack that it went into.
type Pumped = (Result<Contents, FeedError>, PackWriter);

impl Dump<'_> {
    /// Runs mongodump. Good only when it exited 0, the archive is clean, and the oplog is in it when it should be.
    pub(super) async fn run(
        &self,
        filter: Filter,
        writer: PackWriter,
        meter: Arc<Meter>,
    ) -> Result<(Contents, PackWriter), Failure> {
        meter.begin("mongodb: dumping", None);
        let (read, write) = data_pipe()?;
        let mut tool = self.start(write)?;
        let flow = Arc::new(Flow::default());
        let pump = Pump { parser: Parser::new(filter), writer, flow: flow.clone(), meter };
        let pumped = pump.start(read)?;
        let pumped = tokio::select! {
            pumped = pumped => pumped,
            stalled = flow.stalled(self.tools) => {
                tool.stop().await;
                return Err(self.stalled(stalled));
            }
        };
        let (outcome, writer) =
            pumped.map_err(|_| Failure::temporary("Interrupted", "reading the archive was stopped"))?;
        if let Err(FeedError::Sink(failure)) = outcome {
            tool.stop().await;
            return Err(failure);
        }
        let contents = self.judge(&mut tool, outcome).await?;
        Ok((contents, writer))
    }

    fn start(&self, stdout: OwnedFd) -> Result<Tool, Failure> {
        let config = config_pipe(&self.connection.tool_config(Target::Member(self.member))?)?;
        Tool::start("mongodump", &self.tools.mongodump, |command| {
            // The configuration comes through standard input, whose end also answers a question for a password.
            command.args(["--config=/dev/fd/0", "--archive", "--serverSelectionTimeout=30"]);
            command.arg(format!("--socketTimeout={}", self.tools.stall.as_secs().max(1)));
            command.arg(format!("--numParallelCollections={}", self.parallel));
            if self.oplog {
                command.arg("--oplog");
            }
            command.stdin(config).stdout(Stdio::from(stdout));
        })
    }

    async fn judge(
        &self,
        tool: &mut Tool,
        outcome: Result<Contents, FeedError>,
    ) -> Result<Contents, Failure> {
        // Its output has ended: what it still does is exit.
        let status = match tokio::time::timeout(self.tools.stall, tool.end()).await {
            Ok(status) => status?,
            Err(_) => {
                tool.stop().await;
                return Err(self.stalled(Stalled::Tool));
            }
        };
        let said = tool.said();
        if !status.success() {
            let how = ended(status);
            return Err(failure::from_tool("mongodump", &said, &how, self.connection, Needs::Backup));
        }
        let contents = outcome.map_err(|broken| {
            Failure::temporary(
                "ArchiveBroken",
                format!("mongodump exited well, but {broken} (it said: {said})"),
            )
        })?;
        if self.oplog && contents.oplog.is_none() {
            return Err(Failure::temporary(OPLOG_INTERRUPTED, "the dump holds no oplog entry"));
        }
        Ok(contents)
    }

    fn stalled(&self, who: Stalled) -> Failure {
        match who {
            Stalled::Tool => Failure::temporary(
                "DumpStalled",
                format!(
                    "mongodump moved no byte for {} s and was ended: {} does not answer",
                    self.tools.stall.as_secs(),
                    self.member
                ),
            )
            .fix("look at the MongoDB server's log and load"),
            Stalled::Store => Failure::temporary(
                "StoreStalled",
                format!(
                    "the remote took no byte for {} minutes, longer than a MongoDB session may wait",
                    self.tools.store_stall.as_secs() / 60
                ),
            )
            .fix("look at the remote and at destination.bandwidthLimit"),
        }
    }
}

/// The thread between mongodump and the pack.
struct Pump {
    parser: Parser,
    writer: PackWriter,
    flow: Arc<Flow>,
    meter: Arc<Meter>,
}

impl Pump {
    fn start(self, read: OwnedFd) -> Result<oneshot::Receiver<Pumped>, Failure> {
        let (send, receive) = oneshot::channel();
        let run = move || {
            let _ = send.send(self.run(File::from(read)));
        };
        std::thread::Builder::new()
            .name("archive".to_owned())
            .spawn(run)
            .map_err(|e| Failure::temporary("NoThreads", format!("no thread could be started: {e}")))?;
        Ok(receive)
    }

    fn run(mut self, mut archive: File) -> Pumped {
        let mut buffer = vec![0; CHUNK];
        loop {
            match archive.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if let Err(error) = self.take(&buffer[..length]) {
                        return (Err(error), self.writer);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let problem = format!("reading from mongodump: {error}");
                    let broken = Broken { offset: self.parser.offset(), namespace: None, problem };
                    return (Err(broken.into()), self.writer);
                }
            }
        }
        (self.parser.finish().map_err(FeedError::from), self.writer)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), FeedError> {
        let Self { parser, writer, flow, meter } = self;
        flow.passed(bytes.len());
        let documents = parser.documents();
        parser.feed(bytes, &mut |kept| {
            flow.ours(true);
            let written = writer.write(kept);
            flow.ours(false);
            written
        })?;
        // Where frames lie is of no use for a stream that is read from its beginning.
        writer.placed();
        meter.add(bytes.len() as u64, parser.documents() - documents);
        Ok(())
    }
}
