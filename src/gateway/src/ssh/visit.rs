//! A client that was let in to a Spark: connected to its guest, or told why not.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use futures::future::BoxFuture;
use sparks_api::{Recording, Spark};
use sparks_ssh::transport::{Farewell, Reason, Session};

use super::{
    Shared,
    dial::{Connected, DialError, Way},
    explain::explain,
    jump::recording,
    login::Visit,
    metrics,
    relay::{Between, Ended, Slot, Tap, instead_of_guest, pump},
    sparks::Sparks,
};

/// Exit status of a session that leads nowhere: what OpenSSH's client ends with when it can't connect.
const FAILED: u32 = 255;

/// A connection that is to be recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The Spark.
    pub spark: Arc<Spark>,
    /// The user in it.
    pub user: String,
    /// Fingerprint, and comment of the key or id of the certificate.
    pub who: String,
    /// Where from.
    pub client: SocketAddr,
    /// Whether it must be recorded; never that it need not.
    pub recording: Recording,
}

/// Makes the taps that record connections.
pub trait Record: Send + Sync + 'static {
    /// A tap for one connection, or why there is none: a sentence for the client.
    fn tap(&self, connection: Recorded) -> BoxFuture<'_, Result<Box<dyn Tap>, String>>;
}

/// The client's transport.
pub struct Client {
    /// It runs.
    pub session: Session,
    /// Ends it.
    pub farewell: Farewell,
}

impl Client {
    /// Completes when it has ended. Cancel-safe.
    pub async fn ended(&mut self) {
        if let Err(error) = self.session.ended().await {
            tracing::debug!(%error, "a client's connection ended early");
        }
    }
}

/// Serves a client until it and the guest have gone. Returns what it was told if it could not be served.
pub async fn serve<S: Sparks>(
    shared: &Shared<S>,
    visit: Visit,
    address: SocketAddr,
    client: &mut Client,
) -> Option<String> {
    let Visit { entry, granted, way, between, since, share: _share } = visit;
    let Way { place, user, slot, task } = way;
    let connected = tokio::select! {
        done = task => done.unwrap_or_else(|_| Err(DialError::Silent { spark: place.spark.clone() })),
        () = client.ended() => return None,
    };
    observe(shared, since, &connected);
    let recording = recording(&entry.spark);
    let recorded = Recorded { spark: entry.spark, user, who: granted.who, client: address, recording };
    let ready = match connected {
        Ok(connected) => tap(shared, recorded).await.map(|tap| (connected, tap)),
        Err(error) => Err(error.to_string()),
    };
    match ready {
        Ok((connected, tap)) => relay(shared, connected, between, tap, client).await,
        Err(text) => {
            tell(between, &slot, &text, client).await;
            Some(text)
        }
    }
}

fn observe<S: Sparks>(shared: &Shared<S>, since: Instant, connected: &Result<Connected, DialError>) {
    let (result, seconds) =
        (connected.as_ref().map_or_else(DialError::reason, |_| "connected"), since.elapsed().as_secs_f64());
    shared.metrics.connect.get_or_create(&metrics::Result { result }).observe(seconds);
    if connected.as_ref().is_ok_and(|connected| connected.woken) {
        shared.metrics.wake.observe(seconds);
    }
}

/// The tap of a connection that is recorded; without one where it need not be.
async fn tap<S: Sparks>(shared: &Shared<S>, recorded: Recorded) -> Result<Option<Box<dyn Tap>>, String> {
    let recording = recorded.recording;
    if recording == Recording::Off {
        return Ok(None);
    }
    let spark = recorded.spark.metadata.name.clone().unwrap_or_default();
    let tap = match &shared.recorder {
        Some(recorder) => recorder.tap(recorded).await,
        None => Err("the gateway has no directory for recordings".to_owned()),
    };
    match tap {
        Ok(tap) => Ok(Some(tap)),
        Err(reason) if recording == Recording::Required => {
            Err(format!("sessions of {spark} must be recorded, and this one can't be: {reason}"))
        }
        Err(reason) => {
            tracing::warn!(spark, reason, "a session is not recorded");
            Ok(None)
        }
    }
}

async fn relay<S: Sparks>(
    shared: &Shared<S>,
    mut connected: Connected,
    between: Option<Between>,
    tap: Option<Box<dyn Tap>>,
    client: &mut Client,
) -> Option<String> {
    let _counted = shared.metrics.session("relay");
    let guest = async {
        if let Err(error) = connected.guest.ended().await {
            tracing::debug!(%error, "a guest's connection ended early");
        }
    };
    let Some(between) = between else {
        tokio::join!(client.ended(), guest);
        return None;
    };
    let passing = async {
        match pump(between, tap).await {
            Ended::Gone => {
                client.ended().await;
                None
            }
            Ended::Refused(text, packets) => {
                client.farewell.say(Reason::ByApplication, &text).await;
                client.ended().await;
                drop(packets);
                Some(text)
            }
        }
    };
    tokio::join!(passing, guest).0
}

/// Tells a client why it gets no further.
async fn tell(between: Option<Between>, slot: &Slot, text: &str, client: &mut Client) {
    let packets = between.map_or_else(|| instead_of_guest(slot), |between| Some(between.client));
    match packets {
        Some(packets) => {
            let farewell = client.farewell.clone();
            tokio::select! {
                () = explain(packets, &farewell, text, FAILED) => {}
                () = client.ended() => {}
            }
        }
        None => client.farewell.say(Reason::ByApplication, text).await,
    }
    client.ended().await;
}
