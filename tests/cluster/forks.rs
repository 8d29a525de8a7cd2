//! Forks: each has all the data, and a life of its own.

use serde_json::json;
use sparks_tests::{
    Space, apply, eventually, get_spark, image, inside, pool, shared, spark, spark_object, until_reason,
};

#[test]
fn a_fork_has_the_data_of_its_source_and_both_go_their_own_ways() {
    let ns = shared();
    spark(ns, &["fork", "source", "twin"]).ok();
    assert_eq!(inside(ns, "twin", "cat /root/greeting").ok(), "from the source");
    inside(ns, "twin", "echo of the fork > /root/greeting; echo more > /root/twin").ok();
    assert_eq!(inside(ns, "source", "cat /root/greeting; ls /root/twin 2>/dev/null").out, "from the source");
    inside(ns, "source", "echo later > /root/later").ok();
    assert_ne!(inside(ns, "twin", "cat /root/later").code, 0);
    assert_eq!(inside(ns, "twin", "hostname").ok(), "twin");
}

#[test]
fn a_fork_shares_all_but_what_it_changes_and_the_status_shows_it() {
    let ns = shared();
    spark(ns, &["new", "big", "--image", &image()]).ok();
    inside(ns, "big", "head -c 200M /dev/urandom > /root/data; sync").ok();
    spark(ns, &["fork", "big", "small"]).ok();
    inside(ns, "small", "head -c 8M /dev/urandom > /root/more; sync").ok();
    let (shared, own) = eventually("the fork's usage", || {
        let status = get_spark(ns, "small");
        let root = &status["status"]["disks"][0];
        let own = root["exclusiveBytes"].as_i64()?;
        (own >= 7 << 20).then(|| (root["referencedBytes"].as_i64().unwrap(), own))
    });
    assert!(own < 32 << 20, "the fork owns {own} bytes");
    assert!(shared > 200 << 20, "the fork refers to {shared} bytes");
}

#[test]
fn the_source_never_pauses_while_it_is_forked() {
    let ns = shared();
    spark(ns, &["fork", "source", "writer"]).ok();
    inside(ns, "writer", "(while :; do date +%s%N; sleep 0.01; done > /root/ticks) >/dev/null 2>&1 &").ok();
    eventually("the first tick", || {
        (inside(ns, "writer", "wc -l < /root/ticks").out.parse::<u32>().ok()? > 20).then_some(())
    });
    spark(ns, &["fork", "writer", "reader", "--count", "1"]).ok();
    let ticks = inside(ns, "writer", "cat /root/ticks; pkill -f ticks").out;
    let ticks: Vec<u64> = ticks.lines().filter_map(|line| line.parse().ok()).collect();
    let longest = ticks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < 2_000_000_000, "it stood still for {} ms", longest / 1_000_000);
}

#[test]
fn a_stopped_spark_and_a_fork_of_a_fork_can_be_forked() {
    let ns = shared();
    spark(ns, &["fork", "source", "parent"]).ok();
    inside(ns, "parent", "echo parent > /root/parent").ok();
    spark(ns, &["stop", "parent"]).ok();
    spark(ns, &["fork", "parent", "child"]).ok();
    spark(ns, &["rm", "parent"]).ok();
    spark(ns, &["fork", "child", "grandchild"]).ok();
    assert_eq!(inside(ns, "grandchild", "cat /root/greeting /root/parent").ok(), "from the source\nparent");
}

#[test]
fn extra_disks_are_forked_with_the_root_and_what_is_not_said_is_inherited() {
    let ns = shared();
    let volumes = json!([{"name": "data", "mountPath": "/srv/data", "size": "1Gi"}]);
    let service = json!({"command": ["sh", "-c", "echo $KIND > /srv/data/kind; exec sleep infinity"], "env": [{"name": "KIND", "value": "service"}]});
    apply(&spark_object(ns, "disks", &json!({"image": image(), "volumes": volumes, "service": service})))
        .ok();
    until_reason(ns, "disks", "Running");
    eventually("the service", || (inside(ns, "disks", "cat /srv/data/kind").out == "service").then_some(()));
    inside(ns, "disks", "echo kept > /srv/data/file").ok();
    apply(&spark_object(ns, "disks-2", &json!({"from": {"spark": "disks"}}))).ok();
    until_reason(ns, "disks-2", "Running");
    assert_eq!(
        inside(ns, "disks-2", "cat /srv/data/file; findmnt -n -o FSTYPE /srv/data").ok(),
        "kept\nbtrfs"
    );
    inside(ns, "disks-2", "rm /srv/data/kind; kill -9 $(pgrep -x sleep)").ok();
    eventually("the inherited service", || {
        (inside(ns, "disks-2", "cat /srv/data/kind").out == "service").then_some(())
    });
}

#[test]
fn subvolumes_that_a_user_made_inside_are_forked_too() {
    let ns = shared();
    spark(ns, &["fork", "source", "nested"]).ok();
    if inside(ns, "nested", "command -v btrfs").code != 0 {
        inside(
            ns,
            "nested",
            "apt-get update -qq && apt-get install -qqy --no-install-recommends btrfs-progs",
        )
        .ok();
    }
    inside(ns, "nested", "btrfs subvolume create /srv/inner && echo deep > /srv/inner/file").ok();
    spark(ns, &["fork", "nested", "nested-2"]).ok();
    assert_eq!(inside(ns, "nested-2", "cat /srv/inner/file").ok(), "deep");
}

#[test]
fn another_namespace_needs_the_sources_consent() {
    let ns = shared();
    let other = Space::new("consent");
    spark(ns, &["fork", "source", "lender"]).ok();
    let from = json!({"from": {"spark": "lender", "namespace": ns}});
    apply(&spark_object(&other.0, "borrowed", &from)).ok();
    let message = until_reason(&other.0, "borrowed", "ForkDenied");
    assert!(message.contains("forkPolicy"), "{message}");
    apply(&spark_object(
        ns,
        "lender",
        &json!({"from": {"spark": "source"}, "forkPolicy": {"namespaces": [other.0]}}),
    ))
    .ok();
    until_reason(&other.0, "borrowed", "Running");
    assert_eq!(inside(&other.0, "borrowed", "cat /root/greeting").ok(), "from the source");
}

#[test]
fn without_a_warm_pod_a_fork_still_comes_up() {
    let ns = shared();
    let cold = Space::new("cold");
    spark(ns, &["fork", "source", "open"]).ok();
    apply(&spark_object(
        ns,
        "open",
        &json!({"from": {"spark": "source"}, "forkPolicy": {"namespaces": ["*"]}}),
    ))
    .ok();
    apply(&spark_object(&cold.0, "cold", &json!({"from": {"spark": "open", "namespace": ns}}))).ok();
    until_reason(&cold.0, "cold", "Running");
    assert_eq!(get_spark(&cold.0, "cold")["status"]["timings"]["warm"], false);
    assert_eq!(inside(&cold.0, "cold", "cat /root/greeting").ok(), "from the source");
}

#[test]
fn twenty_forks_at_once_all_come_up_with_the_data() {
    let ns = shared();
    let many = Space::new("many");
    apply(&pool(&many.0, 6)).ok();
    apply(&spark_object(
        ns,
        "origin",
        &json!({"from": {"spark": "source"}, "forkPolicy": {"namespaces": ["*"]}}),
    ))
    .ok();
    until_reason(ns, "origin", "Running");
    let forks: Vec<_> = (0..20)
        .map(|i| {
            spark_object(&many.0, &format!("f{i}"), &json!({"from": {"spark": "origin", "namespace": ns}}))
        })
        .collect();
    apply(&json!(forks)).ok();
    let mut pods = std::collections::HashSet::new();
    for i in 0..20 {
        let name = format!("f{i}");
        until_reason(&many.0, &name, "Running");
        assert_eq!(
            inside(&many.0, &name, "cat /root/greeting; hostname").ok(),
            format!("from the source\n{name}")
        );
        assert!(
            pods.insert(get_spark(&many.0, &name)["status"]["podName"].to_string()),
            "two Sparks have one pod"
        );
    }
}
