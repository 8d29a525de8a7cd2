//! Copying a tree into a subvolume. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::{MIB, TestPool, write};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use sparks_host::copy::{CopyReport, IdMap, copy_tree};

/// A source on the machine's own filesystem and a target on a btrfs.
struct Trees {
    source: tempfile::TempDir,
    pool: TestPool,
}

impl Trees {
    fn new() -> Self {
        let pool = TestPool::new();
        fs::create_dir(pool.mount_point().join("copy")).unwrap();
        Self { source: tempfile::tempdir().unwrap(), pool }
    }

    fn from(&self, path: &str) -> PathBuf {
        self.source.path().join(path)
    }

    fn to(&self, path: &str) -> PathBuf {
        self.pool.mount_point().join("copy").join(path)
    }

    fn copy(&self) -> CopyReport {
        self.copy_with(&IdMap::identity())
    }

    fn copy_with(&self, ids: &IdMap) -> CopyReport {
        let open = |path: PathBuf| fs::File::open(path).unwrap();
        copy_tree(open(self.from("")), open(self.to("")), ids).unwrap()
    }
}

fn node(path: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device).unwrap();
}

fn xattr(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
    value.truncate(length);
    value
}

#[test]
fn owner_mode_and_time_of_everything_are_kept() {
    let trees = Trees::new();
    fs::create_dir(trees.from("dir")).unwrap();
    fs::write(trees.from("dir/file"), "text").unwrap();
    symlink("../nowhere", trees.from("dir/link")).unwrap();
    node(&trees.from("dir/fifo"), FileType::Fifo, 0);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for (path, mode) in [("dir/file", 0o4751), ("dir/fifo", 0o620), ("dir", 0o2711), ("", 0o755)] {
        chown(trees.from(path), Some(12), Some(34)).unwrap();
        fs::set_permissions(trees.from(path), fs::Permissions::from_mode(mode)).unwrap();
        if path != "dir/fifo" {
            fs::File::open(trees.from(path)).unwrap().set_modified(time).unwrap();
        }
    }
    lchown(trees.from("dir/link"), Some(56), Some(78)).unwrap();
    let report = trees.copy();
    let seen = |path: PathBuf| {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec())
    };
    for path in ["", "dir", "dir/file", "dir/link", "dir/fifo"] {
        assert_eq!(seen(trees.to(path)), seen(trees.from(path)), "{path}");
    }
    assert_eq!(fs::read_link(trees.to("dir/link")).unwrap(), Path::new("../nowhere"));
    let expected =
        CopyReport { files: 1, directories: 1, symlinks: 1, special: 1, bytes: 4, ..CopyReport::default() };
    assert_eq!(report, expected);
}

#[test]
fn file_capabilities_acls_and_other_attributes_are_kept() {
    let trees = Trees::new();
    fs::write(trees.from("ping"), "").unwrap();
    chown(trees.from("ping"), Some(1), Some(1)).unwrap();
    let mut capability = 0x0200_0001_u32.to_le_bytes().to_vec();
    capability.extend([0x00, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // user::rw-, user:1000:r--, group::r--, mask::rw-, other::---
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let attributes = [
        ("security.capability", capability),
        ("system.posix_acl_access", acl),
        ("user.note", b"hello".to_vec()),
        ("trusted.own", b"t".to_vec()),
    ];
    for (name, value) in &attributes {
        rustix::fs::setxattr(trees.from("ping"), *name, value, XattrFlags::empty()).unwrap();
    }
    symlink("ping", trees.from("link")).unwrap();
    rustix::fs::lsetxattr(trees.from("link"), "trusted.link", b"l", XattrFlags::empty()).unwrap();
    trees.copy();
    for (name, value) in &attributes {
        assert_eq!(&xattr(&trees.to("ping"), name), value, "{name}");
    }
    assert_eq!(xattr(&trees.to("link"), "trusted.link"), b"l");
    assert_eq!(fs::metadata(trees.to("ping")).unwrap().mode() & 0o777, 0o660);
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    let trees = Trees::new();
    fs::create_dir(trees.from("dir")).unwrap();
    fs::write(trees.from("one"), "text").unwrap();
    fs::hard_link(trees.from("one"), trees.from("dir/two")).unwrap();
    fs::hard_link(trees.from("one"), trees.from("three")).unwrap();
    let report = trees.copy();
    let inode = |path| fs::metadata(trees.to(path)).unwrap().ino();
    assert_eq!(inode("one"), inode("dir/two"));
    assert_eq!(inode("one"), inode("three"));
    assert_eq!((report.files, report.hard_links, report.bytes), (1, 2, 4));
}

#[test]
fn holes_stay_holes_and_data_is_the_same() {
    let trees = Trees::new();
    let file = fs::File::create(trees.from("sparse")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 32 * MIB).unwrap();
    file.set_len(64 * MIB).unwrap();
    fs::File::create(trees.from("all-hole")).unwrap().set_len(MIB).unwrap();
    write(&trees.from("dense"), 3 * MIB + 17).unwrap();
    trees.copy();
    common::sync(&trees.to(""));
    for name in ["sparse", "all-hole", "dense"] {
        assert!(fs::read(trees.to(name)).unwrap() == fs::read(trees.from(name)).unwrap(), "{name}");
    }
    assert!(fs::metadata(trees.to("sparse")).unwrap().blocks() * 512 < MIB);
    assert_eq!(fs::metadata(trees.to("all-hole")).unwrap().blocks(), 0);
}

#[test]
fn device_nodes_are_kept_and_whiteouts_and_sockets_are_not() {
    let trees = Trees::new();
    node(&trees.from("null"), FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node(&trees.from("deleted"), FileType::CharacterDevice, 0);
    node(&trees.from("socket"), FileType::Socket, 0);
    let report = trees.copy();
    assert_eq!(fs::metadata(trees.to("null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
    assert!(!trees.to("deleted").exists() && !trees.to("socket").exists());
    assert_eq!((report.special, report.skipped), (1, 2));
}

#[test]
fn what_is_mounted_below_is_not_copied() {
    let trees = Trees::new();
    fs::create_dir(trees.from("mnt")).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", trees.from("mnt"), "tmpfs", flags, None).unwrap();
    fs::write(trees.from("mnt/file"), "").unwrap();
    let report = trees.copy();
    rustix::mount::unmount(trees.from("mnt"), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(!trees.to("mnt/file").exists());
    assert_eq!(report.skipped, 1);
}

#[test]
fn links_in_the_source_are_copied_and_never_followed() {
    let trees = Trees::new();
    symlink("/etc", trees.from("dir")).unwrap();
    symlink("/etc/passwd", trees.from("file")).unwrap();
    let report = trees.copy();
    assert_eq!((report.symlinks, report.files, report.directories), (2, 0, 0));
    assert_eq!(fs::read_link(trees.to("dir")).unwrap(), Path::new("/etc"));
}

#[test]
fn large_and_deep_directories_are_copied() {
    let trees = Trees::new();
    fs::create_dir(trees.from("large")).unwrap();
    for at in 0..5000 {
        fs::write(trees.from(&format!("large/{at}")), "").unwrap();
    }
    fs::create_dir_all(trees.from(&"d/".repeat(300))).unwrap();
    let report = trees.copy();
    assert_eq!((report.files, report.directories), (5000, 301));
    assert!(trees.to(&"d/".repeat(300)).is_dir());
}

#[test]
fn names_that_are_not_text_are_copied() {
    use std::os::unix::ffi::OsStrExt;
    let trees = Trees::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(trees.from("").join(name), "x").unwrap();
    trees.copy();
    assert!(trees.to("").join(name).exists());
}

#[test]
fn the_id_mapping_of_the_source_is_undone() {
    let trees = Trees::new();
    fs::write(trees.from("file"), "").unwrap();
    chown(trees.from("file"), Some(100_033), Some(100_000)).unwrap();
    fs::write(trees.from("plain"), "").unwrap();
    trees.copy_with(&IdMap::parse("0 100000 65536", "0 100000 65536"));
    let owner = |path| {
        let meta = fs::metadata(trees.to(path)).unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!(owner("file"), (33, 0));
    assert_eq!(owner("plain"), (0, 0));
}
