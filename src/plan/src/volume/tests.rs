//! The rules of what nobody owns any more.

#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use sparks_api::{VolumeSource, VolumeSpec};

use super::*;

fn observed() -> Observed {
    let spec = VolumeSpec {
        node_name: "n1".into(),
        source: VolumeSource::default(),
        disks: vec![],
        read_only: false,
        attachment: None,
        trashed_at: None,
    };
    let mut volume = Volume::new("api-1", spec);
    (volume.metadata.namespace, volume.metadata.uid) = (Some("team".into()), Some("v".into()));
    Observed {
        volume: Known::of(volume).unwrap(),
        owner_exists: true,
        node_exists: true,
        import_pod: None,
        import_wanted_by_others: false,
        retention: Duration::from_secs(60),
        template: Template::default(),
        now: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn what_has_an_owner_is_left_alone() {
    assert!(plan(&observed()).actions.is_empty());
}

#[test]
fn what_nobody_owns_goes_into_the_trash_and_is_deleted_when_its_time_there_is_over() {
    let mut seen = observed();
    seen.owner_exists = false;
    let planned = plan(&seen);
    let [Action::Abandon(trashed)] = planned.actions.as_slice() else { panic!("{planned:?}") };
    seen.volume = seen.volume.with((**trashed).clone());
    let waiting = plan(&seen);
    assert_eq!((waiting.actions.len(), waiting.again), (0, Some(Duration::from_secs(60))));
    seen.now = Timestamp::from_second(60).unwrap();
    assert!(matches!(plan(&seen).actions.as_slice(), [Action::DeleteVolume(_)]));
}

#[test]
fn the_finalizer_of_lost_data_is_dropped_only_when_its_node_left_the_cluster() {
    let mut seen = observed();
    let mut doomed = (*seen.volume).clone();
    doomed.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    doomed.metadata.finalizers = Some(vec!["sparks.loop.work/volume".into()]);
    seen.volume = seen.volume.with(doomed);
    assert!(plan(&seen).actions.is_empty());
    seen.node_exists = false;
    let planned = plan(&seen);
    assert!(matches!(planned.actions.as_slice(), [Action::UpdateVolume(v, _)] if v.finalizers().is_empty()));
}
