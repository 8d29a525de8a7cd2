//! Forwarding, both ways.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Stdio},
};

use sparks_tests::{eventually, inside, shared};

use super::{Door, guest_house};

/// An ssh that only forwards, until it is dropped.
struct Forwarder(Child);

impl Forwarder {
    fn new(door: &Door, options: &[&str]) -> Self {
        let all = [&["-N", "-o", "ExitOnForwardFailure=yes"], options].concat();
        Self(door.command(&all, "house", &[]).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Python, because it is in the image.
const ECHO: &str = "import socketserver\nclass H(socketserver.StreamRequestHandler):\n  def handle(self):\n    self.wfile.write(self.rfile.readline().upper())\n";

fn shout(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"hello\n").ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    Some(said).filter(|said| !said.is_empty())
}

#[test]
fn a_local_forward_and_a_socks_proxy_reach_what_only_listens_inside() {
    let door = guest_house();
    let script =
        format!("{ECHO}s = socketserver.ThreadingTCPServer(('127.0.0.1', 7001), H); s.serve_forever()");
    inside(shared(), "house", &format!("setsid python3 -c \"{script}\" </dev/null >/dev/null 2>&1 &")).ok();
    let (port, socks) = (free_port(), free_port());
    let local = format!("127.0.0.1:{port}:127.0.0.1:7001");
    let _forwarder = Forwarder::new(door, &["-L", &local, "-D", &format!("127.0.0.1:{socks}")]);
    assert_eq!(eventually("the forwarded port", || shout(port)), "HELLO\n");
    let by_socks = eventually("the proxy", || {
        let mut stream = TcpStream::connect(("127.0.0.1", socks)).ok()?;
        stream.write_all(&[5, 1, 0]).ok()?;
        stream.read_exact(&mut [0; 2]).ok()?;
        stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, 0x1b, 0x59]).ok()?;
        stream.read_exact(&mut [0; 10]).ok()?;
        stream.write_all(b"socks\n").ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said).filter(|said| !said.is_empty())
    });
    assert_eq!(by_socks, "SOCKS\n");
}

#[test]
fn a_remote_forward_reaches_what_listens_here() {
    let door = guest_house();
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = here.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in here.incoming() {
            let _ = stream.unwrap().write_all(b"from here\n");
        }
    });
    let _forwarder = Forwarder::new(door, &["-R", &format!("7002:127.0.0.1:{port}")]);
    let fetch = "python3 -c \"import socket; print(socket.create_connection(('127.0.0.1', 7002)).makefile().read())\"";
    let said = eventually("the port inside", || {
        Some(inside(shared(), "house", fetch)).filter(|s| s.code == 0 && !s.out.is_empty())
    });
    assert_eq!(said.out, "from here");
}

#[test]
fn unix_sockets_are_forwarded_both_ways() {
    let door = guest_house();
    let (near, far) = (door.path("near.sock"), door.path("far.sock"));
    let script =
        format!("{ECHO}s = socketserver.ThreadingUnixStreamServer('/tmp/inside.sock', H); s.serve_forever()");
    inside(
        shared(),
        "house",
        &format!("rm -f /tmp/inside.sock; setsid python3 -c \"{script}\" </dev/null >/dev/null 2>&1 &"),
    )
    .ok();
    let here = std::os::unix::net::UnixListener::bind(&far).unwrap();
    std::thread::spawn(move || {
        for stream in here.incoming() {
            let _ = stream.unwrap().write_all(b"from here\n");
        }
    });
    let local = format!("{}:/tmp/inside.sock", near.display());
    let remote = format!("/tmp/outside.sock:{}", far.display());
    inside(shared(), "house", "rm -f /tmp/outside.sock").ok();
    let _forwarder = Forwarder::new(door, &["-L", &local, "-R", &remote]);
    let said = eventually("the socket here", || {
        let mut stream = std::os::unix::net::UnixStream::connect(&near).ok()?;
        stream.write_all(b"unix\n").ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        Some(said).filter(|said| !said.is_empty())
    });
    assert_eq!(said, "UNIX\n");
    let fetch = "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/tmp/outside.sock'); print(s.makefile().read())\"";
    let said = eventually("the socket inside", || {
        Some(inside(shared(), "house", fetch)).filter(|s| s.code == 0 && !s.out.is_empty())
    });
    assert_eq!(said.out, "from here");
}

#[test]
fn the_agent_goes_along_when_it_is_asked_to() {
    let door = guest_house();
    let script = format!(
        "eval $(ssh-agent -s) >/dev/null; ssh-add -q {key}; ssh -A {words} 'python3 -c \"import os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ[\\\"SSH_AUTH_SOCK\\\"]); s.send(bytes([0,0,0,1,11])); print(s.recv(9)[8])\"'; ssh-agent -k >/dev/null",
        key = door.path("key").display(),
        words = door.words("key", &[], &format!("house.{}", shared())).join(" ")
    );
    assert_eq!(sparks_tests::run("sh", &["-c", &script], "").ok(), "1", "the agent has one key");
}

/// An X11 program, as far as its first words: its connection begins with the cookie that xauth has.
const WINDOW: &str = r#"
import os, socket, subprocess
display = os.environ["DISPLAY"]
cookie = subprocess.check_output(["xauth", "list", display]).split()[-1].decode()
program = socket.create_connection(("127.0.0.1", 6000 + int(display.split(":")[1].split(".")[0])))
hello = b"l\0\x0b\0\0\0\x12\0\x10\0\0\0MIT-MAGIC-COOKIE-1\0\0" + bytes.fromhex(cookie)
program.sendall(hello + b"a window")
print(program.makefile().read())
"#;

#[test]
fn a_window_of_a_program_inside_opens_here() {
    let door = guest_house();
    let install =
        "command -v xauth || { apt-get -qq update && apt-get -qq install --no-install-recommends xauth; }";
    inside(shared(), "house", install).ok();
    let listen = |number: u16| TcpListener::bind(("127.0.0.1", 6000 + number)).ok().map(|l| (l, number));
    let (server, number) = (300..1000).find_map(listen).unwrap();
    // Trusted, because ssh asks a real X server for the cookie of untrusted ones.
    let mut ssh = door.command(&["-Y"], "house", &["python3", "-"]);
    ssh.env("DISPLAY", format!("127.0.0.1:{number}")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = ssh.spawn().unwrap();
    program.stdin.take().unwrap().write_all(WINDOW.as_bytes()).unwrap();
    server.set_nonblocking(true).unwrap();
    let (mut screen, _) = eventually("the window", || server.accept().ok());
    screen.set_nonblocking(false).unwrap();
    let mut hello = [0; 48 + b"a window".len()];
    screen.read_exact(&mut hello).unwrap();
    assert!(hello.starts_with(b"l\0\x0b\0") && hello.ends_with(b"a window"));
    screen.write_all(b"a key").unwrap();
    drop(screen);
    let output = program.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "a key");
}
