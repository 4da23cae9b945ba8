//! The port's implementations.

mod container;
pub mod kubernetes;
pub mod local;
mod restores;
pub mod site;
pub mod stop;
pub mod swarm;

use crate::{
    domain::{identity::PolicyId, verdict::Failure},
    plan::{observed::TaskName, task_spec::Progress},
};

/// Lets the C library give every large buffer back when it is freed. Left to itself it raises this threshold, and a task
/// that stores several volumes takes twice the memory of one that stores the largest: measured, 176 MiB for 80.
const MEMORY_TO_GIVE_BACK: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

/// Another number each time, positive and of 53 bits, so that every JSON reader keeps it.
///
/// # Errors
/// The system has none.
pub fn random_number() -> Result<i64, Failure> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| Failure::temporary("NoRandom", error.to_string()))?;
    Ok((i64::from_le_bytes(bytes) & ((1 << 53) - 1)).max(1))
}

/// Letters that a task's name may have: a label of DNS.
const LONGEST_NAME: usize = 63;

/// What the object of a task is called, a function of what it is for. `identity` tells policies of the same name apart.
fn task_name(policy: &PolicyId, task: &TaskName, identity: &str) -> String {
    let tail = format!("-{task}-{identity}").to_lowercase();
    let room = LONGEST_NAME.saturating_sub("backstay-".len() + tail.len());
    let short: String = policy.name().as_str().chars().take(room).collect();
    format!("backstay-{}{tail}", short.trim_end_matches('-'))
}

/// What the newest line of a log says that its task is doing.
fn last_progress(log: &str) -> Option<Progress> {
    log.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// A positive number of 53 bits, so that every JSON reader keeps it.
fn checksum(texts: &[&str]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    let bytes: [u8; 32] = hasher.finalize().into();
    let number = bytes.iter().take(7).fold(0i64, |sum, byte| (sum << 8) | i64::from(*byte));
    (number >> 3).max(1)
}
