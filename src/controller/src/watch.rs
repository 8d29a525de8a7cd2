//! One watch per kind: objects come in by this door, where their papers are looked at once.

use std::sync::Arc;

use futures::{StreamExt, future::BoxFuture};
use kube::{
    Client, Resource,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use sparks_api::{NamespacedName, ObjectId};
use sparks_plan::{
    index::Reference,
    known::Known,
    stored::{Scope, Stored},
};
use tokio::sync::watch;
use tracing::Instrument;

use crate::context::Context;

/// Where an object that has to be looked at goes.
pub type Touch = Arc<dyn Fn(Reference) + Send + Sync>;

/// One kind that is watched.
pub struct Watch {
    kind: String,
    follow: fn(Client, Arc<Context>, Door) -> BoxFuture<'static, ()>,
}

/// What a watch shares with the rest.
#[derive(Clone)]
pub struct Door {
    /// Namespace of the installation.
    pub namespace: String,
    /// Where an object that has to be looked at goes.
    pub touch: Touch,
    /// Counts the watches whose first list is in.
    pub filled: watch::Sender<usize>,
}

impl Watch {
    /// Of this kind.
    pub fn of<S: Stored>() -> Self {
        let kind = S::Wire::kind(&()).into_owned();
        Self { kind, follow: |client, context, door| Box::pin(follow::<S>(client, context, door)) }
    }

    /// Watches for ever.
    pub fn run(self, client: Client, context: Arc<Context>, door: Door) -> BoxFuture<'static, ()> {
        let span = tracing::info_span!("watch", kind = self.kind);
        Box::pin((self.follow)(client, context, door).instrument(span))
    }
}

async fn follow<S: Stored>(client: Client, context: Arc<Context>, door: Door) {
    let api = kube::Api::<DeserializeGuard<S::Wire>>::all(client);
    let mut events = std::pin::pin!(watcher(api, config::<S>(&door.namespace)).default_backoff());
    let mut list = Vec::new();
    let mut filled = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "the watch failed; it is tried again");
                continue;
            }
        };
        let complete = matches!(event, Event::InitDone);
        take::<S>(event, &mut list, &context).into_iter().for_each(|object| (door.touch)(object));
        if complete && !std::mem::replace(&mut filled, true) {
            door.filled.send_modify(|filled| *filled += 1);
        }
    }
}

fn config<S: Stored>(namespace: &str) -> watcher::Config {
    let mut config = watcher::Config::default();
    if let Some(labels) = S::SELECTOR {
        config = config.labels(labels);
    }
    match S::SCOPE {
        Scope::Cluster => config,
        Scope::Installation => config.fields(&format!("metadata.namespace={namespace}")),
    }
}

/// Takes in one event; answers what is to be looked at. A new list is taken in whole, when it is complete.
fn take<S: Stored>(
    event: Event<DeserializeGuard<S::Wire>>,
    list: &mut Vec<Known<S>>,
    context: &Context,
) -> Vec<Reference> {
    match event {
        Event::Init => list.clear(),
        Event::InitApply(guard) => list.extend(admit::<S>(guard).and_then(|(_, object)| object)),
        Event::InitDone => {
            let list = std::mem::take(list);
            return context.learn(|index, memory, now| index.replace(list, memory, now));
        }
        Event::Apply(guard) => {
            if let Some((name, object)) = admit::<S>(guard) {
                return learn(context, &name, object);
            }
        }
        Event::Delete(guard) => {
            if let Some((name, _)) = admit::<S>(guard) {
                return learn::<S>(context, &name, None);
            }
        }
    }
    Vec::new()
}

fn learn<S: Stored>(context: &Context, name: &NamespacedName, object: Option<Known<S>>) -> Vec<Reference> {
    context.learn(|index, memory, now| match object {
        Some(object) => index.put(object, memory, now),
        None => index.remove::<S>(name, memory, now),
    })
}

/// Looks at the object's papers, and takes what is needed of it. One that can't be read is left alone, so that it
/// doesn't blind the controller for the others.
fn admit<S: Stored>(guard: DeserializeGuard<S::Wire>) -> Option<(NamespacedName, Option<Known<S>>)> {
    let kind = S::Wire::kind(&());
    let mut object = match guard.0 {
        Ok(object) => object,
        Err(error) => {
            let name = error.metadata.name.as_deref().unwrap_or("?");
            tracing::warn!(%kind, name, error = %error.error, "an object can't be read and is left alone");
            return None;
        }
    };
    let id = match ObjectId::of(&object) {
        Ok(id) => id,
        Err(error) => {
            tracing::warn!(%error, "it is left alone");
            return None;
        }
    };
    object.meta_mut().managed_fields = None;
    Some((id.name.clone(), S::admit(object).map(|object| Known::new(id, object))))
}
