#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, sync::Arc};

use sparks_ssh::wire::{OpenReason, Pty, WindowSize};

use super::*;
use crate::recording::{Limits, Store};

/// A connection whose recordings are in a folder. Nobody answers in place of the API server.
struct World {
    folder: tempfile::TempDir,
    tap: Tap,
}

impl World {
    fn new(required: bool) -> Self {
        Self::with(required, Limits { recordings_free_bytes: 0, ..Limits::default() })
    }

    fn with(required: bool, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::limited(folder.path().to_owned(), limits).unwrap();
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

fn refusal(recipient: u32) -> Message {
    let reason = OpenReason::UnknownChannelType;
    Message::OpenFailure { recipient, reason, description: Bytes::new(), language: Bytes::new() }
}

fn other() -> ChannelKind {
    ChannelKind::Unknown { name: "other".into(), payload: Bytes::new() }
}

fn pty() -> RequestKind {
    let size = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    RequestKind::Pty(Pty { term: "xterm".into(), size, modes: Vec::new() })
}

fn exec(command: &'static str) -> RequestKind {
    RequestKind::Exec { command: command.into() }
}

fn long(command: String) -> RequestKind {
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

#[tokio::test]
async fn a_number_in_use_is_given_to_no_second_channel_of_any_type() {
    for required in [true, false] {
        for kind in [ChannelKind::Session, other()] {
            let mut world = World::new(required);
            world.session(7, 0);
            let again = world.client(open(7, kind.clone()));
            assert!(matches!(again, Err(RecordError::InUse(Side::Client, 7))), "{again:?}");
            // Nor one that waits for the guest's answer.
            world.client(open(8, kind)).unwrap();
            assert!(world.client(open(8, ChannelKind::Session)).is_err());
        }
    }
}

#[tokio::test]
async fn a_session_stays_in_sight_when_the_guest_refuses_what_has_no_answer_to_come() {
    let mut world = World::new(true);
    world.session(7, 0);
    world.ask(0, RequestKind::Shell).unwrap();
    assert!(matches!(world.guest(refusal(7)), Err(RecordError::NotAsked(Side::Guest))));
    world.shows(7, "seen");
    assert!(world.recording().contains("seen"));
}

#[tokio::test]
async fn a_number_is_free_again_when_both_sides_have_closed_the_channel_or_it_was_refused() {
    for (first, second) in [(Side::Client, Side::Guest), (Side::Guest, Side::Client)] {
        let mut world = World::new(true);
        world.session(7, 0);
        world.ask(0, RequestKind::Shell).unwrap();
        let close = |world: &mut World, by: Side| {
            let recipient = if by == Side::Client { 0 } else { 7 };
            world.tap.pass(by, &Message::Close { recipient }.encode()).unwrap();
        };
        close(&mut world, first);
        // Again, which counts once.
        close(&mut world, first);
        assert!(world.client(open(7, ChannelKind::Session)).is_err());
        close(&mut world, second);
        world.session(7, 0);
    }
    let mut world = World::new(true);
    world.client(open(7, other())).unwrap();
    world.guest(refusal(7)).unwrap();
    world.session(7, 0);
}

/// As the guest's end does it, which frees a number when it reads CLOSE and sends its own behind its data.
#[tokio::test]
async fn a_guest_may_give_away_a_number_as_soon_as_the_client_has_closed_it() {
    let mut world = World::new(true);
    world.session(7, 0);
    world.client(Message::Close { recipient: 0 }).unwrap();
    world.session(8, 0);
    world.guest(Message::Close { recipient: 7 }).unwrap();
    world.ask(0, RequestKind::Shell).unwrap();
    world.shows(8, "seen");
    assert!(world.recording().contains("seen"));
}

#[tokio::test]
async fn an_open_is_answered_once() {
    let mut world = World::new(false);
    world.session(7, 0);
    assert!(world.guest(confirmation(7, 1)).is_err());
    assert!(world.guest(confirmation(8, 1)).is_err(), "nobody asked");
    world.client(open(8, ChannelKind::Session)).unwrap();
    assert!(world.guest(confirmation(8, 0)).is_err(), "the guest's number names another one");
    world.guest(open(5, ChannelKind::AuthAgent)).unwrap();
    assert!(world.guest(open(5, ChannelKind::AuthAgent)).is_err());
    assert!(world.client(confirmation(6, 9)).is_err(), "the guest asked for another one");
    world.client(confirmation(5, 9)).unwrap();
    assert!(world.client(refusal(5)).is_err());
    assert!(world.client(open(9, ChannelKind::Session)).is_err(), "that is the agent's");
}

#[tokio::test]
async fn neither_side_can_open_channels_without_end() {
    for answered in [true, false] {
        let mut world = World::new(false);
        let mut client = (0..100_000).map(|number| {
            world.client(open(number, other()))?;
            if answered { world.guest(confirmation(number, number)) } else { Ok(()) }
        });
        assert!(matches!(client.find_map(Result::err), Some(RecordError::TooManyChannels)));
    }
    for answered in [true, false] {
        let mut world = World::new(false);
        let mut guest = (0..100_000).map(|number| {
            world.guest(open(number, ChannelKind::AuthAgent))?;
            if answered {
                world.client(confirmation(number, number))?;
                world.client(Message::Close { recipient: number })?;
            }
            Ok::<_, RecordError>(())
        });
        assert!(matches!(guest.find_map(Result::err), Some(RecordError::TooManyChannels)));
    }
}

#[tokio::test]
async fn a_program_is_asked_for_in_an_open_session_and_nowhere_else() {
    for required in [true, false] {
        for kind in [RequestKind::Shell, exec("id"), subsystem("sftp"), pty()] {
            let mut world = World::new(required);
            let refused = |asked: Result<(), RecordError>| matches!(asked, Err(RecordError::NoSession(_)));
            world.client(open(7, ChannelKind::Session)).unwrap();
            assert!(refused(world.ask(0, kind.clone())), "the guest has not said its number");
            world.guest(confirmation(7, 0)).unwrap();
            world.client(open(8, other())).unwrap();
            world.guest(confirmation(8, 1)).unwrap();
            assert!(refused(world.ask(1, kind.clone())), "no session");
            world.guest(open(2, ChannelKind::AuthAgent)).unwrap();
            assert!(refused(world.ask(2, kind.clone())), "the guest's own, and not open");
            world.client(confirmation(2, 9)).unwrap();
            assert!(refused(world.ask(2, kind.clone())), "the guest's own");
            world.ask(0, kind.clone()).unwrap();
            world.client(Message::Close { recipient: 0 }).unwrap();
            assert!(refused(world.ask(0, kind)), "closed");
        }
    }
}

#[tokio::test]
async fn other_requests_pass_on_every_channel() {
    let mut world = World::new(true);
    world.guest(open(2, ChannelKind::AuthAgent)).unwrap();
    world.client(confirmation(2, 9)).unwrap();
    for kind in [RequestKind::Keepalive, RequestKind::Eow] {
        world.ask(2, kind.clone()).unwrap();
        // Some clients send one after CLOSE.
        world.ask(3, kind).unwrap();
    }
}

#[tokio::test]
async fn a_recording_is_listed_whatever_the_client_runs_and_has_all_of_it() {
    let mut world = World::new(true);
    world.session(0, 0);
    let command = "\u{1}".repeat(100_000) + "; id";
    world.ask(0, long(command)).unwrap();
    world.shows(0, "seen");
    assert_eq!(world.tap.recorder.store.list("team-a", None).unwrap().len(), 1);
    let recording = world.recording();
    assert!(recording.contains("\\u0001; id\"]") && recording.contains("seen"));
    assert_eq!(recording.matches("\\u0001").count(), 100_000);
    assert!(recording.lines().all(|line| line.len() < 32 * 1024));
}

/// What a guest without end shows until somebody stops it; each piece is 10 kB.
fn much(world: &mut World) -> Result<(), RecordError> {
    let data = Bytes::from(vec![b'y'; 10_000]);
    (0..100).try_for_each(|_| world.guest(Message::Data { recipient: 0, data: data.clone() }))
}

const LONG: Limits = Limits {
    recordings_max_bytes: 100_000,
    recordings_namespace_max_bytes: 1 << 30,
    recordings_free_bytes: 0,
};
const MANY: Limits = Limits {
    recordings_max_bytes: 1 << 30,
    recordings_namespace_max_bytes: 100_000,
    recordings_free_bytes: 0,
};

#[tokio::test]
async fn at_a_limit_a_session_that_need_not_be_recorded_goes_on_and_its_recording_says_where_it_ends() {
    for (limits, why) in [(LONG, "maxBytes"), (MANY, "namespaceMaxBytes")] {
        let mut world = World::with(false, limits);
        world.session(0, 0);
        world.ask(0, pty()).unwrap();
        world.ask(0, RequestKind::Shell).unwrap();
        much(&mut world).unwrap();
        world.ask(0, exec("id")).unwrap();
        let recording = world.recording();
        assert!(recording.len() < 101_000, "{}", recording.len());
        let last = recording.lines().last().unwrap();
        assert!(last.contains("the recording ends here: ") && last.contains(why), "{last}");
    }
}

#[tokio::test]
async fn at_a_limit_a_session_that_must_be_recorded_ends_with_a_sentence_that_names_it() {
    for (limits, sentence) in [
        (LONG, "the recording has reached the 100000 that one may have (gateway.recordings.maxBytes)"),
        (
            MANY,
            "the recordings of team-a have reached the 100000 that a namespace may have \
             (gateway.recordings.namespaceMaxBytes)",
        ),
    ] {
        let mut world = World::with(true, limits);
        world.session(0, 0);
        world.ask(0, pty()).unwrap();
        world.ask(0, RequestKind::Shell).unwrap();
        assert_eq!(much(&mut world).unwrap_err().to_string(), sentence);
        assert!(world.recording().lines().last().unwrap().contains(sentence));
    }
    let full = Limits { recordings_free_bytes: 1 << 60, ..LONG };
    let mut world = World::with(true, full);
    world.session(0, 0);
    assert_eq!(
        world.ask(0, RequestKind::Shell).unwrap_err().to_string(),
        "the volume of recordings has no more than 1024Pi free (gateway.recordings.freeBytes)"
    );
    assert!(world.recordings().is_empty());
}
