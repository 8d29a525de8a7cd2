//! The options before a key: sshd(8), AUTHORIZED_KEYS FILE FORMAT.

use jiff::{civil::DateTime, tz::TimeZone};

use super::{AddressPatterns, HostPort, LineError, Permissions, line::unquoted_at};

/// What the options before a key say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What a login with the key may do.
    pub permissions: Permissions,
    /// From where it may come; anywhere when empty.
    pub from: Option<AddressPatterns>,
    /// The key signs certificates, and is none to log in with.
    pub cert_authority: bool,
    /// Names that a certificate may have instead of the user's; the user's own when empty.
    pub principals: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { permissions: Permissions::all(), from: None, cert_authority: false, principals: Vec::new() }
    }
}

impl Options {
    /// Reads a list such as `no-pty,command="make deploy"`. One that is not known makes the whole line unusable: it may
    /// have been meant to forbid something.
    pub(super) fn parse(text: &str) -> Result<Self, LineError> {
        let mut options = Self::default();
        for option in split(text)? {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(unquoted(value)?)),
                None => (option, None),
            };
            options.set(&name.to_ascii_lowercase(), value)?;
        }
        if !options.principals.is_empty() && !options.cert_authority {
            return Err(LineError::PrincipalsOfKey);
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: Option<String>) -> Result<(), LineError> {
        if value.is_some() && self.is_taken(name) {
            return Err(LineError::Twice(name.to_owned()));
        }
        let understood = match value {
            None => self.flag(name),
            Some(value) if name == "principals" => return self.set_principals(&value),
            Some(value) => self.value(name, &value),
        };
        understood.ok_or_else(|| LineError::Option(name.to_owned()))
    }

    /// Whether it has its value already, of those that sshd takes but once.
    fn is_taken(&self, name: &str) -> bool {
        match name {
            "command" => self.permissions.force_command.is_some(),
            "from" => self.from.is_some(),
            "principals" => !self.principals.is_empty(),
            _ => false,
        }
    }

    fn set_principals(&mut self, list: &str) -> Result<(), LineError> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        self.principals = names.map(str::to_owned).collect();
        if self.principals.is_empty() { Err(LineError::NoPrincipal) } else { Ok(()) }
    }

    fn flag(&mut self, name: &str) -> Option<()> {
        let permissions = &mut self.permissions;
        let (name, is_on) = name.strip_prefix("no-").map_or((name, true), |rest| (rest, false));
        match name {
            "pty" => permissions.pty = is_on,
            "port-forwarding" => permissions.port_forwarding = is_on,
            "agent-forwarding" => permissions.agent_forwarding = is_on,
            "x11-forwarding" => permissions.x11 = is_on,
            "user-rc" => permissions.user_rc = is_on,
            "restrict" if is_on => {
                *permissions = Permissions {
                    pty: false,
                    port_forwarding: false,
                    agent_forwarding: false,
                    x11: false,
                    user_rc: false,
                    ..permissions.clone()
                };
            }
            "cert-authority" if is_on => self.cert_authority = true,
            // Of a hardware key; they only ask for more.
            "touch-required" if !is_on => {}
            _ => return None,
        }
        Some(())
    }

    fn value(&mut self, name: &str, value: &str) -> Option<()> {
        let permissions = &mut self.permissions;
        match name {
            "command" => permissions.force_command = Some(value.to_owned()),
            "environment" => {
                let (name, value) = value.split_once('=').filter(|(name, _)| is_variable(name))?;
                // Of several values the first counts, as with sshd.
                if permissions.environment.iter().all(|(known, _)| known != name) {
                    permissions.environment.push((name.to_owned(), value.to_owned()));
                }
            }
            "from" => self.from = Some(AddressPatterns::parse(value)?),
            "expiry-time" => {
                let new = expiry(value)?;
                permissions.expires = Some(permissions.expires.map_or(new, |old| old.min(new)));
            }
            "permitopen" => permissions.permit_open.push(host_port(value)?),
            "permitlisten" if value.contains(':') => permissions.permit_listen.push(host_port(value)?),
            "permitlisten" => permissions.permit_listen.push(host_port(&format!("*:{value}"))?),
            _ => return None,
        }
        Some(())
    }
}

/// Whether sshd takes it for a variable's name.
fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// At commas that are not quoted.
fn split(mut text: &str) -> Result<Vec<&str>, LineError> {
    let mut all = Vec::new();
    while let Some(at) = unquoted_at(text, |c| c == ',')? {
        all.push(&text[..at]);
        text = &text[at + 1..];
    }
    all.push(text);
    Ok(all)
}

/// The value in double quotes; `\"` is a quote, and any other quote within is a mistake.
fn unquoted(value: &str) -> Result<String, LineError> {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(LineError::Quote)?;
    let escaped = inner.match_indices('"').all(|(at, _)| inner[..at].ends_with('\\'));
    if escaped && !inner.ends_with('\\') { Ok(inner.replace("\\\"", "\"")) } else { Err(LineError::Quote) }
}

/// `YYYYMMDD[HHMM[SS]][Z]`; UTC with and without the Z, because a Spark has no other zone.
fn expiry(text: &str) -> Option<u64> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |text| text.parse::<i8>().ok());
    let year = digits[..4].parse().ok()?;
    let civil =
        DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0).ok()?;
    u64::try_from(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

/// `HOST:PORT`, `[::1]:PORT`, `HOST:*`.
fn host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if host.is_empty() || bare.is_none() && host.contains(':') {
        return None;
    }
    let port = match port {
        "*" => None,
        number => Some(number.parse().ok().filter(|port| *port > 0)?),
    };
    Some(HostPort { host: bare.unwrap_or(host).to_owned(), port })
}
