//! Names of derived objects: functions of what they derive from, so that making them twice is making them once.

use sha2::{Digest, Sha256};
use sparks_api::Restore;

/// Hexadecimal digits of a digest that go into a name.
const DIGITS: usize = 10;

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Key of an imported image in a node's pool. It holds the namespace, because only a pull from that namespace proves
/// that its tenants may read the image.
#[must_use]
pub fn image_key(namespace: &str, reference: &str) -> String {
    digest(&[namespace, reference])[..32].to_owned()
}

/// Name of the pod that mounts an image on one node for its import.
#[must_use]
pub fn import_pod(key: &str, node: &str) -> String {
    format!("import-{}", &digest(&[key, node])[..DIGITS])
}

/// Name of the Volume that a Spark or Checkpoint begins with.
#[must_use]
pub fn volume(owner: &str, uid: &str) -> String {
    format!("{owner}-{}", &digest(&[uid])[..DIGITS])
}

/// Name of the Volume that a restore makes.
#[must_use]
pub fn restored_volume(owner: &str, uid: &str, restore: &Restore) -> String {
    format!(
        "{owner}-{}",
        &digest(&[uid, &restore.checkpoint, restore.id.as_deref().unwrap_or_default()])[..DIGITS]
    )
}

/// Name of the pod of a Spark that found no warm one.
#[must_use]
pub fn cold_pod(spark: &str, uid: &str) -> String {
    format!("{spark}-{}", &digest(&[uid, "pod"])[..DIGITS])
}

/// What [`sparks_api::AttachedSsh::sealed_to`] says for this host key, sealed to this key of a node agent.
#[must_use]
pub fn sealed_to(host_key: &str, agent_key: &str) -> String {
    digest(&[host_key, agent_key])[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_imported_anew_for_each_namespace() {
        assert_ne!(image_key("a", "debian"), image_key("b", "debian"));
        assert_ne!(image_key("a", "bc"), image_key("ab", "c"), "the parts must not run together");
    }

    #[test]
    fn each_restore_has_a_volume_of_its_own() {
        let restore = |id: Option<&str>| Restore { checkpoint: "c".into(), id: id.map(Into::into) };
        let names = [
            volume("api", "uid"),
            restored_volume("api", "uid", &restore(None)),
            restored_volume("api", "uid", &restore(Some("2"))),
        ];
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
    }

    #[test]
    fn names_of_the_longest_sparks_fit_into_a_label() {
        assert!(volume(&"x".repeat(50), "uid").len() <= 63 && cold_pod(&"x".repeat(50), "uid").len() <= 63);
    }
}
