//! OpenSSH's programs, told how to reach a Spark.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::errors::{CliError, warn};
use crate::gateway::{GatewayArgs, SYSTEM_NAMESPACE};
use crate::identity;
use crate::myself::Myself;

/// Ends the names of Sparks in `ssh_config`: `ssh api.spark`, `ssh api.team-a.spark`.
pub const SUFFIX: &str = ".spark";

/// By which way the bytes of a connection may go.
#[derive(Clone, Debug, Args)]
pub struct WayArgs {
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Go by way of the API server, also where the gateway can be reached
    #[arg(long)]
    pub no_gateway: bool,
}

/// By which way the bytes of a connection go.
#[derive(Clone, Debug)]
pub struct Way {
    /// Private key to log in with at the end of the gateway's way; there is none by way of the API server.
    identity: Option<PathBuf>,
    gateway: GatewayArgs,
    is_verbose: bool,
}

impl WayArgs {
    /// Makes the key if it isn't there. Where it can't be made, the way by the API server is still there.
    pub fn prepare(self, is_verbose: bool) -> Way {
        self.way(is_verbose, |folder| identity::ensure(&folder))
    }

    /// The same, and leaves everything as it is.
    pub fn plan(self) -> Way {
        self.way(false, |folder| Ok(identity::path(&folder)))
    }

    fn way(self, is_verbose: bool, key: impl FnOnce(PathBuf) -> Result<PathBuf, CliError>) -> Way {
        let way = Way { identity: None, gateway: self.gateway, is_verbose };
        if self.no_gateway {
            return way;
        }
        match identity::folder().and_then(key) {
            Ok(path) => Way { identity: Some(path), ..way },
            Err(error) => {
                if is_verbose {
                    warn(&format!("not through the gateway: {error}"));
                }
                way
            }
        }
    }
}

impl Way {
    /// What `ssh-proxy` is told.
    fn options(&self) -> Vec<String> {
        let Some(identity) = &self.identity else { return Vec::new() };
        let mut all = vec!["--identity".to_owned(), identity.to_string_lossy().into_owned()];
        if let Some(gateway) = &self.gateway.gateway_url {
            all.extend(["--gateway-url".into(), gateway.to_string()]);
        }
        if self.gateway.system_namespace != SYSTEM_NAMESPACE {
            all.extend(["--system-namespace".into(), self.gateway.system_namespace.clone()]);
        }
        all.push("--pass-fd".into());
        if self.is_verbose {
            all.push("--verbose".into());
        }
        all
    }
}

/// A path in `ssh_config`.
fn quoted_path(path: &Path) -> String {
    let escaped = path.to_string_lossy().replace('%', "%%").replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{escaped}\"")
}

/// Options of ssh that hold for every Spark. The host key is known from the Spark's status; the right to run commands
/// in the Spark is the key, or admits the one that is only for this.
pub fn settings(myself: &Myself, way: &Way) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&'static str, String)> = vec![
        ("ProxyCommand", myself.command("ssh-proxy", &way.options(), "%n")),
        ("KnownHostsCommand", myself.command("ssh-known-hosts", &[], "%n")),
        ("UserKnownHostsFile", "none".into()),
        ("GlobalKnownHostsFile", "none".into()),
        ("StrictHostKeyChecking", "yes".into()),
        ("CheckHostIP", "no".into()),
        ("HostKeyAlgorithms", "ssh-ed25519".into()),
        // Older clients take a slower one first.
        ("Ciphers", "^aes256-gcm@openssh.com,aes128-gcm@openssh.com".into()),
        ("PreferredAuthentications", "none,publickey".into()),
        ("ServerAliveInterval", "30".into()),
    ];
    if let Some(identity) = &way.identity {
        all.extend([
            // ssh takes over the connection itself, where there is one: nobody copies then.
            ("ProxyUseFdpass", "yes".into()),
            ("IdentityFile", quoted_path(identity)),
            ("IdentitiesOnly", "yes".into()),
        ]);
    }
    all
}

/// The same as arguments for OpenSSH's own programs.
pub fn options(myself: &Myself, way: &Way) -> Vec<OsString> {
    settings(myself, way)
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

    fn way(identity: Option<&str>) -> Way {
        let gateway = GatewayArgs { gateway_url: None, system_namespace: SYSTEM_NAMESPACE.into() };
        Way { identity: identity.map(Into::into), gateway, is_verbose: false }
    }

    fn value(way: &Way, wanted: &str) -> Option<String> {
        let all = settings(&Myself::of("spark".as_ref(), &[], None, None), way);
        all.into_iter().find(|(key, _)| *key == wanted).map(|(_, value)| value)
    }

    #[test]
    fn the_host_key_is_the_clusters_word_and_never_a_file() {
        let of = |name: &str| value(&way(None), name);
        assert_eq!(of("StrictHostKeyChecking").as_deref(), Some("yes"));
        assert_eq!(of("UserKnownHostsFile").as_deref(), Some("none"));
        assert_eq!(of("KnownHostsCommand").as_deref(), Some("spark ssh-known-hosts %n"));
    }

    #[test]
    fn the_proxy_lets_in_the_key_that_ssh_logs_in_with() {
        let way = way(Some("/home/a \"b\"/50%/key"));
        assert_eq!(value(&way, "IdentityFile").as_deref(), Some(r#""/home/a \"b\"/50%%/key""#));
        assert_eq!(value(&way, "IdentitiesOnly").as_deref(), Some("yes"));
        let proxy = r#"spark ssh-proxy --identity '/home/a "b"/50%%/key' --pass-fd %n"#;
        assert_eq!(value(&way, "ProxyCommand").as_deref(), Some(proxy));
    }

    #[test]
    fn without_the_gateway_no_key_is_named() {
        let args = |no_gateway| WayArgs { gateway: way(None).gateway, no_gateway };
        assert!(args(false).plan().identity.is_some());
        let way = args(true).plan();
        assert_eq!((value(&way, "IdentityFile"), value(&way, "IdentitiesOnly")), (None, None));
        assert_eq!(value(&way, "ProxyCommand").as_deref(), Some("spark ssh-proxy %n"));
    }

    #[test]
    fn ssh_is_passed_the_connection_and_only_the_gateways() {
        assert_eq!(value(&way(Some("/key")), "ProxyUseFdpass").as_deref(), Some("yes"));
        let proxy = value(&way(None), "ProxyCommand");
        assert_eq!(
            (proxy.as_deref(), value(&way(None), "ProxyUseFdpass")),
            (Some("spark ssh-proxy %n"), None)
        );
    }

    #[test]
    fn the_proxy_goes_to_the_gateway_that_was_named() {
        let gateway = GatewayArgs {
            gateway_url: Some("https://x.org".parse().unwrap()),
            system_namespace: "elsewhere".into(),
        };
        let way = Way { gateway, is_verbose: true, ..way(Some("/key")) };
        let expected =
            "--identity /key --gateway-url https://x.org --system-namespace elsewhere --pass-fd --verbose";
        assert_eq!(way.options().join(" "), expected);
    }
}
