//! Keeps one daemon running: a daemon that died is started again by whoever needs it next, one that hangs is killed.

use super::{daemon::Daemon, options::RcloneOptions};
use crate::{
    domain::verdict::Failure,
    storage::store::{HashKind, StoreError},
};
use bytes::Bytes;
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use tokio::sync::Mutex;

/// The daemon and what must outlive it.
pub(super) struct Supervisor {
    pub options: RcloneOptions,
    /// The newest daemon; it may have died since.
    pub daemon: Mutex<Arc<Daemon>>,
    pub hash: Option<HashKind>,
    /// Stalls since a transfer last went well.
    stalls: AtomicU32,
}

impl Supervisor {
    /// Starts the first daemon.
    ///
    /// # Errors
    /// As [`super::Rclone::start`].
    pub async fn start(options: RcloneOptions) -> Result<Self, Failure> {
        let daemon = Daemon::start(&options).await?;
        let hash = daemon.hashes().await.map_err(Failure::from)?;
        let daemon = Mutex::new(Arc::new(daemon));
        Ok(Self { options, daemon, hash, stalls: AtomicU32::new(0) })
    }

    /// Notes that bytes move.
    pub fn moved(&self) {
        self.stalls.store(0, Ordering::Relaxed);
    }

    /// A daemon that lives, as far as one can know.
    pub async fn daemon(&self) -> Result<Arc<Daemon>, StoreError> {
        let mut daemon = self.daemon.lock().await;
        if !daemon.is_alive() {
            tracing::warn!("rclone ended ({}); starting it again", daemon.last_words());
            *daemon =
                Arc::new(Daemon::start(&self.options).await.map_err(|failure| StoreError::Unavailable {
                    operation: "starting rclone again".to_owned(),
                    detail: failure.message,
                })?);
        }
        Ok(Arc::clone(&daemon))
    }

    /// Notes a transfer without progress. One may be the remote's fault; two in a row are rclone's.
    pub fn stalled(&self, daemon: &Daemon) {
        if self.stalls.fetch_add(1, Ordering::Relaxed) >= 1 {
            tracing::warn!("rclone made no progress twice; killing it");
            self.stalls.store(0, Ordering::Relaxed);
            daemon.kill();
        }
    }

    /// Calls rclone's API on the instance's folder. All of these calls are safe to repeat, so a daemon that dies under
    /// one is replaced and asked again, once.
    pub async fn call(&self, method: &str, mut input: serde_json::Value) -> Result<Bytes, StoreError> {
        let daemon = self.daemon().await?;
        input["fs"] = json!(daemon.fs());
        match daemon.call(method, &input).await {
            Err(StoreError::Unavailable { .. }) if daemon.ends_soon().await => {
                self.daemon().await?.call(method, &input).await
            }
            answer => answer,
        }
    }

    pub fn require(&self, allowed: bool, what: &str) -> Result<(), StoreError> {
        if allowed {
            return Ok(());
        }
        let detail = format!("it was opened in mode {:?}, and this task may not {what}", self.options.mode);
        Err(StoreError::Unusable { detail })
    }
}
