//! Who may log in.
//!
//! What is refused is refused in the same words and after the same time, whatever the reason: whether a key is known or a
//! certificate has expired is told to the log alone. Who has proven to hold a key that opens this Spark, but not as that
//! user, is told why.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use sparks_proto::{SparkName, SshServer};
use sparks_ssh::keys::{self, AuthorizedKey, Permissions};
use sparks_ssh::transport::{
    Acceptance, Authenticator, Certificate, Credential, HashAlg, PublicKey, Reason, Verdict,
};
use sparks_ssh::{Packets, queues};

use super::account;
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

    /// What a credential allows, once the client has proven to hold its secret key.
    fn by(&self, user: &str, credential: &Credential, now: u64, peer: IpAddr) -> Result<By, Refusal> {
        match credential {
            Credential::Certificate(certificate) => self.certificate(user, certificate, now, peer),
            Credential::Key(key) => self.key(key, now, peer),
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

/// The transport's questions.
pub struct Door {
    policy: Policy,
    peer: Option<IpAddr>,
}

impl Door {
    /// A door with that policy for somebody from that address, if by TCP.
    pub fn new(policy: Policy, peer: Option<IpAddr>) -> Self {
        Self { policy, peer }
    }

    fn judge(self, user: &str, by: Result<By, Refusal>) -> Verdict<Self> {
        let by = match by {
            Ok(by) => by,
            Err(why) => return self.refuse(user, &why),
        };
        match account::open(user) {
            // The gateway has words of its own for its client.
            Err(closed) if matches!(by, By::Gateway) => self.refuse(user, &closed),
            Err(closed) => {
                self.log(user, &closed);
                Verdict::SentAway(Reason::NoMoreAuthMethods, closed.to_string())
            }
            Ok(user) => {
                let (ends, packets) = queues();
                let identity = (Admission { user, by }, packets);
                Verdict::Accepted(Acceptance { identity, ends, banner: None })
            }
        }
    }

    fn refuse(self, user: &str, why: &dyn Display) -> Verdict<Self> {
        self.log(user, why);
        Verdict::Refused(self)
    }

    /// Not for `kubectl exec`, whose log its client sees.
    fn log(&self, user: &str, why: &dyn Display) {
        if let Some(from) = self.peer {
            log::line(format_args!("ssh: refused {user:?} from {from}: {why}"));
        }
    }

    /// A client and its `ssh --admit` come by different ways: the key of one who is here may have been admitted since.
    async fn hear_of(&mut self, credential: &Credential) {
        if let Credential::Key(key) = credential
            && self.policy.key(key, now(), self.peer()).is_err()
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

impl Authenticator for Door {
    /// What it got in by, and its packets.
    type Identity = (Admission, Packets);

    async fn nothing(self, user: &str) -> Verdict<Self> {
        // Every client asks for this first, to learn what there is; it is no attempt.
        if self.policy.anybody { self.judge(user, Ok(By::exec())) } else { Verdict::Refused(self) }
    }

    async fn offered(&mut self, user: &str, credential: Credential) -> bool {
        self.hear_of(&credential).await;
        // Whether there is such a user is looked at only once the secret key is proven.
        let offered = self.policy.by(user, &credential, now(), self.peer());
        offered.inspect_err(|why| self.log(user, why)).is_ok()
    }

    async fn proven(mut self, user: &str, credential: Credential) -> Verdict<Self> {
        self.hear_of(&credential).await;
        let by = self.policy.by(user, &credential, now(), self.peer());
        self.judge(user, by)
    }
}
