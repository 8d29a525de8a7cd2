//! Recorded sessions.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use serde_json::{Value, json};
use sparks_tests::{eventually, get_spark, shared, spark};

use super::{enterable, terminal::Screen};

fn sessions(words: &[&str]) -> sparks_tests::Said {
    spark(shared(), &[&["sessions"], words].concat())
}

fn ended(name: &str, count: usize) -> Vec<Value> {
    // Recordings outlive their Spark, and another one may have had its name.
    let uid = get_spark(shared(), name)["metadata"]["uid"].clone();
    eventually("the recordings", || {
        let all: Value = serde_json::from_str(&sessions(&["ls", name, "-o", "json"]).ok()).ok()?;
        let mut all = all.as_array()?.clone();
        all.retain(|one| one["header"]["sparks"]["uid"] == uid);
        (all.len() == count && all.iter().all(|one| one["trailer"].is_object())).then_some(all)
    })
}

#[test]
fn a_recorded_session_can_be_listed_found_and_read_and_its_chain_has_its_head_in_the_status() {
    let door = enterable(
        "watched",
        &json!({"ssh": {"authorizedKeys": [super::door().public("key")], "recording": "Required"}}),
    );
    assert_eq!(door.ssh(&[], "watched", "echo first-needle; exit 3", "").code, 3);
    type_unseen(door);
    let all = ended("watched", 2);
    assert_eq!(
        (all[0]["header"]["command"].as_str(), all[0]["trailer"]["exit"].as_str()),
        (Some("echo first-needle; exit 3"), Some("3"))
    );
    assert_eq!(all[1]["header"]["sparks"]["tty"], true);
    let recordings = eventually("the head", || {
        Some(get_spark(shared(), "watched")["status"]["recordings"].clone()).filter(|r| r["count"] == 2)
    });
    let last = sessions(&["save", "watched", recordings["last"].as_str().unwrap()]).ok() + "\n";
    let hash = sparks_tests::run("sha256sum", &[], &last).ok();
    assert_eq!(hash.split(' ').next(), recordings["head"].as_str(), "the head is the last recording's hash");
    assert!(last.contains("second-needle ünï") && !last.contains("password-never-shown"), "{last}");
    assert!(sessions(&["search", "SECOND-needle"]).ok().contains("second-needle"));
    assert_eq!(sessions(&["search", "never-to-be-found"]).code, 1);
    let two = sessions(&["save", "watched", "--v2"]).ok();
    assert!(two.starts_with('{') && two.contains("\"version\":2"));
}

/// Types a password once the terminal echoes no more.
fn type_unseen(door: &super::Door) {
    let command = "stty -echo; echo ready; read secret; echo second-needle ünï";
    let mut ssh = door.command(&["-tt"], "watched", &[command]);
    let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    child.stdin.as_mut().unwrap().write_all(b"password-never-shown\n").unwrap();
    assert!(lines.any(|line| line.unwrap().contains("second-needle")));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_terminal_is_recorded_with_its_sizes_and_played_as_it_was() {
    let keys = json!([super::door().public("key")]);
    let door = enterable("sized", &json!({"ssh": {"authorizedKeys": keys, "recording": "On"}}));
    let script = "'echo begin; read enter; stty size; read word; echo end of $word'";
    let screen = Screen::of("sized", door, "recorded", script, (80, 24));
    screen.shows("begin");
    screen.resize(101, 33);
    screen.keys(&["Enter"]);
    screen.shows("33 101");
    screen.keys(&["it", "Enter"]);
    screen.shows("end of it");
    let all = ended("sized", 1);
    assert_eq!(all[0]["header"]["term"]["cols"], 80);
    let cast = sessions(&["save", "sized"]).ok();
    assert!(cast.contains(", \"r\", \"101x33\"]") && cast.contains("33 101"), "{cast}");
    let played = sessions(&["play", "sized", "--speed", "1000"]).ok();
    assert!(played.contains("33 101") && played.contains("end of it"), "{played}");
    let shown = sessions(&["show", "sized"]).ok();
    assert!(shown.contains("80x24") && shown.contains("stty size; read word"), "{shown}");
}

#[test]
fn nobody_enters_past_the_recorder() {
    enterable(
        "guarded",
        &json!({"ssh": {"authorizedKeys": [super::door().public("key")], "recording": "Required"}}),
    );
    let said = spark(shared(), &["ssh", "guarded", "true"]).refused();
    assert!(said.contains("must be recorded") && said.contains("guarded."), "{said}");
}
