//! Restores of volumes made by hand, good ones and bad ones.

use super::{
    fixture::{Fixture, Stored, directory, entry, file, names, sparse, symlink},
    job::FilesOptions,
    spool::STATE,
};
use crate::{
    domain::verdict::Verdict,
    storage::{
        index::record::EntryKind,
        memory::{Effect, Fault, Operation},
        store::StoreError,
        tar::Extent,
    },
};
use rustix::{
    fs::{XattrFlags, getxattr, setxattr},
    io::Errno,
};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

fn exists(root: &Path, path: &str) -> bool {
    root.join(path).symlink_metadata().is_ok()
}

fn small_tree() -> Vec<super::fixture::Entry> {
    let mut tree = vec![
        directory("./a/"),
        file("./a/one", "one"),
        file("./a/empty", ""),
        directory("./a/locked/"),
        file("./a/locked/two", "two"),
        file("./a.txt", "text"),
        symlink("./loop", "loop"),
        symlink("./out", "/etc/passwd"),
        entry(EntryKind::Fifo, "./pipe"),
        sparse("./holes", 10 << 20, &[Extent { offset: 5 << 20, length: 6 }], b"middle"),
    ];
    tree[3].record.mode = 0o555;
    tree.extend(names(42, "shared", &["./a/first", "./a/locked/second", "./z"]));
    tree
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_back() {
    let target = tempfile::tempdir().unwrap();
    let root = target.path();
    let report = Fixture::new(small_tree()).await.restore_well(root).await;
    assert_eq!(
        (report.files, report.directories, report.hard_links, report.symlinks, report.special),
        (6, 3, 2, 2, 1)
    );
    assert_eq!(read(root, "a/one") + &read(root, "a/locked/two") + &read(root, "a.txt"), "onetwotext");
    let stat = fs::metadata(root.join("a/locked")).unwrap();
    assert_eq!(stat.permissions().mode() & 0o7777, 0o555);
    for path in ["a", "a/one", "a/locked", "loop", "pipe", "holes", ""] {
        let stat = root.join(path).symlink_metadata().unwrap();
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_700_000_000, 123_456_789), "{path}");
    }
    let inodes = ["a/first", "a/locked/second", "z"].map(|path| fs::metadata(root.join(path)).unwrap().ino());
    assert!(inodes.iter().all(|inode| *inode == inodes[0]));
    let holes = fs::metadata(root.join("holes")).unwrap();
    assert_eq!(holes.len(), 10 << 20);
    assert!(holes.blocks() * 512 < 1 << 20);
    assert_eq!(fs::read_link(root.join("out")).unwrap(), Path::new("/etc/passwd"));
    assert!(!exists(root, STATE));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_one_number_that_were_stored_as_two_come_back_as_two() {
    let mut tree = names(42, "deleted", &["./a", "./b"]);
    tree.extend(names(42, "after", &["./c", "./d"]));
    let fixture = Fixture::new(tree).await;
    let target = tempfile::tempdir().unwrap();
    let root = target.path();
    let report = fixture.restore_well(root).await;
    assert_eq!((report.files, report.hard_links), (2, 2));
    assert_eq!(["a", "b", "c", "d"].map(|path| read(root, path)), ["deleted", "deleted", "after", "after"]);
    let inode = |path: &str| fs::metadata(root.join(path)).unwrap().ino();
    assert!(inode("a") == inode("b") && inode("c") == inode("d") && inode("a") != inode("c"));

    let target = tempfile::tempdir().unwrap();
    let mut restore = fixture.restore(target.path());
    restore.options.include = vec!["d".to_owned()];
    assert!(restore.run().await.unwrap().is_whole());
    assert_eq!(read(target.path(), "d"), "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_something_in_it_is_refused_until_confirmed() {
    let target = tempfile::tempdir().unwrap();
    let root = target.path();
    let fixture = Fixture::new(small_tree()).await;
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::create_dir_all(root.join("a/one")).unwrap();
    fs::create_dir(root.join("a/mine")).unwrap();
    fs::write(root.join("a.txt"), "text").unwrap();
    fs::write(root.join("a/first"), "older").unwrap();
    fs::hard_link(root.join("a/first"), root.join("other")).unwrap();
    std::os::unix::fs::symlink("/nowhere", root.join("a/locked")).unwrap();
    let failure = fixture.restore(root).run().await.unwrap_err();
    assert_eq!((failure.verdict, failure.reason.as_str()), (Verdict::Guard, "TargetNotEmpty"));
    assert!(!exists(root, STATE));

    let mut restore = fixture.restore(root);
    restore.confirmed = true;
    let report = restore.clone().run().await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.unchanged, report.files, report.deleted), (1, 5, 0));
    assert_eq!(read(root, "a/one") + &read(root, "a/locked/two") + &read(root, "a/first"), "onetwoshared");
    // What shared an inode with a file of the backup is not touched, and what is only here stays.
    assert_eq!(read(root, "other"), "older");
    assert!(exists(root, "a/mine"));

    restore.options.delete_extra = true;
    let report = restore.run().await.unwrap();
    assert_eq!((report.deleted, report.failed), (2, 0), "{report:?}");
    assert!(!exists(root, "other") && !exists(root, "a/mine") && exists(root, "lost+found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_directory_in_the_way_of_a_file_goes_only_when_extra_things_may() {
    let target = tempfile::tempdir().unwrap();
    let root = target.path();
    fs::create_dir_all(root.join("a.txt/deep")).unwrap();
    let mut restore = Fixture::new(small_tree()).await.restore(root);
    restore.confirmed = true;
    let report = restore.clone().run().await.unwrap();
    assert_eq!(report.failed, 1);
    assert!(report.problems[0].what.contains("--delete-extra"), "{report:?}");
    restore.options.delete_extra = true;
    assert!(restore.run().await.unwrap().is_whole());
    assert_eq!(read(root, "a.txt"), "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_extra_where_the_backup_lacks_something() {
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("mine"), "the only copy").unwrap();
    let mut restore = Fixture::new(small_tree()).await.restore(target.path());
    restore.source.counts.unreadable = 1;
    restore.confirmed = true;
    restore.options.delete_extra = true;
    let failure = restore.clone().run().await.unwrap_err();
    assert_eq!((failure.verdict, failure.reason.as_str()), (Verdict::Permanent, "BackupLacksEntries"));
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    restore.options.delete_extra = false;
    assert!(restore.run().await.unwrap().is_whole() && exists(target.path(), "mine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_what_is_not_there_leaves_nothing_behind() {
    let target = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(small_tree()).await;
    let mut restore = fixture.restore(target.path());
    restore.options.include = vec!["nothere".to_owned()];
    let failure = restore.clone().run().await.unwrap_err();
    assert_eq!(failure.reason, "PathNotInBackup");
    assert!(!restore.meter.has_changed());
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    restore.options.include = vec!["a".to_owned()];
    assert!(restore.clone().run().await.unwrap().is_whole());
    assert!(restore.meter.has_changed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_restore_left_behind_is_not_restored() {
    let target = tempfile::tempdir().unwrap();
    let interrupted = Fixture::new(small_tree()).await;
    let gone = StoreError::Unavailable { operation: "reading".to_owned(), detail: "no answer".to_owned() };
    interrupted.store.fault(Fault {
        operation: Operation::Read,
        path: ".tar.zst.".to_owned(),
        skip: 0,
        times: 1,
        effect: Effect::Refuse(gone),
    });
    interrupted.restore(target.path()).run().await.unwrap_err();
    let mut other = Fixture::new(vec![file("./only", "x")]).await.restore(target.path());
    other.confirmed = true;
    let report = other.run().await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.files, report.symlinks, report.hard_links), (1, 0, 0));
    assert!(exists(target.path(), "only") && !exists(target.path(), "out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_gives_to_new_entries_does_not_stay_on_them() {
    let target = tempfile::tempdir().unwrap();
    // Everything for user 12345, as `setfacl -d -m u:12345:rwx` puts it.
    let acl: Vec<u8> = [(0x01, 7, u32::MAX), (0x02, 7, 12_345), (0x04, 5, u32::MAX)]
        .into_iter()
        .chain([(0x10, 7, u32::MAX), (0x20, 5, u32::MAX)])
        .fold(2_u32.to_le_bytes().to_vec(), |mut acl, (tag, permissions, id): (u16, u16, u32)| {
            acl.extend(
                tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain(id.to_le_bytes()),
            );
            acl
        });
    let default = "system.posix_acl_default";
    if setxattr(target.path(), default, &acl, XattrFlags::empty()) == Err(Errno::OPNOTSUPP) {
        return; // This file system has none.
    }
    let inherited = |path: &str, name: &str| {
        let path = target.path().join(path);
        getxattr(path, name, &mut [0_u8; 0]).is_ok()
    };
    fs::create_dir(target.path().join("probe")).unwrap();
    assert!(inherited("probe", default) && inherited("probe", "system.posix_acl_access"));
    fs::remove_dir(target.path().join("probe")).unwrap();
    Fixture::new(small_tree()).await.restore_well(target.path()).await;
    for path in ["", "a", "a/one", "a/locked", "a/locked/two", "a/first", "a.txt", "holes", "pipe"] {
        assert!(!inherited(path, default) && !inherited(path, "system.posix_acl_access"), "{path}");
    }
}

/// True when all paths are names of one file.
fn is_one_file(root: &Path, paths: &[&str]) -> bool {
    let inodes: Vec<_> = paths.iter().map(|path| fs::metadata(root.join(path)).unwrap().ino()).collect();
    inodes.iter().all(|inode| *inode == inodes[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_were_stored_with_content_of_their_own_are_joined() {
    let mut tree = names(1, "shared", &["./a", "./b", "./c"]);
    // The packer had forgotten the first name.
    tree[1].member_kind = None;
    let mut holes = names(3, "middle", &["./h", "./i"]);
    for entry in &mut holes {
        let extents = [Extent { offset: 5 << 20, length: 6 }];
        let link = entry.record.link;
        *entry = sparse(str::from_utf8(&entry.record.path).unwrap(), 10 << 20, &extents, b"middle");
        entry.record.link = link;
    }
    let target = tempfile::tempdir().unwrap();
    let report = Fixture::new([tree, holes].concat()).await.restore_well(target.path()).await;
    assert_eq!(report.hard_links, 3);
    for joined in [&["a", "b", "c"][..], &["h", "i"]] {
        assert!(is_one_file(target.path(), joined), "{joined:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_is_joined_to_what_was_there_before() {
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("a"), "live").unwrap();
    let mut tree = names(1, "shared", &["./a", "./b", "./c"]);
    tree.iter_mut().for_each(|entry| entry.record.hash = Some([0; 16]));
    let mut restore = Fixture::new(tree).await.restore(target.path());
    restore.confirmed = true;
    let all = restore.clone().run().await.unwrap();
    restore.options.include = vec!["b".to_owned(), "c".to_owned()];
    let adopted = restore.run().await.unwrap();
    assert_eq!((all.failed, all.hard_links, adopted.failed, adopted.hard_links), (3, 0, 2, 0), "{all:?}");
    assert_eq!(read(target.path(), "a"), "live");
    assert!(!exists(target.path(), "b") && !exists(target.path(), "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_brings_back_itself_and_its_directories() {
    let fixture = Fixture::new(small_tree()).await;
    let selected = |paths: &[&str]| FilesOptions {
        include: paths.iter().map(ToString::to_string).collect(),
        ..FilesOptions::default()
    };
    let target = tempfile::tempdir().unwrap();
    let mut restore = fixture.restore(target.path());
    // The second name of a file whose first is not selected, and a glob.
    restore.options = selected(&["a/locked", "*.txt"]);
    let report = restore.run().await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(read(target.path(), "a/locked/second"), "shared");
    assert_eq!(read(target.path(), "a/locked/two") + &read(target.path(), "a.txt"), "twotext");
    assert!(!exists(target.path(), "a/one") && !exists(target.path(), "z"));

    let target = tempfile::tempdir().unwrap();
    let mut restore = fixture.restore(target.path());
    restore.options = selected(&["a/nothing"]);
    let failure = restore.run().await.unwrap_err();
    assert_eq!(failure.reason, "PathNotInBackup");
}

#[tokio::test(flavor = "multi_thread")]
async fn setuid_and_devices_come_back_only_when_asked_for() {
    let mut tree = vec![file("./tool", "x"), entry(EntryKind::CharDevice, "./null")];
    tree[0].record.mode = 0o6755;
    tree[1].record.device = Some((1, 3));
    let fixture = Fixture::new(tree).await;
    let target = tempfile::tempdir().unwrap();
    let report = fixture.restore_well(target.path()).await;
    assert_eq!((report.skipped_setuid, report.skipped_devices), (1, 1));
    assert_eq!(fs::metadata(target.path().join("tool")).unwrap().mode() & 0o7777, 0o755);
    let target = tempfile::tempdir().unwrap();
    let mut restore = fixture.restore(target.path());
    restore.options.metadata.preserve_setuid = true;
    restore.options.metadata.devices = true;
    let report = restore.clone().run().await.unwrap();
    let mode = || fs::metadata(target.path().join("tool")).unwrap().mode() & 0o7777;
    assert_eq!(mode(), 0o6755);
    // A file that is as it was backed up keeps what it has.
    restore.options.metadata.preserve_setuid = false;
    restore.confirmed = true;
    assert_eq!(restore.run().await.unwrap().unchanged, 1);
    assert_eq!(mode(), 0o6755);
    // Only root of the machine's own user namespace may make one.
    assert_eq!(report.special + report.failed, 1, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_no_walk_finds_make_a_damaged_index() {
    let bad: [Vec<super::fixture::Entry>; 9] = [
        vec![file("../x", "")],
        vec![file("./../x", "")],
        vec![file("/etc/x", "")],
        vec![directory("./a/"), file("./a/../x", "")],
        vec![directory("./a/"), file("./a/", "")],
        vec![file("./a", ""), file("./a/x", "")],
        vec![symlink("./a", "/tmp"), file("./a/x", "")],
        vec![file("./a", ""), directory("./a/")],
        vec![file("./no/parent", "")],
    ];
    for tree in bad {
        let path = String::from_utf8_lossy(&tree.last().unwrap().record.path).into_owned();
        let how = Stored { as_given: true, ..Stored::default() };
        let target = tempfile::tempdir().unwrap();
        let inside = target.path().join("in");
        let failure = Fixture::stored(tree, how).await.restore(&inside).run().await.unwrap_err();
        assert_eq!(failure.reason, "IndexDamaged", "{path}: {failure}");
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_the_index_says_is_removed_and_named() {
    let mut tree =
        vec![file("./good", "good"), file("./name", "x"), file("./hash", "x"), file("./kind", "x")];
    tree[1].member_path = Some(b"./other".to_vec());
    tree[2].record.hash = Some([0; 16]);
    tree[3].member_kind = Some(crate::storage::tar::MemberKind::HardLink);
    tree[3].member_target = b"/etc/passwd".to_vec();
    let target = tempfile::tempdir().unwrap();
    let report = Fixture::new(tree).await.restore(target.path()).run().await.unwrap();
    assert_eq!((report.files, report.failed), (1, 3), "{report:?}");
    let mut named: Vec<_> = report.problems.iter().map(|p| p.path.as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, ["./hash", "./kind", "./name"]);
    let left: Vec<_> = fs::read_dir(target.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_planted_while_we_run_is_not_followed() {
    // As if it had been planted in place of a directory that was made a moment ago: the same calls meet it.
    let outside = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), target.path().join("a")).unwrap();
    let fixture = Fixture::new(small_tree()).await;
    let mut restore = fixture.restore(target.path());
    restore.confirmed = true;
    assert!(restore.run().await.unwrap().is_whole());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(target.path().join("a").symlink_metadata().unwrap().is_dir());
}

/// Forty files of noise in parts of 64 KiB.
async fn many_parts() -> Fixture {
    let noise = |seed: u32| -> Vec<u8> {
        let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        let mut bytes = vec![0; 20 << 10];
        reader.fill(&mut bytes);
        bytes
    };
    let files = (0..40).map(|i| file(format!("./f{i:02}"), noise(i))).collect();
    Fixture::stored(files, Stored { part_bytes: 64 << 10, frame_every: 1, as_given: false }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_goes_on_where_it_stopped() {
    let fixture = many_parts().await;
    let target = tempfile::tempdir().unwrap();
    let gone = StoreError::Unavailable { operation: "reading".to_owned(), detail: "no answer".to_owned() };
    fixture.store.fault(Fault {
        operation: Operation::Read,
        path: ".tar.zst.00009".to_owned(),
        skip: 0,
        times: 1,
        effect: Effect::Refuse(gone),
    });
    let mut restore = fixture.restore(target.path());
    restore.memory_bytes = 1;
    let failure = restore.clone().run().await.unwrap_err();
    assert_eq!(failure.verdict, Verdict::Temporary, "{failure}");
    let before = fixture.store.calls().len();
    assert!(exists(target.path(), STATE));

    // Another restore is refused, the same one goes on.
    let mut other = restore.clone();
    other.options.include = vec!["f01".to_owned()];
    assert_eq!(other.run().await.unwrap_err().reason, "TargetNotEmpty");
    let report = restore.run().await.unwrap();
    assert!(report.is_whole() && report.files < 40, "{report:?}");
    let again = fixture.store.calls();
    assert!(!again[before..].iter().any(|(_, path)| path.ends_with(".tar.zst.00003")));
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 40);
    let fresh = tempfile::tempdir().unwrap();
    fixture.restore_well(fresh.path()).await;
    for entry in fs::read_dir(fresh.path()).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(fs::read(fresh.path().join(&name)).unwrap(), fs::read(target.path().join(&name)).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_damaged_part_only_the_files_that_are_hit_are_lost() {
    let fixture = many_parts().await;
    let hit = fixture.store.paths().into_iter().find(|path| path.ends_with(".tar.zst.00004")).unwrap();
    let mut content = fixture.store.peek(&hit).unwrap().to_vec();
    let last = content.len() - 100;
    content[last] ^= 1;
    fixture.store.overwrite(&hit, content);
    let lost = fixture.store.paths().into_iter().find(|path| path.ends_with(".tar.zst.00006")).unwrap();
    fixture.store.lose(&lost);
    let target = tempfile::tempdir().unwrap();
    let report = fixture.restore(target.path()).run().await.unwrap();
    assert!(report.failed >= 2 && report.failed <= 8, "{report:?}");
    assert_eq!(report.files + report.failed, 40);
    assert_eq!(report.damaged_objects.len(), 2, "{report:?}");
    assert_eq!(fs::read_dir(target.path()).unwrap().count() as u64, report.files);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_needs_no_whole_part() {
    let fixture = many_parts().await;
    let target = tempfile::tempdir().unwrap();
    let mut restore = fixture.restore(target.path());
    restore.options.include = vec!["f20".to_owned()];
    let before = fixture.store.calls().len();
    assert_eq!(restore.run().await.unwrap().files, 1);
    let reads = fixture.store.calls()[before..].iter().filter(|(call, _)| *call == Operation::Read).count();
    assert!(reads <= 2, "{reads} reads");
    assert_eq!(fs::read(target.path().join("f20")).unwrap().len(), 20 << 10);
}
