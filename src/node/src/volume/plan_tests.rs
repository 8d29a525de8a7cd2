use serde_json::json;
use sparks_host::pool::Disk;
use sparks_proto::Service;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const DAY: Duration = Duration::from_secs(86_400);
const UID: &str = "uid-1";

/// A Volume with a root of 20Gi; `more` is merged into its spec.
fn volume(more: serde_json::Value) -> Volume {
    let mut value = json!({
        "apiVersion": "sparks.loop.work/v1alpha1", "kind": "Volume",
        "metadata": {"name": "api-1", "namespace": "a", "uid": UID, "finalizers": [labels::VOLUME_FINALIZER]},
        "spec": {"nodeName": "n", "disks": [{"name": "root", "mountPath": "/", "size": "20Gi"}]},
    });
    for (key, part) in more.as_object().expect("a map") {
        value["spec"][key] = part.clone();
    }
    serde_json::from_value(value).expect("a Volume")
}

fn wanting() -> Volume {
    volume(json!({"attachment": {"podName": "p", "podUid": "pu", "hostname": "api"}}))
}

fn deleted(mut volume: Volume) -> Volume {
    volume.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
    volume
}

fn disks(limit: u64) -> Option<Arc<pool::Volume>> {
    let root = Disk {
        name: "root".into(),
        subvol_id: 256,
        limit_bytes: Some(limit),
        read_only: false,
        source: DiskSource::Empty,
        inherited_bytes: 0,
    };
    Some(Arc::new(pool::Volume { uid: UID.into(), disks: vec![root], meta: json!({}) }))
}

fn computer() -> Computer {
    Computer { hostname: "api".into(), service: None, ssh: None }
}

/// A Volume with its disks made, and the wanted pod's guest as given.
fn observed(guest: GuestView) -> Observed {
    Observed {
        disks: disks(20 << 30),
        source: SourceState::Empty,
        pod: PodState::Running("c".into(), Box::new(guest)),
        others: vec![],
        rival: None,
        computer: Ok(computer()),
        quiescing: None,
    }
}

fn guest(standing: Standing) -> GuestView {
    GuestView { standing: Some(standing), connected: true, ..Default::default() }
}

fn elsewhere() -> GuestView {
    guest(Standing::Volume("uid-0".into()))
}

fn ours() -> GuestView {
    guest(Standing::Volume(UID.into()))
}

/// The plan in short: the names of the steps, and the reasons of what stands in the way.
fn short(volume: &Volume, observed: &Observed) -> (Vec<&'static str>, Vec<Reason>) {
    let plan = plan(volume, observed, DAY, NOW);
    let steps = plan.steps.iter().map(|step| match step {
        Step::Create(_) => "create",
        Step::SetLimit { .. } => "limit",
        Step::Quiesce { .. } => "quiesce",
        Step::Attach { .. } => "attach",
        Step::Run { .. } => "run",
        Step::Trash { .. } => "trash",
        Step::RemoveFinalizer => "finalizer",
    });
    (steps.collect(), plan.blocked.iter().map(|blocked| blocked.reason.clone()).collect())
}

#[test]
fn each_state_of_the_pod_leads_to_its_steps() {
    let with = |change: fn(&mut Observed)| {
        let mut observed = observed(guest(Standing::Image));
        change(&mut observed);
        observed
    };
    let table: Vec<(&str, Observed, &[&str], Option<Reason>)> = vec![
        (
            "nothing is there yet: a fork is made and attached in one go",
            with(|o| o.disks = None),
            &["create", "attach", "run"],
            None,
        ),
        ("a warm pod", observed(guest(Standing::Image)), &["attach", "run"], None),
        ("the pod isn't known yet", with(|o| o.pod = PodState::Unseen), &[], Some(Reason::PodStarting)),
        (
            "the pod belongs to somebody else",
            with(|o| o.pod = PodState::Foreign),
            &[],
            Some(Reason::Attaching),
        ),
        ("the container starts", with(|o| o.pod = PodState::NotRunning), &[], Some(Reason::PodStarting)),
        ("the container was not looked at", observed(GuestView::default()), &[], Some(Reason::Attaching)),
        (
            "the guest isn't connected: it could not be told to run",
            observed(GuestView { connected: false, ..guest(Standing::Image) }),
            &[],
            Some(Reason::Attaching),
        ),
        (
            "another pod still runs in the disks",
            with(|o| o.others = vec!["old".into()]),
            &[],
            Some(Reason::PodTerminating),
        ),
        (
            "the environment can't be opened",
            with(|o| o.computer = Err("no".into())),
            &[],
            Some(Reason::HostError),
        ),
        ("it runs as it should", observed(GuestView { running: Some(computer()), ..ours() }), &[], None),
        ("the agent died between attach and run", observed(ours()), &["run"], None),
        (
            "the service changed",
            observed(GuestView {
                running: Some(Computer { hostname: "old".into(), service: None, ssh: None }),
                ..ours()
            }),
            &["run"],
            None,
        ),
        (
            "it runs and can't be asked just now: it is left alone",
            observed(GuestView { connected: false, ..ours() }),
            &[],
            None,
        ),
        (
            "a restore: the old root is let go of first",
            observed(elsewhere()),
            &["quiesce"],
            Some(Reason::Attaching),
        ),
        (
            "a restore: the guest let go",
            observed(GuestView { quiesced: true, ..elsewhere() }),
            &["attach", "run"],
            None,
        ),
    ];
    for (name, observed, steps, reason) in table {
        assert_eq!(short(&wanting(), &observed), (steps.to_vec(), Vec::from_iter(reason)), "{name}");
    }
}

#[test]
fn a_pod_is_not_taken_from_a_volume_that_still_wants_it() {
    let observed =
        Observed { rival: Some("api-0".into()), ..observed(GuestView { quiesced: true, ..elsewhere() }) };
    assert_eq!(short(&wanting(), &observed), (vec![], vec![Reason::Attaching]));
}

#[test]
fn a_guest_that_does_not_quiesce_is_told_again_only_after_its_grace() {
    let service = Service { grace_seconds: 20, ..Default::default() };
    let running = Some(Computer { hostname: "api".into(), service: Some(service), ssh: None });
    let after = |seconds| Observed {
        quiescing: Some(Duration::from_secs(seconds)),
        ..observed(GuestView { running: running.clone(), ..elsewhere() })
    };
    assert_eq!(short(&wanting(), &after(29)), (vec![], vec![Reason::Attaching]));
    assert_eq!(short(&wanting(), &after(31)), (vec!["quiesce"], vec![Reason::HostError]));
}

#[test]
fn disks_are_made_from_their_source_and_the_rest_starts_empty() {
    let two = json!([{"name": "root", "mountPath": "/", "size": "1Gi"}, {"name": "data", "mountPath": "/data", "size": "2Gi"}]);
    let image = json!({"image": {"reference": "debian", "key": "k"}});
    let from = json!({"volume": {"namespace": "a", "name": "v", "uid": "u0"}});
    let root_from_image = DiskSource::Image { key: "k".into() };
    let of = |disk: &str| DiskSource::Volume { uid: "u0".into(), disk: disk.into() };
    let both = SourceState::Volume(vec!["root".into(), "data".into()]);
    let root = SourceState::Volume(vec!["root".into()]);
    let table = [
        (json!({}), SourceState::Empty, [DiskSource::Empty, DiskSource::Empty]),
        (image, SourceState::Image, [root_from_image, DiskSource::Empty]),
        (from.clone(), both, [of("root"), of("data")]),
        (from, root, [of("root"), DiskSource::Empty]),
    ];
    for (source, state, expected) in table {
        let volume = volume(json!({"source": source, "disks": two}));
        let observed = Observed { disks: None, source: state, pod: PodState::Unwanted, ..observed(ours()) };
        let plan = plan(&volume, &observed, DAY, NOW);
        let [Step::Create(request)] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
        assert_eq!(request.disks.iter().map(|disk| disk.source.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(
            request.disks.iter().map(|disk| disk.limit_bytes).collect::<Vec<_>>(),
            [Some(1 << 30), Some(2 << 30)]
        );
        assert_eq!((request.uid.as_str(), request.meta["name"].as_str()), (UID, Some("api-1")));
    }
}

#[test]
fn what_is_missing_is_told_and_waited_for() {
    let table = [
        (SourceState::ImageMissing(None), Reason::ImportingImage),
        (SourceState::ImageMissing(Some("it broke".into())), Reason::HostError),
        (SourceState::VolumeNotReady, Reason::SourceNotReady),
        (SourceState::VolumeMissing, Reason::SourceLost),
    ];
    for (source, reason) in table {
        let observed = Observed { disks: None, source, ..observed(guest(Standing::Image)) };
        let plan = plan(&wanting(), &observed, DAY, NOW);
        assert_eq!(plan.steps, []);
        assert_eq!(plan.blocked.iter().map(|b| &b.reason).collect::<Vec<_>>(), [&reason]);
    }
}

#[test]
fn a_changed_size_is_set_and_an_unchanged_one_is_not() {
    let resized = |limit| Observed { disks: disks(limit), pod: PodState::Unwanted, ..observed(ours()) };
    assert_eq!(short(&volume(json!({})), &resized(20 << 30)).0, Vec::<&str>::new());
    let plan = plan(&volume(json!({})), &resized(1 << 30), DAY, NOW);
    assert_eq!(plan.steps, [Step::SetLimit { disk: "root".into(), bytes: 20 << 30 }]);
}

#[test]
fn what_is_in_the_trash_is_not_attached_and_keeps_its_disks() {
    let mut trashed = wanting();
    trashed.spec.trashed_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
    assert_eq!(short(&trashed, &observed(guest(Standing::Image))), (vec![], vec![]));
}

#[test]
fn a_deleted_volume_goes_into_the_trash_once_nothing_runs_in_it() {
    let mut attached = observed(ours());
    attached.others = vec!["c".into()];
    assert_eq!(short(&deleted(wanting()), &attached), (vec![], vec![Reason::PodTerminating]));
    assert_eq!(short(&deleted(wanting()), &observed(ours())).0, ["trash", "finalizer"]);
}

#[test]
fn the_retention_counts_from_now_unless_the_volume_says_otherwise() {
    let deadline = |volume: &Volume| plan(volume, &observed(ours()), DAY, NOW).steps.remove(0);
    let mut volume = deleted(wanting());
    assert_eq!(deadline(&volume), Step::Trash { deadline: 86_400 });
    volume.metadata.annotations =
        Some([(labels::TRASH_DEADLINE.to_owned(), "1970-01-01T00:00:07Z".to_owned())].into());
    assert_eq!(deadline(&volume), Step::Trash { deadline: 7 });
}

#[test]
fn a_volume_whose_finalizer_is_gone_is_left_alone() {
    let mut volume = deleted(wanting());
    volume.metadata.finalizers = None;
    assert_eq!(short(&volume, &observed(ours())), (vec![], vec![]));
}
