//! A SparkPool: how many warm pods are missing, and where.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use sparks_api::{Reason, SparkPool, SparkPoolStatus};

use crate::{
    pods::{self, Template},
    progress::{Blocked, Progress},
};

/// Forks often come in bursts; starting pods meanwhile would slow them down on a small node.
const LULL: Duration = Duration::from_secs(1);
/// Claims without a lull put off new pods for no longer than this. From then on one at a time is started,
const LONGEST_BURST: Duration = Duration::from_secs(5);
/// for as long as one in so many of those that are wanted is warm.
const PLENTY: usize = 4;
/// Most pods that start on one node at the same time.
const AT_ONCE: usize = 10;

/// What the reconciler gathered about one pool.
pub struct Observed {
    /// The pool.
    pub pool: Arc<SparkPool>,
    /// Its pods, warm and starting, on all nodes.
    pub pods: Vec<Arc<Pod>>,
    /// Pods that were created and are not in the cache yet, by node.
    pub expected: Vec<String>,
    /// Nodes that the pool serves now.
    pub nodes: Vec<String>,
    /// Nodes on which warm pods may stay: also those whose node agent is restarting.
    pub kept_nodes: Vec<String>,
    /// Claims of warm pods of this namespace.
    pub claims: Claims,
    /// Makes pods.
    pub template: Template,
    /// A new random suffix of a name each time.
    pub suffixes: Vec<String>,
    /// The clock.
    pub now: Timestamp,
}

/// When warm pods were claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Since the last one.
    pub since_last: Duration,
    /// Since the first one that was followed by others without a lull.
    pub since_first: Duration,
}

impl Claims {
    /// None, as far as anybody knows.
    pub const NONE: Self = Self { since_last: Duration::MAX, since_first: Duration::MAX };

    /// Whether one more claim still belongs to the same burst.
    #[must_use]
    pub fn go_on(&self) -> bool {
        self.since_last < LULL
    }

    /// Whether what can wait is to wait for the end of a burst.
    fn hold_off(&self) -> bool {
        self.go_on() && self.since_first < LONGEST_BURST
    }
}

/// What to do now, and how the pool then is.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Pods to create, with their nodes.
    pub create: Vec<(String, Pod)>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// The whole status.
    pub status: SparkPoolStatus,
    /// Whether the status may wait for the next pass, because a burst of claims goes on.
    pub status_may_wait: bool,
    /// Look again after this time even if nothing happens.
    pub requeue: Option<Duration>,
}

/// Most suffixes that one plan uses.
#[must_use]
pub fn suffixes_needed(nodes: usize) -> usize {
    nodes * AT_ONCE
}

/// Plans one pool.
#[must_use]
pub fn plan(seen: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut suffixes = seen.suffixes.iter();
    let (ended, alive): (Vec<_>, Vec<_>) = seen.pods.iter().cloned().partition(|pod| pods::is_ending(pod));
    plan.delete.extend(ended.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()));
    for node in &seen.nodes {
        plan_node(seen, node, &alive, &mut suffixes, &mut plan);
    }
    let elsewhere =
        alive.iter().filter(|pod| !pods::wanted_node(pod).is_some_and(|node| seen.kept_nodes.contains(node)));
    plan.delete.extend(elsewhere.cloned());
    plan.status = status(seen, &alive);
    if seen.claims.go_on() {
        (plan.status_may_wait, plan.requeue) = (plan.create.is_empty(), Some(LULL));
    }
    plan
}

/// How many pods may be starting on a node.
fn most_starting(claims: Claims, warm: usize, wanted: usize) -> usize {
    match claims {
        claims if claims.hold_off() => 0,
        claims if claims.go_on() && warm * PLENTY >= wanted => 1,
        _ => AT_ONCE,
    }
}

fn plan_node<'a>(
    seen: &Observed,
    node: &str,
    alive: &[Arc<Pod>],
    suffixes: &mut impl Iterator<Item = &'a String>,
    plan: &mut Plan,
) {
    let wanted = usize::try_from(seen.pool.spec.size).unwrap_or_default();
    let mut here: Vec<_> = alive
        .iter()
        .filter(|pod| pods::wanted_node(pod).map(String::as_str) == Some(node))
        .cloned()
        .collect();
    let there = here.len() + seen.expected.iter().filter(|expected| *expected == node).count();
    if there < wanted {
        let warm = here.iter().filter(|pod| pods::is_free(pod)).count();
        let more = most_starting(seen.claims, warm, wanted).saturating_sub(there - warm);
        let missing = (wanted - there).min(more);
        plan.create.extend(
            suffixes
                .take(missing)
                .filter_map(|suffix| Some((node.to_owned(), warm_pod(seen, node, suffix)?))),
        );
    } else if here.len() > wanted {
        // The ones that are not ready yet go first.
        here.sort_by_key(|pod| pods::is_free(pod));
        plan.delete.extend(here.into_iter().take(there - wanted));
    }
}

fn warm_pod(seen: &Observed, node: &str, suffix: &str) -> Option<Pod> {
    let pool = &seen.pool;
    let name = format!("{}-{suffix}", pool.name_any());
    let owner = pool.controller_owner_ref(&())?;
    Some(seen.template.warm(name, &pool.name_any(), owner, node, pool.spec.resources.as_ref()))
}

fn status(seen: &Observed, alive: &[Arc<Pod>]) -> SparkPoolStatus {
    let generation = seen.pool.metadata.generation;
    let warm = alive.iter().filter(|pod| pods::is_free(pod)).count();
    let wanted = usize::try_from(seen.pool.spec.size).unwrap_or_default() * seen.nodes.len();
    let progress = match alive.iter().find_map(|pod| pods::unschedulable(pod)) {
        Some(words) => Progress::Blocked(Blocked::new(
            Reason::Unschedulable,
            format!("a warm pod finds no place: {words}"),
        )),
        None if seen.nodes.is_empty() => {
            let message = "no node with a running node agent matches spec.nodeSelector";
            Progress::Blocked(Blocked::new(Reason::NoNode, message))
        }
        None if warm < wanted => {
            Progress::Blocked(Blocked::new(Reason::Replenishing, "warm pods are starting"))
        }
        None => Progress::Ready(Reason::Available, "all pods are warm".into()),
    };
    let mut conditions = seen.pool.status.as_ref().map(|s| s.conditions.clone()).unwrap_or_default();
    progress.write(&mut conditions, generation, seen.now);
    SparkPoolStatus {
        observed_generation: generation,
        warm: i32::try_from(warm).unwrap_or(i32::MAX),
        starting: i32::try_from(alive.len() - warm).unwrap_or(i32::MAX),
        conditions,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sparks_api::SparkPoolSpec;

    fn pool(size: i32) -> Arc<SparkPool> {
        let spec = SparkPoolSpec { size, resources: None, node_selector: Default::default() };
        let mut pool = SparkPool::new("warm", spec);
        pool.metadata.uid = Some("uid".into());
        pool.metadata.generation = Some(1);
        Arc::new(pool)
    }

    pub(crate) fn observed(size: i32, there: usize) -> Observed {
        let pool = pool(size);
        let template = Template { guest_image: "guest".into() };
        let owner = pool.controller_owner_ref(&()).unwrap_or_default();
        let pod = |i| Arc::new(template.warm(format!("warm-{i}"), "warm", owner.clone(), "n1", None));
        Observed {
            pods: (0..there).map(pod).collect(),
            pool,
            expected: vec![],
            nodes: vec!["n1".into()],
            kept_nodes: vec!["n1".into()],
            claims: Claims::NONE,
            template: template.clone(),
            suffixes: (0..suffixes_needed(1)).map(|i| format!("s{i}")).collect(),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_is_missing_is_made_and_what_is_on_its_way_is_not_made_twice() {
        let mut seen = observed(3, 1);
        seen.expected = vec!["n1".into()];
        assert_eq!(plan(&seen).create.len(), 1);
    }

    #[test]
    fn a_burst_of_claims_is_waited_out_unless_it_does_not_end() {
        let mut seen = observed(8, 0);
        seen.claims = Claims { since_last: Duration::ZERO, since_first: Duration::from_secs(1) };
        let during = plan(&seen);
        assert!(during.create.is_empty() && during.status_may_wait && during.requeue.is_some());
        seen.claims.since_first = LONGEST_BURST;
        let after = plan(&seen);
        assert!(after.create.len() == 8 && !after.status_may_wait);
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
        assert_eq!(plan(&observed(40, 0)).create.len(), AT_ONCE);
        assert_eq!(plan(&observed(40, AT_ONCE - 2)).create.len(), 2);
        assert!(plan(&observed(40, AT_ONCE)).create.is_empty());
    }

    #[test]
    fn a_node_agent_that_restarts_costs_no_warm_pod() {
        let mut seen = observed(3, 3);
        seen.nodes.clear();
        assert!(plan(&seen).delete.is_empty());
        seen.kept_nodes.clear();
        assert_eq!(plan(&seen).delete.len(), 3, "but a node that left the pool does");
    }

    #[test]
    fn a_smaller_pool_gives_pods_back() {
        assert_eq!(plan(&observed(1, 3)).delete.len(), 2);
    }
}
