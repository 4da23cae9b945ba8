//! The async runtime of the verbs that talk to something.

use crate::cli::problem::Problem;
use anyhow::Context as _;
use std::time::Duration;

/// How long threads that are busy may hold up the end of the program.
const LET_GO: Duration = Duration::from_secs(3);

/// Runs `work` to its end on a runtime of its own. What still runs then is left to the end of the process.
///
/// # Errors
/// What `work` ends with, or a runtime that could not be started.
pub fn block_on<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .context("the async runtime could not be started")?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(LET_GO);
    result
}
