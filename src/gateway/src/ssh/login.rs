//! A client, until it has authenticated.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use russh::{
    Disconnect,
    keys::ssh_key::{Certificate, certificate::CertType},
    server::{Auth, Handler, PublicKeyOffer, Session, VerifiedPublicKey},
};
use sparks_api::Recording;
use sparks_ssh::{
    Packets,
    context::Context,
    queues,
    transport::{Guard, PublicKey},
};
use tokio::sync::oneshot;

use super::{
    MOST_ATTEMPTS, Shared,
    access::{self, Credential, Granted, Refusal, admit, signed_by},
    ahead::Turn,
    dial::{Dial, Way},
    jump::{Jumper, recording},
    place::{self, Name, Place},
    relay::{Between, Link},
    shares::{Crowded, Share},
    sparks::Sparks,
    startups::{Stage, Startup},
};
use crate::directory::{Entry, Key, State, Wanted, fingerprint, state};

/// How much of a client's user name is logged.
const LOGGED_NAME: usize = 64;

/// Where the two ends of a connection are.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Of the client.
    pub client: SocketAddr,
    /// Where it was received.
    pub server: SocketAddr,
}

/// A client that has authenticated.
pub enum Entered {
    /// It goes to a Spark.
    Spark(Box<Visit>),
    /// It jumps.
    Jump(Arc<Jumper>, Packets),
}

/// A client on its way to a Spark.
pub struct Visit {
    /// The Spark as it was then.
    pub entry: Entry,
    /// Who it is.
    pub granted: Granted,
    /// The way to the guest.
    pub way: Way,
    /// What has to be passed on, if somebody is to see it.
    pub between: Option<Between>,
    /// When it was let in.
    pub since: Instant,
    /// It counts for the Spark's namespace.
    pub share: Share,
}

/// What became of the attempts, for the log.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    /// How many were refused.
    pub refused: usize,
    /// The name and the reason that says most: of several, the last one that is more than that nobody knows the key.
    pub told: Option<(String, Refusal)>,
}

impl Attempts {
    fn refused(&mut self, name: &str, refusal: Refusal) {
        self.refused += 1;
        // Clients offer the plain key of a certificate as well, and every other key that an agent has.
        let says_more = |(_, known): &(String, Refusal)| matches!(known, Refusal::UnknownKey);
        if !matches!(refusal, Refusal::UnknownKey) || self.told.as_ref().is_none_or(says_more) {
            self.told = Some((name.chars().take(LOGGED_NAME).collect(), refusal));
        }
    }
}

/// Attempts that the session and the log share.
pub type SharedAttempts = Arc<Mutex<Attempts>>;

/// Where a name leads.
enum Target {
    Spark(Place),
    Jump { missed: Option<Key> },
}

enum Accepted {
    Spark {
        entry: Entry,
        granted: Granted,
        place: Place,
        user: String,
    },
    /// `missed` is a Spark that the name could have meant, if there were one.
    Jump {
        credential: Credential,
        missed: Option<Key>,
    },
    Crowded(Crowded),
}

/// What is offered, before the client has proven to hold its secret key.
fn offered(offer: &PublicKeyOffer<'_>) -> Credential {
    match offer.certificate {
        Some(certificate) => Credential::Certificate(Box::new(certificate.clone())),
        None => Credential::Key(offer.public_key.clone()),
    }
}

fn is_tapped(entry: &Entry) -> bool {
    recording(&entry.spark) != Recording::Off
}

/// A client, until it has authenticated.
pub struct Login<S: Sparks> {
    shared: Arc<Shared<S>>,
    addresses: Addresses,
    attempts: SharedAttempts,
    /// Lifts the limits of those who have not authenticated.
    limits: Option<(Guard, Startup)>,
    /// Keys that it has offered, whether they were refused or not.
    offers: usize,
    dial: Option<Dial>,
    has_dialled: bool,
    accepted: Option<Accepted>,
    share: Option<Share>,
    entered: Option<oneshot::Sender<Entered>>,
}

impl<S: Sparks> Login<S> {
    /// A client that has just come. What it becomes is sent to `entered`.
    pub fn new(
        shared: Arc<Shared<S>>,
        addresses: Addresses,
        limits: (Guard, Startup),
        attempts: SharedAttempts,
        entered: oneshot::Sender<Entered>,
    ) -> Self {
        let (limits, entered) = (Some(limits), Some(entered));
        Self {
            shared,
            addresses,
            attempts,
            limits,
            offers: 0,
            dial: None,
            has_dialled: false,
            accepted: None,
            share: None,
            entered,
        }
    }

    /// Where a name leads: a Spark (that may not exist), or nowhere, which is the jump host.
    fn target(&self, name: &str) -> Result<Target, Refusal> {
        match place::name(name, self.shared.default_namespace.as_deref()) {
            Name::Spark(place) => Ok(Target::Spark(place)),
            Name::Word(Some(place)) if self.shared.sparks.entry(&place.spark).is_some() => {
                Ok(Target::Spark(place))
            }
            Name::Word(place) => Ok(Target::Jump { missed: place.map(|place| place.spark) }),
            Name::Jump => Ok(Target::Jump { missed: None }),
            Name::Invalid => Err(Refusal::Name),
        }
    }

    /// Whether a credential is good for a name. Nothing is changed.
    fn check(&self, name: &str, credential: &Credential) -> Result<Accepted, Refusal> {
        let authorities = self.shared.authorities.keys();
        let place = match self.target(name)? {
            Target::Spark(place) => place,
            Target::Jump { missed } => {
                self.check_jump(credential, &authorities)?;
                return Ok(Accepted::Jump { credential: credential.clone(), missed });
            }
        };
        let entry = self.shared.sparks.entry(&place.spark);
        let circumstances = self.shared.circumstances(&authorities, self.addresses.client.ip());
        let granted = admit(&place, entry.as_ref(), credential, circumstances)?;
        let entry = entry.ok_or(Refusal::NoSpark)?;
        let user = access::user(&place, &entry).to_owned();
        Ok(Accepted::Spark { entry, granted, place, user })
    }

    /// Whoever may enter any Spark may jump; where to is looked at for each channel.
    fn check_jump(&self, credential: &Credential, authorities: &[PublicKey]) -> Result<(), Refusal> {
        match credential {
            Credential::Key(key) => {
                let known = self.shared.sparks.trusts(&fingerprint(key)).login;
                if known { Ok(()) } else { Err(Refusal::UnknownKey) }
            }
            Credential::Certificate(certificate) => {
                let signer = PublicKey::from(certificate.signature_key().clone());
                let known = signed_by(certificate, authorities.iter())
                    || self.shared.sparks.trusts(&fingerprint(&signer)).authority;
                let known = known && certificate.cert_type() == CertType::User;
                if known { Ok(()) } else { Err(Refusal::UnknownAuthority) }
            }
        }
    }

    fn reached(&mut self, stage: Stage) {
        if let Some((_, startup)) = &mut self.limits {
            startup.reached(stage);
        }
    }

    fn refuse(&mut self, name: &str, refusal: Refusal) -> Auth {
        self.dial = None;
        self.shared.metrics.login(refusal.reason());
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).refused(name, refusal);
        Auth::reject()
    }

    /// A credential whose secret key the client has proven to hold.
    fn decide(&mut self, name: &str, credential: &Credential) -> Auth {
        let accepted = match self.check(name, credential) {
            Ok(accepted) => accepted,
            Err(refusal) => return self.refuse(name, refusal),
        };
        self.shared.metrics.login("accepted");
        self.accepted = Some(self.goes_on(accepted));
        Auth::Accept
    }

    /// Connects, if there is a place for one more in the namespace.
    fn goes_on(&mut self, accepted: Accepted) -> Accepted {
        let Accepted::Spark { entry, place, user, .. } = &accepted else { return accepted };
        match self.shared.shares.take(&place.spark.namespace) {
            Ok(share) => {
                self.share = Some(share);
                self.shared.sparks.active(&place.spark);
                self.dial(entry, place, user);
                accepted
            }
            Err(crowded) => {
                self.dial = None;
                Accepted::Crowded(crowded)
            }
        }
    }

    /// Connects to the guest for a client that has proven who it is, if that isn't done already.
    fn dial(&mut self, entry: &Entry, place: &Place, user: &str) {
        let ahead = self.dial.take().filter(|dial| dial.is_for(place, user, is_tapped(entry)));
        let mut dial = ahead.unwrap_or_else(|| self.start(entry, place, user, None));
        dial.prove();
        self.dial = Some(dial);
    }

    /// Begins to connect while the client signs: once, because neither a public key nor a certificate is a secret.
    fn dial_ahead(&mut self, entry: &Entry, place: &Place, user: &str) {
        if !self.has_dialled
            && self.shared.sparks.up(&place.spark).is_some()
            && let Some(turn) = self.shared.unproven.begin(&place.spark)
        {
            self.has_dialled = true;
            self.dial = Some(self.start(entry, place, user, Some(turn)));
        }
    }

    fn start(&self, entry: &Entry, place: &Place, user: &str, turn: Option<Turn>) -> Dial {
        let (sparks, credentials) = (self.shared.sparks.clone(), self.shared.credentials.clone());
        Dial::start(sparks, credentials, place.clone(), user.into(), is_tapped(entry), turn)
    }

    /// Lets the client in: what it sends from now on is for somebody else.
    fn enter(&mut self, session: &mut Session) -> Option<Entered> {
        let (guard, startup) = self.limits.take()?;
        guard.authenticated();
        match self.accepted.take()? {
            Accepted::Crowded(_) => None,
            Accepted::Jump { credential, missed } => {
                let ((received, to_send), packets) = queues();
                session.take_over(received, to_send);
                let jumper = Arc::new(Jumper::new(credential, missed, self.addresses.client, startup));
                Some(Entered::Jump(jumper, packets))
            }
            Accepted::Spark { entry, granted, .. } => {
                let Dial { way, link, .. } = self.dial.take()?;
                let Link { client: (received, to_send), first, between, .. } = link;
                let context = Context {
                    client: self.addresses.client,
                    server: self.addresses.server,
                    permissions: granted.permissions.clone(),
                    key: granted.who.clone(),
                };
                // The queue is empty: nothing but this has gone into it yet.
                first.try_send(context.packet().ok()?).ok()?;
                session.take_over(received, to_send);
                let (share, since) = (self.share.take()?, Instant::now());
                Some(Entered::Spark(Box::new(Visit { entry, granted, way, between, since, share })))
            }
        }
    }
}

impl<S: Sparks> Handler for Login<S> {
    type Error = russh::Error;

    /// What OpenSSH's client begins with, to be told which methods there are.
    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        self.reached(Stage::Authenticating);
        Ok(Auth::reject())
    }

    async fn auth_publickey_offered(
        &mut self,
        name: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        // russh counts those that are refused.
        self.offers += 1;
        if self.offers > MOST_ATTEMPTS {
            return Ok(self.refuse(name, Refusal::Attempts));
        }
        match self.check(name, &offered(&offer)) {
            Ok(accepted) => {
                self.reached(Stage::Known);
                if let Accepted::Spark { entry, place, user, .. } = &accepted {
                    self.dial_ahead(entry, place, user);
                }
                Ok(Auth::Accept)
            }
            Err(refusal) => Ok(self.refuse(name, refusal)),
        }
    }

    async fn auth_publickey(&mut self, name: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(self.decide(name, &Credential::Key(key.public_key.clone())))
    }

    async fn auth_openssh_certificate(
        &mut self,
        name: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        Ok(self.decide(name, &Credential::Certificate(Box::new(certificate.clone()))))
    }

    async fn auth_success_banner(&mut self) -> Result<Option<String>, Self::Error> {
        let Some(Accepted::Spark { entry, place, .. }) = &self.accepted else { return Ok(None) };
        Ok(match state(&entry.spark, Wanted::Address) {
            State::Asleep(_) => Some(format!("Waking {} ...\r\n", place.spark)),
            State::Starting(_) => Some(format!("{} is starting ...\r\n", place.spark)),
            _ => None,
        })
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if let Some(Accepted::Crowded(crowded)) = &self.accepted {
            tracing::info!(from = %self.addresses.client, %crowded, "was turned away");
            self.shared.metrics.connection("crowded");
            return session.disconnect(Disconnect::TooManyConnections, &crowded.to_string(), "");
        }
        let entered = self.enter(session).ok_or(russh::Error::Inconsistent)?;
        let receiver = self.entered.take().ok_or(russh::Error::Inconsistent)?;
        // Without a receiver the connection is being given up.
        let _ = receiver.send(entered);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_more_than_that_nobody_knows_a_key_is_what_the_log_tells() {
        let mut attempts = Attempts::default();
        let refusals =
            [Refusal::UnknownKey, Refusal::UnknownAuthority, Refusal::NoSpark, Refusal::UnknownKey];
        for (place, refusal) in refusals.into_iter().enumerate() {
            attempts.refused(&place.to_string(), refusal);
        }
        assert_eq!((attempts.refused, attempts.told.map(|(name, _)| name).as_deref()), (4, Some("2")));
    }
}
