//! What kstatus (Flux, `helm --wait`) and Argo CD think of an object in each phase, as src/plan writes it and its
//! controller leaves it.
//!
//! `make/kstatus` builds the program of this folder that asks them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sparks_tests::verdicts;

/// A phase, the word of kstatus, and that of Argo CD.
type Row = (&'static str, &'static str, &'static str);

/// Each kind's phases.
const TABLE: [(&str, &[Row]); 4] = [
    (
        "Spark",
        &[
            ("changed", "InProgress", "Progressing"),
            ("deleted", "Terminating", "Progressing"),
            ("expired", "InProgress", "Progressing"),
            ("failed", "Failed", "Degraded"),
            ("falling-asleep", "InProgress", "Progressing"),
            ("pending", "InProgress", "Progressing"),
            ("running", "Current", "Healthy"),
            ("sleeping", "Current", "Suspended"),
            ("starting", "InProgress", "Progressing"),
            ("starting-its-service", "InProgress", "Progressing"),
            ("stopped", "Current", "Suspended"),
            ("stopping", "InProgress", "Progressing"),
            ("unseen", "InProgress", "Progressing"),
            ("waiting-for-a-node", "InProgress", "Progressing"),
        ],
    ),
    (
        "Checkpoint",
        &[
            ("changed", "InProgress", "Progressing"),
            ("deleted", "Terminating", "Progressing"),
            ("failed", "Failed", "Degraded"),
            ("pending", "InProgress", "Progressing"),
            ("ready", "Current", "Healthy"),
            ("unseen", "InProgress", "Progressing"),
            ("waiting-for-its-spark", "InProgress", "Progressing"),
        ],
    ),
    (
        "SparkPool",
        &[
            ("changed", "InProgress", "Progressing"),
            ("deleted", "Terminating", "Progressing"),
            ("ready", "Current", "Healthy"),
            ("starting", "InProgress", "Progressing"),
            ("unseen", "InProgress", "Progressing"),
            ("waiting-for-a-node", "InProgress", "Progressing"),
        ],
    ),
    (
        "Volume",
        &[
            ("attached", "Current", "Healthy"),
            ("attaching", "InProgress", "Progressing"),
            ("failed", "Failed", "Degraded"),
            ("unseen", "InProgress", "Progressing"),
        ],
    ),
];

fn expected() -> BTreeMap<(String, String), (String, String)> {
    let rows = TABLE.iter().flat_map(|(kind, rows)| rows.iter().map(move |row| (kind, row)));
    rows.map(|(kind, (name, kstatus, health))| {
        (((*kind).into(), (*name).into()), ((*kstatus).into(), (*health).into()))
    })
    .collect()
}

/// A Volume as the node agent leaves it.
fn volume(name: &str, generation: i64, conditions: &[(&str, &str)]) -> Value {
    let told = |(kind, status): &(&str, &str)| json!({"type": kind, "status": status, "reason": "X"});
    json!({
        "apiVersion": "sparks.loop.work/v1alpha1", "kind": "Volume",
        "metadata": {"name": name, "generation": 1},
        "status": {
            "observedGeneration": generation,
            "conditions": conditions.iter().map(told).collect::<Vec<_>>(),
        },
    })
}

#[test]
fn each_kind_is_judged_rightly_in_each_phase() {
    let mut list: Value = serde_json::from_str(include_str!("objects.json")).unwrap();
    let volumes = [
        volume("attached", 1, &[("Provisioned", "True"), ("Attached", "True")]),
        volume("attaching", 1, &[("Provisioned", "True"), ("Attached", "False"), ("Reconciling", "True")]),
        volume("failed", 1, &[("Provisioned", "False"), ("Stalled", "True")]),
        volume("unseen", -1, &[]),
    ];
    list["items"].as_array_mut().unwrap().extend(volumes);
    let said: BTreeMap<_, _> = verdicts(&list.to_string()).into_iter().collect();
    assert_eq!(said, expected());
}
