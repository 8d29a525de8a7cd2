//! The way of a request: whose it is, whether it may, waking, passing on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::{Authority, Scheme},
};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use spark_client::access::SSH_PATH;
use sparks_api::{Spark, SparkStatus};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    Computers, Metrics,
    admission::{Right, admit, is_foreign},
    answer::{self, Wants, accepts_html, signed_in},
    body::{Body, Pulse, Upload},
    credentials::{self, Carrier},
    dial::DialError,
    failure::Failure,
    headers::{self, Peer},
    host::{Domain, Target},
    keys::Keys,
    own::{self, Sessions},
    phase::Phase,
    pool::{Lease, Origin},
    slots::Slot,
    ssh::Ssh,
    tunnel,
    upgrade::{self, Upgrade},
    upstream::{Protocol, Route, SendError, Upstreams},
};
use crate::directory::{Awake, WakeError};

/// Port of a Spark that names none.
const DEFAULT_PORT: u16 = 8080;
/// How long after it became ready a service without `readinessPath` may take until it listens.
const STARTING: Duration = Duration::from_secs(10);

/// What a request needs.
pub struct Gateway {
    pub(super) domain: Domain,
    pub(super) believe: bool,
    pub(super) computers: Arc<dyn Computers>,
    pub(super) keys: Arc<dyn Keys>,
    pub(super) sessions: Option<Sessions>,
    pub(super) metrics: Metrics,
    pub(super) ssh: Ssh,
    pub(super) upstreams: Upstreams,
}

/// One client's connection.
pub struct Client {
    /// Who it is.
    pub peer: Peer,
    /// Its slot, which a tunnel goes on to hold.
    pub slot: Arc<Slot>,
    /// What it does, of which a tunnel is part.
    pub phase: Arc<Phase>,
    /// Where tunnels run.
    pub tunnels: TaskTracker,
}

impl Gateway {
    /// Answers a request, whatever happens.
    pub async fn handle(&self, client: &Client, request: Request<Incoming>) -> Response<Body> {
        let wants = Wants::of(&request);
        let host = self.host(&request);
        let answered = match &host {
            Ok(host) => self.answer(client, request, host).await,
            Err(failure) => Err(failure.clone()),
        };
        let response = answered.unwrap_or_else(|failure| {
            let host = host.as_ref().map(|host| String::from_utf8_lossy(host.public.as_bytes())).unwrap_or_default();
            let reason = failure.reason();
            tracing::info!(peer = %client.peer.address, %host, reason, %failure, "a request was not passed on");
            self.metrics.failed(reason);
            answer::failure(&failure, wants)
        });
        self.metrics.answered(response.status());
        response
    }

    async fn answer(
        &self,
        client: &Client,
        mut request: Request<Incoming>,
        host: &Host,
    ) -> Result<Response<Body>, Failure> {
        upgrade::check(&request)?;
        let public = host.public.to_str().map_err(|_| Failure::BadHost)?;
        let Some(target) = self.domain.target(public) else {
            return own::answer(self.sessions.as_ref(), request, &self.domain).await;
        };
        if request.uri().path() == SSH_PATH {
            return self.carry(client, request, target).await;
        }
        if own::is_reserved(request.uri().path()) {
            return Err(Failure::Reserved);
        }
        let upgrade = Upgrade::take(&mut request);
        let (mut head, body) = request.into_parts();
        let presented = credentials::take(&mut head);
        let spark = self.computers.get(&target.namespace, &target.name);
        let foreign = is_foreign(&head, public);
        let right = admit(&*self.keys, &target, spark.as_deref(), presented, foreign).await?;
        if let Right::Token { carrier: Carrier::Link, token, expires } = &right
            && is_shown(&head, upgrade.is_some())
        {
            return Ok(signed_in(public, &head.uri, token, *expires, headers::is_https(&head.headers)));
        }
        if spark.is_none() {
            return Err(Failure::Unknown(target));
        }
        let visit = Visit { gateway: self, client, target, right, upgrade };
        visit.pass_on(head, body, host.sent.clone()).await
    }

    /// The host that the request names.
    fn host<B>(&self, request: &Request<B>) -> Result<Host, Failure> {
        let mut hosts = request.headers().get_all(HOST).into_iter();
        let (header, second) = (hosts.next(), hosts.next());
        let sent = match (request.uri().authority(), header) {
            _ if second.is_some() => return Err(Failure::BadHost),
            (Some(authority), Some(header)) if !same(authority, header) => return Err(Failure::BadHost),
            (_, Some(header)) => header.clone(),
            (Some(authority), None) => {
                HeaderValue::from_str(authority.as_str()).map_err(|_| Failure::BadHost)?
            }
            (None, None) => return Err(Failure::BadHost),
        };
        let forwarded =
            self.believe.then(|| headers::tokens(request.headers(), headers::X_FORWARDED_HOST).next());
        let public = forwarded.flatten().and_then(|host| HeaderValue::from_str(host).ok());
        Ok(Host { public: public.unwrap_or_else(|| sent.clone()), sent })
    }
}

/// The host of a request.
struct Host {
    /// As the visitor has it in the address.
    public: HeaderValue,
    /// As it came here, and as it is passed on.
    sent: HeaderValue,
}

fn same(authority: &Authority, header: &HeaderValue) -> bool {
    authority.as_str().as_bytes().eq_ignore_ascii_case(header.as_bytes())
}

/// Whether a browser shows the answer. A program gets it at once.
fn is_shown(head: &Parts, is_upgrade: bool) -> bool {
    head.method == Method::GET && !is_upgrade && accepts_html(&head.headers)
}

/// A request that may reach its Spark.
struct Visit<'a> {
    gateway: &'a Gateway,
    client: &'a Client,
    target: Target,
    right: Right,
    upgrade: Option<Upgrade>,
}

impl Visit<'_> {
    async fn pass_on(
        self,
        mut head: Parts,
        body: Incoming,
        host: HeaderValue,
    ) -> Result<Response<Body>, Failure> {
        let is_grpc = headers::is_grpc(&head.headers, head.version);
        let protocol = if is_grpc { Protocol::Http2 } else { Protocol::Http1 };
        let route = self.route().await?;
        let mut pulse = Pulse::start(self.gateway.computers.clone(), self.target.clone());
        self.prepare(&mut head, host, protocol)?;
        let upload = Upload::new(body, pulse.clone());
        if protocol == Protocol::Http1
            && !upload.is_end_stream()
            && !head.headers.contains_key(CONTENT_LENGTH)
        {
            // Said explicitly, or hyper sends no body with a GET.
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let request = Request::from_parts(head, upload);
        let (response, lease) = pulse.until(self.send(route, protocol, request)).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response, pulse);
        }
        if self.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_opened_by(response.status())) {
            return Err(Failure::NoWebsocket(self.target));
        }
        Ok(answered(response, lease, pulse))
    }

    /// Wakes the Spark if it sleeps.
    async fn route(&self) -> Result<Route, Failure> {
        let serving = self.gateway.computers.serving(&self.target.namespace, &self.target.name);
        let awake = serving.await.map_err(|why| self.wake_failure(why))?;
        let address = SocketAddr::new(awake.ip, port(&awake.spark));
        Ok(Route { origin: Origin::new(&awake.spark, address), patience: patience(&awake) })
    }

    fn wake_failure(&self, why: WakeError) -> Failure {
        let spark = || self.target.clone();
        match self.right {
            // In the words of one that can't be reached.
            _ if matches!(why, WakeError::Astray { .. }) => {
                Failure::NoAnswer { spark: spark(), port: self.port() }
            }
            Right::Public => Failure::WakePublic { spark: spark(), why },
            Right::Token { .. } => Failure::Wake(why),
        }
    }

    fn port(&self) -> u16 {
        let spark = self.gateway.computers.get(&self.target.namespace, &self.target.name);
        spark.as_deref().map_or(DEFAULT_PORT, port)
    }

    /// The head as the Spark gets it.
    fn prepare(&self, head: &mut Parts, host: HeaderValue, protocol: Protocol) -> Result<(), Failure> {
        headers::strip_hop_by_hop(&mut head.headers);
        headers::keep_trailers(&mut head.headers);
        headers::forward(&mut head.headers, &self.client.peer, &host, self.gateway.believe);
        head.extensions.clear();
        let mut uri = std::mem::take(&mut head.uri).into_parts();
        (uri.scheme, uri.authority) = (None, None);
        if protocol == Protocol::Http2 {
            let authority = Authority::from_maybe_shared(bytes::Bytes::copy_from_slice(host.as_bytes()));
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = Some(authority.map_err(|_| Failure::BadHost)?);
            head.headers.remove(HOST);
            head.version = Version::HTTP_2;
        } else {
            head.headers.insert(HOST, host);
            head.version = Version::HTTP_11;
        }
        head.uri = Uri::from_parts(uri).map_err(|_| Failure::BadHost)?;
        if let Some(upgrade) = &self.upgrade {
            upgrade.ask(&mut head.headers);
        }
        Ok(())
    }

    /// Sends the request; once more to another pod if the Spark fell asleep or was moved in this moment.
    async fn send(
        &self,
        route: Route,
        protocol: Protocol,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let upstreams = &self.gateway.upstreams;
        let mut port = route.origin.address.port();
        let error = match upstreams.send(route, protocol, request).await {
            Ok(answer) => return Ok(answer),
            Err(SendError::Dial(error, request)) => {
                let again = self.route().await?;
                if again.origin == route.origin {
                    SendError::Dial(error, request)
                } else {
                    port = again.origin.address.port();
                    match upstreams.send(again, protocol, *request).await {
                        Ok(answer) => return Ok(answer),
                        Err(error) => error,
                    }
                }
            }
            Err(error) => error,
        };
        Err(failure(error, &self.target, port))
    }

    /// Begins a tunnel.
    fn switch(self, mut response: Response<Incoming>, pulse: Pulse) -> Result<Response<Body>, Failure> {
        let Some(upgrade) = self.upgrade else { return Err(Failure::NotHttp(self.target)) };
        if !upgrade.is_granted(response.headers()) {
            return Err(Failure::NoWebsocket(self.target));
        }
        let spark = hyper::upgrade::on(&mut response);
        let protocol = response.headers().get(UPGRADE).cloned();
        let mut answer = answered(response, Lease::Over, pulse.clone()).map(|_| Body::empty());
        upgrade.grant(&mut answer, protocol);
        let held = (self.client.slot.clone(), self.client.phase.begin());
        self.client.tunnels.spawn(async move {
            tunnel::copy(upgrade.into_client(), spark, pulse).await;
            drop(held);
        });
        Ok(answer)
    }
}

/// The answer as the client gets it.
fn answered(response: Response<Incoming>, lease: Lease, pulse: Pulse) -> Response<Body> {
    let (head, body) = response.into_parts();
    let mut answer = Response::new(Body::of_spark(body, lease, pulse, headers::are_events(&head.headers)));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    headers::strip_hop_by_hop(answer.headers_mut());
    answer
}

fn failure(error: SendError, spark: &Target, port: u16) -> Failure {
    let spark = spark.clone();
    match error {
        SendError::Dial(DialError::Refused, _) => Failure::NotListening { spark, port },
        SendError::Dial(DialError::NoAnswer, _) => Failure::NoAnswer { spark, port },
        SendError::Dial(DialError::NotHttp, _) => Failure::NotHttp(spark),
        SendError::Broken(error) if error.is_parse() => Failure::NotHttp(spark),
        SendError::Broken(error) if error.is_user() => Failure::Aborted,
        SendError::Broken(_) => Failure::Closed(spark),
    }
}

/// The port in `status.address`, which is the one in effect, whether the Spark says it itself or took it over.
fn port(spark: &Spark) -> u16 {
    let address = spark.status.as_ref().and_then(|status| status.address.as_deref());
    address.and_then(|address| address.rsplit(':').next()?.parse().ok()).unwrap_or(DEFAULT_PORT)
}

/// Until when it is too early to say that the service doesn't listen.
fn patience(awake: &Awake) -> Option<Instant> {
    let since = awake.spark.status.as_ref().and_then(SparkStatus::up_since);
    let age = since.map_or(STARTING, |since| {
        // Another machine's clock may be ahead.
        Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default()
    });
    let left = if awake.woken { STARTING } else { STARTING.saturating_sub(age) };
    (!left.is_zero()).then(|| Instant::now() + left)
}

#[cfg(test)]
mod tests {
    use sparks_api::SparkSpec;

    use super::*;

    #[test]
    fn the_port_is_the_one_in_the_address() {
        let mut spark = Spark::new("api", SparkSpec::default());
        assert_eq!(port(&spark), 8080);
        spark.status = Some(SparkStatus { address: Some("api.team.svc:3000".into()), ..Default::default() });
        assert_eq!(port(&spark), 3000);
    }
}
