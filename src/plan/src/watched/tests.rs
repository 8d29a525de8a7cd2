//! Whom a change concerns.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};
use sparks_api::{Checkpoint, ObjectId, Spark, SparkPool, Volume};

use super::NodeFacts;
use crate::{index::Index, known::Known, memory::Memory, placement::Agent, stored::Stored, world::Now};
const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, steady: Duration::ZERO };

fn known<S: Stored>(object: &Value) -> Known<S> {
    let wire: S::Wire = serde_json::from_value(object.clone()).unwrap();
    let id = ObjectId::of(&wire).unwrap();
    Known::new(id, S::admit(wire).unwrap())
}

/// What has to be looked at after this object changed, as the index has it.
fn touched<S: Stored>(index: &mut Index, object: &Value) -> Vec<String> {
    let mut touched: Vec<_> =
        index.put(known::<S>(object), &Memory::default(), NOW).iter().map(ToString::to_string).collect();
    touched.sort();
    touched.dedup();
    touched
}

fn gone<S: Stored>(index: &mut Index, object: &Value) -> Vec<String> {
    let name = known::<S>(object).id.name;
    let mut touched: Vec<_> =
        index.remove::<S>(&name, &Memory::default(), NOW).iter().map(ToString::to_string).collect();
    touched.sort();
    touched
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "team", "uid": format!("{name}-uid")})
}

fn spark(name: &str, spec: Value, placed: bool) -> Value {
    let status = if placed { json!({"volume": {"name": format!("{name}-v")}}) } else { json!({}) };
    json!({"metadata": meta(name), "spec": spec, "status": status})
}

fn volume(owner: &str, kind: &str) -> Value {
    let mut metadata = meta(&format!("{owner}-v"));
    metadata["labels"] = json!({
        "sparks.loop.work/owner-kind": kind,
        "sparks.loop.work/owner-name": owner,
        "sparks.loop.work/owner-uid": format!("{owner}-uid"),
    });
    json!({"metadata": metadata, "spec": {"nodeName": "n1", "disks": [], "source": {"image": {"reference": "debian", "key": "k"}}}, "status": {"observedGeneration": 1}})
}

fn pod(name: &str, labels: Value) -> Value {
    let mut metadata = meta(name);
    metadata["labels"] = labels;
    json!({"metadata": metadata, "spec": {"containers": []}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn agent(key: &str, free: &str) -> Value {
    let mut agent = pod("agent", json!({}));
    agent["spec"]["nodeName"] = "n1".into();
    agent["metadata"]["annotations"] =
        json!({"sparks.loop.work/public-key": key, "sparks.loop.work/pool-free-bytes": free});
    agent
}

fn node(ready: &str, heartbeat: &str) -> Value {
    json!({"metadata": {"name": "n1", "uid": "n1-uid"}, "status": {"conditions": [
        {"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}]}})
}

/// Two Sparks with data on n1, one without, a Checkpoint of the first, and a pool.
fn world() -> Index {
    let mut index = Index::default();
    touched::<Spark>(&mut index, &spark("api", json!({"image": "debian"}), true));
    touched::<Spark>(&mut index, &spark("fork", json!({"from": {"spark": "api"}}), false));
    touched::<Volume>(&mut index, &volume("api", "Spark"));
    touched::<SparkPool>(&mut index, &json!({"metadata": meta("warm"), "spec": {"size": 1}}));
    index
}

#[test]
fn a_change_of_a_source_concerns_those_that_wait_for_it_and_no_others() {
    let mut index = world();
    touched::<Spark>(&mut index, &spark("other", json!({"from": {"spark": "else"}}), false));
    let checkpoint = json!({"metadata": meta("before"), "spec": {"spark": "api"}});
    touched::<Checkpoint>(&mut index, &checkpoint);
    let changed = touched::<Spark>(&mut index, &spark("api", json!({"image": "debian"}), true));
    assert_eq!(changed, ["Checkpoint team/before", "Spark team/api", "Spark team/fork"]);
    touched::<Spark>(&mut index, &spark("fork", json!({"from": {"spark": "api"}}), true));
    let mut taken = checkpoint;
    taken["status"] = json!({"takenAt": "2026-01-01T00:00:00Z"});
    touched::<Checkpoint>(&mut index, &taken);
    let changed = touched::<Spark>(&mut index, &spark("api", json!({"image": "debian"}), true));
    assert_eq!(changed, ["Spark team/api"], "they wait no more");
}

#[test]
fn a_spark_that_goes_concerns_the_volumes_that_it_leaves() {
    let gone = gone::<Spark>(&mut world(), &spark("api", json!({"image": "debian"}), true));
    assert_eq!(gone, ["Spark team/api", "Spark team/fork", "Volume team/api-v"]);
}

#[test]
fn a_volume_concerns_its_owner_and_those_that_wait_for_it() {
    let changed = touched::<Volume>(&mut world(), &volume("api", "Spark"));
    assert_eq!(changed, ["Spark team/api", "Spark team/fork", "Volume team/api-v"]);
    let changed = touched::<Volume>(&mut world(), &volume("before", "Checkpoint"));
    assert_eq!(changed, ["Checkpoint team/before", "Volume team/before-v"]);
}

#[test]
fn a_claimed_pod_concerns_the_pool_that_it_left_and_the_spark_that_it_is() {
    let mut index = world();
    let warm = json!({"sparks.loop.work/role": "warm", "sparks.loop.work/pool": "warm"});
    assert_eq!(touched::<Pod>(&mut index, &pod("p", warm)), ["SparkPool team/warm"]);
    let mine = json!({"sparks.loop.work/role": "spark", "sparks.loop.work/spark": "fork", "sparks.loop.work/spark-uid": "fork-uid"});
    assert_eq!(touched::<Pod>(&mut index, &pod("p", mine)), ["Spark team/fork", "SparkPool team/warm"]);
}

#[test]
fn an_import_concerns_the_volumes_of_its_image_and_their_owners() {
    let import = json!({"sparks.loop.work/role": "import", "sparks.loop.work/image-key": "k"});
    let changed = touched::<Pod>(&mut world(), &pod("import", import));
    assert_eq!(changed, ["Spark team/api", "Volume team/api-v"]);
}

#[test]
fn a_service_concerns_the_spark_of_its_name_whoever_made_it() {
    let service = json!({"metadata": meta("api"), "spec": {}});
    assert_eq!(touched::<Service>(&mut world(), &service), ["Spark team/api"]);
    let service = json!({"metadata": meta("web"), "spec": {}});
    assert!(touched::<Service>(&mut world(), &service).is_empty());
}

#[test]
fn of_a_node_and_its_agent_only_what_placing_needs_concerns_anybody() {
    let mut index = world();
    let all = ["Spark team/api", "Spark team/fork", "SparkPool team/warm", "Volume team/api-v"];
    assert_eq!(touched::<NodeFacts>(&mut index, &node("True", "2026-01-01T00:00:00Z")), all);
    assert!(
        touched::<NodeFacts>(&mut index, &node("True", "2026-01-01T00:00:05Z")).is_empty(),
        "a heartbeat"
    );
    assert_eq!(touched::<NodeFacts>(&mut index, &node("False", "2026-01-01T00:00:10Z")), all);
    assert_eq!(touched::<Agent>(&mut index, &agent("key", "100")), all);
    assert!(touched::<Agent>(&mut index, &agent("key", "99")).is_empty(), "free bytes");
    assert_eq!(touched::<Agent>(&mut index, &agent("key", "0")), ["Spark team/fork"], "full");
    assert_eq!(touched::<Agent>(&mut index, &agent("new", "0")), all);
    assert_eq!(gone::<Agent>(&mut index, &agent("new", "0")), all);
}

#[test]
fn a_list_that_was_taken_anew_concerns_those_that_vanished_meanwhile() {
    let mut index = world();
    let touched = index.replace::<Spark>(vec![], &Memory::default(), NOW);
    let touched: Vec<_> = touched.iter().map(ToString::to_string).collect();
    assert!(touched.contains(&"Volume team/api-v".into()), "{touched:?}");
    assert_eq!(index.all::<Spark>().count(), 0);
}
