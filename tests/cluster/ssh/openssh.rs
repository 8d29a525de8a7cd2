//! Debian's openssh-tests, with the gateway for their sshd: see tests/openssh/README.md.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use serde_json::{Value, json};
use sparks_tests::{Space, apply, get, image, inside, kubectl, spark, spark_object, until_reason};

/// Most of their time the scripts sleep, so that several run at once: each in a Spark that no other uses meanwhile.
const SPARKS: usize = 3;
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openssh");
const LIST: &str = include_str!("../../openssh/scripts.txt");

#[test]
fn the_regression_tests_of_openssh_that_fit_pass_through_the_gateway() {
    let space = Space::new("openssh");
    let gateway = gateway();
    prepare(&space.0, &gateway);
    let scripts = Mutex::new(listed("run").collect::<VecDeque<_>>());
    let next = || scripts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..SPARKS {
            let (space, gateway, next, failed) = (&space.0, &gateway, &next, &failed);
            scope.spawn(move || {
                let name = format!("fork{number}");
                fork(space, &name);
                while let Some(script) = next() {
                    if let Err(said) = run(space, &name, gateway, script) {
                        failed.lock().unwrap().push(said);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n\n"));
}

/// The gateway's address for Sparks.
fn gateway() -> String {
    let service = get("sparks-system", "service", "sparks-gateway").expect("the gateway's Service");
    service["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

/// Makes the Spark that the others are forks of.
fn prepare(namespace: &str, gateway: &str) {
    spark(namespace, &["new", "origin", "--image", &image()]).ok();
    spark(namespace, &["cp", FOLDER, "origin:/srv/openssh"]).ok();
    inside(namespace, "origin", &format!("/srv/openssh/prepare {gateway}")).ok();
    let there = inside(namespace, "origin", "cd /usr/lib/openssh/regress && ls *.sh").ok();
    let there: BTreeSet<_> = there.lines().filter_map(|name| name.strip_suffix(".sh")).collect();
    let known: BTreeSet<_> = listed("run").chain(listed("skip")).collect();
    let differ: Vec<_> = there.symmetric_difference(&known).collect();
    assert!(differ.is_empty(), "in the package or in tests/openssh/scripts.txt, but not in both: {differ:?}");
}

/// The scripts that are to be run, or to be left out.
fn listed(what: &str) -> impl Iterator<Item = &'static str> {
    LIST.lines().filter_map(move |line| line.strip_prefix(what)?.split_whitespace().next())
}

fn fork(namespace: &str, name: &str) {
    apply(&spark_object(namespace, name, &json!({"from": {"spark": "origin"}}))).ok();
    until_reason(namespace, name, "Running");
}

/// Runs a script, and gives the Spark the keys that it asks for.
fn run(namespace: &str, name: &str, gateway: &str, script: &str) -> Result<(), String> {
    let login = format!("{name}.{namespace}");
    let mut child = Command::new("spark")
        .args(["-n", namespace, "exec", name, "--", "/srv/openssh/run", &login, gateway, script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).split(b'\n') {
        let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
        match line.strip_prefix("authorize ") {
            Some(keys) => authorize(namespace, name, keys),
            None => said.push(line),
        }
    }
    child.wait().unwrap();
    let passed = said.iter().any(|line| *line == format!("passed {script}"));
    if passed { Ok(()) } else { Err(format!("{script}:\n{}", said.join("\n"))) }
}

fn authorize(namespace: &str, name: &str, keys: &str) {
    let keys: Value = serde_json::from_str(keys).unwrap();
    let patch = json!({"spec": {"ssh": {"authorizedKeys": keys}}}).to_string();
    kubectl(&["-n", namespace, "patch", "spark", name, "--type=merge", "-p", &patch]).ok();
}
