//! `Spark`: a forkable computer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{Condition, Time},
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::{READY, RUNNING, find, is_true};

/// SparkSpec declares a computer.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sparks.loop.work",
    version = "v1alpha1",
    kind = "Spark",
    namespaced,
    status = "SparkStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "spk",
    category = "sparks-all",
    doc = "Spark is a whole computer: a persistent root filesystem from any OCI image, a service, and a fork that takes milliseconds.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "From",
        type_ = "string",
        json_path = ".status.origin",
        description = "Image, Spark or Checkpoint that the root came from"
    ),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".status.podName", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    )
)]
#[kube(validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("the name of a Spark is also its host name and the name of its Service: at most 50 lower case letters, digits and '-', beginning with a letter"))]
#[x_kube(
    validation = Rule::new("has(self.image) != has(self.from)").message("exactly one of image and from must be set"),
    validation = Rule::new("has(self.image) == has(oldSelf.image) && (!has(self.image) || self.image == oldSelf.image)").message("image can't be changed, because the root filesystem persists: create a new Spark"),
    validation = Rule::new("has(self.from) == has(oldSelf.from) && (!has(self.from) || self.from == oldSelf.from)").message("from can't be changed, because the root filesystem persists: create a new Spark"),
    validation = Rule::new("has(self.volumes) == has(oldSelf.volumes) && (!has(self.volumes) || (size(self.volumes) == size(oldSelf.volumes) && self.volumes.all(v, oldSelf.volumes.exists(o, o.name == v.name && o.mountPath == v.mountPath))))").message("volumes can't be added, removed or moved; only their size can be changed")
)]
#[serde(rename_all = "camelCase")]
pub struct SparkSpec {
    /// OCI image that the root filesystem is made from, such as debian:trixie. It is imported once per node; every Spark after that is a snapshot. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// Spark or Checkpoint to fork. Whatever this spec doesn't say is the source's, except its lifecycle and service.public; in another namespace also except envFrom and the keys that may enter by SSH. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ForkSource>,
    /// The root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// CPU and memory. A Spark on a warm pod is resized in place to this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Further disks. They are snapshotted and forked together with the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(v, self.filter(o, o.mountPath == v.mountPath).size() == 1)").message("two volumes can't have the same mountPath")
    )]
    pub volumes: Option<Vec<VolumeMount>>,
    /// Program that runs as long as the Spark does. A Spark without one simply runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Who may enter by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<crate::Ssh>,
    /// When the Spark runs and how long it exists. A fork doesn't take this over.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Who else may fork this Spark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork_policy: Option<ForkPolicy>,
    /// Puts all disks back to a Checkpoint, in place: same pod, same address. Done once for each pair of checkpoint and id; what was there before goes into the trash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<Restore>,
}

/// ForkSource names what to fork: a Spark as it is now, or a Checkpoint.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.spark) != has(self.checkpoint)").message("exactly one of spark and checkpoint must be set"))]
#[serde(rename_all = "camelCase")]
pub struct ForkSource {
    /// Name of a Spark; running, stopped or sleeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub spark: Option<String>,
    /// Name of a Checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub checkpoint: Option<String>,
    /// Namespace of the source, whose forkPolicy must allow it; this one's when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Disk is the size of a disk.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Most bytes that the disk may hold of its own; blocks shared with the image or the fork's source don't count. Default 20Gi. It can grow at any time, and shrink to what is used.
    #[schemars(schema_with = "crate::schema::quantity")]
    pub size: Quantity,
}

/// Resources are requests and limits of CPU and memory.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || !quantity(self.requests[k]).isGreaterThan(quantity(self.limits[k])))").message("a request must not be larger than its limit"))]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::resource_list")]
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// What the Spark may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::resource_list")]
    pub limits: Option<BTreeMap<String, Quantity>>,
}

/// VolumeMount is a further disk and where it is mounted.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Name of the disk, unique in the Spark; not root.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self != 'root'").message("the name root is the root disk's"))]
    pub name: String,
    /// Absolute path at which the disk is mounted, such as /data. Missing directories are made.
    #[schemars(length(min = 2, max = 255), regex(pattern = r"^(/[^/\x00]+)+$"))]
    #[x_kube(
        validation = Rule::new("!self.split('/').exists(p, p == '.' || p == '..')").message("mountPath must not contain . or .."),
        validation = Rule::new("!['/proc', '/sys', '/dev', '/run/secrets', '/var/run/secrets'].exists(p, self == p || self.startsWith(p + '/'))").message("mountPath must not be in /proc, /sys, /dev or /run/secrets")
    )]
    pub mount_path: String,
    /// Most bytes that the disk may hold of its own. Default 10Gi.
    #[serde(default = "default_volume_size")]
    #[schemars(schema_with = "crate::schema::quantity")]
    pub size: Quantity,
}

/// Default size of a further disk.
fn default_volume_size() -> Quantity {
    Quantity("10Gi".into())
}

/// Service is the program that a Spark runs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Program and arguments; not interpreted by a shell.
    #[schemars(length(min = 1, max = 256), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// User name, or uid[:gid], in the Spark's root filesystem; root when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub user: Option<String>,
    /// Working directory; the user's home when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("workingDir must be an absolute path"))]
    pub working_dir: Option<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Option<Vec<EnvVar>>,
    /// Secrets and ConfigMaps of this namespace whose keys become environment variables; env wins over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub env_from: Option<Vec<EnvSource>>,
    /// TCP port on which the service listens; it is given to it as PORT, and to the Spark's Service.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self != 2022").message("port 2022 is taken by the SSH server of every Spark: choose another one"))]
    pub port: i32,
    /// HTTP path that answers with 2xx or 3xx when the service is ready. Without one it is ready once it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("readinessPath must start with /"))]
    pub readiness_path: Option<String>,
    /// Whether everybody may reach the service through the gateway. A fork doesn't take this over. Without it a visitor needs a token or a signed link: spark url NAME.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
    /// Seconds that the service has between SIGTERM and SIGKILL.
    #[serde(default = "default_grace")]
    #[schemars(range(min = 0, max = 3600))]
    pub termination_grace_period_seconds: i32,
}

fn default_port() -> i32 {
    8080
}

fn default_grace() -> i32 {
    10
}

/// EnvVar is one environment variable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^=\x00]+$"))]
    pub name: String,
    /// Value of the variable.
    #[serde(default)]
    #[schemars(length(max = 131_072))]
    pub value: String,
}

/// EnvSource is a Secret or a ConfigMap whose keys become environment variables.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.secretRef) != has(self.configMapRef)").message("exactly one of secretRef and configMapRef must be set"))]
#[serde(rename_all = "camelCase")]
pub struct EnvSource {
    /// Secret in the Spark's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
    /// ConfigMap in the Spark's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalReference>,
    /// Put before each key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub prefix: Option<String>,
}

/// LocalReference names an object in the same namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LocalReference {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Lifecycle says when a Spark runs and how long it exists.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Whether the Spark runs. A stopped Spark keeps its disks and has no pod.
    #[serde(default = "default_running")]
    pub running: bool,
    /// Time after which the Spark is deleted into the trash, counted from its creation, such as 72h; never when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_duration")]
    pub ttl: Option<String>,
    /// Time without SSH, HTTP through the gateway, spark exec or a keep-awake lease after which the Spark sleeps: it keeps its disks and has no pod, and wakes at the next SSH or HTTP through the gateway, or by spark start. Counted from its start as well. Such as 15m; never when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_duration")]
    pub idle_timeout: Option<String>,
}

fn default_running() -> bool {
    true
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { running: true, ttl: None, idle_timeout: None }
    }
}

/// ForkPolicy says who may fork from other namespaces. In its own namespace everybody who may create a Spark may fork.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForkPolicy {
    /// Namespaces whose Sparks may fork this one; "*" means all.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
}

/// Restore names the Checkpoint to which a Spark is put back.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// Name of a Checkpoint in the same namespace.
    #[schemars(length(min = 1, max = 63))]
    pub checkpoint: String,
    /// Any text; change it to restore the same Checkpoint again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub id: Option<String>,
}

/// SparkStatus is what the controller observed last.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = crate::schema::unseen()))]
pub struct SparkStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pending, Starting, Running, Stopping, Stopped, Sleeping or Failed; for people. Programs read the conditions.
    #[serde(default)]
    pub phase: SparkPhase,
    /// Image, Spark or Checkpoint that the root came from, such as spark/api or image/debian:trixie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Node that holds the disks, and on which the Spark runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Pod that is the computer now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// IP address of the pod. It is there from the moment that the disks are attached to the pod, also while the service is not ready, until the pod is to end: whoever connects to port 2022 of it meets this Spark.
    #[serde(rename = "podIP", default, skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// Host name and port of the Spark in the cluster's DNS, such as api.team-a.svc:8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Volume that holds the disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<LocalReference>,
    /// What each disk holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub disks: Vec<crate::volume::DiskUsage>,
    /// When the Spark will be deleted, if it has a ttl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Since when nothing but the service has run in it and no terminal has been open; empty while it is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Time>,
    /// When the gateway last saw a connection or a request; it wakes a Spark that sleeps. Written by the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity_at: Option<Time>,
    /// Since when the Spark sleeps. It wakes when lastActivityAt or the annotation sparks.loop.work/wake is not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleeping_since: Option<Time>,
    /// What whoever connects by SSH needs to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<crate::SshStatus>,
    /// The chain of recorded sessions. Written by the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recordings: Option<crate::RecordingsStatus>,
    /// Whether everybody may reach the service through the gateway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
    /// The last restore that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// What this Spark took over from its source when it was forked; its own spec goes over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub inherited: Option<Inherited>,
    /// How long each step of the last start took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<SparkTimings>,
    /// Ready: the Spark is as declared, which is stopped or asleep too. Running: the computer is up; with Ready its service answers as well. Reconciling, Stalled: see kstatus. Resized: the pod has its size. KeysResolved: what ssh.authorizedKeysFrom names could be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl SparkStatus {
    /// Whether the computer is up, so that commands can be run in it. Its service may not answer yet.
    #[must_use]
    pub fn runs(&self) -> bool {
        // A controller that knew no Running said Ready of what runs only.
        let told = find(&self.conditions, RUNNING).or_else(|| find(&self.conditions, READY));
        told.is_some_and(|condition| condition.status == "True")
    }

    /// Since when the computer is up and its service answers.
    #[must_use]
    pub fn up_since(&self) -> Option<Timestamp> {
        let turned = |kind| find(&self.conditions, kind).map(|condition| condition.last_transition_time.0);
        let is_up = self.runs() && is_true(&self.conditions, READY);
        turned(RUNNING).max(turned(READY)).filter(|_| is_up)
    }

    /// Whether the computer is up and its service answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up_since().is_some()
    }
}

/// Phase of a Spark.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SparkPhase {
    /// Its disks are not there yet.
    #[default]
    Pending,
    /// Its disks are there; the pod or the service starts.
    Starting,
    /// It runs and is ready.
    Running,
    /// Its pod ends.
    Stopping,
    /// It has disks and no pod.
    Stopped,
    /// It was idle and has no pod; it wakes at the next SSH or HTTP.
    Sleeping,
    /// It can't go on; the Ready condition says why.
    Failed,
}

/// Restored is a restore that was done.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Name of the Checkpoint.
    pub checkpoint: String,
    /// The id of spec.restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What a fork takes over from its source: whatever the fork's own spec doesn't say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inherited {
    /// Size of the root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// CPU and memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Further disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<VolumeMount>>,
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Who may enter by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<crate::Ssh>,
}

/// SparkTimings is how long each step of the last start took, in microseconds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SparkTimings {
    /// Whether the pod was warm.
    #[serde(default)]
    pub warm: bool,
    /// From the controller's first sight of the wish until pod and Volume were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_micros: Option<i64>,
    /// Making the disks on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_micros: Option<i64>,
    /// Attaching them to the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_micros: Option<i64>,
    /// From the attach until the service was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_micros: Option<i64>,
    /// From the controller's first sight of the wish until Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_micros: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::condition;

    #[test]
    fn it_is_up_when_it_is_ready_and_runs_and_since_the_later_of_the_two() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let status = |all: &[(&str, bool, i64)]| SparkStatus {
            conditions: all.iter().map(|(kind, is, t)| condition(kind, *is, "X", "", None, at(*t))).collect(),
            ..Default::default()
        };
        for (all, runs, up) in [
            (&[][..], false, None),
            (&[(READY, true, 1), (RUNNING, false, 2)], false, None),
            (&[(READY, false, 1), (RUNNING, true, 2)], true, None),
            (&[(READY, true, 1), (RUNNING, true, 2)], true, Some(at(2))),
            (&[(READY, true, 3), (RUNNING, true, 2)], true, Some(at(3))),
            // Of a controller that knew no Running.
            (&[(READY, true, 1)], true, Some(at(1))),
            (&[(READY, false, 1)], false, None),
        ] {
            assert_eq!((status(all).runs(), status(all).up_since()), (runs, up), "{all:?}");
        }
    }
}
