//! Plain bytes → zstd frames, by threads of their own.

use super::{FRAME_BYTES, LEVEL, slab::pieces};
use crate::domain::verdict::Failure;
use bytes::BytesMut;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender},
    },
    thread,
};
use zstd::{bulk::Compressor, zstd_safe::compress_bound};

/// One frame on its way, with both of its buffers; used again for later frames.
#[derive(Debug)]
pub(super) struct Frame {
    /// Ordinal in the pack.
    pub number: u64,
    /// What it holds, at most [`FRAME_BYTES`].
    pub plain: BytesMut,
    /// Room for the zstd frame, and the length of that.
    packed: BytesMut,
    packed_length: usize,
}

impl Frame {
    /// Frames whose buffers are of one allocation, for the reason that slabs are.
    pub fn some(number: usize) -> Vec<Self> {
        let plain = pieces(number, FRAME_BYTES);
        let packed = pieces(number, compress_bound(FRAME_BYTES));
        let frame = |(plain, packed)| Self { number: 0, plain, packed, packed_length: 0 };
        plain.into_iter().zip(packed).map(frame).collect()
    }

    /// Begins frame `number`.
    pub fn begin(&mut self, number: u64) {
        self.number = number;
        self.plain.clear();
    }

    /// Takes in as much of `bytes` as fits; tells how much.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(FRAME_BYTES - self.plain.len());
        self.plain.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The zstd frame.
    pub fn packed(&self) -> &[u8] {
        &self.packed[..self.packed_length]
    }

    fn pack(&mut self, compressor: &mut Compressor<'_>) -> io::Result<()> {
        // Grows to what is needed and stays so: only memory that is used is touched.
        let room = compress_bound(self.plain.len());
        if self.packed.len() < room {
            self.packed.resize(room, 0);
        }
        self.packed_length = compressor.compress_to_buffer(&self.plain, &mut self.packed[..])?;
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.plain.len() == FRAME_BYTES
    }
}

/// Starts `workers` threads that compress frames from `jobs` and send them to `done`, in any order. They end when
/// either side is gone.
///
/// # Errors
/// The system gives no more threads.
pub(super) fn spawn(
    workers: usize,
    jobs: Receiver<Frame>,
    done: &Sender<Result<Frame, Failure>>,
) -> io::Result<()> {
    let jobs = Arc::new(Mutex::new(jobs));
    for n in 0..workers {
        let (jobs, done) = (Arc::clone(&jobs), done.clone());
        thread::Builder::new().name(format!("zstd-{n}")).spawn(move || {
            let last_word = LastWord(&done);
            if let Err(error) = work(&jobs, &done) {
                // Nobody listens any more: the pack was given up.
                let _ = done.send(Err(broken(&error.to_string())));
            }
            drop(last_word);
        })?;
    }
    Ok(())
}

fn work(jobs: &Mutex<Receiver<Frame>>, done: &Sender<Result<Frame, Failure>>) -> io::Result<()> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.include_contentsize(true)?;
    loop {
        // The lock is held while waiting: one worker waits for a job, the others for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut frame) = job else { return Ok(()) };
        frame.pack(&mut compressor)?;
        if done.send(Ok(frame)).is_err() {
            return Ok(());
        }
    }
}

fn broken(what: &str) -> Failure {
    Failure::temporary("CompressionFailed", format!("compressing a frame failed: {what}"))
}

/// Tells the assembler of a panic, or it would wait for ever for the frame that this thread had.
struct LastWord<'a>(&'a Sender<Result<Frame, Failure>>);

impl Drop for LastWord<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Err(broken("the worker panicked")));
        }
    }
}
