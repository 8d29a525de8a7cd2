//! Kills parts of the installation while forks go on, and checks that nothing is lost: every Spark ends Ready with its
//! data, and no Volume, pod or mount is left without an owner.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use serde_json::{Value, json};
use sparks_tests::{
    Space, apply, eventually, get_spark, image, inside, kubectl, pool, run, select, spark, spark_object,
    until_reason,
};

/// Kills the agent, the controller, guests and containerd's shims while Sparks are forked.
#[derive(Debug, Parser)]
struct Arguments {
    /// Kills in all.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// Longest pause, in milliseconds, between the wish for a fork and the kill; each kill takes another moment of it.
    #[arg(long, default_value_t = 60)]
    spread: u64,
}

/// Finds the host's process to kill, given a container that runs.
type Find = fn(&str) -> Option<String>;

/// What is killed, in turn.
const VICTIMS: [(&str, Find); 4] = [
    ("the node agent", |_| by_name("sparks-node")),
    ("the controller", |_| by_name("sparks-controll")),
    ("the guest's container", |container| init_of(container)),
    ("containerd's shim", |container| shim_of(container)),
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let space = Space::new("soak");
    let ns = space.0.as_str();
    apply(&pool(ns, 6)).ok();
    spark(ns, &["new", "origin", "--image", &image()]).ok();
    inside(ns, "origin", "echo precious > /root/data; sync").ok();
    let mut slowest = Duration::ZERO;
    for round in 0..arguments.kills {
        let (what, took) = one(ns, round, &arguments)?;
        slowest = slowest.max(took);
        println!(
            "{:3}/{} {what}: Ready with its data after {:.1} s",
            round + 1,
            arguments.kills,
            took.as_secs_f64()
        );
    }
    no_orphans(ns)?;
    println!(
        "{} kills: nothing lost, no orphan; the slowest fork took {:.1} s",
        arguments.kills,
        slowest.as_secs_f64()
    );
    Ok(())
}

/// Wishes for a fork, kills something meanwhile, and waits until the fork is there with its data.
fn one(ns: &str, round: usize, arguments: &Arguments) -> anyhow::Result<(&'static str, Duration)> {
    let (what, find) = VICTIMS[round % VICTIMS.len()];
    let victim = find(&container(ns, "origin").context("origin has no container")?)
        .with_context(|| format!("{what} does not run"))?;
    let name = format!("fork-{round}");
    let began = Instant::now();
    apply(&spark_object(ns, &name, &json!({"from": {"spark": "origin"}}))).ok();
    // So the kills spread over the steps of a fork.
    std::thread::sleep(Duration::from_millis((round as u64 * 7) % arguments.spread.max(1)));
    // It may have ended by itself.
    let _ = run("kill", &["-KILL", &victim], "");
    until_reason(ns, &name, "Running");
    for spark in ["origin", &name] {
        eventually("the data", || (inside(ns, spark, "cat /root/data").out == "precious").then_some(()));
    }
    let took = began.elapsed();
    spark(ns, &["rm", &name]).ok();
    until_reason(ns, "origin", "Running");
    Ok((what, took))
}

/// Every pod and every Volume that is not in the trash belongs to a Spark or a pool.
fn no_orphans(ns: &str) -> anyhow::Result<()> {
    let sparks: Vec<Value> = select(ns, "sparks.sparks.loop.work", "");
    let uids: Vec<&str> = sparks.iter().filter_map(|s| s["metadata"]["uid"].as_str()).collect();
    eventually("the end of the last pods", || {
        let pods = select(ns, "pods", "sparks.loop.work/role=spark");
        pods.iter().all(|pod| uids.contains(&label(pod, "spark-uid"))).then_some(())
    });
    for volume in select(ns, "volumes.sparks.loop.work", "sparks.loop.work/trashed!=true") {
        ensure!(
            uids.contains(&label(&volume, "owner-uid")),
            "the Volume {} has no owner",
            volume["metadata"]["name"]
        );
    }
    Ok(())
}

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][format!("sparks.loop.work/{key}")].as_str().unwrap_or_default()
}

fn container(ns: &str, name: &str) -> Option<String> {
    let pod = get_spark(ns, name)["status"]["podName"].as_str()?.to_owned();
    let id =
        kubectl(&["-n", ns, "get", "pod", &pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}"])
            .out;
    id.strip_prefix("containerd://").map(str::to_owned)
}

fn by_name(name: &str) -> Option<String> {
    first_line(&run("pgrep", &["-x", name], "").out)
}

/// The process that is PID 1 of a container.
fn init_of(container: &str) -> Option<String> {
    let script = format!(
        "for p in $(grep -ls {container} /proc/[0-9]*/cgroup | cut -d/ -f3); do awk '/^NSpid/ {{ if ($NF == 1 && NF > 2) print $2 }}' /proc/$p/status; done"
    );
    first_line(&run("sh", &["-c", &script], "").out)
}

/// The shim that started a container's init.
fn shim_of(container: &str) -> Option<String> {
    let init = init_of(container)?;
    first_line(&run("awk", &["/^PPid/ { print $2 }", &format!("/proc/{init}/status")], "").out)
        .filter(|pid| pid != "1")
}

fn first_line(text: &str) -> Option<String> {
    text.lines().next().map(str::to_owned).filter(|line| !line.is_empty())
}
