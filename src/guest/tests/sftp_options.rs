//! The options of sftp-server(8), on the real binary and behind a forced `internal-sftp`.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
mod sftp_client;
mod sshd;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use sftp_client::*;
use sshd::{Sshd, complaints, new_key, printed};

const PERMISSION_DENIED: u32 = 3;

fn with(options: &[&str], directory: &Path) -> Sftp {
    let mut server = server(directory);
    server.args(options).env("HOME", directory).env("USER", "me");
    Sftp::with(server)
}

fn tree() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "content").unwrap();
    fs::create_dir(place.path().join("dir")).unwrap();
    symlink("file", place.path().join("link")).unwrap();
    place
}

/// All that a client could change: names, kinds, owners, modes, sizes, times and content.
fn state(place: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let of = |path: &std::path::PathBuf| {
        let file = fs::symlink_metadata(path).unwrap();
        let content = fs::read(path).unwrap_or_default();
        format!("{path:?} {:o} {} {} {} {content:?}", file.mode(), file.uid(), file.nlink(), file.mtime())
    };
    names.iter().map(of).collect()
}

#[test]
fn a_read_only_session_reads_everything_and_changes_nothing() {
    let place = tree();
    let before = state(place.path());
    let mut sftp = with(&["-R"], place.path());
    let file = sftp.open("file", 1);
    assert_eq!(sftp.ask(READ, fields().string(&file).u64(0).u32(100)).first(DATA), b"content");
    assert_eq!(sftp.ask(REALPATH, fields().string("dir/..")).kind, NAME);
    assert_eq!(sftp.extended("limits@openssh.com", fields()).kind, EXTENDED_REPLY);

    // Append alone opens for reading.
    for flags in [2, 3, 2 | 4, 1 | 8, 1 | 16, 2 | 8 | 16, 2 | 8 | 32, 8, 16, 1 | 8 | 32] {
        for name in ["file", "new"] {
            let (code, _) = sftp.ask(OPEN, fields().string(name).u32(flags).u32(0)).status();
            assert_eq!(code, PERMISSION_DENIED, "{name} {flags}");
        }
    }
    let attributes = |path: &str| fields().string(path).u32(4).u32(0o777);
    let requests = [
        (WRITE, fields().string(&file).u64(0).string("x")),
        (SETSTAT, attributes("file")),
        (10, fields().string(&file).u32(8).u32(1).u32(1)),
        (13, fields().string("file")),
        (MKDIR, fields().string("new").u32(0)),
        (15, fields().string("dir")),
        (RENAME, fields().string("file").string("new")),
        (SYMLINK, fields().string("file").string("new")),
    ];
    for (kind, fields) in requests {
        assert_eq!(sftp.ask(kind, fields).status().0, PERMISSION_DENIED, "{kind}");
    }
    let extensions = [
        ("posix-rename@openssh.com", fields().string("file").string("new")),
        ("hardlink@openssh.com", fields().string("file").string("new")),
        ("fsync@openssh.com", fields().string(&file)),
        ("lsetstat@openssh.com", attributes("file")),
        ("copy-data", fields().string(&file).u64(0).u64(0).string(&file).u64(0)),
    ];
    for (name, fields) in extensions {
        assert_eq!(sftp.extended(name, fields).status().0, PERMISSION_DENIED, "{name}");
        assert!(sftp.extensions.iter().all(|(offered, _)| offered != name), "{name}");
    }
    assert_eq!(sftp.extensions.len(), 6);
    assert_eq!(state(place.path()), before);
}

#[test]
fn what_is_denied_and_what_is_not_allowed_is_refused() {
    let place = tree();
    let mut sftp = with(&["-P", "remove,posix-rename"], place.path());
    assert_eq!(sftp.ask(13, fields().string("file")).status().0, PERMISSION_DENIED);
    assert_eq!(sftp.ask(15, fields().string("dir")).status().0, 0);
    assert!(sftp.extensions.iter().all(|(name, _)| name != "posix-rename@openssh.com"));

    let mut sftp = with(&["-p", "stat,opendir"], place.path());
    assert_eq!(sftp.ask(17, fields().string("file")).kind, ATTRS);
    assert_eq!(sftp.ask(LSTAT, fields().string("file")).status().0, PERMISSION_DENIED);
    assert!(sftp.extensions.is_empty());
}

#[test]
fn a_session_begins_where_it_is_told_and_makes_files_with_the_mask_it_is_told() {
    let place = tree();
    let root = place.path().canonicalize().unwrap();
    fs::create_dir(root.join("me")).unwrap();
    let begins = |options: &[&str]| {
        String::from_utf8(with(options, &root).ask(REALPATH, fields().string(".")).first(NAME)).unwrap()
    };
    let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
    assert_eq!(begins(&["-d", "%d/dir"]), at("dir"));
    assert_eq!(begins(&["-d", "%u"]), at("me"));
    assert_eq!(begins(&["-d", "~/me"]), at("me"));
    assert_eq!(begins(&["-d", "/no/such/place"]), root.to_str().unwrap());

    let mut sftp = with(&["-u", "077"], &root);
    sftp.open("private", 2 | 8);
    assert_eq!(fs::metadata(root.join("private")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// A server with a key for each of these forced commands.
fn forced(commands: &[(&str, &str)]) -> Sshd {
    Sshd::with("", |server, folder| {
        fs::write(folder.join("home/file"), "content").unwrap();
        for (name, command) in commands {
            let key = new_key(&folder.join(name));
            server.authorized_keys.push(format!("command=\"{command}\" {key}"));
        }
    })
}

fn sftp(sshd: &Sshd, key: &str, batch: &str) -> Output {
    fs::write(sshd.path("batch"), batch).unwrap();
    let mut sftp = Command::new("sftp");
    sftp.args(sshd.options(&sshd.path(key))).arg("-b").arg(sshd.path("batch"));
    sftp.args(["-P", &sshd.port.to_string(), "127.0.0.1"]).current_dir(sshd.folder.path()).output().unwrap()
}

#[test]
fn a_key_that_is_forced_to_read_only_sftp_has_nothing_else() {
    let sshd = forced(&[("backup", "internal-sftp -R")]);
    printed(&sftp(&sshd, "backup", "get file copy\n"));
    assert_eq!(fs::read_to_string(sshd.path("copy")).unwrap(), "content");
    for batch in ["rm file\n", "put copy file\n", "put copy new\n", "rename file new\n", "chmod 777 file\n"] {
        let output = sftp(&sshd, "backup", batch);
        assert!(
            complaints(&output).to_lowercase().contains("permission denied"),
            "{batch}: {}",
            complaints(&output)
        );
    }
    let home = fs::read_dir(sshd.path("home")).unwrap().count();
    assert_eq!((home, fs::read_to_string(sshd.path("home/file")).unwrap().as_str()), (1, "content"));
}

#[test]
fn a_forced_sftp_whose_arguments_are_not_understood_refuses_the_session_and_says_which() {
    for (arguments, sentence) in [
        ("-x", "invalid option '-x'"),
        ("-R /srv", "unexpected argument"),
        ("-P delete", "there is no request `delete`"),
        ("-R -d /%x", "has a % before something else"),
    ] {
        let sshd = forced(&[("key2", &format!("internal-sftp {arguments}"))]);
        let output = sshd.client_with(&sshd.path("key2")).arg("anything").output().unwrap();
        assert!(complaints(&output).contains(sentence), "{arguments}: {}", complaints(&output));
        assert!(output.stdout.is_empty() && !matches!(output.status.code(), Some(0 | 255)));
    }
}
