//! What the gateway answers about recordings: `/.sparks/sessions/NAMESPACE[/SPARK[/ID]]`.

use std::{fs, path::PathBuf};

use serde::Serialize;
pub use spark_client::recordings::{Hit, PREFIX};

use super::{
    RecordError, Store,
    cast::{Header, version_2},
    text,
};

/// Largest recording that is converted or searched.
const MAX_BYTES: u64 = 256 << 20;
/// Most lines that a search gives.
const MAX_HITS: usize = 200;
/// Longest line that a search gives, in characters.
const MAX_LINE: usize = 400;

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
#[derive(Debug)]
pub enum Answer {
    /// JSON.
    Json(Vec<u8>),
    /// An asciicast.
    Cast(Vec<u8>),
    /// An asciicast, as it is in this file.
    File(PathBuf),
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
    if !question.is_version_2 {
        return Ok(Answer::File(path));
    }
    let text = read(&path)?;
    Ok(Answer::Cast(version_2(&text).into_bytes()))
}

fn read(path: &PathBuf) -> Result<String, RecordError> {
    if fs::metadata(path)?.len() > MAX_BYTES {
        return Err(RecordError::Io(std::io::Error::other("it is too large for that: fetch it as it is")));
    }
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn search(
    store: &Store,
    question: &Question,
    spark: Option<&str>,
    id: Option<&str>,
    wanted: &str,
) -> Result<Vec<Hit>, RecordError> {
    let wanted = wanted.to_lowercase();
    let mut paths = store.paths(&question.namespace, spark)?;
    paths.sort_by(|a, b| b.file_stem().cmp(&a.file_stem()));
    let mut hits = Vec::new();
    for path in paths {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if id.is_some_and(|id| id != stem) {
            continue;
        }
        let Ok(text) = read(&path) else { continue };
        hits.extend(found(&text, &stem, &wanted));
        if hits.len() >= MAX_HITS {
            break;
        }
    }
    hits.truncate(MAX_HITS);
    Ok(hits)
}

/// Lines of a recording, and its command, that have the wanted text.
fn found(recording: &str, id: &str, wanted: &str) -> Vec<Hit> {
    let mut lines = recording.lines().filter(|line| !line.starts_with('#'));
    let header: Header = lines.next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let mut hits = Vec::new();
    let mut hit = |at: f64, line: &str| {
        if line.to_lowercase().contains(wanted) {
            let line = line.trim().chars().take(MAX_LINE).collect();
            hits.push(Hit { spark: header.sparks.spark.clone(), id: id.to_owned(), at, line });
        }
    };
    if let Some(command) = &header.command {
        hit(0.0, &text::plain(command));
    }
    let (mut at, mut began, mut line) = (0.0, 0.0, String::new());
    for (since, code, data) in
        lines.filter_map(|line| serde_json::from_str::<(f64, String, String)>(line).ok())
    {
        at += since;
        if code != "o" {
            continue;
        }
        for piece in data.split_inclusive('\n') {
            if line.is_empty() {
                began = at;
            }
            line.push_str(piece);
            if piece.ends_with('\n') || line.len() > 64 * 1024 {
                hit(began, &text::plain(&line));
                line.clear();
            }
        }
    }
    hit(began, &text::plain(&line));
    hits
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

    #[test]
    fn a_search_finds_what_was_seen_even_when_it_came_in_pieces() {
        let recording = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24},\"command\":\"make\",\"sparks\":{\"namespace\":\"n\",\"spark\":\"api\",\"uid\":\"\",\"user\":\"\",\"key\":\"\",\"client\":\"\",\"connection\":\"\",\"tty\":true}}\n[1.0,\"o\",\"ab\\u001b[1mCD\"]\n[0.5,\"o\",\"ef\\r\\n\"]\n[1.0,\"o\",\"end\"]\n";
        let hits = found(recording, "id", "bcde");
        assert_eq!(hits, [Hit { spark: "api".into(), id: "id".into(), at: 1.0, line: "abCDef".into() }]);
        assert_eq!(found(recording, "id", "end")[0].at, 2.5);
        assert_eq!(found(recording, "id", "make")[0].at, 0.0);
    }
}
