//! Command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use sparks_api::time::parse_duration;
use sparks_ops::LogFormat;

/// The controller of Sparks. It reconciles Sparks, Checkpoints, SparkPools and Volumes; of several replicas one leads.
#[derive(Clone, Debug, Parser)]
#[command(name = "sparks-controller", version)]
pub struct Config {
    /// Image of the guest, the only image that pods of Sparks run.
    #[arg(long, env = "SPARKS_GUEST_IMAGE")]
    pub guest_image: String,
    /// How long the disks of what was deleted stay in the trash, such as 24h.
    #[arg(long, env = "SPARKS_TRASH_RETENTION", default_value = "24h", value_parser = positive_duration)]
    pub trash_retention: Duration,
    /// Namespace of the installation: its node agents and the leader lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "sparks-system")]
    pub namespace: String,
    /// Name of this replica in the leader election.
    #[arg(long, env = "POD_NAME", default_value = "sparks-controller")]
    pub identity: String,
    /// File with the public keys of user certificate authorities, one a line as in authorized_keys; guests trust them
    /// where sessions need not be recorded.
    #[arg(long, env = "SPARKS_GATEWAY_USER_CA_FILE")]
    pub gateway_user_ca_file: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, default_value = "0.0.0.0:9090")]
    pub admin_addr: SocketAddr,
    /// Log lines as text or json.
    #[arg(long, default_value = "text")]
    pub log_format: LogFormat,
    /// Sparks that are reconciled at once.
    #[arg(long, default_value_t = 32)]
    pub concurrency: u16,
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
