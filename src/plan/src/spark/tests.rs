//! The rules of a Spark's life, one by one.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::ResourceExt;
use sparks_api::{
    Attached, Lifecycle, LocalReference, Reason, Restore, Spark, SparkPhase, SparkSpec, SparkStatus, Uid,
    Volume, VolumeSource, VolumeStatus,
    conditions::{self, ATTACHED, PROVISIONED, READY, condition},
    labels,
};

use super::{Observed, Source, SshFound, Start, of_image, plan, volume_for};
use crate::{
    action::{Action, Planned, Write},
    known::Known,
    names,
    placement::Agent,
    pods::{Template, labels_of, spark_labels},
    progress::Blocked,
    volume::live,
};

type Plan = Planned<SparkStatus>;

pub(super) const UID: &str = "spark-uid";

pub(super) fn spark(spec: SparkSpec) -> Known<Spark> {
    let mut spark = Spark::new("api", spec);
    spark.metadata.namespace = Some("team".into());
    spark.metadata.uid = Some(UID.into());
    spark.metadata.creation_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    spark.metadata.generation = Some(1);
    Known::of(spark).unwrap()
}

pub(super) fn from_image() -> SparkSpec {
    SparkSpec { image: Some("debian".into()), ..Default::default() }
}

pub(super) fn pod(
    name: &str,
    labels: std::collections::BTreeMap<String, String>,
    node: &str,
    ready: bool,
) -> Known<Pod> {
    let condition = PodCondition {
        type_: "Ready".into(),
        status: if ready { "True" } else { "False" }.into(),
        ..Default::default()
    };
    let pod = Pod {
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
    };
    Known::of(pod).unwrap()
}

pub(super) fn warm(name: &str, node: &str) -> Known<Pod> {
    pod(name, labels_of(labels::ROLE_WARM, &[(labels::POOL, "p")]), node, true)
}

pub(super) fn mine(name: &str) -> Known<Pod> {
    pod(name, spark_labels(&spark(from_image())), "n1", true)
}

pub(super) fn agent(node: &str) -> Agent {
    Agent { node: node.into(), free_bytes: 1 << 30, public_key: None }
}

pub(super) fn observed(spec: SparkSpec) -> Observed {
    Observed {
        spark: spark(spec),
        source: Ok(of_image("team", "debian")),
        restore: None,
        volumes: vec![],
        live: None,
        undelete: None,
        pods: vec![],
        import_pod: None,
        import_refused: None,
        service: None,
        warm: vec![],
        agents: vec![agent("n1"), agent("n2")],
        ssh: SshFound::default(),
        start: Start::default(),
        template: Template { guest_image: "guest".into() },
        retention: Duration::from_secs(86_400),
        now: Timestamp::UNIX_EPOCH,
    }
}

/// The Spark's Volume as the node agent leaves it, attached to `pod` if given.
pub(super) fn volume(spark: &Known<Spark>, name: &str, pod: Option<&Known<Pod>>) -> Known<Volume> {
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
            pod_uid: pod.id.uid.to_string(),
            service_ready: true,
            ..Default::default()
        });
    }
    volume.status = Some(status);
    volume.metadata.uid = Some(format!("{name}-uid"));
    Known::of(volume).unwrap()
}

/// What the Spark's Volumes are.
pub(super) fn set_volumes(seen: &mut Observed, volumes: Vec<Known<Volume>>) {
    seen.live = live(&seen.spark, &volumes).cloned();
    seen.volumes = volumes;
}

pub(super) fn base_name() -> String {
    names::volume("api", &Uid::new(UID).unwrap())
}

/// A Spark that runs.
pub(super) fn running(spec: SparkSpec) -> Observed {
    let mut seen = observed(spec);
    let pod = mine("pod");
    let live = volume(&seen.spark, &base_name(), Some(&pod));
    set_volumes(&mut seen, vec![live]);
    seen.pods = vec![pod];
    seen.start.age = Duration::MAX;
    seen
}

/// A Spark, and the Volume with its disks.
pub(crate) fn with_disks() -> (Known<Spark>, Known<Volume>) {
    let spark = spark(from_image());
    let volume = volume(&spark, &base_name(), None);
    (spark, volume)
}

pub(super) fn set_status(seen: &mut Observed, status: SparkStatus) {
    let mut spark = (*seen.spark).clone();
    spark.status = Some(status);
    seen.spark = seen.spark.with(spark);
}

pub(super) fn ready(plan: &Plan) -> (bool, Reason) {
    let found = conditions::find(&told(plan).conditions, READY).unwrap();
    (found.status == "True", Reason::from(found.reason.as_str()))
}

pub(super) fn told(plan: &Plan) -> &SparkStatus {
    plan.status.as_ref().unwrap()
}

pub(super) fn updated_volumes(plan: &Plan) -> Vec<&Volume> {
    let volumes = plan.actions.iter().filter_map(|action| match action {
        Action::UpdateVolume(volume, _) => Some(&**volume),
        _ => None,
    });
    volumes.collect()
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
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Claim { pod, .. } if pod.name() == "w")));
    assert_eq!(created_volume(&plan).unwrap().spec.attachment.as_ref().unwrap().pod_name, "w");
    assert!(plan.write == Write::Later, "a fast start costs no write for its progress");
    assert_eq!(plan.actions.len(), 2, "nor one for its Service yet: {:?}", plan.actions);
    assert!(plan.again.is_some(), "but a slow one must show it");
}

#[test]
fn a_spark_whose_pod_shows_before_its_volume_claims_no_second_pod() {
    let mut seen = observed(from_image());
    (seen.warm, seen.pods) = (vec![warm("w", "n1")], vec![mine("first")]);
    seen.start.claim = Some(Duration::from_millis(8));
    let early = plan(&seen);
    assert_eq!((early.actions.len(), early.write), (0, Write::Later));
    assert!(early.again.is_some(), "but it doesn't trust in the watch for ever");
    seen.start.age = Duration::from_secs(1);
    let late = plan(&seen);
    assert!(late.actions.iter().all(|a| !matches!(a, Action::Claim { .. } | Action::CreatePod { .. })));
    assert_eq!(created_volume(&late).unwrap().spec.attachment.as_ref().unwrap().pod_name, "first");
}

#[test]
fn a_fork_takes_a_warm_pod_only_on_the_node_of_its_source() {
    let mut seen = observed(from_image());
    seen.source = Ok(Source { node: Some("n2".into()), ..of_image("team", "debian") });
    seen.warm = vec![warm("a", "n1"), warm("b", "n2")];
    let plan = plan(&seen);
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Claim { pod, .. } if pod.name() == "b")));
    assert_eq!(created_volume(&plan).unwrap().spec.node_name, "n2");
}

#[test]
fn without_a_warm_pod_an_ordinary_one_starts_while_the_disks_are_made() {
    let plan = plan(&observed(from_image()));
    assert!(plan.actions.iter().any(|a| matches!(a, Action::CreatePod { .. })));
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
    assert_eq!(plan.write, Write::After);
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
    for (why, class, expected) in table {
        let mut seen = observed(from_image());
        let mut volume = (*volume(&seen.spark, &base_name(), None)).clone();
        let mut conditions = vec![condition(PROVISIONED, false, why, "its words", None, seen.now)];
        class.iter().for_each(|class| {
            conditions::set_class(&mut conditions, (*class, &Reason::from(why)), "", None, seen.now);
        });
        volume.status = Some(VolumeStatus { conditions, ..Default::default() });
        let volume = seen
            .live
            .as_ref()
            .map_or_else(|| Known::of(volume.clone()).unwrap(), |live| live.with(volume.clone()));
        set_volumes(&mut seen, vec![volume]);
        let plan = plan(&seen);
        assert_eq!(ready(&plan), (false, Reason::from(why)), "{why} {class:?}");
        assert_eq!(conditions::class(&told(&plan).conditions), Some(expected), "{why} {class:?}");
        assert_eq!(told(&plan).phase == SparkPhase::Failed, expected == Stalled, "{why} {class:?}");
        assert_eq!(plan.events.len(), usize::from(expected != Waiting), "{why} {class:?}");
    }
}

#[test]
fn a_running_spark_needs_no_write_but_its_service() {
    let plan = plan(&running(from_image()));
    assert_eq!(ready(&plan), (true, Reason::Running));
    assert!(plan.actions.iter().all(|a| matches!(a, Action::CreateService(_))), "{:?}", plan.actions);
    assert_eq!(told(&plan).phase, SparkPhase::Running);
}

#[test]
fn a_spark_whose_pod_was_deleted_takes_another_one_and_keeps_its_disks() {
    let mut seen = running(from_image());
    seen.pods.clear();
    seen.warm = vec![warm("w", "n1")];
    let plan = plan(&seen);
    assert!(created_volume(&plan).is_none());
    assert_eq!(updated_volumes(&plan)[0].spec.attachment.as_ref().unwrap().pod_name, "w");
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
            Action::DeletePod(doomed) => Some(doomed.id.name.name.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, ["another"]);
}

#[test]
fn a_pod_on_another_node_than_the_disks_is_ended_and_never_attached() {
    let mut seen = running(from_image());
    let far = pod("far", spark_labels(&seen.spark), "n2", true);
    let kept = volume(&seen.spark, &base_name(), None);
    set_volumes(&mut seen, vec![kept]);
    (seen.pods, seen.warm) = (vec![far], vec![warm("near", "n1")]);
    let plan = plan(&seen);
    assert!(
        plan.actions.iter().any(|a| matches!(a, Action::DeletePod(doomed) if &*doomed.id.name.name == "far"))
    );
    assert_eq!(updated_volumes(&plan)[0].spec.attachment.as_ref().unwrap().pod_name, "near");
}

#[test]
fn a_stopped_spark_gives_up_its_pod_and_keeps_its_disks() {
    let stop = SparkSpec { lifecycle: Lifecycle { running: false, ..Default::default() }, ..from_image() };
    let mut seen = running(stop);
    let first = plan(&seen);
    assert!(first.actions.iter().any(|a| matches!(a, Action::DeletePod(_))));
    assert_eq!(told(&first).phase, SparkPhase::Stopping);
    seen.pods.clear();
    let kept = volume(&seen.spark, &base_name(), None);
    set_volumes(&mut seen, vec![kept]);
    let then = plan(&seen);
    assert_eq!(ready(&then), (true, Reason::Stopped));
    assert_eq!(told(&then).phase, SparkPhase::Stopped);
    assert!(
        conditions::find(&told(&then).conditions, conditions::RECONCILING).is_none(),
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
    assert!(conditions::is_true(&told(&plan).conditions, conditions::STALLED));
}

#[test]
fn an_undeleted_spark_takes_up_the_trashed_volume_instead_of_a_new_one() {
    let mut seen = observed(from_image());
    let mut spark = (*seen.spark).clone();
    spark.annotations_mut().insert(labels::UNDELETE.into(), "old".into());
    seen.spark = seen.spark.with(spark);
    seen.undelete = Some(volume(&seen.spark, "old-volume", None));
    let first = plan(&seen);
    assert!(created_volume(&first).is_none());
    let taken = updated_volumes(&first)[0];
    assert_eq!((taken.name_any(), taken.labels()[labels::OWNER_UID].as_str()), ("old-volume".into(), UID));
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
    assert!(updated_volumes(&first).iter().all(|v| v.spec.trashed_at.is_none()));
    assert!(!ready(&first).0, "nobody may take the old disks for the restored ones");
    let restored = volume(&seen.spark, &name, Some(&seen.pods[0]));
    let both = vec![seen.volumes[0].clone(), restored];
    set_volumes(&mut seen, both);
    let then = plan(&seen);
    assert!(
        updated_volumes(&then).iter().any(|v| v.spec.trashed_at.is_some() && v.name_any() == base_name())
    );
    assert_eq!(told(&then).restored.as_ref().unwrap().checkpoint, "c");
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
            && !plan.actions.iter().any(|a| matches!(a, Action::DeletePod(_) | Action::UpdateVolume(..)))
    );
    assert_eq!(ready(&plan), (false, Reason::SourceNotFound));
}

#[test]
fn a_spark_past_its_ttl_is_deleted_and_before_it_looked_at_in_time() {
    let short =
        SparkSpec { lifecycle: Lifecycle { ttl: Some("1h".into()), ..Default::default() }, ..from_image() };
    let mut seen = running(short);
    assert_eq!(plan(&seen).again, Some(Duration::from_secs(3600)));
    seen.now = Timestamp::from_second(3600).unwrap();
    assert_eq!(plan(&seen).actions, [Action::Expire]);
}

#[test]
fn a_foreign_service_of_the_same_name_is_reported_and_left_alone() {
    let mut seen = running(from_image());
    let mut foreign = super::service(&spark(from_image()), 8080);
    (foreign.metadata.owner_references, foreign.metadata.uid) = (None, Some("foreign".into()));
    seen.service = Some(Known::of(foreign).unwrap());
    let plan = plan(&seen);
    assert_eq!(ready(&plan), (false, Reason::NameTaken));
    assert!(!plan.actions.iter().any(|a| matches!(a, Action::PatchService(..) | Action::CreateService(_))));
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
    seen.spark = spark(bigger);
    let plan = plan(&seen);
    assert_eq!(updated_volumes(&plan)[0].spec.disks[0].size.0, "40Gi");
    assert!(plan.actions.iter().any(|a| matches!(a, Action::ResizePod(..))));
}
