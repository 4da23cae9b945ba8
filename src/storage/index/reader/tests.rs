//! Writer and reader over a store, and over damage to every part of it.

use super::*;
use crate::storage::{
    index::{
        codec::path_order,
        record::{EntryKind, FileTime, Flags, Place},
        writer::IndexWriter,
    },
    memory::MemoryStore,
};
use proptest::prelude::*;

const DIRECTORY: &str = "20261125/nightly-20261125T020000Z";

fn header() -> IndexHeader {
    IndexHeader {
        source: "homes".parse().unwrap(),
        snapshot: "nightly-20261125T020000Z".parse().unwrap(),
        attempt: "0123456ab".parse().unwrap(),
    }
}

fn packs() -> Vec<(u32, String)> {
    vec![(0, format!("{DIRECTORY}/homes-0123456ab"))]
}

fn record(path: &[u8], padding: usize) -> Record {
    Record {
        kind: EntryKind::File,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        size: 5,
        mtime: FileTime { seconds: 1_700_000_000, nanos: 1 },
        ctime: FileTime { seconds: 1_700_000_001, nanos: 2 },
        inode: 7,
        link: None,
        flags: Flags::default(),
        hash: Some([7; 16]),
        place: Some(Place { pack: 0, part: 0, frame_offset: 60, frames_length: 100, member_offset: 0 }),
        xattrs: vec![(b"user.x".to_vec(), vec![b'x'; padding])],
        device: None,
        target: Vec::new(),
        path: path.to_vec(),
    }
}

async fn write(store: &Arc<MemoryStore>, records: Vec<Record>) -> Result<IndexObjects, Failure> {
    let store: Arc<dyn ObjectStore> = store.clone();
    let mut writer = IndexWriter::start(store, DIRECTORY, &header(), &packs())?;
    let work = move || {
        for record in &records {
            writer.push(record)?;
        }
        writer.finish(records.len() as u64 * 5)
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn read(store: &Arc<MemoryStore>, index: &IndexObjects) -> Result<Vec<Record>, Failure> {
    let mut reader = IndexReader::open(store.clone(), DIRECTORY, index).await?;
    assert_eq!((reader.header(), reader.packs()), (&header(), &packs()[..]));
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().await? {
        records.push(record);
    }
    Ok(records)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn an_index_is_cut_at_line_ends_and_read_back() {
    run(async {
        let store = Arc::new(MemoryStore::default());
        let records: Vec<_> = (0..6000).map(|i| record(format!("./{i:05}").as_bytes(), 1200)).collect();
        let index = write(&store, records.clone()).await.unwrap();
        assert_eq!(index.records, 6000);
        assert_eq!(index.objects.len(), 3);
        assert_eq!(index.objects[1].name, "homes-0123456ab.index.zst.001");
        assert_eq!(read(&store, &index).await.unwrap(), records);
    });
}

#[test]
fn an_index_of_nothing_is_an_index() {
    run(async {
        let store = Arc::new(MemoryStore::default());
        let index = write(&store, vec![]).await.unwrap();
        assert_eq!(read(&store, &index).await.unwrap(), vec![]);
    });
}

#[test]
fn a_lost_exchanged_or_flipped_object_is_named() {
    run(async {
        let store = Arc::new(MemoryStore::default());
        let records: Vec<_> = (0..6000).map(|i| record(format!("./{i:05}").as_bytes(), 1200)).collect();
        let index = write(&store, records).await.unwrap();
        let mut lost = index.clone();
        lost.objects.remove(1);
        assert!(read(&store, &lost).await.is_err());
        lost.objects.remove(1);
        assert!(read(&store, &lost).await.unwrap_err().message.contains("ends too early"));
        let mut exchanged = index.clone();
        exchanged.objects.swap(0, 1);
        assert!(read(&store, &exchanged).await.unwrap_err().message.contains("index.zst.001"));
        let mut other = index.clone();
        other.objects[2].blake3 = "0".repeat(64);
        let message = read(&store, &other).await.unwrap_err().message;
        assert!(message.contains("index.zst.002 is damaged"), "{message}");
        let mut fewer = index.clone();
        fewer.records -= 1;
        assert!(read(&store, &fewer).await.is_err());
    });
}

#[test]
fn records_out_of_order_or_in_unknown_packs_are_refused() {
    run(async {
        let store = Arc::new(MemoryStore::default());
        let index = write(&store, vec![record(b"./b", 0), record(b"./a", 0)]).await.unwrap();
        assert!(
            read(&store, &index)
                .await
                .unwrap_err()
                .message
                .contains("line 4: the record is not in path order")
        );
        let store = Arc::new(MemoryStore::default());
        let mut stray = record(b"./b", 0);
        stray.place.as_mut().unwrap().pack = 1;
        let index = write(&store, vec![stray]).await.unwrap();
        assert!(read(&store, &index).await.unwrap_err().message.contains("pack 1, which is not listed"));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_text_never_panics(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20), pick in 0_usize..4) {
        let mut parser = IndexParser::default();
        let header: &[u8] = b"#backstay-index 1\thomes\tnightly-20261125T020000Z\t0123456ab";
        let starts: [&[u8]; 4] = [b"", header, b"#pack\t0\tx", b"#end\t0\t0\t"];
        let _ = parser.line(starts[pick]);
        for line in lines {
            let _ = parser.line(&line);
        }
    }

    #[test]
    fn any_sorted_records_round_trip(paths in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..30), 0..40)) {
        let mut paths: Vec<_> = paths.into_iter().collect();
        paths.sort_by(|a, b| path_order(a, b));
        paths.dedup_by(|a, b| path_order(a, b).is_eq());
        paths.retain(|path| path.iter().any(|&c| c != b'/' && c != 0));
        let records: Vec<_> = paths.iter().map(|path| record(path, 3)).collect();
        run(async {
            let store = Arc::new(MemoryStore::default());
            let index = write(&store, records.clone()).await.unwrap();
            assert_eq!(read(&store, &index).await.unwrap(), records);
        });
    }
}
