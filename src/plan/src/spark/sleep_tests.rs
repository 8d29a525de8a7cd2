//! Idle sleep and wake, and what the gateway's own fields need.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use sparks_api::{
    AttachedSsh, Lifecycle, LocalReference, Reason, Service, Spark, SparkPhase, SparkSpec, SparkStatus,
    conditions::{self, ATTACHED, READY, RECONCILING, RUNNING, condition},
    labels,
};

use super::{
    Observed, SshFound, asleep, plan,
    tests::{
        base_name, created_volume, from_image, observed, ready, running, set_status, set_volumes, spark,
        told, updated_volumes, volume, warm,
    },
};
use crate::action::{Action, Planned, Write};

type Plan = Planned<SparkStatus>;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn time(second: i64) -> Option<Time> {
    Some(Time(at(second)))
}

fn idle_after(timeout: &str) -> SparkSpec {
    let lifecycle = Lifecycle { idle_timeout: Some(timeout.into()), ..Default::default() };
    SparkSpec { lifecycle, ..from_image() }
}

/// When things happened, in seconds.
#[derive(Clone, Copy, Default)]
struct Past {
    idle: Option<i64>,
    activity: Option<i64>,
    wake: Option<i64>,
    attached: i64,
    ready: Option<i64>,
    /// When the computer came up, if that was later.
    up: Option<i64>,
}

/// A Spark that runs and sleeps after a minute of idleness; it is second 1000.
fn awake(past: Past) -> Observed {
    let mut seen = running(idle_after("1m"));
    seen.now = at(1000);
    let mut volume = (*seen.volumes[0]).clone();
    let status = volume.status.as_mut().unwrap();
    status.attached.as_mut().unwrap().idle_since = past.idle.and_then(time);
    conditions::remove(&mut status.conditions, ATTACHED);
    status.conditions.push(condition(ATTACHED, true, Reason::Available, "", None, at(past.attached)));
    let volume = seen.volumes[0].with(volume);
    set_volumes(&mut seen, vec![volume]);
    let told = |kind, t: Option<i64>| t.map(|t| condition(kind, true, Reason::Running, "", Some(1), at(t)));
    let ready = [told(READY, past.ready), told(RUNNING, past.up)];
    let status = SparkStatus {
        last_activity_at: past.activity.and_then(time),
        conditions: ready.into_iter().flatten().collect(),
        ..Default::default()
    };
    set_status(&mut seen, status);
    wake_at(&mut seen, past.wake);
    seen
}

fn wake_at(seen: &mut Observed, second: Option<i64>) {
    let mut spark = (*seen.spark).clone();
    if let Some(second) = second {
        spark.annotations_mut().insert(labels::WAKE.into(), at(second).to_string());
    }
    seen.spark = seen.spark.with(spark);
}

/// A Spark that fell asleep at second 900.
fn sleeping(spec: SparkSpec) -> Observed {
    let mut seen = observed(spec);
    seen.now = at(1000);
    let volume = volume(&seen.spark, &base_name(), None);
    set_volumes(&mut seen, vec![volume]);
    let status = SparkStatus {
        sleeping_since: time(900),
        volume: Some(LocalReference { name: base_name() }),
        conditions: vec![
            condition(READY, true, Reason::Sleeping, "", Some(1), at(900)),
            condition(RUNNING, false, Reason::Sleeping, "", Some(1), at(900)),
        ],
        ..Default::default()
    };
    set_status(&mut seen, status);
    seen
}

fn ends_a_pod(plan: &Plan) -> bool {
    plan.actions.iter().any(|action| matches!(action, Action::DeletePod(..)))
}

#[test]
fn a_spark_falls_asleep_when_nobody_used_it_for_its_idle_timeout_and_not_a_moment_sooner() {
    let idle = Past { idle: Some(100), ready: Some(100), ..Default::default() };
    for (what, past, sleeps_in) in [
        ("idle for long", idle, None),
        ("in use", Past { idle: None, ..idle }, Some(None)),
        ("idle since a moment", Past { idle: Some(990), ..idle }, Some(Some(50))),
        ("seen by the gateway", Past { activity: Some(980), ..idle }, Some(Some(40))),
        ("seen by the gateway long ago", Past { activity: Some(200), ..idle }, None),
        ("asked to be awake", Past { wake: Some(970), ..idle }, Some(Some(30))),
        ("attached just now", Past { attached: 960, ..idle }, Some(Some(20))),
        ("ready just now", Past { ready: Some(995), ..idle }, Some(Some(55))),
        ("woken just now, and Ready all the time", Past { up: Some(995), ..idle }, Some(Some(55))),
        ("never ready", Past { ready: None, ..idle }, None),
        ("exactly as long", Past { idle: Some(940), ..idle }, None),
    ] {
        let plan = plan(&awake(past));
        let expected = sleeps_in.map(|left| left.map(Duration::from_secs));
        let got = told(&plan).sleeping_since.is_none().then_some(plan.again);
        assert_eq!(got, expected, "{what}");
    }
}

#[test]
fn without_an_idle_timeout_a_spark_never_sleeps() {
    let mut seen = awake(Past { idle: Some(1), ..Default::default() });
    let mut spark = (*seen.spark).clone();
    spark.spec.lifecycle.idle_timeout = None;
    seen.spark = seen.spark.with(spark);
    let plan = plan(&seen);
    assert_eq!((told(&plan).sleeping_since.clone(), plan.again), (None, None));
}

#[test]
fn falling_asleep_is_written_before_the_pod_ends_and_only_if_nobody_came_meanwhile() {
    let mut seen = awake(Past { idle: Some(100), ready: Some(100), ..Default::default() });
    let first = plan(&seen);
    assert!(first.write == Write::IfUnchanged && !ends_a_pod(&first));
    assert_eq!((told(&first).sleeping_since.clone(), told(&first).pod_ip.clone()), (time(1000), None));
    assert_eq!(ready(&first), (false, Reason::FallingAsleep));
    assert_eq!(
        first.events.iter().map(|e| (e.warning, e.reason.clone())).collect::<Vec<_>>(),
        [(false, Reason::Sleeping)]
    );
    set_status(&mut seen, told(&first).clone());
    let then = plan(&seen);
    assert!(ends_a_pod(&then) && then.write != Write::IfUnchanged);
    assert_eq!((told(&then).phase, told(&then).sleeping_since.clone()), (SparkPhase::Stopping, time(1000)));
    assert!(then.events.is_empty());
}

#[test]
fn a_sleeping_spark_has_no_pod_and_is_as_it_shall_be() {
    let plan = plan(&sleeping(idle_after("1m")));
    assert_eq!(ready(&plan), (true, Reason::Sleeping));
    assert_eq!((told(&plan).phase, told(&plan).sleeping_since.clone()), (SparkPhase::Sleeping, time(900)));
    assert!(conditions::find(&told(&plan).conditions, RECONCILING).is_none());
    assert!(plan.actions.iter().all(|a| matches!(a, Action::CreateService(_))), "{:?}", plan.actions);
    assert_eq!(plan.again, None);
}

#[test]
fn a_sleeping_spark_wakes_when_somebody_came_since_and_not_before() {
    for (what, activity, wake, wakes) in [
        ("nobody came", None, None, false),
        ("somebody came before", Some(899), Some(899), false),
        ("in the same moment", Some(900), None, true),
        ("by the gateway", Some(950), None, true),
        ("by the annotation", None, Some(950), true),
        ("by the annotation, in the same moment", Some(1), Some(900), true),
    ] {
        let mut seen = sleeping(idle_after("1m"));
        seen.warm = vec![warm("w", "n1")];
        let mut status = seen.spark.status.clone().unwrap();
        status.last_activity_at = activity.and_then(time);
        set_status(&mut seen, status);
        wake_at(&mut seen, wake);
        assert_eq!(asleep(&seen.spark), !wakes, "{what}");
        let plan = plan(&seen);
        let claims = plan.actions.iter().any(|action| matches!(action, Action::Claim { .. }));
        assert_eq!((claims, told(&plan).sleeping_since.is_none()), (wakes, wakes), "{what}");
        assert_eq!(plan.events.iter().any(|e| e.reason == Reason::Woken), wakes, "{what}");
    }
}

#[test]
fn a_wake_costs_no_write_but_those_of_a_warm_start() {
    let mut seen = sleeping(idle_after("1m"));
    seen.warm = vec![warm("w", "n1")];
    wake_at(&mut seen, Some(1000));
    let plan = plan(&seen);
    assert_eq!(plan.write, Write::Later);
    assert!(created_volume(&plan).is_none());
    assert_eq!(plan.actions.len(), 2, "{:?}", plan.actions);
}

#[test]
fn what_needs_no_pod_is_done_without_waking() {
    let bigger =
        sparks_api::Disk { size: k8s_openapi::apimachinery::pkg::api::resource::Quantity("40Gi".into()) };
    let mut seen = sleeping(idle_after("1m"));
    let mut spark = (*seen.spark).clone();
    spark.spec.disk = Some(bigger);
    seen.spark = seen.spark.with(spark);
    let plan = plan(&seen);
    assert_eq!(updated_volumes(&plan).len(), 1);
    assert_eq!(told(&plan).phase, SparkPhase::Sleeping);
}

#[test]
fn a_spark_that_is_stopped_or_may_not_sleep_any_more_does_not_sleep() {
    let stopped = plan(&sleeping(SparkSpec {
        lifecycle: Lifecycle { running: false, ..idle_after("1m").lifecycle },
        ..from_image()
    }));
    assert_eq!((told(&stopped).phase, told(&stopped).sleeping_since.clone()), (SparkPhase::Stopped, None));
    assert!(stopped.events.iter().all(|e| e.reason != Reason::Woken));
    let mut seen = sleeping(from_image());
    seen.warm = vec![warm("w", "n1")];
    assert!(plan(&seen).actions.iter().any(|action| matches!(action, Action::Claim { .. })));
}

#[test]
fn what_can_not_be_seen_is_not_called_idle() {
    let mut seen = awake(Past { idle: Some(100), ..Default::default() });
    seen.agents.clear();
    assert_eq!(told(&plan(&seen)).sleeping_since, None, "its node agent is away");
}

#[test]
fn the_gateways_fields_are_never_written_by_the_controller() {
    let recordings = sparks_api::RecordingsStatus { count: 3, head: "h".into(), ..Default::default() };
    let mut seen = awake(Past { activity: Some(999), ..Default::default() });
    let mut status = seen.spark.status.clone().unwrap();
    status.recordings = Some(recordings);
    set_status(&mut seen, status.clone());
    let patch = crate::patch::between(Some(&status), told(&plan(&seen))).unwrap().unwrap();
    for field in ["lastActivityAt", "recordings"] {
        assert!(patch.get(field).is_none(), "{field} in {patch}");
    }
    set_status(&mut seen, SparkStatus::default());
    let patch = crate::patch::between(Some(&SparkStatus::default()), told(&plan(&seen))).unwrap().unwrap();
    assert!(
        patch.get("lastActivityAt").is_none(),
        "a cache that is behind names no field that it doesn't know"
    );
}

#[test]
fn the_address_of_the_pod_is_told_while_the_disks_are_its_root_and_no_longer() {
    let with_ip = |seen: &mut Observed| {
        let mut pod = (*seen.pods[0]).clone();
        pod.status.as_mut().unwrap().pod_ip = Some("10.0.0.7".into());
        seen.pods = vec![seen.pods[0].with(pod)];
    };
    let mut seen = awake(Past::default());
    with_ip(&mut seen);
    let mut slow = (*seen.volumes[0]).clone();
    slow.status.as_mut().unwrap().attached.as_mut().unwrap().service_ready = false;
    let volume = seen.volumes[0].with(slow.clone());
    set_volumes(&mut seen, vec![volume]);
    let starting = plan(&seen);
    assert_eq!(ready(&starting), (false, Reason::ServiceNotReady));
    assert_eq!(told(&starting).pod_ip.as_deref(), Some("10.0.0.7"));
    slow.status.as_mut().unwrap().attached.as_mut().unwrap().pod_uid = "the-pod-before".into();
    let volume = seen.volumes[0].with(slow);
    set_volumes(&mut seen, vec![volume]);
    assert_eq!(told(&plan(&seen)).pod_ip, None, "attached to another pod");
    let stop = SparkSpec { lifecycle: Lifecycle { running: false, ..Default::default() }, ..from_image() };
    let mut seen = running(stop);
    with_ip(&mut seen);
    assert_eq!(told(&plan(&seen)).pod_ip, None, "about to end");
}

#[test]
fn an_attached_spark_keeps_its_sealed_host_key_and_follows_the_keys_that_may_enter() {
    let mut seen = running(from_image());
    let found =
        SshFound { host_key: Some("host".into()), gateway_keys: vec!["gw".into()], ..Default::default() };
    seen.agents[0].public_key = Some("agent".into());
    seen.ssh = found;
    let ssh = |plan: &Plan| -> Option<AttachedSsh> {
        updated_volumes(plan).first().and_then(|volume| volume.spec.attachment.clone()?.ssh)
    };
    let first = plan(&seen);
    let mut attached = ssh(&first).unwrap();
    assert_eq!(attached.sealed_host_key, None, "whoever carries it out seals it");
    let seals = |plan: &Plan| {
        plan.actions.iter().any(|a| matches!(a, Action::UpdateVolume(_, seal) if seal.host_key_of.is_some()))
    };
    assert!(seals(&first));
    attached.sealed_host_key = Some("sealed".into());
    let mut volume = (*seen.volumes[0]).clone();
    volume.spec.attachment.as_mut().unwrap().ssh = Some(attached);
    volume.metadata.annotations = updated_volumes(&first)[0].metadata.annotations.clone();
    let volume = seen.volumes[0].with(volume);
    set_volumes(&mut seen, vec![volume]);
    assert_eq!(ssh(&plan(&seen)), None, "nothing changed");
    seen.ssh.lines = vec!["ssh-ed25519 AAAA".into()];
    let then = plan(&seen);
    assert!(!seals(&then));
    let attached = ssh(&then).unwrap();
    assert_eq!(
        (attached.authorized_keys, attached.sealed_host_key),
        (vec!["ssh-ed25519 AAAA".into()], Some("sealed".into()))
    );
}

#[test]
fn a_service_is_public_only_in_the_status_of_its_own_spark() {
    let public = |spec: SparkSpec| told(&plan(&running(spec))).public;
    let service = Service { command: vec!["x".into()], port: 8080, public: true, ..Default::default() };
    assert!(public(SparkSpec { service: Some(service), ..from_image() }));
    assert!(!public(from_image()));
}

#[test]
fn a_moment_that_can_not_be_read_wakes_nobody() {
    let mut sleeper: Spark = (*spark(idle_after("1m"))).clone();
    sleeper.status = Some(SparkStatus { sleeping_since: time(900), ..Default::default() });
    sleeper.annotations_mut().insert(labels::WAKE.into(), "now".into());
    assert!(asleep(&sleeper));
    sleeper.annotations_mut().insert(labels::WAKE.into(), "1970-01-01T01:20:00+01:00".into());
    assert!(!asleep(&sleeper), "any offset is understood");
}
