//! Many at once.

use std::{
    io::Read,
    process::{Command, Stdio},
    thread,
};

use serde_json::json;
use sparks_tests::{eventually, run, shared};

use super::{enterable, guest_house};

#[test]
fn a_channel_that_nobody_reads_holds_up_no_other_of_the_same_connection() {
    let door = guest_house();
    let control = door.path("stalled.ctl");
    let path = format!("ControlPath={}", control.display());
    let mut master =
        door.command(&["-o", &path, "-M", "-N"], "house", &[]).stdin(Stdio::null()).spawn().unwrap();
    eventually("the master", || control.exists().then_some(()));
    let mut stalled: Vec<_> = (0..3)
        .map(|_| {
            door.command(&["-o", &path], "house", &["cat", "/dev/zero"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    // They have begun, and are not read on.
    stalled.iter_mut().for_each(|child| child.stdout.as_mut().unwrap().read_exact(&mut [0; 1024]).unwrap());
    for _ in 0..20 {
        assert_eq!(door.ssh(&["-o", &path], "house", "echo ok", "").ok(), "ok");
    }
    for child in &mut stalled {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    master.kill().unwrap();
    master.wait().unwrap();
}

#[test]
fn a_program_whose_output_nobody_reads_any_more_ends() {
    let door = guest_house();
    let words = door.words("key", &[], &format!("house.{}", shared())).join(" ");
    assert_eq!(run("timeout", &["30", "sh", "-c", &format!("ssh {words} yes | head -n 1")], "").ok(), "y");
}

#[test]
fn forty_connections_and_eight_channels_in_each_do_not_mix() {
    let door = guest_house();
    let connections: Vec<_> = (0..40)
        .map(|i| {
            thread::spawn(move || {
                let script = "for i in 1 2 3 4 5 6 7 8; do echo \"$0-$i\"; done";
                door.ssh(&[], "house", &format!("sh -c '{script}' {i}"), "").ok().lines().count()
            })
        })
        .collect();
    assert!(connections.into_iter().all(|connection| connection.join().unwrap() == 8));
}

#[test]
fn a_rekey_under_load_loses_nothing() {
    let door = guest_house();
    let words = door.words("key", &["-o", "RekeyLimit=1M"], &format!("house.{}", shared())).join(" ");
    let script = format!(
        "head -c 40000000 /dev/urandom > {0}; ssh {words} cat < {0} | cmp - {0} && echo same",
        door.path("rekey").display()
    );
    assert_eq!(run("sh", &["-c", &script], "").ok(), "same");
}

/// Connects ten thousand times and says nothing, and holds what it is left with for as long as its input is open.
const CROWD: &str = r#"
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(10000)]
print("there", flush=True)
sys.stdin.read()
"#;

#[test]
fn ten_thousand_connections_of_one_address_that_never_log_in_keep_nobody_out() {
    let door = guest_house();
    enterable("crowd", &json!({}));
    let mut crowd = Command::new("spark")
        .args(["-n", shared(), "exec", "-i", "crowd", "--", "python3", "-c", CROWD, &door.host, &door.port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    crowd.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    for _ in 0..5 {
        assert_eq!(door.ssh(&[], "house", "echo in", "").ok(), "in");
    }
    drop(crowd.stdin.take());
    assert!(crowd.wait().unwrap().success());
    let garbage = format!("printf '%s' {} > /dev/tcp/{}/{}", "A".repeat(70_000), door.host, door.port);
    let _ = Command::new("bash").args(["-c", &garbage]).output();
    assert_eq!(door.ssh(&[], "house", "echo in", "").ok(), "in");
}
