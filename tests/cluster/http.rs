//! HTTP through the gateway.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use serde_json::json;
use sparks_tests::{
    Said, apply, eventually, get_spark, image, run, shared, spark, spark_object, until_reason,
};

/// Serves the files of /root, where the tests' source has its greeting.
fn serving(name: &str, more: &serde_json::Value) {
    let mut service = json!({
        "command": ["sh", "-c", "exec python3 -m http.server \"$PORT\""], "workingDir": "/root", "readinessPath": "/greeting"
    });
    if let (Some(service), Some(more)) = (service.as_object_mut(), more["service"].as_object()) {
        service.extend(more.clone());
    }
    let lifecycle = more.get("lifecycle").cloned().unwrap_or(json!({}));
    let spec = json!({"from": {"spark": "source"}, "service": service, "lifecycle": lifecycle});
    apply(&spark_object(shared(), name, &spec)).ok();
    until_reason(shared(), name, "Running");
}

fn gateway() -> String {
    std::env::var("SPARKS_GATEWAY_HTTP").expect("SPARKS_GATEWAY_HTTP names the gateway: run `make test`")
}

/// An address of a Spark as a browser has it, at the gateway of these tests.
fn browse(url: &str, options: &[&str]) -> Said {
    let there = format!("::{}", gateway());
    run("curl", &[&["-sS", "--connect-to", &there, url], options].concat(), "")
}

fn fetch(name: &str, options: &[&str]) -> Said {
    let gateway = gateway();
    let host = format!("Host: {name}--{}.localhost", shared());
    let url = format!("http://{gateway}/greeting");
    run("curl", &[&["-s", "-w", "\n%{http_code}", "-H", &host, &url], options].concat(), "")
}

#[test]
fn a_public_spark_is_seen_by_everybody() {
    serving("open", &json!({"service": {"public": true}}));
    let said =
        eventually("the gateway", || Some(fetch("open", &[])).filter(|said| said.out.ends_with("200")));
    assert_eq!(said.out, "from the source\n\n200");
}

#[test]
fn a_private_spark_opens_for_a_token_only_and_is_not_told_from_none() {
    serving("closed", &json!({}));
    let (closed, none) = (fetch("closed", &[]).out, fetch("no-such-spark", &[]).out);
    assert!(closed.ends_with("401"), "{closed}");
    assert_eq!(closed.replace("closed", "X"), none.replace("no-such-spark", "X"));
    let token = spark(shared(), &["url", "closed", "--token"]).ok();
    let header = format!("Sparks-Token: {token}");
    assert_eq!(fetch("closed", &["-H", &header]).out, "from the source\n\n200");
    assert!(fetch("closed", &["-H", "Sparks-Token: x.y.z"]).out.ends_with("401"));
    assert!(spark(shared(), &["url", "closed"]).ok().contains(&format!("closed--{}.localhost", shared())));
}

#[test]
fn spark_url_opens_in_the_browser_what_it_prints() {
    let folder = tempfile::tempdir().unwrap();
    let (browser, opened) = (folder.path().join("xdg-open"), folder.path().join("opened"));
    std::fs::write(&browser, format!("#!/bin/sh\necho \"$1\" > '{}'\n", opened.display())).unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let printed = run("env", &[&path, "spark", "-n", shared(), "url", "source", "--open"], "").ok();
    assert!(printed.contains("://source--"), "{printed}");
    assert_eq!(std::fs::read_to_string(opened).unwrap().trim_end(), printed);
}

#[test]
fn the_first_request_wakes_a_spark_that_sleeps() {
    serving("drowsy", &json!({"service": {"public": true}, "lifecycle": {"idleTimeout": "3s"}}));
    until_reason(shared(), "drowsy", "Sleeping");
    let said = fetch("drowsy", &[]);
    assert_eq!(said.out, "from the source\n\n200");
    assert!(get_spark(shared(), "drowsy")["status"]["lastActivityAt"].is_string());
}

#[test]
fn a_spark_does_not_sleep_while_it_works_on_an_answer() {
    let slow = "import http.server, os, time
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(10)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'done')
http.server.ThreadingHTTPServer(('', int(os.environ['PORT'])), H).serve_forever()";
    let service = json!({"command": ["python3", "-c", slow], "public": true});
    let lifecycle = json!({"idleTimeout": "3s"});
    let spec = json!({"from": {"spark": "source"}, "service": service, "lifecycle": lifecycle});
    apply(&spark_object(shared(), "thoughtful", &spec)).ok();
    let url = format!("http://thoughtful--{}.localhost/", shared());
    let said = eventually("an answer", || {
        // Until it runs, it is not told from none.
        Some(browse(&url, &["-w", " %{http_code}"])).filter(|said| !said.out.ends_with("401"))
    });
    assert_eq!(said.out, "done 200");
    until_reason(shared(), "thoughtful", "Sleeping");
}

#[test]
fn the_python_example_counts_on_in_its_fork_and_sends_events_as_they_happen() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/http/python/spark.yaml");
    let example = std::fs::read_to_string(example).unwrap().replace("python:3-slim", &image());
    run("kubectl", &["apply", "-n", shared(), "-f", "-"], &example).ok();
    until_reason(shared(), "hello-python", "Running");
    let link = spark(shared(), &["url", "hello-python"]).ok();
    assert_eq!(browse(&link, &[]).ok(), "Hello from hello-python: visit 1");
    // A browser is given a cookie, and an address without the token.
    let browser = ["-L", "-H", "Accept: text/html", "-b", "", "-w", "%{num_redirects} %{url_effective}"];
    let said = browse(&link, &browser).ok();
    let address = link.split('?').next().unwrap();
    assert_eq!(said, format!("Hello from hello-python: visit 2\n1 {address}"));
    let (address, query) = link.split_once('?').unwrap();
    let events = browse(&format!("{address}events?{query}"), &["-N", "--max-time", "3"]);
    assert!(events.code == 28 && events.out.starts_with("data: 0\n\ndata: 1"), "it goes on: {events:?}");
    spark(shared(), &["fork", "hello-python", "counting-on"]).ok();
    until_reason(shared(), "counting-on", "Running");
    let link = spark(shared(), &["url", "counting-on"]).ok();
    assert_eq!(browse(&link, &[]).ok(), "Hello from counting-on: visit 3");
}

/// Echoes what a websocket says, counts what is sent, and sends as much as it is asked for.
const SERVICE: &str = r#"
import base64, hashlib, http.server, os
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            return self.echo()
        length = int(self.path.strip("/") or 0)
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        while length > 0:
            length -= self.wfile.write(bytes(min(length, 1 << 16)))
    def do_PUT(self):
        count = 0
        while size := int(self.rfile.readline(), 16):
            count += len(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        body = b"%d over %s" % (count, self.request_version.encode())
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def echo(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while head := self.rfile.read(2):
            mask, data = self.rfile.read(4), self.rfile.read(head[1] & 127)
            self.wfile.write(bytes([head[0], len(data)]) + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), H).serve_forever()
"#;

fn web() -> String {
    let service = json!({"command": ["python3", "-c", SERVICE], "readinessPath": "/", "public": true});
    apply(&spark_object(shared(), "web", &json!({"from": {"spark": "source"}, "service": service}))).ok();
    until_reason(shared(), "web", "Running");
    format!("web--{}.localhost", shared())
}

#[test]
fn large_bodies_stream_both_ways_and_http2_clients_reach_a_service_that_has_only_http1() {
    const LENGTH: u64 = 200 << 20;
    let host = web();
    let sent = tempfile::NamedTempFile::new().unwrap();
    sent.as_file().set_len(LENGTH).unwrap();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let put = ["-T", sent.path().to_str().unwrap(), "-H", "Transfer-Encoding: chunked", version];
        let url = format!("http://{host}/");
        assert_eq!(browse(&url, &put).ok(), format!("{LENGTH} over HTTP/1.1"), "{version}");
        let get = ["-o", "/dev/null", "-w", "%{size_download} %{http_version}", version];
        let said = browse(&format!("http://{host}/{LENGTH}"), &get).ok();
        let spoken = if version == "--http1.1" { "1.1" } else { "2" };
        assert_eq!(said, format!("{LENGTH} {spoken}"));
    }
}

#[test]
fn a_websocket_says_back_what_it_is_told() {
    let host = web();
    let mut socket = TcpStream::connect(gateway()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(
        socket,
        "GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    for word in [*b"one", *b"two"] {
        // A text that is whole, masked with zeros.
        socket.write_all(&[&[0x81, 0x80 | 3, 0, 0, 0, 0][..], &word].concat()).unwrap();
        let mut echo = [0; 5];
        socket.read_exact(&mut echo).unwrap();
        assert_eq!(echo, [0x81, 3, word[0], word[1], word[2]]);
    }
}
