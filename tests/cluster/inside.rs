//! Inside a fork it is a whole computer.

use serde_json::json;
use sparks_tests::{apply, eventually, inside, run, shared, spark, spark_object, until_reason};

#[test]
fn sudo_file_capabilities_and_ownership_work() {
    let ns = shared();
    spark(ns, &["fork", "source", "computer"]).ok();
    inside(ns, "computer", "useradd -m dev && echo 'dev ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/dev").ok();
    assert_eq!(spark(ns, &["exec", "-u", "dev", "computer", "--", "sudo", "id", "-u"]).ok(), "0");
    inside(ns, "computer", "cp /bin/cat /usr/local/bin/readall && chmod 755 /usr/local/bin/readall && python3 - <<'E'\nimport os,struct\nos.setxattr('/usr/local/bin/readall','security.capability',struct.pack('<IIIII',0x02000001,1<<1,0,0,0))\nE").ok();
    inside(ns, "computer", "echo secret > /root/secret; chmod 600 /root/secret; chmod 711 /root").ok();
    assert_eq!(spark(ns, &["exec", "-u", "dev", "computer", "--", "readall", "/root/secret"]).ok(), "secret");
    assert_ne!(spark(ns, &["exec", "-u", "dev", "computer", "--", "cat", "/root/secret"]).code, 0);
}

#[test]
fn a_thousand_processes_leave_no_zombie() {
    let ns = shared();
    spark(ns, &["fork", "source", "crowd"]).ok();
    inside(ns, "crowd", "for i in $(seq 1000); do (sleep 300 >/dev/null 2>&1 &); done").ok();
    assert_eq!(inside(ns, "crowd", "pgrep -x -c sleep").ok(), "1000");
    inside(ns, "crowd", "pkill -x sleep").ok();
    eventually("their end", || (inside(ns, "crowd", "pgrep -x sleep | wc -l").out == "0").then_some(()));
    assert_eq!(inside(ns, "crowd", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '").out, "0");
}

#[test]
fn packages_install_and_a_compiler_compiles() {
    let ns = shared();
    spark(ns, &["fork", "source", "builder"]).ok();
    inside(ns, "builder", "apt-get update -qq && apt-get install -qqy --no-install-recommends tcc libc6-dev")
        .ok();
    inside(ns, "builder", "echo 'int main(){return 42;}' > /tmp/a.c && tcc -o /tmp/a /tmp/a.c").ok();
    assert_eq!(inside(ns, "builder", "/tmp/a").code, 42);
}

#[test]
fn one_full_disk_stops_nobody_else() {
    let ns = shared();
    apply(&spark_object(ns, "full", &json!({"from": {"spark": "source"}, "disk": {"size": "64Mi"}}))).ok();
    until_reason(ns, "full", "Running");
    let said = inside(ns, "full", "head -c 200M /dev/urandom > /root/big; sync");
    assert!(said.err.contains("quota") || said.err.contains("space"), "{said:?}");
    spark(ns, &["fork", "source", "beside"]).ok();
    inside(ns, "beside", "head -c 16M /dev/urandom > /root/data && sync").ok();
    spark(ns, &["stop", "full"]).ok();
    spark(ns, &["start", "full"]).ok();
    inside(ns, "full", "rm /root/big; sync; echo room > /root/room").ok();
}

#[test]
fn exec_gives_exit_codes_and_separate_streams_and_passes_the_input() {
    let ns = shared();
    let said = inside(ns, "source", "echo out; echo err >&2; exit 7");
    assert_eq!((said.code, said.out.as_str(), said.err.trim()), (7, "out", "err"));
    let said = run("spark", &["-n", ns, "exec", "-i", "source", "--", "sha256sum"], &"x".repeat(1 << 20));
    assert!(said.ok().starts_with("8f990ba0b577b51c"), "the input arrives whole");
    assert_eq!(spark(ns, &["exec", "source", "--", "no-such-program"]).code, 127);
}

#[test]
fn files_are_copied_both_ways() {
    let ns = shared();
    let directory = std::env::temp_dir().join(format!("sparks-cp-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("tree/deep")).unwrap();
    std::fs::write(directory.join("tree/deep/file"), "content").unwrap();
    let (tree, back) = (directory.join("tree"), directory.join("back"));
    spark(ns, &["cp", tree.to_str().unwrap(), "source:/root/copied"]).ok();
    assert_eq!(inside(ns, "source", "cat /root/copied/deep/file").ok(), "content");
    spark(ns, &["cp", "source:/root/copied", back.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(back.join("deep/file")).unwrap(), "content");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_terminal_has_its_size_before_the_program_starts() {
    let ns = shared();
    let session = format!("sparks-tty-{}", std::process::id());
    let command = format!("spark -n {ns} exec -it source -- sh -c 'stty size; sleep 60'");
    run("tmux", &["-L", &session, "new-session", "-d", "-x", "97", "-y", "31", &command], "").ok();
    let seen = eventually("the size", || {
        let screen = run("tmux", &["-L", &session, "capture-pane", "-p"], "").out;
        screen.lines().find(|line| line.contains(' ')).map(str::to_owned)
    });
    let _ = run("tmux", &["-L", &session, "kill-server"], "");
    assert_eq!(seen.trim(), "31 97");
}
