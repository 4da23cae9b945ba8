//! The async runtime of the verbs that talk to something.

use crate::cli::problem::Problem;
use anyhow::Context as _;

/// Runs `work` to its end on a runtime of its own.
///
/// # Errors
/// What `work` ends with, or a runtime that could not be started.
pub fn block_on<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .context("the async runtime could not be started")?;
    runtime.block_on(work)
}
