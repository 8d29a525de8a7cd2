//! The whole way of a Volume, with an API server, a machine and guests in memory.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use http::{Request, Response};
use kube::{
    Client,
    client::Body,
    runtime::{
        reflector::{self, store::Writer},
        watcher::Event,
    },
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use sparks_api::{Reason, Volume, VolumePhase, conditions, labels};
use sparks_host::{
    FakeHost, HostError, Volumes,
    fake::Operation,
    host::{AttachRequest, Containers, ImageSource},
    pool::{DiskSource, DiskSpec, PoolError, VolumeRequest},
};
use sparks_proto::{CONTROL_SOCKET, Computer, FromGuest, Service, ServiceState, ToGuest};
use tokio::net::UnixStream;

use super::*;
use crate::{
    config::Config,
    import,
    inventory::Inventory,
    metrics::Metrics,
    pods::{Container, PodFacts, Role},
    seal,
    triggers::Triggers,
};

const SPARK: &str = "spark-uid";

/// What the API server was asked, and the Volumes that it has.
#[derive(Default)]
struct Server {
    patches: Vec<(String, Value)>,
    volumes: std::collections::BTreeMap<String, Value>,
}

fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().expect("an object").remove(name)),
            value => merge(
                into.as_object_mut().expect("an object").entry(name.clone()).or_insert(Value::Null),
                value,
            ),
        }
    }
}

struct Bench {
    agent: Arc<Agent>,
    host: Arc<FakeHost>,
    server: Arc<Mutex<Server>>,
    writer: Writer<Volume>,
    _state: tempfile::TempDir,
}

impl Bench {
    fn new(host: FakeHost) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let directory = state.path().to_str().expect("a path");
        let config = Config::parse_from([
            "sparks-node",
            "--node-name",
            "n",
            "--pod-name",
            "agent",
            "--namespace",
            "sparks",
            "--state-dir",
            directory,
            "--pool-path",
            "/none",
            "--service-patience",
            "1s",
        ]);
        let server = Arc::new(Mutex::new(Server::default()));
        let answers = server.clone();
        let service = tower::service_fn(move |request: Request<Body>| answer(answers.clone(), request));
        let client = Client::new(service, "a");
        let host = Arc::new(host);
        let (queue, receiver) = sparks_ops::queue::channel::<NamespacedName>();
        let (volumes, writer) = reflector::store();
        let triggers = Triggers { queue: queue.clone(), volumes };
        let key = seal::Key::load_or_create(&config.key_file()).expect("a key");
        let inventory = Inventory::load(&*host).expect("an inventory");
        let metrics = Metrics::register(&mut Registry::default());
        let agent = Arc::new(Agent::new(config, client, host.clone(), key, inventory, triggers, metrics));
        let (reconciled, exits) = (agent.clone(), agent.clone());
        tokio::spawn(sparks_ops::queue::run(queue, receiver, 64, Default::default(), move |key, since| {
            reconcile(reconciled.clone(), key, since)
        }));
        tokio::spawn(async move {
            exits.exits.run(exits.host.clone(), exits.guests.clone(), exits.triggers.queue.clone()).await
        });
        Self { agent, host, server, writer, _state: state }
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Volume as its watch shows it.
    fn apply(&mut self, name: &str, spec: Value) -> Volume {
        let meta = json!({
            "name": name, "namespace": "a", "uid": format!("uid-{name}"), "generation": 1, "resourceVersion": "7",
            "finalizers": [labels::VOLUME_FINALIZER],
            "labels": {labels::OWNER_UID: SPARK, labels::OWNER_KIND: "Spark", labels::OWNER_NAME: "api"},
        });
        let mut spec = spec;
        if spec.get("disks").is_none() {
            spec["disks"] = json!([{"name": "root", "mountPath": "/", "size": "1Gi"}]);
        }
        spec["nodeName"] = "n".into();
        let status = self.server().volumes.get(name).and_then(|volume| volume.get("status")).cloned();
        let mut value = json!({"apiVersion": "sparks.loop.work/v1alpha1", "kind": "Volume", "metadata": meta, "spec": spec});
        if let Some(status) = status {
            value["status"] = status;
        }
        self.show(value)
    }

    fn show(&mut self, value: Value) -> Volume {
        let volume: Volume = serde_json::from_value(value.clone()).expect("a Volume");
        let name = volume.metadata.name.clone().expect("a name");
        self.server().volumes.insert(name, value);
        let old = self.agent.triggers.volumes.get(&ObjectRef::from_obj(&volume));
        self.writer.apply_watcher_event(&Event::Apply(volume.clone()));
        self.agent.triggers.queue.trigger(crate::triggers::key(&volume));
        if let Some(old) = old {
            self.agent.triggers.pods_of(&old);
        }
        volume
    }

    fn pod(&self, name: &str, container: Option<&str>) {
        let facts = PodFacts {
            uid: format!("uid-{name}"),
            role: Role::Computer,
            spark_uid: Some(SPARK.into()),
            image: None,
            ip: Some([10, 0, 0, 7].into()),
            container: container.map_or(Container::NotRunning, |id| Container::Running(id.into())),
        };
        let key = NamespacedName::new("a", name);
        self.agent.pods.apply(key.clone(), Some(facts));
        if let Some(container) = container {
            self.agent.guests.meet(container, &key);
        }
        self.agent.triggers.pod(&key);
    }

    async fn guest(&self, container: &str, running: Option<Computer>) -> FakeGuest {
        let host = self.host.clone();
        let stream = until(|| host.accepted(container, CONTROL_SOCKET).pop()).await;
        stream.set_nonblocking(true).expect("a socket");
        let mut guest = FakeGuest(UnixStream::from_std(stream).expect("a socket"));
        guest.say(FromGuest::Hello { version: sparks_proto::VERSION, running }).await;
        guest
    }

    fn status(&self, name: &str) -> Option<sparks_api::VolumeStatus> {
        let status = self.server().volumes.get(name)?.get("status").cloned()?;
        serde_json::from_value(status).ok()
    }

    async fn status_when(
        &self,
        name: &str,
        wanted: impl Fn(&sparks_api::VolumeStatus) -> bool,
    ) -> sparks_api::VolumeStatus {
        until(|| self.status(name).filter(|status| wanted(status))).await
    }

    fn writes(&self, name: &str) -> usize {
        let path = format!("/{name}/status");
        self.server().patches.iter().filter(|(at, _)| at.ends_with(&path)).count()
    }
}

async fn answer(
    server: Arc<Mutex<Server>>,
    request: Request<Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let bytes = request.into_body().collect_bytes().await.unwrap_or_default();
    let patch: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
    let name = path.trim_end_matches("/status").rsplit('/').next().unwrap_or_default().to_owned();
    server.patches.push((path, patch.clone()));
    let body = match server.volumes.get_mut(&name) {
        Some(volume) => {
            merge(volume, &patch);
            volume.clone()
        }
        None => patch,
    };
    Ok(Response::new(Body::from(body.to_string().into_bytes())))
}

struct FakeGuest(UnixStream);

impl FakeGuest {
    async fn say(&mut self, message: FromGuest) {
        sparks_proto::write(&mut self.0, &message).await.expect("the agent listens");
    }

    async fn hear(&mut self) -> ToGuest {
        let heard = tokio::time::timeout(Duration::from_secs(5), sparks_proto::read(&mut self.0)).await;
        heard.expect("the agent says something").expect("a message")
    }

    async fn hears_nothing(&mut self) {
        let heard =
            tokio::time::timeout(Duration::from_millis(150), sparks_proto::read::<ToGuest>(&mut self.0))
                .await;
        assert!(heard.is_err(), "{heard:?}");
    }

    async fn ready(&mut self, ready: bool) {
        self.say(FromGuest::Service(ServiceState { ready, restarts: 0, message: None })).await;
    }
}

async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2500 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it did not happen within five seconds");
}

fn attachment(pod: &str, service: bool) -> Value {
    let service = if service { json!({"command": ["serve"], "port": 8080}) } else { Value::Null };
    json!({"podName": pod, "podUid": format!("uid-{pod}"), "hostname": "api", "service": service})
}

fn host(containers: &[&str]) -> FakeHost {
    let host = FakeHost::default();
    for container in containers {
        host.add_container(container, &[("/etc/hosts", b"127.0.0.1 localhost\n")]);
    }
    host
}

#[tokio::test]
async fn nobody_is_told_to_come_in_while_the_root_before_is_mounted() {
    let mut bench = Bench::new(host(&["c1"]));
    let old_roots = bench.host.keep_old_roots();
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    bench.apply("v", json!({"attachment": attachment("p", true)}));
    // The service starts meanwhile.
    let ToGuest::Run(_) = guest.hear().await else { panic!("no Run") };
    guest.ready(true).await;
    until(|| bench.agent.guests.get("c1").filter(|guest| guest.view().ready_at.is_some())).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(bench.status("v").is_none_or(|status| status.attached.is_none()));
    old_roots.recv().expect("a root that was replaced")();
    bench.status_when("v", |status| status.attached.is_some()).await;
}

#[tokio::test]
async fn a_fork_is_made_attached_and_run_with_one_write() {
    let mut bench = Bench::new(host(&["c1"]));
    bench.apply("source", json!({}));
    bench.status_when("source", |s| s.phase == VolumePhase::Ready).await;
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    until(|| bench.agent.guests.get("c1").filter(|guest| guest.view().connected)).await;
    let from = json!({"volume": {"namespace": "a", "name": "source", "uid": "uid-source"}});
    bench.apply("fork", json!({"source": from, "attachment": attachment("p", true)}));
    let ToGuest::Run(computer) = guest.hear().await else { panic!("no Run") };
    assert_eq!(
        (computer.hostname.as_str(), computer.service.map(|s| s.command)),
        ("api", Some(vec!["serve".into()]))
    );
    guest.ready(false).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.writes("fork"), 0, "it waits for the service");
    guest.ready(true).await;
    let status = bench.status_when("fork", |s| s.phase == VolumePhase::Attached).await;
    assert_eq!(bench.writes("fork"), 1);
    let attached = status.attached.expect("attached");
    assert!(attached.service_ready && attached.container_id == "c1");
    let timings = status.timings.expect("timed");
    assert!(
        timings.snapshot_micros.is_some()
            && timings.attach_micros.is_some()
            && timings.service_micros.is_some()
    );
    let request = bench.host.attaches("c1").pop().expect("an attach");
    let hosts = request.files.iter().find(|file| file.name == "hosts").expect("a hosts file");
    assert_eq!(String::from_utf8_lossy(&hosts.contents), "127.0.0.1 localhost\n10.0.0.7\tapi # sparks\n");
}

#[tokio::test]
async fn a_pod_with_a_slow_service_is_told_after_a_while_and_again_when_the_service_is_ready() {
    let mut bench = Bench::new(host(&["c1"]));
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    bench.apply("v", json!({"attachment": attachment("p", true)}));
    guest.hear().await;
    let began = Instant::now();
    let status = bench.status_when("v", |s| s.attached.is_some()).await;
    assert!(began.elapsed() > Duration::from_millis(900));
    assert!(!status.attached.expect("attached").service_ready);
    guest.ready(true).await;
    bench.status_when("v", |s| s.attached.as_ref().is_some_and(|a| a.service_ready)).await;
}

#[tokio::test]
async fn an_idle_time_is_shown_though_something_else_was_written_while_it_grew() {
    let mut bench = Bench::new(host(&["c1"]));
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    let mut attachment = attachment("p", true);
    attachment["idleShownAfterSeconds"] = 1.into();
    bench.apply("v", json!({"attachment": attachment}));
    guest.hear().await;
    guest.say(FromGuest::Idle { for_seconds: Some(0) }).await;
    guest.ready(true).await;
    bench.status_when("v", |s| s.attached.as_ref().is_some_and(|a| a.service_ready)).await;
    let status =
        bench.status_when("v", |s| s.attached.as_ref().is_some_and(|a| a.idle_since.is_some())).await;
    assert!(status.attached.is_some_and(|attached| attached.service_ready));
}

#[tokio::test]
async fn a_running_spark_is_adopted_without_being_disturbed() {
    let host = host(&["c1"]);
    let root = DiskSpec {
        name: "root".into(),
        source: DiskSource::Empty,
        limit_bytes: Some(1 << 30),
        read_only: false,
    };
    host.create_volume(&VolumeRequest { uid: "uid-v".into(), disks: vec![root], meta: Value::Null })
        .expect("disks");
    let attach = AttachRequest {
        volume_uid: "uid-v".into(),
        root_disk: "root".into(),
        mounts: vec![],
        files: vec![],
        hostname: None,
    };
    host.attach("c1", &attach, Box::new(|| ())).expect("attached before this agent began");
    let mut bench = Bench::new(host);
    bench.apply("v", json!({"attachment": attachment("p", true)}));
    bench.pod("p", Some("c1"));
    let service =
        Service { command: vec!["serve".into()], port: 8080, grace_seconds: 10, ..Default::default() };
    let mut guest =
        bench.guest("c1", Some(Computer { hostname: "api".into(), service: Some(service), ssh: None })).await;
    guest.ready(true).await;
    bench.status_when("v", |s| s.attached.as_ref().is_some_and(|a| a.service_ready)).await;
    guest.hears_nothing().await;
    assert_eq!(bench.host.attaches("c1").len(), 1, "only the one from before");
}

/// `plain`, sealed to the agent's key as the controller does it, in hex.
fn sealed(bench: &Bench, plain: &[u8]) -> String {
    let hex = bench.agent.key.public_hex();
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex");
    let key = crypto_box::PublicKey::from(std::array::from_fn::<u8, 32, _>(byte));
    let sealed = key.seal(&mut crypto_box::aead::OsRng, plain).expect("sealed");
    sealed.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn another_ssh_key_is_one_more_run_and_neither_attach_nor_start() {
    let mut bench = Bench::new(host(&["c1"]));
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    let host_key = sealed(&bench, &[7; 32]);
    let with = |keys: &[&str]| {
        let mut attachment = attachment("p", true);
        attachment["ssh"] = json!({"sealedHostKey": host_key, "gatewayKeys": ["gw"], "authorizedKeys": keys});
        json!({"attachment": attachment})
    };
    bench.apply("v", with(&["a"]));
    let ToGuest::Run(first) = guest.hear().await else { panic!("no Run") };
    let ssh = first.ssh.clone().expect("an SSH server");
    assert_eq!((ssh.port, ssh.host_key, ssh.authorized_keys), (2022, "07".repeat(32), vec!["a".to_owned()]));
    guest.ready(true).await;
    bench.status_when("v", |s| s.attached.as_ref().is_some_and(|a| a.service_ready)).await;
    bench.apply("v", with(&["a", "b"]));
    let ToGuest::Run(second) = guest.hear().await else { panic!("no Run") };
    assert_eq!((&second.service, &second.hostname), (&first.service, &first.hostname));
    assert_eq!(second.ssh.map(|ssh| ssh.authorized_keys.len()), Some(2));
    guest.hears_nothing().await;
    assert_eq!(bench.host.attaches("c1").len(), 1);
    assert!(bench.status("v").and_then(|s| s.attached).is_some_and(|a| a.service_ready));
}

#[tokio::test]
async fn two_pods_never_share_a_disk() {
    let mut bench = Bench::new(host(&["c1", "c2"]));
    bench.pod("p1", Some("c1"));
    bench.pod("p2", Some("c2"));
    let mut first = bench.guest("c1", None).await;
    let mut second = bench.guest("c2", None).await;
    bench.apply("v", json!({"attachment": attachment("p1", false)}));
    first.hear().await;
    bench.status_when("v", |s| s.phase == VolumePhase::Attached).await;
    bench.apply("v", json!({"attachment": attachment("p2", false)}));
    let status = bench.status_when("v", |s| !conditions::is_true(&s.conditions, conditions::ATTACHED)).await;
    let condition = conditions::find(&status.conditions, conditions::ATTACHED).expect("told");
    assert!(condition.reason == Reason::PodTerminating);
    assert_eq!(status.attached.expect("still").container_id, "c1");
    second.hears_nothing().await;
    bench.host.remove_container("c1");
    assert!(matches!(second.hear().await, ToGuest::Run(_)));
    bench.status_when("v", |s| s.attached.as_ref().is_some_and(|a| a.container_id == "c2")).await;
}

/// The links of the disk are not followed, so that the pod's own are read where the attach has put them.
#[tokio::test]
async fn what_the_pod_brought_along_is_found_again_by_an_agent_that_starts_anew() {
    let host = FakeHost::default();
    let own: &[(&str, &[u8])] = &[
        ("/etc/sparks/hosts", b"127.0.0.1 localhost\n"),
        ("/etc/sparks/resolv.conf", b"nameserver 10.0.0.1\n"),
    ];
    host.add_container("c1", own);
    let mut bench = Bench::new(host);
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    bench.apply("v", json!({"attachment": attachment("p", false)}));
    guest.hear().await;
    let files = bench.host.attaches("c1").pop().expect("an attach").files;
    let resolv = files.iter().find(|file| file.name == "resolv.conf").expect("a resolv.conf");
    assert_eq!(resolv.contents, b"nameserver 10.0.0.1\n");
}

#[tokio::test]
async fn a_restore_swaps_the_root_only_after_the_guest_let_go() {
    let mut bench = Bench::new(host(&["c1"]));
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    bench.apply("old", json!({"attachment": attachment("p", false)}));
    guest.hear().await;
    bench.status_when("old", |s| s.phase == VolumePhase::Attached).await;
    bench.apply("new", json!({"attachment": attachment("p", false)}));
    guest.hears_nothing().await;
    bench.apply("old", json!({}));
    assert_eq!(guest.hear().await, ToGuest::Quiesce);
    assert_eq!(bench.host.attaches("c1").len(), 1);
    guest.say(FromGuest::Quiesced).await;
    assert!(matches!(guest.hear().await, ToGuest::Run(_)));
    bench.status_when("new", |s| s.phase == VolumePhase::Attached).await;
    let status = bench.status_when("old", |s| s.phase == VolumePhase::Ready).await;
    assert_eq!(status.attached, None);
}

#[tokio::test]
async fn a_deleted_volume_waits_for_its_pod_and_then_goes_into_the_trash() {
    let mut bench = Bench::new(host(&["c1"]));
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    bench.apply("v", json!({"attachment": attachment("p", false)}));
    guest.hear().await;
    bench.status_when("v", |s| s.phase == VolumePhase::Attached).await;
    let mut value = bench.server().volumes["v"].clone();
    value["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    bench.show(value);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(bench.host.trash().expect("trash").is_empty());
    bench.host.remove_container("c1");
    until(|| bench.host.trash().ok().filter(|trash| trash.len() == 1)).await;
    until(|| {
        bench.server().volumes["v"]["metadata"]["finalizers"].as_array().filter(|f| f.is_empty()).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_volume_waits_for_its_image_and_is_made_when_that_is_imported() {
    let mut bench = Bench::new(host(&["i1"]));
    let key = sparks_plan::names::image_key("a", "debian");
    bench.apply("v", json!({"source": {"image": {"reference": "debian", "key": key}}}));
    let status = bench.status_when("v", |s| !s.conditions.is_empty()).await;
    let told = conditions::find(&status.conditions, conditions::PROVISIONED).expect("told");
    assert_eq!(
        (Reason::from(told.reason.as_str()), status.phase),
        (Reason::ImportingImage, VolumePhase::Pending)
    );
    let pod = NamespacedName::new("a", "import");
    let facts = PodFacts {
        uid: "i".into(),
        role: Role::Import,
        spark_uid: None,
        image: Some((key, "debian".into())),
        ip: None,
        container: Container::Running("i1".into()),
    };
    bench.agent.pods.apply(pod.clone(), Some(facts));
    import::consider(&bench.agent, &pod);
    bench.status_when("v", |s| s.phase == VolumePhase::Ready).await;
    let source = ImageSource { container_id: "i1".into(), path: "/image".into() };
    let again = bench.host.import_image(&sparks_plan::names::image_key("a", "debian"), &source, Value::Null);
    assert_eq!(again.expect("there"), None, "it is there already");
}

#[tokio::test]
async fn a_full_pool_is_told_and_tried_again() {
    let fake = host(&[]);
    fake.fail_next(Operation::CreateVolume, HostError::Pool(PoolError::Full { free: 1, reserve: 2 }));
    let mut bench = Bench::new(fake);
    bench.apply("v", json!({}));
    let status = bench.status_when("v", |s| !s.conditions.is_empty()).await;
    assert!(status.conditions[0].reason == Reason::PoolFull);
    bench.status_when("v", |s| s.phase == VolumePhase::Ready).await;
}

#[tokio::test]
async fn a_guest_that_hangs_up_is_dialled_again() {
    let bench = Bench::new(host(&["c1"]));
    bench.pod("p", Some("c1"));
    drop(bench.guest("c1", None).await);
    let _second = bench.guest("c1", None).await;
    until(|| bench.agent.guests.get("c1").filter(|guest| guest.view().connected)).await;
}

#[tokio::test]
async fn a_guest_of_another_version_is_left_alone() {
    let mut bench = Bench::new(host(&["c1"]));
    bench.pod("p", Some("c1"));
    let stream = until(|| bench.host.accepted("c1", CONTROL_SOCKET).pop()).await;
    stream.set_nonblocking(true).expect("a socket");
    let mut guest = FakeGuest(UnixStream::from_std(stream).expect("a socket"));
    guest.say(FromGuest::Hello { version: 99, running: None }).await;
    bench.apply("v", json!({"attachment": attachment("p", false)}));
    bench.status_when("v", |s| !s.conditions.is_empty()).await;
    assert!(bench.host.attaches("c1").is_empty());
}

#[tokio::test]
async fn disks_whose_volume_is_back_come_out_of_the_trash() {
    let host = host(&[]);
    let root = DiskSpec {
        name: "root".into(),
        source: DiskSource::Empty,
        limit_bytes: Some(1 << 30),
        read_only: false,
    };
    host.create_volume(&VolumeRequest { uid: "uid-v".into(), disks: vec![root], meta: Value::Null })
        .expect("disks");
    host.trash_volume("uid-v", 0).expect("trashed");
    let mut bench = Bench::new(host);
    bench.apply("v", json!({}));
    bench.status_when("v", |s| s.phase == VolumePhase::Ready).await;
    assert!(bench.host.trash().expect("trash").is_empty());
}

#[tokio::test]
async fn a_trashed_volume_is_attached_until_its_pod_has_ended() {
    let mut bench = Bench::new(host(&["c1"]));
    bench.pod("p", Some("c1"));
    let mut guest = bench.guest("c1", None).await;
    bench.apply("v", json!({"attachment": attachment("p", false)}));
    guest.hear().await;
    bench.status_when("v", |s| s.phase == VolumePhase::Attached).await;
    bench.apply("v", json!({"trashedAt": "2030-01-01T00:00:00Z"}));
    bench.status_when("v", |s| conditions::find(&s.conditions, conditions::ATTACHED).is_none()).await;
    assert_eq!(bench.status("v").and_then(|s| s.attached).map(|a| a.container_id).as_deref(), Some("c1"));
    bench.host.remove_container("c1");
    let status = bench.status_when("v", |s| s.attached.is_none()).await;
    assert_eq!(status.phase, VolumePhase::Ready);
}

#[tokio::test]
async fn after_a_restart_a_container_that_was_not_looked_at_yet_counts_as_attached() {
    let host = host(&["c1"]);
    let root = DiskSpec {
        name: "root".into(),
        source: DiskSource::Empty,
        limit_bytes: Some(1 << 30),
        read_only: false,
    };
    host.create_volume(&VolumeRequest { uid: "uid-v".into(), disks: vec![root], meta: Value::Null })
        .expect("disks");
    let mut bench = Bench::new(host);
    let unclear = || HostError::Container(sparks_host::container::ContainerError::BadId("unclear".into()));
    (0..2).for_each(|_| bench.host.fail_next(Operation::AttachedDisk, unclear()));
    bench.pod("p", Some("c1"));
    bench.agent.guests.looked_at().await;
    let attached = json!({"podName": "p", "podUid": "uid-p", "containerId": "c1"});
    bench.server().volumes.insert("v".into(), json!({"status": {"phase": "Attached", "attached": attached}}));
    bench.apply("v", json!({"trashedAt": "2030-01-01T00:00:00Z"}));
    let status = bench.status_when("v", |s| !s.conditions.is_empty()).await;
    assert_eq!(status.attached.map(|a| a.container_id).as_deref(), Some("c1"));
}
