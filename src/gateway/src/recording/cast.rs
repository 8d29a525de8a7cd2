//! asciicast, version 3: <https://docs.asciinema.org/manual/asciicast/v3/>. One JSON value a line: a header, then events
//! `[seconds since the last one, code, data]`; lines that begin with `#` are comments.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
pub use spark_client::recordings::{Header, Origin, Term};

use super::{lines::Lines, text::Decoder};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The terminal showed this.
    Output(&'a [u8]),
    /// The terminal has this size now.
    Resize {
        /// Width in characters.
        cols: u32,
        /// Height in characters.
        rows: u32,
    },
    /// Something that a reader should know.
    Marker(&'a str),
    /// The program ended: an exit status, or the name of a signal.
    Exit(&'a str),
}

/// Makes the lines.
#[derive(Debug)]
pub struct Encoder {
    last: Instant,
    decoder: Decoder,
}

impl Encoder {
    /// Begins now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { last: now, decoder: Decoder::default() }
    }

    /// The line of an event; none when it only completes half a character.
    pub fn line(&mut self, event: &Event<'_>, now: Instant) -> Option<String> {
        let (code, data) = match event {
            Event::Output(bytes) => ("o", self.decoder.push(bytes)),
            Event::Resize { cols, rows } => ("r", format!("{cols}x{rows}")),
            Event::Marker(text) => ("m", (*text).to_owned()),
            Event::Exit(status) => ("x", (*status).to_owned()),
        };
        if data.is_empty() {
            return None;
        }
        let since = now.saturating_duration_since(self.last);
        self.last = now;
        Some(event_line(since, code, &data))
    }

    /// Half a character that was left at the end.
    pub fn rest(&mut self) -> Option<String> {
        let rest = self.decoder.finish();
        (!rest.is_empty()).then(|| event_line(Duration::ZERO, "o", &rest))
    }
}

/// Milliseconds are enough for an eye.
fn event_line(since: Duration, code: &str, data: &str) -> String {
    let data = Value::from(data);
    format!("[{}.{:03}, \"{code}\", {data}]\n", since.as_secs(), since.subsec_millis())
}

/// The same recording in version 2, in which times count from the beginning. Lines that can't be read are left out.
pub struct Version2<R> {
    lines: Lines<R>,
    /// None before the header.
    at: Option<f64>,
}

impl<R: Read> Version2<R> {
    /// From the beginning.
    pub fn new(lines: Lines<R>) -> Self {
        Self { lines, at: None }
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// When the recording can't be read.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        let Some(at) = &mut self.at else {
            self.at = Some(0.0);
            return self.header().map(Some);
        };
        while let Some((since, code, data)) = self.lines.next_event()? {
            *at += since;
            // Version 2 has no exit event.
            if code != "x" {
                return Ok(Some(format!("[{at:.3}, \"{code}\", {}]\n", Value::from(data))));
            }
        }
        Ok(None)
    }

    fn header(&mut self) -> io::Result<String> {
        let line = self.lines.next()?;
        let header: Header = line.and_then(|line| serde_json::from_slice(line).ok()).unwrap_or_default();
        let header = json!({
            "version": 2, "width": header.term.cols, "height": header.term.rows, "timestamp": header.timestamp,
            "command": header.command, "env": {"TERM": header.term.kind},
        });
        Ok(format!("{header}\n"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_pauses_between_events() {
        let start = Instant::now();
        let mut encoder = Encoder::new(start);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(
            encoder.line(&Event::Output(b"a\"\x1b"), at(1500)).unwrap(),
            "[1.500, \"o\", \"a\\\"\\u001b\"]\n"
        );
        assert_eq!(
            encoder.line(&Event::Resize { cols: 100, rows: 50 }, at(1750)).unwrap(),
            "[0.250, \"r\", \"100x50\"]\n"
        );
        assert_eq!(encoder.line(&Event::Exit("0"), at(1750)).unwrap(), "[0.000, \"x\", \"0\"]\n");
    }

    #[test]
    fn half_a_character_waits_for_its_rest() {
        let now = Instant::now();
        let mut encoder = Encoder::new(now);
        assert_eq!(encoder.line(&Event::Output(b"\xc3"), now), None);
        assert_eq!(encoder.line(&Event::Output(b"\xa9"), now).unwrap(), "[0.000, \"o\", \"é\"]\n");
        assert_eq!(encoder.line(&Event::Output(b"\xc3"), now), None);
        assert_eq!(encoder.rest().unwrap(), "[0.000, \"o\", \"\u{fffd}\"]\n");
    }

    #[test]
    fn version_2_counts_from_the_beginning_and_has_no_exit() {
        let three = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24}}\n[1.0,\"o\",\"a\"]\n# note\n[0.5,\"o\",\"b\"]\n[0.1,\"x\",\"0\"]\n";
        let mut version_2 = Version2::new(Lines::new(three.as_bytes()));
        let two: String = std::iter::from_fn(|| version_2.line().unwrap()).collect();
        assert!(two.starts_with("{\"command\":null,"));
        assert!(two.ends_with("[1.000, \"o\", \"a\"]\n[1.500, \"o\", \"b\"]\n"), "{two}");
    }
}
