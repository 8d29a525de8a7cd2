//! Rules of `sftp` that OpenSSH's client doesn't show, on the real binary.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
mod sftp_client;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::LazyLock;

use sftp_client::*;

const READ_ONLY: u32 = 1;
const WRITE_CREATE: u32 = 2 | 8;
const WRITE_APPEND: u32 = 2 | 4;
const EXCLUSIVE: u32 = 2 | 8 | 32;

fn place() -> (tempfile::TempDir, Sftp) {
    let place = tempfile::tempdir().unwrap();
    let sftp = Sftp::start(place.path());
    (place, sftp)
}

fn ok() -> (u32, String) {
    (0, "Success".to_owned())
}

#[test]
fn every_extension_of_openssh_is_offered_with_its_version() {
    let (_place, sftp) = place();
    let offered: Vec<_> = sftp.extensions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    assert_eq!(
        offered,
        [
            "posix-rename@openssh.com 1",
            "statvfs@openssh.com 2",
            "fstatvfs@openssh.com 2",
            "hardlink@openssh.com 1",
            "fsync@openssh.com 1",
            "lsetstat@openssh.com 1",
            "limits@openssh.com 1",
            "expand-path@openssh.com 1",
            "copy-data 1",
            "home-directory 1",
            "users-groups-by-id@openssh.com 1",
        ]
    );
}

#[test]
fn the_limits_are_those_of_openssh_and_are_kept() {
    let (place, mut sftp) = place();
    let mut limits = sftp.extended("limits@openssh.com", fields());
    assert_eq!(limits.kind, EXTENDED_REPLY);
    let (packet, read, write, handles) = (limits.u64(), limits.u64(), limits.u64(), limits.u64());
    assert_eq!((packet, read, write), (256 << 10, 255 << 10, 255 << 10));

    let content: Vec<u8> = (0..write).map(|n| (n % 251) as u8).collect();
    let file = sftp.open("big", WRITE_CREATE);
    assert_eq!(sftp.ask(WRITE, fields().string(&file).u64(0).string(&content)).status(), ok());
    let file = sftp.open("big", READ_ONLY);
    let ask = fields().string(&file).u64(0).u32(u32::MAX);
    assert_eq!(sftp.ask(READ, ask).first(DATA), content);

    fs::write(place.path().join("small"), "").unwrap();
    let opened = (2..=handles)
        .filter(|_| sftp.ask(OPEN, fields().string("small").u32(READ_ONLY).u32(0)).kind == HANDLE);
    assert_eq!(opened.count() as u64, handles - 2);
    let refused = sftp.ask(OPEN, fields().string("small").u32(READ_ONLY).u32(0)).status();
    assert_eq!(refused.0, 4);
}

#[test]
fn the_first_argument_of_a_symlink_is_its_target() {
    let (place, mut sftp) = place();
    assert_eq!(sftp.ask(SYMLINK, fields().string("target").string("link")).status(), ok());
    assert_eq!(fs::read_link(place.path().join("link")).unwrap(), Path::new("target"));
    assert_eq!(sftp.ask(READLINK, fields().string("link")).first(NAME), b"target");
}

#[test]
fn a_rename_replaces_nothing_and_a_posix_rename_does() {
    let (place, mut sftp) = place();
    let at = |name: &str| place.path().join(name);
    for (name, content) in [("a", "A"), ("b", "B")] {
        fs::write(at(name), content).unwrap();
    }
    fs::create_dir(at("dir")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for (old, new) in [("a", "b"), ("dir", "empty"), ("a", "dangling"), ("a", "a")] {
        assert_eq!(sftp.ask(RENAME, fields().string(old).string(new)).status().0, 4, "{old} {new}");
    }
    assert_eq!(fs::read_to_string(at("b")).unwrap(), "B");
    assert_eq!(sftp.ask(RENAME, fields().string("a").string("c")).status(), ok());
    assert_eq!(sftp.ask(RENAME, fields().string("dir").string("moved")).status(), ok());
    assert_eq!(sftp.ask(RENAME, fields().string("gone").string("x")).status(), (2, "No such file".into()));
    assert_eq!(sftp.extended("posix-rename@openssh.com", fields().string("c").string("b")).status(), ok());
    assert_eq!(fs::read_to_string(at("b")).unwrap(), "A");
    assert!(!at("c").exists());
}

#[test]
fn lsetstat_changes_the_link_and_setstat_what_it_points_to() {
    let (place, mut sftp) = place();
    fs::write(place.path().join("file"), "").unwrap();
    symlink("file", place.path().join("link")).unwrap();
    let times = |seconds| fields().string("link").u32(8).u32(seconds).u32(seconds);
    assert_eq!(sftp.extended("lsetstat@openssh.com", times(1_000_000_000)).status(), ok());
    assert_eq!(sftp.ask(SETSTAT, times(4_000_000_000)).status(), ok());
    assert_eq!(fs::symlink_metadata(place.path().join("link")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(place.path().join("file")).unwrap().mtime(), 4_000_000_000);

    let size = fields().string("link").u32(1).u64(0);
    assert_eq!(sftp.extended("lsetstat@openssh.com", size).status(), (5, "Bad message".into()));
    let mode = |name: &str| fields().string(name).u32(4).u32(0o600);
    assert_eq!(sftp.extended("lsetstat@openssh.com", mode("link")).status().0, 4);
    assert_eq!(sftp.extended("lsetstat@openssh.com", mode("file")).status(), ok());
    assert_eq!(fs::metadata(place.path().join("file")).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn setstat_sets_the_size_of_a_file_and_does_not_wait_for_a_fifo() {
    let (place, mut sftp) = place();
    fs::write(place.path().join("file"), "12345").unwrap();
    assert_eq!(sftp.ask(SETSTAT, fields().string("file").u32(1).u64(2)).status(), ok());
    assert_eq!(fs::read_to_string(place.path().join("file")).unwrap(), "12");
    let fifo = place.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(sftp.ask(SETSTAT, fields().string("fifo").u32(1).u64(2)).status().0, 4);
}

#[test]
fn open_appends_and_refuses_to_replace_as_it_is_asked_to() {
    let (place, mut sftp) = place();
    fs::write(place.path().join("log"), "one ").unwrap();
    let file = sftp.open("log", WRITE_APPEND);
    assert_eq!(sftp.ask(WRITE, fields().string(&file).u64(0).string("two")).status(), ok());
    assert_eq!(fs::read_to_string(place.path().join("log")).unwrap(), "one two");
    let exclusive = |name: &str| fields().string(name).u32(EXCLUSIVE).u32(4).u32(0o640);
    assert_eq!(sftp.ask(OPEN, exclusive("log")).status().0, 4);
    assert_eq!(sftp.ask(OPEN, exclusive("new")).kind, HANDLE);
    assert_eq!(fs::metadata(place.path().join("new")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(sftp.ask(OPEN, fields().string("gone").u32(1).u32(0)).status(), (2, "No such file".into()));
}

#[test]
fn a_read_at_the_end_is_an_end_and_one_before_it_is_short() {
    let (place, mut sftp) = place();
    fs::write(place.path().join("file"), "12345").unwrap();
    let file = sftp.open("file", READ_ONLY);
    let mut read = |offset, length| sftp.ask(READ, fields().string(&file).u64(offset).u32(length));
    assert_eq!(read(3, 100).first(DATA), b"45");
    assert_eq!(read(5, 100).status(), (1, "End of file".into()));
    assert_eq!(read(500, 1).status().0, 1);
    assert_eq!(read(0, 0).first(DATA), b"");
    assert_eq!(read(u64::MAX, 1).status().0, 5);
}

#[test]
fn what_is_no_open_file_is_refused_by_every_request() {
    let (_place, mut sftp) = place();
    let directory = sftp.ask(OPENDIR, fields().string(".")).first(HANDLE);
    let file = sftp.open("file", WRITE_CREATE);
    for handle in [&directory[..], b"", b"\0\0\0\x09", b"none"] {
        assert_eq!(sftp.ask(READ, fields().string(handle).u64(0).u32(1)).status().0, 4);
        assert_eq!(sftp.ask(WRITE, fields().string(handle).u64(0).string("x")).status().0, 4);
        assert_eq!(sftp.ask(FSTAT, fields().string(handle)).status().0, 4);
        assert_eq!(sftp.extended("fsync@openssh.com", fields().string(handle)).status().0, 2);
    }
    assert_eq!(sftp.ask(READDIR, fields().string(&file)).status().0, 4);
    assert_eq!(sftp.ask(CLOSE, fields().string(&file)).status(), ok());
    assert_eq!(sftp.ask(CLOSE, fields().string(&file)).status().0, 2);
}

#[test]
fn fsync_and_both_statvfs_answer_for_an_open_file() {
    let (place, mut sftp) = place();
    let file = sftp.open("file", WRITE_CREATE);
    assert_eq!(sftp.extended("fsync@openssh.com", fields().string(&file)).status(), ok());
    let mut by_path = sftp.extended("statvfs@openssh.com", fields().string("."));
    let mut by_file = sftp.extended("fstatvfs@openssh.com", fields().string(&file));
    assert_eq!((by_path.kind, by_path.rest.len()), (EXTENDED_REPLY, 11 * 8));
    let block = rustix::fs::statvfs(place.path()).unwrap().f_bsize;
    assert_eq!((by_path.u64(), by_file.u64()), (block, block));
}

#[test]
fn copy_data_copies_a_part_or_all_and_never_a_file_onto_itself() {
    let (place, mut sftp) = place();
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 253) as u8).collect();
    fs::write(place.path().join("from"), &content).unwrap();
    let from = sftp.open("from", READ_ONLY);
    let copy = |from: &[u8], offset: u64, length: u64, to: &[u8], to_offset: u64| {
        fields().string(from).u64(offset).u64(length).string(to).u64(to_offset)
    };
    let to = sftp.open("to", WRITE_CREATE);
    assert_eq!(sftp.extended("copy-data", copy(&from, 0, 0, &to, 0)).status(), ok());
    assert_eq!(fs::read(place.path().join("to")).unwrap(), content);

    let part = sftp.open("part", WRITE_CREATE);
    assert_eq!(sftp.extended("copy-data", copy(&from, 10, 20, &part, 5)).status(), ok());
    assert_eq!(fs::read(place.path().join("part")).unwrap()[5..], content[10..30]);
    let (code, _) = sftp.extended("copy-data", copy(&from, 999_990, 20, &part, 0)).status();
    assert_eq!(code, 1, "the file ends before");

    fs::write(place.path().join("log"), "x").unwrap();
    let log = sftp.open("log", WRITE_APPEND);
    assert_eq!(sftp.extended("copy-data", copy(&from, 0, 0, &log, 0)).status(), ok());
    assert_eq!(fs::read(place.path().join("log")).unwrap()[1..], content);

    fs::hard_link(place.path().join("from"), place.path().join("same")).unwrap();
    let same = sftp.open("same", 2);
    assert_eq!(sftp.extended("copy-data", copy(&from, 0, 0, &same, 0)).status(), (4, "Failure".into()));
    assert_eq!(sftp.extended("copy-data", copy(&from, 0, 0, b"none", 0)).status().0, 2);
}

#[test]
fn a_file_of_proc_is_copied_although_it_says_that_it_is_empty() {
    let (place, mut sftp) = place();
    let (from, to) = (sftp.open("/proc/version", READ_ONLY), sftp.open("to", WRITE_CREATE));
    let copy = fields().string(&from).u64(0).u64(0).string(&to).u64(0);
    assert_eq!(sftp.extended("copy-data", copy).status(), ok());
    assert_eq!(fs::read(place.path().join("to")).unwrap(), fs::read("/proc/version").unwrap());
}

#[test]
fn home_directories_and_paths_below_them_are_found() {
    let (place, mut sftp) = place();
    let start = place.path().canonicalize().unwrap();
    let start = start.as_os_str().as_bytes();
    let mut expand = |path: &str| sftp.extended("expand-path@openssh.com", fields().string(path));
    assert_eq!(expand("~").first(NAME), start);
    assert_eq!(expand("").first(NAME), start);
    assert_eq!(expand("~/new").first(NAME), [start, b"/new"].concat());
    assert_eq!(expand("new").first(NAME), [start, b"/new"].concat());
    assert_eq!(expand("/usr/..").first(NAME), b"/");
    assert_eq!(expand("~no-such-user-here/x").status(), (2, "no such user".into()));
    let root = expand("~root").first(NAME);
    assert_eq!(sftp.extended("home-directory", fields().string("root")).first(NAME), root);
    assert_eq!(sftp.extended("home-directory", fields().string("")).kind, NAME);
    assert_eq!(sftp.extended("home-directory", fields().string("no-such-user-here")).status().0, 4);
}

#[test]
fn users_and_groups_have_their_names_and_those_without_one_an_empty_one() {
    let (_place, mut sftp) = place();
    let ids = |ids: &[u32]| ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<u8>>();
    let ask = fields().string(ids(&[0, 4_000_000_000])).string(ids(&[0]));
    let mut reply = sftp.extended("users-groups-by-id@openssh.com", ask);
    assert_eq!(reply.kind, EXTENDED_REPLY);
    assert_eq!(reply.string(), fields().string("root").string("").0);
    assert_eq!(reply.string(), fields().string("root").0);
    let odd = fields().string([0; 5]).string("");
    assert_eq!(sftp.extended("users-groups-by-id@openssh.com", odd).status().0, 5);
}

#[test]
fn a_directory_is_listed_in_batches_with_every_name_as_its_bytes() {
    let (place, mut sftp) = place();
    let mut names: Vec<Vec<u8>> = (0..250).map(|n| format!("{n}").into_bytes()).collect();
    names.push(b"no text \xff\xfe\n".to_vec());
    for name in &names {
        fs::write(place.path().join(std::ffi::OsStr::from_bytes(name)), "12").unwrap();
    }
    let directory = sftp.ask(OPENDIR, fields().string(".")).first(HANDLE);
    let mut listed = Vec::new();
    let end = loop {
        let mut reply = sftp.ask(READDIR, fields().string(&directory));
        if reply.kind == STATUS {
            break reply.status();
        }
        let count = reply.u32();
        assert!((1..=100).contains(&count));
        for _ in 0..count {
            let (name, line) = (reply.string(), reply.string());
            assert!(line.ends_with(&name) && (line[0] == b'-' || line[0] == b'd'));
            let (flags, _size, _uid, _gid, mode) =
                (reply.u32(), reply.u64(), reply.u32(), reply.u32(), reply.u32());
            let (_accessed, _modified) = (reply.u32(), reply.u32());
            assert_eq!((flags, mode >> 12 == 0o10), (15, line[0] == b'-'));
            listed.push(name);
        }
        assert!(reply.rest.is_empty());
    };
    assert_eq!(end, (1, "End of file".into()));
    names.extend([b".".to_vec(), b"..".to_vec()]);
    names.sort();
    listed.sort();
    assert_eq!(listed, names);
}

#[test]
fn requests_that_are_sent_ahead_are_answered_in_their_order() {
    let (place, sftp) = place();
    let content: Vec<u8> = (0..32 << 20_u32).map(|n| (n % 241) as u8).collect();
    fs::write(place.path().join("file"), &content).unwrap();
    let mut sftp = sftp;
    let file = sftp.open("file", READ_ONLY);
    let (mut child, mut input, mut output) = sftp.into_parts();
    const EACH: usize = 32 << 10;
    let ahead = std::thread::spawn(move || {
        for n in 0..(32 << 20) / EACH {
            let body = fields().string(&file).u64((n * EACH) as u64).u32(EACH as u32);
            let mut packet = fields().u32(5 + body.0.len() as u32).0;
            packet.push(READ);
            packet.extend((n as u32).to_be_bytes());
            packet.extend(body.0);
            input.write_all(&packet).unwrap();
        }
    });
    let mut replies = Vec::new();
    output.read_to_end(&mut replies).unwrap();
    ahead.join().unwrap();
    assert!(child.wait().unwrap().success());
    for (n, reply) in replies.chunks(13 + EACH).enumerate() {
        assert_eq!(reply[5..9], (n as u32).to_be_bytes());
        assert!(reply[13..] == content[n * EACH..(n + 1) * EACH], "block {n}");
    }
}

#[test]
fn a_user_has_no_more_rights_than_its_own() {
    if !rustix::process::geteuid().is_root() {
        // Every test here then runs with a user's own rights.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("secret"), "").unwrap();
    fs::set_permissions(place.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut sftp = Sftp::with(as_nobody(place.path()));
    let denied = (3, "Permission denied".to_owned());
    assert_eq!(sftp.ask(OPEN, fields().string("secret").u32(1).u32(0)).status(), denied);
    assert_eq!(sftp.ask(MKDIR, fields().string("dir").u32(0)).status(), denied);
    assert_eq!(sftp.ask(LSTAT, fields().string("secret")).kind, ATTRS);
}

/// Its program is reached by way of an open file: nobody may perhaps not walk to where it was built.
fn as_nobody(directory: &Path) -> std::process::Command {
    static PROGRAM: LazyLock<fs::File> =
        LazyLock::new(|| fs::File::open(env!("CARGO_BIN_EXE_sparks-guest")).unwrap());
    let mut command = std::process::Command::new(format!("/proc/self/fd/{}", PROGRAM.as_raw_fd()));
    command.arg("sftp").current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.uid(65534).gid(65534);
    command
}

#[test]
fn garbage_is_refused_or_ends_the_session_and_never_anything_else() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let root = rustix::process::geteuid().is_root();
        let command = if root { as_nobody(place.path()) } else { server(place.path()) };
        let sftp = Sftp::with(command);
        let (mut child, mut input, mut output) = sftp.into_parts();
        let writer = std::thread::spawn(move || {
            for _ in 0..200 {
                // The server may have ended already.
                if input.write_all(&random.packet()).is_err() {
                    return;
                }
            }
        });
        let mut replies = Vec::new();
        output.read_to_end(&mut replies).unwrap();
        writer.join().unwrap();
        let status = child.wait().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)), "seed {seed}: {status}");
        assert_well_formed(&replies, seed);
    }
}

fn assert_well_formed(mut replies: &[u8], seed: u64) {
    while !replies.is_empty() {
        let length = u32::from_be_bytes(replies[..4].try_into().unwrap()) as usize;
        assert!((5..=256 << 10).contains(&length), "seed {seed}");
        assert!(matches!(replies[4], 2 | 101..=105 | 201), "seed {seed}");
        replies = &replies[4 + length..];
    }
}

/// A small generator, the same everywhere (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// Mostly a request that nearly makes sense; sometimes none at all; now and then a length that is wrong.
    fn packet(&mut self) -> Vec<u8> {
        const NAMES: [&str; 6] = [
            "copy-data",
            "limits@openssh.com",
            "users-groups-by-id@openssh.com",
            "expand-path@openssh.com",
            "lsetstat@openssh.com",
            "statvfs@openssh.com",
        ];
        let kind = if self.below(4) == 0 { EXTENDED } else { self.below(22) as u8 };
        let mut body = fields().u32(self.below(1 << 32) as u32);
        if kind == EXTENDED {
            body = body.string(NAMES[self.below(6) as usize]);
        }
        for _ in 0..self.below(6) {
            body = match self.below(5) {
                0 => body.string(self.below(4).to_string()),
                1 => body.string((self.below(3) as u32).to_be_bytes()),
                2 => body.u64(self.below(1 << 20)),
                3 => body.u32(self.below(1 << 20) as u32),
                _ => {
                    let length = self.below(64);
                    body.string((0..length).map(|_| self.byte()).collect::<Vec<_>>())
                }
            };
        }
        if self.below(3) == 0 && !body.0.is_empty() {
            let at = self.below(body.0.len() as u64) as usize;
            body.0[at] = self.byte();
        }
        let length = match self.below(2000) {
            0 => self.below(1 << 32),
            _ => body.0.len() as u64 + 1,
        };
        let mut packet = fields().u32(length as u32).0;
        packet.push(kind);
        packet.extend(body.0);
        packet
    }
}
