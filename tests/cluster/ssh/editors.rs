//! What remote editors do, as they do it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
};

use sparks_tests::eventually;

use super::guest_house;

/// What a server says to these words, once something listens there.
fn ask(port: u16, words: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(words.as_bytes()).ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    Some(said).filter(|said| !said.is_empty())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// VS Code Remote-SSH: `ssh -T -D PORT HOST bash` with an installer on its input, which starts a server that listens on a
/// port of its choice, or on a socket, and stays; the editor then connects to that port through the SOCKS proxy, twice,
/// and to the socket by a second connection, which finds the same server.
#[test]
fn vs_code_starts_its_server_by_a_script_and_comes_back_through_the_proxy() {
    let door = guest_house();
    let socks = free_port();
    let mut ssh =
        door.command(&["-T", "-D", &socks.to_string(), "-o", "ConnectTimeout=15"], "house", &["bash"]);
    let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let script = r#"
uname -rsv; echo "$SHELL" >/dev/null; mkdir -p ~/.vscode-server/bin
python3 - <<'PY' &
import os, socketserver, threading
if os.path.exists("/tmp/vscode.sock"): os.remove("/tmp/vscode.sock")
class H(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"server says " + self.rfile.readline())
s = socketserver.ThreadingTCPServer(("127.0.0.1", 0), H)
u = socketserver.ThreadingUnixStreamServer("/tmp/vscode.sock", H)
threading.Thread(target=u.serve_forever, daemon=True).start()
print("listeningOn==%d==" % s.server_address[1], flush=True)
s.serve_forever()
PY
wait
"#;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    let mut port = 0;
    for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
        if let Some(rest) = line.unwrap().strip_prefix("listeningOn==") {
            port = rest.trim_end_matches('=').parse::<u16>().unwrap();
            break;
        }
    }
    for word in ["one", "two"] {
        let mut stream = TcpStream::connect(("127.0.0.1", socks)).unwrap();
        stream.write_all(&[5, 1, 0]).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        let [high, low] = port.to_be_bytes();
        stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low]).unwrap();
        stream.read_exact(&mut [0; 10]).unwrap();
        stream.write_all(format!("{word}\n").as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("server says {word}\n"));
    }
    let near = free_port();
    let forward = format!("127.0.0.1:{near}:/tmp/vscode.sock");
    let mut second =
        door.command(&["-N", "-L", &forward], "house", &[]).stdin(Stdio::null()).spawn().unwrap();
    assert_eq!(eventually("the socket", || ask(near, "three\n")), "server says three\n");
    let _ = (second.kill(), second.wait());
    let _ = child.kill();
    let _ = child.wait();
}

/// Zed: a master connection, many short commands in it, the upload of a server by sftp, and a command that talks on
/// its pipes for as long as the window is open.
#[test]
fn zed_runs_all_over_one_connection() {
    let door = guest_house();
    let control = door.path("zed.ctl");
    let path = format!("ControlPath={}", control.display());
    let mut master = door
        .command(&["-o", "ControlMaster=yes", "-o", &path, "-N"], "house", &[])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the master", || control.exists().then_some(()));
    assert!(door.ssh(&["-o", &path], "house", "uname -sm", "").ok().starts_with("Linux "));
    let server = door.path("zed-server");
    std::fs::write(&server, "#!/bin/sh\nwhile read -r line; do echo \"pong $line\"; done\n").unwrap();
    let put = format!("put {} /tmp/zed-server\nchmod 755 /tmp/zed-server\n", server.display());
    door.copy("sftp", "house", &["-o", &path, "-b", "-", "GATEWAY"], &put).ok();
    let mut proxy = door.command(&["-o", &path], "house", &["/tmp/zed-server"]);
    let mut proxy = proxy.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(proxy.stdout.take().unwrap()).lines();
    let mut input = proxy.stdin.take().unwrap();
    for i in 0..50 {
        writeln!(input, "{i}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("pong {i}"));
        if i % 10 == 0 {
            assert_eq!(door.ssh(&["-o", &path], "house", "sh -c 'echo $0' x", "").ok(), "x");
        }
    }
    // A port of the project, which is opened while the connection is there.
    let serve = "import socket; s = socket.create_server(('127.0.0.1', 7009)); c, _ = s.accept(); c.recv(9); c.send(b'seen')";
    let mut page = door.command(&["-o", &path], "house", &["python3", "-c", &format!("\"{serve}\"")]);
    let mut page = page.stdin(Stdio::null()).spawn().unwrap();
    let near = free_port();
    let forward = format!("127.0.0.1:{near}:127.0.0.1:7009");
    door.ssh(&["-o", &path, "-O", "forward", "-L", &forward], "house", "", "").ok();
    assert_eq!(eventually("the project's port", || ask(near, "look")), "seen");
    assert!(page.wait().unwrap().success());
    drop(input);
    assert!(proxy.wait().unwrap().success());
    master.kill().unwrap();
    master.wait().unwrap();
}

/// JetBrains Gateway: sftp for the backend, a terminal beside listeners on both sides in one connection.
#[test]
fn jetbrains_has_files_a_terminal_and_listeners_at_once() {
    let door = guest_house();
    let near = free_port();
    let control = door.path("jb.ctl");
    let path = format!("ControlPath={}", control.display());
    let local = format!("127.0.0.1:{near}:127.0.0.1:7007");
    let options = ["-M", "-o", &path, "-N", "-L", &local, "-R", "7008:127.0.0.1:9"];
    let mut master = door.command(&options, "house", &[]).stdin(Stdio::null()).spawn().unwrap();
    eventually("the master", || control.exists().then_some(()));
    let backend = "import socket; s = socket.create_server(('127.0.0.1', 7007)); c, _ = s.accept(); c.send(b'joined'); c.close()";
    let mut terminal =
        door.command(&["-tt", "-o", &path], "house", &[&format!("python3 -c \"{backend}\"; tty")]);
    let terminal = terminal.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(eventually("the backend", || ask(near, "")), "joined");
    door.copy("sftp", "house", &["-o", &path, "-b", "-", "GATEWAY"], "ls /etc/passwd\n").ok();
    let output = terminal.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("/dev/pts/"));
    master.kill().unwrap();
    master.wait().unwrap();
}
