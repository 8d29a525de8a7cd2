//! Waiting for an object to become what was asked for, by a watch.

use std::time::Duration;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use sparks_api::conditions::{self, READY};
use sparks_api::{Checkpoint, Class, Reason, Restore, Spark, SparkPhase, SparkPool, SparkStatus};

use crate::error::Subject;
use crate::objects::Kind;
use crate::{Error, Result, Sparks};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It can be used: a Spark is up and its service answers, a Checkpoint is complete.
    Ready,
    /// The computer is up, so that commands can be run in it; its service may not be ready yet.
    Running,
    /// It is stopped.
    Stopped,
}

/// The step at which something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The reason of the Ready condition; empty as long as there is none.
    pub reason: String,
    /// What happens, for a person, without a full stop.
    pub text: String,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Step {
    /// The step that a Ready condition tells of.
    #[must_use]
    pub fn of(why: &str, message: &str) -> Self {
        let known =
            if why.is_empty() { Some("waiting for the controller") } else { named(&Reason::from(why)) };
        let text = known.unwrap_or(if message.is_empty() { why } else { message });
        Self { reason: why.into(), text: text.into() }
    }
}

/// The name of a step; whatever else holds an object up is told in the condition's own words.
fn named(reason: &Reason) -> Option<&'static str> {
    match reason {
        Reason::PodStarting => Some("starting a pod"),
        Reason::PodTerminating => Some("waiting for the old pod to end"),
        Reason::ImportingImage => Some("importing the image"),
        Reason::Provisioning => Some("making the disks"),
        Reason::Attaching => Some("attaching the disks"),
        Reason::ServiceNotReady => Some("waiting for the service"),
        Reason::Replenishing => Some("starting warm pods"),
        Reason::FallingAsleep => Some("going to sleep"),
        Reason::Stopped => Some("stopping"),
        Reason::Running
        | Reason::Sleeping
        | Reason::Available
        | Reason::Attached
        | Reason::Woken
        | Reason::Restored
        | Reason::Reattached
        | Reason::ImageImported
        | Reason::Expired
        | Reason::SourceNotReady
        | Reason::KeySourceNotFound
        | Reason::KeysUnusable
        | Reason::Unschedulable
        | Reason::SourceNotFound
        | Reason::NoNode
        | Reason::NodeLost
        | Reason::PoolFull
        | Reason::EnvSourceNotFound
        | Reason::HostError
        | Reason::ResizePending
        | Reason::ApiRefused
        | Reason::ImagePullFailed
        | Reason::SourceLost
        | Reason::SourceElsewhere
        | Reason::ForkDenied
        | Reason::SizeTooSmall
        | Reason::UnsafeRoot
        | Reason::Unsupported
        | Reason::NameTaken
        | Reason::NothingToUndelete
        | Reason::VolumeLost
        | Reason::Other(_) => None,
    }
}

/// What an object says about a condition that is waited for.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Reached,
    Stalled { reason: String, message: String },
    Stopped,
    Waiting(Step),
}

/// What only a Spark's status says.
#[derive(Clone, Copy, Default)]
pub(crate) struct View {
    phase: Option<SparkPhase>,
    /// The computer is up.
    runs: Option<bool>,
    /// The restore that the spec asks for is not done.
    is_restoring: bool,
}

impl View {
    fn of_spark(spark: &Spark) -> Self {
        let status = spark.status.as_ref();
        let done = status.and_then(|status| status.restored.as_ref());
        let is_done = |wanted: &Restore| {
            done.is_some_and(|done| done.checkpoint == wanted.checkpoint && done.id == wanted.id)
        };
        let is_restoring = spark.spec.restore.as_ref().is_some_and(|wanted| !is_done(wanted));
        Self { phase: status.map(|status| status.phase), runs: status.map(SparkStatus::runs), is_restoring }
    }
}

/// Judges by kstatus: a status counts only when it describes the present generation.
pub(crate) fn judge<K: Kind>(object: &K, wanted: Condition, view: View) -> Verdict {
    let phase = view.phase;
    let generation = object.meta().generation;
    let is_current = |observed: Option<i64>| observed >= generation;
    let all = object.conditions();
    let ready = conditions::find(all, READY);
    let observed = ready.and_then(|c| c.observed_generation).or(object.observed_generation());
    let Some(ready) = ready.filter(|_| is_current(observed) && is_current(object.observed_generation()))
    else {
        return Verdict::Waiting(Step::of("", ""));
    };
    if conditions::class(all) == Some(Class::Stalled) {
        return Verdict::Stalled { reason: ready.reason.clone(), message: ready.message.clone() };
    }
    if view.is_restoring {
        let text = if ready.status == "True" { "restoring the disks" } else { &ready.message };
        return Verdict::Waiting(Step { reason: ready.reason.clone(), text: text.into() });
    }
    let is_stopped = ready.reason == Reason::Stopped || phase == Some(SparkPhase::Stopped);
    let reached = match wanted {
        Condition::Ready => ready.status == "True" && view.runs != Some(false),
        Condition::Running => view.runs == Some(true),
        Condition::Stopped => phase == Some(SparkPhase::Stopped),
    };
    match wanted {
        _ if reached => Verdict::Reached,
        Condition::Ready | Condition::Running if is_stopped => Verdict::Stopped,
        _ => Verdict::Waiting(Step::of(&ready.reason, &ready.message)),
    }
}

/// A watch of one object until it is what was wanted.
struct Wait<'a, K: Kind> {
    subject: Subject,
    api: Api<K>,
    wanted: Condition,
    view: fn(&K) -> View,
    progress: &'a mut (dyn FnMut(&Step) + Send),
    last: Option<Step>,
}

impl<K: Kind> Wait<'_, K> {
    async fn run(mut self, limit: Duration) -> Result<K> {
        match tokio::time::timeout(limit, self.watch()).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout {
                kind: self.subject.kind,
                name: self.subject.name.clone(),
                after: limit,
                step: self.last.map_or_else(|| "the Kubernetes API does not answer".into(), |step| step.text),
            }),
        }
    }

    async fn watch(&mut self) -> Result<K> {
        let mut seen = false;
        let stream = watcher::watch_object(self.api.clone(), &self.subject.name).default_backoff();
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(Some(object)) => {
                    seen = true;
                    if let Some(result) = self.look(object) {
                        return result;
                    }
                }
                Ok(None) if seen => {
                    return Err(Error::Deleted { kind: self.subject.kind, name: self.subject.name.clone() });
                }
                Ok(None) => return Err(self.subject.not_found()),
                Err(error) => self.endure(error)?,
            }
        }
        Err(self.subject.not_found())
    }

    fn look(&mut self, object: K) -> Option<Result<K>> {
        let (kind, name) = (self.subject.kind, self.subject.name.clone());
        match judge(&object, self.wanted, (self.view)(&object)) {
            Verdict::Reached => Some(Ok(object)),
            Verdict::Stalled { reason, message } => Some(Err(Error::Stalled { kind, name, reason, message })),
            Verdict::Stopped => Some(Err(Error::Stopped(name))),
            Verdict::Waiting(step) => {
                self.report(step);
                None
            }
        }
    }

    fn report(&mut self, step: Step) {
        if self.last.as_ref() != Some(&step) {
            (self.progress)(&step);
            self.last = Some(step);
        }
    }

    /// A refusal ends the wait; a connection that breaks is tried again by the watcher.
    fn endure(&mut self, error: watcher::Error) -> Result<()> {
        let (watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause)) = error
        else {
            return Ok(());
        };
        match self.subject.error(cause) {
            end @ (Error::Forbidden(_) | Error::Unauthorized | Error::NotInstalled) => Err(end),
            error @ Error::Unreachable(_) => {
                self.report(Step { reason: String::new(), text: error.to_string() });
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Sparks {
    /// Waits until a Spark is what is wanted. `progress` is told each new step.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Stalled`] when it can't go on; [`Error::Timeout`]; [`Error::Deleted`];
    /// [`Error::Stopped`] when a stopped Spark is to be ready.
    pub async fn wait(
        &self,
        name: &str,
        wanted: Condition,
        limit: Duration,
        mut progress: impl FnMut(&Step) + Send,
    ) -> Result<Spark> {
        let (subject, api) = (self.subject::<Spark>(name), self.api());
        Wait { subject, api, wanted, view: View::of_spark, progress: &mut progress, last: None }
            .run(limit)
            .await
    }

    /// Waits until a Checkpoint is complete.
    ///
    /// # Errors
    /// As [`Sparks::wait`].
    pub async fn wait_for_checkpoint(
        &self,
        name: &str,
        limit: Duration,
        progress: impl FnMut(&Step) + Send,
    ) -> Result<Checkpoint> {
        self.wait_ready(name, limit, progress).await
    }

    /// Waits until all pods of a pool are warm.
    ///
    /// # Errors
    /// As [`Sparks::wait`].
    pub async fn wait_for_pool(
        &self,
        name: &str,
        limit: Duration,
        progress: impl FnMut(&Step) + Send,
    ) -> Result<SparkPool> {
        self.wait_ready(name, limit, progress).await
    }

    async fn wait_ready<K: Kind>(
        &self,
        name: &str,
        limit: Duration,
        mut progress: impl FnMut(&Step) + Send,
    ) -> Result<K> {
        let (subject, api) = (self.subject::<K>(name), self.api());
        let wanted = Condition::Ready;
        Wait { subject, api, wanted, view: |_| View::default(), progress: &mut progress, last: None }
            .run(limit)
            .await
    }

    /// Waits until the object of this name and uid is gone.
    ///
    /// # Errors
    /// [`Error::Timeout`].
    pub async fn wait_until_gone<K: Kind>(&self, name: &str, uid: &str, limit: Duration) -> Result<()> {
        let gone = async {
            let stream = watcher::watch_object(self.api::<K>(), name).default_backoff();
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                if event.is_ok_and(|object| object.and_then(|o| o.uid()).is_none_or(|found| found != uid)) {
                    return;
                }
            }
        };
        let step = || "it is still being deleted".to_owned();
        tokio::time::timeout(limit, gone).await.map_err(|_| Error::Timeout {
            kind: K::NOUN,
            name: name.into(),
            after: limit,
            step: step(),
        })
    }

    /// Waits until the trash holds the disks of the deleted Spark of this uid, and lets them be removed now.
    ///
    /// # Errors
    /// [`Error::Timeout`] and what the API server refuses.
    pub async fn purge_when_trashed(&self, name: &str, uid: &str, limit: Duration) -> Result<()> {
        use sparks_api::{Volume, labels};
        let selector = format!("{}={uid}", labels::OWNER_UID);
        let purged = async {
            let stream = watcher::watcher(self.api::<Volume>(), watcher::Config::default().labels(&selector));
            let mut stream = std::pin::pin!(stream.default_backoff());
            let mut any = false;
            while let Some(event) = stream.next().await {
                match event {
                    Ok(watcher::Event::Apply(volume) | watcher::Event::InitApply(volume)) => {
                        any = true;
                        if volume.spec.trashed_at.is_some() && self.purge(uid).await? {
                            return Ok(());
                        }
                    }
                    // A Spark that never got disks leaves nothing behind.
                    Ok(watcher::Event::InitDone) if !any => return Ok(()),
                    Ok(_) | Err(_) => {}
                }
            }
            Ok(())
        };
        tokio::time::timeout(limit, purged).await.unwrap_or_else(|_| {
            let step = "its disks are not in the trash yet".into();
            Err(Error::Timeout { kind: Spark::NOUN, name: name.into(), after: limit, step })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use sparks_api::conditions::{RUNNING, STALLED};
    use sparks_api::{Restored, SparkSpec};

    fn spark(generation: i64, observed: i64, phase: SparkPhase, all: &[(&str, bool, Reason, &str)]) -> Spark {
        let mut spark = Spark::new("x", SparkSpec::default());
        spark.metadata.generation = Some(generation);
        let conditions = all
            .iter()
            .map(|(kind, status, why, message)| {
                conditions::condition(kind, *status, why, *message, Some(observed), Timestamp::UNIX_EPOCH)
            })
            .collect();
        let status =
            SparkStatus { observed_generation: Some(observed), phase, conditions, ..Default::default() };
        spark.status = Some(status);
        spark
    }

    fn verdict(spark: &Spark, wanted: Condition) -> Verdict {
        judge(spark, wanted, View::of_spark(spark))
    }

    #[test]
    fn a_status_of_an_earlier_generation_does_not_end_the_wait() {
        let old = spark(2, 1, SparkPhase::Running, &[(READY, true, Reason::Running, "")]);
        assert_eq!(verdict(&old, Condition::Ready), Verdict::Waiting(Step::of("", "")));
        let now = spark(2, 2, SparkPhase::Running, &[(READY, true, Reason::Running, "")]);
        assert_eq!(verdict(&now, Condition::Ready), Verdict::Reached);
    }

    #[test]
    fn no_status_is_waited_for() {
        let mut new = spark(1, 1, SparkPhase::Pending, &[]);
        new.status = None;
        assert_eq!(verdict(&new, Condition::Ready), Verdict::Waiting(Step::of("", "")));
    }

    #[test]
    fn what_is_stalled_ends_the_wait_with_its_message() {
        let all = [(READY, false, Reason::ForkDenied, "m"), (STALLED, true, Reason::ForkDenied, "m")];
        let stalled = Verdict::Stalled { reason: Reason::ForkDenied.to_string(), message: "m".into() };
        assert_eq!(verdict(&spark(1, 1, SparkPhase::Failed, &all), Condition::Ready), stalled);
    }

    #[test]
    fn a_spark_is_not_ready_before_the_wanted_restore_is_done() {
        let mut spark = spark(2, 2, SparkPhase::Running, &[(READY, true, Reason::Running, "")]);
        spark.spec.restore = Some(Restore { checkpoint: "c".into(), id: Some("2".into()) });
        let mut with = |id: &str| {
            let done = Restored { checkpoint: "c".into(), id: Some(id.into()) };
            spark.status.iter_mut().for_each(|status| status.restored = Some(done.clone()));
            verdict(&spark, Condition::Ready)
        };
        assert!(matches!(with("1"), Verdict::Waiting(_)));
        assert_eq!(with("2"), Verdict::Reached);
    }

    #[test]
    fn commands_can_be_run_before_the_service_is_ready() {
        let all = [(READY, false, Reason::ServiceNotReady, ""), (RUNNING, true, Reason::Running, "")];
        let starting = spark(1, 1, SparkPhase::Starting, &all);
        assert_eq!(verdict(&starting, Condition::Running), Verdict::Reached);
        assert!(matches!(verdict(&starting, Condition::Ready), Verdict::Waiting(_)));
    }

    #[test]
    fn a_stopped_spark_never_becomes_ready_by_waiting() {
        let all = [(READY, true, Reason::Stopped, ""), (RUNNING, false, Reason::Stopped, "")];
        let stopped = spark(1, 1, SparkPhase::Stopped, &all);
        assert_eq!(verdict(&stopped, Condition::Ready), Verdict::Stopped);
        assert_eq!(verdict(&stopped, Condition::Stopped), Verdict::Reached);
        let stopping = spark(1, 1, SparkPhase::Stopping, &[(READY, false, Reason::PodTerminating, "")]);
        assert!(matches!(verdict(&stopping, Condition::Stopped), Verdict::Waiting(_)));
    }

    #[test]
    fn a_spark_that_sleeps_is_ready_and_not_up() {
        let all = [(READY, true, Reason::Sleeping, ""), (RUNNING, false, Reason::Sleeping, "")];
        let sleeping = spark(1, 1, SparkPhase::Sleeping, &all);
        for wanted in [Condition::Ready, Condition::Running, Condition::Stopped] {
            assert!(matches!(verdict(&sleeping, wanted), Verdict::Waiting(_)), "{wanted:?}");
        }
    }

    #[test]
    fn known_steps_have_a_name_and_others_their_own_words() {
        assert_eq!(Step::of(Reason::ImportingImage.as_str(), "importing debian").text, "importing the image");
        assert_eq!(
            Step::of(Reason::PoolFull.as_str(), "the pool of node a is full").text,
            "the pool of node a is full"
        );
        assert_eq!(Step::of("Unheard", "").text, "Unheard");
    }
}
