//! Forwarding, by OpenSSH's client.
#![allow(missing_docs, clippy::unwrap_used)]

mod sshd;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;

use sshd::{Sshd, complaints, eventually, printed};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A connection that runs no command, and whose forwards are asked for one after the other.
struct Master<'a> {
    sshd: &'a Sshd,
    client: Child,
    socket: PathBuf,
}

impl<'a> Master<'a> {
    fn start(sshd: &'a Sshd) -> Self {
        let socket = sshd.path("master");
        let client = sshd.client().args(["-M", "-N", "-S"]).arg(&socket).spawn().unwrap();
        eventually("the master is there", || socket.exists().then_some(()));
        Self { sshd, client, socket }
    }

    fn control(&self, command: &str, arguments: &[&str]) -> Output {
        let mut client = self.sshd.client();
        client.arg("-S").arg(&self.socket).args(["-O", command]).args(arguments).output().unwrap()
    }

    fn forward(&self, arguments: &[&str]) -> String {
        printed(&self.control("forward", arguments))
    }

    fn run(&self, command: &str) -> Output {
        let mut client = self.sshd.client();
        client.arg("-S").arg(&self.socket).arg("-oProxyCommand=false").arg(command).output().unwrap()
    }

    /// Ends it as a connection that breaks.
    fn end(mut self) {
        self.client.kill().unwrap();
        self.client.wait().unwrap();
        self.sshd.all_gone();
    }
}

impl Drop for Master<'_> {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// Answers each connection with all that it was sent, backwards, once that has ended.
fn reverse(stream: impl Read + Write) {
    let mut stream = stream;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all.reverse();
    stream.write_all(&all).unwrap();
}

fn reversing_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || reverse(stream.unwrap()));
        }
    });
    port
}

fn reversing_socket(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || reverse(stream.unwrap()));
        }
    });
}

fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn assert_reversed(mut sent: Vec<u8>, received: &[u8]) {
    sent.reverse();
    assert!(sent == received, "{} bytes came back", received.len());
}

fn ask_socket(path: &Path, length: usize) {
    let mut stream = UnixStream::connect(path).unwrap();
    let content = content(length);
    stream.write_all(&content).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_reversed(content, &received);
}

fn ask_port(stream: TcpStream, length: usize) {
    let mut stream = stream;
    let content = content(length);
    stream.write_all(&content).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_reversed(content, &received);
}

/// A port at which nobody listens: tcpmux, which nobody has.
const CLOSED: u16 = 1;

/// A port that is free at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn many_connections_at_once_reach_a_port_of_the_spark_and_each_byte_arrives() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    let local = sshd.path("local");
    let forward = format!("{}:localhost:{}", local.display(), reversing_port());
    master.forward(&["-L", &forward]);
    thread::scope(|scope| {
        for n in 0..100 {
            let local = &local;
            scope.spawn(move || ask_socket(local, n * 1000));
        }
    });
    ask_socket(&local, 20_000_000);
}

#[test]
fn a_socket_of_the_spark_is_reached_and_one_in_the_spark_reaches_the_client() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    let [inside, local, remote, outside] =
        ["inside", "local", "remote", "outside"].map(|name| sshd.path(name));
    reversing_socket(&inside);
    master.forward(&["-L", &format!("{}:{}", local.display(), inside.display())]);
    ask_socket(&local, 1_000_000);

    reversing_socket(&outside);
    master.forward(&["-R", &format!("{}:{}", remote.display(), outside.display())]);
    assert_eq!(fs::metadata(&remote).unwrap().permissions().mode() & 0o777, 0o600);
    ask_socket(&remote, 1_000_000);
    master.end();
    assert!(!remote.exists(), "its file goes with the connection");
}

#[test]
fn a_free_port_of_the_spark_is_chosen_told_and_given_back() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    let target = reversing_port();
    let forward = format!("0:localhost:{target}");
    let port: u16 = master.forward(&["-R", &forward]).trim().parse().unwrap();
    for length in [0, 1, 3_000_000] {
        ask_port(TcpStream::connect(("127.0.0.1", port)).unwrap(), length);
    }
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err(), "it is for the Spark alone");

    let taken = master.control("forward", &["-R", &format!("{port}:localhost:{target}")]);
    assert!(!taken.status.success(), "{}", complaints(&taken));
    master.end();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_cancelled_forward_is_over() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    // An address that nothing else here listens at, and a port that the kernel gives to nobody by itself.
    let place = ("127.0.0.78", 20_778);
    let forward = format!("{}:{}:localhost:{}", place.0, place.1, reversing_port());
    master.forward(&["-R", &forward]);
    ask_port(TcpStream::connect(place).unwrap(), 10);
    printed(&master.control("cancel", &["-R", &forward]));
    eventually("it is over", || TcpStream::connect(place).is_err().then_some(()));
}

#[test]
fn a_forward_to_all_addresses_is_made_when_the_client_asks_for_it() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    let forward = format!("*:0:localhost:{}", reversing_port());
    let port: u16 = master.forward(&["-R", &forward]).trim().parse().unwrap();
    ask_port(TcpStream::connect(("127.0.0.2", port)).unwrap(), 10);
}

#[test]
fn standard_input_and_output_are_passed_on() {
    let sshd = Sshd::start();
    let mut client = sshd.client();
    client.args(["-W", &format!("localhost:{}", reversing_port())]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let content = content(5_000_000);
    client.stdin.take().unwrap().write_all(&content).unwrap();
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_reversed(content, &output.stdout);
}

#[test]
fn a_connection_that_cannot_be_made_is_explained_in_openssh_s_words() {
    let sshd = Sshd::start();
    let try_it = |target: &str| {
        let output = sshd.client().args(["-v", "-W", target]).output().unwrap();
        assert_eq!(output.status.code(), Some(255));
        complaints(&output)
    };
    let refused = try_it(&format!("localhost:{CLOSED}"));
    assert!(refused.contains("open failed: connect failed: Connection refused"), "{refused}");
    let unknown = try_it("no-such-host.invalid:80");
    assert!(unknown.contains("open failed: connect failed: no-such-host.invalid: "), "{unknown}");
}

#[test]
fn the_client_is_a_socks_proxy_into_the_spark() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    // No way to have ssh choose the port; that somebody else gets it meanwhile is made up for by another one.
    let port = eventually("a port for the proxy", || {
        let port = free_port();
        master.control("forward", &["-D", &format!("127.0.0.1:{port}")]).status.success().then_some(port)
    });
    let target = reversing_port();
    for host in ["localhost", "127.0.0.1"] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // SOCKS 5: no authentication; connect to a name.
        stream.write_all(&[5, 1, 0]).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        let mut connect = vec![5, 1, 0, 3, u8::try_from(host.len()).unwrap()];
        connect.extend(host.as_bytes());
        connect.extend(target.to_be_bytes());
        stream.write_all(&connect).unwrap();
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[1], 0);
        ask_port(stream, 100_000);
    }
}

#[test]
fn a_forward_that_nobody_reads_does_not_stop_a_session_nor_another_forward() {
    let sshd = Sshd::start();
    let master = Master::start(&sshd);
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let [stuck, free] = ["stuck", "free"].map(|name| sshd.path(name));
    let deaf_port = deaf.local_addr().unwrap().port();
    master.forward(&["-L", &format!("{}:localhost:{deaf_port}", stuck.display())]);
    master.forward(&["-L", &format!("{}:localhost:{}", free.display(), reversing_port())]);
    let mut stream = UnixStream::connect(&stuck).unwrap();
    let _accepted = deaf.accept().unwrap();
    // Until nothing more fits anywhere on the way.
    stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    while stream.write(&[0; 65536]).is_ok() {}
    for _ in 0..10 {
        assert_eq!(printed(&master.run("echo ok")), "ok\n");
        ask_socket(&free, 100_000);
    }
}

#[test]
fn a_restricted_key_forwards_no_more_than_it_may() {
    let permitted = reversing_port();
    let options =
        format!("permitopen=\"localhost:{permitted}\",permitlisten=\"localhost:1\",no-agent-forwarding");
    let sshd = Sshd::with("", |server, _| {
        server.authorized_keys = vec![format!("{options} {}", server.authorized_keys[0])];
    });
    let to = |target: &str| sshd.client().args(["-v", "-W", target]).output().unwrap();
    assert!(to(&format!("localhost:{permitted}")).status.success());
    for refused in [format!("127.0.0.1:{permitted}"), format!("localhost:{}", reversing_port())] {
        let output = to(&refused);
        assert!(complaints(&output).contains("administratively prohibited"), "{}", complaints(&output));
    }
    let master = Master::start(&sshd);
    let anywhere = format!("0:localhost:{permitted}");
    assert!(!master.control("forward", &["-R", &anywhere]).status.success());
    let agent = Agent::start(&sshd);
    let asked = agent.client(&sshd).arg("echo \"<$SSH_AUTH_SOCK>\"").output().unwrap();
    assert_eq!(printed(&asked), "<>\n");
}

#[test]
fn a_key_without_forwarding_forwards_nothing() {
    let sshd = Sshd::with("", |server, _| {
        server.authorized_keys = vec![format!("no-port-forwarding {}", server.authorized_keys[0])];
    });
    let inside = sshd.path("inside");
    reversing_socket(&inside);
    let master = Master::start(&sshd);
    let local = sshd.path("local");
    master.forward(&["-L", &format!("{}:{}", local.display(), inside.display())]);
    let mut nothing = Vec::new();
    let mut stream = UnixStream::connect(&local).unwrap();
    assert!(matches!(stream.read_to_end(&mut nothing), Ok(0) | Err(_)));
    let remote = sshd.path("remote");
    let asked = master.control("forward", &["-R", &format!("{}:{}", remote.display(), inside.display())]);
    assert!(!asked.status.success() && !remote.exists());
}

#[test]
fn a_user_forwards_with_no_more_rights_than_its_own() {
    if !is_root() {
        return;
    }
    let script = "
        d=$(mktemp -d); echo 'tester:x:4711:4712::/:/bin/sh' >$d/passwd; mount --bind $d/passwd /etc/passwd";
    let sshd = Sshd::with(script, |_, _| {});
    let hidden = sshd.path("hidden");
    reversing_socket(&hidden);
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(sshd.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut client = client_first(&sshd, &["-oUser=tester", "-oExitOnForwardFailure=yes"]);
    client.arg("-R").arg(format!("{}:{}", sshd.path("new").display(), hidden.display()));
    let output = client.arg("true").output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(complaints(&output).contains("remote port forwarding failed"), "{}", complaints(&output));
    assert!(!sshd.path("new").exists());
}

/// The client with these options before its others: of several values, ssh takes the first.
fn client_first(sshd: &Sshd, options: &[&str]) -> Command {
    let mut client = Command::new("ssh");
    client.args(options).args(sshd.client().get_args()).stdin(Stdio::null());
    client
}

/// ssh-agent(1) with the client's key.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(sshd: &Sshd) -> Self {
        let socket = sshd.path("agent");
        let mut process =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        eventually("the agent is there", || socket.exists().then_some(()));
        let added =
            Command::new("ssh-add").arg("-q").arg(sshd.path("key")).env("SSH_AUTH_SOCK", &socket).status();
        if !added.unwrap().success() {
            let _ = process.kill();
            panic!("the agent takes no key");
        }
        Self { process, socket }
    }

    fn client(&self, sshd: &Sshd) -> Command {
        client_first(sshd, &["-A", &format!("-oIdentityAgent={}", self.socket.display())])
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_clients_agent_is_used_inside_by_its_user_alone_and_leaves_nothing_behind() {
    let sshd = Sshd::start();
    let agent = Agent::start(&sshd);
    let script =
        "ssh-add -L; ssh-add -L; echo $SSH_AUTH_SOCK; stat -c %a $(dirname $SSH_AUTH_SOCK) $SSH_AUTH_SOCK";
    let text = printed(&agent.client(&sshd).arg(script).output().unwrap());
    let lines: Vec<_> = text.lines().collect();
    let key = fs::read_to_string(sshd.path("key.pub")).unwrap();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0].starts_with(key.trim()) && lines[1] == lines[0], "{text}");
    assert_eq!(lines[3..], ["700", "600"]);
    sshd.all_gone();
    assert!(!Path::new(lines[2]).parent().unwrap().exists());
}

#[test]
fn without_being_asked_for_there_is_no_agent() {
    let sshd = Sshd::start();
    assert_eq!(sshd.says("echo \"<$SSH_AUTH_SOCK>\""), "<>\n");
}

/// A session that says its display and stays.
struct Windows {
    client: Child,
    output: BufReader<ChildStdout>,
    display: String,
    /// As hexadecimal digits.
    cookie: String,
}

impl Windows {
    fn start(sshd: &Sshd, arguments: &[&str], x_server: u16) -> Self {
        let mut client = sshd.client();
        client.env("DISPLAY", format!("127.0.0.1:{x_server}")).env("XAUTHORITY", sshd.path("none"));
        client.args(arguments).arg("echo $DISPLAY; xauth list | tail -n 1; cat");
        let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(client.stdout.take().unwrap());
        let mut line = || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            line.trim().to_owned()
        };
        let (display, entry) = (line(), line());
        let cookie = entry.split_whitespace().last().unwrap_or_default().to_owned();
        Self { client, output, display, cookie }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let number = self.display.strip_prefix("localhost:").unwrap().split('.').next().unwrap();
        TcpStream::connect(("127.0.0.1", 6000 + number.parse::<u16>().unwrap()))
    }

    /// The beginning of an X11 connection: byte order, version 11.0, name and data of the authorization.
    fn greeting(&self) -> Vec<u8> {
        let cookie: Vec<u8> = (0..self.cookie.len() / 2)
            .map(|n| u8::from_str_radix(&self.cookie[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        let mut greeting = vec![b'l', 0, 11, 0, 0, 0, 18, 0, 16, 0, 0, 0];
        greeting.extend(b"MIT-MAGIC-COOKIE-1\0\0");
        greeting.extend(cookie);
        greeting
    }

    fn end(mut self) {
        drop(self.client.stdin.take());
        self.output.read_to_end(&mut Vec::new()).unwrap();
        assert!(self.client.wait().unwrap().success());
    }
}

/// A home directory of its own, so that the test's user keeps its cookies.
const OWN_HOME: &str = "d=$(mktemp -d); mount --bind $d \"$(getent passwd $(id -u) | cut -d: -f6)\"";

/// What a real X server would be: something that listens at the port of a display.
fn x_server() -> (TcpListener, u16) {
    for number in 300..1000 {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", 6000 + number)) {
            return (listener, number);
        }
    }
    panic!("no display is free");
}

#[test]
fn windows_open_at_the_client() {
    if !is_root() {
        return;
    }
    let sshd = Sshd::with(OWN_HOME, |_, _| {});
    let (server, number) = x_server();
    let windows = Windows::start(&sshd, &["-Y"], number);
    assert_eq!(windows.cookie.len(), 32, "{}", windows.cookie);
    for _ in 0..2 {
        let mut program = windows.connect().unwrap();
        program.write_all(&windows.greeting()).unwrap();
        let (mut screen, _) = server.accept().unwrap();
        let mut greeting = [0; 48];
        screen.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting[..12], windows.greeting()[..12]);
        screen.write_all(b"welcome").unwrap();
        let mut welcome = [0; 7];
        program.read_exact(&mut welcome).unwrap();
        assert_eq!(&welcome, b"welcome");
    }
    // Somebody who doesn't know the cookie is refused, by the client.
    let mut stranger = windows.connect().unwrap();
    let mut greeting = windows.greeting();
    *greeting.last_mut().unwrap() ^= 1;
    stranger.write_all(&greeting).unwrap();
    assert!(matches!(stranger.read(&mut [0; 1]), Ok(0) | Err(_)));
    let display = windows.display.clone();
    windows.end();
    sshd.all_gone();
    let port = 6000 + display["localhost:".len()..].split('.').next().unwrap().parse::<u16>().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn every_session_has_its_own_display() {
    if !is_root() {
        return;
    }
    let sshd = Sshd::with(OWN_HOME, |_, _| {});
    let (_server, number) = x_server();
    let (one, other) = (Windows::start(&sshd, &["-Y"], number), Windows::start(&sshd, &["-Y"], number));
    assert_ne!(one.display, other.display);
    one.end();
    other.end();
}

#[test]
fn a_session_without_xauth_or_without_the_right_has_no_display() {
    if !is_root() {
        return;
    }
    let hidden = "mount --bind /dev/null $(command -v xauth)";
    let sshd = Sshd::with(&format!("{OWN_HOME}\n{hidden}"), |_, _| {});
    let refused = Sshd::with(OWN_HOME, |server, _| {
        server.authorized_keys = vec![format!("no-X11-forwarding {}", server.authorized_keys[0])];
    });
    for sshd in [sshd, refused] {
        let mut client = sshd.client();
        client.env("DISPLAY", "127.0.0.1:300").arg("-Y").arg("echo \"<$DISPLAY>\"");
        assert_eq!(printed(&client.output().unwrap()), "<>\n");
    }
}
