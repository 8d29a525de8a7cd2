//! What the gateway answers about recordings: `/.sparks/sessions/NAMESPACE[/SPARK[/ID]]`.

use std::io::ErrorKind;

use serde::Serialize;
use spark_client::recordings::{Hit, PREFIX};

use super::{RecordError, Store, download::Download, lines::Lines, search::Search};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The namespace, whose key the token must be made with.
    pub namespace: String,
    /// A Spark in it.
    pub spark: Option<String>,
    /// A recording.
    pub id: Option<String>,
    /// Text to search for (`?search=`).
    pub search: Option<String>,
    /// Whether asciicast version 2 is wanted (`?version=2`).
    pub is_version_2: bool,
}

/// An answer.
pub enum Answer {
    /// JSON.
    Json(Vec<u8>),
    /// An asciicast.
    Cast(Download),
    /// There is no such recording.
    NotFound,
    /// The question makes no sense, or the store failed.
    Refused(String),
}

impl Question {
    /// Reads path and decoded query of a request; none if the path is another.
    #[must_use]
    pub fn parse(path: &str, query: &[(String, String)]) -> Option<Self> {
        let mut parts = path.strip_prefix(PREFIX)?.trim_end_matches('/').split('/').map(str::to_owned);
        let of = |key: &str| query.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let question = Self {
            namespace: parts.next().filter(|namespace| !namespace.is_empty())?,
            spark: parts.next(),
            id: parts.next(),
            search: of("search").filter(|text| !text.is_empty()),
            is_version_2: of("version").as_deref() == Some("2"),
        };
        parts.next().is_none().then_some(question)
    }
}

/// Answers. It reads files: call it where that may block.
#[must_use]
pub fn answer(store: &Store, question: &Question) -> Answer {
    let answered = match (&question.spark, &question.id, &question.search) {
        (Some(spark), Some(id), None) => recording(store, question, spark, id),
        (spark, None, None) => store.list(&question.namespace, spark.as_deref()).map(|all| json(&all)),
        (spark, id, Some(text)) => {
            search(store, question, spark.as_deref(), id.as_deref(), text).map(|hits| json(&hits))
        }
        (None, Some(_), None) => Ok(Answer::NotFound),
    };
    answered.unwrap_or_else(|error| Answer::Refused(error.to_string()))
}

fn json(value: &impl Serialize) -> Answer {
    serde_json::to_vec(value).map_or_else(|error| Answer::Refused(error.to_string()), Answer::Json)
}

fn recording(store: &Store, question: &Question, spark: &str, id: &str) -> Result<Answer, RecordError> {
    let Some(path) = store.path(&question.namespace, spark, id)? else { return Ok(Answer::NotFound) };
    match Download::open(&path, question.is_version_2) {
        // It has ended, or was removed, in between.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Answer::NotFound),
        opened => Ok(Answer::Cast(opened?)),
    }
}

/// Newest first.
fn search(
    store: &Store,
    question: &Question,
    spark: Option<&str>,
    id: Option<&str>,
    wanted: &str,
) -> Result<Vec<Hit>, RecordError> {
    let mut paths = store.paths(&question.namespace, spark)?;
    paths.sort_by(|a, b| b.file_stem().cmp(&a.file_stem()));
    let mut search = Search::new(wanted);
    for path in paths {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if search.is_full() {
            break;
        }
        if id.is_some_and(|id| id != stem) {
            continue;
        }
        // What can't be read is left out.
        if let Err(error) = Lines::open(&path).and_then(|lines| search.read(stem, lines)) {
            tracing::debug!(%error, path = %path.display(), "a recording can't be searched");
        }
    }
    Ok(search.into_hits())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_path_of_up_to_three_names() {
        let question = |path| Question::parse(path, &[]);
        let of = |path| question(path).map(|q| (q.namespace, q.spark, q.id)).unwrap();
        assert_eq!(of("/.sparks/sessions/a"), ("a".into(), None, None));
        assert_eq!(of("/.sparks/sessions/a/b/c"), ("a".into(), Some("b".into()), Some("c".into())));
        for path in ["/.sparks/sessions/", "/.sparks/sessions/a/b/c/d", "/other"] {
            assert_eq!(question(path), None, "{path}");
        }
    }
}
