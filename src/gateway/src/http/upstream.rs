//! Sending a request to the pod of a Spark, by a connection that is there or by a new one.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, Response};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::TrySendError,
};
use tokio::time::Instant;

use super::{
    body::Upload,
    dial::{self, DialError, dial},
    pool::{Held, Lease, Origin, Pool, RECENT},
    streams::{Place, Streams},
};

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The pod.
    pub origin: Origin,
    /// Until when a service that doesn't listen may still be starting.
    pub patience: Option<Instant>,
}

/// What the service is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, which every service speaks.
    Http1,
    /// HTTP/2, which gRPC needs.
    Http2,
}

/// Why there is no answer.
pub enum SendError {
    /// There is no connection. The request is as it was.
    Dial(DialError, Box<Request<Upload>>),
    /// The connection broke before the answer began.
    Broken(hyper::Error),
}

/// Connections to all Sparks.
#[derive(Default)]
pub struct Upstreams {
    pool: Arc<Pool>,
    streams: Streams,
}

enum Connection {
    Http1 { held: Held, reused: bool },
    Http2(Place),
}

impl Upstreams {
    /// Sends a request. When a connection that was there turns out to be closed, it is sent once more by a new one, if the
    /// service has not seen it or seeing it twice does no harm.
    pub async fn send(
        &self,
        route: Route,
        protocol: Protocol,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let is_harmless = is_harmless_twice(&request);
        let age = if is_harmless { Duration::MAX } else { RECENT };
        let mut fresh = false;
        loop {
            let age = if fresh { Duration::ZERO } else { age };
            let connection = match self.connection(route, protocol, age).await {
                Ok(connection) => connection,
                Err(error) => return Err(SendError::Dial(error, Box::new(request))),
            };
            let may_repeat = connection.is_reused() && !fresh;
            let spare = (may_repeat && is_harmless).then(|| copy(&request));
            let mut error = match self.send_by(connection, route.origin, request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            request = match (error.take_message(), spare) {
                (Some(unsent), _) if may_repeat => unsent,
                (None, Some(spare)) if !error.error().is_parse() => spare,
                _ => return Err(SendError::Broken(error.into_error())),
            };
            fresh = true;
        }
    }

    /// A connection that was used within `age`, or a new one.
    async fn connection(
        &self,
        route: Route,
        protocol: Protocol,
        age: Duration,
    ) -> Result<Connection, DialError> {
        let origin = route.origin;
        let dial = dial(origin.address, route.patience);
        if protocol == Protocol::Http2 {
            let connect = async { dial::http2(dial.await?).await };
            return self.streams.place(origin, age.is_zero(), connect).await.map(Connection::Http2);
        }
        match self.pool.take(origin, age) {
            Some(held) => Ok(Connection::Http1 { held, reused: true }),
            None => Ok(Connection::Http1 { held: dial::http1(dial.await?).await?, reused: false }),
        }
    }

    async fn send_by(
        &self,
        connection: Connection,
        origin: Origin,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Lease), TrySendError<Request<Upload>>> {
        match connection {
            Connection::Http1 { mut held, .. } => {
                let response = held.sender.try_send_request(request).await?;
                Ok((response, Lease::Http1 { pool: self.pool.clone(), origin, held }))
            }
            Connection::Http2(Place { mut sender, stream, .. }) => {
                let response = sender.try_send_request(request).await?;
                Ok((response, Lease::Http2(stream)))
            }
        }
    }

    /// Closes connections that nobody needs.
    pub fn sweep(&self) {
        self.pool.sweep();
        self.streams.sweep();
    }
}

impl Connection {
    fn is_reused(&self) -> bool {
        match self {
            Self::Http1 { reused, .. } => *reused,
            Self::Http2(place) => place.reused,
        }
    }
}

/// Whether the service may get the request twice (RFC 9110, section 9.2.2), and it is here to be sent twice.
fn is_harmless_twice(request: &Request<Upload>) -> bool {
    const IDEMPOTENT: [Method; 6] =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
    request.body().is_end_stream() && IDEMPOTENT.contains(request.method())
}

/// The same request, which has no body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty(request.body().pulse()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
