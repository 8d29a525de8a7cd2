#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, sync::Arc};

use sparks_ssh::wire::{Pty, WindowSize};

use super::*;
use crate::recording::Store;

/// A connection whose recordings are in a folder. Nobody answers in place of the API server.
struct World {
    folder: tempfile::TempDir,
    tap: Tap,
}

impl World {
    fn new(required: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let recorder = Recorder::new(Arc::new(store), kube::Client::try_from(nowhere).unwrap());
        let origin = Origin { namespace: "team-a".into(), spark: "api".into(), ..Default::default() };
        Self { folder, tap: Tap::new(recorder, origin, required) }
    }

    fn client(&mut self, message: Message) -> Result<(), RecordError> {
        self.tap.pass(Side::Client, &message.encode())
    }

    fn guest(&mut self, message: Message) -> Result<(), RecordError> {
        self.tap.pass(Side::Guest, &message.encode())
    }

    /// An open session.
    fn session(&mut self, client: u32, guest: u32) {
        self.client(open(client, ChannelKind::Session)).unwrap();
        self.guest(confirmation(client, guest)).unwrap();
    }

    fn ask(&mut self, guest: u32, kind: RequestKind) -> Result<(), RecordError> {
        self.client(Message::Request { recipient: guest, want_reply: true, kind })
    }

    fn shows(&mut self, client: u32, text: &'static str) {
        let data = Bytes::from_static(text.as_bytes());
        self.guest(Message::Data { recipient: client, data }).unwrap();
    }

    /// All recordings, those that go on included.
    fn recordings(&self) -> Vec<String> {
        let folder = self.folder.path().join("team-a/api");
        let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
        files.map(|file| read(&file.unwrap().path())).collect()
    }

    fn recording(&self) -> String {
        let mut all = self.recordings();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn open(sender: u32, kind: ChannelKind) -> Message {
    Message::Open { sender, window: 1 << 20, max_packet: 1 << 15, kind }
}

fn confirmation(recipient: u32, sender: u32) -> Message {
    Message::OpenConfirmation {
        recipient,
        sender,
        window: 1 << 20,
        max_packet: 1 << 15,
        payload: Bytes::new(),
    }
}

fn pty() -> RequestKind {
    let size = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    RequestKind::Pty(Pty { term: "xterm".into(), size, modes: Vec::new() })
}

fn exec(command: &'static str) -> RequestKind {
    RequestKind::Exec { command: command.into() }
}

fn subsystem(name: &'static str) -> RequestKind {
    RequestKind::Subsystem { name: name.into() }
}

#[tokio::test]
async fn what_a_subsystem_transfers_is_not_recorded() {
    let mut world = World::new(true);
    world.session(0, 0);
    world.ask(0, subsystem("sftp")).unwrap();
    world.shows(0, "a file");
    let recording = world.recording();
    assert!(recording.contains("subsystem sftp") && !recording.contains("a file"), "{recording}");
}

#[tokio::test]
async fn a_subsystem_that_the_guest_refuses_hides_no_program_that_is_asked_for_after_it() {
    for (then, marker) in [(RequestKind::Shell, "a shell"), (exec("bash -i"), "bash -i")] {
        let mut world = World::new(true);
        world.session(0, 0);
        world.ask(0, pty()).unwrap();
        world.ask(0, subsystem("foo")).unwrap();
        world.guest(Message::Failure { recipient: 0 }).unwrap();
        world.ask(0, then).unwrap();
        world.shows(0, "seen");
        let recording = world.recording();
        let marked = recording.lines().any(|line| line.contains("\"m\"") && line.contains(marker));
        assert!(marked && recording.contains("\"seen\""), "{recording}");
    }
}

#[tokio::test]
async fn a_subsystem_that_is_asked_for_after_a_program_hides_nothing() {
    for first in [RequestKind::Shell, exec("make"), subsystem("foo")] {
        let mut world = World::new(true);
        world.session(0, 0);
        world.ask(0, first).unwrap();
        world.ask(0, subsystem("sftp")).unwrap();
        world.shows(0, "seen");
        let recording = world.recording();
        assert!(
            recording.contains("program: subsystem sftp") && recording.contains("\"seen\""),
            "{recording}"
        );
    }
}
