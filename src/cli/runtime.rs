//! The async runtime of the verbs that talk to something.

use crate::{cli::problem::Problem, orchestrators::stop::Stop};
use anyhow::Context as _;
use std::time::Duration;

/// How long threads that are busy may hold up the end of the program.
const LET_GO: Duration = Duration::from_secs(3);

/// Runs `work`, which leaves nothing to be put in order, until its end or a signal. As a container's first process this one
/// would not be ended by any otherwise.
///
/// # Errors
/// As [`block_on_with`]; a signal.
pub fn block_on<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    block_on_with(|stop| async move {
        tokio::select! {
            done = work => done,
            () = stop.asked() => Err(Problem::Interrupted("stopped by a signal".to_owned())),
        }
    })
}

/// Runs `work` to its end on a runtime of its own, and tells it of signals. What still runs then is left to the end of the
/// process.
///
/// # Errors
/// What `work` ends with, or a runtime that could not be started.
pub fn block_on_with<T, W>(work: impl FnOnce(Stop) -> W) -> Result<T, Problem>
where
    W: Future<Output = Result<T, Problem>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .context("the async runtime could not be started")?;
    let result = runtime.block_on(async { work(Stop::listen().context("signals cannot be handled")?).await });
    runtime.shutdown_timeout(LET_GO);
    result
}
