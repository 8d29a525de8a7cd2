//! Stop, start, checkpoint, restore, delete, undelete, expire.

use serde_json::json;
use sparks_tests::{
    apply, eventually, get, get_spark, inside, select, shared, spark, spark_object, until_reason,
};

#[test]
fn a_stopped_spark_has_no_pod_and_wakes_with_its_data() {
    let ns = shared();
    spark(ns, &["fork", "source", "sleeper"]).ok();
    inside(ns, "sleeper", "echo kept > /root/kept").ok();
    spark(ns, &["stop", "sleeper"]).ok();
    let stopped = get_spark(ns, "sleeper");
    assert_eq!(stopped["status"]["phase"], "Stopped");
    assert!(stopped["status"]["podName"].is_null());
    assert!(select(ns, "pods", "sparks.loop.work/spark=sleeper").is_empty());
    spark(ns, &["start", "sleeper"]).ok();
    assert_eq!(inside(ns, "sleeper", "cat /root/kept").ok(), "kept");
}

#[test]
fn a_restore_puts_the_disks_back_under_the_same_pod_and_address() {
    let ns = shared();
    spark(ns, &["fork", "source", "restored"]).ok();
    inside(ns, "restored", "echo before > /root/state").ok();
    spark(ns, &["checkpoint", "restored", "before"]).ok();
    inside(ns, "restored", "echo after > /root/state; rm -rf /usr/bin/vi /root/greeting").ok();
    let was = get_spark(ns, "restored");
    spark(ns, &["restore", "restored", "before"]).ok();
    let is = get_spark(ns, "restored");
    assert_eq!(inside(ns, "restored", "cat /root/state /root/greeting").ok(), "before\nfrom the source");
    assert_eq!(was["status"]["podName"], is["status"]["podName"]);
    assert_eq!(was["status"]["podIP"], is["status"]["podIP"]);
    inside(ns, "restored", "echo again > /root/state").ok();
    spark(ns, &["restore", "restored", "before"]).ok();
    assert_eq!(
        inside(ns, "restored", "cat /root/state").ok(),
        "before",
        "the same Checkpoint can be restored again"
    );
}

#[test]
fn a_checkpoint_is_the_moment_it_was_taken_and_can_be_forked() {
    let ns = shared();
    spark(ns, &["fork", "source", "timeline"]).ok();
    inside(ns, "timeline", "echo one > /root/state").ok();
    spark(ns, &["checkpoint", "timeline", "one"]).ok();
    inside(ns, "timeline", "echo two > /root/state").ok();
    spark(ns, &["rm", "timeline"]).ok();
    apply(&spark_object(ns, "past", &json!({"from": {"checkpoint": "one"}}))).ok();
    until_reason(ns, "past", "Running");
    assert_eq!(inside(ns, "past", "cat /root/state").ok(), "one");
}

#[test]
fn a_deleted_spark_can_be_undeleted_with_its_data_and_its_spec() {
    let ns = shared();
    let service = json!({"command": ["sleep", "infinity"], "port": 9000});
    apply(&spark_object(ns, "phoenix", &json!({"from": {"spark": "source"}, "service": service}))).ok();
    until_reason(ns, "phoenix", "Running");
    inside(ns, "phoenix", "echo ashes > /root/ashes").ok();
    spark(ns, &["rm", "phoenix"]).ok();
    eventually("the trash", || {
        let trashed = select(
            ns,
            "volumes.sparks.loop.work",
            "sparks.loop.work/trashed=true,sparks.loop.work/owner-name=phoenix",
        );
        (!trashed.is_empty()).then_some(())
    });
    assert!(get(ns, "sparks.sparks.loop.work", "phoenix").is_none());
    spark(ns, &["undelete", "phoenix"]).ok();
    assert_eq!(inside(ns, "phoenix", "cat /root/ashes").ok(), "ashes");
    assert_eq!(get_spark(ns, "phoenix")["spec"]["service"]["port"], 9000);
}

#[test]
fn a_spark_past_its_ttl_is_gone_and_in_the_trash() {
    let ns = shared();
    let brief =
        |lifecycle| spark_object(ns, "brief", &json!({"from": {"spark": "source"}, "lifecycle": lifecycle}));
    apply(&brief(json!({}))).ok();
    // One that expires before it has disks leaves nothing behind.
    until_reason(ns, "brief", "Running");
    apply(&brief(json!({"ttl": "1s"}))).ok();
    eventually("its end", || get(ns, "sparks.sparks.loop.work", "brief").is_none().then_some(()));
    eventually("the trash", || {
        let trashed = select(
            ns,
            "volumes.sparks.loop.work",
            "sparks.loop.work/trashed=true,sparks.loop.work/owner-name=brief",
        );
        (!trashed.is_empty()).then_some(())
    });
}

#[test]
fn the_controller_never_writes_the_spec() {
    let ns = shared();
    apply(&spark_object(ns, "untouched", &json!({"from": {"spark": "source"}}))).ok();
    until_reason(ns, "untouched", "Running");
    let spec = get_spark(ns, "untouched")["spec"].clone();
    assert_eq!(spec, json!({"from": {"spark": "source"}, "lifecycle": {"running": true}}));
    assert_eq!(get_spark(ns, "untouched")["metadata"]["generation"], 1);
}
