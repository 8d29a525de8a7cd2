//! Bytes through the server, by OpenSSH's client.
#![allow(missing_docs, clippy::unwrap_used)]

mod sshd;

use std::io::Write;
use std::process::{Command, Stdio};

use sshd::Sshd;

/// Bytes that don't repeat themselves soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

/// Sends and receives at the same time.
fn through(mut client: Command, data: &[u8]) -> Vec<u8> {
    let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(data).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success());
    output.stdout
}

#[test]
fn bytes_pass_both_ways_unchanged() {
    let sshd = Sshd::start();
    let data = noise(20_000_000);
    let mut client = sshd.client();
    client.arg("cat");
    assert!(through(client, &data) == data);
}

#[test]
fn keys_are_renewed_under_load_and_no_byte_is_lost() {
    let sshd = Sshd::start();
    let data = noise(20_000_000);
    let mut client = sshd.client();
    client.args(["-oRekeyLimit=1M", "cat"]);
    assert!(through(client, &data) == data);
}

#[test]
fn the_old_scp_copies_both_ways_where_the_spark_has_scp() {
    let sshd = Sshd::start();
    let data = noise(3_000_000);
    std::fs::write(sshd.path("from"), &data).unwrap();
    let remote = |name: &str| format!("127.0.0.1:{}", sshd.path(name).display());
    let scp = |from: &str, to: &str| {
        let mut scp = Command::new("scp");
        scp.arg("-O").args(sshd.options(&sshd.path("key"))).args(["-P", &sshd.port.to_string(), from, to]);
        assert!(scp.status().unwrap().success());
    };
    scp(sshd.path("from").to_str().unwrap(), &remote("there"));
    scp(&remote("there"), sshd.path("back").to_str().unwrap());
    assert!(std::fs::read(sshd.path("back")).unwrap() == data);
}
