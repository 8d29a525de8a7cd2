//! The rules of a pool, one by one.

#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use sparks_api::SparkPoolSpec;

use super::*;
use crate::action::Write;

fn pool(size: i32) -> Known<SparkPool> {
    let spec = SparkPoolSpec { size, resources: None, node_selector: Default::default() };
    let mut pool = SparkPool::new("warm", spec);
    pool.metadata.generation = Some(1);
    (pool.metadata.uid, pool.metadata.namespace) = (Some("uid".into()), Some("team".into()));
    Known::of(pool).unwrap()
}

pub(crate) fn observed(size: i32, there: usize) -> Observed {
    let pool = pool(size);
    let template = Template { guest_image: "guest".into() };
    let pod = |i| {
        let mut pod = template.warm("warm", owned_by(&pool), "n1", None);
        (pod.metadata.name, pod.metadata.uid) = (Some(format!("warm-{i}")), Some(format!("uid-{i}")));
        pod.metadata.namespace = Some("team".into());
        Known::of(pod).unwrap()
    };
    Observed {
        pods: (0..there).map(pod).collect(),
        pool,
        expected: vec![],
        nodes: vec!["n1".into()],
        kept_nodes: vec!["n1".into()],
        claims: Claims::NONE,
        template: template.clone(),
        refused: None,
        now: Timestamp::UNIX_EPOCH,
    }
}

fn created(planned: &Planned<SparkPoolStatus>) -> usize {
    planned.actions.iter().filter(|action| matches!(action, Action::CreatePod { .. })).count()
}

fn deleted(planned: &Planned<SparkPoolStatus>) -> usize {
    planned.actions.iter().filter(|action| matches!(action, Action::DeletePod(_))).count()
}

#[test]
fn what_is_missing_is_made_and_what_is_on_its_way_is_not_made_twice() {
    let mut seen = observed(3, 1);
    seen.expected = vec!["n1".into()];
    assert_eq!(created(&plan(&seen)), 1);
}

#[test]
fn a_burst_of_claims_is_waited_out_unless_it_does_not_end() {
    let mut seen = observed(8, 0);
    seen.claims = Claims { since_last: Duration::ZERO, since_first: Duration::from_secs(1) };
    let during = plan(&seen);
    assert!(created(&during) == 0 && during.write == Write::Later && during.again.is_some());
    seen.claims.since_first = LONGEST_BURST;
    let after = plan(&seen);
    assert!(created(&after) == 8 && after.write == Write::After);
}

#[test]
fn in_a_burst_that_does_not_end_pods_start_one_at_a_time_until_few_are_left() {
    let (zero, long) = (Duration::ZERO, LONGEST_BURST);
    let endless = Claims { since_last: zero, since_first: long };
    assert_eq!(most_starting(endless, 140, 140), 1);
    assert_eq!(most_starting(endless, 35, 140), 1);
    assert_eq!(most_starting(endless, 34, 140), AT_ONCE);
    assert_eq!(most_starting(Claims { since_last: LULL, since_first: long }, 140, 140), AT_ONCE);
    assert_eq!(most_starting(Claims { since_last: zero, since_first: zero }, 0, 140), 0);
}

#[test]
fn no_more_than_a_few_start_at_the_same_time() {
    // None of those that are there is ready.
    assert_eq!(created(&plan(&observed(40, 0))), AT_ONCE);
    assert_eq!(created(&plan(&observed(40, AT_ONCE - 2))), 2);
    assert_eq!(created(&plan(&observed(40, AT_ONCE))), 0);
}

#[test]
fn a_node_agent_that_restarts_costs_no_warm_pod() {
    let mut seen = observed(3, 3);
    seen.nodes.clear();
    assert_eq!(deleted(&plan(&seen)), 0);
    seen.kept_nodes.clear();
    assert_eq!(deleted(&plan(&seen)), 3, "but a node that left the pool does");
}

#[test]
fn a_smaller_pool_gives_pods_back() {
    assert_eq!(deleted(&plan(&observed(1, 3))), 2);
}

#[test]
fn a_spark_whose_pod_is_refused_comes_before_warm_pods() {
    let mut seen = observed(3, 2);
    seen.refused = Some("api".into());
    let planned = plan(&seen);
    assert_eq!((created(&planned), deleted(&planned)), (0, 1));
    assert!(planned.declined.iter().any(|why| why.contains("the Spark api")), "{:?}", planned.declined);
}
