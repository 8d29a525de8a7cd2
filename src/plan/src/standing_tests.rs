//! Objects of every kind in every phase, which tests/kstatus lets Flux's and Argo CD's rules judge.

#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use kube::Resource;
use serde::Serialize;
use serde_json::{Value, json};
use sparks_api::{Checkpoint, CheckpointSpec, LocalReference, SparkPool, Volume};

use crate::{checkpoint, known::Known, pool, spark};

/// Where tests/kstatus finds them.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/kstatus/objects.json");

fn checkpoints() -> Vec<(&'static str, Checkpoint)> {
    let new = |name: &str| {
        let spec = CheckpointSpec { spark: "api".into(), ttl: None, fork_policy: None };
        let mut checkpoint = Checkpoint::new(name, spec);
        checkpoint.metadata.generation = Some(1);
        checkpoint.metadata.namespace = Some("team".into());
        checkpoint.metadata.uid = Some(format!("{name}-uid"));
        checkpoint
    };
    let (api, disks) = spark::tests::with_disks();
    let volume = Some(disks);
    let planned =
        |name: &str, spark: Option<_>, source: &Option<Known<Volume>>, own: &Option<Known<Volume>>| {
            let mut checkpoint = new(name);
            if name == "failed" {
                let volume = Some(LocalReference { name: "lost".into() });
                checkpoint.status = Some(sparks_api::CheckpointStatus { volume, ..Default::default() });
            }
            let seen = checkpoint::Observed {
                checkpoint: Known::of(checkpoint.clone()).unwrap(),
                spark,
                source: source.clone(),
                volume: own.clone(),
                now: Timestamp::UNIX_EPOCH,
            };
            Checkpoint { status: checkpoint::plan(&seen).status, ..checkpoint }
        };
    let api = || Some(api.clone());
    vec![
        ("waiting-for-its-spark", planned("waiting-for-its-spark", None, &None, &None)),
        ("pending", planned("pending", api(), &volume, &None)),
        ("ready", planned("ready", api(), &volume, &volume)),
        ("failed", planned("failed", api(), &volume, &None)),
    ]
}

fn pools() -> Vec<(&'static str, SparkPool)> {
    let planned = |seen: pool::Observed| {
        let status = pool::plan(&seen).status;
        SparkPool { status, ..(*seen.pool).clone() }
    };
    let nowhere = pool::Observed { nodes: vec![], ..pool::tests::observed(3, 0) };
    vec![
        ("ready", planned(pool::tests::observed(0, 0))),
        ("starting", planned(pool::tests::observed(3, 1))),
        ("waiting-for-a-node", planned(nowhere)),
    ]
}

/// As the API server shows it, without what nobody judges by.
fn shown<K: Resource<DynamicType = ()> + Serialize>(name: &str, object: &K) -> Value {
    let object = json!(object);
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "generation": 1},
        "status": object["status"],
    })
}

/// Those of one kind, with one that nobody has seen and one that is being deleted.
fn of_kind<K: Resource<DynamicType = ()> + Serialize>(all: &[(&'static str, K)]) -> Vec<Value> {
    let mut shown: Vec<_> = all.iter().map(|(name, object)| self::shown(name, object)).collect();
    // Whatever is as declared is so no longer.
    let settled = |one: &&Value| one["status"]["conditions"][0]["status"] == "True";
    let ready = shown.iter().find(settled).unwrap().clone();
    let mut unseen = ready.clone();
    unseen["metadata"]["name"] = "unseen".into();
    unseen["status"] = json!({"observedGeneration": -1});
    let mut deleted = ready.clone();
    deleted["metadata"]["name"] = "deleted".into();
    deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let mut changed = ready;
    changed["metadata"]["name"] = "changed".into();
    changed["metadata"]["generation"] = 2.into();
    shown.extend([unseen, deleted, changed]);
    shown
}

#[test]
fn the_objects_that_others_judge_are_those_that_are_planned() {
    let items =
        [of_kind(&spark::phase_tests::objects()), of_kind(&checkpoints()), of_kind(&pools())].concat();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let text = format!("{}\n", serde_json::to_string_pretty(&list).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let there = std::fs::read_to_string(FILE).unwrap();
    assert!(there == text, "tests/kstatus/objects.json is out of date: UPDATE=1 cargo test -p sparks-plan");
}
