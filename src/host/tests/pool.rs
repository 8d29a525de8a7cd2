//! The pool on a real btrfs. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{
    MIB, TestPool, fork_of, is_disk_quota, nest, request, spec, subvolume_id, sync, write, write_text,
};
use serde_json::json;
use sparks_host::btrfs::{self, Qgroup};
use sparks_host::pool::{DiskSource, DiskSpec, Pool, PoolError, PoolSource, TrashEntry};

const EMPTY: DiskSource = DiskSource::Empty;

fn pool_fd(pool: &TestPool) -> fs::File {
    fs::File::open(pool.mount_point()).unwrap()
}

#[test]
fn a_fork_has_the_files_of_its_source_and_goes_its_own_way() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    write_text(&pool.disk("a", "root").join("file"), "old");
    pool.create_root("b", fork_of("a", "root"));
    write_text(&pool.disk("b", "root").join("file"), "new");
    assert_eq!(fs::read_to_string(pool.disk("a", "root").join("file")).unwrap(), "old");
    assert_eq!(fs::read_to_string(pool.disk("b", "root").join("file")).unwrap(), "new");
}

#[test]
fn creating_what_exists_returns_it_unchanged() {
    let pool = TestPool::new();
    let first = pool.create_volume(&request("a", &[spec("root", EMPTY, None)])).unwrap();
    let again = pool.create_volume(&request("a", &[spec("other", EMPTY, None)])).unwrap();
    assert!(first.created && !again.created);
    assert_eq!(again.volume, first.volume);
    assert_eq!(again.volume.meta, json!({"for": "a"}));
}

#[test]
fn all_disks_of_a_volume_are_snapshotted_in_one_call() {
    let pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, None), spec("data", EMPTY, None)]);
    write_text(&pool.disk("a", "root").join("r"), "r");
    write_text(&pool.disk("a", "data").join("d"), "d");
    let disks = [spec("root", fork_of("a", "root"), None), spec("data", fork_of("a", "data"), None)];
    let fork = pool.create_volume(&request("b", &disks)).unwrap();
    assert!(pool.disk("b", "root").join("r").exists());
    assert!(pool.disk("b", "data").join("d").exists());
    assert_eq!(fork.timings.snapshots.len(), 2);
    let (root, data) = (fork.volume.disk("root").unwrap(), fork.volume.disk("data").unwrap());
    assert_eq!(root.subvol_id, subvolume_id(&pool.disk("b", "root")));
    assert_eq!(data.subvol_id, subvolume_id(&pool.disk("b", "data")));
}

#[test]
fn a_checkpoint_can_not_be_written_and_its_fork_can() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    nest(&pool.disk("a", "root").join("nested"));
    let checkpoint = |uid: &str, source| {
        let disk = DiskSpec { read_only: true, ..spec("root", source, None) };
        pool.create(uid, &[disk]);
        let error = fs::write(pool.disk(uid, "root").join("x"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{uid}");
    };
    checkpoint("with-nested", fork_of("a", "root"));
    checkpoint("empty", EMPTY);
    assert_eq!(subvolume_inode(&pool.disk("with-nested", "root").join("nested")), 256);
    pool.create_root("b", fork_of("with-nested", "root"));
    fs::write(pool.disk("b", "root").join("x"), "x").unwrap();
    fs::write(pool.disk("b", "root").join("nested/x"), "x").unwrap();
}

fn subvolume_inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().ino()
}

#[test]
fn nested_subvolumes_come_along_at_any_depth() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    let root = pool.disk("a", "root");
    fs::create_dir_all(root.join("var/lib")).unwrap();
    nest(&root.join("var/lib/outer"));
    fs::create_dir(root.join("var/lib/outer/dir")).unwrap();
    nest(&root.join("var/lib/outer/dir/inner"));
    write_text(&root.join("var/lib/outer/dir/inner/file"), "deep");
    let outer = fs::File::open(root.join("var/lib/outer")).unwrap();
    btrfs::set_read_only(&outer, true).unwrap();

    pool.create_root("b", fork_of("a", "root"));
    let copy = pool.disk("b", "root").join("var/lib/outer/dir/inner");
    assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), "deep");
    assert_ne!(subvolume_id(&copy), subvolume_id(&root.join("var/lib/outer/dir/inner")));
    fs::write(copy.join("file"), "changed").unwrap();
    assert_eq!(fs::read_to_string(root.join("var/lib/outer/dir/inner/file")).unwrap(), "deep");
    let outer = fs::File::open(pool.disk("b", "root").join("var/lib/outer")).unwrap();
    assert!(btrfs::is_read_only(outer).unwrap(), "a read-only nested subvolume stays so");
}

#[test]
fn the_path_of_a_nested_subvolume_is_known() {
    let pool = TestPool::new();
    let volume = pool.create_root("a", EMPTY);
    fs::create_dir_all(pool.disk("a", "root").join("var/lib")).unwrap();
    nest(&pool.disk("a", "root").join("var/lib/x"));
    let nested = btrfs::nested_subvolumes(pool_fd(&pool), volume.disks[0].subvol_id).unwrap();
    assert_eq!(btrfs::nested_path(pool_fd(&pool), &nested[0]).unwrap(), b"var/lib/x");
}

#[test]
fn nested_subvolumes_deeper_than_any_path_are_snapshotted_and_deleted() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    let name = "n".repeat(200);
    let mut at = fs::File::open(pool.disk("a", "root")).unwrap();
    for _ in 0..30 {
        btrfs::create_subvolume(&at, &name).unwrap();
        at = open_child(&at, &name);
    }
    let volume = pool.create_root("b", fork_of("a", "root"));
    let count = |id| btrfs::nested_subvolumes(pool_fd(&pool), id).unwrap().len();
    assert_eq!(count(volume.disks[0].subvol_id), 30);
    pool.trash_volume("b", 5).unwrap();
    assert_eq!(pool.reap_trash(5).unwrap().deleted, ["b"]);
    assert_eq!(count(volume.disks[0].subvol_id), 0);
}

#[test]
fn a_tenant_with_very_many_subvolumes_does_not_hold_up_the_others() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    let root = fs::File::open(pool.disk("a", "root")).unwrap();
    for at in 0..501 {
        btrfs::create_subvolume(&root, &format!("n{at}")).unwrap();
    }
    let error = pool.create_volume(&request("b", &[spec("root", fork_of("a", "root"), None)])).unwrap_err();
    assert!(matches!(error, PoolError::TooManyNested { found: 501, .. }), "{error}");
    assert!(pool.volume("b").unwrap().is_none());
}

fn open_child(parent: &fs::File, name: &str) -> fs::File {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::openat(parent, name, OFlags::RDONLY, Mode::empty()).unwrap().into()
}

#[test]
fn a_disk_can_not_outgrow_its_limit_and_another_disk_does_not_notice() {
    let pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(16 * MIB)), spec("data", EMPTY, None)]);
    let error = write(&pool.disk("a", "root").join("big"), 32 * MIB).unwrap_err();
    assert!(is_disk_quota(&error), "{error}");
    write(&pool.disk("a", "data").join("big"), 32 * MIB).unwrap();
}

#[test]
fn a_full_disk_can_be_emptied_and_used_again() {
    let pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(16 * MIB))]);
    let big = pool.disk("a", "root").join("big");
    write(&big, 32 * MIB).unwrap_err();
    // What the failed write had reserved is given back by the next commit at the latest.
    sync(&pool.mount_point());
    fs::remove_file(&big).unwrap();
    sync(&pool.mount_point());
    write(&big, 8 * MIB).unwrap();
}

#[test]
fn a_nested_subvolume_is_charged_to_the_disk_it_is_in() {
    let pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(16 * MIB))]);
    nest(&pool.disk("a", "root").join("nested"));
    let error = write(&pool.disk("a", "root").join("nested/big"), 32 * MIB).unwrap_err();
    assert!(is_disk_quota(&error), "{error}");
}

#[test]
fn a_nested_subvolume_of_a_fork_is_charged_to_the_fork() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    nest(&pool.disk("a", "root").join("nested"));
    pool.create("b", &[spec("root", fork_of("a", "root"), Some(16 * MIB))]);
    let error = write(&pool.disk("b", "root").join("nested/big"), 32 * MIB).unwrap_err();
    assert!(is_disk_quota(&error), "{error}");
    write(&pool.disk("a", "root").join("nested/big"), 32 * MIB).unwrap();
}

#[test]
fn a_fork_is_charged_only_what_it_writes_itself() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    write(&pool.disk("a", "root").join("big"), 64 * MIB).unwrap();
    pool.create("b", &[spec("root", fork_of("a", "root"), Some(32 * MIB))]);
    assert!(pool.own_bytes("b", "root") < MIB, "{}", pool.own_bytes("b", "root"));
    write(&pool.disk("b", "root").join("own"), 8 * MIB).unwrap();
    sync(&pool.mount_point());
    let usage = pool.usage("b").unwrap().remove(0);
    assert!((8 * MIB..9 * MIB).contains(&usage.exclusive_bytes), "{usage:?}");
    assert!((72 * MIB..74 * MIB).contains(&usage.referenced_bytes), "{usage:?}");
    assert_eq!(usage.limit_bytes, Some(32 * MIB));
    // A fork of the fork inherits from both.
    let volume = pool.create_root("c", fork_of("b", "root"));
    assert!((72 * MIB..74 * MIB).contains(&volume.disks[0].inherited_bytes), "{volume:?}");
}

#[test]
fn a_limit_below_what_is_used_is_refused_and_a_higher_one_takes_effect() {
    let pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(16 * MIB))]);
    let disk = pool.disk("a", "root");
    write(&disk.join("one"), 8 * MIB).unwrap();
    let error = pool.set_limit("a", "root", Some(4 * MIB)).unwrap_err();
    assert!(matches!(error, PoolError::LimitBelowUsage { used, .. } if used >= 8 * MIB), "{error}");
    write(&disk.join("two"), 16 * MIB).unwrap_err();
    pool.set_limit("a", "root", Some(64 * MIB)).unwrap();
    write(&disk.join("two"), 16 * MIB).unwrap();
    assert_eq!(pool.volume("a").unwrap().unwrap().disks[0].limit_bytes, Some(64 * MIB));
    pool.set_limit("a", "root", None).unwrap();
    write(&disk.join("three"), 64 * MIB).unwrap();
}

#[test]
fn limits_hold_after_a_reboot() {
    let mut pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(16 * MIB))]);
    pool.reboot();
    let error = write(&pool.disk("a", "root").join("big"), 32 * MIB).unwrap_err();
    assert!(is_disk_quota(&error), "{error}");
}

/// A volume with data, on disk.
fn source(pool: &TestPool) {
    pool.create("a", &[spec("root", EMPTY, None), spec("data", EMPTY, None)]);
    for disk in ["root", "data"] {
        write(&pool.disk("a", disk).join("file"), MIB).unwrap();
    }
    sync(&pool.mount_point());
}

fn fork_both(uid: &str) -> sparks_host::pool::VolumeRequest {
    let limit = Some(16 * MIB);
    let disks = ["root", "data"].map(|disk| spec(disk, fork_of("a", disk), limit));
    request(uid, &[disks.as_slice(), &[spec("empty", EMPTY, limit)]].concat())
}

#[test]
fn a_volume_and_what_its_tenant_synced_survive_a_crash_right_after_it_was_created() {
    let mut pool = TestPool::new();
    source(&pool);
    let created = pool.create_volume(&fork_both("b")).unwrap().volume;
    // The tenant's own fsync writes a log tree, which knows nothing of the pool's directories.
    for disk in ["root", "data", "empty"] {
        write(&pool.disk("b", disk).join("precious"), MIB).unwrap();
    }
    pool.crash();
    let found = pool.volume("b").unwrap().unwrap();
    for disk in ["root", "data", "empty"] {
        assert_eq!(fs::metadata(pool.disk("b", disk).join("precious")).unwrap().len(), MIB, "{disk}");
        let error = write(&pool.disk("b", disk).join("big"), 32 * MIB).unwrap_err();
        assert!(is_disk_quota(&error), "{disk}: {error}");
        assert_eq!(found.disk(disk).unwrap().subvol_id, created.disk(disk).unwrap().subvol_id, "{disk}");
    }
    assert!(found.disk("root").unwrap().inherited_bytes >= MIB);
    assert_eq!(found.meta, created.meta);
    assert_eq!(pool.create_volume(&fork_both("b")).unwrap().volume, found);
}

#[test]
fn a_volume_with_nested_subvolumes_survives_a_crash_right_after_it_was_created() {
    let mut pool = TestPool::new();
    source(&pool);
    nest(&pool.disk("a", "root").join("nested"));
    write(&pool.disk("a", "root").join("nested/file"), MIB).unwrap();
    pool.create_volume(&fork_both("b")).unwrap();
    write(&pool.disk("b", "root").join("nested/precious"), MIB).unwrap();
    pool.crash();
    assert_eq!(fs::metadata(pool.disk("b", "root").join("nested/file")).unwrap().len(), MIB);
    assert_eq!(fs::metadata(pool.disk("b", "root").join("nested/precious")).unwrap().len(), MIB);
}

#[test]
fn an_empty_volume_survives_a_crash_right_after_it_was_created() {
    let mut pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, None)]);
    pool.crash();
    assert!(pool.volume("a").unwrap().is_some());
}

/// A volume as a crash leaves it in tmp/.
fn interrupted(pool: &TestPool, change: impl FnOnce(&Path)) {
    source(pool);
    pool.create_volume(&fork_both("b")).unwrap();
    let left = pool.mount_point().join("tmp/new.b.7");
    fs::rename(pool.mount_point().join("volumes/b"), &left).unwrap();
    change(&left);
}

#[test]
fn a_whole_volume_that_a_crash_left_in_tmp_is_put_in_place() {
    let mut pool = TestPool::new();
    interrupted(&pool, |_| {});
    pool.reopen();
    assert!(pool.disk("b", "data").join("file").exists());
    assert_eq!(fs::read_dir(pool.mount_point().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_partial_volume_that_a_crash_left_in_tmp_is_deleted() {
    let missing_disk = |left: &Path| {
        let parent = fs::File::open(left.join("data")).unwrap();
        btrfs::delete_subvolume(parent, "fs").unwrap();
    };
    let unfinished = |left: &Path| set_record(left, "\"unfinished\":false", "\"unfinished\":true");
    let damaged = |left: &Path| set_record(left, "{", "");
    let no_record = |left: &Path| rustix::fs::removexattr(left, RECORD).unwrap();
    let changes: [&dyn Fn(&Path); 4] = [&missing_disk, &unfinished, &damaged, &no_record];
    for (at, change) in changes.into_iter().enumerate() {
        let mut pool = TestPool::new();
        interrupted(&pool, change);
        nest(&pool.mount_point().join("tmp/new.b.7/root/fs/nested"));
        pool.reopen();
        assert!(pool.volume("b").unwrap().is_none(), "{at}");
        assert_eq!(fs::read_dir(pool.mount_point().join("tmp")).unwrap().count(), 0, "{at}");
        assert!(pool.volume("a").unwrap().is_some(), "{at}");
    }
}

const RECORD: &str = "trusted.sparks.volume";

fn set_record(directory: &Path, from: &str, to: &str) {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::getxattr(directory, RECORD, &mut value[..]).unwrap();
    let text = String::from_utf8(value[..length].to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(directory, RECORD, text.replace(from, to).as_bytes(), flags).unwrap();
}

#[test]
fn a_volume_that_was_being_deleted_is_not_brought_back() {
    let mut pool = TestPool::new();
    pool.create_root("a", EMPTY);
    fs::rename(pool.mount_point().join("volumes/a"), pool.mount_point().join("tmp/gone.trash.a.5")).unwrap();
    pool.reopen();
    assert!(pool.volumes().unwrap().is_empty());
    assert_eq!(fs::read_dir(pool.mount_point().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_can_not_be_deleted_stops_nobody_and_is_reported() {
    let mut pool = TestPool::new();
    fs::create_dir_all(pool.mount_point().join("tmp/new.x.1/dir/not-ours")).unwrap();
    pool.reopen();
    pool.create_root("a", EMPTY);
    let reaped = pool.reap_trash(1).unwrap();
    assert_eq!(reaped.failed[0].0, "gone.new.x.1", "{reaped:?}");
}

#[test]
fn a_damaged_record_is_named() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    set_record(&pool.mount_point().join("volumes/a"), "{", "");
    let error = pool.volume("a").unwrap_err();
    assert!(matches!(&error, PoolError::Meta { path, .. } if path == "volumes/a"), "{error}");
}

#[test]
fn a_living_fork_does_not_use_up_the_limit_of_its_source() {
    let pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(48 * MIB))]);
    let file = pool.disk("a", "root").join("file");
    write(&file, 32 * MIB).unwrap();
    pool.create_root("b", fork_of("a", "root"));
    // The old 32 MiB live on in the fork and stay charged to the source.
    write(&file, 32 * MIB).unwrap();
    assert!(pool.own_bytes("a", "root") >= 64 * MIB);
    let error = write(&pool.disk("a", "root").join("more"), 32 * MIB).unwrap_err();
    assert!(is_disk_quota(&error), "the limit still holds: {error}");
    sync(&pool.mount_point());
    fs::remove_file(pool.disk("a", "root").join("more")).unwrap();
    assert!(matches!(pool.set_limit("a", "root", Some(MIB)), Err(PoolError::LimitBelowUsage { .. })));
    pool.set_limit("a", "root", Some(40 * MIB)).unwrap();
}

#[test]
fn a_fork_of_a_fork_counts_as_a_fork_of_the_source_also_after_a_reboot() {
    let mut pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(48 * MIB))]);
    write(&pool.disk("a", "root").join("file"), 32 * MIB).unwrap();
    pool.create_root("b", fork_of("a", "root"));
    pool.create_root("c", fork_of("b", "root"));
    pool.trash_volume("b", 1).unwrap();
    pool.reap_trash(1).unwrap();
    pool.reboot();
    write(&pool.disk("a", "root").join("file"), 32 * MIB).unwrap();
}

#[test]
fn the_allowance_for_a_fork_survives_a_crash() {
    let mut pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(48 * MIB))]);
    write(&pool.disk("a", "root").join("file"), 32 * MIB).unwrap();
    pool.create_root("b", fork_of("a", "root"));
    pool.crash();
    write(&pool.disk("a", "root").join("file"), 32 * MIB).unwrap();
}

#[test]
fn the_allowance_for_a_fork_ends_with_it() {
    let pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, Some(48 * MIB))]);
    write(&pool.disk("a", "root").join("file"), 32 * MIB).unwrap();
    pool.create_root("b", fork_of("a", "root"));
    write(&pool.disk("a", "root").join("file"), 32 * MIB).unwrap();
    pool.trash_volume("b", 1).unwrap();
    pool.reap_trash(0).unwrap();
    assert!(pool.own_bytes("a", "root") >= 64 * MIB, "the trash holds it too");
    pool.reap_trash(1).unwrap();
    let freed = (0..100).any(|_| {
        poke(&pool);
        pool.own_bytes("a", "root") < 48 * MIB
    });
    assert!(freed);
    pool.reap_trash(1).unwrap();
    let error = write(&pool.disk("a", "root").join("more"), 32 * MIB).unwrap_err();
    assert!(is_disk_quota(&error), "{error}");
}

/// btrfs drops a deleted subvolume in the background, every 30 s or when it is poked like this.
fn poke(pool: &TestPool) {
    std::thread::sleep(std::time::Duration::from_millis(100));
    let poke =
        std::process::Command::new("btrfs").args(["filesystem", "sync"]).arg(pool.mount_point()).status();
    assert!(poke.unwrap().success());
}

#[test]
fn a_failed_creation_leaves_nothing_behind() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    let parent = fs::File::open(pool.mount_point().join("volumes/a/root")).unwrap();
    btrfs::delete_subvolume(&parent, "fs").unwrap();
    fs::create_dir(pool.mount_point().join("volumes/a/root/fs")).unwrap();
    // A directory that is no subvolume can't be snapshotted; the empty disk before it can be made.
    let disks = [spec("data", EMPTY, None), spec("root", fork_of("a", "root"), None)];
    pool.create_volume(&request("b", &disks)).unwrap_err();
    assert!(pool.volume("b").unwrap().is_none());
    assert_eq!(fs::read_dir(pool.mount_point().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_deleted_volume_can_be_brought_back_until_its_deadline_and_not_after() {
    let pool = TestPool::new();
    pool.create_root("a.b", EMPTY);
    write_text(&pool.disk("a.b", "root").join("file"), "kept");
    pool.trash_volume("a.b", 1000).unwrap();
    pool.trash_volume("a.b", 2000).unwrap();
    assert_eq!(pool.trash().unwrap(), [TrashEntry { uid: "a.b".into(), deadline: 1000 }]);
    assert!(pool.volumes().unwrap().is_empty());
    let again = pool.create_volume(&request("a.b", &[spec("root", EMPTY, None)])).unwrap_err();
    assert!(matches!(again, PoolError::InTrash { .. }), "{again}");
    assert!(pool.reap_trash(999).unwrap().deleted.is_empty());
    pool.undelete_volume("a.b").unwrap();
    assert_eq!(fs::read_to_string(pool.disk("a.b", "root").join("file")).unwrap(), "kept");

    pool.trash_volume("a.b", 1000).unwrap();
    assert_eq!(pool.reap_trash(1000).unwrap().deleted, ["a.b"]);
    assert!(matches!(pool.undelete_volume("a.b"), Err(PoolError::NotInTrash { .. })));
    assert!(matches!(pool.trash_volume("a.b", 1), Err(PoolError::NoVolume { .. })));
}

#[test]
fn reaping_deletes_nested_subvolumes_too_also_read_only_ones() {
    let pool = TestPool::new();
    pool.create("a", &[spec("root", EMPTY, None), spec("data", EMPTY, None)]);
    let root = pool.disk("a", "root");
    nest(&root.join("outer"));
    nest(&root.join("outer/inner"));
    btrfs::set_read_only(fs::File::open(root.join("outer")).unwrap(), true).unwrap();
    pool.trash_volume("a", 1).unwrap();
    let reaped = pool.reap_trash(1).unwrap();
    assert_eq!(reaped.deleted, ["a"], "{reaped:?}");
    let top = btrfs::nested_subvolumes(pool_fd(&pool), 5).unwrap();
    assert!(top.is_empty(), "{top:?}");
}

#[test]
fn reaping_touches_nothing_but_what_is_due() {
    let pool = TestPool::new();
    for uid in ["live", "later", "due"] {
        pool.create_root(uid, EMPTY);
    }
    pool.trash_volume("later", 20).unwrap();
    pool.trash_volume("due", 10).unwrap();
    fs::create_dir(pool.mount_point().join("trash/not-ours")).unwrap();
    fs::create_dir(pool.mount_point().join("elsewhere")).unwrap();
    assert_eq!(pool.reap_trash(15).unwrap().deleted, ["due"]);
    assert!(pool.disk("live", "root").exists());
    assert!(pool.mount_point().join("trash/later.20/root/fs").exists());
    assert!(pool.mount_point().join("trash/not-ours").exists());
    assert!(pool.mount_point().join("elsewhere").exists());
}

#[test]
fn quota_groups_go_with_their_disks() {
    let pool = TestPool::new();
    let volume = pool.create_root("a", EMPTY);
    let id = volume.disks[0].subvol_id;
    assert!(btrfs::qgroups(pool_fd(&pool)).unwrap().contains(&Qgroup::disk(id)));
    pool.trash_volume("a", 1).unwrap();
    pool.reap_trash(1).unwrap();
    let gone = (0..100).any(|_| {
        poke(&pool);
        pool.reap_trash(1).unwrap();
        !btrfs::qgroups(pool_fd(&pool)).unwrap().iter().any(|group| group.id() == id)
    });
    assert!(gone, "{:?}", btrfs::qgroups(pool_fd(&pool)));
}

#[test]
fn no_volume_is_made_below_the_reserve() {
    let pool = TestPool::with(512 * MIB, 4096 * MIB);
    let error = pool.create_volume(&request("a", &[spec("root", EMPTY, None)])).unwrap_err();
    assert!(matches!(error, PoolError::Full { free, reserve } if free < reserve), "{error}");
    assert!(matches!(pool.begin_image("i"), Err(PoolError::Full { .. })));
    let stats = pool.stats().unwrap();
    assert!(stats.free_bytes <= stats.size_bytes && stats.size_bytes <= 512 * MIB, "{stats:?}");
}

#[test]
fn a_missing_source_is_named() {
    let pool = TestPool::new();
    pool.create_root("a", EMPTY);
    let refused = |source| pool.create_volume(&request("b", &[spec("root", source, None)])).unwrap_err();
    assert!(matches!(refused(fork_of("gone", "root")), PoolError::NoVolume { uid } if uid == "gone"));
    assert!(matches!(refused(fork_of("a", "data")), PoolError::NoDisk { disk, .. } if disk == "data"));
    let image = DiskSource::Image { key: "none".into() };
    assert!(matches!(refused(image), PoolError::NoImage { key } if key == "none"));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let pool = TestPool::new();
    for name in ["", "..", "a/../b", "/etc", "a/b", "A", "a..b", ".a", &"x".repeat(129)] {
        let volume = pool.create_volume(&request(name, &[spec("root", EMPTY, None)]));
        assert!(matches!(volume, Err(PoolError::InvalidName { .. })), "{name}");
        let disk = pool.create_volume(&request("a", &[spec(name, EMPTY, None)]));
        assert!(matches!(disk, Err(PoolError::InvalidName { .. })), "{name}");
        let source = pool.create_volume(&request("a", &[spec("root", fork_of(name, "root"), None)]));
        assert!(matches!(source, Err(PoolError::InvalidName { .. })), "{name}");
        assert!(pool.trash_volume(name, 1).is_err() && pool.begin_image(name).is_err(), "{name}");
    }
    let twice = [spec("root", EMPTY, None), spec("root", EMPTY, None)];
    assert!(matches!(pool.create_volume(&request("a", &twice)), Err(PoolError::BadDisks { .. })));
}

#[test]
fn an_image_is_there_only_once_it_is_committed_and_then_read_only() {
    let mut pool = TestPool::new();
    let aborted = pool.begin_image("debian").unwrap();
    assert!(pool.image("debian").unwrap().is_none());
    aborted.abort();
    assert_eq!(fs::read_dir(pool.mount_point().join("tmp")).unwrap().count(), 0);

    let builder = pool.begin_image("debian").unwrap();
    let root = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(builder.root()));
    fs::write(Path::new(&root).join("file"), vec![7; 4 << 20]).unwrap();
    let image = builder.commit(json!({"digest": "sha256:1"})).unwrap();
    assert_eq!(pool.images().unwrap(), [image]);
    pool.crash();
    let file = pool.mount_point().join("images/debian/fs/file");
    assert!(fs::read(&file).unwrap() == vec![7; 4 << 20], "the data is on disk too");
    assert_eq!(fs::remove_file(&file).unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);

    let volume = pool.create_root("a", DiskSource::Image { key: "debian".into() });
    assert!((4 * MIB..5 * MIB).contains(&volume.disks[0].inherited_bytes), "{volume:?}");
    pool.remove_image("debian").unwrap();
    pool.remove_image("debian").unwrap();
    pool.crash();
    assert!(pool.images().unwrap().is_empty());
    assert_eq!(fs::metadata(pool.disk("a", "root").join("file")).unwrap().len(), 4 * MIB);
}

#[test]
fn opening_twice_finds_everything_and_a_second_agent_is_refused() {
    let mut pool = TestPool::new();
    pool.create_root("a", EMPTY);
    let second = Pool::open(&pool.source(), &pool.mount_point(), 0);
    assert!(matches!(second, Err(PoolError::Locked { .. })));
    pool.reopen();
    pool.reboot();
    assert_eq!(pool.volumes().unwrap().len(), 1);
}

#[test]
fn the_filesystem_grows_with_its_loop_file_while_it_is_mounted() {
    let mut pool = TestPool::with(512 * MIB, 0);
    assert_eq!(pool.stats().unwrap().size_bytes, 512 * MIB);
    pool.size = 1024 * MIB;
    pool.reopen();
    assert_eq!(pool.stats().unwrap().size_bytes, 1024 * MIB);
}

#[test]
fn a_file_with_data_is_never_formatted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.img");
    let _guard = common::UnmountOnDrop(directory.path().join("mnt"));
    for offset in [0, 256 * MIB - 10] {
        let file = fs::File::create(&path).unwrap();
        file.set_len(256 * MIB).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"precious", offset).unwrap();
        let source = PoolSource::LoopFile { path: path.clone(), size_bytes: 256 * MIB };
        let result = Pool::open(&source, &directory.path().join("mnt"), 0);
        assert!(matches!(result, Err(PoolError::ForeignData { .. })), "{result:?}");
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&fs::File::open(&path).unwrap(), &mut bytes, offset)
            .unwrap();
        assert_eq!(&bytes, b"precious");
    }
}

#[test]
fn a_directory_on_another_filesystem_is_no_pool() {
    let directory = tempfile::tempdir().unwrap();
    let source = PoolSource::Path { path: directory.path().into() };
    let result = Pool::open(&source, Path::new("/nowhere"), 0);
    assert!(matches!(result, Err(PoolError::NotBtrfs { .. })), "{result:?}");
}

#[test]
fn a_directory_of_a_mounted_btrfs_is_a_pool_of_its_own() {
    let outer = TestPool::new();
    let path = outer.mount_point().join("elsewhere");
    fs::create_dir(&path).unwrap();
    let pool = Pool::open(&PoolSource::Path { path: path.clone() }, Path::new("/nowhere"), 0).unwrap();
    pool.create_volume(&request("a", &[spec("root", EMPTY, None)])).unwrap();
    assert!(path.join("volumes/a/root/fs").exists());
    assert!(outer.volumes().unwrap().is_empty());
}
