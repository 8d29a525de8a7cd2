//! OpenSSH's programs, told how to reach a Spark by way of the API server.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use spark_client::ConnectOptions;

use crate::errors::CliError;

/// Ends the names of Sparks in `ssh_config`: `ssh api.spark`, `ssh api.team-a.spark`.
pub const SUFFIX: &str = ".spark";

/// This program with the cluster that was named, as a command line for a shell.
#[derive(Clone, Debug)]
pub struct Myself {
    words: Vec<String>,
}

impl Myself {
    /// As it was called, by its full path.
    pub fn new(options: &ConnectOptions) -> Result<Self, CliError> {
        let program = std::env::current_exe()?;
        Ok(Self::at(&program, options))
    }

    fn at(program: &Path, options: &ConnectOptions) -> Self {
        let mut words = vec![program.to_string_lossy().into_owned()];
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([name.to_owned(), value]);
            }
        };
        option("--kubeconfig", options.kubeconfig.as_ref().map(|path| path.to_string_lossy().into_owned()));
        option("--context", options.context.clone());
        option("--namespace", options.namespace.clone());
        Self { words }
    }

    /// A verb of it, as `ssh_config` wants a command: quoted for the shell, `%` doubled. `host` is left as it is.
    pub fn command(&self, verb: &str, host: &str) -> String {
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        format!("{} {verb} {host}", words.join(" "))
    }
}

/// A word for a POSIX shell, in an option in which ssh replaces `%`.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@+,".contains(c);
    let doubled = word.replace('%', "%%");
    if !word.is_empty() && word.chars().all(plain) {
        doubled
    } else {
        format!("'{}'", doubled.replace('\'', r"'\''"))
    }
}

/// Options of ssh that hold for every Spark. The host key is known from the Spark's status; the right to run commands
/// in the Spark is the key.
pub fn settings(myself: &Myself) -> Vec<(&'static str, String)> {
    vec![
        ("ProxyCommand", myself.command("ssh-proxy", "%n")),
        ("KnownHostsCommand", myself.command("ssh-known-hosts", "%n")),
        ("UserKnownHostsFile", "none".into()),
        ("GlobalKnownHostsFile", "none".into()),
        ("StrictHostKeyChecking", "yes".into()),
        ("CheckHostIP", "no".into()),
        ("HostKeyAlgorithms", "ssh-ed25519".into()),
        // Older clients take a slower one first.
        ("Ciphers", "^aes256-gcm@openssh.com,aes128-gcm@openssh.com".into()),
        ("PreferredAuthentications", "none,publickey".into()),
        ("ServerAliveInterval", "30".into()),
    ]
}

/// The same as arguments.
pub fn options(myself: &Myself) -> Vec<OsString> {
    settings(myself)
        .into_iter()
        .flat_map(|(name, value)| [OsString::from("-o"), OsString::from(format!("{name}={value}"))])
        .collect()
}

/// Becomes one of OpenSSH's programs.
pub fn become_program(program: &str, arguments: &[OsString]) -> CliError {
    let error = Command::new(program).args(arguments).exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        return CliError::Usage(format!(
            "{program} is not installed here: install OpenSSH's client (openssh-client, openssh-clients or openssh), or use `spark exec`"
        ));
    }
    CliError::Io(error)
}

/// Name and namespace of `api`, `api.spark`, `api.team-a` or `api.team-a.spark`.
pub fn host(text: &str) -> Result<(String, Option<String>), String> {
    let (name, namespace) = match text.strip_suffix(SUFFIX).unwrap_or(text).split_once('.') {
        Some((name, namespace)) => (name, Some(namespace)),
        None => (text.strip_suffix(SUFFIX).unwrap_or(text), None),
    };
    let name = crate::parse::name(name)?;
    match namespace {
        Some(namespace) if namespace.is_empty() || namespace.contains('.') => {
            Err("write NAME, NAME.NAMESPACE or NAME.NAMESPACE.spark".into())
        }
        _ => Ok((name, namespace.map(str::to_owned))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_names_a_spark_and_maybe_its_namespace() {
        for (text, name, namespace) in [
            ("api", "api", None),
            ("api.spark", "api", None),
            ("api.team-a", "api", Some("team-a")),
            ("api.team-a.spark", "api", Some("team-a")),
        ] {
            assert_eq!(host(text).unwrap(), (name.into(), namespace.map(str::to_owned)), "{text}");
        }
        for text in ["", ".spark", "a.b.c", "a..spark", "A"] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_proxy_reaches_the_cluster_that_was_named_whatever_its_name() {
        let options = ConnectOptions {
            kubeconfig: Some("/a b/100%'s".into()),
            context: Some("dev".into()),
            namespace: None,
        };
        let myself = Myself::at(Path::new("/usr/bin/spark"), &options);
        let expected = r"/usr/bin/spark --kubeconfig '/a b/100%%'\''s' --context dev ssh-proxy %n";
        assert_eq!(myself.command("ssh-proxy", "%n"), expected);
    }

    #[test]
    fn the_host_key_is_the_clusters_word_and_never_a_file() {
        let all = settings(&Myself::at(Path::new("spark"), &ConnectOptions::default()));
        let of = |name: &str| all.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
        assert_eq!(of("StrictHostKeyChecking"), Some("yes"));
        assert_eq!(of("UserKnownHostsFile"), Some("none"));
        assert_eq!(of("KnownHostsCommand"), Some("spark ssh-known-hosts %n"));
    }
}
