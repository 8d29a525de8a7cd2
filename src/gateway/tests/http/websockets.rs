//! Websockets that come by HTTP/2 (RFC 8441): open ones. What is refused is in `connect`.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::Request;
use hyper::{
    client::conn::http2::{SendRequest, handshake},
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sparks_gateway::http::Flags;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional, duplex},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{
    client::{Answer, Body, connect, empty, http2, open},
    service::{Service, read_head},
    world::{State, World, host},
};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn socket(client: &mut SendRequest<Body>) -> Socket {
    WebSocketStream::from_raw_socket(open(client, &[]).await.unwrap(), Role::Client, None).await
}

async fn is_echoed(socket: &mut Socket, message: Message) {
    socket.send(message.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), message);
}

/// An ordinary request on the same connection, to the Spark `web`.
async fn ask(client: &mut SendRequest<Body>) -> Answer {
    let request = Request::get(format!("http://{}/", host("web"))).body(empty()).unwrap();
    Answer::of(client.send_request(request).await.unwrap()).await
}

/// Answers the handshake, adds these headers, and gives the head of the request and the connection.
async fn accept(mut stream: TcpStream, more: &str) -> (String, TcpStream) {
    let head = read_head(&mut stream).await.unwrap();
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {}\r\n{more}\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(switch.as_bytes()).await.unwrap();
    (head, stream)
}

/// A service that opens a websocket and then says nothing and does nothing, whatever happens.
async fn mute() -> Service {
    Service::raw(|stream, _| {
        Box::pin(async move {
            let _open = accept(stream, "").await;
            std::future::pending().await
        })
    })
    .await
}

#[tokio::test]
async fn the_settings_of_http_2_say_whether_websockets_may_come() {
    const ENABLE_CONNECT_PROTOCOL: u16 = 8;
    let enabled = [&ENABLE_CONNECT_PROTOCOL.to_be_bytes()[..], &1_u32.to_be_bytes()].concat();
    for http_websockets_by_http2 in [true, false] {
        let world = World::with(Flags { http_websockets_by_http2, ..Flags::default() }, None).await;
        let settings = settings(&world).await;
        assert_eq!(settings.chunks(6).any(|setting| setting == enabled), http_websockets_by_http2);
    }
}

/// What a gateway says first by HTTP/2.
async fn settings(world: &World) -> Vec<u8> {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let (mut head, mut settings) = ([0; 9], Vec::new());
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is that of the settings");
    (&mut stream).take(head[2].into()).read_to_end(&mut settings).await.unwrap();
    settings
}

#[tokio::test]
async fn a_websocket_of_http_2_carries_messages_both_ways_and_other_requests_pass_meanwhile() {
    let (service, other) = (Service::websockets().await, Service::echo().await);
    let world = World::serving(service.port).await;
    world.sparks.put("web", true, other.port, State::Up);
    let mut client = http2(&world).await;
    let mut socket = socket(&mut client).await;
    for length in [0, 1, 125, 126, 65_536, 1 << 20] {
        is_echoed(&mut socket, Message::binary(vec![7; length])).await;
        assert_eq!(ask(&mut client).await.status, 200);
    }
    is_echoed(&mut socket, Message::text("hello")).await;
    socket.close(None).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    assert!(socket.next().await.is_none());
    assert_eq!(ask(&mut client).await.status, 200);
}

#[tokio::test]
async fn many_websockets_share_a_connection() {
    let service = Service::websockets().await;
    let world = World::serving(service.port).await;
    let mut client = http2(&world).await;
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(socket(&mut client).await);
    }
    for (index, socket) in all.iter_mut().enumerate() {
        is_echoed(socket, Message::text(index.to_string())).await;
    }
    assert!(world.metrics().contains("sparks_gateway_http_connections 1\n"), "{}", world.metrics());
}

#[tokio::test]
async fn the_spark_sees_a_websocket_of_http_1_1_and_the_client_one_of_http_2() {
    let service = Service::raw(|stream, _| {
        Box::pin(async move {
            let more = "sec-websocket-protocol: chat\r\nsec-websocket-extensions: x\r\ncontent-length: 5\r\n";
            let (head, mut stream) = accept(stream, more).await;
            stream.write_all(head.as_bytes()).await.unwrap();
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let asked = [("sec-websocket-protocol", "chat"), ("content-type", "application/grpc")];
    let request = connect("api", "/socket?a=1", "WebSocket", &asked);
    let response = http2(&world).await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    for (name, value) in [
        ("sec-websocket-protocol", Some("chat")),
        ("sec-websocket-extensions", Some("x")),
        ("sec-websocket-accept", None),
        ("content-length", None),
        ("upgrade", None),
    ] {
        assert_eq!(response.headers().get(name).map(|value| value.to_str().unwrap()), value, "{name}");
    }
    let mut seen = String::new();
    TokioIo::new(hyper::upgrade::on(response).await.unwrap()).read_to_string(&mut seen).await.unwrap();
    assert!(seen.starts_with("GET /socket?a=1 HTTP/1.1\r\n"), "{seen}");
    for line in [
        &format!("host: {}", host("api")),
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(seen.lines().any(|found| found == line), "{line} is not in {seen}");
    }
    assert!(!seen.contains("transfer-encoding") && !seen.contains("content-length"), "{seen}");
}

#[tokio::test]
async fn the_key_of_a_visitor_of_http_1_1_that_a_proxy_left_in_is_answered() {
    let service = Service::websockets().await;
    let world = World::serving(service.port).await;
    // The example of RFC 6455, section 1.3.
    let key = [("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let request = connect("api", "/socket", "websocket", &key);
    let response = http2(&world).await.send_request(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[tokio::test]
async fn each_side_may_end_first_and_still_hears_the_other() {
    let (hears, mut heard_last) = mpsc::channel(1);
    let service = Service::raw(move |stream, number| {
        let hears = hears.clone();
        Box::pin(async move {
            let (_, mut stream) = accept(stream, "").await;
            let mut all = String::new();
            if number == 0 {
                stream.read_to_string(&mut all).await.unwrap();
                // Longer than it takes to find out that a client has gone.
                sleep(Duration::from_millis(3500)).await;
                stream.write_all(format!("{all};bye").as_bytes()).await.unwrap();
            } else {
                stream.write_all(b"bye").await.unwrap();
                stream.shutdown().await.unwrap();
                stream.read_to_string(&mut all).await.unwrap();
                hears.send(all).await.unwrap();
            }
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let mut client = http2(&world).await;
    let mut heard = String::new();
    let mut first = open(&mut client, &[]).await.unwrap();
    first.write_all(b"early").await.unwrap();
    first.shutdown().await.unwrap();
    first.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "early;bye");
    let mut second = open(&mut client, &[]).await.unwrap();
    heard.clear();
    second.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "bye");
    second.write_all(b"late").await.unwrap();
    second.shutdown().await.unwrap();
    assert_eq!(heard_last.recv().await.unwrap(), "late");
}

#[tokio::test]
async fn a_websocket_that_its_spark_does_not_read_holds_up_no_other_stream() {
    let (service, other) = (mute().await, Service::echo().await);
    let world = World::serving(service.port).await;
    world.sparks.put("web", true, other.port, State::Up);
    let mut client = http2(&world).await;
    let mut stuck = open(&mut client, &[]).await.unwrap();
    is_stuck(&mut stuck).await;
    assert_eq!(ask(&mut client).await.status, 200);
}

/// Sends until nothing more is taken.
async fn is_stuck(stream: &mut TokioIo<Upgraded>) {
    let flood = async { while stream.write_all(&[7; 64 << 10]).await.is_ok() {} };
    assert!(timeout(Duration::from_secs(2), flood).await.is_err(), "all was taken");
}

/// Waits until the gateway has no connection any more.
async fn is_released(world: &World) {
    let is_none = async {
        while !world.metrics().contains("sparks_gateway_http_connections 0\n") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), is_none).await.unwrap();
}

fn brief() -> Flags {
    let (head, idle) = (Duration::from_millis(20), Duration::from_millis(100));
    Flags {
        http_header_timeout: head,
        http_idle_timeout: idle,
        http_websockets_by_http2: true,
        ..Flags::default()
    }
}

#[tokio::test]
async fn a_connection_with_an_open_websocket_is_not_idle() {
    let service = Service::websockets().await;
    let world = World::with(brief(), None).await;
    world.sparks.put("api", true, service.port, State::Up);
    let mut client = http2(&world).await;
    let mut socket = socket(&mut client).await;
    sleep(Duration::from_secs(1)).await;
    is_echoed(&mut socket, Message::text("hello")).await;
    assert!(!client.is_closed());
}

#[tokio::test]
async fn a_websocket_that_its_client_cancels_is_over_though_its_spark_says_nothing() {
    let service = mute().await;
    let world = World::with(brief(), None).await;
    world.sparks.put("api", true, service.port, State::Up);
    let mut client = http2(&world).await;
    drop(open(&mut client, &[]).await.unwrap());
    let is_closed = async {
        while !client.is_closed() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), is_closed).await.unwrap();
    is_released(&world).await;
}

#[tokio::test]
async fn a_websocket_whose_connection_breaks_is_over_though_its_spark_takes_nothing() {
    let service = mute().await;
    let world = World::serving(service.port).await;
    let mut wire = TcpStream::connect(world.address).await.unwrap();
    let (near, mut far) = duplex(64 << 10);
    let wire = tokio::spawn(async move { copy_bidirectional(&mut far, &mut wire).await });
    let (mut client, connection) = handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let mut stuck = open(&mut client, &[]).await.unwrap();
    is_stuck(&mut stuck).await;
    wire.abort();
    is_released(&world).await;
}

#[tokio::test]
async fn an_open_websocket_ends_well_when_the_gateway_stops() {
    let service = Service::websockets().await;
    let world = World::serving(service.port).await;
    let mut client = http2(&world).await;
    let mut socket = socket(&mut client).await;
    world.stop.cancel();
    while TcpStream::connect(world.address).await.is_ok() {}
    is_echoed(&mut socket, Message::text("hello")).await;
    assert!(!world.served.is_finished());
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    timeout(Duration::from_secs(20), world.served).await.unwrap().unwrap();
}
