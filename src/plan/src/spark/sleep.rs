//! When a Spark falls asleep, and when it wakes.
//!
//! Both follow from what is written down: a Spark sleeps from `status.sleepingSince` until somebody came after that. So a
//! wake needs no write of its own, and an old cache can only make it happen again.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt;
use sparks_api::{
    Attached, Reason, Spark, SparkStatus, Volume,
    conditions::{self, ATTACHED},
    labels, time,
};

use crate::{
    known::Known,
    progress::{Blocked, Progress},
};

/// The shortest idle time that counts: `sleepingSince` has whole seconds.
const SHORTEST: Duration = Duration::from_secs(1);
/// The node agent shows an idle time of this much by itself (`IDLE_SHOWN_AFTER` there).
const SHOWN_ANYWAY: Duration = Duration::from_secs(30);

/// Whether the Spark sleeps.
#[must_use]
pub fn asleep(spark: &Spark) -> bool {
    since(spark).is_some()
}

/// Since when it sleeps: it fell asleep, may still do so, and nobody came since.
pub(super) fn since(spark: &Spark) -> Option<&Time> {
    let since = spark.status.as_ref()?.sleeping_since.as_ref()?;
    timeout(spark)?;
    (last_seen(spark) < Some(since.0)).then_some(since)
}

/// Idle time after which it sleeps. A Spark that is to be stopped doesn't.
fn timeout(spark: &Spark) -> Option<Duration> {
    let lifecycle = &spark.spec.lifecycle;
    let asked = time::parse_duration(lifecycle.idle_timeout.as_deref()?)?;
    lifecycle.running.then_some(asked.max(SHORTEST))
}

/// When somebody came last: the gateway saw it, or it was asked to wake.
fn last_seen(spark: &Spark) -> Option<Timestamp> {
    let gateway = spark.status.as_ref().and_then(|s| s.last_activity_at.as_ref()).map(|at| at.0);
    let asked = spark.annotations().get(labels::WAKE).and_then(|at| at.parse().ok());
    gateway.max(asked)
}

/// Where the disks are attached, if that is this pod.
pub(super) fn attached_to<'a>(volume: &'a Volume, pod: &Known<Pod>) -> Option<&'a Attached> {
    let status = volume.status.as_ref()?;
    let done = conditions::is_true(&status.conditions, ATTACHED);
    status.attached.as_ref().filter(|found| done && found.pod_uid == pod.id.uid.as_str())
}

/// When it falls asleep if nothing happens until then; never while it is in use or not attached to its pod.
pub(super) fn bedtime(spark: &Spark, volume: &Volume, pod: &Known<Pod>) -> Option<Timestamp> {
    let timeout = timeout(spark)?;
    let idle = attached_to(volume, pod)?.idle_since.as_ref()?.0;
    let last = [started(volume, spark), last_seen(spark)].into_iter().flatten().fold(idle, Timestamp::max);
    Some(last.saturating_add(timeout).unwrap_or(Timestamp::MAX))
}

/// When it started last: when it was attached, or later, when its service answered.
fn started(volume: &Volume, spark: &Spark) -> Option<Timestamp> {
    let attached = conditions::find(&volume.status.as_ref()?.conditions, ATTACHED);
    let attached = attached.filter(|c| c.status == "True").map(|c| c.last_transition_time.0);
    attached.max(spark.status.as_ref().and_then(SparkStatus::up_since))
}

/// After how many seconds the node agent must show an idle time, if that is sooner than it does by itself.
pub(super) fn shown_after(spark: &Spark) -> Option<i32> {
    let timeout = timeout(spark).filter(|timeout| *timeout < SHOWN_ANYWAY)?;
    i32::try_from(timeout.as_secs()).ok()
}

/// What `sleepingSince` is when it falls asleep now; the API keeps whole seconds.
pub(super) fn from(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn idled(spark: &Spark) -> String {
    format!("it was idle for {}", spark.spec.lifecycle.idle_timeout.as_deref().unwrap_or_default())
}

/// It has a pod still.
pub(super) fn falling(spark: &Spark) -> Blocked {
    Blocked::new(Reason::FallingAsleep, format!("{} and goes to sleep; its service is ending", idled(spark)))
}

/// It has no pod any more.
pub(super) fn sleeping(spark: &Known<Spark>) -> Progress {
    let (name, namespace) = (spark.name(), spark.namespace());
    let message = format!(
        "{} and sleeps; it wakes at the next SSH or HTTP through the gateway, or with: spark start {name} -n {namespace}",
        idled(spark)
    );
    Progress::Ready(Reason::Sleeping, message)
}
