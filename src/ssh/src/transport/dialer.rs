use russh::{
    client::{Handler, Session},
    keys::{PublicKey, PublicKeyOrCertificate},
};

use crate::TransportEnds;

/// A client's handler: it trusts the given host keys, and hands the session over once it is authenticated.
#[derive(Debug)]
pub struct Dialer {
    trusted: Vec<PublicKey>,
    ends: Option<TransportEnds>,
}

impl Dialer {
    /// For one session, which exchanges its packets with `ends`.
    #[must_use]
    pub fn new(trusted: Vec<PublicKey>, ends: TransportEnds) -> Self {
        Self { trusted, ends: Some(ends) }
    }
}

impl Handler for Dialer {
    type Error = russh::Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // Certificates aren't asked for, and the key in one isn't what was trusted.
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        Ok(self.trusted.iter().any(|trusted| trusted.key_data() == key.key_data()))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if let Some((received, to_send)) = self.ends.take() {
            session.take_over(received, to_send);
        }
        Ok(())
    }
}
