//! Lines to objects and back: cut at line ends, at most 4 MiB of text each, one zstd frame an object.

use crate::{
    domain::verdict::Failure,
    storage::{manifest::StoredObject, pack::writer::BACKOFF, store::ObjectStore},
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::{runtime::Handle, task::JoinHandle};
use zstd::{
    bulk::Compressor,
    zstd_safe::{CParameter, compress_bound},
};

/// Most text of one object, bytes: what a reader holds at once.
pub const OBJECT_BYTES: usize = 4 << 20;

/// 9 makes an index a fifth smaller than 3, for a tenth of a second each 4 MiB, beside the upload of parts.
const LEVEL: i32 = 9;

/// Most stored bytes of one object: text that cannot be compressed, with zstd's own bytes.
const MAX_STORED: u64 = OBJECT_BYTES as u64 + (64 << 10);

/// Writes lines to numbered objects; one is compressed and sent while the next one fills. Memory: twice
/// [`OBJECT_BYTES`] of text, and once compressed.
pub struct LineWriter {
    target: Target,
    handle: Handle,
    text: Vec<u8>,
    /// Bytes of `text` that `hasher` has seen.
    hashed: usize,
    hasher: blake3::Hasher,
    sending: Option<JoinHandle<Sent>>,
    objects: Vec<StoredObject>,
    begun: usize,
}

/// What was stored, and what it was made with.
type Sent = Result<(StoredObject, Press), Failure>;

/// Buffers and the state of compression, used again for every object: made anew in whatever thread comes next, they
/// would take more room in the heap with each of them.
#[derive(Default)]
struct Press {
    text: Vec<u8>,
    packed: Vec<u8>,
    compressor: Option<Compressor<'static>>,
}

impl Press {
    /// Compresses `text` into one frame.
    fn run(&mut self) -> std::io::Result<Bytes> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => {
                let mut compressor = Compressor::new(LEVEL)?;
                compressor.set_parameter(CParameter::ChecksumFlag(true))?;
                none.insert(compressor)
            }
        };
        self.packed.clear();
        self.packed.reserve_exact(compress_bound(self.text.len()));
        compressor.compress_to_buffer(&self.text, &mut self.packed)?;
        Ok(Bytes::copy_from_slice(&self.packed))
    }
}

#[derive(Clone)]
struct Target {
    store: Arc<dyn ObjectStore>,
    directory: String,
    name: String,
}

impl LineWriter {
    /// Objects will be `<directory>/<name>.<NNN>`. Must be called within a tokio runtime, whose tasks send them.
    pub fn start(store: Arc<dyn ObjectStore>, directory: &str, name: &str) -> Self {
        Self {
            target: Target { store, directory: directory.to_owned(), name: name.to_owned() },
            handle: Handle::current(),
            text: Vec::with_capacity(OBJECT_BYTES),
            hashed: 0,
            hasher: blake3::Hasher::new(),
            sending: None,
            objects: Vec::new(),
            begun: 0,
        }
    }

    /// Appends a line that ends in LF. Blocks while two objects are full: not for a thread that drives the runtime.
    ///
    /// # Errors
    /// The failure of an upload, and a line that is longer than an object.
    pub fn append(&mut self, line: &[u8]) -> Result<(), Failure> {
        if line.len() > OBJECT_BYTES {
            let message = format!("a record of {} bytes is too long for an index", line.len());
            return Err(Failure::permanent("IndexRecordTooLong", message));
        }
        if self.text.len() + line.len() > OBJECT_BYTES {
            self.cut()?;
        }
        self.text.extend_from_slice(line);
        Ok(())
    }

    /// BLAKE3 of all lines so far, hex.
    pub fn hash(&mut self) -> String {
        self.hasher.update(&self.text[self.hashed..]);
        self.hashed = self.text.len();
        self.hasher.finalize().to_hex().to_string()
    }

    /// Waits until everything is stored; gives the objects in order.
    ///
    /// # Errors
    /// The failure of an upload.
    pub fn finish(mut self) -> Result<Vec<StoredObject>, Failure> {
        if !self.text.is_empty() {
            self.cut()?;
        }
        self.wait()?;
        Ok(std::mem::take(&mut self.objects))
    }

    fn cut(&mut self) -> Result<(), Failure> {
        self.hash();
        let mut press = self.wait()?;
        std::mem::swap(&mut self.text, &mut press.text);
        self.text.clear();
        self.hashed = 0;
        let number = self.begun;
        self.begun += 1;
        self.sending = Some(self.handle.spawn(self.target.clone().send(number, press)));
        Ok(())
    }

    /// Waits for the object that is being sent; gives back what it was made with.
    fn wait(&mut self) -> Result<Press, Failure> {
        let Some(sending) = self.sending.take() else {
            return Ok(Press { text: Vec::with_capacity(OBJECT_BYTES), ..Press::default() });
        };
        let (object, press) = self.handle.block_on(sending).map_err(|_| stopped())??;
        self.objects.push(object);
        Ok(press)
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

fn stopped() -> Failure {
    Failure::temporary("Interrupted", "the upload of the index was stopped")
}

impl Target {
    async fn send(self, number: usize, mut press: Press) -> Sent {
        let pressed = tokio::task::spawn_blocking(move || (press.run(), press)).await;
        let (body, press) = pressed.map_err(|_| stopped())?;
        let body = body.map_err(|e| {
            Failure::temporary("CompressionFailed", format!("the index could not be compressed: {e}"))
        })?;
        let blake3 = blake3::hash(&body).to_hex().to_string();
        let stored = body.len() as u64;
        let name = self.put(&format!("{}.{number:03}", self.name), body).await?;
        Ok((StoredObject { name, stored, blake3 }, press))
    }

    /// Stores `body` as `name`, or with `r1`, `r2`, … appended: a name is never used again.
    async fn put(&self, name: &str, body: Bytes) -> Result<String, Failure> {
        let mut object = name.to_owned();
        let mut tries = 0;
        loop {
            let path = format!("{}/{object}", self.directory);
            let Err(error) = self.store.put(&path, vec![body.clone()]).await else { return Ok(object) };
            match BACKOFF.get(tries) {
                Some(&wait) if error.may_retry() => {
                    tracing::warn!("{error}; trying again in {} s", wait.as_secs());
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(Failure::from(error).within(&format!("storing {path}"))),
            }
            tries += 1;
            object = format!("{name}r{tries}");
        }
    }
}

/// The text of one object, after its size and BLAKE3 were compared.
///
/// # Errors
/// An object that is missing, damaged, or larger than this format allows, by name.
pub async fn fetch(
    store: &dyn ObjectStore,
    directory: &str,
    object: &StoredObject,
) -> Result<Vec<u8>, Failure> {
    let path = format!("{directory}/{}", object.name);
    let damaged = |what: String| Failure::permanent("IndexDamaged", format!("{path} {what}"));
    if object.stored > MAX_STORED {
        return Err(damaged(format!("has {} bytes, more than an index object may have", object.stored)));
    }
    let body = store.get(&path).await.map_err(|e| Failure::from(e).within(&format!("reading {path}")))?;
    if body.len() as u64 != object.stored || blake3::hash(&body).to_hex().as_str() != object.blake3 {
        return Err(damaged(format!("is damaged: {} bytes with another BLAKE3 than was stored", body.len())));
    }
    zstd::bulk::decompress(&body, OBJECT_BYTES).map_err(|e| damaged(format!("cannot be decompressed: {e}")))
}
