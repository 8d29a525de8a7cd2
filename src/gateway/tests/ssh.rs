//! SSH through the gateway, with OpenSSH's client.
#![allow(clippy::unwrap_used)]

mod gateway;
#[path = "ssh/shares.rs"]
mod shares;
#[path = "ssh/strangers.rs"]
mod strangers;

use std::{process::Stdio, sync::Arc, time::Duration};

use futures::future::join_all;
use gateway::{ALICE, CA, Gateway, MALLORY, Options, PATIENCE, client, guest::Behaviour, public};
use sparks_api::{Recording, SparkPhase};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
    time::timeout,
};

const API: &str = "api.team-a@gw";

#[tokio::test]
async fn a_command_gets_its_input_and_gives_its_output_errors_and_exit_status() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.api().await;
    let said = gateway.run(&[API, "echo hello"]).await;
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (Some(0), "hello\n", ""));
    let said = gateway.run(&[API, "complain no"]).await;
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (Some(1), "", "no\n"));
    assert_eq!(gateway.run(&[API, "exit 42"]).await.status, Some(42));
    let much = "0123456789abcdef".repeat(256 << 10);
    let said = gateway.run_with(&[API, "cat"], much.clone().into_bytes()).await;
    assert!(said.status == Some(0) && said.out == much);
}

#[tokio::test]
async fn many_channels_of_one_connection_and_many_connections_work_at_once() {
    let gateway = Gateway::start(Options::default()).await;
    let mut guest = gateway.api().await;
    let socket = gateway.path("master");
    let socket = socket.to_str().unwrap();
    let mut master = gateway.ssh(&["-M", "-S", socket, API, "wait"]).spawn().unwrap();
    let mut lines = BufReader::new(master.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "waiting");
    let numbers: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    let commands: Vec<_> = numbers.iter().map(|n| format!("echo {n}")).collect();
    let shared = commands.iter().map(|command| [["-S", socket], [API, command]].concat());
    for (said, number) in
        join_all(shared.map(async |arguments| gateway.run(&arguments).await)).await.iter().zip(&numbers)
    {
        assert_eq!((said.status, said.out.trim()), (Some(0), number.as_str()), "{said:?}");
    }
    let own = commands.iter().take(8).map(async |command| gateway.run(&[API, command]).await);
    assert!(join_all(own).await.iter().all(|said| said.status == Some(0)));
    let mut connections = 0;
    while guest.entered.try_recv().is_ok() {
        connections += 1;
    }
    assert_eq!(connections, 9);
    master.kill().await.unwrap();
}

#[tokio::test]
async fn the_guest_is_told_who_comes_as_whom_and_what_they_may_do() {
    let gateway = Gateway::start(Options::default()).await;
    let line = format!("no-pty,permitopen=\"localhost:80\" {} alice@laptop", public(ALICE));
    let mut guest = gateway.spark("api.team-a", &[line], Behaviour::Serve).await;
    assert_eq!(gateway.run(&[API, "exit 0"]).await.status, Some(0));
    let (user, context) = guest.entered.recv().await.unwrap();
    let context = context.unwrap();
    assert_eq!(user, "dev", "the Spark's default user");
    assert_eq!(context.server, gateway.address);
    assert!(context.client.ip().is_loopback() && context.client.port() != 0);
    assert!(!context.permissions.pty && context.permissions.may_open("localhost", 80));
    assert!(context.key.starts_with("SHA256:") && context.key.ends_with(" alice@laptop"), "{}", context.key);
    assert_eq!(gateway.run(&["root+api.team-a@gw", "exit 0"]).await.status, Some(0));
    assert_eq!(guest.entered.recv().await.unwrap().0, "root");
}

#[tokio::test]
async fn wrong_keys_unknown_sparks_and_strange_names_are_refused_with_the_same_words() {
    for with_ca in [false, true] {
        let gateway = Gateway::start(Options { with_ca, ..Options::default() }).await;
        let _guest = gateway.api().await;
        let _other = gateway.spark("web.team-a", &[public(MALLORY)], Behaviour::Serve).await;
        let refusal = |name: &str| format!("{name}@127.0.0.1: Permission denied (publickey).\n");
        for name in
            ["api.team-a", "nothing.team-a", "api.team-b", "API.TEAM", "a+b+c.d", "x/../y", "x..team-a"]
        {
            let said = client::finish(gateway.ssh_of_mallory(&["-l", name, "gw", "exit 0"])).await;
            assert_eq!((said.status, said.err), (Some(255), refusal(name)));
        }
        let before = gateway.sparks.lookups();
        assert_eq!(gateway.run(&["-l", "API.TEAM", "gw", "exit 0"]).await.status, Some(255));
        assert_eq!(gateway.sparks.lookups(), before, "a name that can't be is not looked up");
    }
}

#[tokio::test]
async fn where_an_authority_is_trusted_what_can_not_enter_is_refused_before_it_is_signed_for() {
    let gateway = Gateway::start(Options { with_ca: true, ..Options::default() }).await;
    let _guest = gateway.spark("api.team-a", &[], Behaviour::Serve).await;
    let log = async |name: &str| gateway.run(&["-v", "-l", name, "gw", "exit 0"]).await.err;
    let accepted = "Server accepts key";
    // The bare key first, which nobody knows, then with certificates.
    for name in ["api.team-a", "none.team-a", "jump", "a+b+c.d"] {
        let log = log(name).await;
        assert!(log.contains("Offering public key") && !log.contains(accepted), "{name}: {log}");
    }
    for (principals, name, enters) in [
        ("*.team-a", "api.team-a", true),
        ("*.team-a", "none.team-a", false),
        ("web.team-a", "api.team-a", false),
        ("web.team-a", "jump", true),
    ] {
        gateway.certify(principals, &[]).await;
        let log = log(name).await;
        assert!(log.contains("Offering public key"), "{log}");
        assert_eq!(log.contains(accepted), enters, "{principals} at {name}: {log}");
    }
}

#[tokio::test]
async fn the_right_key_is_found_after_wrong_ones() {
    let gateway = Gateway::start(Options { with_ca: true, ..Options::default() }).await;
    let _guest = gateway.api().await;
    let mallory = gateway.path("mallory");
    let said = gateway.run(&["-i", mallory.to_str().unwrap(), API, "echo in"]).await;
    assert_eq!((said.status, said.out.as_str()), (Some(0), "in\n"), "{said:?}");
}

#[tokio::test]
async fn a_certificate_lets_in_where_its_principals_say() {
    let gateway = Gateway::start(Options { with_ca: true, ..Options::default() }).await;
    let mut guest = gateway.spark("api.team-a", &[], Behaviour::Serve).await;
    assert_eq!(gateway.run(&[API, "exit 0"]).await.status, Some(255), "the bare key is not known");
    for (principals, options, enters) in [
        ("api.team-a", &["-O", "no-pty"][..], true),
        ("other,*.team-a", &[], true),
        ("web.team-a", &[], false),
        ("dev", &[], false),
        ("api.team-a", &["-V", "20200101:20200102"], false),
        ("api.team-a", &["-O", "source-address=10.0.0.0/8"], false),
    ] {
        gateway.certify(principals, options).await;
        let status = gateway.run(&[API, "exit 0"]).await.status;
        assert_eq!(status == Some(0), enters, "{principals} {options:?}");
    }
    let context = guest.entered.recv().await.unwrap().1.unwrap();
    assert!(context.key.ends_with(" alice") && !context.permissions.pty, "{context:?}");
}

#[tokio::test]
async fn an_authority_of_the_spark_lets_in_without_one_of_the_installation() {
    let gateway = Gateway::start(Options::default()).await;
    let line = format!("cert-authority,principals=\"ops\" {}", public(CA));
    let _guest = gateway.spark("api.team-a", &[line], Behaviour::Serve).await;
    gateway.certify("ops", &["-O", "force-command=echo forced"]).await;
    assert_eq!(gateway.run(&[API, "exit 0"]).await.status, Some(0));
    gateway.certify("dev", &[]).await;
    assert_eq!(gateway.run(&[API, "exit 0"]).await.status, Some(255));
}

#[tokio::test]
async fn a_jump_leads_to_the_sparks_that_know_the_key_and_nowhere_else() {
    let gateway =
        Gateway::start(Options { default_namespace: Some("team-a".into()), ..Options::default() }).await;
    let mut guest = gateway.api().await;
    let _web = gateway.spark("web.team-b", &[public(MALLORY)], Behaviour::Serve).await;
    for jump in ["jump@gw", "alice@gw"] {
        let much = "0123456789abcdef".repeat(64 << 10);
        let said = gateway.run_with(&["-J", jump, "root@api.team-a", "cat"], much.clone().into_bytes()).await;
        assert!(said.status == Some(0) && said.out == much, "{:?} {}", said.status, said.err);
        assert_eq!(guest.entered.recv().await.unwrap(), ("root".to_owned(), None), "from end to end");
    }
    let refused = |host: &str| {
        format!(
            "channel 0: open failed: administratively prohibited: {host} does not exist, or does not know your key\n"
        )
    };
    for host in ["web.team-b", "none.team-b"] {
        let said = gateway.run(&["-J", "jump@gw", &format!("root@{host}"), "exit 0"]).await;
        assert_eq!(said.status, Some(255));
        assert!(said.err.starts_with(&refused(host)), "{}", said.err);
    }
    for (host, port) in [("127.0.0.1", gateway.address.port().to_string()), ("api.team-a", "8080".into())] {
        let said = gateway.run(&["-W", &format!("{host}:{port}"), "jump@gw"]).await;
        assert!(said.err.contains("only leads to SPARK.NAMESPACE port 22"), "{}", said.err);
    }
    let said = gateway.run(&["jump@gw", "id"]).await;
    assert_eq!(said.status, Some(1));
    assert!(said.err.starts_with("this gateway has no shell"), "{}", said.err);
    let said = gateway.run(&["apj@gw", "id"]).await;
    let told = "there is no Spark \"apj\" in namespace \"team-a\", and this gateway has no shell";
    assert!(said.status == Some(1) && said.err.starts_with(told), "{}", said.err);
}

#[tokio::test]
async fn whoever_no_spark_knows_does_not_jump() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.spark("api.team-a", &[public(MALLORY)], Behaviour::Serve).await;
    let said = gateway.run(&["jump@gw", "exit 0"]).await;
    assert_eq!(said.err, "jump@127.0.0.1: Permission denied (publickey).\n");
}

#[tokio::test]
async fn a_spark_whose_sessions_must_be_recorded_is_not_jumped_to_and_not_entered_without_a_recorder() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.api().await;
    gateway.sparks.change("api.team-a", |spark| {
        spark.status.as_mut().unwrap().ssh.as_mut().unwrap().recording = Recording::Required;
    });
    let said = gateway.run(&["-J", "jump@gw", "root@api.team-a", "exit 0"]).await;
    assert!(said.err.contains("sessions of api.team-a are recorded"), "{}", said.err);
    let said = gateway.run(&[API, "exit 0"]).await;
    assert_eq!(said.status, Some(255));
    assert!(
        said.err.starts_with("sessions of api must be recorded, and this one can't be: "),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn a_guest_that_can_not_be_entered_is_told_of_in_the_session() {
    for (behaviour, sentence) in [
        (Behaviour::Impostor, "its host key is another one"),
        (Behaviour::Garbage, "the SSH server of api.team-a fails: "),
        (Behaviour::Huge, "the SSH server of api.team-a fails: "),
        (Behaviour::Stranger, "api.team-a refuses the login as dev"),
    ] {
        let gateway = Gateway::start(Options::default()).await;
        let _guest = gateway.spark("api.team-a", &[public(ALICE)], behaviour).await;
        let _other = gateway.spark("web.team-a", &[public(ALICE)], Behaviour::Serve).await;
        let said = gateway.run(&[API, "exit 0"]).await;
        assert_eq!((said.status, said.out.as_str()), (Some(255), ""), "{behaviour:?}");
        assert!(said.err.contains(sentence), "{behaviour:?}: {}", said.err);
        assert_eq!(gateway.run(&["web.team-a@gw", "exit 0"]).await.status, Some(0), "others are well");
    }
}

#[tokio::test]
async fn a_guest_that_says_nothing_is_given_up() {
    let guest_within = Duration::from_millis(200);
    let gateway = Gateway::start(Options { guest_within, ..Options::default() }).await;
    let _guest = gateway.spark("api.team-a", &[public(ALICE)], Behaviour::Silent).await;
    let said = gateway.run(&[API, "exit 0"]).await;
    assert_eq!(
        (said.status, said.err.as_str()),
        (Some(255), "the SSH server of api.team-a does not answer\n")
    );
}

#[tokio::test]
async fn a_client_without_a_session_is_told_with_the_goodbye() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.spark("api.team-a", &[public(ALICE)], Behaviour::Impostor).await;
    let said = gateway.run(&["-N", API]).await;
    assert_eq!(said.status, Some(255));
    assert!(said.err.contains("its host key is another one"), "{}", said.err);
}

#[tokio::test]
async fn a_stopped_spark_is_left_alone_and_the_client_is_told_how_to_start_it() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.api().await;
    gateway.sparks.change("api.team-a", |spark| spark.spec.lifecycle.running = false);
    let said = gateway.run(&[API, "exit 0"]).await;
    assert_eq!(
        (said.status, said.err.as_str()),
        (Some(255), "api.team-a is stopped: spark start api -n team-a\n")
    );
}

#[tokio::test]
async fn a_spark_at_an_address_that_no_pod_can_have_does_not_answer() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.api().await;
    gateway.sparks.change("api.team-a", |spark| {
        spark.status.as_mut().unwrap().pod_ip = Some("169.254.169.254".into());
    });
    let said = gateway.run(&[API, "exit 0"]).await;
    let sentence =
        format!("api.team-a does not answer at 169.254.169.254:{}: host unreachable\n", gateway.guest_port());
    assert_eq!((said.status, said.err), (Some(255), sentence));
}

#[tokio::test]
async fn a_sleeping_spark_is_waited_for_and_the_client_sees_that() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.api().await;
    gateway.sparks.fall_asleep("api.team-a");
    let mut client = gateway.ssh(&[API, "echo awake"]).spawn().unwrap();
    let mut errors = BufReader::new(client.stderr.take().unwrap()).lines();
    assert_eq!(errors.next_line().await.unwrap().unwrap(), "Waking api.team-a ...");
    gateway.sparks.change("api.team-a", |spark| {
        let status = spark.status.as_mut().unwrap();
        (status.phase, status.sleeping_since) = (SparkPhase::Running, None);
    });
    let output = timeout(PATIENCE, client.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"awake\n".as_slice()));
}

#[tokio::test]
async fn when_one_side_goes_the_other_one_is_let_go() {
    let gateway = Gateway::start(Options::default()).await;
    let mut guest = gateway.api().await;
    let mut client = gateway.ssh(&[API, "wait"]).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "waiting");
    client.kill().await.unwrap();
    assert_eq!(timeout(PATIENCE, guest.ended.recv()).await.unwrap(), Some(Some("dev".into())));
    let mut client = gateway.ssh(&[API, "wait"]).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "waiting");
    drop(guest);
    assert_eq!(timeout(PATIENCE, client.wait()).await.unwrap().unwrap().code(), Some(255));
}

#[tokio::test]
async fn connections_that_do_not_authenticate_give_way_to_newer_ones() {
    let mut options = Options::default();
    options.limits.ssh_max_startups_per_source = 4;
    let gateway = Gateway::start(options).await;
    let _guest = gateway.api().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    assert_eq!(gateway.run(&[API, "exit 0"]).await.status, Some(0));
    for mut stream in idle.drain(..196) {
        let mut all = Vec::new();
        // An end or a reset, but no wait.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("cut");
    }
}

#[tokio::test]
async fn a_client_that_takes_too_long_to_authenticate_is_cut() {
    let mut options = Options::default();
    options.limits.ssh_login_grace = Duration::from_millis(100);
    let gateway = Gateway::start(options).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut all = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("cut");
    assert!(all.starts_with(b"SSH-2.0-"));
}

#[tokio::test]
async fn a_gateway_that_ends_takes_nobody_new_and_lets_those_who_are_there_go_on() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.api().await;
    let mut client = gateway.ssh(&[API, "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut lines = BufReader::new(output).lines();
    let mut say = async |text: &str| {
        tokio::io::AsyncWriteExt::write_all(&mut input, text.as_bytes()).await.unwrap();
        lines.next_line().await.unwrap().unwrap()
    };
    assert_eq!(say("before\n").await, "before");
    gateway.stop.cancel();
    while TcpStream::connect(gateway.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(say("after\n").await, "after");
    assert!(!gateway.server.is_finished());
    client.kill().await.unwrap();
    timeout(PATIENCE, gateway.server).await.unwrap().unwrap();
}

mod tapped {
    use bytes::Bytes;
    use futures::future::BoxFuture;
    use sparks_gateway::ssh::{
        Record, Recorded,
        relay::{Side, Tap},
    };
    use sparks_ssh::wire::{Message, RequestKind};
    use tokio::sync::mpsc;

    use super::*;

    /// Notes commands, and refuses one of them.
    struct Notes(mpsc::UnboundedSender<String>);

    struct Recorder(mpsc::UnboundedSender<String>);

    impl Record for Recorder {
        fn tap(&self, recorded: Recorded) -> BoxFuture<'_, Result<Box<dyn Tap>, String>> {
            self.0
                .send(format!("{} {}", recorded.spark.metadata.name.clone().unwrap(), recorded.user))
                .unwrap();
            let tap: Box<dyn Tap> = Box::new(Notes(self.0.clone()));
            Box::pin(async move { Ok(tap) })
        }
    }

    impl Tap for Notes {
        fn pass(&mut self, from: Side, packet: &Bytes) -> Result<(), String> {
            let Ok(Message::Request { kind: RequestKind::Exec { command }, .. }) =
                Message::parse(packet.clone())
            else {
                return Ok(());
            };
            assert_eq!(from, Side::Client);
            let command = String::from_utf8(command.to_vec()).unwrap();
            let refused = command == "echo secret";
            self.0.send(command).unwrap();
            if refused { Err("the disk of the recordings is full".into()) } else { Ok(()) }
        }

        fn finish(self: Box<Self>) -> BoxFuture<'static, ()> {
            self.0.send("finished".into()).unwrap();
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn a_tap_sees_what_passes_and_can_end_the_connection() {
        let (notes, mut noted) = mpsc::unbounded_channel();
        let recorder: Arc<dyn Record> = Arc::new(Recorder(notes));
        let gateway = Gateway::start(Options { recorder: Some(recorder), ..Options::default() }).await;
        let _guest = gateway.api().await;
        gateway.sparks.change("api.team-a", |spark| {
            spark.status.as_mut().unwrap().ssh.as_mut().unwrap().recording = Recording::Required;
        });
        assert_eq!(gateway.run(&[API, "echo public"]).await.out, "public\n");
        let said = gateway.run(&[API, "echo secret"]).await;
        assert_eq!((said.status, said.out.as_str()), (Some(255), ""));
        assert!(said.err.contains("the disk of the recordings is full"), "{}", said.err);
        let mut all = Vec::new();
        while all.iter().filter(|note| *note == "finished").count() < 2 {
            all.push(timeout(PATIENCE, noted.recv()).await.unwrap().unwrap());
        }
        assert_eq!(all, ["api dev", "echo public", "finished", "api dev", "echo secret", "finished"]);
    }
}
