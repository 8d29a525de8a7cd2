//! Lines of `authorized_keys`.

use std::net::IpAddr;

use super::{Denied, Options, Permissions, check_certificate};
use crate::transport::{Certificate, PublicKey};

/// A line with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizedKey {
    /// The key.
    pub key: PublicKey,
    /// What stands behind it.
    pub comment: String,
    /// What stands before it.
    pub options: Options,
}

/// Why a line is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// No key in it can be read.
    #[error("it has no public key that can be read")]
    Key,
    /// A quote is missing.
    #[error("a double quote is missing")]
    Quote,
    /// An option is not known, or its value not understood.
    #[error("the option {0:?} is not known, or its value is not understood")]
    Option(String),
    /// Of two values, which one was meant nobody knows.
    #[error("the option {0:?} may stand there only once")]
    Twice(String),
    /// An empty list is not the same as none.
    #[error("its principals=\"\" names nobody")]
    NoPrincipal,
    /// A key itself has none.
    #[error("the option \"principals\" is for certificates and needs \"cert-authority\" beside it")]
    PrincipalsOfKey,
    /// It stands in a list of keys that may all do the same.
    #[error("a key of this list may have no options")]
    NotBare,
}

/// The keys of a file, each with the number of its line from 1. Comments and empty lines are skipped.
pub fn parse(text: &str) -> impl Iterator<Item = (usize, Result<AuthorizedKey, LineError>)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(n, line)| (n, parse_line(line)))
}

fn parse_line(line: &str) -> Result<AuthorizedKey, LineError> {
    if let Ok(key) = PublicKey::from_openssh(line) {
        return Ok(AuthorizedKey { comment: comment(&key), key, options: Options::default() });
    }
    let (options, rest) = split_options(line)?;
    let options = Options::parse(options)?;
    let key = PublicKey::from_openssh(rest.trim()).map_err(|_| LineError::Key)?;
    Ok(AuthorizedKey { comment: comment(&key), key, options })
}

fn comment(key: &PublicKey) -> String {
    String::from_utf8_lossy(key.comment().as_bytes()).into_owned()
}

/// The options end at the first space that is not quoted.
fn split_options(line: &str) -> Result<(&str, &str), LineError> {
    match unquoted_at(line, |c| c == ' ' || c == '\t')? {
        Some(at) => Ok((&line[..at], &line[at..])),
        None => Err(LineError::Key),
    }
}

/// Where the first of these characters is that stands in no quotes. Only `\"` is an escape: the backslash before it
/// isn't one itself, as in OpenSSH's auth2-pubkeyfile.c.
pub(super) fn unquoted_at(text: &str, wanted: impl Fn(char) -> bool) -> Result<Option<usize>, LineError> {
    let (mut is_quoted, mut before) = (false, ' ');
    for (at, c) in text.char_indices() {
        if c == '"' && before != '\\' {
            is_quoted = !is_quoted;
        } else if !is_quoted && wanted(c) {
            return Ok(Some(at));
        }
        before = c;
    }
    if is_quoted { Err(LineError::Quote) } else { Ok(None) }
}

impl AuthorizedKey {
    /// The key, in a list whose keys have no options.
    ///
    /// # Errors
    /// [`LineError::NotBare`]: options that nobody looks at would seem to hold.
    pub fn bare(self) -> Result<PublicKey, LineError> {
        if self.options == Options::default() { Ok(self.key) } else { Err(LineError::NotBare) }
    }

    /// Whether it is this key, to log in with.
    #[must_use]
    pub fn is(&self, key: &PublicKey) -> bool {
        !self.options.cert_authority && self.key.key_data() == key.key_data()
    }

    /// What a login with the key itself may do.
    ///
    /// # Errors
    /// When it may not be used from there or any more.
    pub fn check(&self, now: u64, peer: IpAddr) -> Result<Permissions, Denied> {
        if self.options.from.as_ref().is_some_and(|from| !from.matches(peer)) {
            return Err(Denied::Address);
        }
        if self.options.permissions.expires.is_some_and(|at| at <= now) {
            return Err(Denied::Expired);
        }
        Ok(self.options.permissions.clone())
    }

    /// What a login may do with a certificate that this key signed. The line's own principals, if there are any, stand
    /// for `principals`.
    ///
    /// # Errors
    /// When the line is no authority's, or the certificate is not good here.
    pub fn check_certificate(
        &self,
        certificate: &Certificate,
        principals: &[&str],
        now: u64,
        peer: IpAddr,
    ) -> Result<Permissions, Denied> {
        if !self.options.cert_authority {
            return Err(Denied::Authority);
        }
        let own: Vec<&str> = self.options.principals.iter().map(String::as_str).collect();
        let principals = if own.is_empty() { principals } else { &own };
        let allowed = check_certificate(certificate, std::slice::from_ref(&self.key), principals, now, peer)?;
        self.check(now, peer)?.and(allowed)
    }
}
