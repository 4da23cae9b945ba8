//! Sends parts and their lists, several at once, each tried again under a new name.

use super::list::{self, PartRecord};
use crate::{
    domain::verdict::Failure,
    storage::{
        manifest::PartListRef,
        store::{ObjectStore, StoreError},
    },
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    task::{JoinError, JoinSet},
};

/// Waits between the six tries of an upload.
pub const BACKOFF: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
    Duration::from_secs(60),
    Duration::from_secs(240),
];

/// Called with a failure that is final, before anyone waits for it.
pub(super) type OnFailure = Arc<dyn Fn(&Failure) + Send + Sync>;

/// What every upload of a pack needs.
#[derive(Clone)]
pub(super) struct Target {
    pub store: Arc<dyn ObjectStore>,
    pub directory: String,
    pub backoff: Arc<[Duration]>,
    pub permits: Arc<Semaphore>,
    pub on_failure: OnFailure,
}

impl Target {
    /// Stores `body` as `name`, or `name` with `r1`, `r2`, … appended. Gives the name in the end.
    async fn send(&self, name: &str, body: Vec<Bytes>) -> Result<String, Failure> {
        let mut tries = 0;
        loop {
            let object = if tries == 0 { name.to_owned() } else { format!("{name}r{tries}") };
            let error = {
                // Held while sending only, so that a part that waits for its next try keeps nobody from sending.
                let _permit = self.permits.acquire().await.map_err(|_| stopped())?;
                let path = format!("{}/{object}", self.directory);
                match self.store.put(&path, body.clone()).await {
                    Ok(()) => return Ok(object),
                    Err(error) => error,
                }
            };
            match self.backoff.get(tries) {
                Some(&wait) if error.may_retry() => {
                    tracing::warn!("{error}; trying again in {} s", wait.as_secs());
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(self.give_up(name, tries, error)),
            }
            tries += 1;
        }
    }

    fn give_up(&self, name: &str, tries: usize, error: StoreError) -> Failure {
        let place = match tries {
            0 => format!("storing {}/{name}", self.directory),
            _ => format!("storing {}/{name}, {} tries", self.directory, tries + 1),
        };
        let failure = Failure::from(error).within(&place);
        (self.on_failure)(&failure);
        failure
    }
}

fn stopped() -> Failure {
    Failure::temporary("Interrupted", "the upload was stopped")
}

/// A part that is complete and not yet stored.
pub(super) struct Part {
    pub number: u32,
    pub body: Vec<Bytes>,
    /// Its line, with the name of the first try.
    pub record: PartRecord,
}

enum Stored {
    Part(u32, PartRecord),
    List(usize, PartListRef),
}

/// All uploads of one pack. Dropping it stops them.
pub(super) struct Uploads {
    target: Target,
    handle: Handle,
    /// `<source>-<attempt>.parts`
    list_name: String,
    parts_per_list: usize,
    tasks: JoinSet<Result<Stored, Failure>>,
    /// Stored parts that are not in a list yet.
    records: BTreeMap<u32, PartRecord>,
    /// Parts that went into lists.
    listed: u32,
    lists_begun: usize,
    lists: BTreeMap<usize, PartListRef>,
}

impl Uploads {
    pub fn new(target: Target, handle: Handle, list_name: String, parts_per_list: usize) -> Self {
        Self {
            target,
            handle,
            list_name,
            parts_per_list,
            tasks: JoinSet::new(),
            records: BTreeMap::new(),
            listed: 0,
            lists_begun: 0,
            lists: BTreeMap::new(),
        }
    }

    /// Begins to send a part; never waits.
    ///
    /// # Errors
    /// A failure of an earlier one.
    pub fn begin(&mut self, part: Part) -> Result<(), Failure> {
        let target = self.target.clone();
        self.tasks.spawn_on(
            async move {
                let Part { number, body, mut record } = part;
                record.object = target.send(&record.object, body).await?;
                Ok(Stored::Part(number, record))
            },
            &self.handle,
        );
        while let Some(done) = self.tasks.try_join_next() {
            self.note(done)?;
        }
        Ok(())
    }

    /// Waits until everything is stored and listed; gives the lists, in order.
    ///
    /// # Errors
    /// The first failure that was noticed.
    pub fn finish(mut self) -> Result<Vec<PartListRef>, Failure> {
        self.wait()?;
        if !self.records.is_empty() || self.lists_begun == 0 {
            self.begin_list();
            self.wait()?;
        }
        Ok(std::mem::take(&mut self.lists).into_values().collect())
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let handle = self.handle.clone();
        while let Some(done) = handle.block_on(self.tasks.join_next()) {
            self.note(done)?;
        }
        Ok(())
    }

    fn note(&mut self, done: Result<Result<Stored, Failure>, JoinError>) -> Result<(), Failure> {
        match done.map_err(|_| stopped())?? {
            Stored::Part(number, record) => {
                self.records.insert(number, record);
                let ready = (self.listed..).zip(self.records.keys()).take_while(|(n, key)| n == *key).count();
                if ready >= self.parts_per_list {
                    self.begin_list();
                }
            }
            Stored::List(number, list) => {
                self.lists.insert(number, list);
            }
        }
        Ok(())
    }

    /// Lists the first stored parts that are in no list, at most a list's worth.
    fn begin_list(&mut self) {
        let mut rest = BTreeMap::new();
        if let Some(&first) = self.records.keys().nth(self.parts_per_list) {
            rest = self.records.split_off(&first);
        }
        let records = std::mem::replace(&mut self.records, rest);
        self.listed += u32::try_from(records.len()).unwrap_or(u32::MAX);
        let text = Bytes::from(list::write(records.values()));
        let number = self.lists_begun;
        self.lists_begun += 1;
        let (target, name) = (self.target.clone(), format!("{}.{number:03}", self.list_name));
        self.tasks.spawn_on(
            async move {
                let blake3 = blake3::hash(&text).to_hex().to_string();
                let name = target.send(&name, vec![text]).await?;
                Ok(Stored::List(number, PartListRef { name, blake3 }))
            },
            &self.handle,
        );
    }
}
