//! Sessions, by OpenSSH's client.
#![allow(missing_docs, clippy::unwrap_used)]

mod sshd;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use sshd::terminal::Terminal;
use sshd::{Sshd, complaints, eventually, printed};

/// The client on a terminal of that size.
fn on_a_terminal(sshd: &Sshd, command: &[&str], rows: u16, columns: u16) -> Terminal {
    let mut client = sshd.client();
    client.arg("-tt").args(command).env("TERM", "xterm-256color");
    Terminal::start(client, rows, columns)
}

#[test]
fn a_command_has_its_own_standard_error_and_exit_code() {
    let sshd = Sshd::start();
    let output = sshd.run("echo out; echo err >&2; exit 7");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    assert_eq!(complaints(&output), "err\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn the_signal_that_ended_a_command_is_told() {
    let sshd = Sshd::start();
    let output = sshd.client().args(["-v", "kill -TERM $$"]).output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(complaints(&output).contains("rtype exit-signal"), "{}", complaints(&output));
}

#[test]
fn the_end_of_standard_input_reaches_the_command_and_its_output_still_arrives() {
    let sshd = Sshd::start();
    let mut client = sshd.client();
    client.arg("cat; echo end").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = client.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(printed(&child.wait_with_output().unwrap()), "hello\nend\n");
}

#[test]
fn output_that_a_command_closes_early_ends_for_the_client_and_its_exit_code_still_arrives() {
    let sshd = Sshd::start();
    let go = sshd.path("go");
    let script =
        format!("echo all; exec >&- 2>&-; while [ ! -e {} ]; do sleep 0.02; done; exit 7", go.display());
    // With an input that has ended, the client closes the channel at the end of the output; with one that is open, it waits.
    for input in [Stdio::null(), Stdio::piped()] {
        let mut client = sshd.client();
        let mut child = client.arg(&script).stdin(input).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "all\n");
        assert!(child.try_wait().unwrap().is_none(), "the command still runs");
        std::fs::write(&go, "").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        std::fs::remove_file(&go).unwrap();
    }
}

#[test]
fn a_command_that_has_closed_its_output_still_reads_its_input() {
    let sshd = Sshd::start();
    let heard = sshd.path("heard");
    let mut client = sshd.client();
    let script = format!("exec >&- 2>&-; cat >{}; exit 3", heard.display());
    let mut child = client.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(child.stdout.take().unwrap().read(&mut [0]).unwrap(), 0);
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(std::fs::read_to_string(heard).unwrap(), "hello\n");
}

#[test]
fn a_command_that_ends_first_ends_the_session_whatever_the_client_still_sends() {
    let sshd = Sshd::start();
    let zero = || Stdio::from(std::fs::File::open("/dev/zero").unwrap());
    assert_eq!(sshd.client().arg("exit 3").stdin(zero()).status().unwrap().code(), Some(3));
    let closed = sshd.client().arg("exec <&-; sleep 0.3; echo done").stdin(zero()).output().unwrap();
    assert_eq!(printed(&closed), "done\n");
}

#[test]
fn a_command_whose_output_nobody_reads_any_more_ends() {
    let sshd = Sshd::start();
    let mut client = sshd.client();
    let mut child = client.arg("yes 2>/dev/null; exit 9").stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 1000]).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    sshd.all_gone();
}

#[test]
fn all_output_arrives_before_the_end() {
    let sshd = Sshd::start();
    for command in ["head -c 3000000 /dev/zero", "head -c 3000000 /dev/zero | cat; exit 0"] {
        let output = sshd.run(command);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 3_000_000));
    }
}

#[test]
fn the_terminal_has_the_clients_size_before_the_program_runs() {
    let sshd = Sshd::start();
    let (status, text) = on_a_terminal(&sshd, &["stty size"], 43, 121).end();
    assert_eq!((status.code(), text.trim()), (Some(0), "43 121"));
}

#[test]
fn a_changed_size_reaches_the_program() {
    let sshd = Sshd::start();
    // A shell's trap doesn't hear what comes while it runs, so that the first change only is heard like this.
    let script = "trap 'stty size; trap : WINCH' WINCH; stty size; while :; do sleep 0.02; done";
    let mut terminal = on_a_terminal(&sshd, &[script], 24, 80);
    terminal.expect("24 80");
    terminal.resize(25, 81);
    terminal.expect("25 81");

    let script = "stty size; while :; do sleep 0.02; stty size; done";
    let mut terminal = on_a_terminal(&sshd, &[script], 24, 80);
    terminal.expect("24 80");
    for (rows, columns) in [(50, 132), (10, 20), (300, 500)] {
        terminal.resize(rows, columns);
        terminal.expect(&format!("{rows} {columns}"));
    }
}

#[test]
fn a_size_is_changed_while_nobody_reads_what_is_typed() {
    let sshd = Sshd::start();
    let script = "stty -icanon -echo; trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.02; done";
    let mut terminal = on_a_terminal(&sshd, &[script], 24, 80);
    terminal.expect("24 80");
    // More than the kernel keeps for a program that doesn't read.
    for _ in 0..40 {
        terminal.types(&"x".repeat(1000));
    }
    terminal.resize(50, 132);
    terminal.expect("50 132");
}

#[test]
fn modes_of_the_clients_terminal_are_the_programs() {
    let sshd = Sshd::start();
    let mut client = sshd.client();
    client.args(["-tt", "stty -a"]);
    let ssh = std::iter::once(client.get_program())
        .chain(client.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect::<Vec<_>>()
        .join(" ");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("stty intr ^X iutf8 -ixon -echoe 9600; {ssh}")]);
    let (_, text) = Terminal::start(shell, 24, 80).end();
    for mode in ["intr = ^X;", " iutf8", " -ixon", " -echoe", "speed 9600 baud"] {
        assert!(text.contains(mode), "no {mode:?} in {text}");
    }
}

#[test]
fn the_terminal_is_the_controlling_one_and_control_c_reaches_the_program() {
    let sshd = Sshd::start();
    let script = "trap 'echo interrupted; exit 3' INT; echo $(tty) >/dev/tty; while :; do sleep 0.02; done";
    let mut terminal = on_a_terminal(&sshd, &[script], 24, 80);
    terminal.expect("/dev/pts/");
    terminal.types("\x03");
    terminal.expect("interrupted");
    assert_eq!(terminal.end().0.code(), Some(3));
}

#[test]
fn the_terminal_is_told_in_the_environment_and_belongs_to_the_user() {
    let sshd = Sshd::start();
    let script = "[ \"$SSH_TTY\" = \"$(tty)\" ] && [ -O \"$SSH_TTY\" ] && stat -c %a $SSH_TTY && echo $TERM";
    let (_, text) = on_a_terminal(&sshd, &[script], 24, 80).end();
    assert_eq!(text.trim(), "620\r\nxterm-256color");
}

#[test]
fn a_shell_is_a_login_shell() {
    let sshd = Sshd::start();
    let mut terminal = on_a_terminal(&sshd, &[], 24, 200);
    terminal.types("echo \"<$0>\"; exit 5\n");
    terminal.expect("<-sh>");
    assert_eq!(terminal.end().0.code(), Some(5));

    let mut client = sshd.client();
    client.arg("-T").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = client.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"echo \"<$0>\"\n").unwrap();
    assert!(printed(&child.wait_with_output().unwrap()).contains("<-sh>"));
}

#[test]
fn a_terminal_hangs_up_when_the_client_goes() {
    let sshd = Sshd::start();
    let heard = sshd.path("heard");
    let script =
        format!("trap 'echo hup >{}; exit' HUP; echo ready; while :; do sleep 0.02; done", heard.display());
    let mut terminal = on_a_terminal(&sshd, &[&script], 24, 80);
    terminal.expect("ready");
    terminal.child.kill().unwrap();
    eventually("the program hears of it", || std::fs::read_to_string(&heard).ok().filter(|t| t == "hup\n"));
    sshd.all_gone();
}

#[test]
fn what_a_program_leaves_in_the_background_does_not_keep_its_terminal_open() {
    let sshd = Sshd::start();
    let (status, text) = on_a_terminal(&sshd, &["sleep 1000 & echo hi"], 24, 80).end();
    assert_eq!((status.code(), text.trim()), (Some(0), "hi"));
}

#[test]
fn the_environment_is_a_logins() {
    let sshd = Sshd::start();
    let text = sshd.says("env");
    let has = |line: &str| text.lines().any(|other| other == line);
    let home = format!("HOME={}", sshd.path("home").display());
    for line in ["USER=root", "LOGNAME=root", "SHELL=/bin/sh", "LANG=C.UTF-8", "MAIL=/var/mail/root", &home] {
        assert!(has(line), "no {line} in {text}");
    }
    let connection = text.lines().find_map(|line| line.strip_prefix("SSH_CONNECTION=")).unwrap();
    assert!(connection.starts_with("127.0.0.1 "), "{text}");
    assert!(connection.ends_with(&format!(" 127.0.0.1 {}", sshd.port)), "{text}");
    assert!(!text.contains("SSH_TTY=") && !text.contains("SPARKS"), "{text}");
    assert_eq!(sshd.says("pwd").trim(), sshd.path("home").to_str().unwrap());
    assert_eq!(sshd.says("umask"), "0022\n");
}

#[test]
fn the_client_sets_its_language_and_not_what_is_run() {
    let sshd = Sshd::start();
    let mut client = sshd.client();
    for set in ["LANG=de_DE.UTF-8", "LC_TIME=C", "GIT_PROTOCOL=version=2", "LD_PRELOAD=/x", "BASH_ENV=/x"] {
        client.arg(format!("-oSetEnv={set}"));
    }
    let output = client.arg("echo $LANG,$LC_TIME,$GIT_PROTOCOL,$LD_PRELOAD,$BASH_ENV").output().unwrap();
    // ssh takes the first of several SetEnv.
    assert_eq!(printed(&output), "de_DE.UTF-8,,,,\n");
    let mut client = sshd.client();
    client.args(["-oSetEnv=LC_TIME=C LD_PRELOAD=/x BASH_ENV=/x GIT_PROTOCOL=version=2"]);
    let output = client.arg("echo $LC_TIME,$GIT_PROTOCOL,$LD_PRELOAD,$BASH_ENV").output().unwrap();
    assert_eq!(printed(&output), "C,version=2,,\n");
}

#[test]
fn a_program_gets_nothing_that_the_server_has_open_or_ignores() {
    let sshd = Sshd::start();
    // 3 is what ls has open itself.
    assert_eq!(sshd.says("exec ls -m /proc/self/fd"), "0, 1, 2, 3\n");
    let signals = sshd.says("grep -E '^Sig(Blk|Ign):' /proc/self/status | tr -d '\\t'");
    assert_eq!(signals, "SigBlk:0000000000000000\nSigIgn:0000000000000000\n");
    let limit = Command::new("sh").args(["-c", "ulimit -Sn"]).output().unwrap();
    assert_eq!(sshd.says("ulimit -Sn"), printed(&limit));
}

#[test]
fn the_old_scp_needs_its_program_and_the_user_is_told() {
    // A Spark without scp.
    let sshd = Sshd::with(
        "mkdir bin; echo PATH=$PWD/bin >environment; mount --bind environment /etc/environment",
        |_, _| {},
    );
    let output = sshd.run("scp -t /tmp");
    assert_eq!(output.status.code(), Some(127));
    assert!(complaints(&output).contains("there is no scp in this Spark; use scp without -O"));
}

#[test]
fn the_sparks_own_environment_is_read() {
    let sshd = Sshd::with(
        "printf 'A=\"x y\"\\nexport B=2\\n' >e; touch /etc/environment; mount --bind e /etc/environment",
        |_, _| {},
    );
    assert_eq!(sshd.says("echo $A,$B"), "x y,2\n");
}

#[test]
fn the_message_of_the_day_is_shown_at_a_login_unless_it_is_hushed() {
    let sshd = Sshd::with("echo welcome home >motd; mount --bind motd /etc/motd", |_, _| {});
    let mut terminal = on_a_terminal(&sshd, &[], 24, 80);
    terminal.expect("welcome home\r\n");
    terminal.types("exit\n");
    terminal.end();
    assert_eq!(on_a_terminal(&sshd, &["echo hi"], 24, 80).end().1.trim(), "hi");
    std::fs::write(sshd.path("home/.hushlogin"), "").unwrap();
    let mut terminal = on_a_terminal(&sshd, &[], 24, 80);
    terminal.types("echo; exit\n");
    assert!(!terminal.end().1.contains("welcome"));
}

#[test]
fn what_a_user_wants_done_before_every_session_is_done() {
    let sshd = Sshd::start();
    std::fs::create_dir(sshd.path("home/.ssh")).unwrap();
    std::fs::write(sshd.path("home/.ssh/rc"), "read x; echo rc $x; false").unwrap();
    assert_eq!(sshd.says("echo \"$0\" 'a  b'"), "rc\nsh a  b\n");
    let mut terminal = on_a_terminal(&sshd, &[], 24, 80);
    terminal.expect("rc\r\n");
    terminal.types("echo \"<$0>\"; exit 5\n");
    terminal.expect("<-sh>");
    assert_eq!(terminal.end().0.code(), Some(5));
}
