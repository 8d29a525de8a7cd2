//! From what a Volume's attachment says to what its guest is told.

use sparks_api::{AttachedSsh, Attachment, SSH_PORT};
use sparks_proto::{Computer, Service, SparkName, SshServer};

/// What was sealed for this node, opened.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Seed of the host key, in hex.
    pub host_key: Option<String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// The computer that this attachment of a Volume in `namespace` describes. Of the environment `service.env` comes last, because the later entry
/// wins.
pub fn computer(attachment: &Attachment, namespace: Option<String>, opened: Opened) -> Computer {
    let spark = namespace.map(|namespace| SparkName { name: attachment.hostname.clone(), namespace });
    let ssh =
        attachment.ssh.as_ref().zip(opened.host_key).map(|(ssh, host_key)| server(ssh, spark, host_key));
    let service = attachment.service.as_ref().map(|service| Service {
        command: service.command.clone(),
        user: service.user.clone(),
        working_dir: service.working_dir.clone(),
        env: opened
            .env
            .into_iter()
            .chain(service.env.iter().flatten().map(|var| (var.name.clone(), var.value.clone())))
            .collect(),
        port: u16::try_from(service.port).unwrap_or(8080),
        readiness_path: service.readiness_path.clone(),
        grace_seconds: u32::try_from(service.termination_grace_period_seconds).unwrap_or(10),
    });
    Computer { hostname: attachment.hostname.clone(), service, ssh }
}

fn server(ssh: &AttachedSsh, spark: Option<SparkName>, host_key: String) -> SshServer {
    SshServer {
        port: SSH_PORT,
        host_key,
        gateway_keys: ssh.gateway_keys.clone(),
        authorized_keys: ssh.authorized_keys.clone(),
        user_ca_keys: ssh.user_ca_keys.clone(),
        spark,
        admitted_keys: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use sparks_api::EnvVar;

    use super::*;

    #[test]
    fn the_services_own_environment_wins_over_the_sealed_one() {
        let env = Some(vec![EnvVar { name: "A".into(), value: "mine".into() }]);
        let service =
            sparks_api::Service { command: vec!["x".into()], env, port: 8080, ..Default::default() };
        let attachment = Attachment { service: Some(service), ..Default::default() };
        let opened = Opened { env: vec![("A".into(), "sealed".into())], host_key: None };
        let env = computer(&attachment, None, opened).service.map(|s| s.env);
        assert_eq!(env, Some(vec![("A".into(), "sealed".into()), ("A".into(), "mine".into())]));
    }

    #[test]
    fn the_ssh_server_starts_once_there_is_a_host_key() {
        let ssh = AttachedSsh { gateway_keys: vec!["g".into()], ..Default::default() };
        let attachment = Attachment { ssh: Some(ssh), ..Default::default() };
        assert_eq!(computer(&attachment, None, Opened::default()).ssh, None);
        let opened = Opened { host_key: Some("00".into()), ..Default::default() };
        let ssh = computer(&attachment, None, opened).ssh;
        let ssh = ssh.map(|ssh| (ssh.port, ssh.host_key, ssh.gateway_keys));
        assert_eq!(ssh, Some((2022, "00".into(), vec!["g".into()])));
    }

    #[test]
    fn the_ssh_server_is_told_which_spark_it_is() {
        let attachment =
            Attachment { hostname: "api".into(), ssh: Some(AttachedSsh::default()), ..Default::default() };
        let opened = Opened { host_key: Some("00".into()), ..Default::default() };
        let ssh = computer(&attachment, Some("team-a".into()), opened).ssh;
        let spark = SparkName { name: "api".into(), namespace: "team-a".into() };
        assert_eq!(ssh.and_then(|ssh| ssh.spark), Some(spark));
    }
}
