//! One connection, from its first byte to its last.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use sparks_ssh::transport::tune;
use tokio::{net::TcpStream, time::timeout};

use super::{
    Shared, jump,
    login::{Addresses, Login, SharedAttempts, Visitor},
    proxy,
    sparks::Sparks,
    startups::Startup,
    stream::{Line, Watched},
    visit::{self, Client},
};

/// How long a load balancer may take to say where a client comes from.
const PROXY_WITHIN: Duration = Duration::from_secs(5);

/// Serves one connection until it has ended.
pub async fn serve<S: Sparks>(shared: Arc<Shared<S>>, stream: TcpStream, peer: SocketAddr) {
    let line = Arc::new(Line::default());
    let (stream, addresses, startup) = match begin(&shared, stream, peer, &line).await {
        Ok(Some(begun)) => begun,
        Ok(None) => return,
        Err(error) => return tracing::debug!(from = %peer, %error, "a connection ended before it began"),
    };
    let attempts = SharedAttempts::default();
    let login = Login::new(shared.clone(), addresses, startup, attempts.clone());
    let entered = match shared.server.accept(stream, login, shared.limits.ssh_login_grace).await {
        Ok(Some(entered)) => entered,
        Ok(None) => return left_outside(&shared, addresses, &line, &attempts),
        Err(error) => {
            tracing::debug!(from = %addresses.client, %error, is_cut = line.is_cut(), "a connection ended before a login");
            return left_outside(&shared, addresses, &line, &attempts);
        }
    };
    let mut client = Client { session: entered.session, farewell: entered.farewell };
    let from = addresses.client;
    let began = Instant::now();
    match entered.identity {
        Visitor::Spark(visit) => {
            let (spark, user) = (visit.way.place.spark.clone(), visit.way.user.clone());
            tracing::info!(%spark, user, %from, key = visit.granted.who, "enters");
            let told = visit::serve(&shared, *visit, from, &mut client).await;
            let (received, sent) = line.bytes();
            let seconds = began.elapsed().as_secs_f64();
            tracing::info!(%spark, user, %from, seconds, received, sent, told, "has left");
        }
        Visitor::Jump(jumper, packets) => {
            tracing::info!(%from, key = jumper.credential.fingerprint(), "enters the jump host");
            jump::serve(shared.clone(), jumper, packets).await;
            client.ended().await;
            if line.is_cut() {
                shared.metrics.connection("cut");
            }
        }
    }
}

type Begun = (Watched<TcpStream>, Addresses, Startup);

/// Finds out where the client comes from, and takes a place among those who have not authenticated.
async fn begin<S: Sparks>(
    shared: &Shared<S>,
    stream: TcpStream,
    peer: SocketAddr,
    line: &Arc<Line>,
) -> io::Result<Option<Begun>> {
    tune(&stream)?;
    let own = Addresses { client: peer, server: stream.local_addr()? };
    if !shared.limits.ssh_proxy_protocol {
        let startup = shared.startups.enter(Some(peer.ip()), line.clone());
        return Ok(Some((Watched::new(stream, line.clone()), own, startup)));
    }
    let startup = shared.startups.enter(None, line.clone());
    let mut stream = Watched::new(stream, line.clone());
    let Some((client, server)) = timeout(PROXY_WITHIN, proxy::read(&mut stream)).await?? else {
        return Ok(None);
    };
    drop(startup);
    let startup = shared.startups.enter(Some(client.ip()), line.clone());
    Ok(Some((stream, Addresses { client, server }, startup)))
}

fn left_outside<S: Sparks>(shared: &Shared<S>, addresses: Addresses, line: &Line, attempts: &SharedAttempts) {
    let from = addresses.client;
    if line.is_cut() {
        shared.metrics.connection("cut");
        return tracing::debug!(%from, "gave way to newer connections before it had authenticated");
    }
    let attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match attempts.told {
        Some((name, refusal)) => {
            tracing::info!(%from, name, reason = %refusal, attempts = attempts.refused, "was not let in");
        }
        None => tracing::debug!(%from, "left before it had entered"),
    }
}
