//! One watch per kind: it keeps the cache and says which objects are to be reconciled.

use std::fmt::Debug;

use futures::{Stream, StreamExt};
use kube::{
    Resource,
    api::Api,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

/// Watches one kind forever. `slim` drops what nobody reads; `touched` is called after the cache has the change, and
/// for every object again after a list was taken anew, because deletions may have been missed.
pub async fn watch<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    mut writer: Writer<K>,
    slim: fn(&mut K),
    touched: impl Fn(&K, bool),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = std::pin::pin!(events(api, config));
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "the watch failed; it is tried again");
                continue;
            }
        };
        let Some(event) = readable(event, slim) else { continue };
        writer.apply_watcher_event(&event);
        match &event {
            Event::Apply(object) => touched(object, false),
            Event::Delete(object) => touched(object, true),
            Event::InitDone => writer.as_reader().state().iter().for_each(|object| touched(object, false)),
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

fn events<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, config).default_backoff()
}

/// Drops an object that can't be read, so that one bad object doesn't blind the controller.
fn readable<K: Resource<DynamicType = ()>>(
    event: Event<DeserializeGuard<K>>,
    slim: fn(&mut K),
) -> Option<Event<K>> {
    let read = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            slim(&mut object);
            Some(object)
        }
        Err(error) => {
            let name = error.metadata.name.unwrap_or_default();
            tracing::warn!(kind = %K::kind(&()), name, error = %error.error, "an object can't be read and is left alone");
            None
        }
    };
    Some(match event {
        Event::Apply(guard) => Event::Apply(read(guard)?),
        Event::Delete(guard) => Event::Delete(read(guard)?),
        Event::InitApply(guard) => Event::InitApply(read(guard)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}
