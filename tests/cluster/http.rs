//! HTTP through the gateway.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use sparks_tests::{Said, apply, eventually, get_spark, run, shared, spark, spark_object, until_reason};

/// Serves the files of /root, where the tests' source has its greeting.
fn serving(name: &str, more: &serde_json::Value) {
    let mut service = json!({
        "command": ["sh", "-c", "exec python3 -m http.server \"$PORT\""], "workingDir": "/root", "readinessPath": "/greeting"
    });
    if let (Some(service), Some(more)) = (service.as_object_mut(), more["service"].as_object()) {
        service.extend(more.clone());
    }
    let lifecycle = more.get("lifecycle").cloned().unwrap_or(json!({}));
    let spec = json!({"from": {"spark": "source"}, "service": service, "lifecycle": lifecycle});
    apply(&spark_object(shared(), name, &spec)).ok();
    until_reason(shared(), name, "Running");
}

fn fetch(name: &str, options: &[&str]) -> Said {
    let gateway =
        std::env::var("SPARKS_GATEWAY_HTTP").expect("SPARKS_GATEWAY_HTTP names the gateway: run `make test`");
    let host = format!("Host: {name}--{}.localhost", shared());
    let url = format!("http://{gateway}/greeting");
    run("curl", &[&["-s", "-w", "\n%{http_code}", "-H", &host, &url], options].concat(), "")
}

#[test]
fn a_public_spark_is_seen_by_everybody() {
    serving("open", &json!({"service": {"public": true}}));
    let said =
        eventually("the gateway", || Some(fetch("open", &[])).filter(|said| said.out.ends_with("200")));
    assert_eq!(said.out, "from the source\n\n200");
}

#[test]
fn a_private_spark_opens_for_a_token_only_and_is_not_told_from_none() {
    serving("closed", &json!({}));
    let (closed, none) = (fetch("closed", &[]).out, fetch("no-such-spark", &[]).out);
    assert!(closed.ends_with("401"), "{closed}");
    assert_eq!(closed.replace("closed", "X"), none.replace("no-such-spark", "X"));
    let token = spark(shared(), &["url", "closed", "--token"]).ok();
    let header = format!("Sparks-Token: {token}");
    assert_eq!(fetch("closed", &["-H", &header]).out, "from the source\n\n200");
    assert!(fetch("closed", &["-H", "Sparks-Token: x.y.z"]).out.ends_with("401"));
    assert!(spark(shared(), &["url", "closed"]).ok().contains(&format!("closed--{}.localhost", shared())));
}

#[test]
fn spark_url_opens_in_the_browser_what_it_prints() {
    let folder = tempfile::tempdir().unwrap();
    let (browser, opened) = (folder.path().join("xdg-open"), folder.path().join("opened"));
    std::fs::write(&browser, format!("#!/bin/sh\necho \"$1\" > '{}'\n", opened.display())).unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let printed = run("env", &[&path, "spark", "-n", shared(), "url", "source", "--open"], "").ok();
    assert!(printed.contains("://source--"), "{printed}");
    assert_eq!(std::fs::read_to_string(opened).unwrap().trim_end(), printed);
}

#[test]
fn the_first_request_wakes_a_spark_that_sleeps() {
    serving("drowsy", &json!({"service": {"public": true}, "lifecycle": {"idleTimeout": "3s"}}));
    until_reason(shared(), "drowsy", "Sleeping");
    let said = fetch("drowsy", &[]);
    assert_eq!(said.out, "from the source\n\n200");
    assert!(get_spark(shared(), "drowsy")["status"]["lastActivityAt"].is_string());
}
