//! What Flux, `helm --wait` and Argo CD think of live objects in each phase, and what `kubectl delete` takes along.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sparks_tests::{
    Space, apply, eventually, get, get_spark, inside, kubectl, run, shared, spark, spark_object,
    until_reason, verdicts,
};

const KINDS: &str = "sparks.sparks.loop.work,checkpoints.sparks.loop.work,sparkpools.sparks.loop.work,volumes.sparks.loop.work";

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "sparks.loop.work/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": shared()}, "spec": spec
    })
}

fn fork(name: &str, rest: Value) -> Value {
    let mut spec = rest;
    spec["from"] = json!({"spark": "source"});
    spark_object(shared(), name, &spec)
}

/// Waits until an object is judged so.
#[track_caller]
fn until_judged(kind: &str, name: &str, kstatus: &str, health: &str) {
    let wanted = (kstatus.to_owned(), health.to_owned());
    eventually(&format!("{kind} {name} {kstatus}, {health}"), || {
        let list = kubectl(&["-n", shared(), "get", KINDS, "-o", "json"]).ok();
        let all: BTreeMap<_, _> = verdicts(&list).into_iter().collect();
        (all.get(&(kind.to_owned(), name.to_owned()))? == &wanted).then_some(())
    });
}

#[track_caller]
fn volume_of(name: &str) -> String {
    eventually("its Volume", || {
        get_spark(shared(), name)["status"]["volume"]["name"].as_str().map(Into::into)
    })
}

/// An object that nothing but the end of this lets go.
struct Held(&'static str, &'static str);

impl Held {
    fn delete(kind: &'static str, name: &'static str) -> Self {
        let held = Self(kind, name);
        held.finalizers(&json!(["test.example/held"]));
        kubectl(&["-n", shared(), "delete", kind, name, "--wait=false"]).ok();
        held
    }

    fn finalizers(&self, all: &Value) {
        let patch = json!({"metadata": {"finalizers": all}}).to_string();
        kubectl(&["-n", shared(), "patch", self.0, self.1, "--type=merge", "-p", &patch]).ok();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.finalizers(&Value::Null);
    }
}

#[test]
fn what_nobody_has_seen_is_in_progress() {
    for unseen in [
        fork("unseen", json!({})),
        object("Checkpoint", "unseen", &json!({"spark": "source"})),
        object("SparkPool", "unseen", &json!({"size": 0})),
    ] {
        // The answer to the POST, before any controller can have heard of it.
        let made = run("kubectl", &["create", "-f", "-", "-o", "json"], &unseen.to_string()).ok();
        let list = json!({"kind": "List", "apiVersion": "v1", "items": [serde_json::from_str::<Value>(&made).unwrap()]});
        let (kstatus, health) = &verdicts(&list.to_string())[0].1;
        assert_eq!((kstatus.as_str(), health.as_str()), ("InProgress", "Progressing"), "{made}");
    }
    until_judged("Spark", "unseen", "Current", "Healthy");
    until_judged("Checkpoint", "unseen", "Current", "Healthy");
    until_judged("SparkPool", "unseen", "Current", "Healthy");
}

#[test]
fn a_spark_is_judged_rightly_in_each_phase() {
    let ns = shared();
    let stubborn = json!(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
    apply(&json!([
        fork("judged-running", json!({})),
        fork("judged-stopped", json!({"lifecycle": {"running": false}})),
        fork("judged-sleeping", json!({"lifecycle": {"idleTimeout": "2s"}})),
        fork("judged-starting", json!({"service": {"command": ["sleep", "infinity"], "readinessPath": "/"}})),
        fork(
            "judged-stopping",
            json!({"service": {"command": stubborn, "terminationGracePeriodSeconds": 60}})
        ),
        spark_object(ns, "judged-pending", &json!({"from": {"spark": "never-made"}})),
        spark_object(ns, "judged-failed", &json!({"from": {"spark": "source", "namespace": "default"}})),
    ]))
    .ok();
    until_reason(ns, "judged-stopping", "Running");
    let stop = json!({"spec": {"lifecycle": {"running": false}}}).to_string();
    kubectl(&["-n", ns, "patch", "spark", "judged-stopping", "--type=merge", "-p", &stop]).ok();
    for (phase, kstatus, health) in [
        ("stopping", "InProgress", "Progressing"),
        ("running", "Current", "Healthy"),
        ("stopped", "Current", "Suspended"),
        ("sleeping", "Current", "Suspended"),
        ("starting", "InProgress", "Progressing"),
        ("pending", "InProgress", "Progressing"),
        ("failed", "Failed", "Degraded"),
    ] {
        until_judged("Spark", &format!("judged-{phase}"), kstatus, health);
    }
    until_judged("Volume", &volume_of("judged-running"), "Current", "Healthy");
    until_judged("Volume", &volume_of("judged-stopped"), "Current", "Healthy");
    let _held = Held::delete("spark", "judged-running");
    until_judged("Spark", "judged-running", "Terminating", "Progressing");
}

#[test]
fn a_volume_that_waits_or_fails_is_judged_so() {
    let ns = shared();
    apply(&spark_object(ns, "judged-no-image", &json!({"image": "localhost/no/such:picture"}))).ok();
    until_judged("Spark", "judged-no-image", "Failed", "Degraded");
    until_judged("Volume", &volume_of("judged-no-image"), "InProgress", "Progressing");
    spark(ns, &["fork", "source", "judged-trap"]).ok();
    inside(ns, "judged-trap", "ln -s /etc /srv/judged").ok();
    spark(ns, &["stop", "judged-trap"]).ok();
    let data = json!([{"name": "data", "mountPath": "/srv/judged"}]);
    apply(&spark_object(ns, "judged-trapped", &json!({"from": {"spark": "judged-trap"}, "volumes": data})))
        .ok();
    until_judged("Spark", "judged-trapped", "Failed", "Degraded");
    until_judged("Volume", &volume_of("judged-trapped"), "Failed", "Degraded");
}

#[test]
fn checkpoints_and_pools_are_judged_rightly_in_each_phase() {
    let ns = shared();
    apply(&json!([
        object("Checkpoint", "judged-ready", &json!({"spark": "source"})),
        object("Checkpoint", "judged-lost", &json!({"spark": "source"})),
        object("Checkpoint", "judged-waiting", &json!({"spark": "never-made"})),
        object("SparkPool", "judged-ready", &json!({"size": 0})),
        object("SparkPool", "judged-waiting", &json!({"size": 1, "nodeSelector": {"no": "such-node"}})),
    ]))
    .ok();
    until_judged("Checkpoint", "judged-ready", "Current", "Healthy");
    until_judged("Checkpoint", "judged-waiting", "InProgress", "Progressing");
    until_judged("SparkPool", "judged-ready", "Current", "Healthy");
    until_judged("SparkPool", "judged-waiting", "InProgress", "Progressing");
    until_judged("Checkpoint", "judged-lost", "Current", "Healthy");
    let lost = get(ns, "checkpoint", "judged-lost").unwrap();
    let volume = lost["status"]["volume"]["name"].as_str().unwrap();
    kubectl(&["-n", ns, "delete", "volumes.sparks.loop.work", volume]).ok();
    until_judged("Checkpoint", "judged-lost", "Failed", "Degraded");
    let _checkpoint = Held::delete("checkpoint", "judged-ready");
    let _pool = Held::delete("sparkpool", "judged-ready");
    until_judged("Checkpoint", "judged-ready", "Terminating", "Progressing");
    until_judged("SparkPool", "judged-ready", "Terminating", "Progressing");
}

#[test]
fn delete_sparks_all_deletes_sparks_only() {
    let space = Space::new("plural");
    let new = |kind: &str, spec: Value| {
        let mut object = object(kind, "it", &spec);
        object["metadata"]["namespace"] = space.0.as_str().into();
        object
    };
    apply(&json!([
        new("Spark", json!({"from": {"spark": "never-made"}})),
        new("Checkpoint", json!({"spark": "never-made"})),
        new("SparkPool", json!({"size": 0})),
    ]))
    .ok();
    kubectl(&["-n", &space.0, "delete", "sparks", "--all"]).ok();
    assert!(get(&space.0, "spark", "it").is_none());
    assert!(get(&space.0, "checkpoint", "it").is_some() && get(&space.0, "sparkpool", "it").is_some());
    kubectl(&["-n", &space.0, "delete", "sparks-all", "--all"]).ok();
    assert!(get(&space.0, "sparkpool", "it").is_none(), "the category has them all");
}
