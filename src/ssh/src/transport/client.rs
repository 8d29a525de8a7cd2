use std::{io, sync::Arc, time::Duration};

use russh::{
    SendError, Signer,
    client::{AuthResult, Config, Handle, Handler, connect_stream},
    keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, agent::AgentIdentity},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use super::{
    HashAlg, PrivateKey, PublicKey, algorithms,
    error::{TransportError, failed},
    guard::{Guard, guarded},
    session::Session,
};
use crate::TransportEnds;

/// Why a server could not be logged in to.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Somebody else answers.
    #[error("its host key is another one")]
    WrongHostKey,
    /// It says nothing.
    #[error("it does not answer")]
    Silent,
    /// It doesn't let that user in with that key.
    #[error("it refuses the login")]
    Refused,
    /// It doesn't speak SSH as it should, or has gone.
    #[error(transparent)]
    Transport(TransportError),
}

impl From<russh::Error> for LoginError {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::UnknownKey => Self::WrongHostKey,
            russh::Error::IO(error) if error.kind() == io::ErrorKind::TimedOut => Self::Silent,
            error => Self::Transport(failed(error)),
        }
    }
}

/// How we are a client: one that leaves it to the server to begin key exchanges.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) config: Arc<Config>,
}

impl Default for Client {
    fn default() -> Self {
        Self { config: Arc::new(algorithms::client()) }
    }
}

/// What a server has to be, and where its packets go.
pub struct Peer {
    /// The host keys of which it must have one.
    pub trusted: Vec<PublicKey>,
    /// Gives the ends of the queues once the server has let us in, so that they can be used otherwise if it never does.
    pub ends: Box<dyn FnOnce() -> Option<TransportEnds> + Send>,
}

impl Peer {
    /// One with that key and these ends.
    #[must_use]
    pub fn new(trusted: PublicKey, ends: TransportEnds) -> Self {
        Self { trusted: vec![trusted], ends: Box::new(move || Some(ends)) }
    }
}

impl Client {
    /// Exchanges keys with a server, which has so long for that and for the login.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn connect<S>(&self, stream: S, peer: Peer, within: Duration) -> Result<Stranger, LoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, guard) = guarded(stream, within);
        let deadline = Instant::now() + within;
        let handler = Dialer::Outside(peer);
        // The guard ends what russh does, this what it waits for.
        let connected = timeout_at(deadline, connect_stream(self.config.clone(), stream, handler)).await;
        Ok(Stranger { handle: connected.map_err(|_| LoginError::Silent)??, guard, deadline })
    }
}

/// A connection that has yet to log in.
pub struct Stranger {
    handle: Handle<Dialer>,
    guard: Guard,
    deadline: Instant,
}

impl Stranger {
    /// Logs in. The session exchanges its packets with the ends that were given.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(self, user: &str, key: Arc<PrivateKey>) -> Result<Session, LoginError> {
        let Self { mut handle, guard, deadline } = self;
        let key = PrivateKeyWithHashAlg::new(key, None);
        let answer = timeout_at(deadline, handle.authenticate_publickey(user, key)).await;
        match answer.map_err(|_| LoginError::Silent)?? {
            AuthResult::Success => {
                guard.authenticated();
                Ok(Session::new(handle))
            }
            AuthResult::Failure { .. } => Err(LoginError::Refused),
        }
    }

    /// Whether a key would do for that user, without signing anything.
    ///
    /// # Errors
    /// [`LoginError`] when that can't be asked.
    pub async fn offer(&mut self, user: &str, key: PublicKey) -> Result<bool, LoginError> {
        match self.handle.authenticate_publickey_with(user, key, None, &mut SignsNothing).await {
            Err(Unsigned::Asked) => Ok(true),
            Ok(_) => Ok(false),
            Err(Unsigned::Gone) => Err(LoginError::Transport(failed(russh::Error::SendError))),
        }
    }

    /// Whether the server has gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }
}

/// Trusts the given host keys, and hands the session over once it is authenticated.
enum Dialer {
    Outside(Peer),
    Inside,
}

impl Handler for Dialer {
    type Error = russh::Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // Certificates aren't asked for, and the key in one isn't what was trusted.
        let (Self::Outside(peer), PublicKeyOrCertificate::PublicKey { key, .. }) = (self, offered) else {
            return Ok(false);
        };
        Ok(peer.trusted.iter().any(|trusted| trusted.key_data() == key.key_data()))
    }

    async fn auth_succeeded(&mut self, session: &mut russh::client::Session) -> Result<(), Self::Error> {
        if let Self::Outside(peer) = std::mem::replace(self, Self::Inside)
            && let Some((received, to_send)) = (peer.ends)()
        {
            session.take_over(received, to_send);
        }
        Ok(())
    }
}

struct SignsNothing;

enum Unsigned {
    /// The key was accepted, and a signature is asked for.
    Asked,
    Gone,
}

impl From<SendError> for Unsigned {
    fn from(_: SendError) -> Self {
        Self::Gone
    }
}

impl Signer for SignsNothing {
    type Error = Unsigned;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        _: Vec<u8>,
    ) -> Result<Vec<u8>, Unsigned> {
        Err(Unsigned::Asked)
    }
}
