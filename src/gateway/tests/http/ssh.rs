//! SSH that comes by way of HTTP, to a guest that is a TCP server.

use std::{sync::Mutex, time::Duration};

use http::{Method, Request, Version};
use jiff::Timestamp;
use socket2::SockRef;
use spark_client::access::Scope;
use sparks_api::{Recording, SshStatus};
use sparks_gateway::{directory::WakeError, http::Flags};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
};

use super::{
    client::{Answer, Body, ask, empty, get, http2, raw},
    service::{Service, read_head},
    world::{DOMAIN, NAMESPACE, State, World, good_token, host, hour, key, token},
};

const PATH: &str = "/.sparks/ssh";
const UPGRADE: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "sparks-ssh")];

/// A guest that says again what it hears, and ends when it has heard the end.
async fn echo() -> Service {
    Service::raw(|mut stream, _| {
        Box::pin(async move {
            let (mut reads, mut writes) = stream.split();
            // A client that breaks off is seen elsewhere.
            let _ = tokio::io::copy(&mut reads, &mut writes).await;
        })
    })
    .await
}

/// A guest that does something with its one connection.
async fn guest<F>(serve: impl FnOnce(TcpStream) -> F + Send + Sync + 'static) -> Service
where
    F: Future<Output = ()> + Send + 'static,
{
    let once = Mutex::new(Some(serve));
    Service::raw(move |stream, _| Box::pin(once.lock().unwrap().take().unwrap()(stream))).await
}

async fn world(guest: &Service) -> World {
    World::ssh(guest.port, Flags::default()).await
}

/// Asks for SSH, with these headers besides.
fn ssh(name: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    get(name, path, &[&UPGRADE, headers].concat())
}

fn head() -> String {
    let (host, token) = (host("api"), good_token());
    format!(
        "GET {PATH} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: sparks-ssh\r\nsparks-token: {token}\r\n\r\n"
    )
}

/// A connection on which SSH may begin.
async fn open(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(head().as_bytes()).await.unwrap();
    switched(&mut stream).await;
    stream
}

async fn switched(stream: &mut TcpStream) {
    let head = read_head(stream).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nupgrade: sparks-ssh\r\n"), "{head}");
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

async fn said_again(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut heard = vec![0; bytes.len()];
    stream.write_all(bytes).await.unwrap();
    stream.read_exact(&mut heard).await.unwrap();
    heard == bytes
}

#[tokio::test]
async fn bytes_pass_both_ways_unchanged() {
    let guest = echo().await;
    let world = world(&guest).await;
    let mut stream = open(&world).await;
    assert!(said_again(&mut stream, b"SSH-2.0-x\r\n").await);
    let sent = pattern(16 << 20);
    let (mut reads, mut writes) = stream.split();
    let writes = async {
        writes.write_all(&sent).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let (_, ()) = tokio::join!(reads.read_to_end(&mut heard), writes);
    assert!(heard == sent);
    assert_eq!(world.sparks.active(), 1);
}

#[tokio::test]
async fn what_comes_right_behind_the_head_comes_first() {
    let guest = echo().await;
    let world = world(&guest).await;
    for length in [1, 1000, 1 << 20] {
        let sent = [head().as_bytes(), &pattern(length)].concat();
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let (mut reads, mut writes) = stream.split();
        let mut heard = Vec::new();
        let writes = async {
            writes.write_all(&sent).await.unwrap();
            writes.write_all(b"later").await.unwrap();
            writes.shutdown().await.unwrap();
        };
        let (_, ()) = tokio::join!(reads.read_to_end(&mut heard), writes);
        let body = heard.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        assert!(heard[body..] == [&pattern(length), &b"later"[..]].concat(), "{length}");
    }
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_still_hears_the_guest() {
    let guest = guest(|mut stream| async move {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        stream.write_all(format!("{heard};bye").as_bytes()).await.unwrap();
    })
    .await;
    let mut stream = open(&world(&guest).await).await;
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello;bye");
}

#[tokio::test]
async fn a_guest_that_has_ended_its_side_still_hears_the_client() {
    let (tell, told) = oneshot::channel();
    let guest = guest(|mut stream| async move {
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        tell.send(heard).unwrap();
    })
    .await;
    let mut stream = open(&world(&guest).await).await;
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    stream.write_all(b"late").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!((heard.as_str(), told.await.unwrap().as_str()), ("hello", "late"));
}

#[tokio::test]
async fn a_guest_that_breaks_off_ends_a_client_that_says_nothing() {
    let guest = guest(|mut stream| async move {
        stream.read_u8().await.unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let world = world(&guest).await;
    let mut stream = open(&world).await;
    stream.write_u8(0).await.unwrap();
    // It ends, in whichever way, and the gateway waits for no more of it.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    world.stop.cancel();
    world.served.await.unwrap();
}

#[tokio::test]
async fn a_client_that_breaks_off_ends_a_guest_that_says_nothing() {
    let (tell, told) = oneshot::channel();
    let guest = guest(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
        tell.send(()).unwrap();
    })
    .await;
    let stream = open(&world(&guest).await).await;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    told.await.unwrap();
}

#[tokio::test]
async fn only_a_token_in_a_header_opens_it_also_where_the_service_is_public() {
    let guest = echo().await;
    let world = world(&guest).await;
    let token = good_token();
    let cookie = format!("sparks-token={token}");
    let (own, bearer) = (format!("http://{}", host("api")), format!("Bearer {token}"));
    for is_public in [false, true] {
        world.sparks.put("api", is_public, 1, State::Up);
        for request in [
            ssh("api", PATH, &[]),
            ssh("api", PATH, &[("cookie", &cookie), ("origin", &own)]),
            ssh("api", &format!("{PATH}?sparks-token={token}"), &[]),
        ] {
            let answer = ask(&world, request).await;
            assert_eq!(
                (answer.status.as_u16(), answer.body.as_str()),
                (401, "sign in: spark url api -n team\n")
            );
        }
        assert_eq!((guest.connections(), world.sparks.active(), world.sparks.waits()), (0, 0, 0));
    }
    assert_eq!(ask(&world, ssh("api", PATH, &[("authorization", &bearer)])).await.status, 101);
}

#[tokio::test]
async fn who_may_not_come_in_gets_the_answers_of_http() {
    let guest = echo().await;
    let world = world(&guest).await;
    let scope = |name| Scope::spark(NAMESPACE, name);
    let said = async |request: Request<Body>| {
        let mut answer: Answer = ask(&world, request).await;
        answer.headers.remove("date");
        format!("{answer:?}")
    };
    for (status, name, token) in [
        (401, "api", String::new()),
        (401, "api", token(&scope("other"))),
        (401, "api", key("other").unwrap().mint(&scope("api"), hour())),
        (401, "api", key(NAMESPACE).unwrap().mint(&scope("api"), Timestamp::UNIX_EPOCH)),
        (401, "nope", String::new()),
        (401, "nope", good_token()),
        (404, "nope", token(&Scope::namespace(NAMESPACE))),
    ] {
        let headers = [("sparks-token", token.as_str())];
        let answer = said(ssh(name, PATH, &headers)).await;
        assert!(answer.contains(&format!("status: {status}")), "{answer}");
        assert_eq!(answer, said(get(name, "/", &headers)).await);
    }
    assert_eq!((guest.connections(), world.sparks.waits()), (0, 0));
}

#[tokio::test]
async fn a_spark_whose_sessions_must_be_recorded_is_not_reached() {
    let guest = echo().await;
    let world = world(&guest).await;
    let token = good_token();
    for (recording, status) in
        [(Recording::Required, 403), (Recording::On, 101), (Recording::Off, 101), (Recording::Required, 403)]
    {
        let ssh_status = SshStatus { recording, ..Default::default() };
        world.sparks.change("api", |spark| spark.status.as_mut().unwrap().ssh = Some(ssh_status));
        let answer = ask(&world, ssh("api", PATH, &[("sparks-token", &token)])).await;
        assert_eq!(answer.status, status);
        if status == 403 {
            assert_eq!(
                answer.body,
                "sessions of api.team are recorded, and come in by ssh api.team@GATEWAY\n"
            );
        }
    }
    assert_eq!(world.sparks.waits(), 2);
}

#[tokio::test]
async fn what_does_not_ask_for_ssh_is_told_to() {
    let guest = echo().await;
    let world = world(&guest).await;
    let token = good_token();
    let with_token = |headers: &[(&'static str, &'static str)]| {
        get("api", PATH, &[headers, &[("sparks-token", &token)]].concat())
    };
    let mut posted = with_token(&UPGRADE);
    *posted.method_mut() = Method::POST;
    for request in [
        with_token(&[]),
        with_token(&[("upgrade", "sparks-ssh")]),
        with_token(&[("connection", "upgrade"), ("upgrade", "websocket")]),
        posted,
    ] {
        let answer = ask(&world, request).await;
        assert_eq!((answer.status.as_u16(), answer.header("upgrade")), (426, "sparks-ssh"));
        assert!(answer.body.ends_with("spark ssh does\n"), "{}", answer.body);
    }
    let old = raw(&world, head().replace("HTTP/1.1", "HTTP/1.0")).await;
    assert!(old.starts_with("HTTP/1.0 426 "), "{old}");
    let with_body = head().replace("\r\n\r\n", "\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx");
    let answer = raw(&world, with_body).await;
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert_eq!((guest.connections(), world.sparks.waits()), (0, 0));
}

#[tokio::test]
async fn http_2_is_told_to_come_by_http_1() {
    let guest = echo().await;
    let world = world(&guest).await;
    let request = Request::get(format!("http://{}{PATH}", host("api"))).version(Version::HTTP_2);
    let request = request.header("sparks-token", good_token()).body(empty()).unwrap();
    let answer = Answer::of(http2(&world).await.send_request(request).await.unwrap()).await;
    assert_eq!(answer.status, 426);
    assert_eq!(guest.connections(), 0);
}

#[tokio::test]
async fn it_is_on_the_hosts_of_sparks_alone_and_nothing_is_under_it() {
    let world = World::ssh(1, Flags::default()).await;
    let token = token(&Scope::namespace(NAMESPACE));
    let mut elsewhere = ssh("api", PATH, &[("sparks-token", &token)]);
    elsewhere.headers_mut().insert("host", DOMAIN.parse().unwrap());
    let below = ssh("api", "/.sparks/ssh/", &[("sparks-token", &token)]);
    for request in [elsewhere, below] {
        assert_eq!(ask(&world, request).await.status, 404);
    }
}

#[tokio::test]
async fn a_spark_that_sleeps_is_woken_and_its_service_is_not_waited_for() {
    let guest = echo().await;
    let world = world(&guest).await;
    world.sparks.set("api", State::Asleep);
    let wakes = async {
        while world.sparks.waits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((guest.connections(), world.sparks.active()), (0, 1));
        world.sparks.set("api", State::Starting);
    };
    let (mut stream, ()) = tokio::join!(open(&world), wakes);
    assert!(said_again(&mut stream, b"SSH-2.0-x\r\n").await);
}

#[tokio::test]
async fn a_guest_that_does_not_listen_yet_is_waited_for() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let world = World::ssh(socket.local_addr().unwrap().port(), Flags::default()).await;
    let starts = async {
        // It was looked for twice: the first attempt to connect has failed.
        while world.sparks.waits() < 2 {
            tokio::task::yield_now().await;
        }
        let listener: TcpListener = socket.listen(16).unwrap();
        listener.accept().await.unwrap().0
    };
    let (_client, _guest) = tokio::join!(open(&world), starts);
}

#[tokio::test]
async fn why_a_spark_is_not_there_is_told_as_by_http() {
    let world = World::ssh(2222, Flags::default()).await;
    let token = good_token();
    let stopped = WakeError::Stopped { name: "api".into(), namespace: NAMESPACE.into() };
    let astray = WakeError::Astray { spark: "api.team".into(), address: [127, 0, 0, 1].into() };
    for (why, status, sentence) in [
        (stopped, 503, "api.team is stopped: spark start api -n team\n"),
        (astray, 504, "api.team doesn't answer on port 2222\n"),
    ] {
        world.sparks.set("api", State::Down(why));
        let answer = ask(&world, ssh("api", PATH, &[("sparks-token", &token)])).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (status, sentence));
    }
}

#[tokio::test]
async fn a_tunnel_is_counted_and_keeps_its_place_among_the_connections() {
    let guest = echo().await;
    let flags = Flags { http_max_connections_per_source: 1, ..Flags::default() };
    let mut world = World::ssh(guest.port, flags).await;
    let mut stream = open(&world).await;
    assert!(raw(&world, "").await.starts_with("HTTP/1.1 503 "));
    assert!(said_again(&mut stream, b"here").await);
    let text = world.metrics();
    for line in [
        "sparks_gateway_ssh_sessions{kind=\"tunnel\"} 1",
        "sparks_gateway_http_requests_total{class=\"1xx\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    world.stop.cancel();
    (&mut world.served).await.unwrap();
    let text = world.metrics();
    assert!(text.contains("sparks_gateway_ssh_sessions{kind=\"tunnel\"} 0"), "{text}");
}

#[tokio::test]
async fn a_gateway_that_is_told_to_stop_waits_for_the_end_of_a_tunnel() {
    let guest = echo().await;
    let world = world(&guest).await;
    let mut stream = open(&world).await;
    world.stop.cancel();
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(said_again(&mut stream, b"still here").await);
    assert!(!world.served.is_finished());
    drop(stream);
    world.served.await.unwrap();
}
