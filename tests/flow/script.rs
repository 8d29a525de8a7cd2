//! Histories that a person wrote, with what each costs.

use std::time::Duration;

use serde_json::json;
use sparks_api::Reason;

use crate::{server::Kind, world::World};

const MOMENT: Duration = Duration::from_secs(60);

fn world() -> World {
    let mut world = World::new(0, 1, 1, None);
    world.settle(MOMENT).expect("rest");
    world.spark("api", json!({"image": "debian"}));
    world.settle(MOMENT).expect("rest");
    world
}

fn ready(world: &World, name: &str) -> Option<Reason> {
    let status = world.find(name)?.status?;
    let ready = sparks_api::conditions::find(&status.conditions, sparks_api::conditions::READY)?;
    Some(Reason::from(ready.reason.as_str()))
}

#[test]
fn a_fork_is_at_most_five_writes() {
    let mut world = world();
    let before = world.writes().len();
    world.spark("fork", json!({"from": {"spark": "api"}}));
    world.settle(Duration::from_millis(900)).expect("rest");
    assert_eq!(ready(&world, "fork"), Some(Reason::Running));
    let writes = world.writes()[before..].to_vec();
    let pools_or_pods =
        |write: &&String| write.contains("Pool") || write.contains("warm-") && !write.starts_with("claim");
    let own: Vec<_> = writes.iter().skip(1).filter(|write| !pools_or_pods(write)).collect();
    assert!(own.len() <= 5, "{own:?}");
}

#[test]
fn what_a_quota_refuses_is_tried_seldom_and_comes_up_when_the_quota_ends() {
    let mut world = world();
    world.limit_pods(Some(0));
    world.spark("late", json!({"image": "debian"}));
    world.delete(Kind::Pod, "nothing");
    let before = world.writes().len();
    world.settle(Duration::from_secs(600)).expect("rest");
    let writes = world.writes().len() - before;
    assert!(writes <= 40, "{writes} writes: {:?}", &world.writes()[before..]);
    world.limit_pods(None);
    world.settle(Duration::from_secs(120)).expect("rest");
    assert_eq!(ready(&world, "late"), Some(Reason::Running));
}

#[test]
fn a_stopped_spark_keeps_its_disks_and_starts_again_with_them() {
    let mut world = world();
    let disks = world.find("api").and_then(|spark| spark.status?.volume);
    world.change("api", |spark| spark.spec.lifecycle.running = false);
    world.settle(MOMENT).expect("rest");
    assert_eq!(ready(&world, "api"), Some(Reason::Stopped));
    world.change("api", |spark| spark.spec.lifecycle.running = true);
    world.settle(MOMENT).expect("rest");
    assert_eq!(ready(&world, "api"), Some(Reason::Running));
    assert_eq!(world.find("api").and_then(|spark| spark.status?.volume), disks);
}
