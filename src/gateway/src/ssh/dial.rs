//! The way to a guest: wake its Spark, connect, log in.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;
use sparks_api::{SSH_PORT, Spark};
use sparks_ssh::transport::{Client, LoginError, Peer, PrivateKey, PublicKey, Session, TransportError, tune};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    ahead::Turn,
    place::Place,
    relay::{Link, Slot},
    sparks::Sparks,
};
use crate::directory::{Awake, Key, WakeError};

/// How long a guest may take to answer a TCP connection.
const CONNECTS_WITHIN: Duration = Duration::from_secs(3);
/// How long a guest may take for everything before it has let the gateway in.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long connecting to a Spark that runs is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pod has its address before its guest listens: a freshly woken one is tried this often,
const SHORT_PAUSE: Duration = Duration::from_millis(3);
/// for this long,
const AT_FIRST: Duration = Duration::from_millis(500);
/// and this often then.
const LONG_PAUSE: Duration = Duration::from_millis(50);
/// What a guest may have sent that is not read yet, which a key stroke's echo waits for. Guests are near: more would not
/// make a transfer faster.
const UNREAD: usize = 128 * 1024;

/// Why a guest can't be reached. The sentences are for a client that has authenticated.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is no pod.
    #[error(transparent)]
    Asleep(#[from] WakeError),
    /// The pod doesn't answer.
    #[error("{spark} does not answer at {address}: {source}")]
    Unreachable {
        /// The Spark.
        spark: Key,
        /// Its guest.
        address: SocketAddr,
        /// The last error.
        source: io::Error,
    },
    /// The controller has not said which host key it has.
    #[error("{spark} has no SSH host key yet: wait until it is Ready")]
    NoHostKey {
        /// The Spark.
        spark: Key,
    },
    /// Somebody else answers.
    #[error("what answers at {address} is not {spark}: its host key is another one")]
    WrongHostKey {
        /// The Spark.
        spark: Key,
        /// Its guest, as it was thought.
        address: SocketAddr,
    },
    /// It doesn't speak SSH as it should.
    #[error("the SSH server of {spark} fails: {source}")]
    Handshake {
        /// The Spark.
        spark: Key,
        /// How.
        source: TransportError,
    },
    /// It says nothing.
    #[error("the SSH server of {spark} does not answer")]
    Silent {
        /// The Spark.
        spark: Key,
    },
    /// It doesn't let the gateway in.
    #[error("{spark} refuses the login as {user}: is there such a user in it, and is the account open?")]
    Refused {
        /// The Spark.
        spark: Key,
        /// The user.
        user: String,
    },
}

impl DialError {
    /// One word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Asleep(error) => error.reason(),
            Self::Unreachable { .. } => "unreachable",
            Self::NoHostKey { .. } => "no_host_key",
            Self::WrongHostKey { .. } => "wrong_host_key",
            Self::Handshake { .. } => "handshake",
            Self::Silent { .. } => "silent",
            Self::Refused { .. } => "refused",
        }
    }

    /// Whether the pod may just be starting, or may have just gone.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Handshake { source, .. } => source.is_lost(),
            _ => false,
        }
    }
}

/// What a gateway logs in to guests with.
#[derive(Clone)]
pub struct Credentials {
    /// Its key.
    pub key: Arc<PrivateKey>,
    /// How it speaks SSH.
    pub client: Client,
    /// Port of the guests.
    pub port: u16,
    /// How long a guest may take to let it in.
    pub within: Duration,
}

impl Credentials {
    /// Those of a key.
    #[must_use]
    pub fn new(key: PrivateKey, guests: Guests) -> Self {
        let Guests { port, within } = guests;
        Self { key: Arc::new(key), client: Client::default(), port, within }
    }
}

/// How guests are reached.
#[derive(Clone, Copy, Debug)]
pub struct Guests {
    /// Their TCP port.
    pub port: u16,
    /// How long one may take to let the gateway in.
    pub within: Duration,
}

impl Default for Guests {
    fn default() -> Self {
        Self { port: SSH_PORT, within: HANDSHAKE }
    }
}

/// A guest that has let the gateway in.
pub struct Connected {
    /// Completes when the guest's side has ended.
    pub guest: Session,
    /// Whether the Spark slept or was starting.
    pub woken: bool,
}

/// The way to a guest, which is being made.
pub struct Way {
    /// Where to.
    pub place: Place,
    /// The user in it.
    pub user: String,
    /// The guest's ends of the queues.
    pub slot: Slot,
    /// The making.
    pub task: AbortOnDropHandle<Result<Connected, DialError>>,
}

/// A way to a guest, and what will connect it to the client.
pub struct Dial {
    /// The way.
    pub way: Way,
    /// The connection.
    pub link: Link,
    proven: CancellationToken,
    turn: Option<Turn>,
}

impl Dial {
    /// Begins: with a turn for a client that has not proven who it is, which makes one attempt and wakes nothing.
    pub fn start<S: Sparks>(
        sparks: S,
        credentials: Credentials,
        place: Place,
        user: String,
        tapped: bool,
        turn: Option<Turn>,
    ) -> Self {
        let (link, proven) = (Link::new(tapped), CancellationToken::new());
        let (slot, spark, login) = (link.guest.clone(), place.spark.clone(), user.clone());
        let proof = proven.clone();
        let task =
            tokio::spawn(async move { dial(&sparks, &credentials, &spark, &login, &slot, &proof).await });
        let way = Way { place, user, slot: link.guest.clone(), task: AbortOnDropHandle::new(task) };
        let mut dial = Self { way, link, proven, turn };
        if dial.turn.is_none() {
            dial.prove();
        }
        dial
    }

    /// The client has proven who it is.
    pub fn prove(&mut self) {
        self.proven.cancel();
        if let Some(turn) = self.turn.take() {
            turn.proven();
        }
    }

    /// Whether it is good for a login at this place: it goes on, or stands.
    #[must_use]
    pub fn is_for(&self, place: &Place, user: &str, tapped: bool) -> bool {
        let has_failed = self.way.task.is_finished() && !self.way.slot.is_taken();
        let is_same = self.link.between.is_some() == tapped;
        is_same && self.way.place == *place && self.way.user == user && !has_failed && !self.link.is_spent()
    }
}

/// Connects to the guest of a Spark, which `awake` finds and wakes for that.
///
/// # Errors
/// [`DialError`] when it can't be reached in time.
pub async fn tcp<F>(spark: &Key, port: u16, awake: impl Fn() -> F) -> Result<TcpStream, DialError>
where
    F: Future<Output = Result<Awake, WakeError>>,
{
    let mut tries = Tries::new();
    loop {
        let awake = tries.awake(spark, port, awake()).await?;
        match connect(spark, awake.ip, port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => tries.pause(error).await?,
        }
    }
}

async fn dial<S: Sparks>(
    sparks: &S,
    credentials: &Credentials,
    spark: &Key,
    user: &str,
    slot: &Slot,
    proven: &CancellationToken,
) -> Result<Connected, DialError> {
    if !proven.is_cancelled()
        && let Some(awake) = sparks.up(spark)
    {
        match log_in(credentials, spark, &awake, user, slot).await {
            Ok(guest) => return Ok(Connected { guest, woken: false }),
            Err(error) if !error.is_passing() => return Err(error),
            Err(_) => {}
        }
    }
    proven.cancelled().await;
    let mut tries = Tries::new();
    loop {
        let awake = tries.awake(spark, credentials.port, sparks.awake(spark)).await?;
        match log_in(credentials, spark, &awake, user, slot).await {
            Ok(guest) => return Ok(Connected { guest, woken: tries.woken }),
            Err(error) => tries.pause(error).await?,
        }
    }
}

/// Attempts to reach a guest.
struct Tries {
    began: Instant,
    woken: bool,
}

impl Tries {
    fn new() -> Self {
        Self { began: Instant::now(), woken: false }
    }

    async fn awake(
        &mut self,
        spark: &Key,
        port: u16,
        awake: impl Future<Output = Result<Awake, WakeError>>,
    ) -> Result<Awake, DialError> {
        let awake = awake.await.map_err(|error| match error {
            // In the words of one that can't be reached.
            WakeError::Astray { address, .. } => DialError::Unreachable {
                spark: spark.clone(),
                address: SocketAddr::new(address, port),
                source: io::ErrorKind::HostUnreachable.into(),
            },
            error => error.into(),
        })?;
        if awake.woken {
            // From now on it has as long as one that runs.
            self.woken = true;
            self.began = Instant::now();
        }
        Ok(awake)
    }

    async fn pause(&self, error: DialError) -> Result<(), DialError> {
        let spent = self.began.elapsed();
        if !error.is_passing() || spent > PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(if spent < AT_FIRST { SHORT_PAUSE } else { LONG_PAUSE }).await;
        Ok(())
    }
}

async fn connect(spark: &Key, ip: IpAddr, port: u16) -> Result<TcpStream, DialError> {
    let address = SocketAddr::new(ip, port);
    let unreachable = |source| DialError::Unreachable { spark: spark.clone(), address, source };
    let connected = timeout(CONNECTS_WITHIN, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
    tune(&stream).map_err(unreachable)?;
    SockRef::from(&stream).set_recv_buffer_size(UNREAD).map_err(unreachable)?;
    Ok(stream)
}

async fn log_in(
    credentials: &Credentials,
    spark: &Key,
    awake: &Awake,
    user: &str,
    slot: &Slot,
) -> Result<Session, DialError> {
    let trusted = host_key(&awake.spark).ok_or_else(|| DialError::NoHostKey { spark: spark.clone() })?;
    let stream = connect(spark, awake.ip, credentials.port).await?;
    let slot = slot.clone();
    let peer = Peer { trusted: vec![trusted], ends: Box::new(move || slot.take()) };
    let login = async {
        let guest = credentials.client.connect(stream, peer, credentials.within).await?;
        guest.log_in(user, credentials.key.clone()).await
    };
    let spark = spark.clone();
    login.await.map_err(|error| match error {
        LoginError::WrongHostKey => {
            DialError::WrongHostKey { spark, address: SocketAddr::new(awake.ip, credentials.port) }
        }
        LoginError::Silent => DialError::Silent { spark },
        LoginError::Refused => DialError::Refused { spark, user: user.into() },
        LoginError::Transport(source) => DialError::Handshake { spark, source },
    })
}

fn host_key(spark: &Spark) -> Option<PublicKey> {
    let line = spark.status.as_ref()?.ssh.as_ref()?.host_key.as_deref()?;
    PublicKey::from_openssh(line).ok()
}
