//! Reads a recording line by line, in little memory whatever is in the file.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// Longest line that is read; no packet of SSH makes one as long. Longer ones are passed over.
const MAX_LINE: u64 = 2 << 20;

/// The lines of a recording that are no comments.
pub struct Lines<R> {
    source: BufReader<R>,
    line: Vec<u8>,
}

impl Lines<File> {
    /// Those of a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::new(File::open(path)?))
    }
}

impl<R: Read> Lines<R> {
    /// From the beginning.
    pub fn new(source: R) -> Self {
        Self { source: BufReader::with_capacity(64 << 10, source), line: Vec::new() }
    }

    /// The next one; none at the end.
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            self.line.clear();
            if (&mut self.source).take(MAX_LINE).read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            let is_whole = self.line.last() == Some(&b'\n') || (self.line.len() as u64) < MAX_LINE;
            if !is_whole {
                self.source.skip_until(b'\n')?;
            } else if !self.line.starts_with(b"#") {
                return Ok(Some(&self.line));
            }
        }
    }

    /// The next event, passing over what is none: the pause before it, its code and what belongs to it.
    pub fn next_event(&mut self) -> io::Result<Option<(f64, String, String)>> {
        while let Some(line) = self.next()? {
            if let Ok(event) = serde_json::from_slice(line) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_lines_that_are_too_long_are_passed_over() {
        let long = "x".repeat(MAX_LINE as usize);
        let text = format!("a\n# b\n{long}\n{}\n{long}{long}\n[1.5,\"o\",\"c\"]\nd", &long[1..]);
        let mut lines = Lines::new(text.as_bytes());
        assert_eq!(lines.next().unwrap().unwrap(), b"a\n");
        assert_eq!(lines.next().unwrap().unwrap().len() as u64, MAX_LINE);
        assert_eq!(lines.next_event().unwrap(), Some((1.5, "o".into(), "c".into())));
        assert_eq!(lines.next().unwrap().unwrap(), b"d");
        assert_eq!(lines.next().unwrap(), None);
        let endless = io::repeat(b'x').take(64 << 20);
        let mut lines = Lines::new(endless);
        assert_eq!(lines.next().unwrap(), None);
        assert!(lines.line.capacity() as u64 <= 2 * MAX_LINE);
    }
}
