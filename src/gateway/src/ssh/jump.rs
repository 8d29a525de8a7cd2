//! The jump host: `ssh -J gateway root@api.team-a`.
//!
//! The client's inner connection is authenticated by the guest, from end to end; the gateway only copies its bytes.
//! It opens nothing but channels to the SSH servers of Sparks that the client's key or certificate may enter.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sparks_api::{Recording, SSH_PORT, Spark};
use sparks_ssh::{
    Packets,
    mux::{Channel, ChannelReader, ChannelWriter, Connection, Incoming, Limits, OpenRequest, PacketBuf},
    wire::{ChannelKind, OpenReason},
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

use super::{
    Shared,
    access::{Credential, Granted, Refusal, admit},
    dial, explain,
    place::{self, Place},
    shares::{Crowded, Share, Shares},
    sparks::Sparks,
    startups::{Stage, Startup},
};
use crate::directory::{Entry, Key};

/// A refusal takes at least this long, whatever its reason.
const REFUSAL: Duration = Duration::from_millis(50);
/// What is copied at once.
const CHUNK: usize = 64 << 10;
/// Principals of a certificate that are looked at.
const MOST_PRINCIPALS: usize = 32;
/// What one connection may make the gateway hold.
const LIMITS: fn() -> Limits = || Limits { total_window: 4 << 20, channels: 64, ..Limits::default() };

/// Somebody who may jump.
pub struct Jumper {
    /// The key.
    pub credential: Credential,
    /// A Spark that its name could have meant, if there were one.
    missed: Option<Key>,
    /// Where from.
    pub client: SocketAddr,
    reached: Mutex<Reached>,
}

/// What somebody who jumps counts for: until the first Spark it is one that may have to make room, then for each
/// namespace, to its end.
struct Reached {
    startup: Option<Startup>,
    shares: HashMap<String, Share>,
}

impl Jumper {
    /// Somebody who has not jumped yet.
    #[must_use]
    pub fn new(
        credential: Credential,
        missed: Option<Key>,
        client: SocketAddr,
        mut startup: Startup,
    ) -> Self {
        startup.reached(Stage::Jumping);
        let reached = Mutex::new(Reached { startup: Some(startup), shares: HashMap::new() });
        Self { credential, missed, client, reached }
    }

    fn reaches(&self, shares: &Shares, namespace: &str) -> Result<(), Crowded> {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if !reached.shares.contains_key(namespace) {
            reached.shares.insert(namespace.into(), shares.take(namespace)?);
        }
        reached.startup = None;
        Ok(())
    }
}

/// Serves one connection until it ends.
pub async fn serve<S: Sparks>(shared: Arc<Shared<S>>, jumper: Arc<Jumper>, packets: Packets) {
    let (mut connection, _opener, driver) = Connection::start(packets, LIMITS());
    let mut channels = JoinSet::new();
    let requests = async {
        while let Some(incoming) = connection.next().await {
            while channels.try_join_next().is_some() {}
            if let Incoming::Open(request) = incoming {
                open(&mut channels, &shared, &jumper, request);
            }
        }
    };
    tokio::select! {
        () = requests => {}
        ended = driver.run() => {
            if let Err(error) = ended {
                tracing::info!(from = %jumper.client, %error, "a connection to the jump host broke a rule");
            }
        }
    }
}

fn open<S: Sparks>(
    channels: &mut JoinSet<()>,
    shared: &Arc<Shared<S>>,
    jumper: &Arc<Jumper>,
    request: OpenRequest,
) {
    match &request.kind {
        ChannelKind::Session => {
            let text = no_shell(jumper.missed.as_ref());
            channels.spawn(async move { explain::session(request.accept(), &text, 1).await });
        }
        ChannelKind::DirectTcpip { host, port, .. } => {
            let (host, port) = (String::from_utf8_lossy(host).into_owned(), *port);
            let (shared, jumper) = (shared.clone(), jumper.clone());
            channels.spawn(async move { jump(&shared, &jumper, &host, port, request).await });
        }
        _ => request.reject(
            OpenReason::AdministrativelyProhibited,
            "this gateway only leads to SPARK.NAMESPACE port 22",
        ),
    }
}

/// What somebody is told who wants a session with the gateway itself.
fn no_shell(missed: Option<&Key>) -> String {
    let missed = missed.map(|Key { namespace, name }| {
        format!("there is no Spark \"{name}\" in namespace \"{namespace}\", and ")
    });
    let missed = missed.unwrap_or_default();
    format!(
        "{missed}this gateway has no shell of its own: ssh SPARK.NAMESPACE@GATEWAY, or ssh -J jump@GATEWAY SPARK.NAMESPACE"
    )
}

async fn jump<S: Sparks>(shared: &Shared<S>, jumper: &Jumper, host: &str, port: u32, request: OpenRequest) {
    let began = tokio::time::Instant::now();
    let refuse = async |request: OpenRequest, text: &str| {
        tokio::time::sleep_until(began + REFUSAL).await;
        request.reject(OpenReason::AdministrativelyProhibited, text);
    };
    let place = place::host(host, shared.default_namespace.as_deref());
    let place = place.filter(|_| port == 22 || port == u32::from(SSH_PORT));
    let Some(place) = place.map(|spark| Place { spark, user: None }) else {
        return refuse(request, "this gateway only leads to SPARK.NAMESPACE port 22").await;
    };
    let entry = shared.sparks.entry(&place.spark);
    match admit_any_user(shared, &place, entry.as_ref(), jumper) {
        Err(refusal) => {
            tracing::info!(spark = %place.spark, from = %jumper.client, key = jumper.credential.fingerprint(), reason = %refusal, "a jump was refused");
            refuse(request, &format!("{} does not exist, or does not know your key", place.spark)).await;
        }
        Ok(_) if entry.is_some_and(|entry| recording(&entry.spark) == Recording::Required) => {
            let text = format!("sessions of {0} are recorded, and come in by ssh {0}@GATEWAY", place.spark);
            refuse(request, &text).await;
        }
        Ok(granted) => connect(shared, jumper, &place, &granted, request).await,
    }
}

/// Whether its sessions are recorded.
pub fn recording(spark: &Spark) -> Recording {
    let ssh = spark.status.as_ref().and_then(|status| status.ssh.as_ref());
    ssh.map(|ssh| ssh.recording).unwrap_or_default()
}

/// Who the inner connection will be is not known here: a certificate for any user of the Spark is good enough, and the
/// guest looks again.
fn admit_any_user<S: Sparks>(
    shared: &Shared<S>,
    place: &Place,
    entry: Option<&Entry>,
    jumper: &Jumper,
) -> Result<Granted, Refusal> {
    let authorities = shared.authorities.keys();
    let circumstances = shared.circumstances(&authorities, jumper.client.ip());
    let admitted = admit(place, entry, &jumper.credential, circumstances);
    let (Err(_), Credential::Certificate(certificate)) = (&admitted, &jumper.credential) else {
        return admitted;
    };
    let users = certificate.valid_principals().iter().take(MOST_PRINCIPALS);
    let user = |principal: &String| {
        principal.split_once('+').map_or(principal.as_str(), |(user, _)| user).to_owned()
    };
    let mut others = users.map(|principal| {
        let place = Place { user: Some(user(principal)), ..place.clone() };
        admit(&place, entry, &jumper.credential, circumstances)
    });
    others.find(Result::is_ok).unwrap_or(admitted)
}

async fn connect<S: Sparks>(
    shared: &Shared<S>,
    jumper: &Jumper,
    place: &Place,
    granted: &Granted,
    request: OpenRequest,
) {
    if let Err(crowded) = jumper.reaches(&shared.shares, &place.spark.namespace) {
        tracing::info!(from = %jumper.client, %crowded, "a jump was turned away");
        shared.metrics.connection("crowded");
        return request.reject(OpenReason::ResourceShortage, &crowded.to_string());
    }
    shared.sparks.active(&place.spark);
    let awake = || shared.sparks.awake(&place.spark);
    match dial::tcp(&place.spark, shared.credentials.port, awake).await {
        Ok(stream) => {
            let _counted = shared.metrics.session("jump");
            let began = std::time::Instant::now();
            tracing::info!(spark = %place.spark, from = %jumper.client, key = granted.who, "jumps");
            copy(request.accept(), stream).await;
            tracing::info!(spark = %place.spark, from = %jumper.client, seconds = began.elapsed().as_secs_f64(), "the jump has ended");
        }
        Err(error) => {
            tracing::info!(spark = %place.spark, from = %jumper.client, %error, "a jump failed");
            request.reject(OpenReason::ConnectFailed, &error.to_string());
        }
    }
}

/// Copies both ways until both have ended, or the client has closed the channel and all that it sent is passed on.
async fn copy(channel: Channel, stream: TcpStream) {
    let Channel { reader, stderr, mut writer, requests, control } = channel;
    drop((stderr, requests));
    let (mut from_guest, to_guest) = stream.into_split();
    let down = async {
        tokio::select! {
            _ = download(&mut from_guest, &mut writer) => {}
            () = control.closed() => {}
        }
        drop(writer);
    };
    tokio::join!(upload(reader, to_guest), down);
    control.close();
}

async fn upload(mut reader: ChannelReader, mut to_guest: OwnedWriteHalf) {
    while let Some(chunk) = reader.next().await {
        if to_guest.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = to_guest.shutdown().await;
}

/// Holds no buffer while there is nothing to copy.
async fn download(from_guest: &mut OwnedReadHalf, writer: &mut ChannelWriter) -> io::Result<()> {
    loop {
        from_guest.readable().await?;
        let room = writer.room().await?;
        let mut packet = PacketBuf::with_capacity(room.min(CHUNK));
        match from_guest.try_read_buf(&mut packet.spare()) {
            Ok(0) => return Ok(()),
            Ok(_) => send(writer, packet).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn send(writer: &mut ChannelWriter, mut packet: PacketBuf) -> io::Result<()> {
    while let Err(unsent) = writer.send(packet) {
        packet = unsent;
        writer.room().await?;
    }
    Ok(())
}
