use std::sync::Arc;

use serde_json::json;
use sparks_host::pool::{self, Disk, DiskSource};
use sparks_proto::ServiceState;
use tokio::time::Instant;

use super::{super::memory::Attach, super::plan::SourceState, *};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn volume(service: bool) -> Volume {
    let service = if service { json!({"command": ["x"]}) } else { json!(null) };
    serde_json::from_value(json!({
        "apiVersion": "sparks.loop.work/v1alpha1", "kind": "Volume",
        "metadata": {"name": "v", "namespace": "a", "uid": "u", "generation": 3},
        "spec": {
            "nodeName": "n", "disks": [{"name": "root", "mountPath": "/", "size": "1Gi"}],
            "attachment": {"podName": "p", "podUid": "pu", "hostname": "api", "service": service},
        },
    }))
    .expect("a Volume")
}

fn observed(guest: GuestView) -> Observed {
    let root = Disk {
        name: "root".into(),
        subvol_id: 256,
        limit_bytes: Some(1 << 30),
        read_only: false,
        source: DiskSource::Empty,
        inherited_bytes: 500 << 20,
    };
    let meta = json!({"createdAt": "1970-01-01T00:00:05.123Z"});
    Observed {
        disks: Some(Arc::new(pool::Volume { uid: "u".into(), disks: vec![root], meta })),
        source: SourceState::Empty,
        pod: PodState::Running("c".into(), Box::new(guest)),
        others: vec![],
        rival: None,
        computer: Ok(Default::default()),
        quiescing: None,
    }
}

fn standing(service: Option<ServiceState>) -> GuestView {
    GuestView { standing: Some(Standing::Volume("u".into())), connected: true, service, ..Default::default() }
}

fn describe_new(volume: &Volume, observed: &Observed, blocked: &[Blocked]) -> VolumeStatus {
    describe(volume, &VolumeStatus::default(), observed, &Memory::default(), blocked, NOW)
}

fn usage(exclusive: u64) -> Memory {
    let usage = pool::DiskUsage {
        disk: "root".into(),
        referenced_bytes: (500 << 20) + exclusive,
        exclusive_bytes: exclusive,
        limit_bytes: Some(1 << 30),
    };
    Memory { usage: vec![usage], ..Default::default() }
}

#[test]
fn an_attached_volume_names_its_pod_and_container() {
    let status = describe_new(&volume(false), &observed(standing(None)), &[]);
    assert_eq!((status.phase, status.observed_generation), (VolumePhase::Attached, Some(3)));
    let attached = status.attached.expect("attached");
    assert_eq!(
        (attached.pod_name.as_str(), attached.pod_uid.as_str(), attached.container_id.as_str()),
        ("p", "pu", "c")
    );
    assert!(attached.service_ready, "without a service it is ready");
    assert!(is_true(&status.conditions, PROVISIONED) && is_true(&status.conditions, ATTACHED));
    assert_eq!(status.created_at.expect("made").0.as_second(), 5);
    assert_eq!((status.disks[0].referenced_bytes, status.disks[0].limit_bytes), (500 << 20, 1 << 30));
}

#[test]
fn a_service_is_as_ready_as_its_guest_says() {
    let state = ServiceState { ready: false, restarts: 2, message: Some("it exited".into()) };
    let attached =
        describe_new(&volume(true), &observed(standing(Some(state))), &[]).attached.expect("attached");
    assert_eq!((attached.service_ready, attached.service_restarts), (false, 2));
    assert_eq!(attached.service_message.as_deref(), Some("it exited"));
}

#[test]
fn what_the_guest_said_stays_while_it_cannot_be_asked() {
    let state = ServiceState { ready: true, restarts: 0, message: None };
    let old = describe_new(&volume(true), &observed(standing(Some(state))), &[]);
    let silent = GuestView { connected: false, ..standing(None) };
    let new = describe(&volume(true), &old, &observed(silent), &Memory::default(), &[], NOW);
    assert_eq!(new, old);
}

#[test]
fn a_volume_without_a_pod_has_no_attached_condition() {
    let attached = describe_new(&volume(false), &observed(standing(None)), &[]);
    let mut stopped = volume(false);
    stopped.spec.attachment = None;
    let nowhere = Observed { pod: PodState::Unwanted, ..observed(standing(None)) };
    let status = describe(&stopped, &attached, &nowhere, &Memory::default(), &[], NOW);
    assert_eq!((status.phase, status.attached.is_none()), (VolumePhase::Ready, true));
    assert!(find(&status.conditions, ATTACHED).is_none());
    let still = Observed { others: vec!["c".into()], ..nowhere };
    let status = describe(&stopped, &attached, &still, &Memory::default(), &[], NOW);
    assert_eq!(status.attached, attached.attached, "it stays attached until the container is gone");
}

#[test]
fn obstacles_are_told_in_their_condition() {
    let warm = GuestView { standing: Some(Standing::Image), ..standing(None) };
    let unsafe_root = Blocked::new(ATTACHED, Reason::UnsafeRoot, "/etc is a link");
    let status = describe_new(&volume(false), &observed(warm), &[unsafe_root]);
    assert_eq!(
        (status.phase, sparks_api::conditions::class(&status.conditions)),
        (VolumePhase::Failed, Some(Class::Stalled))
    );
    let condition = find(&status.conditions, ATTACHED).expect("told");
    assert_eq!((condition.status.as_str(), condition.message.as_str()), ("False", "/etc is a link"));
    assert!(is_true(&status.conditions, PROVISIONED));

    let small = Blocked::new(RESIZED, Reason::SizeTooSmall, "too small");
    let status = describe_new(&volume(false), &observed(standing(None)), &[small]);
    assert_eq!(status.phase, VolumePhase::Attached, "a size that can't be set stops nobody");
    assert_eq!(sparks_api::conditions::class(&status.conditions), None);
    assert_eq!(
        find(&status.conditions, RESIZED).map(|c| Reason::from(&*c.reason)),
        Some(Reason::SizeTooSmall)
    );
    let later = describe(&volume(false), &status, &observed(standing(None)), &Memory::default(), &[], NOW);
    assert!(find(&later.conditions, RESIZED).is_none());
}

#[test]
fn small_changes_of_usage_are_not_told() {
    let told = describe(
        &volume(false),
        &VolumeStatus::default(),
        &observed(standing(None)),
        &usage(100 << 20),
        &[],
        NOW,
    );
    let after = |bytes| {
        describe(&volume(false), &told, &observed(standing(None)), &usage(bytes), &[], NOW).disks[0]
            .exclusive_bytes
    };
    assert_eq!(after((100 << 20) + 4096), 100 << 20);
    assert_eq!(after(120 << 20), 120 << 20);
}

#[test]
fn the_service_time_counts_from_the_attach_and_is_kept() {
    let at = Instant::now();
    let attach = Attach { container: "c".into(), at, micros: 350, service_micros: None };
    let mut memory = Memory { attach: Some(attach), snapshot_micros: Some(4000), ..Default::default() };
    let ready = GuestView { ready_at: Some(at + Duration::from_millis(7)), ..standing(None) };
    note_ready(&mut memory, Some(("c", &ready)));
    let later = GuestView { ready_at: Some(at + Duration::from_secs(9)), ..ready };
    note_ready(&mut memory, Some(("c", &later)));
    let timings = describe(&volume(true), &VolumeStatus::default(), &observed(later), &memory, &[], NOW)
        .timings
        .expect("timed");
    assert_eq!(
        (timings.snapshot_micros, timings.attach_micros, timings.service_micros),
        (Some(4000), Some(350), Some(7000))
    );
}

#[test]
fn what_a_guest_says_is_written_at_most_once_a_second() {
    let ready = |ready| Some(ServiceState { ready, restarts: 0, message: None });
    let old = describe_new(&volume(true), &observed(standing(ready(true))), &[]);
    let new = describe_new(&volume(true), &observed(standing(ready(false))), &[]);
    let ago = |ms| Some((Duration::from_millis(ms), 0));
    assert_eq!(decide(&old, &old, ago(0), None), Decision::Same);
    assert_eq!(decide(&old, &new, ago(300), None), Decision::Later(Duration::from_millis(700)));
    assert_eq!(decide(&old, &new, ago(1300), None), Decision::Now);
}

#[test]
fn a_change_of_phase_and_the_first_readiness_are_written_at_once() {
    let ago = Some((Duration::from_millis(1), 0));
    let warm = GuestView { standing: Some(Standing::Image), ..standing(None) };
    let (old, new) = (
        describe_new(&volume(true), &observed(warm), &[]),
        describe_new(&volume(true), &observed(standing(None)), &[]),
    );
    assert_eq!(decide(&old, &new, ago, None), Decision::Now);
    let timed = VolumeTimings { service_micros: Some(5), ..Default::default() };
    let ready = VolumeStatus { timings: Some(timed), ..new.clone() };
    assert_eq!(decide(&new, &ready, ago, None), Decision::Now);
}

#[test]
fn a_guest_that_makes_everything_change_all_the_time_is_slowed_down() {
    let warm = GuestView { standing: Some(Standing::Image), ..standing(None) };
    let (old, new) = (
        describe_new(&volume(true), &observed(warm), &[]),
        describe_new(&volume(true), &observed(standing(None)), &[]),
    );
    assert!(matches!(
        decide(&old, &new, Some((Duration::from_millis(1), MAX_BURST)), None),
        Decision::Later(_)
    ));
}

#[test]
fn nothing_is_written_while_the_service_may_still_become_ready() {
    let new = describe_new(&volume(true), &observed(standing(None)), &[]);
    let hold = Duration::from_millis(400);
    assert_eq!(decide(&VolumeStatus::default(), &new, None, Some(hold)), Decision::Later(hold));
}

#[test]
fn an_obstacle_is_an_event_once() {
    let blocked = [Blocked::new(PROVISIONED, Reason::PoolFull, "full")];
    let nothing = Observed { disks: None, ..observed(standing(None)) };
    let full = describe_new(&volume(false), &nothing, &blocked);
    assert_eq!(news(&VolumeStatus::default(), &full), [(Reason::PoolFull, true, "full".into())]);
    assert_eq!(news(&full, &full), []);
}

#[test]
fn an_idle_time_is_shown_once_it_lasted_as_long_as_the_attachment_says() {
    let at = |second| Timestamp::from_second(second).expect("a time");
    let idle = GuestView { idle_since: Some(at(100)), ..standing(None) };
    for (asked, now, shows_in) in
        [(None, 129, Some(1)), (None, 130, None), (Some(5), 104, Some(1)), (Some(5), 105, None)]
    {
        let mut volume = volume(false);
        volume.spec.attachment.as_mut().expect("one").idle_shown_after_seconds = asked;
        let observed = observed(idle.clone());
        let status = describe(&volume, &VolumeStatus::default(), &observed, &Memory::default(), &[], at(now));
        let shown = status.attached.expect("attached").idle_since;
        assert_eq!(shown.is_some(), shows_in.is_none(), "{asked:?} at {now}");
        let again = idle_shows_in(&volume, target(&volume, &observed), at(now));
        assert_eq!(again, shows_in.map(Duration::from_secs), "{asked:?} at {now}");
    }
}

#[test]
fn a_usage_is_told_when_it_moved_by_a_hundredth_but_not_for_a_few_blocks() {
    let disk =
        |bytes: i64| DiskUsage { referenced_bytes: 1 << 30, exclusive_bytes: bytes, ..DiskUsage::default() };
    let (mib, gib) = (1 << 20, 1 << 30);
    for (before, now, told) in [
        (0, 4096, false),
        (0, mib, false),
        (0, mib + 1, true),
        (mib, 0, false),
        (gib, gib + 10 * mib, false),
        (gib, gib + 11 * mib, true),
        (100 * gib, 100 * gib + 17 * mib, true),
    ] {
        assert_eq!(moved(&disk(before), &disk(now)), told, "{before} to {now}");
    }
}
