//! Rules of `tar-out` and `tar-in`, on the real binary.
#![allow(missing_docs, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

fn tar_out(paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sparks-guest")).args(["tar-out", "--"]).args(paths).output().unwrap()
}

fn tar_in(stream: &[u8], arguments: &[&OsStr]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sparks-guest"))
        .arg("tar-in")
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A refusal ends it before it has read everything.
    let _ = stdin.write_all(stream);
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn into(directory: &Path, stream: &[u8]) -> Output {
    tar_in(stream, &[OsStr::new("--into"), directory.as_os_str()])
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A tar stream of entries that no honest tar would write: name, kind, content or link target.
fn hostile(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(0);
        let is_file = *kind == EntryType::Regular;
        if !is_file {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_size(if is_file { content.len() as u64 } else { 0 });
        header.set_cksum();
        tar.append(&header, if is_file { content.as_bytes() } else { b"" }).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A place with a directory to extract into and a neighbour that must not be touched.
struct Place {
    _scratch: TempDir,
    into: PathBuf,
    outside: PathBuf,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let (into, outside) = (scratch.path().join("into"), scratch.path().join("outside"));
        fs::create_dir(&into).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "untouched").unwrap();
        Self { _scratch: scratch, into, outside }
    }

    fn assert_refuses(&self, entries: &[(&str, EntryType, &str)]) {
        let output = into(&self.into, &hostile(entries));
        assert_eq!(output.status.code(), Some(1), "{entries:?}");
        assert_eq!(fs::read_to_string(self.outside.join("secret")).unwrap(), "untouched", "{entries:?}");
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 1, "{entries:?}");
    }
}

#[test]
fn a_tree_survives_the_round_trip() {
    let from = tempfile::tempdir().unwrap();
    let tree = from.path().join("tree");
    let long = "l".repeat(150);
    let odd = OsStr::from_bytes(b"odd \xff\n name");
    fs::create_dir_all(tree.join(&long)).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    fs::write(tree.join(&long).join("deep"), "deep").unwrap();
    fs::write(tree.join(odd), vec![7; 100_000]).unwrap();
    fs::write(tree.join("tool"), "tool").unwrap();
    fs::set_permissions(tree.join("tool"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(tree.join("tool"), tree.join("tool-too")).unwrap();
    symlink("../..//./not/tidied/", tree.join("link")).unwrap();
    symlink(long.repeat(3), tree.join("long-link")).unwrap();
    fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o500)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for name in ["tool", "empty", "."] {
        fs::File::open(tree.join(name)).unwrap().set_modified(time).unwrap();
    }

    let stream = tar_out(&[&tree]);
    assert!(stream.status.success(), "{}", stderr(&stream));
    let to = tempfile::tempdir().unwrap();
    let output = into(to.path(), &stream.stdout);
    assert!(output.status.success(), "{}", stderr(&output));

    let copy = to.path().join("tree");
    assert_eq!(fs::read_to_string(copy.join(&long).join("deep")).unwrap(), "deep");
    assert_eq!(fs::read(copy.join(odd)).unwrap(), vec![7; 100_000]);
    let tool = fs::metadata(copy.join("tool")).unwrap();
    assert_eq!(tool.ino(), fs::metadata(copy.join("tool-too")).unwrap().ino());
    assert_eq!(tool.mtime(), 1_000_000_000);
    if rustix::process::geteuid().is_root() {
        assert_eq!(tool.mode() & 0o7777, 0o4751);
    }
    let empty = fs::metadata(copy.join("empty")).unwrap();
    assert_eq!((empty.mode() & 0o7777, empty.mtime()), (0o500, 1_000_000_000));
    assert_eq!(fs::metadata(&copy).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::read_link(copy.join("link")).unwrap().as_os_str(), "../..//./not/tidied/");
    assert_eq!(fs::read_link(copy.join("long-link")).unwrap().as_os_str(), long.repeat(3).as_str());
}

#[test]
fn names_are_relative_to_the_parent_and_can_be_renamed() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("a"), "content").unwrap();
    let stream = tar_out(&[&from.path().join("a")]).stdout;
    let to = tempfile::tempdir().unwrap();
    let arguments = ["--into", to.path().to_str().unwrap(), "--rename", "b"].map(OsStr::new);
    assert!(tar_in(&stream, &arguments).status.success());
    assert_eq!(fs::read_to_string(to.path().join("b")).unwrap(), "content");
    assert!(!to.path().join("a").exists());
}

#[test]
fn a_link_on_the_command_line_is_followed() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("real"), "content").unwrap();
    symlink("real", from.path().join("link")).unwrap();
    let stream = tar_out(&[&from.path().join("link")]).stdout;
    let to = tempfile::tempdir().unwrap();
    assert!(into(to.path(), &stream).status.success());
    assert!(fs::symlink_metadata(to.path().join("link")).unwrap().is_file());
}

#[test]
fn what_cannot_be_archived_is_said_and_left_out() {
    let from = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).unwrap();
    fs::write(from.path().join("file"), "x").unwrap();
    let output = tar_out(&[from.path()]);
    assert!(output.status.success(), "a socket is nothing to miss");
    assert!(stderr(&output).contains("socket: left out"));

    let fifo = from.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let output = tar_out(&[from.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("fifo: left out"));
    let to = tempfile::tempdir().unwrap();
    assert!(into(to.path(), &output.stdout).status.success());
    assert!(to.path().join(from.path().file_name().unwrap()).join("file").exists());
    assert_eq!(tar_out(&[Path::new("/no/such/file")]).status.code(), Some(1));
}

#[test]
fn a_file_that_announces_more_than_it_has_does_not_break_the_stream() {
    // Files of /proc announce nothing and have something; their bytes must not leak into the next header.
    let output = tar_out(&[Path::new("/proc/self/status"), Path::new("/etc/hostname")]);
    let to = tempfile::tempdir().unwrap();
    assert!(into(to.path(), &output.stdout).status.success());
    assert_eq!(fs::read(to.path().join("hostname")).unwrap(), fs::read("/etc/hostname").unwrap());
}

#[test]
fn dot_dot_is_refused() {
    let place = Place::new();
    place.assert_refuses(&[("../outside/new", EntryType::Regular, "x")]);
    place.assert_refuses(&[("a/../../outside/secret", EntryType::Regular, "x")]);
    place.assert_refuses(&[("hard", EntryType::Link, "../outside/secret")]);
}

#[test]
fn an_absolute_name_lands_inside() {
    let place = Place::new();
    let name = format!("{}/new", place.outside.display());
    let output = into(&place.into, &hostile(&[(&name, EntryType::Regular, "x")]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(place.into.join(name.trim_start_matches('/')).exists());
    assert!(!place.outside.join("new").exists());
}

#[test]
fn a_link_cannot_be_used_to_leave() {
    for target in ["../outside", "/", "../outside/"] {
        let place = Place::new();
        let file = if target == "/" {
            format!("door{}/new", place.outside.display())
        } else {
            "door/new".to_owned()
        };
        place.assert_refuses(&[("door", EntryType::Symlink, target), (&file, EntryType::Regular, "x")]);
        place.assert_refuses(&[("door/", EntryType::Directory, "")]);
        let hard = file.replace("new", "secret");
        place.assert_refuses(&[("hard", EntryType::Link, &hard)]);
        place.assert_refuses(&[(&file.replace("new", "deeper/new"), EntryType::Regular, "x")]);
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_not_written_through() {
    let place = Place::new();
    let output = into(
        &place.into,
        &hostile(&[("f", EntryType::Symlink, "../outside/secret"), ("f", EntryType::Regular, "overwritten")]),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(place.outside.join("secret")).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(place.into.join("f")).unwrap(), "overwritten");
}

#[test]
fn a_link_that_stays_inside_may_be_used() {
    let place = Place::new();
    fs::create_dir(place.into.join("real")).unwrap();
    symlink("real", place.into.join("current")).unwrap();
    let output = into(&place.into, &hostile(&[("current/f", EntryType::Regular, "x")]));
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(place.into.join("real/f").exists());
}

#[test]
fn owners_are_kept_by_root_unless_it_is_told_not_to() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let from = tempfile::tempdir().unwrap();
    let file = from.path().join("f");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(4711), Some(4712)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let stream = tar_out(&[&file]).stdout;

    let to = tempfile::tempdir().unwrap();
    assert!(into(to.path(), &stream).status.success());
    let kept = fs::metadata(to.path().join("f")).unwrap();
    assert_eq!((kept.uid(), kept.gid(), kept.mode() & 0o7777), (4711, 4712, 0o4755));

    let arguments = ["--no-same-owner", "--into", to.path().to_str().unwrap()].map(OsStr::new);
    assert!(tar_in(&stream, &arguments).status.success());
    let own = fs::metadata(to.path().join("f")).unwrap();
    assert_eq!((own.uid(), own.gid(), own.mode() & 0o7777), (0, 0, 0o755));
}

#[test]
fn what_is_no_tar_stream_is_refused() {
    let place = Place::new();
    let output = into(&place.into, &[b'x'; 2048]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("tar stream"), "{}", stderr(&output));
    let missing = into(&place.into.join("missing"), b"");
    assert!(stderr(&missing).contains("must exist"), "{}", stderr(&missing));
}
