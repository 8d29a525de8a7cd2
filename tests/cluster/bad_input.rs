//! Bad input is refused with a sentence that says what to do, and leads nowhere.

use serde_json::{Value, json};
use sparks_tests::{
    Said, apply, condition, eventually, get_spark, image, inside, kubectl, run, shared, spark, spark_object,
    until_reason,
};

/// What the API server says to a Spark that is not made for real.
fn dry_run(spec: &Value) -> Said {
    let object = spark_object(shared(), "dry", spec);
    run("kubectl", &["create", "--dry-run=server", "-f", "-"], &object.to_string())
}

#[test]
fn what_the_object_itself_shows_is_refused_at_apply() {
    let image = json!("x");
    let with = |key: &str, value: Value| json!({"image": image, key: value});
    let table = [
        (json!({}), "exactly one of image and from must be set"),
        (json!({"image": "x", "from": {"spark": "y"}}), "exactly one of image and from must be set"),
        (json!({"from": {}}), "exactly one of spark and checkpoint must be set"),
        (with("lifecycle", json!({"ttl": "-1h"})), "must be a positive duration"),
        (with("lifecycle", json!({"ttl": "soon"})), "must be a positive duration"),
        (with("disk", json!({"size": "-1Gi"})), "must be a positive quantity"),
        (with("disk", json!({"size": "big"})), "must be a positive quantity"),
        (with("resources", json!({"limits": {"gpu": "1"}})), "only cpu and memory can be set"),
        (
            with("resources", json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
            "a request must not be larger than its limit",
        ),
        (
            with("volumes", json!([{"name": "root", "mountPath": "/data"}])),
            "the name root is the root disk's",
        ),
        (with("volumes", json!([{"name": "a", "mountPath": "/a/../../etc"}])), "must not contain . or .."),
        (with("volumes", json!([{"name": "a", "mountPath": "/proc/self"}])), "must not be in /proc"),
        (
            with("volumes", json!([{"name": "a", "mountPath": "/d"}, {"name": "b", "mountPath": "/d"}])),
            "same mountPath",
        ),
        (with("service", json!({"command": ["x"], "readinessPath": "health"})), "must start with /"),
        (with("service", json!({"command": ["x"], "port": 70000})), "service.port"),
        (
            with("service", json!({"command": ["x"], "envFrom": [{}]})),
            "exactly one of secretRef and configMapRef",
        ),
    ];
    for (spec, sentence) in table {
        let said = dry_run(&spec).refused();
        assert!(said.contains(sentence), "{spec}: {said}");
    }
    let said = run(
        "kubectl",
        &["create", "--dry-run=server", "-f", "-"],
        &spark_object(shared(), "1st", &json!({"image": "x"})).to_string(),
    );
    assert!(said.refused().contains("the name of a Spark is also its host name"));
}

#[test]
fn what_can_not_change_is_refused_with_the_way_out() {
    let ns = shared();
    spark(ns, &["fork", "source", "fixed"]).ok();
    for (patch, sentence) in [
        (json!({"spec": {"from": {"spark": "other"}}}), "from can't be changed"),
        (json!({"spec": {"from": null, "image": "x"}}), "can't be changed"),
        (json!({"spec": {"volumes": [{"name": "d", "mountPath": "/d"}]}}), "volumes can't be added"),
    ] {
        let said = kubectl(&["-n", ns, "patch", "spark", "fixed", "--type=merge", "-p", &patch.to_string()])
            .refused();
        assert!(said.contains(sentence), "{said}");
    }
}

#[test]
fn an_image_that_can_not_be_pulled_says_so_and_the_rest_goes_on() {
    let ns = shared();
    apply(&spark_object(ns, "no-image", &json!({"image": "localhost/no/such:image"}))).ok();
    let message = until_reason(ns, "no-image", "ImagePullFailed");
    assert!(message.contains("localhost/no/such:image"), "{message}");
    spark(ns, &["fork", "source", "still-works"]).ok();
    spark(ns, &["rm", "no-image"]).ok();
}

#[test]
fn a_fork_of_what_does_not_exist_waits_for_it_and_says_so() {
    let ns = shared();
    apply(&spark_object(ns, "early", &json!({"from": {"spark": "late"}}))).ok();
    let message = until_reason(ns, "early", "SourceNotFound");
    assert!(message.contains("Spark late does not exist"), "{message}");
    spark(ns, &["fork", "source", "late"]).ok();
    until_reason(ns, "early", "Running");
}

#[test]
fn a_missing_secret_is_named_and_waited_for() {
    let ns = shared();
    let service = json!({"command": ["sleep", "infinity"], "envFrom": [{"secretRef": {"name": "not-yet"}}]});
    apply(&spark_object(ns, "waiting", &json!({"from": {"spark": "source"}, "service": service}))).ok();
    let message = until_reason(ns, "waiting", "EnvSourceNotFound");
    assert!(message.contains("not-yet"), "{message}");
    kubectl(&["-n", ns, "create", "secret", "generic", "not-yet", "--from-literal=A=b"]).ok();
    until_reason(ns, "waiting", "Running");
}

#[test]
fn a_disk_can_not_shrink_below_what_it_holds() {
    let ns = shared();
    spark(ns, &["fork", "source", "shrink"]).ok();
    inside(ns, "shrink", "head -c 64M /dev/urandom > /root/data; sync").ok();
    let size = |size: &str| json!({"spec": {"disk": {"size": size}}}).to_string();
    kubectl(&["-n", ns, "patch", "spark", "shrink", "--type=merge", "-p", &size("8Mi")]).ok();
    let (_, _, message) = eventually("the refusal", || {
        condition(&get_spark(ns, "shrink"), "Resized")
            .filter(|(status, reason, _)| status == "False" && reason == "SizeTooSmall")
    });
    assert!(message.contains("root"), "{message}");
    inside(ns, "shrink", "echo still writable > /root/more").ok();
    kubectl(&["-n", ns, "patch", "spark", "shrink", "--type=merge", "-p", &size("30Gi")]).ok();
    eventually("the growth", || {
        condition(&get_spark(ns, "shrink"), "Resized")
            .is_none_or(|(status, ..)| status == "True")
            .then_some(())
    });
}

#[test]
fn a_root_with_a_link_where_the_system_mounts_leads_nowhere_and_says_so() {
    let ns = shared();
    spark(ns, &["new", "hostile", "--image", &image()]).ok();
    // While it runs, /proc is a mount; the link is put into the bare directory of a fork that never ran.
    spark(ns, &["fork", "hostile", "trap"]).ok();
    let data = json!([{"name": "data", "mountPath": "/srv/trap"}]);
    inside(ns, "trap", "rmdir /srv/trap 2>/dev/null; ln -s /etc /srv/trap").ok();
    spark(ns, &["stop", "trap"]).ok();
    apply(&spark_object(ns, "trapped", &json!({"from": {"spark": "trap"}, "volumes": data}))).ok();
    let message = until_reason(ns, "trapped", "UnsafeRoot");
    assert!(message.contains("/srv/trap") && message.contains("link"), "{message}");
    spark(ns, &["fork", "source", "unharmed"]).ok();
}

#[test]
fn a_service_by_a_taken_name_is_reported() {
    let ns = shared();
    kubectl(&["-n", ns, "create", "service", "clusterip", "taken", "--tcp=80"]).ok();
    apply(&spark_object(ns, "taken", &json!({"from": {"spark": "source"}}))).ok();
    let message = until_reason(ns, "taken", "NameTaken");
    assert!(message.contains("Service taken"), "{message}");
    assert!(!get_spark(ns, "taken")["status"]["podName"].is_null(), "the Spark runs all the same");
}
