//! What OpenSSH's client never says, and what the gateway says.
#![allow(missing_docs, clippy::unwrap_used)]

mod sshd;

use std::time::Duration;

use bytes::Bytes;
use sparks_ssh::context::Context;
use sparks_ssh::keys::Permissions;
use sparks_ssh::mux::OpenFailure;
use sparks_ssh::wire::{ChannelKind, GlobalKind, Pty, RequestKind, WindowSize};
use sshd::peer::{End, Peer};
use sshd::{Sshd, new_key};

const SIZE: WindowSize = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };

fn pty() -> RequestKind {
    RequestKind::Pty(Pty { term: Bytes::from_static(b"xterm"), size: SIZE, modes: vec![] })
}

async fn login(sshd: &Sshd) -> Peer {
    Peer::login(sshd, &sshd.path("key"), None).await
}

/// A server that the gateway's key `gateway` may enter.
fn behind_a_gateway() -> Sshd {
    Sshd::with("", |server, folder| server.gateway_keys.push(new_key(&folder.join("gateway"))))
}

fn context(permissions: Permissions) -> Bytes {
    let context = Context {
        client: "192.0.2.1:40000".parse().unwrap(),
        server: "192.0.2.2:2222".parse().unwrap(),
        permissions,
        key: "SHA256:x alice\n".into(),
    };
    context.packet().unwrap()
}

#[tokio::test]
async fn a_signal_reaches_the_program_and_its_children() {
    let sshd = Sshd::start();
    let peer = login(&sshd).await;
    for terminal in [false, true] {
        let mut session = peer.session().await;
        assert!(!terminal || session.ask(pty()).await);
        assert!(
            session.exec("trap 'echo usr1; exit 4' USR1; echo ready; while :; do sleep 0.02; done").await
        );
        session.expect("ready").await;
        assert!(!session.ask(RequestKind::Signal { name: Bytes::from_static(b"NOSUCH") }).await);
        assert!(session.ask(RequestKind::Signal { name: Bytes::from_static(b"USR1") }).await);
        session.expect("usr1").await;
        assert_eq!(session.end().await.0, End::Status(4));
    }
    let mut session = peer.session().await;
    assert!(session.exec("echo ready; exec sleep 1000").await);
    session.expect("ready").await;
    assert!(session.ask(RequestKind::Signal { name: Bytes::from_static(b"KILL") }).await);
    assert_eq!(session.end().await.0, End::Signal("KILL".into()));
}

#[tokio::test]
async fn a_break_is_for_terminals() {
    let sshd = Sshd::start();
    let peer = login(&sshd).await;
    for terminal in [false, true] {
        let session = peer.session().await;
        assert!(!terminal || session.ask(pty()).await);
        assert!(session.exec("exec sleep 1000").await);
        assert_eq!(session.ask(RequestKind::Break { milliseconds: 500 }).await, terminal);
        assert_eq!(session.ask(RequestKind::WindowChange(SIZE)).await, terminal);
    }
}

#[tokio::test]
async fn a_session_has_one_program_and_one_terminal() {
    let sshd = Sshd::start();
    let peer = login(&sshd).await;
    let session = peer.session().await;
    assert!(session.ask(pty()).await);
    assert!(!session.ask(pty()).await);
    assert!(session.exec("cat").await);
    assert!(!session.exec("cat").await);
    assert!(!session.ask(RequestKind::Shell).await);
    assert!(!session.ask(pty()).await);
}

#[tokio::test]
async fn what_is_not_known_is_refused_and_harms_nobody() {
    let sshd = Sshd::start();
    let peer = login(&sshd).await;
    let session = peer.session().await;
    let unknown = RequestKind::Unknown { name: "x@example.com".into(), payload: vec![0xff; 30_000].into() };
    assert!(!session.ask(unknown.clone()).await);
    for name in ["netconf", "sftp -R", "internal-sftp", "internal-sftp -R"] {
        assert!(!session.ask(RequestKind::Subsystem { name: name.into() }).await, "{name}");
    }
    let odd = ChannelKind::Unknown { name: "x@example.com".into(), payload: Bytes::new() };
    assert!(matches!(peer.opener.open(odd).await, Err(OpenFailure::Refused { .. })));
    assert!(session.exec("echo hi").await);
    let (end, said) = session.end().await;
    assert_eq!((end, said.as_str()), (End::Status(0), "hi\n"));
}

#[tokio::test]
async fn after_no_more_sessions_there_are_none() {
    let sshd = Sshd::start();
    let peer = login(&sshd).await;
    let session = peer.session().await;
    peer.opener.global_no_reply(GlobalKind::NoMoreSessions).await.unwrap();
    assert!(matches!(peer.opener.open(ChannelKind::Session).await, Err(OpenFailure::Refused { .. })));
    assert!(session.exec("exit 3").await);
    assert_eq!(session.end().await.0, End::Status(3));
}

#[tokio::test]
async fn a_connection_has_a_bounded_number_of_sessions() {
    let sshd = Sshd::start();
    let peer = login(&sshd).await;
    let mut sessions = Vec::new();
    for _ in 0..256 {
        sessions.push(peer.session().await);
    }
    assert!(matches!(peer.opener.open(ChannelKind::Session).await, Err(OpenFailure::Refused { .. })));
    assert!(sessions.pop().unwrap().exec("true").await);
}

#[tokio::test]
async fn hundreds_of_terminals_one_after_the_other_leave_nothing_behind() {
    let sshd = Sshd::start();
    let peer = login(&sshd).await;
    let pid = sshd.connections()[0];
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let mut before = 0;
    for n in 0..300 {
        let session = peer.session().await;
        assert!(session.ask(pty()).await);
        assert!(session.exec("true").await);
        assert_eq!(session.end().await.0, End::Status(0));
        if n == 10 {
            before = open();
        }
    }
    assert!(open() <= before + 3, "{} descriptors, {before} before", open());
}

#[tokio::test]
async fn the_gateway_says_who_comes_and_what_it_may_do() {
    let sshd = behind_a_gateway();
    let permissions = Permissions {
        pty: false,
        force_command: Some("echo $SSH_CONNECTION $A $SSH_ORIGINAL_COMMAND".into()),
        environment: vec![("A".into(), "b".into())],
        ..Permissions::all()
    };
    let peer = Peer::login(&sshd, &sshd.path("gateway"), Some(context(permissions))).await;
    let session = peer.session().await;
    assert!(!session.ask(pty()).await);
    assert!(session.exec("id -u").await);
    let (end, said) = session.end().await;
    assert_eq!((end, said.as_str()), (End::Status(0), "192.0.2.1 40000 192.0.2.2 2222 b id -u\n"));
    // A comment is the client's word: it makes no line of its own in the log.
    assert!(sshd.log().contains(r"alice\n"), "{}", sshd.log());
}

#[tokio::test]
async fn a_gateway_that_does_not_say_who_comes_first_is_hung_up_on() {
    let sshd = behind_a_gateway();
    let mut peer = Peer::login(&sshd, &sshd.path("gateway"), None).await;
    // It is the first packet.
    assert!(peer.opener.open(ChannelKind::Session).await.is_err());
    assert!(peer.connection.next().await.is_none());
    sshd.all_gone();
    assert!(sshd.log().contains("the gateway did not say who comes"), "{}", sshd.log());
}

/// What PID 1 takes for somebody who has logged in.
fn leads_a_session(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(3).unwrap();
    session == pid.to_string()
}

#[tokio::test]
async fn who_comes_by_a_gateway_is_a_stranger_until_it_says_who() {
    let sshd = behind_a_gateway();
    let _ahead = Peer::login(&sshd, &sshd.path("gateway"), None).await;
    for _ in 0..50 {
        assert!(!leads_a_session(sshd.connections()[0]));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let somebody = Peer::login(&sshd, &sshd.path("gateway"), Some(context(Permissions::all()))).await;
    somebody.session().await;
    assert!(leads_a_session(sshd.connections()[1]));
}

#[tokio::test]
async fn nobody_else_says_who_it_is() {
    let sshd = Sshd::with("", |server, folder| {
        let key = new_key(&folder.join("forced"));
        server.authorized_keys.push(format!("command=\"echo forced\" {key}"));
    });
    let peer = Peer::login(&sshd, &sshd.path("forced"), Some(context(Permissions::all()))).await;
    let session = peer.session().await;
    assert!(session.exec("echo free").await);
    assert_eq!(session.end().await.1, "forced\n");
}
