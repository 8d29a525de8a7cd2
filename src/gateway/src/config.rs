//! Command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use sparks_api::time::parse_duration;
use sparks_ops::LogFormat;

/// The gateway of Sparks: SSH and HTTP into every Spark, which it wakes when it sleeps. All replicas are equal.
#[derive(Clone, Debug, Parser)]
#[command(name = "sparks-gateway", version)]
pub struct Config {
    /// Namespace of the installation, where the Secret sparks-gateway with the SSH keys is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "sparks-system")]
    pub namespace: String,
    /// Namespace of a Spark that is named without one: ssh api@gateway.
    #[arg(long, env = "SPARKS_DEFAULT_NAMESPACE")]
    pub default_namespace: Option<String>,
    /// File with the public keys of user certificate authorities, one a line, without options but cert-authority.
    #[arg(long, env = "SPARKS_USER_CA_FILE")]
    pub user_ca_file: Option<PathBuf>,
    /// Address of the SSH server.
    #[arg(long, env = "SPARKS_SSH_LISTEN", default_value = "0.0.0.0:2222")]
    pub ssh_listen: SocketAddr,
    /// Address of the HTTP server.
    #[arg(long, env = "SPARKS_HTTP_LISTEN", default_value = "0.0.0.0:8080")]
    pub http_listen: SocketAddr,
    /// Domain under which Sparks are served: SPARK--NAMESPACE.DOMAIN.
    #[arg(long, env = "SPARKS_DOMAIN", default_value = "localhost")]
    pub domain: String,
    /// Directory of the recorded sessions; nothing is recorded without it.
    #[arg(long, env = "SPARKS_RECORDINGS_DIR")]
    pub recordings_dir: Option<PathBuf>,
    /// How long recorded sessions are kept, such as 720h.
    #[arg(long, env = "SPARKS_RECORDINGS_RETENTION", default_value = "720h", value_parser = positive_duration)]
    pub recordings_retention: Duration,
    /// Limits of recorded sessions.
    #[command(flatten)]
    pub recordings: crate::recording::Limits,
    /// How long a connection waits for a Spark that wakes.
    #[arg(long, env = "SPARKS_WAKE_TIMEOUT", default_value = "60s", value_parser = positive_duration)]
    pub wake_timeout: Duration,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "SPARKS_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,
    /// Log lines as text or json.
    #[arg(long, env = "SPARKS_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Limits of the SSH server.
    #[command(flatten)]
    pub ssh: SshLimits,
    /// Limits of the HTTP server, and whom it believes.
    #[command(flatten)]
    pub http: crate::http::Flags,
}

/// Limits of the SSH server, of one replica.
#[derive(Clone, Copy, Debug, Parser)]
pub struct SshLimits {
    /// SSH connections at once.
    #[arg(long, env = "SPARKS_SSH_MAX_CONNECTIONS", default_value_t = 4096)]
    pub ssh_max_connections: usize,
    /// SSH connections at once that lead to the Sparks of one namespace; a quarter of all when it is not said.
    #[arg(long, env = "SPARKS_SSH_MAX_CONNECTIONS_PER_NAMESPACE")]
    pub ssh_max_connections_per_namespace: Option<usize>,
    /// SSH connections at once that have not authenticated yet; when another one comes, one of them makes room.
    #[arg(long, env = "SPARKS_SSH_MAX_STARTUPS", default_value_t = 512)]
    pub ssh_max_startups: usize,
    /// The same from one address (IPv4) or one /64 (IPv6). Many people may share an address.
    #[arg(long, env = "SPARKS_SSH_MAX_STARTUPS_PER_SOURCE", default_value_t = 64)]
    pub ssh_max_startups_per_source: usize,
    /// How long a connection may take to authenticate.
    #[arg(long, env = "SPARKS_SSH_LOGIN_GRACE", default_value = "60s", value_parser = positive_duration)]
    pub ssh_login_grace: Duration,
    /// Expect the PROXY protocol (version 2) on every SSH connection, from a load balancer that knows the client's address.
    #[arg(long, env = "SPARKS_SSH_PROXY_PROTOCOL")]
    pub ssh_proxy_protocol: bool,
}

impl SshLimits {
    /// Connections at once that lead to the Sparks of one namespace.
    #[must_use]
    pub fn per_namespace(&self) -> usize {
        self.ssh_max_connections_per_namespace.unwrap_or(self.ssh_max_connections / 4).max(1)
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("{text:?} is not a positive duration such as 24h"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }
}
