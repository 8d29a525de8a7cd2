//! Who enters, and how.

use std::{io::Read, process::Stdio};

use serde_json::json;
use sparks_tests::{apply, inside, run, shared, spark_object};

use super::{another_user, door, enterable, guest_house, until_enterable};

#[test]
fn a_command_has_its_output_its_errors_its_input_and_its_exit_code() {
    let said = guest_house().ssh(&[], "house", "cat; echo wrong >&2; exit 7", "right\n");
    assert_eq!((said.out.as_str(), said.err.trim(), said.code), ("right", "wrong", 7));
}

#[test]
fn who_knows_one_cipher_only_or_wants_compression_enters() {
    let door = guest_house();
    for cipher in ["chacha20-poly1305@openssh.com", "aes128-ctr", "aes256-gcm@openssh.com"] {
        let option = format!("Ciphers={cipher}");
        assert_eq!(door.ssh(&["-o", &option], "house", "cat", "in").ok(), "in", "{cipher}");
    }
    let said = door.ssh(&["-C", "-v"], "house", "seq 100000 | md5sum", "");
    assert!(said.out.starts_with("dea9193b768319cbb4ff1a137ac03113"), "{said:?}");
    assert!(said.err.contains("compression: zlib@openssh.com"), "{said:?}");
}

#[test]
fn who_has_no_cipher_in_common_is_told_which_ones_there_are() {
    let said = guest_house().ssh(&["-v", "-o", "Ciphers=aes256-cbc"], "house", "true", "");
    let offer = "no matching cipher found. Their offer: aes256-gcm@openssh.com,";
    assert!(said.code == 255 && said.err.contains(offer), "{said:?}");
}

#[test]
fn output_that_a_command_closes_early_ends_here_and_its_exit_code_still_arrives() {
    let door = guest_house();
    let script =
        "rm -f /tmp/go; echo all; exec >&- 2>&-; while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 7";
    let mut ssh = door.command(&[], "house", &[script]);
    // With an input that has ended, ssh closes the channel when the output ends, too.
    let mut child = ssh.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "all\n");
    assert!(child.try_wait().unwrap().is_none(), "the command still runs");
    inside(shared(), "house", "touch /tmp/go").ok();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_login_names_the_user_it_becomes() {
    let door = guest_house();
    another_user();
    assert_eq!(door.ssh(&[], "house", "id -un; hostname", "").ok(), "root\nhouse");
    let mut words = door.words("key", &[], &format!("dev+house.{}", shared()));
    words.push("id -un; pwd; echo $HOME $SHELL $USER".into());
    let said = run("ssh", &words.iter().map(String::as_str).collect::<Vec<_>>(), "").ok();
    assert_eq!(said, "dev\n/home/dev\n/home/dev /bin/bash dev");
}

#[test]
fn a_fork_lets_the_same_keys_in_and_has_a_host_key_of_its_own() {
    let door = guest_house();
    apply(&spark_object(shared(), "annex", &json!({"from": {"spark": "house"}}))).ok();
    until_enterable("annex");
    assert_eq!(door.ssh(&[], "annex", "hostname", "").ok(), "annex");
    let key = |name: &str| sparks_tests::get_spark(shared(), name)["status"]["ssh"]["hostKey"].clone();
    assert_ne!(key("house"), key("annex"));
}

#[test]
fn keys_come_from_secrets_and_config_maps_too() {
    let (ns, door) = (shared(), door());
    let (one, two) = (door.new_key("from-secret"), door.new_key("from-map"));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": ns}, "stringData": {"authorized_keys": one}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keys", "namespace": ns}, "data": {"team": format!("# ours\n{two}\n")}});
    apply(&json!([secret, map])).ok();
    let sources =
        json!([{"secretKeyRef": {"name": "keys"}}, {"configMapKeyRef": {"name": "keys", "key": "team"}}]);
    apply(&spark_object(
        ns,
        "keyed",
        &json!({"from": {"spark": "source"}, "ssh": {"authorizedKeysFrom": sources}}),
    ))
    .ok();
    until_enterable("keyed");
    for key in ["from-secret", "from-map"] {
        let mut words = door.words(key, &[], &format!("keyed.{ns}"));
        words.push("echo in".into());
        assert_eq!(run("ssh", &words.iter().map(String::as_str).collect::<Vec<_>>(), "").ok(), "in", "{key}");
    }
}

#[test]
fn a_jump_host_leads_to_the_sparks_own_host_key() {
    let door = guest_house();
    let ns = shared();
    let key = sparks_tests::get_spark(ns, "house")["status"]["ssh"]["hostKey"].as_str().unwrap().to_owned();
    std::fs::write(door.path("house.known"), format!("house.{ns} {key}\n")).unwrap();
    let jump = door.words("key", &["-W", "%h:%p"], "jump").join(" ");
    let known = format!("UserKnownHostsFile={}", door.path("house.known").display());
    let proxy = format!("ProxyCommand=ssh {jump}");
    let mut words = vec!["-F", "none", "-o", &known, "-o", "StrictHostKeyChecking=yes", "-o", &proxy, "-i"];
    let (identity, place) = (door.path("key"), format!("root@house.{ns}"));
    words.extend([identity.to_str().unwrap(), &place, "hostname"]);
    assert_eq!(run("ssh", &words, "").ok(), "house");
}

#[test]
fn the_language_and_the_variables_of_a_session_are_those_of_sshd() {
    let door = enterable("worldly", &json!({}));
    let script =
        "echo $LANG; echo $SSH_CONNECTION | wc -w; echo $SSH_CLIENT | wc -w; echo $PATH; echo $LC_TIME";
    let said = door.ssh(&["-o", "SetEnv=LC_TIME=C.UTF-8"], "worldly", script, "").ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[1], lines[2], lines[4]), ("C.UTF-8", "4", "3", "C.UTF-8"));
    assert!(lines[3].contains("/usr/bin"), "{said}");
}
