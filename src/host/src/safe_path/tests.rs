#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn with_root(test: impl FnOnce(&Path, HostileRoot<'_>)) {
    let directory = tempfile::tempdir().unwrap();
    let root = fs::File::open(directory.path()).unwrap();
    test(directory.path(), HostileRoot::without_mounts(root.as_fd()));
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

#[test]
fn directories_are_made_step_by_step_and_found_again() {
    with_root(|path, root| {
        for _ in 0..2 {
            root.ensure_dir("run/secrets/kubernetes.io/serviceaccount").unwrap();
        }
        assert!(path.join("run/secrets/kubernetes.io/serviceaccount").is_dir());
        assert_eq!(fs::metadata(path.join("run")).unwrap().permissions().mode() & 0o7777, 0o755);
        assert!(root.open_dir("none").unwrap().is_none());
    });
}

#[test]
fn a_link_anywhere_on_the_way_is_named_and_not_followed() {
    with_root(|path, root| {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("secrets")).unwrap();
        fs::write(outside.path().join("secrets/file"), "secret").unwrap();
        symlink(outside.path(), path.join("run")).unwrap();
        symlink("/proc/self/root", path.join("magic")).unwrap();
        let named = |error, wanted| {
            let link = matches!(&error, SafePathError::NotADirectory { path, found: Found::SymbolicLink } if path == wanted);
            assert!(link, "{error:?}");
        };
        named(root.ensure_dir("run").unwrap_err(), "run");
        named(root.ensure_dir("run/secrets/new").unwrap_err(), "run");
        named(root.open_dir("run/secrets").unwrap_err(), "run");
        named(root.open_dir("magic/etc").unwrap_err(), "magic");
        named(root.read_file("run/secrets/file", 100).unwrap_err(), "run");
        named(root.replace_file("run/secrets/file", b"x", 0o644).unwrap_err(), "run");
        assert_eq!(fs::read_dir(outside.path().join("secrets")).unwrap().count(), 1);
        assert_eq!(fs::read(outside.path().join("secrets/file")).unwrap(), b"secret");
    });
}

#[test]
fn a_path_that_is_not_plain_is_refused() {
    with_root(|_, root| {
        for path in ["", "/etc", "../etc", "a/../b", "a//b", "a/", "./a"] {
            let refused = |result: Result<()>| matches!(result, Err(SafePathError::NotPlain { .. }));
            assert!(refused(root.ensure_dir(path).map(drop)), "{path}");
            assert!(refused(root.open_dir(path).map(drop)), "{path}");
            assert!(refused(root.read_file(path, 1).map(drop)), "{path}");
            assert!(refused(root.replace_file(path, b"", 0o644)), "{path}");
        }
    });
}

#[test]
fn a_link_or_a_fifo_at_a_file_is_replaced_by_a_regular_file() {
    with_root(|path, root| {
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::create_dir(path.join("etc")).unwrap();
        symlink(outside.path(), path.join("etc/link")).unwrap();
        fifo(&path.join("etc/fifo"));
        for name in ["link", "fifo", "new"] {
            root.replace_file(&format!("etc/{name}"), b"text", 0o640).unwrap();
            let meta = fs::symlink_metadata(path.join("etc").join(name)).unwrap();
            assert!(meta.is_file() && meta.permissions().mode() & 0o7777 == 0o640, "{name}");
            assert_eq!(fs::read(path.join("etc").join(name)).unwrap(), b"text");
        }
        assert_eq!(fs::metadata(outside.path()).unwrap().len(), 0);
        assert_eq!(fs::read_dir(path.join("etc")).unwrap().count(), 3, "no temporary file is left");
    });
}

#[test]
fn a_directory_at_a_file_is_an_error_and_leaves_no_temporary_file() {
    with_root(|path, root| {
        fs::create_dir_all(path.join("etc/hosts")).unwrap();
        let error = root.replace_file("etc/hosts", b"x", 0o644).unwrap_err();
        assert!(matches!(error, SafePathError::NotAFile { found: Found::Directory, .. }), "{error}");
        assert_eq!(fs::read_dir(path.join("etc")).unwrap().count(), 1);
    });
}

#[test]
fn a_file_with_the_same_contents_is_not_written_again() {
    with_root(|path, root| {
        root.replace_file("hosts", b"same", 0o644).unwrap();
        let inode = || fs::metadata(path.join("hosts")).unwrap().ino();
        let before = inode();
        root.replace_file("hosts", b"same", 0o644).unwrap();
        assert_eq!(inode(), before);
        root.replace_file("hosts", b"sam", 0o644).unwrap();
        assert_ne!(inode(), before);
    });
}

#[test]
fn reading_waits_for_no_fifo_and_takes_no_more_than_asked() {
    with_root(|path, root| {
        fifo(&path.join("fifo"));
        fs::write(path.join("file"), "12345").unwrap();
        let error = root.read_file("fifo", 10).unwrap_err();
        assert!(matches!(error, SafePathError::NotAFile { found: Found::Special, .. }), "{error}");
        symlink("file", path.join("link")).unwrap();
        let error = root.read_file("link", 10).unwrap_err();
        assert!(matches!(error, SafePathError::NotAFile { found: Found::SymbolicLink, .. }), "{error}");
        assert_eq!(root.read_file("file", 5).unwrap().unwrap(), b"12345");
        assert!(matches!(root.read_file("file", 4), Err(SafePathError::TooLarge { max: 4, .. })));
        assert_eq!(root.read_file("none", 4).unwrap(), None);
    });
}

#[test]
fn an_error_tells_the_tenant_what_to_do() {
    with_root(|path, root| {
        symlink("/etc", path.join("proc")).unwrap();
        let error = root.ensure_dir("proc").unwrap_err();
        assert_eq!(error.to_string(), "/proc in the root is a symbolic link; make it a directory");
    });
}
