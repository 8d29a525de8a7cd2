//! SSH: the verbs that run OpenSSH's programs, and those that these programs run.

pub mod config;
pub mod forward;
pub mod known_hosts;
pub mod passed;
pub mod place;
pub mod proxy;
pub mod scp;
pub mod sftp;
pub mod shell;
pub mod transfer;
pub mod tunnel;

use spark_client::Sparks;
use sparks_api::{Recording, Spark};

use crate::errors::CliError;

/// User that a login becomes when it names none.
fn default_user(spark: &Spark) -> String {
    let ssh = spark.status.as_ref().and_then(|status| status.ssh.as_ref());
    ssh.and_then(|ssh| ssh.user.clone()).unwrap_or_else(|| "root".into())
}

/// Where sessions must be recorded, only the gateway's way is open.
fn refuse_unrecorded(spark: &Spark, sparks: &Sparks) -> Result<(), CliError> {
    let ssh = spark.status.as_ref().and_then(|status| status.ssh.as_ref());
    if ssh.is_none_or(|ssh| ssh.recording != Recording::Required) {
        return Ok(());
    }
    let name = spark.metadata.name.as_deref().unwrap_or_default();
    Err(CliError::Usage(format!(
        "sessions of spark \"{name}\" must be recorded (spec.ssh.recording), which only the gateway does: ssh {name}.{}@GATEWAY",
        sparks.namespace()
    )))
}
