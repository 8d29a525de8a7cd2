//! Who may enter which Spark. Pure: the state, the time and the address are parameters.
//!
//! A key enters a Spark whose `authorized_keys` has it. A certificate enters
//! - if an authority of the installation signed it, and its principals name the place (see [`keys::spark_principals`]);
//! - if a `cert-authority` line of the Spark trusts who signed it, and its principals have one of the line's
//!   `principals=`, or, without that option, name the place or are the user's name, as with OpenSSH.

use std::net::IpAddr;

pub use sparks_ssh::transport::Credential;
use sparks_ssh::{
    keys::{self, AuthorizedKey, Denied, Permissions},
    transport::{Certificate, HashAlg, PublicKey},
};

use super::place::Place;
use crate::directory::{Entry, Key};

/// The user that a login becomes when neither it nor the Spark names one.
pub const DEFAULT_USER: &str = "root";

/// What somebody may do who enters, and who that is.
#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    /// What the options of the key or the certificate allow.
    pub permissions: Permissions,
    /// Fingerprint, and comment of the key or id of the certificate.
    pub who: String,
}

/// Why somebody may not enter; for the log, never for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The user name is none that a Spark can have.
    #[error("the user name names no Spark and nobody")]
    Name,
    /// There is no such Spark.
    #[error("there is no such Spark")]
    NoSpark,
    /// No line of it has the key.
    #[error("the key is not among its authorized keys")]
    UnknownKey,
    /// No authority that it trusts signed the certificate.
    #[error("no authority that it trusts signed the certificate")]
    UnknownAuthority,
    /// Key or certificate are known, and not good here or now.
    #[error("{0}")]
    Denied(String),
    /// It offers one key after the other.
    #[error("too many keys were offered")]
    Attempts,
}

impl Refusal {
    /// One word for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::NoSpark => "no_spark",
            Self::UnknownKey => "unknown_key",
            Self::UnknownAuthority => "unknown_authority",
            Self::Denied(_) => "denied",
            Self::Attempts => "attempts",
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied.to_string())
    }
}

/// What is known besides the Spark.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// User certificate authorities of the installation.
    pub authorities: &'a [PublicKey],
    /// Unix seconds.
    pub now: u64,
    /// Where the client comes from.
    pub peer: IpAddr,
}

/// The user in the Spark that a login becomes.
#[must_use]
pub fn user<'a>(place: &'a Place, entry: &'a Entry) -> &'a str {
    let ssh = entry.spark.status.as_ref().and_then(|status| status.ssh.as_ref());
    let default = ssh.and_then(|ssh| ssh.user.as_deref());
    place.user.as_deref().or(default).unwrap_or(DEFAULT_USER)
}

/// Whether somebody may enter.
///
/// # Errors
/// [`Refusal`] when not.
pub fn admit(
    place: &Place,
    entry: Option<&Entry>,
    credential: &Credential,
    circumstances: Circumstances<'_>,
) -> Result<Granted, Refusal> {
    let entry = entry.ok_or(Refusal::NoSpark)?;
    match credential {
        Credential::Key(key) => admit_key(entry, key, circumstances),
        Credential::Certificate(certificate) => {
            let (Key { namespace, name }, user) = (&place.spark, user(place, entry));
            let principals = keys::spark_principals(name, namespace, user);
            admit_certificate(entry, certificate, &principals, user, circumstances)
        }
    }
}

fn admit_key(entry: &Entry, key: &PublicKey, circumstances: Circumstances<'_>) -> Result<Granted, Refusal> {
    let mut refusal = Refusal::UnknownKey;
    for line in entry.keys.iter().filter(|line| line.is(key)) {
        match line.check(circumstances.now, circumstances.peer) {
            Ok(permissions) => {
                let who = who(&key.fingerprint(HashAlg::Sha256).to_string(), &line.comment);
                return Ok(Granted { permissions, who });
            }
            Err(denied) => refusal = denied.into(),
        }
    }
    Err(refusal)
}

fn admit_certificate(
    entry: &Entry,
    certificate: &Certificate,
    principals: &[String],
    user: &str,
    circumstances: Circumstances<'_>,
) -> Result<Granted, Refusal> {
    let Circumstances { authorities, now, peer } = circumstances;
    let mut names: Vec<_> = principals.iter().map(String::as_str).collect();
    let mut refusal = Refusal::UnknownAuthority;
    if signed_by(certificate, authorities.iter()) {
        match keys::check_certificate(certificate, authorities, &names, now, peer) {
            Ok(permissions) => return Ok(Granted { permissions, who: who_of(certificate) }),
            Err(denied) => refusal = denied.into(),
        }
    }
    names.push(user);
    for line in entry.keys.iter().filter(|line| authority_of(line, certificate)) {
        match line.check_certificate(certificate, &names, now, peer) {
            Ok(permissions) => return Ok(Granted { permissions, who: who_of(certificate) }),
            Err(denied) => refusal = denied.into(),
        }
    }
    Err(refusal)
}

fn authority_of(line: &AuthorizedKey, certificate: &Certificate) -> bool {
    line.options.cert_authority && signed_by(certificate, std::iter::once(&line.key))
}

/// Whether one of these signed it, by its own word; the signature itself is verified later.
pub fn signed_by<'a>(certificate: &Certificate, mut keys: impl Iterator<Item = &'a PublicKey>) -> bool {
    keys.any(|key| key.key_data() == certificate.signature_key())
}

/// Fingerprint and id of a certificate.
#[must_use]
pub fn who_of(certificate: &Certificate) -> String {
    who(&certificate.public_key().fingerprint(HashAlg::Sha256).to_string(), certificate.key_id())
}

/// A comment is anybody's text: short, and without anything that a terminal would obey.
fn who(fingerprint: &str, comment: &str) -> String {
    let comment: String = comment.chars().filter(|c| !c.is_control()).take(100).collect();
    if comment.is_empty() { fingerprint.into() } else { format!("{fingerprint} {comment}") }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
