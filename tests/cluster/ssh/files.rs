//! Files: sftp, scp old and new, rsync-like pipes.

use std::io::Write;

use sparks_tests::{inside, run, shared};

use super::{enterable, guest_house};

/// Not text, and of an odd length.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn what_scp_and_sftp_carry_there_and_back_is_the_same() {
    let door = guest_house();
    let (up, down) = (door.path("up"), door.path("down"));
    std::fs::write(&up, bytes(20_000_003)).unwrap();
    for (program, there, back) in [
        ("scp", vec!["UP", "GATEWAY:/tmp/carried"], vec!["GATEWAY:/tmp/carried", "DOWN"]),
        ("scp", vec!["-O", "UP", "GATEWAY:/tmp/carried"], vec!["-O", "GATEWAY:/tmp/carried", "DOWN"]),
    ] {
        let words = |all: Vec<&str>| -> Vec<String> {
            all.iter()
                .map(|w| w.replace("UP", up.to_str().unwrap()).replace("DOWN", down.to_str().unwrap()))
                .collect()
        };
        for arguments in [words(there), words(back)] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            door.copy(program, "house", &arguments, "").ok();
        }
        assert!(std::fs::read(&up).unwrap() == std::fs::read(&down).unwrap());
        std::fs::remove_file(&down).unwrap();
    }
}

#[test]
fn sftp_knows_what_openssh_knows() {
    let door = enterable("files", &serde_json::json!({}));
    let local = door.path("list");
    std::fs::write(&local, "content\n").unwrap();
    let script = format!(
        "mkdir /root/d\nput {} /root/d/a\nln /root/d/a /root/d/hard\nln -s a /root/d/soft\nrename /root/d/hard /root/d/a2\nchmod 600 /root/d/a\ndf /root\nls -la /root/d\n",
        local.display()
    );
    let said = door.copy("sftp", "files", &["-b", "-", "GATEWAY"], &script).ok();
    assert!(said.contains("soft") && said.contains("-rw-------"), "{said}");
    let there = inside(shared(), "files", "readlink /root/d/soft; stat -c %h /root/d/a; cat /root/d/a2").ok();
    assert_eq!(there, "a\n2\ncontent");
}

#[test]
fn a_name_that_is_no_text_survives() {
    let door = enterable("names", &serde_json::json!({}));
    inside(shared(), "names", r#"mkdir /root/n && printf x > "/root/n/$(printf 'a\377b')""#).ok();
    let target = door.path("names");
    std::fs::create_dir(&target).unwrap();
    let to = target.to_str().unwrap();
    door.copy("scp", "names", &["-r", "GATEWAY:/root/n", to], "").ok();
    let found = std::fs::read_dir(target.join("n")).unwrap().next().unwrap().unwrap().file_name();
    assert_eq!(std::os::unix::ffi::OsStrExt::as_bytes(found.as_os_str()), b"a\xffb");
}

#[test]
fn a_pipe_through_ssh_ends_when_its_input_ends() {
    let door = guest_house();
    let data = bytes(5_000_001);
    let mut ssh = door.command(&[], "house", &["cat"]);
    let mut child =
        ssh.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = data.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout == data);
}

#[test]
fn curl_reads_a_file_by_sftp() {
    let door = guest_house();
    let user = format!("house.{}:", shared());
    let (key, public) = (door.path("key"), door.path("key.pub"));
    let url = format!("sftp://{}:{}/etc/os-release", door.host, door.port);
    let [key, public] = [&key, &public].map(|path| path.to_str().unwrap());
    let said =
        run("curl", &["-sS", "--insecure", "--key", key, "--pubkey", public, "-u", &user, &url], "").ok();
    assert!(said.contains("Debian"), "{said}");
}
