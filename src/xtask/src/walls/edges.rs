//! Which room may import which, from `cargo metadata`.

use std::{path::Path, process::Command};

use anyhow::Context as _;
use serde_json::Value;

/// One room and the walls around it.
struct Room {
    package: &'static str,
    /// Rooms that it may import. All others are forbidden, in its tests too.
    rooms: &'static [&'static str],
    /// Crates that it may not import, its tests excepted.
    never: &'static [&'static str],
    /// Whether it may talk to an API server: kube with more than the types.
    client: bool,
}

/// A package that is missing here fails the check, so that a new room gets its walls on its first day.
const ROOMS: [Room; 14] = [
    Room { package: "sparks-api", rooms: &[], never: &["tokio"], client: false },
    Room {
        package: "sparks-plan",
        rooms: &["sparks-api"],
        never: &["tokio", "rand", "getrandom"],
        client: false,
    },
    Room { package: "sparks-ssh", rooms: &[], never: &["kube", "k8s-openapi"], client: false },
    Room { package: "sparks-ops", rooms: &[], never: &[], client: true },
    Room {
        package: "sparks-controller",
        rooms: &["sparks-api", "sparks-plan", "sparks-ops"],
        never: &[],
        client: true,
    },
    Room { package: "sparks-host", rooms: &[], never: &["kube", "k8s-openapi"], client: false },
    Room {
        package: "sparks-node",
        rooms: &["sparks-api", "sparks-plan", "sparks-host", "sparks-ops", "sparks-proto"],
        never: &[],
        client: true,
    },
    Room { package: "sparks-proto", rooms: &[], never: &["kube", "k8s-openapi"], client: false },
    Room {
        package: "sparks-guest",
        rooms: &["sparks-proto", "sparks-ssh"],
        never: &["kube", "k8s-openapi"],
        client: false,
    },
    Room {
        package: "sparks-gateway",
        rooms: &["sparks-api", "spark-client", "sparks-ops", "sparks-ssh"],
        never: &[],
        client: true,
    },
    Room { package: "spark-client", rooms: &["sparks-api"], never: &[], client: true },
    Room { package: "sparks-cli", rooms: &["sparks-api", "spark-client"], never: &[], client: true },
    // It plays the whole in memory: tests/flow.
    Room {
        package: "sparks-tests",
        rooms: &[
            "sparks-api",
            "spark-client",
            "sparks-controller",
            "sparks-host",
            "sparks-node",
            "sparks-ops",
            "sparks-plan",
            "sparks-proto",
        ],
        never: &[],
        client: true,
    },
    Room { package: "xtask", rooms: &["sparks-api"], never: &["tokio"], client: false },
];

/// Crates that one room alone may import, in tests too: the others have what it makes of them.
const ONE_ROOM_EACH: [(&str, &str); 1] = [("russh", "sparks-ssh")];

/// Features of kube that bring no client with them.
const TYPES_ONLY: [&str; 3] = ["derive", "admission", "jsonpatch"];

/// All forbidden edges of the workspace, each as a sentence.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    Ok(array(&metadata["packages"]).flat_map(package).collect())
}

fn package(package: &Value) -> Vec<String> {
    let name = text(&package["name"]);
    let Some(room) = ROOMS.iter().find(|r| r.package == name) else {
        return vec![format!("{name} has no walls: give it a row in src/xtask/src/walls/edges.rs")];
    };
    array(&package["dependencies"]).filter_map(|dependency| edge(room, dependency)).collect()
}

/// What is wrong with one dependency, if anything is.
fn edge(room: &Room, dependency: &Value) -> Option<String> {
    let (name, target) = (room.package, text(&dependency["name"]));
    let is_room = dependency["path"].is_string();
    if is_room {
        return (!room.rooms.contains(&target)).then(|| format!("{name} must not import the room {target}"));
    }
    if let Some((_, owner)) = ONE_ROOM_EACH.iter().find(|(one, owner)| *one == target && *owner != name) {
        return Some(format!("{name} must not import {target}: that is {owner}'s"));
    }
    if dependency["kind"] == "dev" {
        return None;
    }
    if room.never.contains(&target) {
        return Some(format!("{name} must not import {target}"));
    }
    if target == "kube" && !room.client {
        if dependency["uses_default_features"] == true {
            return Some(format!(
                "{name} must import kube with default-features = false: the default has a client"
            ));
        }
        let extra: Vec<_> =
            array(&dependency["features"]).map(text).filter(|f| !TYPES_ONLY.contains(f)).collect();
        if !extra.is_empty() {
            return Some(format!(
                "{name} must import only the types of kube, not its features {}",
                extra.join(", ")
            ));
        }
    }
    None
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn broken(name: &str, dependency: Value) -> Vec<String> {
        package(&json!({"name": name, "dependencies": [dependency]}))
    }

    #[test]
    fn a_room_may_import_only_the_rooms_in_its_row() {
        assert!(broken("sparks-plan", json!({"name": "sparks-api", "path": "/a"})).is_empty());
        assert_eq!(
            broken("sparks-controller", json!({"name": "sparks-host", "path": "/a"})),
            ["sparks-controller must not import the room sparks-host"]
        );
        assert_eq!(
            broken("sparks-node", json!({"name": "sparks-host", "path": "/a", "kind": "dev"})).len(),
            0
        );
        assert_eq!(
            broken("sparks-plan", json!({"name": "sparks-host", "path": "/a", "kind": "dev"})).len(),
            1
        );
    }

    #[test]
    fn a_pure_room_gets_the_types_of_kube_and_no_client() {
        let kube = |features: Value, default: bool| json!({"name": "kube", "features": features, "uses_default_features": default});
        assert!(broken("sparks-plan", kube(json!(["derive"]), false)).is_empty());
        assert_eq!(broken("sparks-plan", kube(json!(["derive", "client"]), false)).len(), 1);
        assert_eq!(broken("sparks-plan", kube(json!([]), true)).len(), 1);
        assert!(broken("sparks-controller", kube(json!(["client"]), true)).is_empty());
    }

    #[test]
    fn a_forbidden_crate_is_allowed_in_tests_only() {
        assert_eq!(broken("sparks-api", json!({"name": "tokio"})).len(), 1);
        assert!(broken("sparks-api", json!({"name": "tokio", "kind": "dev"})).is_empty());
    }

    #[test]
    fn what_one_room_alone_may_import_no_other_one_imports_in_its_tests_either() {
        assert!(broken("sparks-ssh", json!({"name": "russh"})).is_empty());
        assert_eq!(
            broken("sparks-gateway", json!({"name": "russh", "kind": "dev"})),
            ["sparks-gateway must not import russh: that is sparks-ssh's"]
        );
    }

    #[test]
    fn a_package_without_a_row_is_reported() {
        assert_eq!(broken("sparks-new", json!({"name": "serde"})).len(), 1);
    }
}
