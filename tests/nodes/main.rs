//! What takes two nodes. `make/test nodes` starts the second one of the local cluster, and removes it again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;
use sparks_tests::{
    Space, apply, eventually, get, get_spark, image, inside, kubectl, run, select, spark_object, until_reason,
};

/// The nodes are everybody's.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cluster(script: &str) {
    let path = format!("{}/../cluster/{script}", env!("CARGO_MANIFEST_DIR"));
    run(&path, &["2"], "").ok();
}

fn until_agents_run() {
    eventually("a node agent on each node", || {
        let agents = get("sparks-system", "daemonset", "sparks-node")?["status"].clone();
        (agents["desiredNumberScheduled"] == 2 && agents["numberReady"] == 2).then_some(())
    });
}

/// A new Spark on this node, with a word in a file.
fn made_on(node: &str, namespace: &str, name: &str) {
    let other = if node == "node1" { "node2" } else { "node1" };
    kubectl(&["cordon", other]).ok();
    apply(&spark_object(namespace, name, &json!({"image": image()}))).ok();
    until_reason(namespace, name, "Running");
    kubectl(&["uncordon", other]).ok();
    assert_eq!(get_spark(namespace, name)["status"]["nodeName"], node);
    inside(namespace, name, &format!("echo {name} > /root/word; sync")).ok();
}

fn fork(namespace: &str, source: &str, name: &str) {
    apply(&spark_object(namespace, name, &json!({"from": {"spark": source}}))).ok();
}

fn word(namespace: &str, name: &str) -> String {
    inside(namespace, name, "cat /root/word").ok()
}

#[test]
fn a_fork_runs_on_the_node_of_its_source() {
    let _alone = alone();
    until_agents_run();
    let space = Space::new("two-nodes");
    for node in ["node1", "node2"] {
        made_on(node, &space.0, node);
    }
    for node in ["node1", "node2"] {
        let name = format!("{node}-fork");
        fork(&space.0, node, &name);
        until_reason(&space.0, &name, "Running");
        assert_eq!(get_spark(&space.0, &name)["status"]["nodeName"], node);
        assert_eq!(word(&space.0, &name), node);
    }
}

#[test]
fn what_is_on_a_lost_node_waits_for_it_and_goes_on_with_its_data() {
    let _alone = alone();
    until_agents_run();
    let space = Space::new("lost-node");
    for node in ["node1", "node2"] {
        made_on(node, &space.0, node);
    }
    cluster("node-stop");
    eventually("the node's loss", || {
        let agents = get("sparks-system", "daemonset", "sparks-node")?["status"].clone();
        (agents["numberReady"] == 1).then_some(())
    });
    fork(&space.0, "node2", "waits");
    let message = until_reason(&space.0, "waits", "NodeLost");
    assert!(message.contains("node2"), "{message}");
    fork(&space.0, "node1", "goes-on");
    until_reason(&space.0, "goes-on", "Running");
    assert_eq!(word(&space.0, "goes-on"), "node1");
    cluster("node-start");
    until_reason(&space.0, "waits", "Running");
    assert_eq!(word(&space.0, "waits"), "node2");
    until_reason(&space.0, "node2", "Running");
    assert_eq!(word(&space.0, "node2"), "node2");
    let volumes = select(&space.0, "volumes", "").len();
    assert_eq!(volumes, 4, "none was lost, and none was made twice");
}

#[test]
fn a_full_pool_refuses_forks_in_words_stops_nobody_and_takes_them_when_there_is_room() {
    let _alone = alone();
    until_agents_run();
    let space = Space::new("full-pool");
    made_on("node1", &space.0, "node1");
    // Larger than the pool, so that it is the pool that ends.
    let larger = json!({"spec": {"disk": {"size": "1Ti"}}}).to_string();
    kubectl(&["-n", &space.0, "patch", "spark", "node1", "--type=merge", "-p", &larger]).ok();
    eventually("the larger disk", || {
        let spark = get_spark(&space.0, "node1");
        (spark["status"]["disks"][0]["limitBytes"].as_i64()? == 1 << 40).then_some(())
    });
    let fill = "while fallocate -l 512M /root/ballast$((i=i+1)); do sync; done; truncate -s 256M /root/ballast1; sync";
    inside(&space.0, "node1", fill).ok();
    fork(&space.0, "node1", "waits");
    let message = until_reason(&space.0, "waits", "PoolFull");
    assert!(message.contains("pool"), "{message}");
    let events =
        run("kubectl", &["-n", &space.0, "get", "events", "-o", "jsonpath={.items[*].reason}"], "").ok();
    assert!(events.contains("PoolFull"), "{events}");
    inside(&space.0, "node1", "echo goes-on > /root/word; sync").ok();
    assert_eq!(word(&space.0, "node1"), "goes-on");
    inside(&space.0, "node1", "rm /root/ballast*; sync").ok();
    until_reason(&space.0, "waits", "Running");
    assert_eq!(word(&space.0, "waits"), "goes-on");
}
