//! The service of a Spark, and its Service.

use serde_json::json;
use sparks_tests::{apply, eventually, inside, kubectl, shared, spark, spark_object, until_reason};

#[test]
fn a_service_gets_its_environment_and_secrets_stay_out_of_the_volume() {
    let ns = shared();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": ns}, "stringData": {"TOKEN": "hush-hush"}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": ns}, "data": {"MODE": "map", "LEVEL": "map"}});
    apply(&json!([secret, map])).ok();
    let service = json!({
        "command": ["sh", "-c", "echo $TOKEN $X_MODE $X_LEVEL $PORT $(id -un) $PWD > /tmp/env; exec sleep infinity"],
        "env": [{"name": "X_LEVEL", "value": "own"}],
        "envFrom": [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "m"}, "prefix": "X_"}],
        "user": "nobody", "workingDir": "/usr", "port": 8081
    });
    apply(&spark_object(ns, "env", &json!({"from": {"spark": "source"}, "service": service}))).ok();
    until_reason(ns, "env", "Running");
    let env = eventually("the service", || {
        Some(inside(ns, "env", "cat /tmp/env").out).filter(|out| !out.is_empty())
    });
    assert_eq!(env, "hush-hush map own 8081 nobody /usr");
    let volumes = kubectl(&["-n", ns, "get", "volumes.sparks.loop.work", "-o", "yaml"]).ok();
    assert!(!volumes.contains("hush-hush") && !volumes.contains("aHVzaC1odXNo"));
}

#[test]
fn a_spark_is_ready_when_its_service_answers_and_is_found_by_its_name() {
    let ns = shared();
    let script = "import http.server,time; time.sleep(1); http.server.test(http.server.SimpleHTTPRequestHandler, port=8080)";
    let service =
        json!({"command": ["python3", "-c", script], "workingDir": "/root", "readinessPath": "/greeting"});
    apply(&spark_object(ns, "web", &json!({"from": {"spark": "source"}, "service": service}))).ok();
    until_reason(ns, "web", "ServiceNotReady");
    until_reason(ns, "web", "Running");
    let url = format!("http://web.{ns}.svc:8080/greeting");
    let fetch = format!(
        "python3 -c \"import urllib.request; print(urllib.request.urlopen('{url}').read().decode())\""
    );
    let got = eventually("the name", || Some(inside(ns, "source", &fetch)).filter(|said| said.code == 0));
    assert_eq!(got.out, "from the source");
}

#[test]
fn a_service_that_ends_is_started_again_and_one_that_can_not_start_says_why() {
    let ns = shared();
    let service = json!({"command": ["sh", "-c", "echo x >> /root/starts; exit 3"]});
    apply(&spark_object(ns, "flaky", &json!({"from": {"spark": "source"}, "service": service}))).ok();
    eventually("three starts", || {
        (inside(ns, "flaky", "wc -l < /root/starts").out.parse::<u32>().ok()? >= 3).then_some(())
    });
    apply(&spark_object(
        ns,
        "wrong",
        &json!({"from": {"spark": "source"}, "service": {"command": ["no-such-program"]}}),
    ))
    .ok();
    eventually("the reason", || {
        until_reason(ns, "wrong", "ServiceNotReady").contains("no-such-program").then_some(())
    });
}

#[test]
fn a_service_gets_sigterm_and_its_grace_when_the_spark_stops() {
    let ns = shared();
    let script =
        "trap 'echo bye > /root/bye; sync; exit 0' TERM; echo up > /root/up; while :; do sleep 0.1; done";
    apply(&spark_object(
        ns,
        "polite",
        &json!({"from": {"spark": "source"}, "service": {"command": ["sh", "-c", script]}}),
    ))
    .ok();
    until_reason(ns, "polite", "Running");
    eventually("the service", || (inside(ns, "polite", "cat /root/up").code == 0).then_some(()));
    spark(ns, &["stop", "polite"]).ok();
    spark(ns, &["start", "polite"]).ok();
    assert_eq!(inside(ns, "polite", "cat /root/bye").ok(), "bye");
}

#[test]
fn logs_are_the_services_output() {
    let ns = shared();
    let service = json!({"command": ["sh", "-c", "echo hello from the service; exec sleep infinity"]});
    apply(&spark_object(ns, "talker", &json!({"from": {"spark": "source"}, "service": service}))).ok();
    until_reason(ns, "talker", "Running");
    eventually("the log", || {
        spark(ns, &["logs", "talker"]).ok().contains("hello from the service").then_some(())
    });
}
