//! Who gets in, by OpenSSH's client.
#![allow(missing_docs, clippy::unwrap_used)]

mod sshd;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use sparks_proto::{SparkName, SshServer};
use sshd::{Sshd, complaints, eventually, new_key, printed};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What every refusal says.
const REFUSED: &str = ": Permission denied (publickey).";

fn assert_refused(output: &Output) {
    assert_eq!(output.status.code(), Some(255));
    assert!(complaints(output).trim_end().ends_with(REFUSED), "{}", complaints(output));
}

/// What the server says at the end to a client of which nothing else is wrong.
fn farewell(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    let said = complaints(output);
    let (_, sentence) = said.split_once(":14: ").unwrap_or_else(|| panic!("{said}"));
    sentence.trim_end().to_owned()
}

fn run_as(sshd: &Sshd, user: &str, key: &str, command: &str) -> Output {
    let mut client = Command::new("ssh");
    // Before the other options: the first value counts.
    client.arg(format!("-oUser={user}")).args(sshd.options(&sshd.path(key)));
    client.args(["-p", &sshd.port.to_string(), "127.0.0.1", command]).output().unwrap()
}

fn sign(folder: &Path, key: &str, options: &[&str]) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-s", "ca", "-I", "alice", "-n", "root,api.team-a"])
        .args(options)
        .arg(format!("{key}.pub"))
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A server that trusts a certificate authority, whose client has the keys of these names, each with a certificate.
fn with_certificates(
    certificates: &[(&str, &[&str])],
    authority: impl FnOnce(&mut SshServer, String),
) -> Sshd {
    Sshd::with("", |server, folder| {
        server.authorized_keys.clear();
        authority(server, new_key(&folder.join("ca")));
        for (key, options) in certificates {
            new_key(&folder.join(key));
            sign(folder, key, options);
        }
    })
}

fn installation_wide(server: &mut SshServer, authority: String) {
    server.user_ca_keys.push(authority);
    server.spark = Some(SparkName { name: "api".into(), namespace: "team-a".into() });
}

fn of_a_line(server: &mut SshServer, authority: String) {
    server.authorized_keys.push(format!("cert-authority {authority}"));
}

fn try_key(sshd: &Sshd, key: &str, command: &str) -> Output {
    sshd.client_with(&sshd.path(key)).arg(command).output().unwrap()
}

#[test]
fn a_wrong_key_is_refused_in_the_same_words_for_every_user_and_a_right_one_is_told_that_there_is_none() {
    let sshd = Sshd::start();
    new_key(&sshd.path("other"));
    for name in ["root", "no-such-user"] {
        assert_refused(&run_as(&sshd, name, "other", "true"));
    }
    for name in ["no-such-user", "0", "../etc", "root:x", "\u{e9}"] {
        let told = farewell(&run_as(&sshd, name, "key", "true"));
        assert!(told.starts_with("there is no user ") && told.ends_with("adduser makes one"), "{told}");
    }
    assert_eq!(sshd.log().matches("there is no user \"no-such-user\"").count(), 1, "{}", sshd.log());
    // Compression begins with the login, and so before that sentence.
    let mut client = Command::new("ssh");
    client.args(["-C", "-oUser=nobody-here"]).args(sshd.options(&sshd.path("key")));
    let output = client.args(["-p", &sshd.port.to_string(), "127.0.0.1", "true"]).output().unwrap();
    assert!(farewell(&output).starts_with("there is no user \"nobody-here\""));
}

/// What a server's connections run to have an `/etc` with these in it.
const ETC: &str = "
    mkdir -p etc && cp passwd group shadow etc/ && { cp nologin etc/ || rm -f etc/nologin; } 2>/dev/null
    mount --bind etc /etc";

/// A server with four users and what else `files` are.
fn with_accounts(files: &[(&str, &str)]) -> Sshd {
    Sshd::with(ETC, |_, folder| {
        let users = "me:x:0:0::/:/bin/sh\nbob:x:4711:4711::/:/bin/sh\nkey:x:4712:4712::/:\n\
            zsh:x:4713:4713::/:/opt/no/zsh\nfile:x:4714:4714::/:/etc/passwd\nroot:x:0:0::/:/opt/no/zsh\n";
        for (name, text) in [("passwd", users), ("group", ""), ("shadow", "")].iter().chain(files) {
            std::fs::write(folder.join(name), text).unwrap();
        }
    })
}

#[test]
fn an_account_that_is_closed_is_entered_by_nobody_and_says_so() {
    if !is_root() {
        return;
    }
    let shadow = "bob:*:19000:0:99999:7::1:\nme:x:10:0:1:7:1::\nkey:!:19000:0:99999:7:::\n";
    let sshd = with_accounts(&[("shadow", shadow)]);
    let told = |user: &str| farewell(&run_as(&sshd, user, "key", "echo in"));
    assert!(told("bob").starts_with("the account \"bob\" has expired"));
    assert!(told("me").contains("was inactive for too long"));
    assert!(told("zsh").starts_with("the shell of \"zsh\", \"/opt/no/zsh\", is no program"));
    assert!(told("file").contains("is no program of this Spark"));
    // A password that is locked is no locked account where there is a key, and a Spark without root's shell has another.
    for user in ["key", "root"] {
        assert_eq!(printed(&run_as(&sshd, user, "key", "echo in")), "in\n", "{user}");
    }
}

#[test]
fn while_there_is_an_etc_nologin_root_alone_enters_and_everybody_else_reads_it() {
    if !is_root() {
        return;
    }
    let sshd = with_accounts(&[("nologin", "back at noon\nat the latest\n")]);
    let told = farewell(&run_as(&sshd, "bob", "key", "echo in"));
    assert!(told.ends_with("root alone may log in: back at noon\nat the latest"), "{told}");
    assert_eq!(printed(&run_as(&sshd, "me", "key", "echo in")), "in\n");
}

#[test]
fn a_shadow_database_that_is_no_file_lets_nobody_in_and_hangs_nobody() {
    if !is_root() {
        return;
    }
    let script = "mkdir -p etc && cp passwd etc/ && { mkfifo etc/shadow 2>/dev/null || true; } && mount --bind etc /etc";
    let sshd = Sshd::with(script, |_, _| {});
    assert!(farewell(&sshd.run("true")).contains("/etc/shadow cannot be read"));
}

#[test]
fn the_right_one_of_many_keys_is_found() {
    let sshd = Sshd::start();
    let mut client = Command::new("ssh");
    for n in 0..4 {
        new_key(&sshd.path(&format!("wrong{n}")));
        client.arg("-i").arg(sshd.path(&format!("wrong{n}")));
    }
    client.args(sshd.options(&sshd.path("key"))).args(["-p", &sshd.port.to_string(), "127.0.0.1", "echo in"]);
    assert_eq!(printed(&client.output().unwrap()), "in\n");
}

#[test]
fn options_of_a_key_are_kept() {
    let sshd = Sshd::with("", |server, folder| {
        let mut add = |name: &str, options: &str| {
            let key = new_key(&folder.join(name));
            server.authorized_keys.push(format!("{options} {key}"));
        };
        add("forced", "command=\"echo forced $SSH_ORIGINAL_COMMAND\"");
        add("plain", "no-pty,environment=\"TASK=a b\"");
        add("elsewhere", "from=\"192.0.2.0/24\"");
        add("expired", "expiry-time=\"20200101\"");
    });
    assert_eq!(printed(&try_key(&sshd, "forced", "id -u")), "forced id -u\n");
    assert_eq!(printed(&try_key(&sshd, "plain", "echo $TASK")), "a b\n");
    let mut client = sshd.client_with(&sshd.path("plain"));
    let output = client.args(["-tt", "tty"]).output().unwrap();
    assert!(complaints(&output).contains("PTY allocation request failed"), "{}", complaints(&output));
    assert_refused(&try_key(&sshd, "elsewhere", "true"));
    assert_refused(&try_key(&sshd, "expired", "true"));
}

#[test]
fn an_admitted_key_is_a_bare_one_and_opens_more_than_a_line_with_that_key() {
    let sshd = Sshd::with("", |server, folder| {
        let line = server.authorized_keys.remove(0);
        server.authorized_keys.push(format!("command=\"echo forced\" {line}"));
        server.admitted_keys = vec![line, format!("no-pty {}", new_key(&folder.join("with-options")))];
    });
    assert_eq!(sshd.says("echo in"), "in\n");
    assert!(sshd.log().contains("by \"kubectl exec\""), "{}", sshd.log());
    assert_refused(&try_key(&sshd, "with-options", "true"));
}

#[test]
fn certificates_are_held_to_their_time_their_principals_and_their_options() {
    let certificates: [(&str, &[&str]); 5] = [
        ("good", &["-V", "-1h:+1h"]),
        ("expired", &["-V", "-2h:-1h"]),
        ("elsewhere", &["-O", "source-address=192.0.2.0/24"]),
        ("here", &["-O", "source-address=127.0.0.0/8"]),
        ("forced", &["-O", "force-command=echo forced"]),
    ];
    for authority in [installation_wide as fn(&mut SshServer, String), of_a_line] {
        let sshd = with_certificates(&certificates, authority);
        assert_eq!(printed(&try_key(&sshd, "good", "echo in")), "in\n");
        assert_eq!(printed(&try_key(&sshd, "here", "echo in")), "in\n");
        assert_eq!(printed(&try_key(&sshd, "forced", "echo in")), "forced\n");
        assert_refused(&try_key(&sshd, "expired", "true"));
        assert_refused(&try_key(&sshd, "elsewhere", "true"));
        // The certificate's key alone is nobody's.
        std::fs::remove_file(sshd.path("good-cert.pub")).unwrap();
        assert_refused(&try_key(&sshd, "good", "true"));
    }
}

/// Certificates, and whom or what they name.
const NAMED: [(&str, &[&str]); 6] = [
    ("user", &["-n", "root"]),
    ("spark", &["-n", "api.team-a"]),
    ("namespace", &["-n", "*.team-a"]),
    ("root-of-spark", &["-n", "root+api.team-a"]),
    ("dev-of-spark", &["-n", "dev+api.team-a"]),
    ("another", &["-n", "api.team-b"]),
];

/// Which of them get in as root.
fn let_in(sshd: &Sshd) -> Vec<&'static str> {
    let keys = NAMED.into_iter().map(|(key, _)| key);
    keys.filter(|key| try_key(sshd, key, "true").status.success()).collect()
}

#[test]
fn a_certificate_of_the_installation_opens_the_sparks_that_it_names_and_no_user_name_opens_any() {
    let sshd = with_certificates(&NAMED, installation_wide);
    assert_eq!(let_in(&sshd), ["spark", "namespace", "root-of-spark"]);
}

#[test]
fn a_certificate_of_a_lines_authority_names_the_user() {
    assert_eq!(let_in(&with_certificates(&NAMED, of_a_line)), ["user"]);
}

#[test]
fn a_guest_that_does_not_know_which_spark_it_is_refuses_the_installations_certificates() {
    let sshd = with_certificates(&NAMED, |server, key| server.user_ca_keys.push(key));
    assert!(let_in(&sshd).is_empty());
}

#[test]
fn a_certificate_for_somebody_else_is_refused() {
    let sshd = with_certificates(&[("key2", &["-n", "somebody-else"])], installation_wide);
    assert_refused(&try_key(&sshd, "key2", "true"));
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let sshd = with_certificates(&[("key2", &[])], |server, _| {
        let folder = tempfile::tempdir().unwrap();
        installation_wide(server, new_key(&folder.path().join("another")));
    });
    assert_refused(&try_key(&sshd, "key2", "true"));
}

#[test]
fn where_an_authority_is_trusted_what_can_not_enter_is_refused_before_it_is_signed_for() {
    for authority in [installation_wide as fn(&mut SshServer, String), of_a_line] {
        let sshd = with_certificates(&[("good", &[]), ("other", &["-n", "somebody-else"])], authority);
        let verbose = |key: &str| {
            let mut client = sshd.client_with(&sshd.path(key));
            complaints(&client.args(["-v", "true"]).output().unwrap())
        };
        let accepted = "Server accepts key";
        assert!(verbose("good").contains(accepted));
        for key in ["key", "other"] {
            let log = verbose(key);
            assert!(log.contains("Offering public key") && !log.contains(accepted), "{key}: {log}");
        }
        let log = sshd.log();
        assert!(log.contains("the key is not known") && log.contains("names no principal"), "{log}");
    }
}

#[test]
fn a_line_that_is_no_key_lets_nobody_in_and_keeps_nobody_out() {
    let sshd = Sshd::with("", |server, _| {
        server.authorized_keys.insert(0, "ssh-ed25519 AAAA broken".into());
        server.authorized_keys.insert(0, "\u{0} \n\n#".into());
    });
    assert_eq!(sshd.says("echo in"), "in\n");
    assert!(sshd.log().contains("is left out"), "{}", sshd.log());
}

#[test]
fn a_user_of_the_sparks_database_is_taken_on_with_its_groups_home_and_shell() {
    if !is_root() {
        return;
    }
    let script = "
        echo 'garbage\nroot:x:0:0::/root:/bin/sh\ntester:x:4711:4712::/usr:/bin/sh\nclosed:x:4713:4713::/:/usr/sbin/nologin\nbare:x:4714:4714::/no/such/home:' >passwd
        echo 'one:x:5001:tester\ntwo:x:5002:other,tester' >group
        mount --bind group /etc/group";
    let sshd = Sshd::with(script, |_, _| {});
    let run = |user: &str, command: &str| run_as(&sshd, user, "key", command);
    let id = "echo $(id -u) $(id -g) $(id -G) $HOME $(pwd) $SHELL $0";
    assert_eq!(printed(&run("tester", id)), "4711 4712 4712 5001 5002 /usr /usr /bin/sh sh\n");
    // Nothing of the server's rights is left.
    let rights = run("tester", "grep -E '^(Cap(Prm|Eff)|Uid)' /proc/self/status | tr -s '\\t' ' '");
    assert_eq!(
        printed(&rights),
        "Uid: 4711 4711 4711 4711\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n"
    );
    // So is what it logs in for: its terminal, and its files.
    let mut client = Command::new("ssh");
    client.args(["-tt", "-oUser=tester"]).args(sshd.options(&sshd.path("key")));
    client.args(["-p", &sshd.port.to_string(), "127.0.0.1", "stat -c '%u %a' $(tty)"]);
    assert_eq!(printed(&client.output().unwrap()).trim(), "4711 620");
    std::fs::write(sshd.path("batch"), "pwd\n").unwrap();
    let mut sftp = Command::new("sftp");
    sftp.arg("-oUser=tester").args(sshd.options(&sshd.path("key"))).arg("-b").arg(sshd.path("batch"));
    let sftp = sftp.args(["-P", &sshd.port.to_string(), "127.0.0.1"]).output().unwrap();
    assert!(printed(&sftp).contains("Remote working directory: /usr"));
    let bare = run("bare", "echo $SHELL; pwd");
    assert_eq!(printed(&bare), "/bin/sh\n/\n");
    assert!(complaints(&bare).contains("Could not chdir to home directory /no/such/home"));
    let closed = run("closed", "echo in");
    assert_eq!(closed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&closed.stdout).contains("not available"));
}

#[test]
fn a_user_database_that_is_no_file_lets_nobody_in_and_hangs_nobody() {
    if !is_root() {
        return;
    }
    let script = "mkfifo fifo; mount --bind fifo /etc/passwd";
    let sshd = Sshd::with(script, |_, _| {});
    assert!(farewell(&sshd.run("true")).contains("/etc/passwd cannot be read"));
}

#[test]
fn the_memory_of_a_server_is_closed_to_its_user() {
    if !is_root() {
        return;
    }
    let sshd = Sshd::with("echo 'tester:x:4711:4712::/:/bin/sh' >passwd", |_, _| {});
    let mut client = Command::new("ssh");
    client.arg("-oUser=tester").args(sshd.options(&sshd.path("key"))).args(["-p", &sshd.port.to_string()]);
    let output = client.args(["127.0.0.1", "cat /proc/$PPID/environ"]).output().unwrap();
    assert!(complaints(&output).contains("Permission denied"), "{}", complaints(&output));
}

#[test]
fn garbage_and_half_a_greeting_end_that_connection_alone() {
    let sshd = Sshd::start();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 70_000], b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff"]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", sshd.port)).unwrap();
        // It may hang up before it has read all of it.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    sshd.all_gone();
    assert_eq!(sshd.says("echo in"), "in\n");
}

#[test]
fn whoever_does_not_log_in_has_a_limited_time_by_the_kernel() {
    let sshd = Sshd::start();
    let _waits = TcpStream::connect(("127.0.0.1", sshd.port)).unwrap();
    let pid = eventually("it is served", || sshd.connections().first().copied());
    // Its clock is set as soon as it speaks.
    let mut greeting = [0; 8];
    (&_waits).read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-2.0-");
    // The alarm is what ends it: SIGALRM is neither blocked nor ignored nor caught.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for mask in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let value = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap();
        assert_eq!(u64::from_str_radix(value.trim(), 16).unwrap() & (1 << 13), 0, "{mask}");
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::ALARM,
    )
    .unwrap();
    sshd.all_gone();
}
