//! From what is to what shall be.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use sparks_api::{
    AttachedSsh, Class, Inherited, KeySource, Reason, Restored, SparkStatus, Volume, VolumeSource,
    VolumeSpec, labels,
};

use super::{
    attach::{attachment, disks, saved, volume_for},
    inherit::effective,
    observed::Observed,
    service::{DEFAULT_PORT, name_taken, service},
    sleep, ssh, status,
};
use crate::{
    action::{Action, Doomed, Planned, Seal, Write},
    known::{Known, owned_by},
    names, placement,
    pods::{self, grace, spark_labels},
    progress::{Blocked, Progress},
    resources, volume,
};

/// After this time a start shows its progress; a warm one is over by then, in a burst on a small node too, and costs no
/// write for it.
const SHOW_PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// After this time the Secrets and ConfigMaps with public keys are read again; they aren't watched. What was read may be
/// a quarter of a minute old (`FRESH` of the controller), so that a change is seen within a minute.
const READ_KEYS_AGAIN: Duration = Duration::from_secs(45);

/// What it took over from its source, or is to take over.
fn base(seen: &Observed) -> Option<Inherited> {
    let taken = seen.spark.status.as_ref().and_then(|s| s.inherited.clone());
    taken.or_else(|| seen.source.as_ref().ok().and_then(|s| s.inherited.clone()))
}

/// The Secrets and ConfigMaps whose lines of authorized_keys [`Observed::ssh`] is to have.
#[must_use]
pub fn key_sources(seen: &Observed) -> Vec<KeySource> {
    ssh::sources(&effective(&seen.spark.spec, base(seen).as_ref())).to_vec()
}

/// Plans one Spark.
#[must_use]
pub fn plan(seen: &Observed) -> Planned<SparkStatus> {
    let base = base(seen);
    let mut draft = Draft {
        seen,
        effective: effective(&seen.spark.spec, base.as_ref()),
        actions: Vec::new(),
        notice: None,
        bedtime: None,
        declined: Vec::new(),
    };
    draft.bedtime = draft.bedtime();
    let progress = draft.steps().unwrap_or_else(Progress::Blocked);
    if progress.is_ready() || !(draft.expired() || draft.is_fast() && going_on(&progress)) {
        draft.service();
    }
    let progress = match draft.notice.take() {
        Some(notice) => Progress::Blocked(notice),
        None => progress,
    };
    draft.finish(&progress, base)
}

struct Draft<'a> {
    seen: &'a Observed,
    effective: Inherited,
    actions: Vec<Action>,
    /// Something that is wrong but keeps nothing else from going on.
    notice: Option<Blocked>,
    /// When it falls asleep if nothing happens until then.
    bedtime: Option<jiff::Timestamp>,
    /// What was not done, and why.
    declined: Vec<String>,
}

impl Draft<'_> {
    fn steps(&mut self) -> Result<Progress, Blocked> {
        if self.expired() {
            self.actions.push(Action::Expire);
            return Err(Blocked::new(Reason::Expired, "its time to live has passed; it goes into the trash"));
        }
        let live = self.live().cloned();
        let spark = &self.seen.spark;
        if !spark.spec.lifecycle.running {
            let ending = Blocked::new(Reason::PodTerminating, "the service is ending");
            return self.stopped(live.as_ref(), ending, stopped());
        }
        if sleep::asleep(spark) {
            return self.stopped(live.as_ref(), sleep::falling(spark), sleep::sleeping(spark));
        }
        // The pod is ended by the next pass, once the status that says so is accepted.
        if self.falls_asleep() {
            return Err(sleep::falling(spark));
        }
        match live {
            Some(live) => self.running(&live),
            None => self.born(),
        }
    }

    fn expired(&self) -> bool {
        status::expires_at(&self.seen.spark).is_some_and(|at| at.0 <= self.seen.now)
    }

    /// Only a node agent that runs knows what is idle.
    fn bedtime(&self) -> Option<jiff::Timestamp> {
        let live = self.live().filter(|_| !sleep::asleep(&self.seen.spark))?;
        self.agent_on(&live.spec.node_name).ok()?;
        sleep::bedtime(&self.seen.spark, live, status::current_pod(self.seen, Some(live))?)
    }

    fn falls_asleep(&self) -> bool {
        self.bedtime.is_some_and(|at| at <= self.seen.now)
    }

    /// A start so young that it may be a warm one costs no write that can wait.
    fn is_fast(&self) -> bool {
        self.seen.start.age < SHOW_PROGRESS_AFTER
    }

    fn live(&self) -> Option<&Known<Volume>> {
        self.seen.live.as_ref()
    }

    /// A Spark without a Volume: take up trashed data, or make a Volume and find a pod for it.
    fn born(&mut self) -> Result<Progress, Blocked> {
        if let Some(trashed) = &self.seen.undelete {
            self.actions.push(Action::UpdateVolume(Box::new(self.undeleted(trashed)), Seal::default()));
            return Err(Blocked::new(Reason::Provisioning, "the disks are being taken out of the trash"));
        }
        self.refuse_to_start_over()?;
        if self.is_fast() && self.seen.start.claim.is_some() {
            // The Volume is written, and its pod came through its watch first: a pass now would claim a second pod.
            self.declined
                .push("no pod is claimed and no Volume made: both are written and on their way".into());
            return Err(Blocked::new(Reason::Provisioning, "the disks are being made"));
        }
        let source = self.seen.source.clone()?;
        let node = self.node_for(source.node)?;
        let pod = self.own_pod(&node).or_else(|| self.find_pod(&node));
        self.create_volume(self.first_volume(), node, source.volume, pod.as_ref());
        Err(Blocked::new(Reason::Provisioning, "the disks are being made"))
    }

    fn first_volume(&self) -> String {
        names::volume(self.seen.spark.name(), &self.seen.spark.id.uid)
    }

    /// A Spark that once had disks must not silently begin anew without them.
    fn refuse_to_start_over(&self) -> Result<(), Blocked> {
        let spark = &self.seen.spark;
        if spark.annotations().contains_key(labels::UNDELETE) {
            let message = "the data to undelete is not in the trash of this namespace: it may have expired; delete this Spark";
            return Err(Blocked::new(Reason::NothingToUndelete, message));
        }
        match spark.status.as_ref().and_then(|s| s.volume.as_ref()) {
            Some(lost) => {
                let message = format!(
                    "the Volume {} with its disks was deleted: delete this Spark, or undelete its data",
                    lost.name
                );
                Err(Blocked::new(Reason::VolumeLost, message))
            }
            None => Ok(()),
        }
    }

    fn undeleted(&self, trashed: &Known<Volume>) -> Volume {
        let mut volume = (**trashed).clone();
        let (spark, labels) = (&self.seen.spark, volume.labels_mut());
        labels.insert(labels::OWNER_UID.into(), spark.id.uid.to_string());
        labels.insert(labels::OWNER_NAME.into(), spark.name().into());
        labels.remove(labels::TRASHED);
        volume.annotations_mut().remove(labels::TRASH_DEADLINE);
        volume.spec.trashed_at = None;
        volume
    }

    /// The node of the source's blocks, or the best one.
    fn node_for(&self, wanted: Option<String>) -> Result<String, Blocked> {
        if let Some(node) = wanted {
            return self.agent_on(&node).map(|()| node);
        }
        let chosen = placement::choose(&self.seen.agents, &self.seen.warm).map(|agent| agent.node.clone());
        chosen.ok_or_else(|| {
            let message = "no node has a running node agent with room in its pool: look at the pods of the DaemonSet sparks-node";
            Blocked::new(Reason::NoNode, message)
        })
    }

    fn agent_on(&self, node: &str) -> Result<(), Blocked> {
        if self.seen.agents.iter().any(|agent| agent.node == node) {
            return Ok(());
        }
        let message = format!(
            "the node {node}, which holds the data, is gone or runs no node agent; it goes on when the node is back"
        );
        Err(Blocked::new(Reason::NodeLost, message))
    }

    /// A pod that was claimed by a pass that came no further.
    fn own_pod(&self, node: &str) -> Option<Known<Pod>> {
        self.seen.pods.iter().find(|pod| !pods::is_ending(pod) && pods::is_on(pod, node)).cloned()
    }

    /// A warm pod to claim, else an ordinary one, which has no uid yet and so is attached at the next pass.
    fn find_pod(&mut self, node: &str) -> Option<Known<Pod>> {
        let warm = self.seen.warm.iter().find(|pod| pods::is_on(pod, node)).cloned();
        match &warm {
            Some(pod) => self.actions.push(self.claim(pod)),
            None => {
                self.declined.push(format!("no warm pod is claimed: none is free on {node}"));
                self.create_pod(node);
            }
        }
        warm
    }

    fn claim(&self, pod: &Known<Pod>) -> Action {
        let (spark, owner) = (self.seen.spark.id.clone(), Box::new(owned_by(&self.seen.spark)));
        Action::Claim { pod: pod.clone(), spark, owner }
    }

    fn create_pod(&mut self, node: &str) {
        let spark = &self.seen.spark;
        let (name, labels) = (names::cold_pod(spark.name(), &spark.id.uid), spark_labels(spark));
        let pod =
            self.seen.template.cold(name, labels, owned_by(spark), node, self.effective.resources.as_ref());
        self.actions.push(Action::CreatePod { pod: Box::new(pod), pool: None });
    }

    fn create_volume(&mut self, name: String, node: String, source: VolumeSource, pod: Option<&Known<Pod>>) {
        let mut volume = volume_for(&self.seen.spark, name, node, source, &self.effective);
        let (service, ssh) = (self.effective.service.as_ref(), self.ssh(&volume.spec.node_name, None));
        volume.spec.attachment = pod.map(|pod| attachment(&self.seen.spark, pod, service, ssh));
        let seal = self.seal(&volume, pod.is_some());
        self.actions.push(Action::CreateVolume(Box::new(volume), seal));
    }

    /// What is missing in the Volume's attachment because only the controller can read and seal it.
    fn seal(&self, volume: &Volume, new_env: bool) -> Seal {
        let env = self.effective.service.iter().flat_map(|s| s.env_from.iter().flatten().cloned());
        let ssh = volume.spec.attachment.as_ref().and_then(|attachment| attachment.ssh.as_ref());
        let unsealed = ssh.is_some_and(|ssh| ssh.sealed_to.is_some() && ssh.sealed_host_key.is_none());
        Seal {
            env: if new_env { env.collect() } else { Vec::new() },
            host_key_of: unsealed.then(|| self.seen.spark.id.uid.clone()),
        }
    }

    fn ssh(&self, node: &str, old: Option<&AttachedSsh>) -> Option<AttachedSsh> {
        let agent = self.seen.agents.iter().find(|agent| agent.node == node);
        let key = agent.and_then(|agent| agent.public_key.as_deref());
        ssh::attached(&self.effective, &self.seen.ssh, key, old)
    }

    /// Without a pod: `ending` while there is one, then `settled`.
    fn stopped(
        &mut self,
        live: Option<&Known<Volume>>,
        ending: Blocked,
        settled: Progress,
    ) -> Result<Progress, Blocked> {
        let grace = grace(self.effective.service.as_ref());
        self.end(self.seen.pods.iter(), grace);
        let Some(live) = live else {
            return if self.seen.spark.status.as_ref().is_some_and(|s| s.volume.is_some()) {
                self.refuse_to_start_over().map(|()| settled)
            } else {
                self.made_stopped()
            };
        };
        self.restore(live, None);
        self.discard_replaced(live);
        self.keep_volume_current(live, None);
        if self.seen.pods.is_empty() {
            self.provisioned(live)?;
            return Ok(settled);
        }
        Err(ending)
    }

    fn provisioned(&self, live: &Volume) -> Result<(), Blocked> {
        let (pod, refused) = (self.seen.import_pod.as_ref(), self.seen.import_refused.as_ref());
        status::provisioned(live, pod, refused)
    }

    /// Ends pods that nobody has begun to end.
    fn end<'p>(&mut self, pods: impl Iterator<Item = &'p Known<Pod>>, grace: u32) {
        let going = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
        self.actions.extend(going.map(|pod| {
            Action::DeletePod(Doomed { id: pod.id.clone(), version: None, grace_seconds: Some(grace) })
        }));
    }

    /// A Spark that is created stopped gets its disks, and no pod.
    fn made_stopped(&mut self) -> Result<Progress, Blocked> {
        if self.seen.undelete.is_some() || self.seen.spark.annotations().contains_key(labels::UNDELETE) {
            return self.born();
        }
        let source = self.seen.source.clone()?;
        let node = self.node_for(source.node)?;
        self.create_volume(self.first_volume(), node, source.volume, None);
        Err(Blocked::new(Reason::Provisioning, "the disks are being made"))
    }

    fn running(&mut self, live: &Known<Volume>) -> Result<Progress, Blocked> {
        let pod = self.pod(live)?;
        self.restore(live, pod.as_ref());
        self.discard_replaced(live);
        self.keep_volume_current(live, pod.as_ref());
        self.provisioned(live)?;
        let pod =
            pod.ok_or_else(|| Blocked::new(Reason::PodStarting, "no warm pod was free; a pod starts"))?;
        status::attached(live, &pod)?;
        self.resize(&pod);
        Ok(Progress::Ready(Reason::Running, "it runs".into()))
    }

    /// The pod that is this Spark, or a new one. Further pods are ended: a lost race can leave one, and a pass that
    /// claimed a pod and came no further one on another node than the disks.
    fn pod(&mut self, live: &Volume) -> Result<Option<Known<Pod>>, Blocked> {
        let (ending, mut here): (Vec<_>, Vec<_>) =
            self.seen.pods.iter().cloned().partition(|pod| pods::is_ending(pod));
        self.end(ending.iter(), 0);
        let node = &live.spec.node_name;
        let (near, far): (Vec<_>, Vec<_>) = here.drain(..).partition(|pod| pods::is_for(pod, node));
        self.end(far.iter(), 0);
        here = near;
        let attached = live.spec.attachment.as_ref().map(|a| a.pod_uid.as_str());
        here.sort_by_key(|pod| (Some(pod.id.uid.as_str()) != attached, pod.id.name.clone()));
        let mut here = here.iter();
        let Some(pod) = here.next() else {
            self.agent_on(&live.spec.node_name)?;
            return Ok(self.find_pod(&live.spec.node_name));
        };
        self.end(here, 0);
        Ok(Some(pod.clone()))
    }

    /// Makes the Volume of a wanted restore that is not done; says why when it can't.
    fn restore(&mut self, live: &Known<Volume>, pod: Option<&Known<Pod>>) {
        let spark = &self.seen.spark;
        let Some(restore) = spark.spec.restore.as_ref() else { return };
        let name = names::restored_volume(spark.name(), &spark.id.uid, restore);
        let wanted = Restored { checkpoint: restore.checkpoint.clone(), id: restore.id.clone() };
        let done = spark.status.as_ref().and_then(|s| s.restored.as_ref());
        if live.name() == name || done == Some(&wanted) {
            return;
        }
        self.notice = match self.seen.restore.clone() {
            Some(Ok(source)) => {
                self.create_volume(name, live.spec.node_name.clone(), source, pod);
                let message = format!("the disks of the Checkpoint {} are being made", wanted.checkpoint);
                Some(Blocked::new(Reason::Provisioning, message))
            }
            Some(Err(blocked)) => Some(blocked),
            None => None,
        };
    }

    /// What a restore replaced goes into the trash once the new disks are there.
    fn discard_replaced(&mut self, live: &Known<Volume>) {
        if !volume::is_provisioned(live) {
            return;
        }
        let deadline = volume::trash_deadline(self.seen.now, self.seen.retention);
        let replaced = self.seen.volumes.iter().filter(|volume| volume.id != live.id);
        self.actions.extend(replaced.map(|volume| {
            let trashed = volume::trashed(volume, self.seen.now, deadline);
            Action::UpdateVolume(Box::new(trashed), Seal::default())
        }));
    }

    /// Attachment, disk sizes and the saved spec follow the Spark.
    fn keep_volume_current(&mut self, live: &Known<Volume>, pod: Option<&Known<Pod>>) {
        let old = live.spec.attachment.as_ref();
        let ssh = self.ssh(&live.spec.node_name, old.and_then(|old| old.ssh.as_ref()));
        let service = self.effective.service.as_ref();
        let mut wanted = pod.map(|pod| attachment(&self.seen.spark, pod, service, ssh));
        let same_pod = old.zip(wanted.as_ref()).is_some_and(|(a, b)| a.pod_uid == b.pod_uid);
        let same_env = old.and_then(|a| a.service.as_ref()).is_some() && same_pod;
        if let (true, Some(wanted), Some(old)) = (same_env, &mut wanted, old) {
            wanted.sealed_env.clone_from(&old.sealed_env);
        }
        let new_env = wanted.is_some() && !same_env;
        let mut volume = (**live).clone();
        volume.spec = VolumeSpec { attachment: wanted, disks: disks(&self.effective), ..live.spec.clone() };
        volume.annotations_mut().extend(saved(&self.seen.spark, &self.effective));
        if volume != **live {
            let seal = self.seal(&volume, new_env);
            self.actions.push(Action::UpdateVolume(Box::new(volume), seal));
        }
    }

    fn resize(&mut self, pod: &Known<Pod>) {
        if self.effective.resources.is_none() {
            return;
        }
        let wanted = resources::requirements(self.effective.resources.as_ref());
        let now = pod.spec.as_ref().and_then(|s| s.containers.first()).and_then(|c| c.resources.as_ref());
        if !now.is_some_and(|now| resources::same(now, &wanted)) {
            self.actions.push(Action::ResizePod(pod.clone(), Box::new(wanted)));
        }
    }

    /// Not on the way to Ready: each Service costs the control plane three writes.
    fn service(&mut self) {
        let port = self.effective.service.as_ref().map_or(DEFAULT_PORT, |s| s.port);
        let wanted = service(&self.seen.spark, port);
        let Some(found) = &self.seen.service else {
            self.actions.push(Action::CreateService(Box::new(wanted)));
            return;
        };
        let ours = |uid: &str| uid == self.seen.spark.id.uid.as_str();
        if !found.owner_references().iter().any(|owner| ours(&owner.uid)) {
            self.notice = Some(name_taken(found.name()));
            return;
        }
        let ports = |s: &Service| {
            s.spec.as_ref().and_then(|s| s.ports.as_ref()).and_then(|p| p.first()).map(|p| p.port)
        };
        if ports(found) != Some(port) {
            let ports = wanted.spec.and_then(|spec| spec.ports).into_iter().flatten().collect();
            self.actions.push(Action::PatchService(found.id.name.clone(), ports));
        }
    }

    fn finish(self, progress: &Progress, base: Option<Inherited>) -> Planned<SparkStatus> {
        let falls_asleep = self.falls_asleep() && !self.expired();
        let mut wanted = status::status(self.seen, &self.effective, self.live(), progress, falls_asleep);
        wanted.inherited = base;
        let write = match progress {
            _ if falls_asleep => Write::IfUnchanged,
            Progress::Ready(Reason::Running, _) => Write::First,
            _ if going_on(progress) && self.is_fast() => Write::Later,
            _ => Write::After,
        };
        let look = (write == Write::Later).then_some(SHOW_PROGRESS_AFTER);
        let expiry = wanted.expires_at.as_ref().map(|at| until(at.0, self.seen.now));
        let bedtime = self.bedtime.filter(|_| !falls_asleep).map(|at| until(at, self.seen.now));
        let keys = (!ssh::sources(&self.effective).is_empty()).then_some(READ_KEYS_AGAIN);
        Planned {
            events: status::events(&self.seen.spark, progress, &wanted),
            started: status::started(&self.seen.spark, &wanted),
            // The pod of one that falls asleep is ended by the pass that the accepted status brings about.
            actions: if falls_asleep { Vec::new() } else { self.actions },
            status: Some(wanted),
            write,
            again: [expiry, look, bedtime, keys].into_iter().flatten().min(),
            declined: self.declined,
        }
    }
}

/// Whether it comes by itself.
fn going_on(progress: &Progress) -> bool {
    let Progress::Blocked(blocked) = progress else { return false };
    blocked.class == Class::Waiting
}

fn until(at: jiff::Timestamp, now: jiff::Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(10))
}

fn stopped() -> Progress {
    Progress::Ready(Reason::Stopped, "it is stopped; its disks are kept".into())
}
