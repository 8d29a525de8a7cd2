//! `ssh.authorizedKeysFrom`: lines of authorized_keys in Secrets and ConfigMaps.
//!
//! Nothing is watched, because the controller may read these by name only. What was read is kept for a moment: a start is
//! several passes, and forks of one Spark come in bursts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sparks_api::{KeySource, NamespacedName, Reason};
use sparks_plan::world::Now;

use super::lines;
use crate::{
    api::{Answer, ApiError},
    context::Context,
};

/// How long what was read counts. Together with the pause after which the plan asks again it is a minute.
const FRESH: Duration = Duration::from_secs(15);

/// What was read of a source.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    lines: Vec<String>,
    problem: Option<Problem>,
}

/// What is wrong with a source: a reason and a sentence.
pub type Problem = (Reason, String);

/// Object, kind and key.
type Id = (NamespacedName, &'static str, String);

/// What was read lately.
#[derive(Default)]
pub struct Sources(Mutex<HashMap<Id, (Duration, Arc<Found>)>>);

impl Sources {
    fn fresh(&self, id: &Id, now: Now) -> Option<Arc<Found>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).filter(|(at, _)| now.since(*at) < FRESH).map(|(_, found)| found.clone())
    }

    fn keep(&self, id: Id, found: Arc<Found>, now: Now) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| now.since(*at) < FRESH);
        known.insert(id, (now.steady, found));
    }
}

/// All lines of the sources, in order, and the first thing that is wrong with them. What is missing takes nothing away
/// from the others.
///
/// # Errors
/// The API server's, other than that there is no such object.
pub async fn read(
    context: &Context,
    namespace: &str,
    sources: &[KeySource],
) -> Answer<(Vec<String>, Option<Problem>)> {
    let (mut all, mut problem) = (Vec::new(), None);
    for source in sources {
        let found = one(context, namespace, source).await?;
        all.extend(found.lines.iter().cloned());
        problem = problem.or_else(|| found.problem.clone());
    }
    Ok((all, problem))
}

async fn one(context: &Context, namespace: &str, source: &KeySource) -> Answer<Arc<Found>> {
    let Some(id) = id(namespace, source) else { return Ok(Arc::default()) };
    let now = context.clock.now();
    if let Some(found) = context.key_sources.fresh(&id, now) {
        return Ok(found);
    }
    let (object, kind, key) = &id;
    let text = match *kind {
        SECRET => {
            let data = if_there(context.api.secret(object).await)?;
            data.and_then(|mut data| data.remove(key))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => if_there(context.api.config_map(object).await)?.and_then(|mut data| data.remove(key)),
    };
    let found = Arc::new(judge(kind, &object.name, key, text.as_deref()));
    context.key_sources.keep(id, found.clone(), now);
    Ok(found)
}

const SECRET: &str = "Secret";
const CONFIG_MAP: &str = "ConfigMap";

fn id(namespace: &str, source: &KeySource) -> Option<Id> {
    let secret = source.secret_key_ref.as_ref().map(|reference| (SECRET, reference));
    let (kind, reference) =
        secret.or_else(|| source.config_map_key_ref.as_ref().map(|reference| (CONFIG_MAP, reference)))?;
    Some((NamespacedName::new(namespace, &reference.name), kind, reference.key.clone()))
}

fn if_there<T>(read: Answer<T>) -> Answer<Option<T>> {
    match read {
        Err(ApiError::Gone) => Ok(None),
        other => other.map(Some),
    }
}

fn judge(kind: &str, name: &str, key: &str, text: Option<&str>) -> Found {
    let Some(text) = text else {
        let message = format!(
            "the {kind} {name} with the key {key}, named in ssh.authorizedKeysFrom, does not exist in this namespace: create it; the other keys work"
        );
        return Found { lines: vec![], problem: Some((Reason::KeySourceNotFound, message)) };
    };
    let (lines, bad) = lines::keys(text);
    let problem = (bad > 0).then(|| {
        let message = format!(
            "{bad} line(s) of the key {key} of the {kind} {name}, named in ssh.authorizedKeysFrom, are no public keys as in authorized_keys: correct them; the other keys work"
        );
        (Reason::KeysUnusable, message)
    });
    Found { lines, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn a_source_that_is_missing_or_holds_something_else_is_told_and_the_good_lines_count() {
        for (text, lines, why) in [
            (None, 0, Some(Reason::KeySourceNotFound)),
            (Some(""), 0, None),
            (Some(KEY), 1, None),
            (Some(&*format!("{KEY}\npassword\n")), 1, Some(Reason::KeysUnusable)),
        ] {
            let found = judge(SECRET, "s", "k", text);
            assert_eq!((found.lines.len(), found.problem.map(|p| p.0)), (lines, why), "{text:?}");
        }
    }

    #[test]
    fn what_a_source_holds_besides_keys_is_never_repeated() {
        let found = judge(SECRET, "s", "k", Some("hunter2"));
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}
