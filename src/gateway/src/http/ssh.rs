//! SSH to a Spark's own server, by a request that changes its protocol.
//!
//! Unlike the SSH server of the gateway this one knows no keys and sees no session: a token says that the client may reach the
//! guest, and the guest authenticates it, from end to end.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::UPGRADE, request::Parts};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::{self, OnUpgrade, Upgraded},
};
use hyper_util::server::conn::auto;
use spark_client::access::SSH_PROTOCOL;
use sparks_api::Recording;
use sparks_ssh::transport::tune;
use tokio::net::TcpStream;

use super::{
    admission::admit,
    body::Body,
    credentials::{self, Carrier},
    failure::Failure,
    headers,
    host::Target,
    listener::Io,
    proxy::{Client, Gateway},
    tunnel,
};
use crate::{
    directory::Key,
    ssh::{
        Metrics,
        dial::{self, DialError},
        recording,
    },
};

/// What the connection changes to.
pub const PROTOCOL: HeaderValue = HeaderValue::from_static(SSH_PROTOCOL);

/// The SSH servers of Sparks.
pub struct Ssh {
    /// Their TCP port.
    pub port: u16,
    /// What is counted.
    pub metrics: Metrics,
}

impl Gateway {
    /// Connects a client to the SSH server of a Spark.
    pub(super) async fn carry(
        &self,
        client: &Client,
        mut request: Request<Incoming>,
        target: Target,
    ) -> Result<Response<Body>, Failure> {
        if !asks(&request) {
            return Err(Failure::NotSsh);
        }
        let upgrade = upgrade::on(&mut request);
        self.let_in(request.into_parts().0, &target).await?;
        let guest = self.guest(&target).await?;
        let counted = self.ssh.metrics.session("tunnel");
        let (slot, peer) = (client.slot.clone(), client.peer.address);
        client.tunnels.spawn(async move {
            let began = Instant::now();
            tracing::info!(spark = %target, %peer, "SSH comes by HTTP");
            tunnel(upgrade, guest).await;
            tracing::info!(spark = %target, %peer, seconds = began.elapsed().as_secs_f64(), "SSH by HTTP has ended");
            drop((slot, counted));
        });
        Ok(switched())
    }

    /// Only who has a token of its own comes in: not the public, and no page that a browser shows.
    async fn let_in(&self, mut head: Parts, target: &Target) -> Result<(), Failure> {
        let mut presented = credentials::take(&mut head);
        presented.retain(|(carrier, _)| *carrier == Carrier::Header);
        // Without the Spark, which could say that it is public.
        admit(&*self.keys, target, None, presented, false).await?;
        let spark = self.computers.get(&target.namespace, &target.name);
        let spark = spark.ok_or_else(|| Failure::Unknown(target.clone()))?;
        match recording(&spark) {
            Recording::Required => Err(Failure::Recorded(target.clone())),
            Recording::On | Recording::Off => Ok(()),
        }
    }

    /// Wakes the Spark if it sleeps.
    async fn guest(&self, target: &Target) -> Result<TcpStream, Failure> {
        let (namespace, name) = (&*target.namespace, &*target.name);
        self.computers.active(namespace, name);
        let awake = || self.computers.awake(namespace, name);
        let guest = dial::tcp(&Key::new(namespace, name), self.ssh.port, awake).await;
        guest.map_err(|error| match error {
            DialError::Asleep(why) => Failure::Wake(why),
            _ => Failure::NoAnswer { spark: target.clone(), port: self.ssh.port },
        })
    }
}

/// Whether a request is of the one form that there is.
fn asks(request: &Request<Incoming>) -> bool {
    let is_ours = |protocol: &str| protocol.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes());
    request.method() == Method::GET
        && request.body().is_end_stream()
        && headers::upgrade(request.headers(), request.version()).is_some()
        && headers::tokens(request.headers(), UPGRADE).any(is_ours)
}

fn switched() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    headers::change(answer.headers_mut(), PROTOCOL);
    answer
}

async fn tunnel(upgrade: OnUpgrade, guest: TcpStream) {
    let Ok(Some((client, ahead))) = upgrade.await.map(taken_back) else {
        return tracing::debug!("a client has gone before its SSH began");
    };
    let passed = async {
        tune(&client)?;
        tunnel::pass(client, ahead, guest).await
    };
    match passed.await {
        Ok((sent, received)) => tracing::debug!(sent, received, "a tunnel ended"),
        Err(error) => tracing::debug!(%error, "a tunnel broke"),
    }
}

/// The client's connection itself, and what was read of it already.
fn taken_back(upgraded: Upgraded) -> Option<(TcpStream, Bytes)> {
    let parts = auto::upgrade::downcast::<Io>(upgraded).ok()?;
    Some((parts.io.into_inner().into_inner(), parts.read_buf))
}
