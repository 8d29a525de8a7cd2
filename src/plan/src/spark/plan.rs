//! From what is to what shall be.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use sparks_api::{
    AttachedSsh, Class, EnvSource, Inherited, KeySource, Reason, Restored, Volume, VolumeSource,
    conditions::{self, PROVISIONED},
    labels,
};

use super::{
    action::{Action, Plan},
    attach::{attachment, claim_patch, disks, saved, volume_for},
    inherit::effective,
    observed::Observed,
    service::{DEFAULT_PORT, name_taken, service},
    sleep, ssh, status,
};
use crate::{
    names, placement,
    pods::{self, grace, spark_labels},
    progress::{Blocked, Progress},
    resources,
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
pub fn plan(seen: &Observed) -> Plan {
    let base = base(seen);
    let mut draft = Draft {
        seen,
        effective: effective(&seen.spark.spec, base.as_ref()),
        actions: Vec::new(),
        notice: None,
        bedtime: None,
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
}

impl Draft<'_> {
    fn steps(&mut self) -> Result<Progress, Blocked> {
        if self.expired() {
            self.actions.push(Action::Delete);
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

    /// The Volume that is this Spark's now: the wanted restore's if it is there, else the one in status, else any.
    fn live(&self) -> Option<&Arc<Volume>> {
        let named = |name: &str| self.seen.volumes.iter().find(|v| v.name_any() == name);
        let spark = &self.seen.spark;
        let restored = spark.spec.restore.as_ref().and_then(|r| named(&self.restored_name(r)));
        let recorded = spark.status.as_ref().and_then(|s| s.volume.as_ref()).and_then(|v| named(&v.name));
        restored.or(recorded).or(self.seen.volumes.first())
    }

    fn restored_name(&self, restore: &sparks_api::Restore) -> String {
        names::restored_volume(&self.seen.spark.name_any(), &self.uid(), restore)
    }

    fn uid(&self) -> String {
        self.seen.spark.uid().unwrap_or_default()
    }

    /// A Spark without a Volume: take up trashed data, or make a Volume and find a pod for it.
    fn born(&mut self) -> Result<Progress, Blocked> {
        if let Some(trashed) = &self.seen.undelete {
            self.actions.push(Action::PatchVolume(trashed.clone(), self.undelete_patch(), Vec::new()));
            return Err(Blocked::new(Reason::Provisioning, "the disks are being taken out of the trash"));
        }
        self.refuse_to_start_over()?;
        if self.is_fast() && self.seen.start.claim.is_some() {
            // The Volume is written, and its pod came through its watch first: a pass now would claim a second pod.
            return Err(Blocked::new(Reason::Provisioning, "the disks are being made"));
        }
        let source = self.seen.source.clone()?;
        let node = self.node_for(source.node)?;
        let pod = self.own_pod(&node).or_else(|| self.find_pod(&node));
        let name = names::volume(&self.seen.spark.name_any(), &self.uid());
        self.create_volume(name, node, source.volume, pod.as_deref());
        Err(Blocked::new(Reason::Provisioning, "the disks are being made"))
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

    fn undelete_patch(&self) -> Value {
        json!({
            "metadata": {
                "labels": {labels::OWNER_UID: self.uid(), labels::OWNER_NAME: self.seen.spark.name_any(), labels::TRASHED: null},
                "annotations": {labels::TRASH_DEADLINE: null},
            },
            "spec": {"trashedAt": null},
        })
    }

    /// The node of the source's blocks, or the best one.
    fn node_for(&self, wanted: Option<String>) -> Result<String, Blocked> {
        if let Some(node) = wanted {
            return self.agent_on(&node).map(|()| node);
        }
        let warm: Vec<&Pod> = self.seen.warm.iter().map(AsRef::as_ref).collect();
        let chosen = placement::choose(&self.seen.agents, &warm).map(|agent| agent.node.clone());
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
    fn own_pod(&self, node: &str) -> Option<Arc<Pod>> {
        let is_here =
            |pod: &&Arc<Pod>| !pods::is_ending(pod) && pods::node(pod).map(String::as_str) == Some(node);
        self.seen.pods.iter().find(is_here).cloned()
    }

    /// A warm pod to claim, else an ordinary one, which has no uid yet and so is attached at the next pass.
    fn find_pod(&mut self, node: &str) -> Option<Arc<Pod>> {
        let spark = &self.seen.spark;
        let warm =
            self.seen.warm.iter().find(|pod| pods::node(pod).map(String::as_str) == Some(node)).cloned();
        match &warm {
            Some(pod) => {
                let patch = claim_patch(spark, pod);
                self.actions.push(Action::Claim { pod: pod.clone(), patch });
            }
            None => self.create_pod(node),
        }
        warm
    }

    fn create_pod(&mut self, node: &str) {
        let spark = &self.seen.spark;
        let Some(owner) = spark.controller_owner_ref(&()) else { return };
        let name = names::cold_pod(&spark.name_any(), &self.uid());
        let labels = spark_labels(&spark.name_any(), &self.uid());
        let pod = self.seen.template.cold(name, labels, owner, node, self.effective.resources.as_ref());
        self.actions.push(Action::CreatePod(Box::new(pod)));
    }

    fn create_volume(&mut self, name: String, node: String, source: VolumeSource, pod: Option<&Pod>) {
        let mut volume = volume_for(&self.seen.spark, name, node, source, &self.effective);
        let (service, ssh) = (self.effective.service.as_ref(), self.ssh(&volume.spec.node_name, None));
        volume.spec.attachment = pod.map(|pod| attachment(&self.seen.spark, pod, service, ssh));
        let env = if pod.is_some() { self.env() } else { Vec::new() };
        self.actions.push(Action::CreateVolume(Box::new(volume), env));
    }

    fn env(&self) -> Vec<EnvSource> {
        self.effective.service.iter().flat_map(|s| s.env_from.iter().flatten().cloned()).collect()
    }

    fn ssh(&self, node: &str, old: Option<&AttachedSsh>) -> Option<AttachedSsh> {
        let agent = self.seen.agents.iter().find(|agent| agent.node == node);
        let key = agent.and_then(|agent| agent.public_key.as_deref());
        ssh::attached(&self.effective, &self.seen.ssh, key, old)
    }

    /// Without a pod: `ending` while there is one, then `settled`.
    fn stopped(
        &mut self,
        live: Option<&Arc<Volume>>,
        ending: Blocked,
        settled: Progress,
    ) -> Result<Progress, Blocked> {
        let grace = grace(self.effective.service.as_ref());
        for pod in self.seen.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            self.actions.push(Action::DeletePod(pod.clone(), grace));
        }
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
            status::provisioned(live, self.seen.import_pod.as_deref())?;
            return Ok(settled);
        }
        Err(ending)
    }

    /// A Spark that is created stopped gets its disks, and no pod.
    fn made_stopped(&mut self) -> Result<Progress, Blocked> {
        if self.seen.undelete.is_some() || self.seen.spark.annotations().contains_key(labels::UNDELETE) {
            return self.born();
        }
        let source = self.seen.source.clone()?;
        let node = self.node_for(source.node)?;
        let name = names::volume(&self.seen.spark.name_any(), &self.uid());
        self.create_volume(name, node, source.volume, None);
        Err(Blocked::new(Reason::Provisioning, "the disks are being made"))
    }

    fn running(&mut self, live: &Arc<Volume>) -> Result<Progress, Blocked> {
        let pod = self.pod(live)?;
        let live = self.restore(live, pod.as_deref()).unwrap_or_else(|| live.clone());
        self.discard_replaced(&live);
        self.keep_volume_current(&live, pod.as_deref());
        status::provisioned(&live, self.seen.import_pod.as_deref())?;
        let pod =
            pod.ok_or_else(|| Blocked::new(Reason::PodStarting, "no warm pod was free; a pod starts"))?;
        status::attached(&live, &pod)?;
        self.resize(&pod);
        Ok(Progress::Ready(Reason::Running, "it runs".into()))
    }

    /// The pod that is this Spark, or a new one. Further pods, which only a lost race can leave, are ended.
    fn pod(&mut self, live: &Volume) -> Result<Option<Arc<Pod>>, Blocked> {
        let (ending, mut here): (Vec<_>, Vec<_>) =
            self.seen.pods.iter().cloned().partition(|pod| pods::is_ending(pod));
        let ended = ending.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        self.actions.extend(ended.map(|pod| Action::DeletePod(pod.clone(), 0)));
        let attached = live.spec.attachment.as_ref().map(|a| a.pod_uid.clone());
        here.sort_by_key(|pod| (pod.uid() != attached, pod.name_any()));
        let mut here = here.into_iter();
        let Some(pod) = here.next() else {
            self.agent_on(&live.spec.node_name)?;
            return Ok(self.find_pod(&live.spec.node_name));
        };
        self.actions.extend(here.map(|pod| Action::DeletePod(pod, 0)));
        Ok(Some(pod))
    }

    /// Makes the Volume of a wanted restore that is not done; says why when it can't.
    fn restore(&mut self, live: &Arc<Volume>, pod: Option<&Pod>) -> Option<Arc<Volume>> {
        let restore = self.seen.spark.spec.restore.clone()?;
        let name = self.restored_name(&restore);
        let done = self.seen.spark.status.as_ref().and_then(|s| s.restored.clone());
        let wanted = Restored { checkpoint: restore.checkpoint.clone(), id: restore.id.clone() };
        if live.name_any() == name || done == Some(wanted) {
            return None;
        }
        match self.seen.restore.clone()? {
            Ok(source) => {
                self.create_volume(name, live.spec.node_name.clone(), source, pod);
                let message = format!("the disks of the Checkpoint {} are being made", restore.checkpoint);
                self.notice = Some(Blocked::new(Reason::Provisioning, message));
            }
            Err(blocked) => self.notice = Some(blocked),
        }
        None
    }

    /// What a restore replaced goes into the trash once the new disks are there.
    fn discard_replaced(&mut self, live: &Arc<Volume>) {
        let there = live.status.as_ref().is_some_and(|s| conditions::is_true(&s.conditions, PROVISIONED));
        let replaced = self.seen.volumes.iter().filter(|v| there && v.name_any() != live.name_any());
        self.actions.extend(replaced.map(|v| Action::Trash(v.clone())));
    }

    /// Attachment, disk sizes and the saved spec follow the Spark.
    fn keep_volume_current(&mut self, live: &Arc<Volume>, pod: Option<&Pod>) {
        let old = live.spec.attachment.as_ref();
        let ssh = self.ssh(&live.spec.node_name, old.and_then(|old| old.ssh.as_ref()));
        let service = self.effective.service.as_ref();
        let mut wanted = pod.map(|pod| attachment(&self.seen.spark, pod, service, ssh));
        let same_pod = old.zip(wanted.as_ref()).is_some_and(|(a, b)| a.pod_uid == b.pod_uid);
        let same_env = old.and_then(|a| a.service.as_ref()).is_some() && same_pod;
        if let (true, Some(wanted), Some(old)) = (same_env, &mut wanted, old) {
            wanted.sealed_env.clone_from(&old.sealed_env);
        }
        let env = if wanted.is_some() && !same_env { self.env() } else { Vec::new() };
        let spec =
            sparks_api::VolumeSpec { attachment: wanted, disks: disks(&self.effective), ..live.spec.clone() };
        let spec_patch = crate::patch::between(Some(&live.spec), &spec).ok().flatten();
        let saved = saved(&self.seen.spark, &self.effective).unwrap_or_default();
        let saved_changed = saved.iter().any(|(key, value)| live.annotations().get(key) != Some(value));
        if spec_patch.is_none() && !saved_changed {
            return;
        }
        let mut patch = json!({"spec": spec_patch.unwrap_or(json!({}))});
        if saved_changed {
            patch["metadata"] = json!({"annotations": saved});
        }
        self.actions.push(Action::PatchVolume(live.clone(), patch, env));
    }

    fn resize(&mut self, pod: &Arc<Pod>) {
        if self.effective.resources.is_none() {
            return;
        }
        let wanted = resources::requirements(self.effective.resources.as_ref());
        let now = pod.spec.as_ref().and_then(|s| s.containers.first()).and_then(|c| c.resources.as_ref());
        if !now.is_some_and(|now| resources::same(now, &wanted)) {
            let patch = json!({"spec": {"containers": [{"name": pods::CONTAINER, "resources": wanted}]}});
            self.actions.push(Action::Resize(pod.clone(), patch));
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
        let ours = found.owner_references().iter().any(|owner| owner.uid == self.uid());
        if !ours {
            self.notice = Some(name_taken(&found.name_any()));
            return;
        }
        let ports = |s: &Service| {
            s.spec.as_ref().and_then(|s| s.ports.as_ref()).and_then(|p| p.first()).map(|p| p.port)
        };
        if ports(found) != Some(port) {
            self.actions
                .push(Action::PatchService(json!({"spec": {"ports": wanted.spec.and_then(|s| s.ports)}})));
        }
    }

    fn finish(self, progress: &Progress, base: Option<Inherited>) -> Plan {
        let live = self.live().cloned();
        let falls_asleep = self.falls_asleep() && !self.expired();
        let mut wanted = status::status(self.seen, &self.effective, live.as_deref(), progress, falls_asleep);
        wanted.inherited = base;
        let events = status::events(&self.seen.spark, progress, &wanted);
        let fast = self.is_fast() && !progress.is_ready();
        let going = going_on(progress);
        let expiry = wanted.expires_at.as_ref().map(|at| until(at.0, self.seen.now));
        let look = (going && fast).then_some(SHOW_PROGRESS_AFTER);
        let bedtime = self.bedtime.filter(|_| !falls_asleep).map(|at| until(at, self.seen.now));
        let keys = (!ssh::sources(&self.effective).is_empty()).then_some(READ_KEYS_AGAIN);
        Plan {
            actions: self.actions,
            status: wanted,
            status_may_wait: going && fast,
            only_if_unchanged: falls_asleep,
            requeue: [expiry, look, bedtime, keys].into_iter().flatten().min(),
            events,
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
