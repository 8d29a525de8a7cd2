//! A SparkPool: how many warm pods are missing, and where.

mod look;
#[cfg(test)]
pub(crate) mod tests;
mod watched;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use sparks_api::{Reason, SparkPool, SparkPoolStatus};

use crate::{
    action::{Action, Doomed, Planned, Write},
    kind::{Kind, Status},
    known::{Known, owned_by},
    pods::{self, Template},
    progress::{Blocked, Progress},
    world::World,
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
    pub pool: Known<SparkPool>,
    /// Its pods, warm and starting, on all nodes.
    pub pods: Vec<Known<Pod>>,
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
    /// A Spark of this namespace whose pod is refused, for which warm pods make room.
    pub refused: Option<String>,
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

impl Kind for SparkPool {
    const NAME: &'static str = "SparkPool";
    const CONCURRENCY: usize = 4;
    type Seen = Observed;
    type Status = SparkPoolStatus;

    fn look(this: &Known<Self>, world: &World<'_>) -> Observed {
        look::look(this, world)
    }

    fn plan(seen: &Observed) -> Planned<SparkPoolStatus> {
        plan(seen)
    }

    fn status(&self) -> Option<&SparkPoolStatus> {
        self.status.as_ref()
    }
}

impl Status for SparkPoolStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn conditions_mut(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

/// Plans one pool.
#[must_use]
pub fn plan(seen: &Observed) -> Planned<SparkPoolStatus> {
    let (ended, alive): (Vec<_>, Vec<_>) = seen.pods.iter().cloned().partition(|pod| pods::is_ending(pod));
    let mut planned = Planned { status: Some(status(seen, &alive)), ..Planned::default() };
    let gone = ended.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    planned.actions.extend(gone.map(delete));
    for node in &seen.nodes {
        plan_node(seen, node, &alive, &mut planned);
    }
    let elsewhere =
        alive.iter().filter(|pod| !pods::wanted_node(pod).is_some_and(|node| seen.kept_nodes.contains(node)));
    planned.actions.extend(elsewhere.map(delete));
    make_room(seen, &alive, &mut planned);
    if seen.claims.go_on() {
        let creates = planned.actions.iter().any(|action| matches!(action, Action::CreatePod { .. }));
        planned.write = if creates { Write::After } else { Write::Later };
        planned.again = Some(LULL);
    }
    planned
}

/// A pod that somebody claimed since it was read is not the pool's any more.
fn delete(pod: &Known<Pod>) -> Action {
    let version = pod.metadata.resource_version.clone();
    Action::DeletePod(Doomed { id: pod.id.clone(), version, grace_seconds: Some(0) })
}

/// One warm pod at a time goes while a Spark can't have its own.
fn make_room(seen: &Observed, alive: &[Known<Pod>], planned: &mut Planned<SparkPoolStatus>) {
    let Some(spark) = &seen.refused else { return };
    planned.actions.retain(|action| !matches!(action, Action::CreatePod { .. }));
    planned
        .declined
        .push(format!("no warm pod is made: the pod of the Spark {spark} is refused and comes first"));
    let last = alive.iter().max_by_key(|pod| (!pods::is_free(pod), pod.id.name.clone()));
    planned.actions.extend(last.map(delete));
}

/// How many pods may be starting on a node.
fn most_starting(claims: Claims, warm: usize, wanted: usize) -> usize {
    match claims {
        claims if claims.hold_off() => 0,
        claims if claims.go_on() && warm * PLENTY >= wanted => 1,
        _ => AT_ONCE,
    }
}

fn plan_node(seen: &Observed, node: &str, alive: &[Known<Pod>], planned: &mut Planned<SparkPoolStatus>) {
    let wanted = wanted(seen);
    let mut here: Vec<_> =
        alive.iter().filter(|pod| pods::wanted_node(pod).is_some_and(|wanted| wanted == node)).collect();
    let there = here.len() + seen.expected.iter().filter(|expected| *expected == node).count();
    if there < wanted {
        let warm = here.iter().filter(|pod| pods::is_free(pod)).count();
        let more = most_starting(seen.claims, warm, wanted).saturating_sub(there - warm);
        if more < wanted - there {
            let missing = wanted - there;
            planned.declined.push(format!(
                "{more} of {missing} missing pods are made on {node}: others start, or claims go on"
            ));
        }
        planned.actions.extend((0..(wanted - there).min(more)).map(|_| create(seen, node)));
    } else if here.len() > wanted {
        // The ones that are not ready yet go first.
        here.sort_by_key(|pod| pods::is_free(pod));
        planned.actions.extend(here.into_iter().take(there - wanted).map(delete));
    }
}

fn wanted(seen: &Observed) -> usize {
    usize::try_from(seen.pool.spec.size).unwrap_or(0)
}

/// The API server ends the name, so that a plan needs no chance.
fn create(seen: &Observed, node: &str) -> Action {
    let pool = &seen.pool;
    let resources = pool.spec.resources.as_ref();
    let pod = seen.template.warm(pool.name(), owned_by(pool), node, resources);
    Action::CreatePod { pod: Box::new(pod), pool: Some((pool.id.name.clone(), node.to_owned())) }
}

fn status(seen: &Observed, alive: &[Known<Pod>]) -> SparkPoolStatus {
    let generation = seen.pool.metadata.generation;
    let warm = alive.iter().filter(|pod| pods::is_free(pod)).count();
    let wanted = wanted(seen) * seen.nodes.len();
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
    let mut conditions: Vec<_> = seen.pool.status.iter().flat_map(|s| s.conditions.iter().cloned()).collect();
    progress.write(&mut conditions, generation, seen.now);
    SparkPoolStatus {
        observed_generation: generation,
        warm: i32::try_from(warm).unwrap_or(i32::MAX),
        starting: i32::try_from(alive.len() - warm).unwrap_or(i32::MAX),
        conditions,
    }
}
