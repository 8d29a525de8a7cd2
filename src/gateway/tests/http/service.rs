//! Services as they run in Sparks.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future::BoxFuture};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::accept_async;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A service on loopback.
pub struct Service {
    pub port: u16,
    connections: Arc<AtomicUsize>,
}

impl Service {
    /// How many connections it got.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A service of HTTP/1.1.
    pub async fn http<F>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        Self::raw(move |stream, _| {
            let answer = answer.clone();
            Box::pin(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                // What goes wrong is seen by the client.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            })
        })
        .await
    }

    /// A service that does what it likes with each connection, which it gets with its number.
    pub async fn raw<F>(serve: F) -> Self
    where
        F: Fn(TcpStream, usize) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), serve)
    }

    pub fn on<F>(listener: TcpListener, serve: F) -> Self
    where
        F: Fn(TcpStream, usize) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, count.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Self { port, connections }
    }

    /// A service that says what it was asked: the request line, then the headers, then the length of the body.
    pub async fn echo() -> Self {
        Self::http(|request| Box::pin(echo(request))).await
    }

    /// A service of websockets, which sends messages back.
    pub async fn websockets() -> Self {
        Self::raw(|stream, _| {
            Box::pin(async move {
                let Ok(mut socket) = accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            })
        })
        .await
    }
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut lines = vec![format!("{} {} {:?}", head.method, head.uri, head.version)];
    let headers = head.headers.iter();
    lines.extend(
        headers.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))),
    );
    let length = body.collect().await.map(|body| body.to_bytes().len());
    lines.push(format!("body: {length:?}"));
    Response::new(text(lines.join("\n")))
}

pub fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// Reads the head of a request that has no body.
pub async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Writes an answer that leaves the connection open.
pub async fn answer(stream: &mut TcpStream, body: &str) {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // A client that has gone is seen elsewhere.
    let _ = stream.write_all(answer.as_bytes()).await;
}
