//! Who may log in, and what a login may do: OpenSSH's `authorized_keys` (sshd(8)) and user certificates
//! (PROTOCOL.certkeys). Pure: the time and the peer's address are parameters.

mod address;
mod certificate;
mod line;
mod options;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use address::AddressPatterns;
use address::matches_glob;
pub use certificate::{check_certificate, spark_principals};
pub use line::{AuthorizedKey, LineError, parse};
pub use options::Options;

/// What a login may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permissions {
    /// A terminal.
    pub pty: bool,
    /// TCP and Unix sockets, both ways.
    pub port_forwarding: bool,
    /// The agent.
    pub agent_forwarding: bool,
    /// Windows.
    pub x11: bool,
    /// `~/.ssh/rc`.
    pub user_rc: bool,
    /// The only command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_command: Option<String>,
    /// Where forwarded connections may go; anywhere when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permit_open: Vec<HostPort>,
    /// Where forwarded ports may listen; anywhere when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permit_listen: Vec<HostPort>,
    /// Environment, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// Until when the key or certificate is good, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// A host, or `*` for any, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Name or address as the client says it; `*` is any.
    pub host: String,
    /// Port; any when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Why a login is refused. For the log, never for the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// `from=` or `source-address`.
    #[error("the key may not be used from this address")]
    Address,
    /// It was good until a moment that has passed.
    #[error("the key or certificate has expired")]
    Expired,
    /// It will be good from a moment on that has not come.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// No authority that is trusted signed it.
    #[error("the certificate is signed by no authority that is trusted here")]
    Authority,
    /// The signature is wrong.
    #[error("the signature of the certificate is wrong")]
    Signature,
    /// The signature proves nothing.
    #[error("the certificate is signed with SHA-1, which can be forged")]
    WeakSignature,
    /// It is a host's.
    #[error("the certificate is not a user's")]
    Kind,
    /// It is for somebody else.
    #[error("the certificate names no principal that may log in here")]
    Principal,
    /// It demands something that is not understood.
    #[error("the certificate has the critical option {0:?}, which is not supported")]
    CriticalOption(String),
    /// An option can't be read.
    #[error("the certificate's {0} can't be read")]
    Malformed(&'static str),
    /// Key and certificate force different commands.
    #[error("key and certificate force different commands")]
    TwoCommands,
}

impl Permissions {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self {
            pty: true,
            port_forwarding: true,
            agent_forwarding: true,
            x11: true,
            user_rc: true,
            ..Self::none()
        }
    }

    /// Nothing but commands.
    #[must_use]
    pub fn none() -> Self {
        Self {
            pty: false,
            port_forwarding: false,
            agent_forwarding: false,
            x11: false,
            user_rc: false,
            force_command: None,
            permit_open: Vec::new(),
            permit_listen: Vec::new(),
            environment: Vec::new(),
            expires: None,
        }
    }

    /// Whether a connection may be forwarded to there.
    #[must_use]
    pub fn may_open(&self, host: &str, port: u32) -> bool {
        self.port_forwarding && permits(&self.permit_open, port, |own| own == "*" || own == host)
    }

    /// Whether a forwarded port may listen there. Unlike those to connect to, addresses to listen on may be patterns
    /// (sshd(8)).
    #[must_use]
    pub fn may_listen(&self, address: &str, port: u32) -> bool {
        let address = address.to_ascii_lowercase();
        let matches = |own: &str| matches_glob(own.as_bytes(), address.as_bytes());
        self.port_forwarding && permits(&self.permit_listen, port, matches)
    }

    /// What both allow.
    ///
    /// # Errors
    /// [`Denied::TwoCommands`].
    pub fn and(self, other: Self) -> Result<Self, Denied> {
        let force_command = match (self.force_command, other.force_command) {
            (Some(one), Some(two)) if one != two => return Err(Denied::TwoCommands),
            (one, two) => one.or(two),
        };
        Ok(Self {
            pty: self.pty && other.pty,
            port_forwarding: self.port_forwarding && other.port_forwarding,
            agent_forwarding: self.agent_forwarding && other.agent_forwarding,
            x11: self.x11 && other.x11,
            user_rc: self.user_rc && other.user_rc,
            force_command,
            permit_open: both(self.permit_open, other.permit_open),
            permit_listen: both(self.permit_listen, other.permit_listen),
            environment: self.environment.into_iter().chain(other.environment).collect(),
            expires: [self.expires, other.expires].into_iter().flatten().min(),
        })
    }
}

fn permits(list: &[HostPort], port: u32, matches: impl Fn(&str) -> bool) -> bool {
    let permits =
        |permit: &HostPort| matches(&permit.host) && permit.port.is_none_or(|own| u32::from(own) == port);
    list.is_empty() || list.iter().any(permits)
}

impl HostPort {
    /// What two permits allow both, if anything.
    fn and(&self, other: &Self) -> Option<Self> {
        let host = match (self.host.as_str(), other.host.as_str()) {
            ("*", host) | (host, "*") => host,
            (one, two) if one == two => one,
            _ => return None,
        };
        let port = match (self.port, other.port) {
            (Some(one), Some(two)) if one != two => return None,
            (one, two) => one.or(two),
        };
        Some(Self { host: host.to_owned(), port })
    }
}

/// An empty list allows all, so two lists with nothing in common must not become an empty one.
fn both(one: Vec<HostPort>, two: Vec<HostPort>) -> Vec<HostPort> {
    if one.is_empty() || two.is_empty() {
        return if one.is_empty() { two } else { one };
    }
    let common: Vec<HostPort> = one.iter().flat_map(|a| two.iter().filter_map(|b| a.and(b))).collect();
    if common.is_empty() { vec![HostPort { host: String::new(), port: Some(0) }] } else { common }
}
