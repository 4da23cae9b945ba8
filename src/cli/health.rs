//! Probes: `backstay controller --health` asks the controller of the same container whether it lives.
//!
//! The controller answers on a unix socket, from the thread that takes its decisions: an answer says that they go on.

use crate::{
    cli::{exit::Exit, output::Output, problem::Problem},
    controller::run_loop::Health,
    domain::verdict::Failure,
};
use std::{io::Read as _, os::unix::net::UnixStream, path::Path, sync::Arc, time::Duration};
use tokio::{io::AsyncWriteExt as _, net::UnixListener};
use tracing::warn;

/// Longest wait for an answer: orchestrators give up on a probe a little later.
const PATIENCE: Duration = Duration::from_secs(8);

/// Answers at `socket` until the runtime ends: `ready` once all policies were listed, else `starting`.
///
/// # Errors
/// The socket cannot be made.
pub fn answer(socket: &Path, health: Arc<Health>) -> Result<(), Problem> {
    // One of an earlier controller answers nobody any more.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(|error| {
        let message = format!("probes cannot be answered at {}: {error}", socket.display());
        Failure::permanent("HealthSocketUnusable", message)
            .fix("name another place with --health-socket, or none")
    })?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((mut asker, _)) => {
                    let word: &[u8] = if health.is_ready() { b"ready" } else { b"starting" };
                    // Who does not wait for the answer does not need it.
                    let _ = asker.write_all(word).await;
                }
                Err(error) => {
                    warn!(%error, "a probe cannot be answered");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    Ok(())
}

/// Prints what the controller answers at `socket`; that it answers is success.
///
/// # Errors
/// It does not.
pub fn ask(socket: &Path, out: &mut Output) -> Result<Exit, Problem> {
    let asked = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut word = String::new();
        stream.read_to_string(&mut word).map(|_| word)
    };
    match asked() {
        Ok(word) if !word.is_empty() => out.line(word).map(|()| Exit::Ok),
        Ok(_) => Err(silent(socket, "it ended")),
        Err(error) => Err(silent(socket, error)),
    }
}

fn silent(socket: &Path, why: impl std::fmt::Display) -> Problem {
    let message = format!("no controller answers at {}: {why}", socket.display());
    Failure::temporary("ControllerSilent", message)
        .fix("look at what it wrote last: it may be starting")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_that_lives_answers_and_one_that_hangs_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("health");
        assert!(ask(&socket, &mut Output::stdout()).is_err(), "nobody listens");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async { answer(&socket, Arc::new(Health::default())) }).unwrap();
        assert_eq!(ask(&socket, &mut Output::stdout()).unwrap(), Exit::Ok);
        // A second controller takes the place over.
        runtime.block_on(async { answer(&socket, Arc::new(Health::default())) }).unwrap();
        assert_eq!(ask(&socket, &mut Output::stdout()).unwrap(), Exit::Ok);
        drop(runtime);
        assert!(ask(&socket, &mut Output::stdout()).is_err(), "it ended");
    }
}
