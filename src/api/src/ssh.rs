//! SSH into a Spark: who may enter, as whom, and whether it is recorded.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TCP port in every Spark's pod on which its guest serves SSH to the gateway. Not 22, which is the tenant's to use.
pub const SSH_PORT: u16 = 2022;

/// The shape of a line of authorized_keys: options, if any, the type of a public key, the key. What is inside the key is
/// checked where it is used; the pattern keeps private keys and whole files from being pasted.
const KEY_LINE: &str =
    r"^([^\r\n]*[ \t])?(ssh-|ecdsa-|sk-)[-a-z0-9@.]+[ \t]+AAAA[0-9A-Za-z+/]+=*([ \t][^\r\n]*)?$";

/// Ssh says who may enter the Spark by SSH, as whom, and whether sessions are recorded.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ssh {
    /// Public keys that may enter: lines as in OpenSSH's authorized_keys, with its options. A line with cert-authority trusts the certificates that the key signed. A fork into another namespace doesn't take these over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 16384), regex(pattern = KEY_LINE)))]
    pub authorized_keys: Option<Vec<String>>,
    /// Secrets and ConfigMaps of this namespace that hold further lines of authorized_keys. Changes in them are seen within a minute; one that is missing is told in the condition KeysResolved, and the other keys work. A fork into another namespace doesn't take these over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub authorized_keys_from: Option<Vec<KeySource>>,
    /// User in the Spark that a login becomes when it names none: ssh SPARK.NAMESPACE@gateway. Default root. Another one is named by ssh USER+SPARK.NAMESPACE@gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z_][-a-z0-9_.]*$"))]
    pub user: Option<String>,
    /// Off: sessions are not recorded. On: terminals and commands through the gateway are recorded where the installation can. Required: a session that can't be recorded ends, and nobody enters past the gateway's recorder.
    #[serde(default)]
    pub recording: Recording,
}

/// Recording says whether sessions are recorded.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recording {
    /// Sessions are not recorded.
    #[default]
    Off,
    /// Sessions are recorded where the installation can.
    On,
    /// A session that can't be recorded ends.
    Required,
}

/// KeySource is a key of a Secret or a ConfigMap whose value has lines of authorized_keys.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)").message("exactly one of secretKeyRef and configMapKeyRef must be set"))]
#[serde(rename_all = "camelCase")]
pub struct KeySource {
    /// Key of a Secret in the Spark's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// Key of a ConfigMap in the Spark's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}

/// KeyReference names one key of an object in the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in its data. Default authorized_keys.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_key() -> String {
    "authorized_keys".into()
}

/// SshStatus is what whoever connects needs to know.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshStatus {
    /// Public host key of the Spark, as in known_hosts; the same for as long as the Spark exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// Lines of authorized_keys in effect: of the spec, of what it was forked from, and of the Secrets and ConfigMaps that they name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorized_keys: Vec<String>,
    /// User that a login becomes when it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether sessions are recorded.
    #[serde(default)]
    pub recording: Recording,
}

/// RecordingsStatus is the head of the chain of recorded sessions; the gateway writes it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingsStatus {
    /// How many sessions were recorded.
    pub count: i64,
    /// SHA-256 over the last recording, which holds the one before it: no recording can be changed or removed unnoticed.
    pub head: String,
    /// Id of the last recording.
    pub last: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}

/// AttachedSsh is what the guest's SSH server needs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachedSsh {
    /// Seed of the Spark's Ed25519 host key, sealed to the node agent's public key, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_host_key: Option<String>,
    /// Names the host key and the key that it is sealed to, so that it is sealed again when one of them changes and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_to: Option<String>,
    /// Public keys of the gateway, which may enter as anybody, having checked who comes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway_keys: Vec<String>,
    /// Lines of authorized_keys for those who come through a jump host; empty where sessions must be recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorized_keys: Vec<String>,
    /// Public keys of the installation's user certificate authorities; empty where sessions must be recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_ca_keys: Vec<String>,
}
