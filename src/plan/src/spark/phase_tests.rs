//! What a Spark says of itself in each phase of its life.

#![allow(clippy::unwrap_used)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sparks_api::{
    Class, Lifecycle, LocalReference, Reason, Spark, SparkPhase, SparkSpec, SparkStatus,
    conditions::{self, READY, RUNNING},
};

use super::{
    Observed, of_image, plan,
    source::Source,
    tests::{base_name, from_image, observed, ready, running, set_status, set_volumes, told, volume},
};
use crate::{known::Known, progress::Blocked};

/// What a Spark says: its phase, whether and why it is Ready, whether it is Running, and its class.
type Said = (SparkPhase, (bool, Reason), bool, Class);

fn stopped_spec() -> SparkSpec {
    SparkSpec { lifecycle: Lifecycle { running: false, ..Default::default() }, ..from_image() }
}

/// A Spark that has its disks, and no pod yet.
fn disks_only(spec: SparkSpec) -> Observed {
    let mut seen = observed(spec);
    let volume = volume(&seen.spark, &base_name(), None);
    set_volumes(&mut seen, vec![volume]);
    seen
}

fn asleep(mut seen: Observed) -> Observed {
    let status = SparkStatus {
        sleeping_since: Some(Time(seen.now)),
        volume: Some(LocalReference { name: base_name() }),
        ..Default::default()
    };
    set_status(&mut seen, status);
    seen
}

fn drowsy() -> SparkSpec {
    let lifecycle = Lifecycle { idle_timeout: Some("1m".into()), ..Default::default() };
    SparkSpec { lifecycle, ..from_image() }
}

fn service_not_ready() -> Observed {
    let mut seen = running(from_image());
    let mut volume = (*seen.volumes[0]).clone();
    volume.status.as_mut().unwrap().attached.as_mut().unwrap().service_ready = false;
    let volume = seen.volumes[0].with(volume);
    set_volumes(&mut seen, vec![volume]);
    seen
}

fn expired() -> Observed {
    let lifecycle = Lifecycle { ttl: Some("1h".into()), ..Default::default() };
    let mut seen = running(SparkSpec { lifecycle, ..from_image() });
    seen.now = jiff::Timestamp::MAX;
    seen
}

fn denied() -> Observed {
    let source = Err(Blocked::new(Reason::ForkDenied, "ask its owner"));
    Observed { source, ..observed(from_image()) }
}

fn on_a_lost_node() -> Observed {
    let source = Ok(Source { node: Some("gone".into()), ..of_image("team", "debian") });
    Observed { source, ..observed(from_image()) }
}

/// Each phase by its name.
fn phases() -> Vec<(&'static str, Observed, Said)> {
    use Class::{Failing, Settled, Stalled, Waiting};
    use SparkPhase::{Failed, Pending, Running, Sleeping, Starting, Stopped, Stopping};
    let (waits, is) = (|reason| (false, reason), |reason| (true, reason));
    vec![
        ("pending", observed(from_image()), (Pending, waits(Reason::Provisioning), false, Waiting)),
        ("waiting-for-a-node", on_a_lost_node(), (Pending, waits(Reason::NodeLost), false, Failing)),
        ("failed", denied(), (Failed, waits(Reason::ForkDenied), false, Stalled)),
        ("starting", disks_only(from_image()), (Starting, waits(Reason::PodStarting), false, Waiting)),
        (
            "starting-its-service",
            service_not_ready(),
            (Starting, waits(Reason::ServiceNotReady), true, Waiting),
        ),
        ("running", running(from_image()), (Running, is(Reason::Running), true, Settled)),
        ("stopping", running(stopped_spec()), (Stopping, waits(Reason::PodTerminating), false, Waiting)),
        ("stopped", disks_only(stopped_spec()), (Stopped, is(Reason::Stopped), false, Settled)),
        (
            "falling-asleep",
            asleep(running(drowsy())),
            (Stopping, waits(Reason::FallingAsleep), false, Waiting),
        ),
        ("sleeping", asleep(disks_only(drowsy())), (Sleeping, is(Reason::Sleeping), false, Settled)),
        ("expired", expired(), (Stopping, waits(Reason::Expired), true, Waiting)),
    ]
}

fn said(status: &SparkStatus) -> (bool, Class) {
    let running = conditions::find(&status.conditions, RUNNING).unwrap();
    (running.status == "True", conditions::class(&status.conditions).unwrap_or(Class::Settled))
}

#[test]
fn ready_says_that_it_is_as_declared_and_running_that_it_is_up() {
    for (name, seen, (phase, is_ready, runs, class)) in phases() {
        let plan = plan(&seen);
        let status = told(&plan);
        assert_eq!((status.phase, ready(&plan), said(status)), (phase, is_ready, (runs, class)), "{name}");
        assert_eq!(status.is_up(), status.phase == SparkPhase::Running, "{name}");
        let all = &status.conditions;
        assert_eq!(conditions::is_true(all, READY), class == Class::Settled, "{name}");
    }
}

#[test]
fn what_is_up_keeps_saying_so_while_something_else_is_wrong() {
    let mut seen = running(from_image());
    let mut foreign = super::service(&seen.spark, 8080);
    (foreign.metadata.owner_references, foreign.metadata.uid) = (None, Some("foreign".into()));
    seen.service = Some(Known::of(foreign).unwrap());
    let plan = plan(&seen);
    assert_eq!(ready(&plan), (false, Reason::NameTaken));
    assert!(told(&plan).runs() && !told(&plan).is_up());
}

#[test]
fn a_start_is_timed_whether_ready_was_true_before_or_not() {
    let mut seen = running(drowsy());
    let slept = told(&plan(&asleep(disks_only(drowsy())))).clone();
    for before in [None, Some(SparkStatus { sleeping_since: None, ..slept })] {
        set_status(&mut seen, before.unwrap_or_default());
        let status = told(&plan(&seen)).clone();
        assert!(status.timings.is_some());
        set_status(&mut seen, SparkStatus { timings: None, ..status });
        assert!(told(&plan(&seen)).timings.is_none(), "it is timed once");
    }
}

/// Each phase as the API server shows it.
pub(crate) fn objects() -> Vec<(&'static str, Spark)> {
    let planned = phases().into_iter().map(|(name, seen, _)| {
        let status = plan(&seen).status;
        (name, Spark { status, ..(*seen.spark).clone() })
    });
    planned.collect()
}
