//! What the state of a Spark means for somebody who wants to connect to it.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use sparks_api::{
    Class, Spark, SparkPhase,
    conditions::{self, READY},
    time::parse_duration,
};

/// Shortest time between two records of activity of one Spark.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// The same for a Spark that never sleeps, for which the record is only information.
const IDLE_NEVER_INTERVAL: Duration = Duration::from_secs(300);

/// What a visitor waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A pod with an address.
    Address,
    /// Ready and Running: its service answers.
    Ready,
}

/// What the state of a Spark means for a visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Connect to this address.
    Up(IpAddr),
    /// No pod of a Spark can have this address; see [`is_of_a_pod`].
    Astray(IpAddr),
    /// It sleeps; activity later than this wakes it.
    Asleep(Timestamp),
    /// It is on its way; what its Ready condition says.
    Starting(String),
    /// `spec.lifecycle.running` is false.
    Stopped,
    /// It can't run; what its Ready condition says.
    Failed(String),
    /// It is being deleted.
    Ending,
}

/// What the state of a Spark means for a visitor who wants `wanted`.
#[must_use]
pub fn state(spark: &Spark, wanted: Wanted) -> State {
    if spark.metadata.deletion_timestamp.is_some() {
        return State::Ending;
    }
    if !spark.spec.lifecycle.running {
        return State::Stopped;
    }
    let Some(status) = &spark.status else { return State::Starting(String::new()) };
    if let Some(since) = asleep(spark) {
        return State::Asleep(since);
    }
    let address = status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
    let enough = wanted == Wanted::Address || status.is_up();
    match address.filter(|_| status.phase != SparkPhase::Sleeping && enough) {
        Some(ip) if is_of_a_pod(ip) => State::Up(ip),
        Some(ip) => State::Astray(ip),
        None if failed(spark) => State::Failed(message(spark)),
        None => State::Starting(message(spark)),
    }
}

/// Whether a pod can have this address. Whoever may write the status of a Spark could otherwise point the gateway at itself
/// or at what only its node is to reach, such as a cloud's metadata.
#[must_use]
pub fn is_of_a_pod(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            // 0.0.0.0/8 is "this network" (RFC 1122, 3.2.1.3); all of 240.0.0.0/4 is reserved, and its last one broadcast.
            let is_reserved = ip.octets()[0] == 0 || ip.octets()[0] >= 240;
            !(is_reserved || ip.is_loopback() || ip.is_link_local() || ip.is_multicast())
        }
        IpAddr::V6(ip) => {
            // With the addresses that contain one of IPv4, ::/96, which are long out of use (RFC 4291, 2.5.5.1).
            let is_special = ip.segments()[..6].iter().all(|segment| *segment == 0);
            !(is_special || ip.is_unicast_link_local() || ip.is_multicast())
        }
    }
}

/// Since when a Spark sleeps that nobody has woken yet.
#[must_use]
pub fn asleep(spark: &Spark) -> Option<Timestamp> {
    let status = spark.status.as_ref()?;
    let since = status.sleeping_since.as_ref().map(|at| at.0);
    let since = since.or_else(|| (status.phase == SparkPhase::Sleeping).then_some(Timestamp::MIN))?;
    let woken = status.last_activity_at.as_ref().is_some_and(|at| at.0 >= since && at.0 > Timestamp::MIN);
    (!woken).then_some(since)
}

fn failed(spark: &Spark) -> bool {
    let current = |observed: Option<i64>| observed.is_none() || observed == spark.metadata.generation;
    spark.status.as_ref().is_some_and(|status| {
        current(status.observed_generation)
            && (status.phase == SparkPhase::Failed
                || conditions::class(&status.conditions) == Some(Class::Stalled))
    })
}

fn message(spark: &Spark) -> String {
    let conditions = spark.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, READY).map(|ready| ready.message.clone()).unwrap_or_default()
}

/// How long no further activity of this Spark is recorded after some was.
#[must_use]
pub fn interval(spark: &Spark) -> Duration {
    let timeout = spark.spec.lifecycle.idle_timeout.as_deref().and_then(parse_duration);
    timeout.map_or(IDLE_NEVER_INTERVAL, |timeout| (timeout / 4).max(LEAST_INTERVAL))
}

/// When activity is said to have been: now, but not before the Spark fell asleep by another machine's clock.
#[must_use]
pub fn moment(now: SystemTime, asleep_since: Option<Timestamp>) -> Timestamp {
    let now = Timestamp::try_from(now).unwrap_or(Timestamp::UNIX_EPOCH);
    let least = asleep_since.unwrap_or(Timestamp::MIN);
    let moment = now.max(least);
    let micros = Timestamp::from_microsecond(moment.as_microsecond()).unwrap_or(moment);
    if micros < least {
        micros.saturating_add(Duration::from_micros(1)).unwrap_or(Timestamp::MAX)
    } else {
        micros
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use sparks_api::{SparkSpec, SparkStatus, conditions::condition};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn spark(status: SparkStatus) -> Spark {
        let mut spark = Spark::new("api", SparkSpec::default());
        spark.status = Some(status);
        spark
    }

    fn up() -> SparkStatus {
        SparkStatus { phase: SparkPhase::Running, pod_ip: Some("10.0.0.1".into()), ..Default::default() }
    }

    fn ready(status: bool, message: &str) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
        vec![condition(READY, status, "X", message, None, at(0))]
    }

    #[test]
    fn a_pod_with_an_address_is_enough_for_ssh_and_http_waits_for_ready() {
        let starting = spark(SparkStatus { conditions: ready(false, "not yet"), ..up() });
        assert_eq!(state(&starting, Wanted::Address), State::Up("10.0.0.1".parse().unwrap()));
        assert_eq!(state(&starting, Wanted::Ready), State::Starting("not yet".into()));
        let running = spark(SparkStatus { conditions: ready(true, ""), ..up() });
        assert_eq!(state(&running, Wanted::Ready), State::Up("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_address_that_no_pod_can_have_is_not_connected_to() {
        let at = |ip: &str| {
            let status = SparkStatus { pod_ip: Some(ip.into()), conditions: ready(true, ""), ..up() };
            state(&spark(status), Wanted::Ready)
        };
        for ip in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "ff02::1",
        ] {
            assert_eq!(at(ip), State::Astray(ip.parse().unwrap()), "{ip}");
        }
        for ip in
            ["10.0.0.1", "100.64.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"]
        {
            assert_eq!(at(ip), State::Up(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_spark_sleeps_until_activity_after_it_fell_asleep() {
        let mut asleep = SparkStatus {
            phase: SparkPhase::Sleeping,
            sleeping_since: Some(Time(at(100))),
            last_activity_at: Some(Time(at(99))),
            ..Default::default()
        };
        assert_eq!(state(&spark(asleep.clone()), Wanted::Address), State::Asleep(at(100)));
        asleep.last_activity_at = Some(Time(at(100)));
        assert_eq!(state(&spark(asleep.clone()), Wanted::Address), State::Starting(String::new()));
        asleep.sleeping_since = None;
        asleep.last_activity_at = None;
        assert_eq!(state(&spark(asleep), Wanted::Address), State::Asleep(Timestamp::MIN));
    }

    #[test]
    fn the_address_of_a_pod_that_goes_to_sleep_is_not_used() {
        let status = SparkStatus {
            phase: SparkPhase::Sleeping,
            sleeping_since: Some(Time(at(1))),
            last_activity_at: Some(Time(at(2))),
            ..up()
        };
        assert!(matches!(state(&spark(status), Wanted::Address), State::Starting(_)));
    }

    #[test]
    fn what_is_stopped_is_not_woken_whatever_its_status() {
        let mut stopped = spark(up());
        stopped.spec.lifecycle.running = false;
        assert_eq!(state(&stopped, Wanted::Address), State::Stopped);
    }

    #[test]
    fn a_failure_counts_only_for_the_spec_that_failed() {
        let status = SparkStatus {
            phase: SparkPhase::Failed,
            observed_generation: Some(1),
            conditions: ready(false, "no image"),
            ..Default::default()
        };
        let mut failed = spark(status);
        failed.metadata.generation = Some(1);
        assert_eq!(state(&failed, Wanted::Address), State::Failed("no image".into()));
        failed.metadata.generation = Some(2);
        assert_eq!(state(&failed, Wanted::Address), State::Starting("no image".into()));
    }

    #[test]
    fn activity_is_never_said_to_be_before_the_sleep_that_it_ends() {
        let since = "2026-01-01T00:00:00.000000700Z".parse::<Timestamp>().unwrap();
        let moment = moment(SystemTime::UNIX_EPOCH, Some(since));
        assert!(moment >= since, "{moment}");
        assert_eq!(moment.subsec_nanosecond() % 1000, 0, "the API keeps microseconds");
    }

    #[test]
    fn activity_is_recorded_at_most_every_quarter_of_the_idle_timeout() {
        let mut spark = spark(up());
        assert_eq!(interval(&spark), IDLE_NEVER_INTERVAL);
        spark.spec.lifecycle.idle_timeout = Some("15m".into());
        assert_eq!(interval(&spark), Duration::from_secs(225));
        spark.spec.lifecycle.idle_timeout = Some("3s".into());
        assert_eq!(interval(&spark), LEAST_INTERVAL);
    }
}
