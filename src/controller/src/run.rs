//! Wiring: leader lease, watches, queues.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context as _;
use kube::{
    Client,
    runtime::events::{Recorder, Reporter},
};
use prometheus_client::registry::Registry;
use sparks_api::NamespacedName;
use sparks_ops::{
    admin,
    leader::Leadership,
    queue::{self, Queue},
    shutdown,
};
use sparks_plan::{index::Reference, memory::Memory, pods::Template, world::Settings};
use tokio::{sync::watch, task::JoinSet};
use tracing::Instrument;

use crate::{
    config::Config,
    context::{Context, SystemClock},
    kinds,
    kube_api::{KubeApi, MANAGER},
    metrics::Metrics,
    ssh,
    watch::{Door, Touch},
};

/// Name of the leader lease.
const LEASE: &str = "sparks-controller";

/// Runs until a signal comes or the lease is lost.
///
/// # Errors
/// When the admin port, the API server or the lease can't be had, or a part of the controller ends.
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
    let origin = ssh::Origin::new(&client, &config.namespace, config.gateway_user_ca_file.clone());
    let context = Arc::new(context(client.clone(), &config, metrics, origin.read().await?));
    let mut tasks = start(client, &config, &context, origin);
    tokio::select! {
        () = lost => anyhow::bail!("another replica leads now"),
        ended = tasks.join_next() => anyhow::bail!("a part of the controller ended: {ended:?}"),
        () = &mut stop => Ok(()),
    }
}

fn context(client: Client, config: &Config, metrics: Metrics, keys: ssh::Keys) -> Context {
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(config.identity.clone()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let template = Template { guest_image: config.guest_image.clone() };
    Context {
        api: Arc::new(KubeApi::new(client, recorder)),
        index: Default::default(),
        memory: Memory::default(),
        settings: Settings { template, retention: config.trash_retention },
        clock: Box::new(SystemClock::default()),
        metrics,
        beliefs: Default::default(),
        installation: ssh::Installation::new(keys),
        key_sources: ssh::Sources::default(),
    }
}

fn start(client: Client, config: &Config, context: &Arc<Context>, origin: ssh::Origin) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (filled, all_filled) = watch::channel(0);
    let touch = queues(&mut tasks, context, &all_filled);
    let door = Door { namespace: config.namespace.clone(), touch: touch.clone(), filled };
    for watch in kinds::watches() {
        tasks.spawn(watch.run(client.clone(), context.clone(), door.clone()));
    }
    let context = context.clone();
    tasks.spawn(async move {
        let everything =
            || context.look(|world| kinds::everything(world.index)).into_iter().for_each(|o| touch(o));
        origin.follow(&context.installation, everything).await;
    });
    tasks
}

/// A queue for each kind, which begins once everything that is there is known.
fn queues(tasks: &mut JoinSet<()>, context: &Arc<Context>, filled: &watch::Receiver<usize>) -> Touch {
    let watches = kinds::watches().len();
    let mut all: HashMap<&'static str, Queue<NamespacedName>> = HashMap::new();
    for reconciled in kinds::reconciled() {
        let (queue, receiver) = queue::channel();
        all.insert(reconciled.kind, queue.clone());
        let (context, mut filled) = (context.clone(), filled.clone());
        tasks.spawn(async move {
            // An error means that the watches ended, and with them the controller.
            let _ = filled.wait_for(|filled| *filled == watches).await;
            let pass = move |name: NamespacedName, _| {
                let span = tracing::info_span!("pass", kind = reconciled.kind, %name);
                (reconciled.pass)(context.clone(), name).instrument(span)
            };
            queue::run(queue, receiver, reconciled.concurrency, queue::Backoff::default(), pass).await;
        });
    }
    Arc::new(move |Reference { kind, name }| {
        if let Some(queue) = all.get(kind) {
            queue.trigger(name);
        }
    })
}
