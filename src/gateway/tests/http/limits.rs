//! Clients that want too much.

use std::time::Duration;

use http::Request;
use sparks_gateway::http::Flags;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    client::{Answer, Http1, ask, empty, get, http2, raw},
    service::Service,
    world::{State, World, host},
};

async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A connection that is reset is closed too.
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_its_head_slowly_or_nothing_at_all_is_cut() {
    let world = World::new().await;
    for sent in ["", "G", "GET / HTTP/1.1\r\nhost: ", "PRI * HTTP/2.0"] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert!(until_closed(&mut stream).await.len() < 100, "{sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_gains_no_time() {
    let world = World::new().await;
    let (mut reads, mut writes) = TcpStream::connect(world.address).await.unwrap().into_split();
    let trickle = async {
        let mut sent = 0;
        while writes.write_all(b"x").await.is_ok() {
            sent += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        sent
    };
    let closed = async { reads.read(&mut [0; 100]).await };
    let (sent, _) = tokio::join!(trickle, closed);
    assert!(sent < 60, "{sent} bytes were taken, one each second");
}

#[tokio::test]
async fn a_head_is_bounded() {
    let world = World::new().await;
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\nx: {}\r\n\r\n", host("api"), "x".repeat(200_000));
    let answer = raw(&world, head).await;
    // The client may be cut before it has read the answer.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: {}\r\n{}\r\n", host("api"), "x: y\r\n".repeat(500));
    let answer = raw(&world, many).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_source_has_so_many_connections_and_is_told_so() {
    let service = Service::echo().await;
    let flags = Flags { http_max_connections_per_source: 3, ..Flags::default() };
    let world = World::with(flags, None).await;
    world.sparks.put("api", true, service.port, State::Up);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Http1::new(&world).await;
        assert_eq!(client.ask(get("api", "/", &[])).await.status, 200);
        clients.push(client);
    }
    let mut one_more = TcpStream::connect(world.address).await.unwrap();
    let answer = String::from_utf8(until_closed(&mut one_more).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.ends_with(&format!("content-length: {}", body.len())),
        "{answer}"
    );
    assert_eq!(body, "too many connections from this address.\n");
    for client in &mut clients {
        assert_eq!(client.ask(get("api", "/", &[])).await.status, 200);
    }
}

#[tokio::test]
async fn so_many_requests_of_a_source_wait_and_further_ones_are_told_to_come_again() {
    let service = Service::echo().await;
    let flags = Flags { http_max_requests_per_source: 2, ..Flags::default() };
    let world = World::with(flags, None).await;
    world.sparks.put("api", true, service.port, State::Asleep);
    world.sparks.put("web", true, service.port, State::Up);
    let mut client = http2(&world).await;
    let waiting = [(); 2].map(|()| tokio::spawn(client.send_request(get_by_http2("api"))));
    while world.sparks.waits() < 2 {
        tokio::task::yield_now().await;
    }
    let refused = Answer::of(client.send_request(get_by_http2("web")).await.unwrap()).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.body, "too many requests from this address wait for an answer.\n");
    world.sparks.set("api", State::Up);
    for answer in waiting {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(ask(&world, get("web", "/", &[])).await.status, 200);
}

fn get_by_http2(name: &str) -> Request<super::client::Body> {
    Request::get(format!("http://{}/", host(name))).body(empty()).unwrap()
}

/// What a new connection of HTTP/2 may send before somebody reads it: the increment of its window (RFC 9113, section 6.9)
/// and the 65,535 bytes that it has from the start.
async fn window(stream: &mut TcpStream) -> u32 {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 8 && head[5..] == [0; 4] {
            return 65_535 + u32::from_be_bytes(payload.try_into().unwrap());
        }
    }
}

#[tokio::test]
async fn what_all_connections_of_a_source_send_unread_is_far_from_the_memory_that_there_is() {
    let flags = Flags::default();
    let world = World::with(flags, None).await;
    let (mut connections, mut all, mut first) = (Vec::new(), 0, 0);
    for _ in 0..flags.http_max_connections_per_source {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let window = window(&mut stream).await;
        first = first.max(window);
        all += window;
        connections.push(stream);
    }
    assert!(all <= 256 << 20, "{all} bytes, of 1 GiB in the chart");
    assert!(first >= 1 << 20, "{first} bytes are few for who has a single connection");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let service = Service::echo().await;
    let flags = Flags { http_max_connections: 2, ..Flags::default() };
    let world = World::with(flags, None).await;
    world.sparks.put("api", true, service.port, State::Up);
    let asked = (0..20).map(|_| ask(&world, get("api", "/", &[])));
    assert!(futures::future::join_all(asked).await.iter().all(|answer| answer.status == 200));
}

#[tokio::test]
async fn a_websocket_keeps_its_place_among_the_connections() {
    let service = Service::raw(|mut stream, _| {
        Box::pin(async move {
            super::service::read_head(&mut stream).await.unwrap();
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
            stream.write_all(switch).await.unwrap();
            until_closed(&mut stream).await;
        })
    })
    .await;
    let flags = Flags { http_max_connections_per_source: 1, ..Flags::default() };
    let world = World::with(flags, None).await;
    world.sparks.put("api", true, service.port, State::Up);
    let mut tunnel = TcpStream::connect(world.address).await.unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", host("api"));
    tunnel.write_all(request.as_bytes()).await.unwrap();
    assert!(super::service::read_head(&mut tunnel).await.unwrap().starts_with("HTTP/1.1 101 "));
    let mut second = TcpStream::connect(world.address).await.unwrap();
    assert!(until_closed(&mut second).await.starts_with(b"HTTP/1.1 503 "));
}

#[tokio::test]
async fn names_with_strange_bytes_are_refused_and_harm_nobody() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    for host in
        [&b"\xff\xfe--team.sparks.example.com"[..], b"a\x00--team", b"../../--x", b"%61pi--team", b"a--b\t"]
    {
        let request = [b"GET / HTTP/1.1\r\nconnection: close\r\nhost: ", host, b"\r\n\r\n"].concat();
        let answer = raw(&world, request).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{host:?}: {answer}");
    }
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], b"SSH-2.0-x\r\n\r\n", &[0; 1000], b"GET\r\n\r\n"]
    {
        raw(&world, garbage).await;
    }
    let request = Request::get("/").header("host", host("api")).body(empty()).unwrap();
    assert_eq!(ask(&world, request).await.status, 200);
}
