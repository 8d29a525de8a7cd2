use std::{sync::Arc, time::Duration};

use russh::{
    MethodKind, cipher,
    server::{Auth, Config, Handler, PublicKeyOffer, VerifiedPublicKey, run_stream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::timeout,
};

use super::{
    Certificate, HashAlg, PrivateKey, PublicKey, algorithms,
    error::{TransportError, failed},
    guard::{Guard, guarded},
    hello,
    session::{Farewell, Reason, Session},
};
use crate::{Packets, TransportEnds, queues};

/// How long our first word on ciphers waits for the client's. A client that is further away has a slower network than any
/// cipher, and is not to wait for a round trip more.
const OWN_ORDER_WITHIN: Duration = Duration::from_millis(10);
/// How long a client that was sent away may take to go.
const GOES_WITHIN: Duration = Duration::from_secs(30);

/// What a client offers, and later proves to hold the secret key of.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A plain key.
    Key(PublicKey),
    /// The key of a certificate.
    Certificate(Box<Certificate>),
}

impl Credential {
    /// `key` or `certificate`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Certificate(_) => "certificate",
        }
    }

    /// SHA-256 of the key, as OpenSSH writes it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Key(key) => key.fingerprint(HashAlg::Sha256).to_string(),
            Self::Certificate(certificate) => {
                certificate.public_key().fingerprint(HashAlg::Sha256).to_string()
            }
        }
    }

    fn offered(offer: &PublicKeyOffer<'_>) -> Self {
        match offer.certificate {
            Some(certificate) => Self::Certificate(Box::new(certificate.clone())),
            None => Self::Key(offer.public_key.clone()),
        }
    }
}

/// Decides who may log in. A decision consumes it, so that nobody is asked about a client twice.
pub trait Authenticator: Send + Sized + 'static {
    /// What is known of a client that was let in.
    type Identity: Send + 'static;

    /// A client that shows nothing. OpenSSH's begins like this, to be told what it may show.
    fn nothing(self, user: &str) -> impl Future<Output = Verdict<Self>> + Send;

    /// Whether a credential would do, once the client has proven to hold its secret key.
    fn offered(&mut self, user: &str, credential: Credential) -> impl Future<Output = bool> + Send;

    /// A credential whose secret key the client holds.
    fn proven(self, user: &str, credential: Credential) -> impl Future<Output = Verdict<Self>> + Send;
}

/// What becomes of a client.
pub enum Verdict<A: Authenticator> {
    /// It may try something else.
    Refused(A),
    /// It comes in.
    Accepted(Acceptance<A::Identity>),
    /// It has proven who it is, and is told why it can't come in nevertheless.
    SentAway(Reason, String),
}

/// All that a client needs that comes in.
pub struct Acceptance<I> {
    /// Who it is.
    pub identity: I,
    /// With what its session exchanges packets.
    pub ends: TransportEnds,
    /// What it is told before the login succeeds.
    pub banner: Option<String>,
}

/// A client that was let in.
pub struct Entered<I> {
    /// Its transport.
    pub session: Session,
    /// Sends it away.
    pub farewell: Farewell,
    /// Who it is.
    pub identity: I,
}

/// By what clients may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// By public keys and certificates, of which so many may be refused.
    Keys {
        /// How many.
        attempts: usize,
    },
    /// By being there.
    Nothing,
}

/// How we are a server.
#[derive(Clone)]
pub struct Server {
    config: Arc<Config>,
    /// The same with one cipher each.
    each: Arc<[(cipher::Name, Arc<Config>)]>,
    pub(super) patience: Duration,
}

impl Server {
    /// With these host keys, and certificates of them for clients that ask for one.
    #[must_use]
    pub fn new(keys: Vec<PrivateKey>, certificates: Vec<Certificate>, methods: Methods) -> Self {
        Self::with(|| {
            let mut config = algorithms::server(keys.clone(), certificates.clone());
            match methods {
                Methods::Keys { attempts } => config.max_auth_attempts = attempts,
                Methods::Nothing => config.methods = (&[MethodKind::None][..]).into(),
            }
            config
        })
    }

    pub(super) fn with(config: impl Fn() -> Config) -> Self {
        let all = config();
        let one = |name: &cipher::Name| {
            let mut one = config();
            one.preferred.cipher = vec![*name].into();
            (*name, Arc::new(one))
        };
        let each = all.preferred.cipher.iter().map(one).collect();
        Self { config: Arc::new(all), each, patience: OWN_ORDER_WITHIN }
    }

    /// With the cipher that was chosen, if one was.
    fn config(&self, cipher: Option<cipher::Name>) -> Arc<Config> {
        let one = self.each.iter().find(|(name, _)| Some(*name) == cipher);
        one.map_or(&self.config, |(_, config)| config).clone()
    }

    /// Runs a session until its client has logged in, which it must do in time. Without a result it never did.
    ///
    /// # Errors
    /// [`TransportError`] when the session ended early.
    pub async fn accept<S, A>(
        &self,
        stream: S,
        authenticator: A,
        within: Duration,
    ) -> Result<Option<Entered<A::Identity>>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Authenticator,
    {
        let (stream, guard) = guarded(stream, within);
        let heard = hello::hear(stream, &self.config.preferred.cipher, self.patience).await;
        let (stream, cipher) = heard.map_err(|error| failed(error.into()))?;
        let (enter, entered) = oneshot::channel();
        let login = Login::Outside(authenticator, Hall { guard, enter });
        let running = run_stream(self.config(cipher), stream, login).await.map_err(failed)?;
        let farewell = Farewell::new(running.handle());
        let mut session = Session::new(running);
        // The login is a part of the session: it is dropped with it, at the latest.
        match entered.await {
            Ok(Ok(identity)) => Ok(Some(Entered { session, farewell, identity })),
            Ok(Err(away)) => {
                away.say(&farewell, &mut session).await;
                Ok(None)
            }
            Err(_) => session.ended().await.map(|()| None),
        }
    }
}

/// What waits for a client to come in.
struct Hall<I> {
    guard: Guard,
    enter: oneshot::Sender<Result<I, Away>>,
}

/// A client that has to go again.
struct Away {
    reason: Reason,
    sentence: String,
    packets: Packets,
}

impl Away {
    /// Not by the login itself: what comes before the success has taken effect is compressed otherwise than the client expects.
    async fn say(self, farewell: &Farewell, session: &mut Session) {
        let said = async {
            farewell.say(self.reason, &self.sentence).await;
            session.ended().await
        };
        // Who doesn't hear of it sees that the connection is closed.
        let _ = timeout(GOES_WITHIN, said).await;
        // Not before: without its packets, the transport ends by itself.
        drop(self.packets);
    }
}

/// A client's way in.
enum Login<A: Authenticator> {
    /// It may still try.
    Outside(A, Hall<A::Identity>),
    /// It comes in, or is sent away, with the success that it is told of next.
    Decided(Decision<A::Identity>, Hall<A::Identity>),
    /// It has come in, or the authenticator is being asked.
    Over,
}

struct Decision<I> {
    identity: Result<I, Away>,
    ends: TransportEnds,
    banner: Option<String>,
}

impl<I> From<Acceptance<I>> for Decision<I> {
    fn from(Acceptance { identity, ends, banner }: Acceptance<I>) -> Self {
        Self { identity: Ok(identity), ends, banner }
    }
}

impl<I> Decision<I> {
    fn away(reason: Reason, sentence: String) -> Self {
        let (ends, packets) = queues();
        Self { identity: Err(Away { reason, sentence, packets }), ends, banner: None }
    }
}

impl<A: Authenticator> Login<A> {
    /// Asks the authenticator, where that has not decided yet.
    async fn decide<F>(&mut self, ask: impl FnOnce(A) -> F) -> Auth
    where
        F: Future<Output = Verdict<A>>,
    {
        let (authenticator, hall) = match std::mem::replace(self, Self::Over) {
            Self::Outside(authenticator, hall) => (authenticator, hall),
            decided => {
                *self = decided;
                return Auth::reject();
            }
        };
        let (next, auth) = match ask(authenticator).await {
            Verdict::Refused(authenticator) => (Self::Outside(authenticator, hall), Auth::reject()),
            Verdict::Accepted(acceptance) => (Self::Decided(acceptance.into(), hall), Auth::Accept),
            Verdict::SentAway(reason, sentence) => {
                (Self::Decided(Decision::away(reason, sentence), hall), Auth::Accept)
            }
        };
        *self = next;
        auth
    }
}

impl<A: Authenticator> Handler for Login<A> {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        Ok(self.decide(|authenticator| authenticator.nothing(user)).await)
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let Self::Outside(authenticator, _) = self else { return Ok(Auth::reject()) };
        let would_do = authenticator.offered(user, Credential::offered(&offer)).await;
        Ok(if would_do { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let credential = Credential::Key(key.public_key.clone());
        Ok(self.decide(|authenticator| authenticator.proven(user, credential)).await)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let credential = Credential::Certificate(Box::new(certificate.clone()));
        Ok(self.decide(|authenticator| authenticator.proven(user, credential)).await)
    }

    async fn auth_success_banner(&mut self) -> Result<Option<String>, Self::Error> {
        let Self::Decided(decision, _) = self else { return Ok(None) };
        Ok(decision.banner.take())
    }

    async fn auth_succeeded(&mut self, session: &mut russh::server::Session) -> Result<(), Self::Error> {
        let Self::Decided(decision, Hall { guard, enter }) = std::mem::replace(self, Self::Over) else {
            return Err(russh::Error::Inconsistent);
        };
        let Decision { identity, ends: (received, to_send), .. } = decision;
        guard.authenticated();
        session.take_over(received, to_send);
        // Without a receiver the connection is being given up.
        let _ = enter.send(identity);
        Ok(())
    }
}
