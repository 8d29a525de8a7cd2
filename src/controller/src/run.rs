//! Wiring: leader lease, watches, triggers, reconcilers.

use std::{collections::HashSet, fmt::Debug, sync::Arc, time::Instant};

use anyhow::Context as _;
use futures::{StreamExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::{
    Client, Resource, ResourceExt,
    api::Api,
    runtime::{
        applier,
        controller::{Action, Config as ApplierConfig},
        events::{Recorder, Reporter},
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher,
    },
};
use prometheus_client::registry::Registry;
use sparks_api::{Checkpoint, Spark, SparkPool, Volume, labels};
use sparks_ops::{admin, leader::Leadership, shutdown};
use sparks_plan::{placement::Agent, pods::Template};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::{
    checkpoint,
    config::Config,
    context::{Context, MANAGER},
    hub::Hub,
    memory::Memory,
    metrics::{Kind, Metrics},
    pool, spark, ssh, volume,
    watch::watch,
};

/// Name of the leader lease.
const LEASE: &str = "sparks-controller";

/// Says which objects are to be reconciled.
#[derive(Clone)]
struct Triggers {
    sparks: UnboundedSender<ObjectRef<Spark>>,
    checkpoints: UnboundedSender<ObjectRef<Checkpoint>>,
    pools: UnboundedSender<ObjectRef<SparkPool>>,
    volumes: UnboundedSender<ObjectRef<Volume>>,
}

/// Runs until a signal comes or the lease is lost.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let readiness = admin::Readiness::default();
    admin::serve(config.admin_addr, registry, readiness.clone())
        .await
        .context("the admin address can't be bound")?;
    let client = Client::try_default().await.context("no API server is configured")?;
    let stop = shutdown::requested()?;
    tokio::pin!(stop);
    // A replica that waits for the lease is as healthy as the leader.
    readiness.set(true);
    let leadership = tokio::select! {
        leadership = Leadership::acquire(client.clone(), &config.namespace, LEASE, &config.identity) => leadership?,
        () = &mut stop => return Ok(()),
    };
    let lost = leadership.lost();
    let installation =
        ssh::Installation::load(&client, &config.namespace, config.gateway_user_ca_file.clone()).await?;
    let mut tasks = start(client, &config, metrics, installation);
    tokio::select! {
        () = lost => anyhow::bail!("another replica leads now"),
        ended = tasks.join_next() => anyhow::bail!("a part of the controller ended: {ended:?}"),
        () = &mut stop => Ok(()),
    }
}

struct Writers {
    sparks: Writer<Spark>,
    checkpoints: Writer<Checkpoint>,
    pools: Writer<SparkPool>,
    volumes: Writer<Volume>,
    pods: Writer<Pod>,
    agent_pods: Writer<Pod>,
    nodes: Writer<Node>,
    services: Writer<Service>,
}

fn caches() -> (Hub, Writers) {
    let (sparks, sparks_writer) = reflector::store();
    let (checkpoints, checkpoints_writer) = reflector::store();
    let (pools, pools_writer) = reflector::store();
    let (volumes, volumes_writer) = reflector::store();
    let (pods, pods_writer) = reflector::store();
    let (agent_pods, agent_pods_writer) = reflector::store();
    let (nodes, nodes_writer) = reflector::store();
    let (services, services_writer) = reflector::store();
    let writers = Writers {
        sparks: sparks_writer,
        checkpoints: checkpoints_writer,
        pools: pools_writer,
        volumes: volumes_writer,
        pods: pods_writer,
        agent_pods: agent_pods_writer,
        nodes: nodes_writer,
        services: services_writer,
    };
    (Hub { sparks, checkpoints, pools, volumes, pods, agent_pods, nodes, services }, writers)
}

fn start(client: Client, config: &Config, metrics: Metrics, installation: ssh::Installation) -> JoinSet<()> {
    let (hub, writers) = caches();
    let (spark_tx, spark_rx) = unbounded_channel();
    let (checkpoint_tx, checkpoint_rx) = unbounded_channel();
    let (pool_tx, pool_rx) = unbounded_channel();
    let (volume_tx, volume_rx) = unbounded_channel();
    let triggers =
        Triggers { sparks: spark_tx, checkpoints: checkpoint_tx, pools: pool_tx, volumes: volume_tx };
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(config.identity.clone()) };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        hub,
        memory: Memory::default(),
        metrics,
        installation,
        key_sources: ssh::Sources::default(),
        template: Template { guest_image: config.guest_image.clone() },
        retention: config.trash_retention,
    });
    let mut tasks = JoinSet::new();
    watches(&mut tasks, &context, &config.namespace, writers, &triggers);
    let (c, t) = (context.clone(), triggers.clone());
    tasks.spawn(async move { c.installation.follow(|| everything(&c, &t)).await });
    let ready = Arc::new(tokio::sync::OnceCell::new());
    reconciler(
        &mut tasks,
        &context,
        &ready,
        context.hub.sparks.clone(),
        spark_rx,
        config.concurrency,
        spark::reconcile,
    );
    reconciler(
        &mut tasks,
        &context,
        &ready,
        context.hub.checkpoints.clone(),
        checkpoint_rx,
        8,
        checkpoint::reconcile,
    );
    reconciler(&mut tasks, &context, &ready, context.hub.pools.clone(), pool_rx, 4, pool::reconcile);
    reconciler(&mut tasks, &context, &ready, context.hub.volumes.clone(), volume_rx, 8, volume::reconcile);
    tasks
}

/// Runs one kind's reconciler on what its trigger names, once all caches are filled.
fn reconciler<K, F>(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    ready: &Arc<tokio::sync::OnceCell<()>>,
    store: Store<K>,
    trigger: UnboundedReceiver<ObjectRef<K>>,
    concurrency: u16,
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, kube::Error>> + Send + 'static,
{
    let (context, ready) = (context.clone(), ready.clone());
    tasks.spawn(async move {
        ready.get_or_init(|| all_caches_filled(&context)).await;
        let queue =
            futures::stream::unfold(
                trigger,
                |mut trigger| async move { Some((trigger.recv().await?, trigger)) },
            );
        let queue = queue.map(Ok::<_, std::convert::Infallible>);
        let config = ApplierConfig::default().concurrency(concurrency);
        let timed =
            move |object: Arc<K>, context: Arc<Context>| -> BoxFuture<'static, Result<Action, kube::Error>> {
                Box::pin(timed(reconcile, object, context))
            };
        applier(timed, pause, context, store, queue, config).for_each(|_| std::future::ready(())).await;
    });
}

async fn timed<K, F>(
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
    object: Arc<K>,
    context: Arc<Context>,
) -> Result<Action, kube::Error>
where
    K: Resource<DynamicType = ()>,
    F: Future<Output = Result<Action, kube::Error>>,
{
    let kind = Kind { kind: kind_of::<K>() };
    let started = Instant::now();
    let uid = object.uid().unwrap_or_default();
    let result = reconcile(object.clone(), context.clone()).await;
    context.metrics.reconcile.get_or_create(&kind).observe(started.elapsed().as_secs_f64());
    match &result {
        Ok(_) => context.memory.succeeded(&uid),
        Err(error) => {
            context.metrics.errors.get_or_create(&kind).inc();
            tracing::warn!(kind = kind.kind, name = %object.name_any(), namespace = object.namespace(), %error, "a pass failed; it is tried again");
        }
    }
    result
}

fn kind_of<K: Resource<DynamicType = ()>>() -> &'static str {
    let kind = K::kind(&());
    ["Spark", "Checkpoint", "SparkPool", "Volume"].into_iter().find(|known| *known == kind).unwrap_or("other")
}

#[allow(clippy::needless_pass_by_value)]
fn pause<K: Resource<DynamicType = ()>>(object: Arc<K>, _: &kube::Error, context: Arc<Context>) -> Action {
    Action::requeue(context.memory.backoff(&object.uid().unwrap_or_default()))
}

async fn all_caches_filled(context: &Context) {
    let hub = &context.hub;
    // An error means that the watch ended, and with it the controller.
    let _ = tokio::join!(
        hub.sparks.wait_until_ready(),
        hub.checkpoints.wait_until_ready(),
        hub.pools.wait_until_ready(),
        hub.volumes.wait_until_ready(),
        hub.pods.wait_until_ready(),
        hub.agent_pods.wait_until_ready(),
        hub.nodes.wait_until_ready(),
        hub.services.wait_until_ready(),
    );
    tracing::info!("caches are filled");
}

fn watches(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    namespace: &str,
    writers: Writers,
    triggers: &Triggers,
) {
    let client = &context.client;
    let all = watcher::Config::default;
    let (c, t) = (context.clone(), triggers.clone());
    tasks.spawn(watch(
        Api::all(client.clone()),
        all(),
        writers.sparks,
        |_| (),
        move |o, gone| spark_touched(&c, &t, o, gone),
    ));
    let (c, t) = (context.clone(), triggers.clone());
    tasks.spawn(watch(
        Api::all(client.clone()),
        all(),
        writers.checkpoints,
        |_| (),
        move |o, _| checkpoint_touched(&c, &t, o),
    ));
    let t = triggers.clone();
    tasks.spawn(watch(
        Api::all(client.clone()),
        all(),
        writers.pools,
        |_| (),
        move |o: &SparkPool, _| {
            let _ = t.pools.send(ObjectRef::from_obj(o));
        },
    ));
    let (c, t) = (context.clone(), triggers.clone());
    tasks.spawn(watch(
        Api::all(client.clone()),
        all(),
        writers.volumes,
        |_| (),
        move |o, _| volume_touched(&c, &t, o),
    ));
    let (c, t) = (context.clone(), triggers.clone());
    let ours = all().labels(labels::ROLE);
    tasks.spawn(watch(Api::all(client.clone()), ours, writers.pods, slim_pod, move |o, _| {
        pod_touched(&c, &t, o)
    }));
    let (c, t) = (context.clone(), triggers.clone());
    let agents = all().labels(labels::AGENT_SELECTOR);
    let known = std::sync::Mutex::new(HashSet::new());
    tasks.spawn(watch(
        Api::namespaced(client.clone(), namespace),
        agents,
        writers.agent_pods,
        slim_pod,
        move |o, gone| {
            agent_touched(&c, &t, &known, o, gone);
        },
    ));
    let (c, t) = (context.clone(), triggers.clone());
    tasks.spawn(watch(Api::all(client.clone()), all(), writers.nodes, slim_node, move |_: &Node, _| {
        everything(&c, &t)
    }));
    let (c, t) = (context.clone(), triggers.clone());
    tasks.spawn(watch(
        Api::all(client.clone()),
        all(),
        writers.services,
        slim_service,
        move |o: &Service, _| {
            c.memory.forget_service(&o.namespace().unwrap_or_default(), &o.name_any());
            named_spark(&t, o.namespace(), o.labels().get(labels::SPARK));
        },
    ));
}

/// Reconciles a Spark by name.
fn named_spark(triggers: &Triggers, namespace: Option<String>, name: Option<&String>) {
    if let (Some(namespace), Some(name)) = (namespace, name) {
        let _ = triggers.sparks.send(ObjectRef::new(name).within(&namespace));
    }
}

fn spark_touched(context: &Context, triggers: &Triggers, spark: &Spark, gone: bool) {
    let _ = triggers.sparks.send(ObjectRef::from_obj(spark));
    let (Some(namespace), Some(uid)) = (spark.namespace(), spark.uid()) else { return };
    if gone {
        context.memory.forget(&uid);
        for volume in context.hub.volumes_of(&namespace, &uid, false) {
            let _ = triggers.volumes.send(ObjectRef::from_obj(&*volume));
        }
    }
    dependents(context, triggers, &namespace, &spark.name_any());
}

fn checkpoint_touched(context: &Context, triggers: &Triggers, checkpoint: &Checkpoint) {
    let _ = triggers.checkpoints.send(ObjectRef::from_obj(checkpoint));
    let (Some(namespace), Some(uid)) = (checkpoint.namespace(), checkpoint.uid()) else { return };
    for volume in context.hub.volumes_of(&namespace, &uid, false) {
        let _ = triggers.volumes.send(ObjectRef::from_obj(&*volume));
    }
    dependents(context, triggers, &namespace, &checkpoint.name_any());
}

/// Sparks that wait for this source, and Checkpoints of it that are not taken yet.
fn dependents(context: &Context, triggers: &Triggers, namespace: &str, name: &str) {
    for spark in context.hub.sparks.state() {
        if waits_for(&spark, namespace, name) {
            let _ = triggers.sparks.send(ObjectRef::from_obj(&*spark));
        }
    }
    for checkpoint in context.hub.checkpoints.state() {
        let taken = checkpoint.status.as_ref().is_some_and(|status| status.taken_at.is_some());
        if !taken && checkpoint.spec.spark == name && checkpoint.namespace().as_deref() == Some(namespace) {
            let _ = triggers.checkpoints.send(ObjectRef::from_obj(&*checkpoint));
        }
    }
}

fn waits_for(spark: &Spark, namespace: &str, name: &str) -> bool {
    let own = spark.namespace().unwrap_or_default();
    let status = spark.status.as_ref();
    let forks = spark.spec.from.as_ref().is_some_and(|from| {
        let there = from.namespace.as_deref().unwrap_or(&own) == namespace;
        there && [&from.spark, &from.checkpoint].into_iter().flatten().any(|source| source == name)
    });
    let restores =
        own == namespace && spark.spec.restore.as_ref().is_some_and(|restore| restore.checkpoint == name);
    let restored = status.and_then(|s| s.restored.as_ref()).is_some_and(|done| done.checkpoint == name);
    (forks && status.is_none_or(|s| s.volume.is_none())) || (restores && !restored)
}

fn volume_touched(context: &Context, triggers: &Triggers, volume: &Volume) {
    let _ = triggers.volumes.send(ObjectRef::from_obj(volume));
    let (Some(namespace), Some(name)) = (volume.namespace(), volume.labels().get(labels::OWNER_NAME)) else {
        return;
    };
    if volume.labels().get(labels::OWNER_KIND).is_some_and(|kind| kind == "Checkpoint") {
        let _ = triggers.checkpoints.send(ObjectRef::new(name).within(&namespace));
    } else {
        let _ = triggers.sparks.send(ObjectRef::new(name).within(&namespace));
        // Whoever waits for this Volume waits for its first status; the API server fills in one of generation -1.
        if volume.status.as_ref().is_some_and(|status| status.observed_generation > Some(0)) {
            dependents(context, triggers, &namespace, name);
        }
    }
}

fn pod_touched(context: &Context, triggers: &Triggers, pod: &Pod) {
    named_spark(triggers, pod.namespace(), pod.labels().get(labels::SPARK));
    if let (Some(namespace), Some(pool)) = (pod.namespace(), pod.labels().get(labels::POOL)) {
        let _ = triggers.pools.send(ObjectRef::new(pool).within(&namespace));
    }
    if pod.labels().contains_key(labels::SPARK_UID) {
        context.memory.claim_seen(&pod.uid().unwrap_or_default());
        // A claimed pod has lost its pool's label.
        for pool in context.hub.pools.state().iter().filter(|pool| pool.namespace() == pod.namespace()) {
            let _ = triggers.pools.send(ObjectRef::from_obj(&**pool));
        }
    }
    if let Some(key) = pod.labels().get(labels::IMAGE_KEY) {
        let waits =
            |volume: &Volume| volume.spec.source.image.as_ref().is_some_and(|image| &image.key == key);
        for volume in context.hub.volumes.state_filter(waits) {
            let _ = triggers.volumes.send(ObjectRef::from_obj(&*volume));
            named_spark(triggers, volume.namespace(), volume.labels().get(labels::OWNER_NAME));
        }
    }
}

/// A node agent writes its free bytes often; only its coming and going concerns anybody.
fn agent_touched(
    context: &Context,
    triggers: &Triggers,
    known: &std::sync::Mutex<HashSet<String>>,
    pod: &Pod,
    gone: bool,
) {
    let uid = pod.uid().unwrap_or_default();
    let runs = !gone && Agent::from_pod(pod).is_some();
    let mut known = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let changed = if runs { known.insert(uid) } else { known.remove(&uid) };
    drop(known);
    if changed {
        everything(context, triggers);
    }
}

fn everything(context: &Context, triggers: &Triggers) {
    let hub = &context.hub;
    hub.pools.state().iter().for_each(|o| _ = triggers.pools.send(ObjectRef::from_obj(&**o)));
    hub.sparks.state().iter().for_each(|o| _ = triggers.sparks.send(ObjectRef::from_obj(&**o)));
    hub.volumes.state().iter().for_each(|o| _ = triggers.volumes.send(ObjectRef::from_obj(&**o)));
}

/// Drops what nobody reads: with a thousand pods it is most of the cache.
fn slim_pod(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    spec.volumes = None;
    spec.tolerations = None;
    for container in &mut spec.containers {
        container.volume_mounts = None;
        container.env = None;
    }
}

/// All Services are watched, because a Spark must know whose name is taken; little of each is kept.
fn slim_service(service: &mut Service) {
    service.status = None;
    service.metadata.annotations = None;
    if let Some(spec) = &mut service.spec {
        *spec = k8s_openapi::api::core::v1::ServiceSpec { ports: spec.ports.take(), ..Default::default() };
    }
}

fn slim_node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}
