//! Many channels in one connection, by OpenSSH's client.
#![allow(missing_docs, clippy::unwrap_used)]

mod sshd;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sshd::{Sshd, eventually, printed};

/// A connection that others share.
struct Master {
    client: Child,
    socket: PathBuf,
}

impl Master {
    fn start(sshd: &Sshd) -> Self {
        let socket = sshd.path("master");
        let mut client = sshd.client();
        client.args(["-M", "-N", "-S"]).arg(&socket);
        let client = client.spawn().unwrap();
        eventually("the master is there", || socket.exists().then_some(()));
        Self { client, socket }
    }

    fn client(&self, sshd: &Sshd) -> Command {
        let mut client = sshd.client();
        // Without the master it must fail, and not connect by itself.
        client.arg("-S").arg(&self.socket).arg("-oProxyCommand=false");
        client
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
fn a_hundred_sessions_run_in_one_connection_at_the_same_time() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    let meeting = sshd.path("meeting");
    std::fs::create_dir(&meeting).unwrap();
    // Each waits until all are there.
    let script =
        format!("touch {0}/$$; while [ ! -e {0}/100 ]; do sleep 0.1; done; echo met", meeting.display());
    let clients: Vec<_> = (0..100)
        .map(|_| {
            master.client(&sshd).arg(&script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    eventually("all are there", || (std::fs::read_dir(&meeting).unwrap().count() == 100).then_some(()));
    std::fs::write(meeting.join("100"), "").unwrap();
    for client in clients {
        assert_eq!(printed(&client.wait_with_output().unwrap()), "met\n");
    }
    assert_eq!(sshd.connections().len(), 1);
}

#[test]
fn a_channel_that_nobody_reads_does_not_stop_another() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    let mut stalled = master.client(&sshd);
    let mut stalled = stalled.arg("cat /dev/zero").stdout(Stdio::piped()).spawn().unwrap();
    let mut output = stalled.stdout.take().unwrap();
    // It flows, and from here on nobody reads it.
    output.read_exact(&mut [0; 100_000]).unwrap();
    let mut deaf = master.client(&sshd);
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let mut deaf = deaf.arg("sleep 1000").stdin(zero).spawn().unwrap();
    for _ in 0..20 {
        assert_eq!(printed(&master.client(&sshd).arg("echo ok").output().unwrap()), "ok\n");
    }
    // It has only been waiting.
    output.read_exact(&mut vec![1; 5_000_000]).unwrap();
    for mut child in [stalled, deaf.try_wait().map(|_| deaf).unwrap()] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_client_that_wants_no_more_sessions_gets_no_more() {
    let sshd = Sshd::start();
    // Without a master, ssh itself says that its first session is the last.
    let output = sshd.client().args(["-v", "echo hi"]).output().unwrap();
    let log = sshd::complaints(&output);
    assert!(log.contains("Requesting no-more-sessions"), "{log}");
    assert_eq!(printed(&output), "hi\n");
}
