//! Rules of `enter`, on the real binary.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

fn guest(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sparks-guest"));
    command.arg("enter").args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    guest(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs on a terminal of its own, and returns what was printed there.
fn on_a_terminal(mut command: Command) -> String {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let pty = openpt(flags).unwrap();
    grantpt(&pty).unwrap();
    unlockpt(&pty).unwrap();
    let terminal: OwnedFd = ioctl_tiocgptpeer(&pty, flags).unwrap();
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    // The command holds the terminal's other copies.
    drop(command);
    let mut printed = Vec::new();
    // Ends with EIO when nobody has the terminal open any more.
    let _ = File::from(pty).read_to_end(&mut printed);
    child.wait().unwrap();
    String::from_utf8_lossy(&printed).into_owned()
}

#[test]
fn the_terminal_has_its_size_before_the_program_runs() {
    if !is_root() {
        return;
    }
    let printed = on_a_terminal(guest(&["--tty-size", "43x121", "--", "stty", "size"]));
    assert_eq!(printed.trim(), "43 121");
}

#[test]
fn the_terminal_belongs_to_the_user() {
    if !is_root() {
        return;
    }
    let printed =
        on_a_terminal(guest(&["--user", "4711:4712", "--", "stat", "-L", "-c", "%u %a", "/proc/self/fd/0"]));
    assert_eq!(printed.trim(), "4711 620");
}

#[test]
fn a_size_without_a_terminal_is_no_error() {
    if !is_root() {
        return;
    }
    assert!(run(&["--tty-size", "24x80", "--", "true"]).status.success());
}

#[test]
fn exit_codes_are_a_shells_and_come_with_a_sentence() {
    if !is_root() {
        return;
    }
    assert_eq!(run(&["--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let missing = run(&["--", "no-such-command"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(stderr(&missing).contains("command not found: no-such-command"));
    let plain = run(&["--", "/etc/passwd"]);
    assert_eq!(plain.status.code(), Some(126));
    assert!(stderr(&plain).contains("permission denied: /etc/passwd"));
    let unknown = run(&["--user", "no-such-user", "--", "true"]);
    assert_eq!(unknown.status.code(), Some(125));
    assert!(stderr(&unknown).contains("there is no user `no-such-user`"));
    assert_eq!(run(&["--workdir", "/no/such", "--", "true"]).status.code(), Some(125));
    assert_eq!(run(&["--no-such-option"]).status.code(), Some(2));
}

#[test]
fn the_user_is_taken_on_with_its_environment_and_nothing_of_the_pods() {
    if !is_root() {
        return;
    }
    let script = "echo $(id -u) $(id -g) $(id -G); echo $HOME $USER $PWD; echo $A/$POD_SECRET; umask";
    let output = guest(&["--user", "4711:4712", "--workdir", "/tmp", "--env", "A=1", "--env", "A=2", "--"])
        .args(["sh", "-c", script])
        .env("POD_SECRET", "x")
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "4711 4712 4712\n/ 4711 /tmp\n2/\n0022\n", "{}", stderr(&output));
}

#[test]
fn a_program_begins_with_no_signal_ignored() {
    if !is_root() {
        return;
    }
    // Rust programs ignore SIGPIPE themselves.
    let ignored = stdout(&run(&["--", "grep", "SigIgn", "/proc/self/status"]));
    let mask = u64::from_str_radix(ignored.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(mask & (1 << 12), 0, "SIGPIPE: {ignored}");
}

#[test]
fn a_program_is_found_in_the_path_that_was_given() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("only-here");
    std::fs::write(&program, "#!/bin/sh\necho found\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:/bin", directory.path().display());
    assert_eq!(stdout(&run(&["--env", &path, "--", "only-here"])), "found\n");
}

#[test]
fn login_runs_the_command_in_a_login_shell() {
    if !is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".profile"), "FROM_PROFILE=yes; export FROM_PROFILE\n").unwrap();
    let home = format!("HOME={}", home.path().display());
    // bash reads .bash_profile or .profile of $HOME.
    let login =
        run(&["--env", &home, "--login", "--", "sh", "-c", "echo \"$FROM_PROFILE $1\"", "sh", "a  b"]);
    assert_eq!(stdout(&login), "yes a  b\n", "{}", stderr(&login));
    let plain = run(&["--env", &home, "--", "sh", "-c", "echo \"$FROM_PROFILE\""]);
    assert_eq!(stdout(&plain), "\n");
}

#[test]
fn another_user_can_run_the_guests_own_subcommands_through_proc_self_exe() {
    if !is_root() {
        return;
    }
    let output = run(&["--user", "4711:4712", "--", "/proc/self/exe", "--version"]);
    assert!(stdout(&output).starts_with("sparks-guest "), "{}", stderr(&output));
}
