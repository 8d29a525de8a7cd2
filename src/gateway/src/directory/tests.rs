//! The directory against a fake API server that only takes writes.
#![allow(clippy::unwrap_used)]

use futures::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sparks_api::{
    SparkPhase, SparkSpec, SparkStatus,
    conditions::{READY, condition},
};
use tokio::sync::mpsc;

use super::*;

/// A write that waits for its answer.
type Write = (Key, Timestamp, tokio::sync::oneshot::Sender<Result<(), WriteError>>);

/// Takes writes and answers them as the test says.
struct Desk(mpsc::UnboundedSender<Write>);

impl Writer for Desk {
    fn write(&self, key: Key, at: Timestamp) -> BoxFuture<'static, Result<(), WriteError>> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.0.send((key, at, answer)).unwrap();
        Box::pin(async move { answered.await.unwrap() })
    }
}

fn directory(sparks: Vec<Spark>) -> (Directory, mpsc::UnboundedReceiver<Write>) {
    let (desk, writes) = mpsc::unbounded_channel();
    let directory = Directory::new(Arc::new(Desk(desk)), Duration::from_secs(60));
    directory.observe(Event::Init);
    sparks.into_iter().for_each(|spark| directory.observe(Event::InitApply(spark)));
    directory.observe(Event::InitDone);
    (directory, writes)
}

fn spark(status: SparkStatus) -> Spark {
    let mut spark = Spark::new("api", SparkSpec::default());
    spark.metadata.namespace = Some("team-a".into());
    spark.status = Some(status);
    spark
}

fn asleep() -> SparkStatus {
    let since = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
    SparkStatus { phase: SparkPhase::Sleeping, sleeping_since: since, ..Default::default() }
}

fn up() -> SparkStatus {
    SparkStatus { phase: SparkPhase::Running, pod_ip: Some("10.0.0.7".into()), ..Default::default() }
}

#[tokio::test]
async fn a_spark_that_runs_is_given_at_once_and_nothing_is_written() {
    let (directory, mut writes) = directory(vec![spark(up())]);
    let awake = directory.awake("team-a", "api").await.unwrap();
    assert_eq!((awake.ip, awake.woken), ("10.0.0.7".parse().unwrap(), false));
    assert!(writes.try_recv().is_err());
}

#[tokio::test]
async fn an_address_that_no_pod_can_have_is_given_to_nobody() {
    let status = SparkStatus {
        pod_ip: Some("127.0.0.1".into()),
        conditions: vec![condition(READY, true, "X", "", None, Timestamp::UNIX_EPOCH)],
        ..up()
    };
    let (directory, _writes) = directory(vec![spark(status)]);
    let error = WakeError::Astray { spark: "api.team-a".into(), address: [127, 0, 0, 1].into() };
    assert_eq!(directory.awake("team-a", "api").await.unwrap_err(), error);
    assert_eq!(directory.serving("team-a", "api").await.unwrap_err(), error);
}

#[tokio::test]
async fn many_visitors_of_a_sleeping_spark_share_one_write_and_all_get_its_pod() {
    let (directory, mut writes) = directory(vec![spark(asleep())]);
    let visitors: Vec<_> = (0..50)
        .map(|_| {
            let directory = directory.clone();
            tokio::spawn(async move { directory.awake("team-a", "api").await })
        })
        .collect();
    let (key, at, answer) = writes.recv().await.unwrap();
    assert_eq!(key, Key::new("team-a", "api"));
    answer.send(Ok(())).unwrap();
    let woken = SparkStatus { last_activity_at: Some(Time(at)), phase: SparkPhase::Starting, ..asleep() };
    directory.observe(Event::Apply(spark(woken)));
    directory.observe(Event::Apply(spark(up())));
    for visitor in visitors {
        let awake = visitor.await.unwrap().unwrap();
        assert!(awake.woken);
    }
    assert!(writes.try_recv().is_err(), "one write only");
    assert!(directory.0.waiters.lock().unwrap().is_empty(), "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_the_api_server_refuses_is_tried_again() {
    let (directory, mut writes) = directory(vec![spark(asleep())]);
    let visitor = tokio::spawn({
        let directory = directory.clone();
        async move { directory.awake("team-a", "api").await }
    });
    writes.recv().await.unwrap().2.send(Err(WriteError::Refused("busy".into()))).unwrap();
    writes.recv().await.unwrap().2.send(Ok(())).unwrap();
    directory.observe(Event::Apply(spark(up())));
    assert!(visitor.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_is_told_what_the_spark_was_doing() {
    let status = SparkStatus {
        phase: SparkPhase::Starting,
        conditions: vec![condition(READY, false, "X", "the pod starts", None, Timestamp::UNIX_EPOCH)],
        ..Default::default()
    };
    let (directory, _writes) = directory(vec![spark(status)]);
    let error = directory.awake("team-a", "api").await.unwrap_err();
    assert_eq!(error.to_string(), "api.team-a has not started within 60 s: the pod starts");
}

#[tokio::test]
async fn a_stopped_spark_is_not_woken_and_the_error_says_how_to_start_it() {
    let mut stopped = spark(SparkStatus { phase: SparkPhase::Stopped, ..Default::default() });
    stopped.spec.lifecycle.running = false;
    let (directory, mut writes) = directory(vec![stopped]);
    let error = directory.awake("team-a", "api").await.unwrap_err();
    assert_eq!(error.to_string(), "api.team-a is stopped: spark start api -n team-a");
    assert!(writes.try_recv().is_err());
}

#[tokio::test]
async fn a_spark_that_is_deleted_while_somebody_waits_is_unknown() {
    let starting = spark(SparkStatus { phase: SparkPhase::Starting, ..Default::default() });
    let (directory, _writes) = directory(vec![starting.clone()]);
    let waiting = directory.clone();
    let visitor = tokio::spawn(async move { waiting.awake("team-a", "api").await });
    tokio::task::yield_now().await;
    directory.observe(Event::Delete(starting));
    assert!(matches!(visitor.await.unwrap(), Err(WakeError::Unknown { .. })));
}

#[tokio::test]
async fn a_list_taken_anew_drops_what_is_gone_and_shows_no_gap_meanwhile() {
    let (directory, _writes) = directory(vec![spark(up())]);
    directory.observe(Event::Init);
    assert!(directory.get("team-a", "api").is_some(), "the old list stays until the new one is complete");
    directory.observe(Event::InitDone);
    assert!(directory.get("team-a", "api").is_none());
}

#[tokio::test]
async fn activity_is_recorded_once_and_not_again_soon() {
    let (directory, mut writes) = directory(vec![spark(up())]);
    directory.active("team-a", "api");
    directory.active("team-a", "api");
    writes.recv().await.unwrap().2.send(Ok(())).unwrap();
    while directory.0.activity.writing(&Key::new("team-a", "api")) {
        tokio::task::yield_now().await;
    }
    directory.active("team-a", "api");
    assert!(writes.try_recv().is_err());
}
