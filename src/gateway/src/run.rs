//! Wiring: directory, SSH, HTTP, admin port, shutdown.

use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, getrlimit, setrlimit};
use sparks_api::SSH_PORT;
use sparks_ops::{admin, shutdown};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    directory::Directory,
    http::{self, Ssh},
    recording::{Recorder, Store},
    secrets,
    ssh::{self, Record, authorities::Authorities, dial::Guests},
    taps::Taps,
};

/// Runs until a signal comes and everything that was relayed then has ended.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let mut registry = Registry::default();
    let http_metrics = http::Metrics::new(&mut registry);
    let ssh_metrics = ssh::Metrics::new(&mut registry);
    let readiness = admin::Readiness::default();
    admin::serve(config.admin_listen, registry, readiness.clone())
        .await
        .context("the admin address can't be bound")?;
    raise_open_files();
    let client = Client::try_default().await.context("no API server is configured")?;
    let signal = shutdown::requested()?;
    tokio::pin!(signal);
    let directory = Directory::start(client.clone(), config.wake_timeout);
    let keys = tokio::select! {
        keys = secrets::wait(client.clone(), &config.namespace) => keys?,
        () = &mut signal => return Ok(()),
    };
    tokio::select! {
        () = directory.ready() => {}
        () = &mut signal => return Ok(()),
    }
    tracing::info!("all Sparks are known");
    let stop = CancellationToken::new();
    let mut servers: JoinSet<std::io::Result<()>> = JoinSet::new();
    let listener = TcpListener::bind(config.ssh_listen).await.context("the SSH address can't be bound")?;
    let recorder = recorder(&config, client.clone())?;
    let guests = Ssh { port: SSH_PORT, metrics: ssh_metrics.clone() };
    let settings = ssh_settings(&config, directory.clone(), keys, ssh_metrics, recorder)?;
    let ssh = ssh::serve(settings, listener, stop.clone());
    servers.spawn(async move {
        ssh.await;
        Ok(())
    });
    servers.spawn(http::serve(
        config.clone(),
        client.clone(),
        directory.clone(),
        http_metrics,
        guests,
        stop.clone(),
    ));
    readiness.set(true);
    tokio::select! {
        () = &mut signal => {}
        Some(ended) = servers.join_next() => {
            ended.context("a server panicked")??;
            anyhow::bail!("a server ended by itself");
        }
    }
    readiness.set(false);
    stop.cancel();
    while let Some(ended) = servers.join_next().await {
        ended.context("a server panicked")??;
    }
    Ok(())
}

fn ssh_settings(
    config: &Config,
    directory: Directory,
    keys: secrets::Keys,
    metrics: ssh::Metrics,
    recorder: Option<Arc<dyn Record>>,
) -> anyhow::Result<ssh::Settings<Directory>> {
    Ok(ssh::Settings {
        sparks: directory,
        keys,
        authorities: Authorities::new(config.user_ca_file.clone())?,
        default_namespace: config.default_namespace.clone(),
        limits: config.ssh,
        metrics,
        recorder,
        guests: Guests::default(),
    })
}

/// What records sessions, if there is a place for recordings; it also tidies that, on a task of its own.
fn recorder(config: &Config, client: Client) -> anyhow::Result<Option<Arc<dyn Record>>> {
    let Some(folder) = &config.recordings_dir else { return Ok(None) };
    let store = Store::limited(folder.clone(), config.recordings)
        .context("the directory of recordings can't be used")?;
    let recorder = Recorder::new(Arc::new(store), client);
    tokio::spawn(recorder.clone().sweep(config.recordings_retention));
    Ok(Some(Arc::new(Taps(recorder))))
}

/// Every relayed connection takes two file descriptors, and the soft limit is 1024 in many places.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
}
