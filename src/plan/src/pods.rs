//! The pods of Sparks: one tiny image, no privilege, a user namespace.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Affinity, Container, ContainerStatus, ImageVolumeSource, NodeAffinity, NodeSelector,
        NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, SeccompProfile, SecurityContext,
        Volume as PodVolume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt;
use sparks_api::{Resources, Spark, labels};

use crate::{
    index::{Index, Relation},
    known::Known,
    resources::requirements,
};

/// Name of the only container.
pub const CONTAINER: &str = "spark";

/// What is common to all pods of one installation.
#[derive(Clone, Debug, Default)]
pub struct Template {
    /// Image of the guest.
    pub guest_image: String,
}

impl Template {
    /// A pod that waits in a pool.
    #[must_use]
    pub fn warm(&self, pool: &str, owner: OwnerReference, node: &str, size: Option<&Resources>) -> Pod {
        let labels = labels_of(labels::ROLE_WARM, &[(labels::POOL, pool)]);
        let mut pod = self.spark_pod(String::new(), labels, owner, node, size);
        (pod.metadata.name, pod.metadata.generate_name) = (None, Some(format!("{pool}-")));
        pod
    }

    /// The pod of a Spark that found no warm one.
    #[must_use]
    pub fn cold(
        &self,
        name: String,
        labels: BTreeMap<String, String>,
        owner: OwnerReference,
        node: &str,
        size: Option<&Resources>,
    ) -> Pod {
        self.spark_pod(name, labels, owner, node, size)
    }

    fn spark_pod(
        &self,
        name: String,
        labels: BTreeMap<String, String>,
        owner: OwnerReference,
        node: &str,
        size: Option<&Resources>,
    ) -> Pod {
        let container = Container {
            resources: Some(requirements(size)),
            // No new privileges would take sudo and file capabilities away; the user namespace keeps both harmless.
            security_context: Some(SecurityContext {
                seccomp_profile: Some(seccomp()),
                ..Default::default()
            }),
            ..self.container()
        };
        let spec = PodSpec { host_users: Some(false), ..pod_spec(node, container) };
        Pod { metadata: metadata(name, labels, owner), spec: Some(spec), ..Default::default() }
    }

    /// A pod that runs nothing of anybody's, only mounts `reference` where the node agent can read it.
    #[must_use]
    pub fn import(&self, name: String, key: &str, reference: &str, owner: OwnerReference, node: &str) -> Pod {
        let container = Container {
            volume_mounts: Some(vec![VolumeMount {
                name: "image".into(),
                mount_path: labels::IMPORT_MOUNT.into(),
                read_only: Some(true),
                ..Default::default()
            }]),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                seccomp_profile: Some(seccomp()),
                ..Default::default()
            }),
            ..self.container()
        };
        let image = ImageVolumeSource { reference: Some(reference.into()), ..Default::default() };
        let spec = PodSpec {
            automount_service_account_token: Some(false),
            volumes: Some(vec![PodVolume { name: "image".into(), image: Some(image), ..Default::default() }]),
            ..pod_spec(node, container)
        };
        let mut metadata = metadata(name, labels_of(labels::ROLE_IMPORT, &[(labels::IMAGE_KEY, key)]), owner);
        metadata.annotations = Some([(labels::IMAGE.to_owned(), reference.to_owned())].into());
        Pod { metadata, spec: Some(spec), ..Default::default() }
    }

    fn container(&self) -> Container {
        Container {
            name: CONTAINER.into(),
            image: Some(self.guest_image.clone()),
            image_pull_policy: Some("IfNotPresent".into()),
            ..Default::default()
        }
    }
}

fn seccomp() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".into(), ..Default::default() }
}

/// Labels of a pod with this role.
#[must_use]
pub fn labels_of(role: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    [(labels::ROLE, role)].iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Labels of the pod that is this Spark.
#[must_use]
pub fn spark_labels(spark: &Known<Spark>) -> BTreeMap<String, String> {
    let (name, uid) = (spark.name(), spark.id.uid.as_str());
    labels_of(labels::ROLE_SPARK, &[(labels::SPARK, name), (labels::SPARK_UID, uid)])
}

/// The pods of this Spark.
pub fn of_spark<'a>(
    index: &'a Index,
    spark: &Known<Spark>,
) -> impl Iterator<Item = &'a Known<Pod>> + use<'a> {
    index.related(&Relation::Owner(spark.id.uid.clone()))
}

fn metadata(name: String, labels: BTreeMap<String, String>, owner: OwnerReference) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..Default::default()
    }
}

fn pod_spec(node: &str, container: Container) -> PodSpec {
    PodSpec {
        containers: vec![container],
        affinity: Some(on_node(node)),
        enable_service_links: Some(false),
        restart_policy: Some("Always".into()),
        ..Default::default()
    }
}

/// The scheduler still checks that the pod fits, which `spec.nodeName` would skip.
fn on_node(node: &str) -> Affinity {
    let requirement = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.into()]),
    };
    let terms = vec![NodeSelectorTerm { match_fields: Some(vec![requirement]), ..Default::default() }];
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: terms,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The node that the pod was bound to.
#[must_use]
pub fn node(pod: &Pod) -> Option<&String> {
    pod.spec.as_ref()?.node_name.as_ref()
}

/// Whether the pod was bound to this node.
#[must_use]
pub fn is_on(pod: &Pod, name: &str) -> bool {
    node(pod).is_some_and(|node| node == name)
}

/// Whether the pod runs on this node, or will.
#[must_use]
pub fn is_for(pod: &Pod, name: &str) -> bool {
    node(pod).or(wanted_node(pod)).is_some_and(|node| node == name)
}

/// The node that the pod was made for.
#[must_use]
pub fn wanted_node(pod: &Pod) -> Option<&String> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let selector = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = selector.node_selector_terms.first()?.match_fields.as_ref()?;
    fields.iter().find(|field| field.key == "metadata.name")?.values.as_ref()?.first()
}

/// Status of the only container.
#[must_use]
pub fn container_status(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == CONTAINER)
}

/// Whether the condition `Ready` of the pod is true.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    has_condition(pod, "Ready", "True").is_some()
}

/// Whether the pod ended, or is about to.
#[must_use]
pub fn is_ending(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether a Spark can take this pod now.
#[must_use]
pub fn is_free(pod: &Pod) -> bool {
    pod.labels().get(labels::ROLE).map(String::as_str) == Some(labels::ROLE_WARM)
        && !is_ending(pod)
        && is_ready(pod)
}

/// The scheduler's words when it finds no place for the pod.
#[must_use]
pub fn unschedulable(pod: &Pod) -> Option<&str> {
    has_condition(pod, "PodScheduled", "False").map(|message| message.unwrap_or("no node fits"))
}

/// Why the container waits, when waiting won't help without somebody's act: `(reason, message)` of the kubelet.
#[must_use]
pub fn waiting(pod: &Pod) -> Option<(&str, &str)> {
    let waiting = container_status(pod)?.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
}

/// The kubelet's words when the wanted size is not in effect.
#[must_use]
pub fn resize_pending(pod: &Pod) -> Option<&str> {
    ["PodResizePending", "PodResizeInProgress"]
        .iter()
        .find_map(|kind| has_condition(pod, kind, "True"))
        .map(|message| message.unwrap_or("the node has not made room yet"))
}

fn has_condition<'a>(pod: &'a Pod, kind: &str, status: &str) -> Option<Option<&'a str>> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == kind && c.status == status)?;
    Some(found.message.as_deref())
}

/// Seconds that a pod gets to end: its service's, and a few for the guest.
#[must_use]
pub fn grace(service: Option<&sparks_api::Service>) -> u32 {
    service.map_or(0, |s| u32::try_from(s.termination_grace_period_seconds).unwrap_or(0)) + 5
}
