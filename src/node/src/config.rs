//! What the agent is told on its command line or in its environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sparks_host::pool::PoolSource;
use sparks_ops::LogFormat;

/// The node agent of Sparks.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Name of the node that it runs on.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Name of its own pod, which carries the size of the pool and the public key as annotations.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// Namespace of its own pod.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Directory on the host for the mount of the pool, the loop file and the secret key.
    #[arg(long, env = "SPARKS_STATE_DIR")]
    pub state_dir: PathBuf,
    /// Where the bytes of the pool are.
    #[command(flatten)]
    pub storage: Storage,
    /// Room that new Volumes leave free in the pool.
    #[arg(long, env = "SPARKS_RESERVE", default_value = "1Gi", value_parser = bytes)]
    pub reserve: u64,
    /// How long deleted data stays in the trash, unless the Volume says another time.
    #[arg(long, env = "SPARKS_TRASH_RETENTION", default_value = "24h", value_parser = duration)]
    pub trash_retention: Duration,
    /// How long a service may take until a Volume's status is written without it: whoever wakes a Spark by SSH waits for
    /// the address of its pod, and a service that is sooner saves a write.
    #[arg(long, env = "SPARKS_SERVICE_PATIENCE", default_value = "50ms", value_parser = duration)]
    pub service_patience: Duration,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "SPARKS_ADMIN_ADDR", default_value = "0.0.0.0:8081")]
    pub admin_addr: SocketAddr,
    /// text or json.
    #[arg(long, env = "SPARKS_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Where the bytes of the pool are: exactly one of these.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Storage {
    /// Keep the pool in a sparse file of this size in the state directory.
    #[arg(long, env = "SPARKS_LOOP_FILE_SIZE", value_parser = bytes)]
    pub loop_file_size: Option<u64>,
    /// Keep the pool on this block device; it is formatted if it is blank.
    #[arg(long, env = "SPARKS_DEVICE")]
    pub device: Option<PathBuf>,
    /// Keep the pool in this directory of a btrfs that is mounted already.
    #[arg(long, env = "SPARKS_POOL_PATH")]
    pub pool_path: Option<PathBuf>,
}

impl Config {
    /// Where the pool's bytes are.
    pub fn pool_source(&self) -> PoolSource {
        match &self.storage {
            Storage { device: Some(path), .. } => PoolSource::Device { path: path.clone() },
            Storage { pool_path: Some(path), .. } => PoolSource::Path { path: path.clone() },
            Storage { loop_file_size, .. } => PoolSource::LoopFile {
                path: self.state_dir.join("pool.img"),
                size_bytes: loop_file_size.unwrap_or_default(),
            },
        }
    }

    /// Where the pool is mounted.
    pub fn pool_mount(&self) -> PathBuf {
        self.state_dir.join("pool")
    }

    /// Where the secret key is.
    pub fn key_file(&self) -> PathBuf {
        self.state_dir.join("key")
    }
}

/// A value that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a quantity.
    #[error("{0:?} is no size: use a Kubernetes quantity such as 20Gi")]
    Size(String),
    /// Not a duration.
    #[error("{0:?} is no duration: use hours, minutes or seconds such as 24h or 90m")]
    Duration(String),
}

fn bytes(text: &str) -> Result<u64, ConfigError> {
    sparks_plan::quantity::units(&Quantity(text.into())).ok_or_else(|| ConfigError::Size(text.into()))
}

fn duration(text: &str) -> Result<Duration, ConfigError> {
    sparks_api::time::parse_duration(text).ok_or_else(|| ConfigError::Duration(text.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const COMMON: [&str; 9] =
        ["sparks-node", "--node-name", "n", "--pod-name", "p", "--namespace", "ns", "--state-dir", "/s"];

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from(COMMON.iter().chain(more))
    }

    #[test]
    fn exactly_one_kind_of_storage_is_asked_for() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--device", "/dev/x", "--pool-path", "/p"]).is_err());
        let config = parse(&["--loop-file-size", "20Gi"]).unwrap();
        let path = "/s/pool.img".into();
        assert_eq!(config.pool_source(), PoolSource::LoopFile { path, size_bytes: 20 << 30 });
    }

    #[test]
    fn sizes_and_durations_are_read_as_kubernetes_and_go_write_them() {
        let config = parse(&["--device", "/d", "--reserve", "512Mi", "--trash-retention", "90m"]).unwrap();
        assert_eq!((config.reserve, config.trash_retention.as_secs()), (512 << 20, 5400));
        assert!(parse(&["--device", "/d", "--reserve", "lots"]).is_err());
    }
}
