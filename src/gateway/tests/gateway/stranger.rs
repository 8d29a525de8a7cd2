//! Clients that offer keys and sign nothing.

use std::sync::Arc;

use russh::{
    SendError, Signer,
    client::{AuthResult, Config, Handle, Handler, connect},
    keys::{HashAlg, agent::AgentIdentity},
};
use sparks_ssh::transport::PublicKeyOrCertificate;

use super::{Gateway, key};

/// A client that offers keys and signs nothing.
pub struct Stranger(pub Handle<Anybody>);

pub struct Anybody;

impl Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

struct SignsNothing;

/// The key was accepted, and nothing was signed.
pub struct Unsigned;

impl From<SendError> for Unsigned {
    fn from(error: SendError) -> Self {
        panic!("{error}");
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
        Err(Unsigned)
    }
}

impl Stranger {
    pub async fn connect(gateway: &Gateway) -> Self {
        Self(connect(Arc::new(Config::default()), gateway.address, Anybody).await.unwrap())
    }

    /// Whether a key is accepted, so that it would only have to be signed for.
    pub async fn offers(&mut self, name: &str, seed: u8) -> bool {
        let key = key(seed).public_key().clone();
        match self.0.authenticate_publickey_with(name, key, None, &mut SignsNothing).await {
            Err(Unsigned) => true,
            Ok(AuthResult::Failure { .. }) => false,
            Ok(AuthResult::Success) => panic!("nothing was signed"),
        }
    }
}
