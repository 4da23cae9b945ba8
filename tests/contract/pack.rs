//! What packing costs: memory that does not grow with the stream, and time beside a pipeline by hand.

use crate::support::{remote, remote::Remote, tools};
use backstay::storage::{
    memory::{Effect, Fault, MemoryStore, Operation},
    pack::writer::{PackOptions, PackWriter},
    rclone::{Mode, Rclone, RcloneOptions},
    store::ObjectStore,
};
use std::{
    fs::{self, File},
    io::{BufWriter, Read as _, Write as _},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;
/// Tells the child process how much to pack.
const SIZE: &str = "BACKSTAY_TEST_PACK_MIB";

fn options() -> PackOptions {
    PackOptions {
        directory: "20261125/nightly-20261125T020000Z".to_owned(),
        prefix: "mongodb-0q7vh8000".to_owned(),
        stream: "archive",
        part_bytes: 24 * MIB,
        memory_bytes: 96 * MIB,
        transfers: 2,
        workers: 2,
    }
}

/// Records of a database, roughly: they compress to a third.
struct Records {
    random: blake3::OutputReader,
    number: u64,
}

impl Records {
    fn new() -> Self {
        Self { random: blake3::Hasher::new().finalize_xof(), number: 0 }
    }

    fn append(&mut self, to: &mut Vec<u8>, length: usize) {
        let mut random = [0; 24];
        while to.len() < length {
            self.random.fill(&mut random);
            self.number += 1;
            let name = ["Ada", "Grace", "Edsger", "Barbara", "Donald"][usize::from(random[0]) % 5];
            let _ = write!(to, "_id\x07{:024x}owner\0{name}\0size\x12{:?}", self.number, &random[1..5]);
            to.extend_from_slice(&random);
            to.extend_from_slice(b"\0created\x092026-11-25T02:00:00Z\0tags\0nightly\0published\0false\0");
        }
        to.truncate(length);
    }
}

/// The most memory that this process ever had resident, bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the test below"]
async fn child_packs_and_tells_its_memory() {
    let Ok(size) = std::env::var(SIZE) else { return };
    let bytes = size.parse::<u64>().unwrap() * MIB;
    let store = Arc::new(MemoryStore::forgetful());
    // Slower than compression, so that all memory there is fills up.
    let effect = Effect::Slow(Duration::from_millis(300));
    let every = Fault { operation: Operation::Put, path: String::new(), skip: 0, times: usize::MAX, effect };
    store.fault(every);
    let mut writer = PackWriter::start(options(), Arc::clone(&store) as Arc<dyn ObjectStore>);
    let write = move || {
        // Nothing that compresses, so that it is the store that waits.
        let (mut random, mut piece) = (blake3::Hasher::new().finalize_xof(), vec![0; MIB as usize]);
        for _ in 0..bytes / MIB {
            random.fill(&mut piece);
            writer.write(&piece).unwrap();
            writer.placed();
        }
        writer.finish().unwrap()
    };
    tokio::task::spawn_blocking(write).await.unwrap();
    println!("peak {}", peak());
}

fn peak_of_packing(mib: u64) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pack::child_packs_and_tells_its_memory", "--ignored", "--nocapture"])
        .env(SIZE, mib.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let after = text.split("peak ").nth(1).unwrap_or_else(|| panic!("no peak in {text}"));
    after.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn memory_is_the_same_at_any_size() {
    let (short, long) = (peak_of_packing(192), peak_of_packing(960));
    assert!(long < 128 * MIB, "{} MiB", long / MIB);
    assert!(long < short + 12 * MIB, "{} MiB, then {} MiB", short / MIB, long / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: 1 GiB through rclone, beside zstd and rcat by hand"]
async fn a_gibibyte_beside_a_pipeline() {
    let remote = Remote::new();
    let input = remote.config().with_file_name("input");
    make_input(&input, 1024 * MIB);
    for round in 1..=3 {
        let by_hand = time(|| pipeline(&remote, &input));
        let mut options_ = RcloneOptions::new(
            remote.config(),
            remote::NAME.parse().unwrap(),
            format!("WT/{round}").parse().unwrap(),
            Mode::Append,
        );
        options_.program = tools::tool("rclone");
        let started = Instant::now();
        let store = Rclone::start(options_).await.unwrap();
        let daemon = started.elapsed();
        let mut writer = PackWriter::start(options(), Arc::new(store.clone()));
        let path = input.clone();
        let write = move || {
            let (mut file, mut piece) = (File::open(path).unwrap(), vec![0; 256 << 10]);
            loop {
                match file.read(&mut piece).unwrap() {
                    0 => return writer.finish().unwrap().0,
                    n => writer.write(&piece[..n]).unwrap(),
                }
            }
        };
        let pack = tokio::task::spawn_blocking(write).await.unwrap();
        println!(
            "round {round}: by hand {by_hand:.2?}, packed {:.2?} (daemon {daemon:.2?}); {} MiB in {} parts; peak {} MiB, rclone {}",
            started.elapsed(),
            pack.stored / MIB,
            pack.parts,
            peak() / MIB,
            fs::read_to_string(format!("/proc/{}/status", store.process_id().await))
                .unwrap()
                .lines()
                .find(|line| line.starts_with("VmHWM"))
                .unwrap_or_default(),
        );
    }
}

fn make_input(path: &Path, length: u64) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let (mut records, mut piece) = (Records::new(), Vec::new());
    for _ in 0..length / MIB {
        piece.clear();
        records.append(&mut piece, MIB as usize);
        file.write_all(&piece).unwrap();
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn pipeline(remote: &Remote, input: &Path) {
    let script = "zstd -3 -T2 -qc \"$1\" | \"$2\" --config \"$3\" rcat box:by-hand";
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(input)
        .arg(tools::tool("rclone"))
        .arg(remote.config())
        .status()
        .unwrap();
    assert!(status.success());
}
