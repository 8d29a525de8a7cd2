//! Nothing is lost when a part dies. `make soak` does this fifty times over.

use sparks_tests::{eventually, get_spark, inside, kubectl, run, select, shared, spark, until_reason};

/// Kills the processes that the kernel knows by this name, of 15 characters at most.
fn kill(name: &str) {
    run("pkill", &["-KILL", "-x", name], "").ok();
}

#[test]
fn a_killed_agent_adopts_what_runs_and_serves_again() {
    let ns = shared();
    spark(ns, &["fork", "source", "adopted"]).ok();
    inside(ns, "adopted", "echo data > /root/data; (setsid sleep 600 >/dev/null 2>&1 &)").ok();
    let container = |spark: &str| {
        select(ns, "pods", &format!("sparks.loop.work/spark={spark}"))[0]["status"]["containerStatuses"][0]["containerID"].clone()
    };
    let before = container("adopted");
    kill("sparks-node");
    spark(ns, &["fork", "adopted", "after-agent"]).ok();
    assert_eq!(inside(ns, "after-agent", "cat /root/data").ok(), "data");
    assert_eq!(inside(ns, "adopted", "pgrep -x sleep | wc -l").ok(), "1", "its processes were not disturbed");
    assert_eq!(container("adopted"), before);
}

#[test]
fn a_killed_controller_goes_on_where_it_was() {
    let ns = shared();
    kill("sparks-controll");
    spark(ns, &["fork", "source", "after-controller"]).ok();
    assert_eq!(inside(ns, "after-controller", "cat /root/greeting").ok(), "from the source");
}

#[test]
fn a_killed_container_comes_back_with_its_root() {
    let ns = shared();
    spark(ns, &["fork", "source", "revenant"]).ok();
    inside(ns, "revenant", "echo data > /root/data; sync").ok();
    let pod = get_spark(ns, "revenant")["status"]["podName"].as_str().unwrap().to_owned();
    let status = || {
        kubectl(&["-n", ns, "get", "pod", &pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}"])
            .ok()
    };
    let before = status();
    let id = before.trim_start_matches("containerd://").to_owned();
    let pid = run("sh", &["-c", &format!("for p in /proc/[0-9]*; do grep -qs {id} $p/cgroup && awk '/^NSpid/ {{ if ($NF == 1) print $2 }}' $p/status; done | head -1")], "").ok();
    run("kill", &["-KILL", &pid], "").ok();
    eventually("a new container", || (status() != before && !status().is_empty()).then_some(()));
    eventually("its root", || (inside(ns, "revenant", "cat /root/data").out == "data").then_some(()));
    until_reason(ns, "revenant", "Running");
}

#[test]
fn a_deleted_pod_is_replaced_and_the_data_stays() {
    let ns = shared();
    spark(ns, &["fork", "source", "moved"]).ok();
    inside(ns, "moved", "echo data > /root/data").ok();
    let pod = get_spark(ns, "moved")["status"]["podName"].as_str().unwrap().to_owned();
    kubectl(&["-n", ns, "delete", "pod", &pod]).ok();
    eventually("another pod", || {
        let now = get_spark(ns, "moved");
        (now["status"]["podName"] != pod.as_str() && now["status"]["phase"] == "Running").then_some(())
    });
    assert_eq!(inside(ns, "moved", "cat /root/data").ok(), "data");
}

/// A second replica of the controller for as long as this lives.
struct TwoControllers;

impl TwoControllers {
    fn new() -> Self {
        scale(2).ok();
        kubectl(&["-n", "sparks-system", "rollout", "status", "deployment/sparks-controller"]).ok();
        Self
    }
}

impl Drop for TwoControllers {
    fn drop(&mut self) {
        let _ = scale(1);
    }
}

fn scale(replicas: u8) -> sparks_tests::Said {
    let replicas = format!("--replicas={replicas}");
    kubectl(&["-n", "sparks-system", "scale", "deployment/sparks-controller", &replicas])
}

fn leader() -> Option<String> {
    let lease = sparks_tests::get("sparks-system", "lease", "sparks-controller")?;
    lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned)
}

#[test]
fn a_second_controller_takes_over_when_the_leader_dies() {
    let ns = shared();
    let _two = TwoControllers::new();
    let first = eventually("a leader", leader);
    kubectl(&["-n", "sparks-system", "delete", "pod", &first, "--force", "--grace-period=0"]).ok();
    eventually("another leader", || leader().filter(|now| *now != first));
    spark(ns, &["fork", "source", "after-leader"]).ok();
}
