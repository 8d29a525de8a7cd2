//! Websockets, and other protocols that a connection changes to.

use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::{
    client::{ask, get},
    service::{Service, read_head},
    world::{State, World, good_token, host},
};

async fn connect(
    world: &World,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, Error> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let mut request = format!("ws://{}/socket", host("api")).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    Ok(client_async(request, stream).await?.0)
}

#[tokio::test]
async fn a_websocket_carries_messages_of_any_size_both_ways() {
    let service = Service::websockets().await;
    let world = World::serving(service.port).await;
    let mut socket = connect(&world, &[]).await.unwrap();
    for length in [0, 1, 125, 126, 65_536, 1 << 20] {
        let message = Message::binary(vec![7; length]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    socket.close(None).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
    assert!(socket.next().await.is_none());
}

#[tokio::test]
async fn many_websockets_are_open_at_once() {
    let service = Service::websockets().await;
    let world = World::serving(service.port).await;
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(connect(&world, &[]).await.unwrap());
    }
    for (index, socket) in all.iter_mut().enumerate() {
        socket.send(Message::text(index.to_string())).await.unwrap();
    }
    for (index, socket) in all.iter_mut().enumerate() {
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(index.to_string()));
    }
}

#[tokio::test]
async fn a_websocket_of_a_private_spark_needs_a_token() {
    let service = Service::websockets().await;
    let world = World::new().await;
    world.sparks.put("api", false, service.port, State::Up);
    let refused = connect(&world, &[]).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 401));
    let mut socket = connect(&world, &[("sparks-token", &good_token())]).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn the_page_of_another_spark_opens_no_websocket_with_a_visitors_cookie() {
    let service = Service::websockets().await;
    let world = World::new().await;
    world.sparks.put("api", false, service.port, State::Up);
    let cookie = format!("sparks-token={}", good_token());
    let (own, other) = (format!("http://{}", host("api")), format!("http://{}", host("evil")));
    let refused = connect(&world, &[("cookie", &cookie), ("origin", &other)]).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 401));
    connect(&world, &[("cookie", &cookie), ("origin", &own)]).await.unwrap();
}

#[tokio::test]
async fn any_protocol_is_relayed_and_each_side_may_end_first() {
    let service = Service::raw(|mut stream, _| {
        Box::pin(async move {
            let head = read_head(&mut stream).await.unwrap();
            assert!(head.contains("upgrade: own/1\r\n"), "{head}");
            let switch =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: own/1\r\n\r\nfirst;";
            stream.write_all(switch).await.unwrap();
            let mut all = String::new();
            // The client has ended its side, and still hears the rest.
            stream.read_to_string(&mut all).await.unwrap();
            stream.write_all(format!("{all};bye").as_bytes()).await.unwrap();
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let ask = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: own/1\r\n\r\nearly",
        host("api")
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nfirst;early;bye"), "{answer}");
}

#[tokio::test]
async fn a_service_that_does_not_change_the_protocol_answers_as_ever() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let refused = connect(&world, &[]).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 200));
}

#[tokio::test]
async fn a_service_that_changes_the_protocol_unasked_is_not_heard() {
    let service = Service::raw(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await.unwrap();
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
            stream.write_all(switch).await.unwrap();
        })
    })
    .await;
    let world = World::serving(service.port).await;
    assert_eq!(ask(&world, get("api", "/", &[])).await.status, 502);
}

#[tokio::test]
async fn http_2_in_clear_text_is_not_upgraded_to_past_the_gateway() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let headers =
        [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")];
    let answer = ask(&world, get("api", "/", &headers)).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("upgrade") && !answer.body.contains("http2-settings"), "{}", answer.body);
}
