//! The messages.

use serde::{Deserialize, Serialize};

/// What the node agent tells the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
#[allow(clippy::large_enum_variant, reason = "there is one message at a time")]
pub enum ToGuest {
    /// The guest now stands in the Spark's own root: become this computer. Sent after every attach, and again when
    /// only the service changed; the guest restarts the service when it differs from the one that runs.
    Run(Computer),
    /// End the service and every other process of the pod but PID 1, and hold nothing of the old root open, because
    /// the root is about to be swapped. Answered by [`FromGuest::Quiesced`].
    Quiesce,
}

/// The computer that a guest is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Computer {
    /// Name of the Spark, which is also the host name.
    pub hostname: String,
    /// The service, if the Spark has one.
    pub service: Option<Service>,
    /// The SSH server, if anybody may enter.
    #[serde(default)]
    pub ssh: Option<SshServer>,
}

/// What the guest's SSH server is told.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshServer {
    /// TCP port on all addresses of the pod.
    pub port: u16,
    /// Seed of the Ed25519 host key, 32 bytes in hex.
    pub host_key: String,
    /// Public keys of the gateway, which may enter as anybody and says who comes.
    pub gateway_keys: Vec<String>,
    /// Lines of authorized_keys for those who come directly.
    pub authorized_keys: Vec<String>,
    /// Public keys of user certificate authorities of the installation. Their certificates say which Sparks they open.
    pub user_ca_keys: Vec<String>,
    /// Which Spark this is. Without it no certificate of `user_ca_keys` opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spark: Option<SparkName>,
    /// Public keys that may enter as anybody for a short while: [`SshQuestion::Admit`]. PID 1 fills them in; the node
    /// agent never does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted_keys: Vec<String>,
}

/// A Spark among all of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SparkName {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl std::fmt::Debug for SshServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshServer").field("port", &self.port).finish_non_exhaustive()
    }
}

/// What a process of the pod asks the guest about SSH. Not the node agent: there is another socket for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum SshQuestion {
    /// What an SSH server needs to know. Answered by [`SshAnswer::Server`].
    Server,
    /// Let in whoever has this key, for a short while. Answered by [`SshAnswer::Admitted`].
    Admit {
        /// A public key as OpenSSH writes it, and nothing else.
        key: String,
    },
}

/// What the guest answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
#[allow(clippy::large_enum_variant, reason = "there is one answer at a time")]
pub enum SshAnswer {
    /// What an SSH server needs to know.
    Server(SshServer),
    /// The key opens.
    Admitted,
    /// There is no SSH here yet, or not at the moment.
    NotYet,
}

/// A Spark's service, with its environment resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Program and arguments; not interpreted by a shell.
    pub command: Vec<String>,
    /// User name or `uid[:gid]` in the Spark's root; root when empty.
    pub user: Option<String>,
    /// Working directory; the user's home when empty.
    pub working_dir: Option<String>,
    /// Environment, in order; later entries win.
    pub env: Vec<(String, String)>,
    /// TCP port on which the service listens; also given to it as `PORT`.
    pub port: u16,
    /// HTTP path that answers 2xx or 3xx when the service is ready; without one it is ready once it runs.
    pub readiness_path: Option<String>,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u32,
}

/// What the guest tells the node agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
#[allow(clippy::large_enum_variant, reason = "there is one message at a time")]
pub enum FromGuest {
    /// First message on every connection.
    Hello {
        /// Protocol version of the guest: [`crate::VERSION`].
        version: u32,
        /// The computer it already is, after an earlier [`ToGuest::Run`]; `None` while it is warm.
        running: Option<Computer>,
    },
    /// State of the service; sent on every change, and once after each [`ToGuest::Run`].
    Service(ServiceState),
    /// Nothing of the old root is in use any more.
    Quiesced,
    /// Whether the computer is idle (no process but the guest and the service, and no open terminal); sent on every
    /// change, at most once a second.
    Idle {
        /// Whole seconds since it became idle; `None` when it is in use.
        for_seconds: Option<u64>,
    },
}

/// State of a Spark's service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceState {
    /// It runs and, where it has a readiness path, that path answered; true as well for a Spark without a service.
    pub ready: bool,
    /// How often it was restarted since the guest became this computer.
    pub restarts: u32,
    /// One sentence on what is wrong, such as `the service exited with status 1; it is restarted in 4 s`.
    pub message: Option<String>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_nothing_of_admitted_keys_where_there_are_none_and_needs_not_hear_of_them() {
        let server = SshServer { port: 2222, ..SshServer::default() };
        let mut told = serde_json::to_value(SshAnswer::Server(server.clone())).unwrap();
        assert_eq!(told.get("admittedKeys"), None);
        assert_eq!(serde_json::from_value::<SshAnswer>(told.clone()).unwrap(), SshAnswer::Server(server));
        told["admittedKeys"] = serde_json::json!(["a"]);
        let SshAnswer::Server(heard) = serde_json::from_value(told).unwrap() else { panic!("no server") };
        assert_eq!(heard.admitted_keys, ["a"]);
    }

    #[test]
    fn a_server_that_was_not_told_which_spark_it_is_says_nothing_of_it() {
        let told = serde_json::to_value(SshServer::default()).unwrap();
        assert_eq!(told.get("spark"), None);
        assert_eq!(serde_json::from_value::<SshServer>(told).unwrap().spark, None);
    }
}
