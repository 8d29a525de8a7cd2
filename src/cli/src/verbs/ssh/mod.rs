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

/// User that a login becomes when it names none. It is written into lines that others read, and a status may say anything.
fn default_user(spark: &Spark) -> String {
    let ssh = spark.status.as_ref().and_then(|status| status.ssh.as_ref());
    let user = ssh.and_then(|ssh| ssh.user.clone()).filter(|user| is_user(user));
    user.unwrap_or_else(|| "root".into())
}

/// What `spec.ssh.user` allows.
fn is_user(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.len() <= 32
        && text.chars().all(inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_none_can_be_called_is_root() {
        let of = |user: &str| {
            let mut spark = Spark::new("api", Default::default());
            let ssh = sparks_api::SshStatus { user: Some(user.into()), ..Default::default() };
            spark.status = Some(sparks_api::SparkStatus { ssh: Some(ssh), ..Default::default() });
            default_user(&spark)
        };
        assert_eq!(of("dev_1.x-y"), "dev_1.x-y");
        for nasty in ["", "-oProxyCommand=x", "a\nHost *\n  ProxyCommand x", "a:b", "a@b", &"a".repeat(33)] {
            assert_eq!(of(nasty), "root", "{nasty:?}");
        }
    }
}
