//! A Spark that nobody uses sleeps, and wakes for whoever comes.

use serde_json::json;
use sparks_tests::{eventually, get_spark, inside, select, shared, spark, until_reason};

use super::enterable;

fn until_asleep(name: &str) {
    until_reason(shared(), name, "Sleeping");
    eventually("the end of its pod", || {
        let selector = format!("sparks.loop.work/spark={name}");
        select(shared(), "pods", &selector).is_empty().then_some(())
    });
}

#[test]
fn an_idle_spark_sleeps_without_a_pod_and_ssh_wakes_it_with_its_data() {
    let door = enterable("dozing", &json!({"lifecycle": {"idleTimeout": "3s"}}));
    inside(shared(), "dozing", "echo dream > /root/kept").ok();
    until_asleep("dozing");
    let before = get_spark(shared(), "dozing")["metadata"]["generation"].clone();
    let said = door.ssh(&[], "dozing", "cat /root/kept", "");
    assert_eq!(said.out, "dream", "{said:?}");
    assert_eq!(get_spark(shared(), "dozing")["metadata"]["generation"], before, "nobody wrote the spec");
    until_asleep("dozing");
    assert_eq!(
        spark(shared(), &["exec", "dozing", "--", "cat", "/root/kept"]).ok(),
        "dream",
        "exec wakes it too"
    );
}

#[test]
fn a_spark_does_not_sleep_while_somebody_is_in_it_or_holds_it_awake() {
    let door = enterable("lively", &json!({"lifecycle": {"idleTimeout": "2s"}}));
    let mut visitor = door.command(&[], "lively", &["sleep", "8"]).spawn().unwrap();
    let mut slept = false;
    while visitor.try_wait().unwrap().is_none() {
        slept |= get_spark(shared(), "lively")["status"]["phase"] == "Sleeping";
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(visitor.wait().unwrap().success() && !slept);
    let hold = "setsid sh -c 'exec 9>/run/sparks/awake; exec sleep 8' </dev/null >/dev/null 2>&1 &";
    inside(shared(), "lively", hold).ok();
    let held = std::time::Instant::now();
    until_asleep("lively");
    assert!(held.elapsed() > std::time::Duration::from_secs(6), "the lease was held");
}
