//! One pass of any kind: look, plan, act, tell. A kind says what it sees and plans; the order of writes, refusals,
//! backoff, spans and metrics are owned here.
//!
//! Each stage has a type of its own, so that a status can't come from what wasn't carried out: [`Prepared`] is planned,
//! [`Acted`] is what the API server said to it, and only from these two a status is told.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sparks_api::NamespacedName;
use sparks_ops::queue::Again;
use sparks_plan::{
    action::{Planned, Write},
    kind::{Kind, Status},
    known::Known,
    progress::Progress,
};

use crate::{
    act::{self, Outcome},
    api::{ApiError, Target},
    beliefs::{self, Belief},
    context::Context,
    metrics::{self, StartKind},
};

/// Before another warm pod is tried: that the one before is taken is known by then.
const AFTER_RACE: Duration = Duration::from_millis(10);
/// What was written meanwhile starts the next pass when it is heard of; a watch that is broken must not make each object
/// ask again and again.
const LATE_NEWS: Duration = Duration::from_secs(1);

/// A kind, with what only the controller can find out for its plan.
pub trait Act: Kind<Status: 'static> {
    /// Finds out what isn't known of the cluster, such as what is in a Secret.
    fn enrich<'a>(
        _context: &'a Context,
        _this: &'a Known<Self>,
        _seen: &'a mut Self::Seen,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// One pass; answers when to look again.
pub async fn pass<K: Act>(context: Arc<Context>, name: NamespacedName) -> Again {
    let looked = context.look(|world| {
        let this = world.index.get::<K>(&name).cloned()?;
        let awaited = this.meta().deletion_timestamp.is_none() || K::ALSO_DELETED;
        let seen = awaited.then(|| K::look(&this, world))?;
        Some((this, seen))
    });
    let Some((this, mut seen)) = looked else {
        forget::<K>(&context, name);
        return Again::OnChange;
    };
    let started = context.clock.now();
    let outcome = match K::enrich(&context, &this, &mut seen).await {
        Ok(()) => Prepared { context: &context, planned: K::plan(&seen), this: &this }.settle().await,
        Err(error) => (Outcome::Failed(error), None),
    };
    let kind = metrics::Kind { kind: K::NAME };
    let took = context.clock.now().since(started.steady);
    context.metrics.reconcile.get_or_create(&kind).observe(took.as_secs_f64());
    conclude::<K>(&context, &this, outcome)
}

fn forget<K: Kind>(context: &Context, name: NamespacedName) {
    let object = K::named(name);
    context.memory.answered(&object, None);
    context.beliefs.forget(&object);
}

fn conclude<K: Kind>(
    context: &Context,
    this: &Known<K>,
    (outcome, again): (Outcome, Option<Duration>),
) -> Again {
    context.memory.answered(&K::reference(this), outcome.refusal().cloned());
    match outcome {
        Outcome::Done => again.map_or(Again::OnChange, Again::After),
        Outcome::LostRace => Again::After(AFTER_RACE),
        Outcome::Stale => Again::After(LATE_NEWS),
        Outcome::Refused(_) => Again::Backoff,
        Outcome::Failed(error) => {
            context.metrics.errors.get_or_create(&metrics::Kind { kind: K::NAME }).inc();
            tracing::warn!(%error, "a pass failed; it is tried again");
            Again::Backoff
        }
    }
}

/// What one object is to get; nothing of it is written yet.
struct Prepared<'a, K: Kind> {
    context: &'a Context,
    this: &'a Known<K>,
    planned: Planned<K::Status>,
}

/// The writes were tried.
struct Acted<'a, K: Kind> {
    prepared: Prepared<'a, K>,
    outcome: Outcome,
}

impl<'a, K: Act> Prepared<'a, K> {
    /// All of it, in the order that the plan wants.
    async fn settle(self) -> (Outcome, Option<Duration>) {
        let (write, again) = (self.planned.write, self.planned.again);
        let outcome = match write {
            Write::After => self.act().await.tell().await,
            Write::Later => self.act().await.tell_refusal().await,
            Write::First | Write::IfUnchanged => match self.announce().await {
                Outcome::Done => self.act().await.tell_refusal().await,
                outcome => outcome,
            },
        };
        (outcome, again)
    }

    async fn act(self) -> Acted<'a, K> {
        let outcome = act::all(self.context, self.this, &self.planned.actions).await;
        self.note(&outcome);
        Acted { outcome, prepared: self }
    }

    /// Tells the status before anything is done, which only the plan can allow.
    async fn announce(&self) -> Outcome {
        match &self.planned.status {
            Some(status) => self.write(status).await,
            None => Outcome::Done,
        }
    }

    /// Equal status is not written.
    async fn write(&self, status: &K::Status) -> Outcome {
        if self.this.status() == Some(status) {
            return Outcome::Done;
        }
        let target = Target::of(self.this);
        match self.context.api.put_status(&target, status).await {
            Err(ApiError::Gone) => Outcome::Done,
            Ok(()) => {
                self.tell_others(&target);
                Outcome::Done
            }
            answer => answer.into(),
        }
    }

    /// Events, and the metric of a start.
    fn tell_others(&self, target: &Target) {
        for event in &self.planned.events {
            self.context.api.record(target, event.clone());
        }
        if let Some(started) = self.planned.started {
            let pod = if started.warm { "warm" } else { "cold" };
            let seconds = started.took.as_secs_f64();
            self.context.metrics.start.get_or_create(&StartKind { pod }).observe(seconds);
            self.context.memory.ready(&self.this.id.uid, self.context.clock.now());
        }
    }

    fn note(&self, outcome: &Outcome) {
        let belief = Belief {
            at: self.context.clock.now().wall.to_string(),
            actions: self.planned.actions.iter().map(beliefs::name).collect(),
            declined: self.planned.declined.clone(),
            outcome: match outcome {
                Outcome::Done => "done".into(),
                Outcome::LostRace => "another Spark got the pod".into(),
                Outcome::Stale => "somebody else wrote it meanwhile".into(),
                Outcome::Refused(blocked) => blocked.message.clone(),
                Outcome::Failed(error) => error.to_string(),
            },
            again_millis: beliefs::millis(self.planned.again),
        };
        self.context.beliefs.note(K::reference(self.this), belief);
    }
}

impl<K: Act> Acted<'_, K> {
    /// Tells how the object is, refusals included.
    async fn tell(self) -> Outcome {
        let Some(mut status) = self.prepared.planned.status.clone() else { return self.outcome };
        if let Some(blocked) = self.outcome.refusal() {
            let (generation, now) = (self.prepared.this.meta().generation, self.prepared.context.clock.now());
            Progress::Blocked(blocked.clone()).write(status.conditions_mut(), generation, now.wall);
        }
        match self.prepared.write(&status).await {
            Outcome::Done => self.outcome,
            worse => worse,
        }
    }

    /// Tells it only if something is refused.
    async fn tell_refusal(self) -> Outcome {
        if self.outcome.refusal().is_some() { self.tell().await } else { self.outcome }
    }
}
