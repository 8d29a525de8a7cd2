//! A client, until it has authenticated.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use sparks_api::Recording;
use sparks_ssh::{
    Packets,
    context::Context,
    queues,
    transport::{Acceptance, Authenticator, PublicKey, Reason, Verdict, ssh_key::certificate::CertType},
};

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
pub enum Visitor {
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

/// What a credential is good for.
enum Accepted {
    Spark(Box<Destination>),
    /// `missed` is a Spark that the name could have meant, if there were one.
    Jump {
        missed: Option<Key>,
    },
}

/// A Spark that a client may enter.
struct Destination {
    entry: Entry,
    granted: Granted,
    place: Place,
    user: String,
}

/// The way to a guest that is made while a client signs.
enum Ahead {
    /// None yet.
    NotYet,
    /// For one of its offers.
    Begun(Box<Dial>),
    /// It was for another offer. There is no second one.
    Over,
}

fn is_tapped(entry: &Entry) -> bool {
    recording(&entry.spark) != Recording::Off
}

/// A client, until it has authenticated.
pub struct Login<S: Sparks> {
    shared: Arc<Shared<S>>,
    addresses: Addresses,
    attempts: SharedAttempts,
    /// Its place among those who have not authenticated.
    startup: Startup,
    /// Keys that it has offered, whether they were refused or not.
    offers: usize,
    ahead: Ahead,
}

impl<S: Sparks> Login<S> {
    /// A client that has just come.
    pub fn new(
        shared: Arc<Shared<S>>,
        addresses: Addresses,
        startup: Startup,
        attempts: SharedAttempts,
    ) -> Self {
        Self { shared, addresses, attempts, startup, offers: 0, ahead: Ahead::NotYet }
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
                return Ok(Accepted::Jump { missed });
            }
        };
        let entry = self.shared.sparks.entry(&place.spark);
        let circumstances = self.shared.circumstances(&authorities, self.addresses.client.ip());
        let granted = admit(&place, entry.as_ref(), credential, circumstances)?;
        let entry = entry.ok_or(Refusal::NoSpark)?;
        let user = access::user(&place, &entry).to_owned();
        Ok(Accepted::Spark(Box::new(Destination { entry, granted, place, user })))
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

    fn refuse(&mut self, name: &str, refusal: Refusal) {
        if matches!(self.ahead, Ahead::Begun(_)) {
            self.ahead = Ahead::Over;
        }
        self.shared.metrics.login(refusal.reason());
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).refused(name, refusal);
    }

    /// Begins to connect while the client signs: once, because neither a public key nor a certificate is a secret.
    fn dial_ahead(&mut self, Destination { entry, place, user, .. }: &Destination) {
        if matches!(self.ahead, Ahead::NotYet)
            && self.shared.sparks.up(&place.spark).is_some()
            && let Some(turn) = self.shared.unproven.begin(&place.spark)
        {
            self.ahead = Ahead::Begun(Box::new(self.start(entry, place, user, Some(turn))));
        }
    }

    fn start(&self, entry: &Entry, place: &Place, user: &str, turn: Option<Turn>) -> Dial {
        let (sparks, credentials) = (self.shared.sparks.clone(), self.shared.credentials.clone());
        Dial::start(sparks, credentials, place.clone(), user.into(), is_tapped(entry), turn)
    }

    /// Connects to the guest for a client that has proven who it is, if that isn't done already.
    fn dial(&mut self, Destination { entry, place, user, .. }: &Destination) -> Dial {
        let mut dial = match std::mem::replace(&mut self.ahead, Ahead::Over) {
            Ahead::Begun(dial) if dial.is_for(place, user, is_tapped(entry)) => *dial,
            _ => self.start(entry, place, user, None),
        };
        dial.prove();
        dial
    }

    /// Lets the client in, if there is a place for one more in the namespace: what it sends from now on is for the guest.
    fn enter(mut self, destination: Destination) -> Verdict<Self> {
        let spark = &destination.place.spark;
        let share = match self.shared.shares.take(&spark.namespace) {
            Ok(share) => share,
            Err(crowded) => return self.turn_away(&crowded),
        };
        self.shared.sparks.active(spark);
        let banner = banner(&destination);
        let Dial { way, link: Link { client: ends, first, between, .. }, .. } = self.dial(&destination);
        let Destination { entry, granted, .. } = destination;
        let context = Context {
            client: self.addresses.client,
            server: self.addresses.server,
            permissions: granted.permissions.clone(),
            key: granted.who.clone(),
        };
        // The queue is empty: nothing but this has gone into it yet.
        if !context.packet().is_ok_and(|packet| first.try_send(packet).is_ok()) {
            return Verdict::SentAway(
                Reason::ByApplication,
                format!("{} has just gone: try again", way.place.spark),
            );
        }
        let visit = Visit { entry, granted, way, between, since: Instant::now(), share };
        Verdict::Accepted(Acceptance { identity: Visitor::Spark(Box::new(visit)), ends, banner })
    }

    fn turn_away(self, crowded: &Crowded) -> Verdict<Self> {
        tracing::info!(from = %self.addresses.client, %crowded, "was turned away");
        self.shared.metrics.connection("crowded");
        Verdict::SentAway(Reason::TooManyConnections, crowded.to_string())
    }

    fn jump(self, credential: Credential, missed: Option<Key>) -> Verdict<Self> {
        let (ends, packets) = queues();
        let jumper = Jumper::new(credential, missed, self.addresses.client, self.startup);
        let identity = Visitor::Jump(Arc::new(jumper), packets);
        Verdict::Accepted(Acceptance { identity, ends, banner: None })
    }
}

/// What a client is told that has to wait.
fn banner(Destination { entry, place, .. }: &Destination) -> Option<String> {
    match state(&entry.spark, Wanted::Address) {
        State::Asleep(_) => Some(format!("Waking {} ...\r\n", place.spark)),
        State::Starting(_) => Some(format!("{} is starting ...\r\n", place.spark)),
        _ => None,
    }
}

impl<S: Sparks> Authenticator for Login<S> {
    type Identity = Visitor;

    async fn nothing(mut self, _: &str) -> Verdict<Self> {
        self.startup.reached(Stage::Authenticating);
        Verdict::Refused(self)
    }

    async fn offered(&mut self, name: &str, credential: Credential) -> bool {
        // The transport counts those that are refused.
        self.offers += 1;
        let accepted = match self.offers {
            ..=MOST_ATTEMPTS => self.check(name, &credential),
            _ => Err(Refusal::Attempts),
        };
        match accepted {
            Ok(accepted) => {
                self.startup.reached(Stage::Known);
                if let Accepted::Spark(destination) = &accepted {
                    self.dial_ahead(destination);
                }
                true
            }
            Err(refusal) => {
                self.refuse(name, refusal);
                false
            }
        }
    }

    async fn proven(mut self, name: &str, credential: Credential) -> Verdict<Self> {
        let accepted = match self.check(name, &credential) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                self.refuse(name, refusal);
                return Verdict::Refused(self);
            }
        };
        self.shared.metrics.login("accepted");
        match accepted {
            Accepted::Spark(destination) => self.enter(*destination),
            Accepted::Jump { missed } => self.jump(credential, missed),
        }
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
