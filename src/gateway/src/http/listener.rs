//! Accepting connections, and how long each may live.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Flags, answer,
    body::Body,
    dial::{BUFFER, prepared},
    headers::Peer,
    phase::{Phase, Watched},
    proxy::{Client, Gateway},
    slots::{Share, Slot, Slots},
};

/// Pause after the system refused to accept, as it does when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(50);
/// How often unused connections to Sparks are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// Requests that a client may have on one connection of HTTP/2.
const STREAMS: u32 = 128;
/// Bytes of a client's that nobody reads yet, on one stream,
const STREAM_WINDOW: u32 = 128 << 10;
/// on each of the first connections of its source: many, so that a few uploads that nobody reads hold up no others,
const CONNECTION_WINDOW: u32 = 2 << 20;
const WIDE: usize = 32;
/// and on each further one, so that all of one source are far from what the gateway's memory can hold.
const NARROW_WINDOW: u32 = 256 << 10;
/// How often a client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\nretry-after: 1\r\ncontent-length: 40\r\n\r\ntoo many connections from this address.\n";

/// A connection as hyper has it.
pub type Io = TokioIo<Watched<TcpStream>>;

/// What all connections share.
struct Server {
    gateway: Arc<Gateway>,
    wide: auto::Builder<TokioExecutor>,
    narrow: auto::Builder<TokioExecutor>,
    tasks: TaskTracker,
    stop: CancellationToken,
    head: Duration,
    idle: Duration,
}

/// Serves until `stop`, and then until every request and every tunnel has ended.
pub async fn serve(listener: TcpListener, gateway: Arc<Gateway>, flags: &Flags, stop: CancellationToken) {
    // Behind a proxy all come from it.
    let share = match flags.http_trust_forwarded {
        true => Share { connections: usize::MAX, requests: usize::MAX },
        false => Share {
            connections: flags.http_max_connections_per_source,
            requests: flags.http_max_requests_per_source,
        },
    };
    let slots = Slots::new(flags.http_max_connections, share, gateway.metrics.connections.clone());
    let server = Arc::new(Server {
        gateway,
        wide: builder(CONNECTION_WINDOW, flags.http_websockets_by_http2),
        narrow: builder(NARROW_WINDOW, flags.http_websockets_by_http2),
        tasks: TaskTracker::new(),
        stop: stop.clone(),
        head: flags.http_header_timeout,
        idle: flags.http_idle_timeout,
    });
    let sweeps = server.clone().sweeps();
    let accepts = server.clone().accepts(&listener, &slots);
    tokio::select! {
        () = stop.cancelled() => {}
        () = sweeps => {}
        () = accepts => {}
    }
    // New connections go to other replicas, also while the old ones end.
    drop(listener);
    server.tasks.close();
    server.tasks.wait().await;
}

fn builder(window: u32, takes_websockets: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Phase does that.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_send_buf_size(BUFFER)
        .max_header_list_size(BUFFER as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    // hyper 1.12 closes the whole connection on a CONNECT with a Content-Length.
    if takes_websockets {
        builder.http2().enable_connect_protocol();
    }
    builder
}

impl Server {
    async fn sweeps(self: Arc<Self>) {
        loop {
            sleep(SWEEP).await;
            self.gateway.upstreams.sweep();
        }
    }

    async fn accepts(self: Arc<Self>, listener: &TcpListener, slots: &Slots) {
        while let Some(room) = slots.room().await {
            match listener.accept().await {
                Ok((stream, address)) => match slots.take(room, address.ip()) {
                    Some(slot) => self.clone().accepted(stream, address, slot),
                    None => self.refuse(&stream, address),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn refuse(&self, stream: &TcpStream, address: SocketAddr) {
        self.gateway.metrics.refused();
        tracing::info!(peer = %address, "a connection was closed: too many from this source");
        // It may not be read; the connection ends in any case.
        let _ = stream.try_write(TOO_MANY);
    }

    fn busy(&self) -> Response<Body> {
        let (metrics, status) = (&self.gateway.metrics, StatusCode::SERVICE_UNAVAILABLE);
        metrics.failed("busy");
        metrics.answered(status);
        let mut answer = answer::text(status, "too many requests from this address wait for an answer.\n");
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        answer
    }

    fn accepted(self: Arc<Self>, stream: TcpStream, address: SocketAddr, slot: Slot) {
        match prepared(stream) {
            Ok(stream) => {
                self.tasks.spawn(self.clone().connection(stream, address, slot));
            }
            Err(error) => tracing::debug!(%error, "a connection was gone as soon as it had come"),
        }
    }

    /// One connection, until it ends, changes its protocol, or does nothing for too long.
    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, slot: Slot) {
        let phase = Phase::new();
        let builder = if slot.others < WIDE { &self.wide } else { &self.narrow };
        let client = Arc::new(Client {
            peer: Peer::new(address),
            slot: Arc::new(slot),
            phase: phase.clone(),
            tunnels: self.tasks.clone(),
        });
        let service = service_fn(|request: Request<Incoming>| {
            let (server, client, open) = (self.clone(), client.clone(), phase.begin());
            async move {
                let mut response = match client.slot.request() {
                    Some(_waiting) => server.gateway.handle(&client, request).await,
                    None => server.busy(),
                };
                response.body_mut().hold(open);
                Ok::<_, Infallible>(response)
            }
        });
        let stream: Io = TokioIo::new(Watched::new(stream, phase.clone()));
        let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(stream, service));
        let mut checks = interval_at(Instant::now() + self.head, self.head);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ending = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = %address, error, "a connection ended early");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = checks.tick() => {
                    if phase.has_expired(self.head, self.idle) {
                        if is_ending || phase.is_reading() {
                            return tracing::debug!(peer = %address, "a connection did nothing for too long");
                        }
                        is_ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }
}
