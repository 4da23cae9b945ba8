//! Every byte of every object, flipped and cut away: found, and named.

use super::{Level, Verify, report::VerifyReport};
use crate::{
    domain::{names::SnapshotName, snapshot::AsOf, verdict::Failure},
    storage::{
        catalog::Catalog,
        document::{Document, seal, seal_text},
        layout,
        manifest::{FORMAT, Manifest},
        memory::MemoryStore,
    },
    task::{
        context::Meter,
        mongodb::tool::Tools,
        restore::files::fixture::{Fixture, Stored, directory, file, names, symlink},
    },
};
use futures_util::{StreamExt as _, stream};
use std::sync::Arc;

/// A committed snapshot of a small volume.
async fn snapshot() -> (Arc<MemoryStore>, SnapshotName) {
    let mut tree = vec![directory("./a/"), file("./a/one", "one"), file("./b", "two"), symlink("./l", "b")];
    tree.extend(names(3, "three", &["./n1", "./n2"]).into_iter().map(|mut entry| {
        entry.record.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec())];
        entry
    }));
    // Two parts: the first is closed before the frame that would exceed this.
    let how = Stored { part_bytes: 500, frame_every: 3, as_given: false };
    let fixture = Fixture::stored(tree, how).await;
    commit(&fixture)
}

fn commit(fixture: &Fixture) -> (Arc<MemoryStore>, SnapshotName) {
    let name = fixture.snapshot.clone();
    let directory = layout::directory(&name);
    let (record, text) = seal(fixture.source.clone());
    let path = format!("{directory}/{}", record.prefix().source_record(0));
    fixture.store.overwrite(&path, text);
    let text = seal_text("How to restore this snapshot without Backstay\n".to_owned());
    fixture.store.overwrite(&format!("{directory}/{}", layout::restore_text(0)), text);
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        snapshot: name.clone(),
        policy: name.policy().clone(),
        instance: "production".parse().unwrap(),
        slot: name.slot(),
        committed_at: name.slot().time(),
        complete: true,
        missing: vec![],
        tool: "backstay 0".to_owned(),
        sources: vec![record],
        self_hash: String::new(),
    };
    manifest.check().unwrap();
    fixture.store.overwrite(&format!("{directory}/{}", layout::manifest(0)), seal(manifest).1);
    (Arc::clone(&fixture.store), name)
}

/// As a person does it: by the snapshot's name.
async fn verify(store: Arc<MemoryStore>, name: &SnapshotName, level: Level) -> Result<VerifyReport, Failure> {
    let catalog = Catalog::load(&*store).await?;
    let manifest = catalog.find(&AsOf::Name(name.clone()), None, true)?.clone();
    let scratch = std::env::temp_dir();
    let meter = Arc::new(Meter::default());
    let tools = Tools::default();
    Verify { store, manifest, level, memory_bytes: 1 << 20, scratch, tools, meter }.run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_snapshot_is_good_at_every_level() {
    let (store, name) = snapshot().await;
    for level in [Level::Listing, Level::Scrub { n: 0, of: 1 }, Level::Open, Level::Drill] {
        let report = verify(Arc::clone(&store), &name, level).await.unwrap();
        assert!(report.is_good(), "{report:?}");
    }
    let report = verify(store, &name, Level::Open).await.unwrap();
    // A further name of a file counts as a file that was proven.
    assert_eq!((report.sources[0].files, report.sources[0].entries), (4, 3), "{report:?}");
}

/// What a damaged store is found to be, in one line; empty when nothing is found.
async fn found(store: Arc<MemoryStore>, name: &SnapshotName) -> String {
    match verify(store, name, Level::Open).await {
        Ok(report) => report.damage.iter().map(|d| format!("{} {}\n", d.object, d.what)).collect(),
        Err(failure) => failure.message,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_and_every_cut_is_found_and_named() {
    let (store, name) = snapshot().await;
    let copy = |store: &MemoryStore| {
        let copy = MemoryStore::new();
        for path in store.paths() {
            copy.overwrite(&path, store.peek(&path).unwrap());
        }
        copy
    };
    let check = async |path: &str, how: String, damaged: Option<Vec<u8>>| {
        let store = copy(&store);
        match damaged {
            Some(content) => store.overwrite(path, content),
            None => drop(store.lose(path)),
        }
        let found = found(Arc::new(store), &name).await;
        // A snapshot without its manifest is one that was never finished.
        assert!(
            found.contains(path) || how == "lost" && found.contains("no manifest"),
            "{path} {how}: {found:?}"
        );
    };
    for path in store.paths() {
        let content = store.peek(&path).unwrap();
        let damaged = (0..content.len()).flat_map(|at| {
            let mut flipped = content.to_vec();
            flipped[at] ^= 1 << (at % 8);
            [
                (format!("flipped at {at}"), Some(flipped)),
                (format!("cut at {at}"), Some(content[..at].to_vec())),
            ]
        });
        let checks = damaged.chain([("lost".to_owned(), None)]);
        stream::iter(checks).for_each_concurrent(4, |(how, damaged)| check(&path, how, damaged)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_names_the_files_that_are_hit() {
    let (store, name) = snapshot().await;
    let path = store.paths().into_iter().find(|path| path.ends_with(".tar.zst.00001")).unwrap();
    let mut content = store.peek(&path).unwrap().to_vec();
    let last = content.len() - 10;
    content[last] ^= 1;
    store.overwrite(&path, content);
    let report = verify(store, &name, Level::Open).await.unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_eq!(report.damage[0].object, path);
    assert!(report.damage[0].affected > 0 && report.sources[0].files < 4, "{report:?}");
}
