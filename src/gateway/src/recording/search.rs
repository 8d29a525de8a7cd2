//! Searches recordings for a text.

use std::io;

use spark_client::recordings::Hit;

use super::{cast::Header, lines::Lines, text};

/// Most lines that a search gives.
const MAX_HITS: usize = 200;
/// Longest line that a search gives, in characters.
const MAX_LINE: usize = 400;
/// Longest line that is searched as one, in bytes; what has no line breaks is searched in pieces.
const MAX_SEARCHED: usize = 64 * 1024;

/// A text to search for, and where it was found.
pub struct Search {
    wanted: String,
    hits: Vec<Hit>,
}

impl Search {
    /// In no recording yet. Case doesn't matter.
    pub fn new(wanted: &str) -> Self {
        Self { wanted: wanted.to_lowercase(), hits: Vec::new() }
    }

    /// Whether it has found as much as a search gives.
    pub fn is_full(&self) -> bool {
        self.hits.len() >= MAX_HITS
    }

    /// What was found.
    pub fn into_hits(self) -> Vec<Hit> {
        self.hits
    }

    /// Searches a recording: its command, markers, and what was shown.
    pub fn read<R: io::Read>(&mut self, id: &str, mut lines: Lines<R>) -> io::Result<()> {
        let header = lines.next()?.and_then(|line| serde_json::from_slice::<Header>(line).ok());
        let Header { command, sparks, .. } = header.unwrap_or_default();
        let mut place = Place { search: self, spark: &sparks.spark, id };
        if let Some(command) = command {
            place.check(0.0, &command);
        }
        let (mut at, mut began, mut shown) = (0.0, 0.0, String::new());
        while !place.search.is_full()
            && let Some((since, code, data)) = lines.next_event()?
        {
            at += since;
            match code.as_str() {
                "m" => place.check(at, &data),
                "o" => {
                    for piece in data.split_inclusive('\n') {
                        if shown.is_empty() {
                            began = at;
                        }
                        shown.push_str(piece);
                        if piece.ends_with('\n') || shown.len() > MAX_SEARCHED {
                            place.check(began, &shown);
                            shown.clear();
                        }
                    }
                }
                _ => {}
            }
        }
        place.check(began, &shown);
        Ok(())
    }
}

/// Where a search is.
struct Place<'a> {
    search: &'a mut Search,
    spark: &'a str,
    id: &'a str,
}

impl Place<'_> {
    fn check(&mut self, at: f64, shown: &str) {
        let line = text::plain(shown);
        if !self.search.is_full() && line.to_lowercase().contains(&self.search.wanted) {
            let line = line.trim().chars().take(MAX_LINE).collect();
            self.search.hits.push(Hit { spark: self.spark.to_owned(), id: self.id.to_owned(), at, line });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEADER: &str = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24},\"command\":\"make\",\"sparks\":{\"namespace\":\"n\",\"spark\":\"api\",\"uid\":\"\",\"user\":\"\",\"key\":\"\",\"client\":\"\",\"connection\":\"\",\"tty\":true}}\n";

    fn found(events: &str, wanted: &str) -> Vec<Hit> {
        let mut search = Search::new(wanted);
        search.read("id", Lines::new(format!("{HEADER}{events}").as_bytes())).unwrap();
        search.into_hits()
    }

    #[test]
    fn a_search_finds_what_was_seen_even_when_it_came_in_pieces() {
        let events = "[1.0,\"o\",\"ab\\u001b[1mCD\"]\n[0.5,\"o\",\"ef\\r\\n\"]\n[1.0,\"o\",\"end\"]\n";
        let hits = found(events, "bcde");
        assert_eq!(hits, [Hit { spark: "api".into(), id: "id".into(), at: 1.0, line: "abCDef".into() }]);
        assert_eq!(found(events, "end")[0].at, 2.5);
        assert_eq!(found(events, "make")[0].at, 0.0);
    }

    #[test]
    fn a_search_finds_what_a_marker_says() {
        assert_eq!(found("[2.0,\"m\",\"the command goes on: rm\"]\n", "GOES ON: RM")[0].at, 2.0);
    }

    /// Reads nothing but what it gives out.
    struct Endless<'a>(&'a [u8], usize);

    impl io::Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(self.0.len() - self.1 % self.0.len());
            let from = self.1 % self.0.len();
            buffer[..n].copy_from_slice(&self.0[from..from + n]);
            self.1 += n;
            Ok(n)
        }
    }

    #[test]
    fn a_search_ends_when_it_has_as_many_lines_as_it_gives() {
        let event = format!("[0.1,\"o\",\"{}\"]\n", "hit\\n".repeat(50));
        let mut search = Search::new("hit");
        search.read("id", Lines::new(Endless(event.as_bytes(), 0))).unwrap();
        assert_eq!(search.into_hits().len(), MAX_HITS);
    }
}
