//! Writer and reader together, over a store in memory.

use super::{
    FRAME_BYTES,
    reader::PackReader,
    writer::{FramePlace, PackOptions, PackWriter},
};
use crate::{
    domain::verdict::{Failure, Verdict},
    storage::{
        manifest::PackRef,
        memory::{Effect, Fault, MemoryStore, Operation},
        store::{HashKind, ObjectStore, StoreError},
    },
};
use std::{sync::Arc, time::Duration};

const DIRECTORY: &str = "20261125/nightly-20261125T020000Z";
const NO_WAIT: [Duration; 2] = [Duration::ZERO; 2];

fn options(part_bytes: u64) -> PackOptions {
    PackOptions {
        directory: DIRECTORY.to_owned(),
        prefix: "homes-0q7vh8000".to_owned(),
        stream: "tar",
        part_bytes,
        memory_bytes: 48 << 20,
        transfers: 2,
        workers: 2,
    }
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Text that compresses to about a third.
fn text(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length / 2 + 1)
        .iter()
        .flat_map(|b| [b"etaoinsh"[usize::from(b & 7)], b'a' + b % 26])
        .take(length)
        .collect()
}

/// Runs the producer as tasks do: on a blocking thread of a runtime.
fn produce<T: Send + 'static>(
    store: &Arc<MemoryStore>,
    options: PackOptions,
    producer: impl FnOnce(PackWriter) -> T + Send + 'static,
) -> T {
    let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
    block_on(async move {
        let writer = PackWriter::launch(&options, store, &NO_WAIT, 3);
        tokio::task::spawn_blocking(move || producer(writer)).await.unwrap()
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn pack(store: &Arc<MemoryStore>, options: PackOptions, content: Vec<u8>) -> Result<PackRef, Failure> {
    produce(store, options, move |mut writer| {
        // Odd pieces: frames are cut inside of them.
        for piece in content.chunks(777_777) {
            writer.write(piece)?;
        }
        writer.finish().map(|(pack, _)| pack)
    })
}

fn unpack(store: &Arc<MemoryStore>, pack: &PackRef) -> Result<Vec<u8>, Failure> {
    let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
    block_on(async {
        let reader = PackReader::open(store, pack).await?;
        let mut stream = Vec::new();
        for n in 0..reader.parts().len() {
            stream.extend_from_slice(&reader.part(n as u32).await?);
        }
        Ok(zstd::decode_all(&stream[..]).unwrap())
    })
}

#[test]
fn what_goes_in_comes_out_in_parts_of_the_target_size() {
    let store = Arc::new(MemoryStore::with_hash(HashKind::Sha1));
    let content = [text(1, 10 << 20), noise(2, 9 << 20), vec![0; 30 << 20]].concat();
    let packed = pack(&store, options(3 << 20), content.clone()).unwrap();
    assert_eq!(packed.plain, content.len() as u64);
    assert_eq!(packed.id, format!("{DIRECTORY}/homes-0q7vh8000"));
    assert_eq!(packed.part_lists.len(), (packed.parts as usize).div_ceil(3));
    assert_eq!(packed.part_lists[1].name, "homes-0q7vh8000.parts.001");
    assert!(store.peek(&format!("{DIRECTORY}/homes-0q7vh8000.tar.zst.00001")).is_some());
    let listed = block_on(store.list(DIRECTORY, false, true)).unwrap();
    let reader = block_on(PackReader::open(Arc::clone(&store) as _, &packed)).unwrap();
    for part in reader.parts() {
        let object = listed.iter().find(|o| o.path.ends_with(&part.object)).unwrap();
        assert_eq!(
            (object.size, object.hash.clone().unwrap().to_string()),
            (part.stored_bytes, part.native.clone())
        );
        // Larger only when it is a single frame.
        assert!(part.zstd_bytes <= FRAME_BYTES as u64 + 4096, "{part:?}");
    }
    assert!(unpack(&store, &packed).unwrap() == content);
}

#[test]
fn frames_are_found_where_their_places_say() {
    let store = Arc::new(MemoryStore::new());
    let members: Vec<_> = (0..12).map(|n| text(n, 1_000_000 + 200_000 * n as usize)).collect();
    let (packed, places) = produce(&store, options(1 << 20), {
        let members = members.clone();
        move |mut writer| {
            let mut places: Vec<FramePlace> = Vec::new();
            for (n, member) in members.iter().enumerate() {
                assert_eq!(writer.position(), (n as u64, 0));
                writer.write(member).unwrap();
                assert_eq!(writer.position().1 as usize, member.len() % FRAME_BYTES);
                writer.end_frame().unwrap();
                places.append(&mut writer.placed());
            }
            let (packed, rest) = writer.finish().unwrap();
            places.extend(rest);
            (packed, places)
        }
    });
    assert!(packed.parts > 2);
    assert_eq!(places.iter().map(|p| p.frame).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    let reader = block_on(PackReader::open(Arc::clone(&store) as _, &packed)).unwrap();
    // Two frames at a time, across the border of parts where there is one.
    for (pair, members) in places.windows(2).zip(members.windows(2)) {
        let length = pair[1].total_offset + pair[1].length - pair[0].total_offset;
        let bytes = block_on(reader.range(pair[0].part, pair[0].offset, length, Default::default())).unwrap();
        assert!(zstd::decode_all(&bytes[..]).unwrap() == members.concat());
    }
    let last = places.last().unwrap();
    let failure =
        block_on(reader.range(last.part, last.offset, last.length + 1, Default::default())).unwrap_err();
    assert_eq!(failure.reason, "BackupDamaged");
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { operation: "put".to_owned(), detail: "connection reset".to_owned() }
}

fn put_fault(path: &str, times: usize, effect: Effect) -> Fault {
    Fault { operation: Operation::Put, path: path.to_owned(), skip: 0, times, effect }
}

#[test]
fn a_failed_upload_is_sent_again_under_a_new_name() {
    let store = Arc::new(MemoryStore::new());
    store.fault(put_fault("zst.00001", 1, Effect::CutAt(1000, unavailable())));
    store.fault(put_fault("zst.00002", 2, Effect::DoneButLost(unavailable())));
    store.fault(put_fault("parts.000", 1, Effect::Refuse(unavailable())));
    let content = noise(1, 20 << 20);
    let packed = pack(&store, options(4 << 20), content.clone()).unwrap();
    let reader = block_on(PackReader::open(Arc::clone(&store) as _, &packed)).unwrap();
    let names: Vec<_> = reader.parts().iter().map(|p| p.object.rsplit_once('.').unwrap().1).collect();
    assert_eq!(names, ["00000", "00001r1", "00002r2", "00003", "00004"]);
    assert_eq!(packed.part_lists[0].name, "homes-0q7vh8000.parts.000r1");
    assert!(unpack(&store, &packed).unwrap() == content);
}

#[test]
fn an_endless_failure_ends_the_producer_without_its_help() {
    for (effect, verdict, puts) in [
        (Effect::Refuse(unavailable()), Verdict::Temporary, 3),
        (Effect::Refuse(StoreError::Full { detail: "quota".to_owned() }), Verdict::Permanent, 1),
        (Effect::Refuse(StoreError::Credentials { detail: "token".to_owned() }), Verdict::Credentials, 1),
    ] {
        let store = Arc::new(MemoryStore::new());
        store.fault(put_fault("zst.00000", usize::MAX, effect));
        let failure = produce(&store, options(1 << 20), |mut writer| {
            // Never calls finish: the failure must come out of here.
            loop {
                if let Err(failure) = writer.write(&noise(1, 100_000)) {
                    return failure;
                }
            }
        });
        assert_eq!(failure.verdict, verdict, "{failure:?}");
        assert!(failure.message.contains("homes-0q7vh8000.tar.zst.00000"), "{failure}");
        let tries = store.calls().iter().filter(|(_, path)| path.contains("zst.00000")).count();
        assert_eq!(tries, puts);
    }
}

#[test]
fn a_failure_of_the_last_part_comes_out_of_finish() {
    let store = Arc::new(MemoryStore::new());
    store.fault(put_fault("", usize::MAX, Effect::Refuse(unavailable())));
    assert_eq!(pack(&store, options(1 << 20), vec![1]).unwrap_err().reason, "RemoteUnavailable");
}

#[test]
fn a_stalled_store_stops_the_producer_at_the_memory_and_dropping_ends_it_all() {
    let store = Arc::new(MemoryStore::forgetful());
    store.fault(put_fault("", usize::MAX, Effect::Stall));
    let options = options(4 << 20);
    let memory = options.memory_bytes;
    let dyn_store: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
    let written = block_on(async move {
        let mut writer = PackWriter::launch(&options, dyn_store, &NO_WAIT, 3);
        let (progress, told) = std::sync::mpsc::channel();
        let producer = std::thread::spawn(move || {
            let mut written = 0;
            while written < 4 * memory && writer.write(&noise(written, FRAME_BYTES)).is_ok() {
                written += FRAME_BYTES as u64;
                let _ = progress.send(written);
            }
        });
        // Quiet for a while: it blocks.
        let mut written = 0;
        while let Ok(now) = told.recv_timeout(Duration::from_secs(2)) {
            written = now;
        }
        assert!(!producer.is_finished());
        written
        // The runtime ends here, with it the uploads, and with those the producer.
    });
    assert!(written < memory, "{written} bytes went in and none came out");
    let store = Arc::new(MemoryStore::forgetful());
    store.fault(put_fault("", usize::MAX, Effect::Stall));
    produce(&store, self::options(1 << 20), |mut writer| {
        writer.write(&noise(1, 10 << 20)).unwrap();
        drop(writer);
    });
    // The threads end by themselves, nobody waits for them.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while Arc::strong_count(&store) > 1 {
        assert!(std::time::Instant::now() < deadline, "an upload outlived its writer");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_empty_pack_has_a_list_and_no_parts() {
    let store = Arc::new(MemoryStore::new());
    let packed = pack(&store, options(1 << 20), Vec::new()).unwrap();
    assert_eq!((packed.parts, packed.plain, packed.part_lists.len()), (0, 0, 1));
    let reader = block_on(PackReader::open(Arc::clone(&store) as _, &packed)).unwrap();
    assert!(reader.parts().is_empty());
}

#[test]
fn damage_is_found_and_named() {
    let store = Arc::new(MemoryStore::new());
    let packed = pack(&store, options(1 << 20), noise(3, 9 << 20)).unwrap();
    for path in store.paths() {
        let good = store.peek(&path).unwrap();
        let mut flipped = good.to_vec();
        flipped[good.len() / 2] ^= 1;
        for bad in
            [Some(flipped), Some(good[..good.len() - 1].to_vec()), Some([&good[..], b"x"].concat()), None]
        {
            match bad {
                Some(bad) => store.overwrite(&path, bad),
                None => assert!(store.lose(&path)),
            }
            let failure = unpack(&store, &packed).unwrap_err();
            assert_eq!(failure.reason, "BackupDamaged");
            assert!(failure.message.contains(&path), "{failure}");
        }
        store.overwrite(&path, good);
    }
    let lying = PackRef { stored: packed.stored + 1, ..packed };
    assert!(unpack(&store, &lying).unwrap_err().message.contains("by the manifest"));
}

#[test]
#[expect(clippy::print_stdout, reason = "says that it was skipped, and why")]
fn the_zstd_program_reads_the_parts() {
    let store = Arc::new(MemoryStore::new());
    let content = text(5, 7 << 20);
    pack(&store, options(1 << 20), content.clone()).unwrap();
    let parts = store.paths().into_iter().filter(|path| path.contains(".tar.zst."));
    let stream: Vec<u8> = parts.flat_map(|path| store.peek(&path).unwrap()).collect();
    let Ok(mut child) = std::process::Command::new("zstd")
        .arg("-dcq")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
    else {
        println!("skipped: there is no zstd program");
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &stream));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    assert!(output.stdout == content);
}
