//! Clients of the gateway.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    ext::Protocol,
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::world::{World, host};

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One connection of HTTP/1.1.
pub struct Http1(pub http1::SendRequest<Body>);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Http1 {
    pub async fn new(world: &World) -> Self {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self(sender)
    }

    pub async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.0.ready().await.unwrap();
        self.0.send_request(request).await.unwrap()
    }

    pub async fn ask(&mut self, request: Request<Body>) -> Answer {
        Answer::of(self.send(request).await).await
    }
}

/// A connection of HTTP/2.
pub async fn http2(world: &World) -> http2::SendRequest<Body> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A CONNECT of HTTP/2 for a Spark, by which the stream is to become this protocol.
pub fn connect(name: &str, path: &str, protocol: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::connect(format!("http://{}{path}", host(name)))
        .extension(Protocol::from(protocol))
        .header("sec-websocket-version", "13");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(empty()).unwrap()
}

/// Opens a websocket of the Spark `api` by HTTP/2.
pub async fn open(
    client: &mut http2::SendRequest<Body>,
    headers: &[(&str, &str)],
) -> Result<TokioIo<Upgraded>, Answer> {
    let asked = client.send_request(connect("api", "/socket", "websocket", headers));
    let response = asked.await.unwrap();
    if response.status() != StatusCode::OK {
        return Err(Answer::of(response).await);
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.unwrap()))
}

pub fn empty() -> Body {
    Empty::new().boxed_unsync()
}

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// A GET for a Spark.
pub fn get(name: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path).header("host", host(name));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(empty()).unwrap()
}

/// A POST for a Spark.
pub fn post(name: &str, path: &str, body: Body) -> Request<Body> {
    Request::post(path).header("host", host(name)).body(body).unwrap()
}

/// Asks on a connection of its own.
pub async fn ask(world: &World, request: Request<Body>) -> Answer {
    Http1::new(world).await.ask(request).await
}

/// Sends bytes as they are, and gives all that comes until the connection ends.
pub async fn raw(world: &World, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has ended too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
