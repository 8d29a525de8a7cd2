//! `sftp` as OpenSSH's own clients see it: sftp(1) and scp(1) with `-D`, on the real binary.
#![allow(missing_docs, clippy::unwrap_used)]

mod sshd;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Two sides of a transfer. The server begins in `remote`.
struct Place {
    _scratch: TempDir,
    local: PathBuf,
    remote: PathBuf,
    server: PathBuf,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let (local, remote, server) = (root.join("local"), root.join("remote"), root.join("server"));
        fs::create_dir(&local).unwrap();
        fs::create_dir(&remote).unwrap();
        let script = format!(
            "#!/bin/sh\ncd '{}' && exec '{}' sftp\n",
            remote.display(),
            env!("CARGO_BIN_EXE_sparks-guest")
        );
        // Written by another process: a file that a test beside this one still has open for writing, by a fork at the
        // wrong moment, can't be executed.
        let draft = root.join("draft");
        fs::write(&draft, script).unwrap();
        let installed = Command::new("install").args(["-m", "755"]).arg(&draft).arg(&server).status();
        assert!(installed.unwrap().success());
        Self { _scratch: scratch, local, remote, server }
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-D").arg(&self.server).current_dir(&self.local);
        command
    }

    fn batch(&self, arguments: &[&str], batch: &[u8]) -> Output {
        let mut client = self.client("sftp");
        client.args(arguments).args(["-b", "-"]);
        let mut client =
            client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It ends at the first command that fails.
        let _ = client.stdin.take().unwrap().write_all(batch);
        client.wait_with_output().unwrap()
    }

    /// Runs a batch that must succeed, and returns what it printed.
    fn sftp(&self, batch: &str) -> String {
        self.sftp_with(&[], batch)
    }

    fn sftp_with(&self, arguments: &[&str], batch: &str) -> String {
        let output = self.batch(arguments, batch.as_bytes());
        assert!(output.status.success(), "{batch}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a batch that must fail, and returns why.
    fn refused(&self, batch: &str) -> String {
        let output = self.batch(&[], batch.as_bytes());
        assert!(!output.status.success(), "{batch}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// Bytes that differ everywhere, so that a block in the wrong place is seen.
fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn files_of_any_size_come_through_byte_by_byte_in_both_directions() {
    let place = Place::new();
    for size in [0, 1, 32_767, 32_768, 32_769, 261_119, 261_120, 261_121, 262_144, 1_000_003, 9_000_000] {
        let content = content(size);
        fs::write(place.local.join("file"), &content).unwrap();
        for arguments in [&[][..], &["-B", "261120"], &["-B", "1000", "-R", "2"]] {
            if size > 1_000_003 && arguments.len() > 2 {
                continue;
            }
            place.sftp_with(arguments, "put file there\nget there back\n");
            assert!(fs::read(place.remote.join("there")).unwrap() == content, "{size} put");
            assert!(fs::read(place.local.join("back")).unwrap() == content, "{size} got");
        }
    }
}

#[test]
fn an_interrupted_transfer_is_taken_up_again() {
    let place = Place::new();
    let content = content(3_000_000);
    fs::write(place.local.join("file"), &content).unwrap();
    fs::write(place.remote.join("file"), &content[..1_234_567]).unwrap();
    place.sftp("reput file file\n");
    assert!(fs::read(place.remote.join("file")).unwrap() == content);
    fs::write(place.local.join("back"), &content[..7]).unwrap();
    place.sftp("reget file back\n");
    assert!(fs::read(place.local.join("back")).unwrap() == content);
}

#[test]
fn trees_keep_their_content_modes_and_times() {
    let place = Place::new();
    let deep = place.local.join("tree/a/b");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(place.local.join("tree/empty")).unwrap();
    fs::write(deep.join("file"), "text").unwrap();
    fs::set_permissions(deep.join("file"), fs::Permissions::from_mode(0o741)).unwrap();
    let file = fs::File::options().write(true).open(deep.join("file")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890)).unwrap();
    place.sftp("put -Rp tree\nget -Rp tree back\n");
    for root in [place.remote.join("tree"), place.local.join("back")] {
        let file = root.join("a/b/file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o741, 1_234_567_890));
        assert!(root.join("empty").is_dir());
    }
}

#[test]
fn scp_copies_files_and_trees_in_both_directions() {
    let place = Place::new();
    let content = content(500_000);
    fs::create_dir_all(place.local.join("tree/sub")).unwrap();
    fs::write(place.local.join("tree/sub/file"), &content).unwrap();
    for arguments in [["-rp", "tree", "spark:"], ["-rp", "spark:tree", "back"]] {
        let output = place.client("scp").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(fs::read(place.remote.join("tree/sub/file")).unwrap() == content);
    assert!(fs::read(place.local.join("back/sub/file")).unwrap() == content);
}

#[test]
fn scp_to_a_home_directory_goes_where_the_session_begins() {
    let place = Place::new();
    fs::write(place.local.join("file"), "text").unwrap();
    let output = place.client("scp").args(["file", "spark:~/there"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(place.remote.join("there")).unwrap(), "text");
}

#[test]
fn a_file_is_synchronised_when_the_client_asks_for_it() {
    let place = Place::new();
    fs::write(place.local.join("file"), "text").unwrap();
    place.sftp("put -f file\nget -f file back\n");
    assert_eq!(fs::read_to_string(place.local.join("back")).unwrap(), "text");
}

#[test]
fn links_are_made_as_ln_makes_them() {
    let place = Place::new();
    fs::write(place.remote.join("file"), "text").unwrap();
    place.sftp("ln -s file soft\nln file hard\n");
    assert_eq!(fs::read_link(place.remote.join("soft")).unwrap(), Path::new("file"));
    let inode = |name: &str| fs::metadata(place.remote.join(name)).unwrap().ino();
    assert_eq!(inode("file"), inode("hard"));
    assert!(place.refused("ln -s other soft\n").contains("Failure"));
}

#[test]
fn a_rename_replaces_by_default_and_refuses_to_in_the_old_way() {
    let place = Place::new();
    let write = |name: &str| fs::write(place.remote.join(name), name).unwrap();
    write("a");
    write("b");
    place.sftp("rename a b\n");
    assert_eq!(fs::read_to_string(place.remote.join("b")).unwrap(), "a");
    write("a");
    assert!(place.refused("rename -l a b\n").contains("Failure"));
    place.sftp("rename -l a c\n");
    assert_eq!(fs::read_to_string(place.remote.join("c")).unwrap(), "a");
}

#[test]
fn directories_are_made_and_removed_and_errors_have_openssh_s_words() {
    let place = Place::new();
    place.sftp("mkdir dir\nmkdir dir/sub\ncd dir\nrmdir sub\n");
    assert!(place.remote.join("dir").is_dir() && !place.remote.join("dir/sub").exists());
    fs::write(place.remote.join("dir/file"), "").unwrap();
    assert!(place.refused("rmdir dir\n").contains("Failure"));
    place.sftp("rm dir/file\nrmdir dir\n");
    assert!(place.refused("rm dir/file\n").contains("No such file or directory"));
    assert!(place.refused("cd nowhere\n").contains("No such file or directory"));
    assert!(place.refused("ls nowhere\n").contains("not found"));
}

#[test]
fn modes_and_owners_are_changed_of_files_and_of_links_themselves() {
    let place = Place::new();
    fs::write(place.remote.join("file"), "").unwrap();
    symlink("file", place.remote.join("link")).unwrap();
    place.sftp("chmod 4750 file\n");
    assert_eq!(fs::metadata(place.remote.join("file")).unwrap().mode() & 0o7777, 0o4750);
    let (uid, gid) = if rustix::process::geteuid().is_root() {
        (12, 34)
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    place.sftp(&format!("chown -h {uid} link\nchgrp -h {gid} link\n"));
    let link = fs::symlink_metadata(place.remote.join("link")).unwrap();
    assert_eq!((link.uid(), link.gid()), (uid, gid));
    place.sftp(&format!("chown {uid} file\nchgrp {gid} file\n"));
    assert_eq!(fs::metadata(place.remote.join("file")).unwrap().uid(), uid);
}

#[test]
fn a_copy_on_the_server_is_the_same_bytes() {
    let place = Place::new();
    let content = content(5_000_000);
    fs::write(place.remote.join("file"), &content).unwrap();
    place.sftp("cp file copy\n");
    assert!(fs::read(place.remote.join("copy")).unwrap() == content);
}

#[test]
fn the_size_of_the_file_system_is_told() {
    let place = Place::new();
    let df = place.sftp("df\ndf -i\n");
    let blocks = rustix::fs::statvfs(&place.remote).unwrap();
    let kibibytes = (blocks.f_frsize * blocks.f_blocks / 1024).to_string();
    assert!(df.contains(&kibibytes), "{df}");
}

#[test]
fn listings_show_every_name_also_one_that_is_no_text() {
    let place = Place::new();
    let name = OsStr::from_bytes(b"caf\xe9");
    fs::write(place.remote.join(name), "x").unwrap();
    fs::write(place.remote.join(".hidden"), "").unwrap();
    symlink("nowhere", place.remote.join("dangling")).unwrap();
    let listing = place.sftp("ls -la\n");
    assert!(listing.contains(".hidden") && listing.contains("dangling"), "{listing}");
    // The client shows a byte that is no text in its own way.
    assert!(listing.contains("caf\\351"), "{listing}");
    let output = place.batch(&[], b"rename caf\xe9 caf\xe8\nget caf\xe8 got\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.remote.join(OsStr::from_bytes(b"caf\xe8")).exists());
    assert_eq!(fs::read_to_string(place.local.join("got")).unwrap(), "x");
}

#[test]
fn a_directory_of_thousands_is_listed_whole() {
    let place = Place::new();
    for n in 0..3000 {
        fs::write(place.remote.join(format!("file-{n:04}")), "").unwrap();
    }
    let listing = place.sftp("ls -1\n");
    assert_eq!(listing.lines().filter(|line| line.starts_with("file-")).count(), 3000);
}

#[test]
fn by_ssh_it_is_the_subsystem_that_sftp_and_scp_ask_for() {
    let sshd = sshd::Sshd::start();
    let content = content(3_000_000);
    fs::write(sshd.path("file"), &content).unwrap();
    let address = |path: &str| format!("127.0.0.1:{}", sshd.path(path).display());
    let run = |program: &str, arguments: &[&str]| {
        let mut client = Command::new(program);
        client.args(sshd.options(&sshd.path("key"))).args(["-P", &sshd.port.to_string()]).args(arguments);
        sshd::printed(&client.current_dir(sshd.folder.path()).stdin(Stdio::null()).output().unwrap());
    };
    run("scp", &["file", &address("by-scp")]);
    run("sftp", &[&address("by-scp"), "by-sftp"]);
    for name in ["by-scp", "by-sftp"] {
        assert!(fs::read(sshd.path(name)).unwrap() == content, "{name}");
    }
}
