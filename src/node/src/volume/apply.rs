//! Does what the plan says, in order, and stops at the first failure.

use std::{sync::Arc, time::Duration};

use kube::ResourceExt;
use sparks_api::{
    ROOT_DISK, Reason, Volume,
    conditions::{ATTACHED, PROVISIONED, RESIZED},
};
use sparks_host::{
    Host, HostError,
    attach::HostFile,
    host::{AttachRequest, DiskMount},
    pool::{DiskUsage, PoolError, VolumeRequest},
};
use sparks_ops::queue::Again;
use sparks_proto::Computer;
use tokio::{sync::oneshot, time::Instant};

use super::{
    blocked::{Blocked, Retry},
    memory::Attach,
    plan::{Plan, Step, wanted},
    write::Written,
};
use crate::{
    agent::{Agent, Lost},
    guest::{Guest, Standing},
    metrics::operation,
    triggers,
};

/// Ends the line in /etc/hosts that the agent writes, by which it is found again.
const MARK: &str = "# sparks";

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// Obstacles: the plan's, and what failed.
    pub blocked: Vec<Blocked>,
    /// When to look again, if not only on events.
    retry: Option<Retry>,
    /// Ends when the root that was replaced has gone.
    clearing: Option<oneshot::Receiver<()>>,
}

impl Applied {
    fn block(&mut self, blocked: Blocked) {
        self.try_again(blocked.retry);
        self.blocked.push(blocked);
    }

    /// The sooner of two; a failure's growing pause counts before a fixed one.
    fn try_again(&mut self, retry: Retry) {
        self.retry = match (self.retry, retry) {
            (Some(Retry::Backoff), _) | (_, Retry::Backoff) => Some(Retry::Backoff),
            (Some(Retry::After(a)), Retry::After(b)) => Some(Retry::After(a.min(b))),
            (Some(Retry::After(a)), Retry::Event) => Some(Retry::After(a)),
            (_, retry) => Some(retry),
        };
    }

    /// Takes in what came of the write of the status.
    pub fn retry(&mut self, written: Written) {
        match written {
            Written::Yes => {}
            Written::Later(pause) => self.try_again(Retry::After(pause)),
            Written::Failed => self.try_again(Retry::Backoff),
        }
    }

    /// What the queue is told.
    pub fn again(&self) -> Again {
        match self.retry {
            None | Some(Retry::Event) => Again::OnChange,
            Some(Retry::After(pause)) => Again::After(pause),
            Some(Retry::Backoff) => Again::Backoff,
        }
    }
}

/// Applies a plan.
pub async fn apply(agent: &Arc<Agent>, volume: &Volume, plan: Plan) -> Applied {
    let mut applied = Applied::default();
    plan.blocked.into_iter().for_each(|blocked| applied.block(blocked));
    for step in plan.steps {
        let done = match step {
            Step::Create(request) => create(agent, request).await,
            Step::SetLimit { disk, bytes } => {
                // A limit that can't be set keeps nobody from working.
                if let Err(blocked) = set_limit(agent, volume, disk, bytes).await {
                    applied.block(blocked);
                }
                Ok(())
            }
            Step::Quiesce { container } => quiesce(agent, &container).await,
            Step::Attach { container, instead_of } => {
                let attached = attach(agent, volume, &container, instead_of).await;
                attached.map(|clearing| applied.clearing = Some(clearing))
            }
            Step::Run { container, computer } => run(agent, &container, &computer).await,
            Step::Trash { deadline } => trash(agent, volume, deadline).await,
            Step::RemoveFinalizer => super::write::remove_finalizer(agent, volume).await,
        };
        if let Err(blocked) = done {
            tracing::warn!(volume = %triggers::key(volume), reason = %blocked.reason, "{}", blocked.message);
            applied.block(blocked);
            break;
        }
    }
    // Meanwhile the guest has begun to start the service. Before that nobody is told to come in.
    if let Some(clearing) = applied.clearing.take() {
        let _ = clearing.await;
    }
    applied
}

fn failed(agent: &Agent, operation: &'static str, condition: &'static str, error: &HostError) -> Blocked {
    let blocked = Blocked::host(condition, error);
    agent.metrics.failed(operation, &blocked.reason);
    blocked
}

fn lost(condition: &'static str, lost: Lost) -> Blocked {
    Blocked::new(condition, Reason::HostError, lost.to_string())
}

async fn create(agent: &Arc<Agent>, request: VolumeRequest) -> Result<(), Blocked> {
    let (started, uid) = (Instant::now(), request.uid.clone());
    let image = request.disks.iter().find_map(|disk| match &disk.source {
        sparks_host::pool::DiskSource::Image { key } => Some(key.clone()),
        _ => None,
    });
    let make = move |host: &dyn Host| match host.create_volume(&request) {
        // Its object was missing for a while, and is back.
        Err(HostError::Pool(PoolError::InTrash { .. })) => {
            host.undelete_volume(&request.uid)?;
            host.create_volume(&request)
        }
        made => made,
    };
    let created = agent.blocking(make).await.map_err(|e| lost(PROVISIONED, e))?;
    let created = created.map_err(|error| {
        if let (HostError::Pool(PoolError::NoImage { .. }), Some(key)) = (&error, &image) {
            agent.inventory.set_image(key, false);
        }
        failed(agent, operation::CREATE, PROVISIONED, &error)
    })?;
    let took = started.elapsed();
    agent.metrics.took(operation::CREATE, took);
    tracing::debug!(uid, ?took, timings = ?created.timings, "disks made");
    let usage = created.volume.disks.iter().map(|disk| DiskUsage {
        disk: disk.name.clone(),
        referenced_bytes: disk.inherited_bytes,
        exclusive_bytes: 0,
        limit_bytes: disk.limit_bytes,
    });
    agent.memories.with(&uid, |memory| {
        memory.usage = usage.collect();
        memory.snapshot_micros = created.created.then(|| micros(took));
    });
    agent.inventory.add(created.volume);
    agent.triggers.source(&uid);
    Ok(())
}

async fn set_limit(agent: &Arc<Agent>, volume: &Volume, disk: String, bytes: u64) -> Result<(), Blocked> {
    let uid = volume.uid().unwrap_or_default();
    let (of, name) = (uid.clone(), disk.clone());
    let set = agent
        .blocking(move |host| host.set_limit(&of, &name, Some(bytes)))
        .await
        .map_err(|e| lost(RESIZED, e))?;
    set.map_err(|error| failed(agent, operation::RESIZE, RESIZED, &error))?;
    agent.inventory.limit(&uid, &disk, bytes);
    Ok(())
}

fn guest(agent: &Agent, container: &str) -> Result<Arc<Guest>, Blocked> {
    let gone = || Blocked::new(ATTACHED, Reason::PodStarting, "the container ended meanwhile");
    agent.guests.get(container).ok_or_else(gone)
}

async fn quiesce(agent: &Arc<Agent>, container: &str) -> Result<(), Blocked> {
    let told = guest(agent, container)?.quiesce().await;
    told.map_err(|error| Blocked::new(ATTACHED, Reason::HostError, error.to_string()))
}

async fn run(agent: &Arc<Agent>, container: &str, computer: &Computer) -> Result<(), Blocked> {
    guest(agent, container)?.run(computer).await.map_err(|error| {
        agent.metrics.failed(operation::RUN, Reason::HostError);
        Blocked::new(ATTACHED, Reason::HostError, error.to_string())
    })
}

async fn attach(
    agent: &Arc<Agent>,
    volume: &Volume,
    container: &str,
    instead_of: Standing,
) -> Result<oneshot::Receiver<()>, Blocked> {
    let started = Instant::now();
    let guest = guest(agent, container)?;
    // Two Volumes may want the same pod for a moment: the second one finds it taken.
    let _alone = guest.attaching.lock().await;
    let present = guest.view();
    let ready = instead_of == Standing::Image || present.quiesced;
    if present.standing.as_ref() != Some(&instead_of) || !ready {
        let retry = Retry::After(Duration::from_millis(1));
        return Err(Blocked::new(ATTACHED, Reason::Attaching, "the pod was taken meanwhile").retry(retry));
    }
    let (request, id) = (request(agent, volume, &guest), container.to_owned());
    let (cleared, clearing) = oneshot::channel();
    // Who no longer waits needs not be told.
    let cleared = Box::new(move || {
        let _ = cleared.send(());
    });
    let attached = agent
        .blocking(move |host| host.attach(&id, &request, cleared))
        .await
        .map_err(|e| lost(ATTACHED, e))?;
    let report = attached.map_err(|error| failed(agent, operation::ATTACH, ATTACHED, &error))?;
    let (took, uid) = (started.elapsed(), volume.uid().unwrap_or_default());
    guest.stands_in(Standing::Volume(uid.clone()));
    agent.metrics.took(operation::ATTACH, took);
    agent.memories.with(&uid, |memory| {
        let container = container.to_owned();
        memory.attach =
            Some(Attach { container, at: Instant::now(), micros: micros(took), service_micros: None });
    });
    report.warnings.iter().for_each(|warning| tracing::warn!(volume = %triggers::key(volume), "{warning}"));
    tracing::debug!(uid, ?took, steps = ?report.steps, "attached");
    if let Standing::Volume(before) = instead_of {
        if let Some(sent) = present.quiesce_sent {
            agent.metrics.took(operation::QUIESCE, sent.elapsed());
        }
        agent.triggers.uid(&before);
    }
    Ok(clearing)
}

fn request(agent: &Agent, volume: &Volume, guest: &Guest) -> AttachRequest {
    let hostname = wanted(volume).map(|wanted| wanted.hostname.clone()).unwrap_or_default();
    let ip = agent.pods.get(&guest.pod).and_then(|pod| pod.ip).map(|ip| ip.to_string());
    let file = |name, contents| HostFile { name, contents };
    let hosts = hosts(&guest.pod_file("/etc/hosts").unwrap_or_default(), ip.as_deref(), &hostname);
    let mut files = vec![file("hosts", hosts), file("hostname", format!("{hostname}\n").into())];
    files.extend(guest.pod_file("/etc/resolv.conf").map(|contents| file("resolv.conf", contents)));
    let further = volume.spec.disks.iter().filter(|disk| disk.name != ROOT_DISK);
    AttachRequest {
        volume_uid: volume.uid().unwrap_or_default(),
        root_disk: ROOT_DISK.into(),
        mounts: further
            .map(|disk| DiskMount {
                disk: disk.name.clone(),
                path: disk.mount_path.clone(),
                read_only: volume.spec.read_only,
            })
            .collect(),
        files,
        hostname: Some(hostname),
    }
}

/// The pod's own hosts file, and a line that makes the host name known, without which sudo complains.
fn hosts(pods_own: &[u8], ip: Option<&str>, hostname: &str) -> Vec<u8> {
    let own = String::from_utf8_lossy(pods_own);
    let mut text: String =
        own.lines().filter(|line| !line.ends_with(MARK)).map(|line| format!("{line}\n")).collect();
    if text.is_empty() {
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    text.push_str(&format!("{}\t{hostname} {MARK}\n", ip.unwrap_or("127.0.1.1")));
    text.into_bytes()
}

async fn trash(agent: &Arc<Agent>, volume: &Volume, deadline: u64) -> Result<(), Blocked> {
    let (started, uid) = (Instant::now(), volume.uid().unwrap_or_default());
    let of = uid.clone();
    let trashed = agent
        .blocking(move |host| host.trash_volume(&of, deadline))
        .await
        .map_err(|e| lost(PROVISIONED, e))?;
    match trashed {
        // It was never made.
        Ok(()) | Err(HostError::Pool(PoolError::NoVolume { .. })) => {}
        Err(error) => return Err(failed(agent, operation::TRASH, PROVISIONED, &error)),
    }
    agent.metrics.took(operation::TRASH, started.elapsed());
    agent.inventory.remove(&uid);
    Ok(())
}

/// Microseconds as the API has them.
pub fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_is_in_the_hosts_file_once() {
        let first = hosts(b"127.0.0.1 localhost\n", Some("10.0.0.7"), "api");
        assert_eq!(String::from_utf8_lossy(&first), "127.0.0.1 localhost\n10.0.0.7\tapi # sparks\n");
        let again = hosts(&first, Some("10.0.0.8"), "api-2");
        assert_eq!(String::from_utf8_lossy(&again), "127.0.0.1 localhost\n10.0.0.8\tapi-2 # sparks\n");
    }

    #[test]
    fn a_pod_without_a_hosts_file_still_knows_localhost() {
        assert!(String::from_utf8_lossy(&hosts(b"", None, "api")).starts_with("127.0.0.1\tlocalhost\n"));
    }
}
