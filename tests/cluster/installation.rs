//! The installation itself: rights, walls between the parts, and the proof by use.

use serde_json::json;
use sparks_tests::{eventually, get, image, kubectl, run, select, shared, spark};

const AGENT: &str = "system:serviceaccount:sparks-system:sparks-node";

fn can(who: &str, words: &[&str]) -> bool {
    kubectl(&[&["auth", "can-i", "--quiet", "--as", who], words].concat()).code == 0
}

#[test]
fn the_node_agent_can_read_no_secret_and_make_no_pod() {
    for words in [
        ["get", "secrets"],
        ["list", "secrets"],
        ["create", "pods"],
        ["delete", "pods"],
        ["create", "sparks"],
        ["delete", "volumes"],
    ] {
        assert!(!can(AGENT, &[&words[..], &["-A"]].concat()), "{words:?}");
    }
}

#[test]
fn pods_of_sparks_have_no_privilege_and_a_user_namespace() {
    let pods = select(shared(), "pods", "sparks.loop.work/role");
    assert!(!pods.is_empty());
    for pod in pods.iter().filter(|pod| pod["metadata"]["labels"]["sparks.loop.work/role"] != "import") {
        let spec = &pod["spec"];
        assert_eq!(spec["hostUsers"], false);
        assert!(spec["containers"][0]["securityContext"]["privileged"].is_null());
        assert!(spec["volumes"].as_array().unwrap().iter().all(|v| v["hostPath"].is_null()));
    }
}

#[test]
fn an_agents_token_can_not_write_another_nodes_volume() {
    let volumes = select(shared(), "volumes.sparks.loop.work", "sparks.loop.work/owner-name=source");
    let name = volumes[0]["metadata"]["name"].as_str().unwrap();
    let patch = json!({"status": {"phase": "Failed"}}).to_string();
    let extra = "--as-user-extra=authentication.kubernetes.io/node-name=another-node";
    let args = [
        "-n",
        shared(),
        "patch",
        "volumes.sparks.loop.work",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
        "--as",
        AGENT,
        extra,
    ];
    let said = kubectl(&args).refused();
    assert!(said.contains("node"), "{said}");
}

#[test]
fn verify_proves_the_installation() {
    let said = run("spark", &["verify", "--image", &image()], "");
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
}

#[test]
fn the_manifests_of_dev_and_prod_are_accepted_by_the_api_server() {
    for which in ["dev", "prod"] {
        let file = format!("{}/../manifests/{which}/sparks.yaml", env!("CARGO_MANIFEST_DIR"));
        kubectl(&["apply", "--dry-run=server", "--server-side", "--force-conflicts", "-f", &file]).ok();
    }
}

#[test]
fn explain_tells_a_user_what_a_field_is_for() {
    for (field, words) in [
        ("spark.spec.from", "fork"),
        ("spark.spec.lifecycle.ttl", "deleted"),
        ("sparkpool.spec.size", "node"),
    ] {
        let said = kubectl(&["explain", field]).ok();
        assert!(said.contains(words), "{field}: {said}");
    }
}

#[test]
fn a_pool_replaces_what_was_taken() {
    let ns = shared();
    spark(ns, &["fork", "source", "taker"]).ok();
    eventually("a full pool", || {
        let pool = get(ns, "sparkpools.sparks.loop.work", "warm")?;
        (pool["status"]["warm"] == pool["spec"]["size"]).then_some(())
    });
}
