//! Who may log in.
//!
//! What is refused is refused in the same words and after the same time, whatever the reason: whether a key is known or a
//! certificate has expired is told to the log alone. Who has proven to hold a key that opens this Spark, but not as that
//! user, is told why.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::server::{Auth, Handler, PublicKeyOffer, Session, VerifiedPublicKey};
use sparks_proto::{SparkName, SshServer};
use sparks_ssh::TransportEnds;
use sparks_ssh::keys::{self, AuthorizedKey, Permissions};
use sparks_ssh::transport::{Certificate, HashAlg, PublicKey};
use tokio::sync::oneshot;

use super::account::{self, Closed};
use super::config;
use crate::users::User;
use crate::{log, reception};

/// Whom a server lets in.
#[derive(Debug, Default)]
pub struct Policy {
    gateways: Vec<PublicKey>,
    lines: Vec<AuthorizedKey>,
    /// Of the installation.
    authorities: Vec<PublicKey>,
    /// Where this is, which their certificates must name.
    spark: Option<SparkName>,
    /// Keys of those who may run programs in the pod: `ssh --admit`.
    admitted: Vec<PublicKey>,
    /// Whether to let in whoever is there: who may run programs in the pod is root already.
    anybody: bool,
}

impl Policy {
    /// For connections by TCP.
    pub fn of(server: &SshServer) -> Self {
        Self {
            gateways: config::public_keys(&server.gateway_keys, "the gateway's keys"),
            lines: config::authorized(&server.authorized_keys, "authorized_keys"),
            authorities: config::public_keys(&server.user_ca_keys, "the user CA keys"),
            spark: server.spark.clone(),
            admitted: config::bare_keys(&server.admitted_keys),
            anybody: false,
        }
    }

    /// For a connection by `kubectl exec`.
    pub fn anybody() -> Self {
        Self { anybody: true, ..Self::default() }
    }

    /// What an offer would allow, once the client has proven to hold its secret key.
    fn offer(&self, user: &str, offer: &PublicKeyOffer<'_>, now: u64, peer: IpAddr) -> Result<By, Refusal> {
        match offer.certificate {
            Some(certificate) => self.certificate(user, certificate, now, peer),
            None => self.key(offer.public_key, now, peer),
        }
    }

    fn is_gateway(&self, key: &PublicKey) -> bool {
        self.gateways.iter().any(|gateway| gateway.key_data() == key.key_data())
    }

    /// What a key allows.
    fn key(&self, key: &PublicKey, now: u64, peer: IpAddr) -> Result<By, Refusal> {
        if self.is_gateway(key) {
            return Ok(By::Gateway);
        }
        // Before the lines: one of the same key may allow less.
        if self.admitted.iter().any(|admitted| admitted.key_data() == key.key_data()) {
            return Ok(By::exec());
        }
        let mut refusal = Refusal::Unknown;
        // Of several lines with one key, the first that doesn't refuse counts, as with sshd.
        for line in self.lines.iter().filter(|line| line.is(key)) {
            match line.check(now, peer) {
                Ok(permissions) => return Ok(By::Client { permissions, key: described(key, &line.comment) }),
                Err(denied) => refusal = denied.into(),
            }
        }
        Err(refusal)
    }

    /// What a certificate allows to that user.
    fn certificate(
        &self,
        user: &str,
        certificate: &Certificate,
        now: u64,
        peer: IpAddr,
    ) -> Result<By, Refusal> {
        let by = |permissions| By::Client { permissions, key: described_certificate(certificate) };
        let principals = self.principals(user);
        let principals: Vec<_> = principals.iter().map(String::as_str).collect();
        let refusal = match keys::check_certificate(certificate, &self.authorities, &principals, now, peer) {
            Ok(permissions) => return Ok(by(permissions)),
            Err(denied) => denied,
        };
        let trusted = |line: &&AuthorizedKey| {
            line.options.cert_authority && line.key.key_data() == certificate.signature_key()
        };
        let mut refusal = Refusal::from(refusal);
        for line in self.lines.iter().filter(trusted) {
            match line.check_certificate(certificate, &[user], now, peer) {
                Ok(permissions) => return Ok(by(permissions)),
                Err(denied) => refusal = denied.into(),
            }
        }
        Err(refusal)
    }

    /// What certificates of the installation may name; nothing where nobody has said which Spark this is.
    fn principals(&self, user: &str) -> Vec<String> {
        let spark = self.spark.as_ref();
        spark.map(|spark| keys::spark_principals(&spark.name, &spark.namespace, user)).unwrap_or_default()
    }
}

/// For the log.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the key is not known")]
    Unknown,
    #[error(transparent)]
    Denied(#[from] keys::Denied),
}

fn described(key: &PublicKey, comment: &str) -> String {
    format!("{} {comment}", key.fingerprint(HashAlg::Sha256))
}

fn described_certificate(certificate: &Certificate) -> String {
    let fingerprint = certificate.public_key().fingerprint(HashAlg::Sha256);
    format!("{fingerprint} certificate {:?} serial {}", certificate.key_id(), certificate.serial())
}

/// By what somebody got in.
#[derive(Clone, Debug)]
pub enum By {
    /// By the gateway, which says who it is.
    Gateway,
    /// By a key or a certificate of its own, or as somebody who may run programs in the pod.
    Client {
        /// What it may do.
        permissions: Permissions,
        /// The key, for the log.
        key: String,
    },
}

impl By {
    /// By the right to run programs in the pod.
    fn exec() -> Self {
        Self::Client { permissions: Permissions::all(), key: "kubectl exec".into() }
    }
}

/// Somebody who got in.
#[derive(Clone, Debug)]
pub struct Admission {
    /// As whom.
    pub user: User,
    /// By what.
    pub by: By,
}

/// What becomes of somebody who has authenticated.
pub type Judgement = Result<Admission, Closed>;

/// The transport's questions.
pub struct Door {
    policy: Policy,
    peer: Option<IpAddr>,
    judgement: Option<Judgement>,
    told: Option<oneshot::Sender<Judgement>>,
    ends: Option<TransportEnds>,
}

impl Door {
    /// A door with that policy for somebody from that address, if by TCP. Once somebody has authenticated, it says whom it
    /// lets in, if anybody, and joins the ends with the transport.
    pub fn new(
        policy: Policy,
        peer: Option<IpAddr>,
        ends: TransportEnds,
    ) -> (Self, oneshot::Receiver<Judgement>) {
        let (told, admitted) = oneshot::channel();
        (Self { policy, peer, judgement: None, told: Some(told), ends: Some(ends) }, admitted)
    }

    fn judge(&mut self, user: &str, by: Result<By, Refusal>) -> Auth {
        let by = match by {
            Ok(by) => by,
            Err(why) => return self.refuse(user, &why),
        };
        match account::open(user) {
            // The gateway has words of its own for its client.
            Err(closed) if matches!(by, By::Gateway) => return self.refuse(user, &closed),
            Err(closed) => {
                self.log(user, &closed);
                self.judgement = Some(Err(closed));
            }
            Ok(user) => self.judgement = Some(Ok(Admission { user, by })),
        }
        Auth::Accept
    }

    fn refuse(&self, user: &str, why: &dyn Display) -> Auth {
        self.log(user, why);
        Auth::reject()
    }

    /// Not for `kubectl exec`, whose log its client sees.
    fn log(&self, user: &str, why: &dyn Display) {
        if let Some(from) = self.peer {
            log::line(format_args!("ssh: refused {user:?} from {from}: {why}"));
        }
    }

    /// A client and its `ssh --admit` come by different ways: the key of one who is here may have been admitted since.
    async fn hear_of(&mut self, key: &PublicKey) {
        if self.policy.key(key, now(), self.peer()).is_err()
            && let Ok(server) = reception::ask().await
        {
            self.policy.admitted = config::bare_keys(&server.admitted_keys);
        }
    }

    fn peer(&self) -> IpAddr {
        self.peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Handler for Door {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        // Every client asks for this first, to learn what there is; it is no attempt.
        if !self.policy.anybody {
            return Ok(Auth::reject());
        }
        Ok(self.judge(user, Ok(By::exec())))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        if offer.certificate.is_none() {
            self.hear_of(offer.public_key).await;
        }
        // Whether there is such a user is looked at only once the secret key is proven.
        let offered = self.policy.offer(user, &offer, now(), self.peer());
        Ok(offered.map_or_else(|why| self.refuse(user, &why), |_| Auth::Accept))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        self.hear_of(key.public_key).await;
        let by = self.policy.key(key.public_key, now(), self.peer());
        Ok(self.judge(user, by))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        let by = self.policy.certificate(user, certificate, now(), self.peer());
        Ok(self.judge(user, by))
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        if let (Some(judgement), Some(told), Some((received, to_send))) =
            (self.judgement.take(), self.told.take(), self.ends.take())
        {
            session.take_over(received, to_send);
            // Who isn't listened to any more learns it by the ends.
            let _ = told.send(judgement);
        }
        Ok(())
    }
}
