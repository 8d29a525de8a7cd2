//! The environment of a session, as sshd makes it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::launch::{DEFAULT_PATH, DEFAULT_SHELL, is_passed_on};
use crate::ssh::login::{Addresses, Login};
use crate::users::{self, User};

/// What a client may set, beside `LC_*`. Not everything: a forced command or a restricted shell must not be had by
/// `LD_PRELOAD` or `BASH_ENV`.
const ACCEPTED: [&str; 13] = [
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "FORCE_COLOR",
    "GIT_PROTOCOL",
    "LANG",
    "LANGUAGE",
    "NO_COLOR",
    "TERM",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "TZ",
    "XMODIFIERS",
];

/// So many variables may a client set.
const MOST_VARIABLES: usize = 128;

/// Longest value of one.
const LONGEST_VALUE: usize = 4096;

/// Largest `/etc/environment` that is read.
const LARGEST_FILE: u64 = 64 << 10;

/// Variables in order; of several values, the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Sets one.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((name.into(), value.into())),
        }
    }

    /// Sets one that is not set.
    fn set_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Sets one as the client asks; false when it is not accepted.
    pub fn accept(&mut self, name: &[u8], value: &[u8]) -> bool {
        let known = name.starts_with(b"LC_") || ACCEPTED.iter().any(|accepted| accepted.as_bytes() == name);
        let sound = is_name(name) && value.len() <= LONGEST_VALUE && !value.contains(&0);
        if !known || !sound || self.0.len() >= MOST_VARIABLES {
            return false;
        }
        self.set(OsStr::from_bytes(name), OsStr::from_bytes(value));
        true
    }
}

/// What a session adds to what its login gives it.
#[derive(Debug, Default)]
pub struct Extras<'a> {
    /// `TERM` and `SSH_TTY`, of a session with a terminal.
    pub terminal: Option<(&'a OsStr, &'a Path)>,
    /// `SSH_AUTH_SOCK`.
    pub agent: Option<&'a Path>,
    /// `DISPLAY` and what belongs to it.
    pub display: Vec<(String, String)>,
    /// `SSH_ORIGINAL_COMMAND`, where another one is forced.
    pub original_command: Option<&'a OsStr>,
}

/// The environment of a session: what the client set, then what is ours to say, in the order of sshd's do_setup_env().
pub fn of(login: &Login, client: &Environment, extras: &Extras<'_>) -> Environment {
    let mut env = client.clone();
    for (name, value) in std::env::vars_os().filter(|(name, _)| is_passed_on(name)) {
        env.set(name, value);
    }
    of_user(&mut env, &login.user);
    if let Some((term, _)) = extras.terminal {
        env.set("TERM", term);
    }
    // As pam_env(8): what the Spark says outweighs what the client wishes.
    for (name, value) in users::small_file(Path::new("/etc/environment"), LARGEST_FILE)
        .map(|text| assignments(&text))
        .unwrap_or_default()
    {
        env.set(name, value);
    }
    env.set_default("LANG", "C.UTF-8");
    for (name, value) in &login.permissions.environment {
        env.set(name, value);
    }
    of_connection(&mut env, login.addresses);
    if let Some((_, path)) = extras.terminal {
        env.set("SSH_TTY", path);
    }
    if let Some(path) = extras.agent {
        env.set("SSH_AUTH_SOCK", path);
    }
    if let Some(command) = extras.original_command {
        env.set("SSH_ORIGINAL_COMMAND", command);
    }
    for (name, value) in &extras.display {
        env.set(name, value);
    }
    env
}

fn of_user(env: &mut Environment, user: &User) {
    env.set("USER", &user.name);
    env.set("LOGNAME", &user.name);
    env.set("HOME", &user.home);
    env.set("PATH", DEFAULT_PATH);
    env.set("MAIL", format!("/var/mail/{}", user.name));
    env.set("SHELL", user.shell.as_deref().unwrap_or(DEFAULT_SHELL));
}

/// Who comes by `kubectl exec` has no addresses; programs that look whether they were reached by SSH want some.
fn of_connection(env: &mut Environment, addresses: Option<Addresses>) {
    let (client, server) = match addresses {
        Some(Addresses { client, server }) => {
            (format!("{} {}", client.ip(), client.port()), format!("{} {}", server.ip(), server.port()))
        }
        None => ("127.0.0.1 65535".into(), "127.0.0.1 22".into()),
    };
    let port = server.rsplit(' ').next().unwrap_or_default();
    env.set("SSH_CLIENT", format!("{client} {port}"));
    env.set("SSH_CONNECTION", format!("{client} {server}"));
}

/// The lines `NAME=VALUE` of an `/etc/environment`: perhaps with `export`, perhaps in quotes; nothing is expanded.
fn assignments(text: &[u8]) -> Vec<(OsString, OsString)> {
    let line = |line: &[u8]| {
        let line = line.trim_ascii();
        let line = line.strip_prefix(b"export ").map_or(line, <[u8]>::trim_ascii_start);
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&line[..at], unquoted(&line[at + 1..]));
        let sound = is_name(name) && !value.contains(&0);
        sound.then(|| (OsString::from_vec(name.into()), OsString::from_vec(value.into())))
    };
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    }
}

fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_client_sets_its_language_and_colours_and_nothing_that_changes_what_runs() {
        let mut env = Environment::default();
        for name in ["LANG", "LC_ALL", "LC_TIME", "COLORTERM", "GIT_PROTOCOL", "NO_COLOR"] {
            assert!(env.accept(name.as_bytes(), b"x"), "{name}");
        }
        for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "ENV", "HOME", "LC_=", "LC_ X", "", "IFS"] {
            assert!(!env.accept(name.as_bytes(), b"x"), "{name}");
        }
        assert!(!env.accept(b"LANG", b"a\0b"));
        assert!(!env.accept(b"LANG", &[b'x'; LONGEST_VALUE + 1]));
        assert_eq!(env.get("LANG"), Some(OsStr::new("x")));
    }

    #[test]
    fn a_client_sets_only_so_many() {
        let mut env = Environment::default();
        let set = (0..1000).filter(|n| env.accept(format!("LC_{n}").as_bytes(), b"x")).count();
        assert_eq!(set, MOST_VARIABLES);
    }

    #[test]
    fn an_environment_file_has_assignments_comments_and_quotes() {
        let text = b"# A=1\n\nLANG=de_DE.UTF-8\n  export PATH=\"/opt/bin:/bin\"\r\nX='a b' \nBROKEN\n=x\n1A=x\nE=\nQ=\"\n";
        let pairs: Vec<_> = assignments(text)
            .into_iter()
            .map(|(name, value)| format!("{}={}", name.to_str().unwrap(), value.to_str().unwrap()))
            .collect();
        assert_eq!(pairs, ["LANG=de_DE.UTF-8", "PATH=/opt/bin:/bin", "X=a b", "E=", "Q=\""]);
    }

    #[test]
    fn the_addresses_of_a_connection_are_told_as_sshd_does() {
        let mut env = Environment::default();
        let addresses = Addresses {
            client: "[2001:db8::1]:40000".parse().unwrap(),
            server: "192.0.2.2:2222".parse().unwrap(),
        };
        of_connection(&mut env, Some(addresses));
        assert_eq!(env.get("SSH_CONNECTION"), Some(OsStr::new("2001:db8::1 40000 192.0.2.2 2222")));
        assert_eq!(env.get("SSH_CLIENT"), Some(OsStr::new("2001:db8::1 40000 2222")));
    }
}
