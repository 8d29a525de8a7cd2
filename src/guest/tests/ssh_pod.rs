//! PID 1's part of SSH, in a pod, with OpenSSH's client.
#![allow(missing_docs, clippy::unwrap_used)]

mod pod;
mod sshd;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use pod::{Agent, Pod, eventually, script, text};
use sparks_proto::{FromGuest, Service, SshServer, ToGuest};
use sparks_ssh::transport::{PrivateKey, ssh_key::private::Ed25519Keypair};
use sshd::{complaints, new_key, printed};

/// A port on which a pod may listen later. It is none of those that the kernel gives to whoever asks for any, as the
/// other tests do all the time.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap() + 10_000;
    let mut ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed));
    ports.find(|port| TcpListener::bind(("::", *port)).is_ok()).unwrap()
}

/// A client of a pod.
struct Client<'a> {
    pod: &'a Pod,
    port: u16,
}

impl<'a> Client<'a> {
    fn of(pod: &'a Pod) -> Self {
        let port = free_port();
        new_key(&pod.path("key"));
        let host_key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        let known = format!("* {}\n", host_key.public_key().to_openssh().unwrap());
        std::fs::write(pod.path("known_hosts"), known).unwrap();
        Self { pod, port }
    }

    fn server(&self) -> SshServer {
        SshServer {
            port: self.port,
            host_key: "07".repeat(32),
            authorized_keys: vec![self.public_key()],
            ..SshServer::default()
        }
    }

    fn ssh(&self, host: &str) -> Command {
        self.ssh_as(host, "root")
    }

    fn ssh_as(&self, host: &str, user: &str) -> Command {
        let mut ssh = Command::new("ssh");
        let options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            &format!("User={user}"),
            "LogLevel=ERROR",
            &format!("UserKnownHostsFile={}", self.pod.path("known_hosts").display()),
            &format!("IdentityFile={}", self.pod.path("key").display()),
        ];
        for option in options {
            ssh.args(["-o", option]);
        }
        ssh.args(["-F", "none", "-p", &self.port.to_string(), host]).stdin(Stdio::null());
        ssh
    }

    fn says(&self, command: &str) -> String {
        printed(&self.ssh("127.0.0.1").arg(command).output().unwrap())
    }

    /// By `guest ssh --stdio`, which the container runtime would start, as that user of the pod.
    fn by_exec(&self, uid: &str) -> Command {
        let mut ssh = self.ssh("anything");
        ssh.arg(self.enter(uid));
        ssh
    }

    fn enter(&self, uid: &str) -> String {
        format!("-oProxyCommand={} --stdio", self.guest_ssh(uid))
    }

    /// `guest ssh`, as the container runtime would start it as that user of the pod.
    fn guest_ssh(&self, uid: &str) -> String {
        let guest = env!("CARGO_BIN_EXE_sparks-guest");
        let Pod { socket, guest: pid, .. } = self.pod;
        format!(
            "env SPARKS_CONTROL_SOCKET={socket} nsenter --target {pid} --pid --mount \
             setpriv --reuid {uid} --clear-groups {guest} ssh"
        )
    }

    /// A server that knows nobody.
    fn strangers_only(&self) -> SshServer {
        SshServer { authorized_keys: vec![], ..self.server() }
    }

    /// `guest ssh --admit` with this line.
    fn admit(&self, uid: &str, line: &str) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {} --admit", self.guest_ssh(uid))]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may refuse before it has read anything; its input stays open until it has ended.
        let _ = stdin.write_all(line.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn public_key(&self) -> String {
        std::fs::read_to_string(self.pod.path("key.pub")).unwrap()
    }

    fn is_refused(&self) -> bool {
        let output = self.ssh("127.0.0.1").arg("true").output().unwrap();
        complaints(&output).contains("Permission denied")
    }
}

/// A way to that port on which nothing of the client passes before `then` has returned, and the server has spoken by then.
fn held_up(port: u16, then: impl FnOnce() + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut client = listener.accept().unwrap().0;
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut greeting = [0; 8];
        server.read_exact(&mut greeting).unwrap();
        then();
        client.write_all(&greeting).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        std::io::copy(&mut server, &mut client)
    });
    near
}

fn idle(message: &FromGuest) -> Option<Option<u64>> {
    match message {
        FromGuest::Idle { for_seconds } => Some(*for_seconds),
        _ => None,
    }
}

fn logs_in(pod: &Pod, agent: &mut Agent, service: Option<Service>) -> u16 {
    let client = Client::of(pod);
    agent.run_with(service, Some(client.server()));
    agent.until_state("it runs", |state| state.ready);
    assert_eq!(client.says("echo in"), "in\n");
    client.port
}

#[test]
fn a_computer_is_entered_by_both_families_of_addresses() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    assert!(client.says("echo $SSH_CONNECTION").starts_with("127.0.0.1 "));
    if TcpStream::connect(("::1", client.port)).is_ok() {
        let output = client.ssh("::1").arg("echo $SSH_CONNECTION").output().unwrap();
        assert!(printed(&output).starts_with("::1 "));
    }
    // Its processes are reaped, and none is left.
    eventually("nobody is left", || pod.others().is_empty().then_some(()));
    assert_eq!(pod.zombies(), 0);
}

#[test]
fn new_keys_count_for_the_next_connection_and_the_service_goes_on() {
    let pod = Pod::start();
    let starts = pod.path("starts");
    let service = script(&format!("echo x >>{}; exec sleep 1000", starts.display()));
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, Some(service.clone())), pod: &pod };
    let nobody = SshServer { authorized_keys: vec![], ..client.server() };
    agent.run_with(Some(service), Some(nobody));
    agent.until_state("a run is answered", |state| state.ready);
    let refused = client.ssh("127.0.0.1").arg("true").output().unwrap();
    assert!(complaints(&refused).contains("Permission denied"), "{}", complaints(&refused));
    assert_eq!(text(&starts), "x\n");
}

#[test]
fn putting_a_computer_down_ends_every_connection_and_the_next_one_keeps_the_port() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    let mut session = client.ssh("127.0.0.1");
    let mut session = session.arg("echo in; exec sleep 1000").stdout(Stdio::piped()).spawn().unwrap();
    session.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
    agent.send(&ToGuest::Quiesce);
    agent.until("quiesced", |message| matches!(message, FromGuest::Quiesced).then_some(()));
    assert_eq!(session.wait().unwrap().code(), Some(255));
    assert!(pod.others().is_empty());
    // Whoever comes meanwhile waits for the next computer.
    let waits = client.ssh("127.0.0.1").arg("echo later").stdout(Stdio::piped()).spawn().unwrap();
    agent.run_with(None, Some(client.server()));
    assert_eq!(printed(&waits.wait_with_output().unwrap()), "later\n");
}

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Command,
    Terminal,
    Nothing,
    ByExec,
}

/// Clients that have logged in and wait, each for something else.
fn waiting(client: &Client) -> Vec<(Waiting, Child)> {
    let start = |waiting| {
        let mut ssh = match waiting {
            Waiting::ByExec => client.by_exec("0"),
            _ => client.ssh("127.0.0.1"),
        };
        match waiting {
            Waiting::Command | Waiting::ByExec => ssh.arg("echo in; exec sleep 1000"),
            Waiting::Terminal => ssh.args(["-tt", "echo in; exec sh -i"]),
            Waiting::Nothing => ssh.args(["-oPermitLocalCommand=yes", "-oLocalCommand=echo in", "-N"]),
        };
        let mut child =
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        (waiting, child)
    };
    [Waiting::Command, Waiting::Terminal, Waiting::Nothing, Waiting::ByExec].map(start).into()
}

fn assert_told(clients: Vec<(Waiting, Child)>) {
    for (waiting, client) in clients {
        let output = client.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(255), "{waiting:?}");
        assert!(complaints(&output).contains(":11: this Spark is being stopped"), "{waiting:?}: {output:?}");
    }
}

#[test]
fn whoever_is_connected_is_told_that_the_computer_is_put_down() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    let clients = waiting(&client);
    agent.send(&ToGuest::Quiesce);
    agent.until("quiesced", |message| matches!(message, FromGuest::Quiesced).then_some(()));
    assert!(pod.others().is_empty());
    assert_told(clients);
}

#[test]
fn whoever_is_connected_is_told_that_the_pod_ends() {
    let mut pod = Pod::start();
    let mut agent = pod.greeted();
    let port = logs_in(&pod, &mut agent, None);
    let clients = waiting(&Client { port, pod: &pod });
    pod.signal(rustix::process::Signal::TERM);
    assert!(pod.exit_status().success());
    assert_told(clients);
}

#[test]
fn a_client_that_does_not_read_holds_up_no_end() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    let mut deaf = client.ssh("127.0.0.1").arg("yes").stdout(Stdio::piped()).spawn().unwrap();
    deaf.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
    let pid = rustix::process::Pid::from_raw(deaf.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let asked = Instant::now();
    agent.send(&ToGuest::Quiesce);
    agent.until("quiesced", |message| matches!(message, FromGuest::Quiesced).then_some(()));
    let took = asked.elapsed();
    deaf.kill().unwrap();
    deaf.wait().unwrap();
    // After a second its server would have been killed.
    assert!(took < Duration::from_millis(800), "{took:?}");
}

#[test]
fn a_session_is_use_and_a_stranger_at_the_door_is_none() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    let mut stranger = TcpStream::connect(("127.0.0.1", client.port)).unwrap();
    stranger.read_exact(&mut [0; 8]).unwrap();
    // The login of before may still be going.
    eventually("nobody but the stranger", || (pod.others().len() == 1).then_some(()));
    agent.until("it is idle", |message| idle(message).filter(Option::is_some));
    let mut session = client.ssh("127.0.0.1").arg("-N").spawn().unwrap();
    agent.until("it is in use", |message| idle(message).filter(Option::is_none));
    eventually("the stranger and the session", || (pod.others().len() == 2).then_some(()));
    session.kill().unwrap();
    session.wait().unwrap();
    agent.until("it is idle again", |message| idle(message).filter(Option::is_some));
}

#[test]
fn the_keep_awake_lease_is_use_by_whoever_holds_it() {
    let pod = Pod::start();
    let go = pod.path("go");
    let service = script(&format!(
        "exec 9>/run/sparks/awake; while [ ! -e {} ]; do sleep 0.1; done; exec 9>&-; exec sleep 1000",
        go.display()
    ));
    let mut agent = pod.greeted();
    agent.run(Some(service));
    assert_eq!(agent.until("it is in use", idle), None);
    std::fs::write(&go, "").unwrap();
    agent.until("it is idle", |message| idle(message).filter(Option::is_some));
}

#[test]
fn whoever_may_run_programs_in_the_pod_needs_no_key() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    let mut ssh = client.by_exec("0");
    ssh.args(["-o", "PubkeyAuthentication=no"]);
    let output = ssh.arg("cat; echo $SSH_CONNECTION; echo err >&2; exit 7").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", complaints(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "127.0.0.1 65535 127.0.0.1 22\n");
    assert_eq!(complaints(&output), "err\n");
    let mut child =
        client.by_exec("0").arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let data = vec![7; 1_000_000];
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(|| stdin.write_all(&data).map(|()| drop(stdin)));
        child.wait_with_output().unwrap()
    });
    assert!(output.stdout == data);
    eventually("nobody is left", || pod.others().is_empty().then_some(()));
}

#[test]
fn that_there_is_no_such_user_is_said_once_and_in_the_same_words_by_both_entrances() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    let [by_tcp, by_exec] = ["-oProxyCommand=none".to_owned(), client.enter("0")].map(|way| {
        let output = client.ssh_as("127.0.0.1", "no-such-user").arg(way).arg("true").output().unwrap();
        assert_eq!(output.status.code(), Some(255));
        let said = complaints(&output);
        assert_eq!(said.lines().count(), 1, "{said}");
        said.split_once(":14: ").unwrap_or_else(|| panic!("{said}")).1.to_owned()
    });
    assert_eq!(
        by_exec.trim(),
        "there is no user \"no-such-user\" in this Spark; useradd or adduser makes one"
    );
    assert_eq!(by_tcp, by_exec);
    eventually("nobody is left", || pod.others().is_empty().then_some(()));
}

#[test]
fn whoever_may_run_programs_in_the_pod_comes_in_by_tcp_with_any_key() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client::of(&pod);
    assert_eq!(client.admit("0", &client.public_key()).status.code(), Some(1), "nobody is there yet");
    agent.run_with(None, Some(client.strangers_only()));
    agent.until_state("it runs", |state| state.ready);
    assert!(client.is_refused());
    let refused = client.admit("0", &format!("no-pty {}", client.public_key()));
    assert!(complaints(&refused).contains("is no public key"), "{}", complaints(&refused));
    assert!(client.is_refused());
    printed(&client.admit("0", &client.public_key()));
    assert!(client.says("echo $SSH_CONNECTION").starts_with("127.0.0.1 "));
    // Another computer knows nothing of it.
    agent.send(&ToGuest::Quiesce);
    agent.until("quiesced", |message| matches!(message, FromGuest::Quiesced).then_some(()));
    agent.run_with(None, Some(client.strangers_only()));
    agent.until_state("it runs", |state| state.ready);
    assert!(client.is_refused());
}

#[test]
fn a_key_may_be_admitted_when_its_client_is_there_already() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client::of(&pod);
    agent.run_with(None, Some(client.strangers_only()));
    agent.until_state("it runs", |state| state.ready);
    let mut admit = Command::new("sh");
    admit.args(["-c", &format!("exec {} --admit", client.guest_ssh("0"))]);
    admit.stdin(std::fs::File::open(pod.path("key.pub")).unwrap());
    let port = held_up(client.port, move || assert!(admit.status().unwrap().success()));
    let output = Client { port, pod: &pod }.ssh("127.0.0.1").arg("echo in").output().unwrap();
    assert_eq!(printed(&output), "in\n");
}

#[test]
fn only_root_of_the_pod_admits_anybody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client::of(&pod);
    agent.run_with(None, Some(client.strangers_only()));
    agent.until_state("it runs", |state| state.ready);
    assert!(!client.admit("4711", &client.public_key()).status.success());
    assert!(client.is_refused());
}

#[test]
fn only_root_of_the_pod_is_told_the_host_key() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    let output = client.by_exec("4711").arg("true").output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(complaints(&output).contains("PID 1 of the pod did not answer"), "{}", complaints(&output));
}

#[test]
fn before_the_guest_is_a_computer_nobody_is_let_in() {
    let pod = Pod::start();
    let client = Client::of(&pod);
    let output = client.by_exec("0").arg("true").output().unwrap();
    assert!(complaints(&output).contains("SSH is not set up in this Spark yet"), "{}", complaints(&output));
    assert!(TcpStream::connect(("127.0.0.1", client.port)).is_err());
}

#[test]
fn of_too_many_connections_the_oldest_strangers_go_and_nobody_who_logged_in() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let client = Client { port: logs_in(&pod, &mut agent, None), pod: &pod };
    let mut session = client.ssh("127.0.0.1");
    let mut session =
        session.arg("echo in; cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
    output.read_exact(&mut [0; 3]).unwrap();
    let mut strangers: Vec<_> = (0..270)
        .map(|_| {
            let stream = TcpStream::connect(("127.0.0.1", client.port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream
        })
        .collect();
    // The last is served, the first was hung up on.
    strangers.last_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    let mut greeting = Vec::new();
    // A reset is an end as well.
    let _ = strangers[0].read_to_end(&mut greeting);
    eventually("no more are served", || (pod.others().len() <= 256 + 2).then_some(()));
    assert_eq!(client.says("echo in"), "in\n");
    input.write_all(b"still here\n").unwrap();
    let mut line = [0; 11];
    output.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"still here\n");
    drop(strangers);
    session.kill().unwrap();
    session.wait().unwrap();
}

#[test]
fn pid_1_stays_small() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    logs_in(&pod, &mut agent, None);
    // Of this build; the one that is shipped is smaller. What must not be in it is a session's buffers.
    assert!(anonymous_kib(&Path::new("/proc").join(pod.guest.to_string())) < 4096);
}

fn anonymous_kib(process: &Path) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
