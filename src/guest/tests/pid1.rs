//! Rules of PID 1, on the real binary in real namespaces.
#![allow(missing_docs, clippy::unwrap_used)]

mod pod;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pod::{Pod, eventually, script, text};
use rustix::process::Signal;
use sparks_proto::{FromGuest, Service, ServiceState, ToGuest};

fn hello_running(message: Option<FromGuest>) -> bool {
    match message {
        Some(FromGuest::Hello { version: sparks_proto::VERSION, running }) => running.is_some(),
        other => panic!("no hello: {other:?}"),
    }
}

#[test]
fn a_warm_guest_says_hello_and_is_not_ready() {
    let pod = Pod::start();
    let mut agent = pod.dial();
    assert!(!hello_running(agent.next()));
    assert_eq!(agent.next(), Some(FromGuest::Service(ServiceState::default())));
}

#[test]
fn a_warm_guest_exits_at_once_on_sigterm() {
    let mut pod = Pod::start();
    let began = Instant::now();
    pod.signal(Signal::TERM);
    assert_eq!(pod.exit_status().code(), Some(0));
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
}

#[test]
fn a_thousand_orphans_leave_no_zombie() {
    let pod = Pod::start();
    let done = pod.path("done");
    let mut agent = pod.greeted();
    // ( … & ) forks twice: the inner process is PID 1's as soon as the outer one has ended.
    agent.run(Some(script(&format!(
        "i=0; while [ $i -lt 1000 ]; do (true &); i=$((i+1)); done; echo done >{}; exec sleep 1000",
        done.display()
    ))));
    text(&done);
    eventually("only the service is left", || (pod.others().len() == 1).then_some(()));
    assert_eq!(pod.zombies(), 0);
}

#[test]
fn a_service_that_ends_is_restarted_after_growing_pauses() {
    let pod = Pod::start();
    let starts = pod.path("starts");
    let mut agent = pod.greeted();
    agent.run(Some(script(&format!("date +%s%N >>{}; exit 3", starts.display()))));
    agent.until_state("the exit is told", |state| {
        state.message.as_deref().is_some_and(|message| message.contains("exited with status 3"))
    });
    agent.until_state("four starts", |state| state.restarts >= 3);
    let starts: Vec<u64> = text(&starts).lines().map(|line| line.parse().unwrap()).collect();
    let pauses: Vec<_> = starts.windows(2).map(|pair| Duration::from_nanos(pair[1] - pair[0])).collect();
    for (pause, least) in pauses.iter().zip([100, 200, 400]) {
        assert!(*pause >= Duration::from_millis(least), "{pauses:?}");
    }
}

#[test]
fn sigterm_is_forwarded_and_the_service_has_its_grace() {
    let mut pod = Pod::start();
    let (up, down) = (pod.path("up"), pod.path("down"));
    let mut agent = pod.greeted();
    agent.run(Some(script(&format!(
        "trap 'sleep 0.5; echo bye >{}; exit 1' TERM; echo up >{}; while :; do sleep 0.05; done",
        down.display(),
        up.display()
    ))));
    text(&up);
    pod.signal(Signal::TERM);
    assert_eq!(pod.exit_status().code(), Some(0));
    assert_eq!(text(&down), "bye\n");
}

#[test]
fn a_service_that_ignores_sigterm_is_killed_after_its_grace() {
    let mut pod = Pod::start();
    let up = pod.path("up");
    let mut agent = pod.greeted();
    let stubborn = script(&format!("trap '' TERM; echo up >{}; while :; do sleep 0.05; done", up.display()));
    agent.run(Some(Service { grace_seconds: 1, ..stubborn }));
    text(&up);
    let began = Instant::now();
    pod.signal(Signal::INT);
    assert_eq!(pod.exit_status().code(), Some(0));
    assert!(
        (Duration::from_millis(950)..Duration::from_secs(4)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn an_agent_that_returns_does_not_disturb_the_service() {
    let pod = Pod::start();
    let starts = pod.path("starts");
    let service = script(&format!("echo $$ >>{}; exec sleep 1000", starts.display()));
    let mut agent = pod.greeted();
    agent.run(Some(service.clone()));
    agent.until_state("it runs", |state| state.ready);
    text(&starts);
    let before = pod.others();
    drop(agent);

    let mut agent = pod.dial();
    assert!(hello_running(agent.next()));
    agent.until_state("its state is told again", |state| state.ready);
    agent.run(Some(service));
    let state = agent.until_state("a run is answered", |_| true);
    assert_eq!(state, ServiceState { ready: true, restarts: 0, message: None });
    assert_eq!(pod.others(), before);
    assert_eq!(text(&starts).lines().count(), 1);
}

#[test]
fn the_newest_connection_wins() {
    let pod = Pod::start();
    let mut old = pod.greeted();
    let mut new = pod.greeted();
    assert_eq!(old.next(), None);
    new.run(None);
    assert!(new.until_state("it answers the new one", |_| true).ready);
}

#[test]
fn a_changed_service_replaces_the_old_one() {
    let pod = Pod::start();
    let (old, new) = (pod.path("old"), pod.path("new"));
    let mut agent = pod.greeted();
    agent.run(Some(script(&format!("echo x >{}; exec sleep 1000", old.display()))));
    text(&old);
    agent.run(Some(script(&format!("echo $PORT >{}; exec sleep 1000", new.display()))));
    assert_eq!(text(&new), "8080\n");
    assert_eq!(pod.others().len(), 1);
    agent.until_state("it is ready", |state| state.ready);
    agent.run(None);
    eventually("a service that isn't wanted any more is ended", || pod.others().is_empty().then_some(()));
}

#[test]
fn quiesce_leaves_only_pid_1_and_the_next_run_starts_anew() {
    let pod = Pod::start();
    let up = pod.path("up");
    // A daemon in a session of its own that wants to stay, and a stopped process.
    let service = script(&format!(
        "setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 0.05; done' & sh -c 'kill -STOP $$' & \
         sleep 0.2; echo up >>{}; exec sleep 1000",
        up.display()
    ));
    let mut agent = pod.greeted();
    agent.run(Some(service.clone()));
    text(&up);
    assert!(pod.others().len() >= 3, "{:?}", pod.others());

    agent.send(&ToGuest::Quiesce);
    agent.until("quiesced", |message| matches!(message, FromGuest::Quiesced).then_some(()));
    assert_eq!(pod.others(), Vec::<i32>::new());
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", pod.guest))
        .unwrap()
        .map(|fd| fd.unwrap().path())
        // The first three are the container runtime's, which open them outside.
        .filter(|fd| !["0", "1", "2"].iter().any(|standard| fd.ends_with(standard)))
        .map(|fd| std::fs::read_link(fd).unwrap_or_default())
        .filter(|target| target.starts_with("/") && !target.starts_with("/dev"))
        .collect();
    assert!(open.is_empty(), "{open:?}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pod.others(), Vec::<i32>::new(), "restarted while quiesced");
    assert!(!hello_running(pod.dial().next()));

    let mut agent = pod.greeted();
    agent.run(Some(service));
    agent.until_state("it runs again", |state| state.ready && state.restarts == 0);
    eventually("the service started again", || (text(&up).lines().count() == 2).then_some(()));
}

#[test]
fn a_service_runs_in_the_root_that_the_guest_was_moved_to() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let pod = Pod::start();
    let mut agent = pod.greeted();
    for name in ["first", "second"] {
        pod.pivot(name);
        agent.run(Some(script("cat /etc/root-name >>/shared/seen; exec sleep 1000")));
        eventually("the service saw its root", || text(&pod.path("seen")).contains(name).then_some(()));
        agent.send(&ToGuest::Quiesce);
        agent.until("quiesced", |message| matches!(message, FromGuest::Quiesced).then_some(()));
    }
    assert_eq!(text(&pod.path("seen")), "first\nsecond\n");
}

#[test]
fn a_warm_guest_answers_quiesce_at_once() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    agent.send(&ToGuest::Quiesce);
    agent.until("quiesced", |message| matches!(message, FromGuest::Quiesced).then_some(()));
}

/// Answers connections with that status until told to stop.
fn answer(listener: &TcpListener, status: &str, times: usize) {
    for _ in 0..times {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 512]);
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
}

#[test]
fn readiness_follows_the_http_answers() {
    let pod = Pod::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut agent = pod.greeted();
    agent.run(Some(Service { port, readiness_path: Some("/ready".into()), ..script("exec sleep 1000") }));
    let message_has =
        |state: &ServiceState, text: &str| state.message.as_deref().is_some_and(|m| m.contains(text));
    agent.until_state("nobody listens", |state| !state.ready && message_has(state, "refused"));

    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    answer(&listener, "503 Busy", 1);
    agent.until_state("it is busy", |state| !state.ready && message_has(state, "answered 503"));
    answer(&listener, "200 OK", 1);
    assert_eq!(agent.until_state("it is ready", |state| state.ready).message, None);
}

#[test]
fn what_keeps_a_service_from_starting_is_told_in_a_sentence() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    let good = script("exec sleep 1000");
    let command = |program: &str| Service { command: vec![program.into()], ..good.clone() };
    let not_executable = pod.path("plain");
    std::fs::write(&not_executable, "x").unwrap();
    for (service, sentence) in [
        (Service { user: Some("no-such-user".into()), ..good.clone() }, "there is no user `no-such-user`"),
        (
            Service { working_dir: Some("/no/such/dir".into()), ..good.clone() },
            "working directory /no/such/dir",
        ),
        (command("no-such-command"), "command not found: no-such-command"),
        (command(not_executable.to_str().unwrap()), "permission denied"),
    ] {
        agent.run(Some(service));
        agent.until_state(sentence, |state| {
            !state.ready && state.message.as_deref().is_some_and(|message| message.contains(sentence))
        });
    }
}

#[test]
fn a_service_begins_with_a_clean_process() {
    let pod = Pod::start();
    let seen = pod.path("seen");
    let mut agent = pod.greeted();
    let service = script(&format!(
        "{{ ls -m /proc/$$/fd; readlink /proc/$$/fd/0; pwd; \
         grep -E '^Sig(Blk|Ign):' /proc/$$/status | tr -d '\\t' | tr '\\n' ' '; \
         cut -d' ' -f1,5,6 /proc/$$/stat; echo $HOSTNAME $GREETING $LANG; echo end; }} >{}",
        seen.display()
    ));
    agent.run(Some(Service { env: vec![("GREETING".into(), "hello".into())], ..service }));
    let text = eventually("the service wrote", || {
        std::fs::read_to_string(&seen).ok().filter(|text| text.ends_with("end\n"))
    });
    let lines: Vec<_> = text.lines().collect();
    // 10 is the shell's own: where it keeps standard output during the redirection.
    assert_eq!(lines[0].replace(" 10,", ""), "0, 1, 2", "{text}");
    assert_eq!(lines[1..3], ["/dev/null", "/"], "{text}");
    assert!(lines[3].starts_with("SigBlk:0000000000000000 SigIgn:0000000000000000 "), "{text}");
    let ids: Vec<_> = lines[3].rsplit_once(":0000000000000000 ").unwrap().1.split(' ').collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "leads neither a session nor a group: {text}");
    assert_eq!(lines[4], "test hello C.UTF-8");
}

#[test]
fn a_service_runs_as_its_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let pod = Pod::start();
    let seen = pod.path("seen");
    std::fs::write(&seen, "").unwrap();
    let path = pod.scratch.path();
    for open in [path, &seen] {
        std::fs::set_permissions(open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let mut agent = pod.greeted();
    let service = script(&format!("echo $(id -u) $(id -g) $(id -G) $HOME >{}; exec sleep 9", seen.display()));
    agent.run(Some(Service { user: Some("4711:4712".into()), ..service }));
    assert_eq!(text(&seen), "4711 4712 4712 /\n");
}

#[test]
fn a_peer_inside_the_pod_is_refused() {
    let pod = Pod::start();
    let result = pod.path("result");
    let folder = std::env::current_exe().unwrap().parent().and_then(|deps| deps.parent()).unwrap().to_owned();
    let peer = folder.join("examples/inside-peer");
    let command = [peer.to_str().unwrap(), &pod.socket, result.to_str().unwrap()].map(Into::into).into();
    let service = Service { command, ..script("") };
    let mut agent = pod.greeted();
    agent.run(Some(service));
    assert_eq!(text(&result), "0\n", "a peer inside was spoken to");
    // It has not taken over either.
    agent.send(&ToGuest::Quiesce);
    agent.until("the agent is still heard", |message| matches!(message, FromGuest::Quiesced).then_some(()));
}

#[test]
fn garbage_closes_the_connection_and_nothing_else() {
    let pod = Pod::start();
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x02{}", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0"] {
        let mut agent = pod.greeted();
        agent.send_garbage(garbage);
        assert_eq!(agent.next(), None, "{garbage:?}");
    }
    let mut agent = pod.greeted();
    agent.run(None);
    assert!(agent.until_state("it still works", |_| true).ready);
}

#[test]
fn use_by_anybody_but_the_service_is_told() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    agent.run(Some(script("sleep 1000 & exec sleep 1000")));
    let idle = |message: &FromGuest| match message {
        FromGuest::Idle { for_seconds } => Some(*for_seconds),
        _ => None,
    };
    assert_eq!(agent.until("it is idle", idle), Some(0));
    // As kubectl exec does.
    let mut visitor = Command::new("nsenter")
        .args(["--target", &pod.guest.to_string(), "--pid", "--mount", "sleep", "1000"])
        .spawn()
        .unwrap();
    assert_eq!(agent.until("it is in use", idle), None);
    visitor.kill().unwrap();
    visitor.wait().unwrap();
    drop(agent);
    let mut agent = pod.greeted();
    agent.until("an agent that returns is told", idle);
}

#[test]
fn by_hand_it_refuses_to_be_pid_1() {
    let output = Command::new(env!("CARGO_BIN_EXE_sparks-guest")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PID 1 of a Spark's pod"));
}

/// Makes whoever executes or opens that file wait until the lease is dropped, or 45 seconds (fcntl(2)).
fn lease(path: &Path) -> File {
    let file = File::open(path).unwrap();
    // SAFETY: no memory is involved. The signal tells that somebody waits, and would end the tests.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    eventually("nobody else has it open", || {
        // SAFETY: as above.
        (unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) } == 0).then_some(())
    });
    file
}

#[test]
fn a_program_whose_execution_is_held_up_holds_up_nothing_else() {
    let pod = Pod::start();
    let program = pod.path("program");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lease = lease(&program);
    let service = Service { command: vec![program.to_str().unwrap().into()], ..script("") };
    let mut agent = pod.greeted();
    agent.run(Some(service.clone()));
    eventually("there is a process", || (pod.others().len() == 1).then_some(()));
    agent.send(&ToGuest::Quiesce);
    agent.until("quiesced", |message| matches!(message, FromGuest::Quiesced).then_some(()));
    assert!(pod.others().is_empty());

    agent.run(Some(service));
    eventually("there is a process again", || (pod.others().len() == 1).then_some(()));
    drop(lease);
    let state = agent.until_state("it runs", |state| state.ready);
    assert_eq!((state.restarts, state.message), (0, None));
}

#[test]
fn pid_1_has_one_thread_as_forking_demands() {
    let pod = Pod::start();
    let mut agent = pod.greeted();
    agent.run(Some(Service { readiness_path: Some("/".into()), ..script("exec sleep 1000") }));
    agent.until_state("it runs", |state| state.message.is_some());
    assert_eq!(std::fs::read_dir(format!("/proc/{}/task", pod.guest)).unwrap().count(), 1);
}
