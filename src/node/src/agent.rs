//! What runs, and what it shares.

use std::sync::Arc;

use anyhow::Context;
use kube::{Client, runtime::reflector};
use prometheus_client::registry::Registry;
use sparks_api::{NamespacedName, Volume};
use sparks_host::{Host, LinuxHost, pool::Pool};
use sparks_ops::{
    admin::{self, Readiness},
    queue,
};
use tokio::sync::watch;

use crate::{
    config::Config,
    events::Events,
    exits::Exits,
    guest::Guests,
    heartbeat,
    import::Imports,
    inventory::Inventory,
    metrics::Metrics,
    pods::Pods,
    seal, trash,
    triggers::Triggers,
    usage,
    volume::{self, memory::Memories},
    watch::Unreadable,
};

/// Passes that run at the same time. They wait for the disk or the API server nearly always.
const CONCURRENCY: usize = 64;

/// All that the tasks share.
pub struct Agent {
    /// What it was told.
    pub config: Config,
    /// The API server.
    pub client: Client,
    /// The machine.
    pub host: Arc<dyn Host>,
    /// The key to which secrets are sealed.
    pub key: seal::Key,
    /// The Volumes, and how to have them looked at.
    pub triggers: Triggers,
    /// The pods.
    pub pods: Pods,
    /// Their containers and guests.
    pub guests: Arc<Guests>,
    /// What is in the pool.
    pub inventory: Inventory,
    /// What is being imported.
    pub imports: Imports,
    /// Containers whose end is waited for.
    pub exits: Exits,
    /// What is remembered of each Volume.
    pub memories: Memories,
    /// Volumes that can't be read.
    pub unreadable: Unreadable,
    /// Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Metrics,
}

/// A blocking call ended without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a call to the machine was abandoned, which is a bug of the node agent; its log has the panic")]
pub struct Lost;

impl Agent {
    /// Puts together an agent on this machine.
    pub fn new(
        config: Config,
        client: Client,
        host: Arc<dyn Host>,
        key: seal::Key,
        inventory: Inventory,
        triggers: Triggers,
        metrics: Metrics,
    ) -> Self {
        Self {
            guests: Arc::new(Guests::new(host.clone(), triggers.clone(), metrics.clone())),
            events: Events::new(client.clone(), &config.pod_name),
            config,
            client,
            host,
            key,
            triggers,
            pods: Pods::default(),
            inventory,
            imports: Imports::default(),
            exits: Exits::default(),
            memories: Memories::default(),
            unreadable: Unreadable::default(),
            metrics,
        }
    }

    /// Asks the machine, on a thread that may block.
    pub async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Host) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let host = self.host.clone();
        tokio::task::spawn_blocking(move || ask(&*host)).await.map_err(|_| Lost)
    }
}

/// Runs the agent until it is asked to end. Whatever it is doing then is taken up again at its next start; the Sparks
/// run on.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = sparks_ops::shutdown::requested()?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::default();
    admin::serve(config.admin_addr, registry, readiness.clone())
        .await
        .with_context(|| format!("{} can't be listened on", config.admin_addr))?;

    std::fs::create_dir_all(&config.state_dir).with_context(|| {
        format!("{} can't be made; the agent must run as root", config.state_dir.display())
    })?;
    let key = seal::Key::load_or_create(&config.key_file())?;
    let (source, mount, reserve) = (config.pool_source(), config.pool_mount(), config.reserve);
    let pool = tokio::task::spawn_blocking(move || Pool::open(&source, &mount, reserve)).await??;
    let host: Arc<dyn Host> = Arc::new(LinuxHost::new(pool));
    let inventory = Inventory::load(&*host)?;
    let client = Client::try_default().await.context("there is no way to the API server")?;

    let (queue, receiver) = queue::channel::<NamespacedName>();
    let (volumes, writer) = reflector::store::<Volume>();
    let triggers = Triggers { queue: queue.clone(), volumes };
    let agent = Arc::new(Agent::new(config, client, host, key, inventory, triggers, metrics));
    tracing::info!(
        node = agent.config.node_name,
        public_key = agent.key.public_hex(),
        "the node agent starts"
    );

    let (volumes_ready, mut volumes_known) = watch::channel(false);
    let (pods_ready, mut pods_known) = watch::channel(false);
    let watches = [
        tokio::spawn(crate::watch::volumes(agent.clone(), writer, volumes_ready)),
        tokio::spawn(crate::watch::pods(agent.clone(), pods_ready)),
    ];
    let work = async {
        // An error means that a watch ended, which ends the agent below.
        let _ = volumes_known.wait_for(|ready| *ready).await;
        let _ = pods_known.wait_for(|ready| *ready).await;
        agent.guests.looked_at().await;
        readiness.set(true);
        tracing::info!("volumes and pods are known");
        tokio::spawn(trash::run(agent.clone()));
        tokio::spawn(usage::run(agent.clone()));
        tokio::spawn(heartbeat::run(agent.clone()));
        tokio::spawn({
            let agent = agent.clone();
            async move {
                agent.exits.run(agent.host.clone(), agent.guests.clone(), agent.triggers.queue.clone()).await
            }
        });
        let reconciled = agent.clone();
        let pass = move |key, since| volume::reconcile(reconciled.clone(), key, since);
        queue::run(queue, receiver, CONCURRENCY, queue::Backoff::default(), pass).await;
    };
    let [volumes, pods] = watches;
    tokio::select! {
        () = shutdown => Ok(()),
        () = work => anyhow::bail!("the queue of reconciles ended"),
        ended = volumes => anyhow::bail!("the watch of Volumes ended: {ended:?}"),
        ended = pods => anyhow::bail!("the watch of pods ended: {ended:?}"),
    }
}
