//! The trash: Sparks that were deleted and can be taken back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sparks_api::{Spark, SparkSpec, Volume, labels};

use crate::{Error, FIELD_MANAGER, Result, Sparks};

/// A deleted Spark whose disks are still there.
#[derive(Clone, Debug, PartialEq)]
pub struct Trashed {
    /// Name that the Spark had.
    pub name: String,
    /// Uid that the Spark had.
    pub uid: String,
    /// When it was deleted.
    pub trashed_at: Option<Timestamp>,
    /// When its disks are removed.
    pub deadline: Option<Timestamp>,
    /// Node that holds the disks.
    pub node: String,
    /// Bytes that only these disks hold.
    pub exclusive_bytes: i64,
    /// The Volume.
    pub volume: String,
    /// The spec, as JSON.
    saved_spec: Option<String>,
}

impl Trashed {
    fn of(volume: &Volume) -> Option<Self> {
        let label = |key: &str| volume.labels().get(key).cloned();
        let annotations = volume.annotations();
        Some(Self {
            name: label(labels::OWNER_NAME)?,
            uid: label(labels::OWNER_UID)?,
            trashed_at: volume.spec.trashed_at.as_ref().map(|time| time.0),
            deadline: annotations.get(labels::TRASH_DEADLINE).and_then(|text| text.parse().ok()),
            node: volume.spec.node_name.clone(),
            exclusive_bytes: volume.status.iter().flat_map(|s| &s.disks).map(|d| d.exclusive_bytes).sum(),
            volume: volume.name_any(),
            saved_spec: annotations.get(labels::SAVED_SPEC).cloned(),
        })
    }
}

impl Sparks {
    /// The deleted Sparks of this namespace, the latest first.
    ///
    /// # Errors
    /// What the API server refuses.
    pub async fn trashed(&self) -> Result<Vec<Trashed>> {
        let selector = format!("{}=true,{}=Spark", labels::TRASHED, labels::OWNER_KIND);
        let volumes: Vec<Volume> = self.list_objects(&selector).await?;
        let now = Timestamp::now();
        // What is being removed already can't be taken back.
        let kept = volumes.iter().filter(|volume| volume.metadata.deletion_timestamp.is_none());
        let mut found: Vec<Trashed> = kept.filter_map(Trashed::of).collect();
        found.retain(|trashed| trashed.deadline.is_none_or(|deadline| deadline > now));
        found.sort_by_key(|trashed| std::cmp::Reverse(trashed.trashed_at));
        Ok(found)
    }

    /// Takes a deleted Spark back: the latest of that name, or the one of that uid; under a new name if `new_name` is
    /// given.
    ///
    /// # Errors
    /// [`Error::NothingTrashed`], [`Error::AlreadyExists`] and whatever the API server refuses.
    pub async fn undelete(&self, name: &str, uid: Option<&str>, new_name: Option<&str>) -> Result<Spark> {
        let trashed = self.trashed().await?;
        let found = choose(&trashed, name, uid)
            .ok_or_else(|| Error::NothingTrashed { name: name.into(), namespace: self.namespace.clone() })?;
        let spec = restored_spec(found)?;
        let mut metadata = self.metadata(new_name.unwrap_or(name).into());
        metadata.annotations = Some(BTreeMap::from([(labels::UNDELETE.into(), found.uid.clone())]));
        self.create_object(Spark { metadata, spec, status: None }).await
    }

    /// Lets the disks of a deleted Spark be removed now. Says whether the trash held them already.
    ///
    /// # Errors
    /// What the API server refuses.
    pub async fn purge(&self, uid: &str) -> Result<bool> {
        let trashed = self.trashed().await?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        let mut any = false;
        for found in trashed.iter().filter(|trashed| trashed.uid == uid) {
            // In the past by the controller's clock as well, which this one may be ahead of.
            let deadline = found.trashed_at.unwrap_or_else(Timestamp::now).to_string();
            let patch = json!({"metadata": {"annotations": {labels::TRASH_DEADLINE: deadline}}});
            let patched = self.api::<Volume>().patch(&found.volume, &params, &Patch::Merge(&patch)).await;
            patched.map_err(|error| self.subject::<Volume>(&found.volume).error(error))?;
            any = true;
        }
        Ok(any)
    }
}

/// The one to take back. `trashed` has the latest first.
fn choose<'a>(trashed: &'a [Trashed], name: &str, uid: Option<&str>) -> Option<&'a Trashed> {
    trashed.iter().find(|t| t.name == name && t.saved_spec.is_some() && uid.is_none_or(|uid| uid == t.uid))
}

/// The spec to create again, without the restore that was done long ago and would be done again.
fn restored_spec(trashed: &Trashed) -> Result<SparkSpec> {
    let text = trashed.saved_spec.as_deref().unwrap_or_default();
    let mut spec: SparkSpec = serde_json::from_str(text)
        .map_err(|source| Error::SavedSpec { name: trashed.name.clone(), source })?;
    spec.restore = None;
    Ok(spec)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn trashed(name: &str, uid: &str) -> Trashed {
        Trashed {
            name: name.into(),
            uid: uid.into(),
            trashed_at: None,
            deadline: None,
            node: "n".into(),
            exclusive_bytes: 0,
            volume: "v".into(),
            saved_spec: Some(r#"{"image": "debian", "restore": {"checkpoint": "c", "id": "1"}}"#.into()),
        }
    }

    #[test]
    fn the_latest_of_a_name_is_taken_unless_a_uid_is_given() {
        let all = [trashed("b", "3"), trashed("a", "2"), trashed("a", "1")];
        assert_eq!(choose(&all, "a", None).unwrap().uid, "2");
        assert_eq!(choose(&all, "a", Some("1")).unwrap().uid, "1");
        assert_eq!(choose(&all, "c", None), None);
    }

    #[test]
    fn an_undeleted_spark_is_not_restored_to_a_checkpoint_again() {
        let spec = restored_spec(&trashed("a", "1")).unwrap();
        assert_eq!((spec.image.as_deref(), spec.restore), (Some("debian"), None));
    }
}
