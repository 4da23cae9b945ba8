//! The wish of a person, or of the system, that this process ends.

use crate::domain::verdict::{Failure, STOPPED};
use std::io;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Signals that ask this process to end, counted from the beginning, so that whoever looks late misses none.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<u32>);

impl Stop {
    /// Listens from now on: such a signal ends the process no longer by itself. To be called within a runtime.
    ///
    /// # Errors
    /// Signals cannot be handled.
    pub fn listen() -> io::Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = count.closed() => return,
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(counted))
    }

    /// True once a signal has come.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Ends when a signal has come.
    pub async fn asked(&self) {
        self.reached(1).await;
    }

    /// Ends when a second one has come: whoever sends it waits no longer.
    pub async fn again(&self) {
        self.reached(2).await;
    }

    async fn reached(&self, wanted: u32) {
        if self.0.clone().wait_for(|count| *count >= wanted).await.is_err() {
            std::future::pending().await
        }
    }
}

/// What a person waited for has ended because of a signal.
pub fn stopped(what: &str) -> Failure {
    Failure::temporary(STOPPED, what)
}
