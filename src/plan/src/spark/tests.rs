//! The rules of a Spark's life, one by one.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::ResourceExt;
use sparks_api::{
    Attached, Lifecycle, LocalReference, Reason, Restore, Spark, SparkPhase, SparkSpec, SparkStatus, Volume,
    VolumeSource, VolumeStatus,
    conditions::{self, ATTACHED, PROVISIONED, READY, condition},
    labels,
};

use super::{Action, Observed, Plan, Source, SshFound, Start, of_image, plan, volume_for};
use crate::{
    names,
    placement::Agent,
    pods::{Template, labels_of, spark_labels},
    progress::Blocked,
};

pub(super) const UID: &str = "spark-uid";

pub(super) fn spark(spec: SparkSpec) -> Spark {
    let mut spark = Spark::new("api", spec);
    spark.metadata.namespace = Some("team".into());
    spark.metadata.uid = Some(UID.into());
    spark.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    spark.metadata.generation = Some(1);
    spark
}

pub(super) fn from_image() -> SparkSpec {
    SparkSpec { image: Some("debian".into()), ..Default::default() }
}

pub(super) fn pod(
    name: &str,
    labels: std::collections::BTreeMap<String, String>,
    node: &str,
    ready: bool,
) -> Arc<Pod> {
    let condition = PodCondition {
        type_: "Ready".into(),
        status: if ready { "True" } else { "False" }.into(),
        ..Default::default()
    };
    Arc::new(Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("team".into()),
            uid: Some(format!("{name}-uid")),
            labels: Some(labels),
            ..Default::default()
        },
        spec: Some(PodSpec { node_name: Some(node.into()), ..Default::default() }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            conditions: Some(vec![condition]),
            ..Default::default()
        }),
    })
}

pub(super) fn warm(name: &str, node: &str) -> Arc<Pod> {
    pod(name, labels_of(labels::ROLE_WARM, &[(labels::POOL, "p")]), node, true)
}

pub(super) fn mine(name: &str) -> Arc<Pod> {
    pod(name, spark_labels("api", UID), "n1", true)
}

pub(super) fn agent(node: &str) -> Agent {
    Agent { node: node.into(), free_bytes: 1 << 30, public_key: None }
}

pub(super) fn observed(spec: SparkSpec) -> Observed {
    Observed {
        spark: Arc::new(spark(spec)),
        source: Ok(of_image("team", "debian")),
        restore: None,
        volumes: vec![],
        undelete: None,
        pods: vec![],
        import_pod: None,
        service: None,
        warm: vec![],
        agents: vec![agent("n1"), agent("n2")],
        ssh: SshFound::default(),
        start: Start::default(),
        template: Template { guest_image: "guest".into() },
        now: Timestamp::UNIX_EPOCH,
    }
}

/// The Spark's Volume as the node agent leaves it, attached to `pod` if given.
pub(super) fn volume(spark: &Spark, name: &str, pod: Option<&Pod>) -> Volume {
    let effective = super::effective(&spark.spec, None);
    let mut volume = volume_for(spark, name.into(), "n1".into(), VolumeSource::default(), &effective);
    let now = Timestamp::UNIX_EPOCH;
    let mut status = VolumeStatus {
        conditions: vec![condition(PROVISIONED, true, Reason::Available, "", None, now)],
        ..Default::default()
    };
    if let Some(pod) = pod {
        volume.spec.attachment = Some(super::attach::attachment(spark, pod, None, None));
        status.conditions.push(condition(ATTACHED, true, Reason::Available, "", None, now));
        status.attached = Some(Attached {
            pod_name: pod.name_any(),
            pod_uid: pod.uid().unwrap(),
            service_ready: true,
            ..Default::default()
        });
    }
    volume.status = Some(status);
    volume
}

pub(super) fn base_name() -> String {
    names::volume("api", UID)
}

/// A Spark that runs.
pub(super) fn running(spec: SparkSpec) -> Observed {
    let mut seen = observed(spec);
    let pod = mine("pod");
    seen.volumes = vec![Arc::new(volume(&seen.spark, &base_name(), Some(&pod)))];
    seen.pods = vec![pod];
    seen.start.age = Duration::MAX;
    seen
}

/// A Spark, and the Volume with its disks.
pub(crate) fn with_disks() -> (Spark, Volume) {
    let spark = spark(from_image());
    let volume = volume(&spark, &base_name(), None);
    (spark, volume)
}

pub(super) fn set_status(seen: &mut Observed, status: SparkStatus) {
    let mut spark = (*seen.spark).clone();
    spark.status = Some(status);
    seen.spark = Arc::new(spark);
}

pub(super) fn ready(plan: &Plan) -> (bool, Reason) {
    let found = conditions::find(&plan.status.conditions, READY).unwrap();
    (found.status == "True", Reason::from(found.reason.as_str()))
}

pub(super) fn created_volume(plan: &Plan) -> Option<&Volume> {
    plan.actions.iter().find_map(|action| match action {
        Action::CreateVolume(volume, _) => Some(&**volume),
        _ => None,
    })
}

#[test]
fn a_warm_start_is_one_claim_one_volume_and_no_status() {
    let mut seen = observed(from_image());
    seen.warm = vec![warm("w", "n1")];
    let plan = plan(&seen);
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Claim { pod, .. } if pod.name_any() == "w")));
    assert_eq!(created_volume(&plan).unwrap().spec.attachment.as_ref().unwrap().pod_name, "w");
    assert!(plan.status_may_wait, "a fast start costs no write for its progress");
    assert_eq!(plan.actions.len(), 2, "nor one for its Service yet: {:?}", plan.actions);
    assert!(plan.requeue.is_some(), "but a slow one must show it");
}

#[test]
fn a_spark_whose_pod_shows_before_its_volume_claims_no_second_pod() {
    let mut seen = observed(from_image());
    (seen.warm, seen.pods) = (vec![warm("w", "n1")], vec![mine("first")]);
    seen.start.claim = Some(Duration::from_millis(8));
    let early = plan(&seen);
    assert_eq!((early.actions.len(), early.status_may_wait), (0, true));
    assert!(early.requeue.is_some(), "but it doesn't trust in the watch for ever");
    seen.start.age = Duration::from_secs(1);
    let late = plan(&seen);
    assert!(late.actions.iter().all(|a| !matches!(a, Action::Claim { .. } | Action::CreatePod(_))));
    assert_eq!(created_volume(&late).unwrap().spec.attachment.as_ref().unwrap().pod_name, "first");
}

#[test]
fn a_fork_takes_a_warm_pod_only_on_the_node_of_its_source() {
    let mut seen = observed(from_image());
    seen.source = Ok(Source { node: Some("n2".into()), ..of_image("team", "debian") });
    seen.warm = vec![warm("a", "n1"), warm("b", "n2")];
    let plan = plan(&seen);
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Claim { pod, .. } if pod.name_any() == "b")));
    assert_eq!(created_volume(&plan).unwrap().spec.node_name, "n2");
}

#[test]
fn without_a_warm_pod_an_ordinary_one_starts_while_the_disks_are_made() {
    let plan = plan(&observed(from_image()));
    assert!(plan.actions.iter().any(|a| matches!(a, Action::CreatePod(_))));
    assert!(created_volume(&plan).unwrap().spec.attachment.is_none(), "its uid is not known yet");
}

#[test]
fn a_fork_whose_node_is_gone_says_so_and_writes_nothing() {
    let mut seen = observed(from_image());
    seen.source = Ok(Source { node: Some("gone".into()), ..of_image("team", "debian") });
    let plan = plan(&seen);
    assert_eq!(ready(&plan), (false, Reason::NodeLost));
    assert!(created_volume(&plan).is_none());
}

#[test]
fn a_refused_source_shows_at_once() {
    let mut seen = observed(from_image());
    seen.source = Err(Blocked::new(Reason::ForkDenied, "no"));
    let plan = plan(&seen);
    assert_eq!(ready(&plan), (false, Reason::ForkDenied));
    assert!(!plan.status_may_wait);
    assert_eq!(plan.events.len(), 1);
}

#[test]
fn what_keeps_the_disks_from_being_made_has_the_class_that_the_node_agent_says() {
    use sparks_api::Class::{Failing, Stalled, Waiting};
    let table = [
        ("SourceLost", Some(Stalled), Stalled),
        ("SourceLost", None, Stalled),
        ("PoolFull", Some(Failing), Failing),
        ("HostError", Some(Stalled), Stalled),
        ("FromTheFuture", Some(Stalled), Stalled),
        ("FromTheFuture", None, Waiting),
    ];
    for (why, told, expected) in table {
        let mut seen = observed(from_image());
        let mut volume = volume(&seen.spark, &base_name(), None);
        let mut conditions = vec![condition(PROVISIONED, false, why, "its words", None, seen.now)];
        told.iter().for_each(|class| {
            conditions::set_class(&mut conditions, (*class, &Reason::from(why)), "", None, seen.now);
        });
        volume.status = Some(VolumeStatus { conditions, ..Default::default() });
        seen.volumes = vec![Arc::new(volume)];
        let plan = plan(&seen);
        assert_eq!(ready(&plan), (false, Reason::from(why)), "{why} {told:?}");
        assert_eq!(conditions::class(&plan.status.conditions), Some(expected), "{why} {told:?}");
        assert_eq!(plan.status.phase == SparkPhase::Failed, expected == Stalled, "{why} {told:?}");
        assert_eq!(plan.events.len(), usize::from(expected != Waiting), "{why} {told:?}");
    }
}

#[test]
fn a_running_spark_needs_no_write_but_its_service() {
    let plan = plan(&running(from_image()));
    assert_eq!(ready(&plan), (true, Reason::Running));
    assert!(plan.actions.iter().all(|a| matches!(a, Action::CreateService(_))), "{:?}", plan.actions);
    assert_eq!(plan.status.phase, SparkPhase::Running);
}

#[test]
fn a_spark_whose_pod_was_deleted_takes_another_one_and_keeps_its_disks() {
    let mut seen = running(from_image());
    seen.pods.clear();
    seen.warm = vec![warm("w", "n1")];
    let plan = plan(&seen);
    assert!(created_volume(&plan).is_none());
    let patch = plan.actions.iter().find_map(|a| match a {
        Action::PatchVolume(_, patch, _) => Some(patch),
        _ => None,
    });
    assert_eq!(patch.unwrap()["spec"]["attachment"]["podName"], "w");
}

#[test]
fn of_two_claimed_pods_the_attached_one_stays() {
    let mut seen = running(from_image());
    seen.pods.insert(0, mine("another"));
    let plan = plan(&seen);
    let deleted: Vec<_> = plan
        .actions
        .iter()
        .filter_map(|a| match a {
            Action::DeletePod(pod, _) => Some(pod.name_any()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, ["another"]);
}

#[test]
fn a_stopped_spark_gives_up_its_pod_and_keeps_its_disks() {
    let stop = SparkSpec { lifecycle: Lifecycle { running: false, ..Default::default() }, ..from_image() };
    let mut seen = running(stop);
    let first = plan(&seen);
    assert!(first.actions.iter().any(|a| matches!(a, Action::DeletePod(..))));
    assert_eq!(first.status.phase, SparkPhase::Stopping);
    seen.pods.clear();
    seen.volumes = vec![Arc::new(volume(&seen.spark, &base_name(), None))];
    let then = plan(&seen);
    assert_eq!(ready(&then), (true, Reason::Stopped));
    assert_eq!(then.status.phase, SparkPhase::Stopped);
    assert!(
        conditions::find(&then.status.conditions, conditions::RECONCILING).is_none(),
        "it is as it shall be"
    );
}

#[test]
fn a_spark_whose_volume_was_deleted_never_begins_anew_without_its_data() {
    let mut seen = observed(from_image());
    set_status(
        &mut seen,
        SparkStatus { volume: Some(LocalReference { name: "lost".into() }), ..Default::default() },
    );
    seen.warm = vec![warm("w", "n1")];
    let plan = plan(&seen);
    assert_eq!(ready(&plan), (false, Reason::VolumeLost));
    assert!(created_volume(&plan).is_none());
    assert!(conditions::is_true(&plan.status.conditions, conditions::STALLED));
}

#[test]
fn an_undeleted_spark_takes_up_the_trashed_volume_instead_of_a_new_one() {
    let mut seen = observed(from_image());
    let mut spark = (*seen.spark).clone();
    spark.annotations_mut().insert(labels::UNDELETE.into(), "old".into());
    seen.undelete = Some(Arc::new(volume(&spark, "old-volume", None)));
    seen.spark = Arc::new(spark);
    let first = plan(&seen);
    assert!(created_volume(&first).is_none());
    assert!(first.actions.iter().any(|a| matches!(a, Action::PatchVolume(v, patch, _)
        if v.name_any() == "old-volume" && patch["metadata"]["labels"][labels::OWNER_UID] == UID)));
    seen.undelete = None;
    assert_eq!(ready(&plan(&seen)), (false, Reason::NothingToUndelete));
}

#[test]
fn a_restore_makes_new_disks_for_the_same_pod_and_discards_the_old_ones_only_then() {
    let restore = Restore { checkpoint: "c".into(), id: None };
    let mut seen = running(SparkSpec { restore: Some(restore.clone()), ..from_image() });
    seen.restore = Some(Ok(VolumeSource::default()));
    let first = plan(&seen);
    let name = names::restored_volume("api", UID, &restore);
    let made = created_volume(&first).unwrap();
    assert_eq!(
        (made.name_any(), made.spec.attachment.as_ref().unwrap().pod_name.as_str()),
        (name.clone(), "pod")
    );
    assert!(!first.actions.iter().any(|a| matches!(a, Action::Trash(_))));
    assert!(!ready(&first).0, "nobody may take the old disks for the restored ones");
    let restored = volume(&seen.spark, &name, Some(&seen.pods[0]));
    seen.volumes.push(Arc::new(restored));
    let then = plan(&seen);
    assert!(then.actions.iter().any(|a| matches!(a, Action::Trash(v) if v.name_any() == base_name())));
    assert_eq!(then.status.restored.as_ref().unwrap().checkpoint, "c");
    assert!(created_volume(&then).is_none());
}

#[test]
fn a_restore_to_a_checkpoint_that_is_not_there_leaves_the_spark_as_it_is_and_says_so() {
    let mut seen =
        running(SparkSpec { restore: Some(Restore { checkpoint: "c".into(), id: None }), ..from_image() });
    seen.restore = Some(Err(Blocked::new(Reason::SourceNotFound, "no")));
    let plan = plan(&seen);
    assert!(
        created_volume(&plan).is_none()
            && !plan.actions.iter().any(|a| matches!(a, Action::DeletePod(..) | Action::Trash(_)))
    );
    assert_eq!(ready(&plan), (false, Reason::SourceNotFound));
}

#[test]
fn a_spark_past_its_ttl_is_deleted_and_before_it_looked_at_in_time() {
    let short =
        SparkSpec { lifecycle: Lifecycle { ttl: Some("1h".into()), ..Default::default() }, ..from_image() };
    let mut seen = running(short);
    assert_eq!(plan(&seen).requeue, Some(Duration::from_secs(3600)));
    seen.now = Timestamp::from_second(3600).unwrap();
    assert_eq!(plan(&seen).actions, [Action::Delete]);
}

#[test]
fn a_foreign_service_of_the_same_name_is_reported_and_left_alone() {
    let mut seen = running(from_image());
    seen.service = Some(Arc::new(super::service(&spark(from_image()), 8080)));
    let mut foreign = (**seen.service.as_ref().unwrap()).clone();
    foreign.metadata.owner_references = None;
    seen.service = Some(Arc::new(foreign));
    let plan = plan(&seen);
    assert_eq!(ready(&plan), (false, Reason::NameTaken));
    assert!(!plan.actions.iter().any(|a| matches!(a, Action::PatchService(_) | Action::CreateService(_))));
}

#[test]
fn a_changed_size_goes_to_the_pod_and_to_the_disks() {
    let mut seen = running(from_image());
    let bigger = SparkSpec {
        disk: Some(sparks_api::Disk {
            size: k8s_openapi::apimachinery::pkg::api::resource::Quantity("40Gi".into()),
        }),
        resources: Some(sparks_api::Resources::default()),
        ..from_image()
    };
    seen.spark = Arc::new(spark(bigger));
    let plan = plan(&seen);
    assert!(
        plan.actions
            .iter()
            .any(|a| matches!(a, Action::PatchVolume(_, p, _) if p["spec"]["disks"][0]["size"] == "40Gi"))
    );
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Resize(..))));
}
