//! Bytes of a terminal as text.

/// Turns pieces of a byte stream into text without splitting a character that two pieces share.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a character whose rest has not come yet; at most three bytes.
    rest: Vec<u8>,
}

impl Decoder {
    /// The text that is complete now. What is no UTF-8 becomes U+FFFD.
    pub fn push(&mut self, piece: &[u8]) -> String {
        self.rest.extend_from_slice(piece);
        let complete = complete(&self.rest);
        let text = String::from_utf8_lossy(&self.rest[..complete]).into_owned();
        self.rest.drain(..complete);
        text
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

/// How many bytes are complete characters, or can never become one.
fn complete(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    for start in (from..bytes.len()).rev() {
        let needed = match bytes[start] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        let is_short = bytes.len() - start < needed;
        let could_become_one =
            std::str::from_utf8(&bytes[start..]).is_err_and(|error| error.error_len().is_none());
        return if is_short && could_become_one { start } else { bytes.len() };
    }
    bytes.len()
}

/// Text without the control sequences of a terminal (ECMA-48), for searching.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut characters),
            '\u{9b}' => skip_until_final(&mut characters),
            '\u{8}' => drop(plain.pop()),
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

fn skip_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => skip_until_final(characters),
        // Strings: OSC, DCS, SOS, PM, APC; they end with BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = characters.next() {
                if c == '\u{7}' || c == '\u{1b}' && characters.next_if_eq(&'\\').is_some() {
                    return;
                }
            }
        }
        Some(' '..='/') => drop(characters.next()),
        _ => {}
    }
}

fn skip_until_final(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    for c in characters.by_ref() {
        if ('@'..='~').contains(&c) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_split_wherever_the_pieces_end() {
        let text = "aé€😀z";
        for cut in 0..=text.len() {
            for second in cut..=text.len() {
                let mut decoder = Decoder::default();
                let bytes = text.as_bytes();
                let pieces = [&bytes[..cut], &bytes[cut..second], &bytes[second..]];
                let mut got: String = pieces.iter().map(|piece| decoder.push(piece)).collect();
                got.push_str(&decoder.finish());
                assert_eq!(got, text, "{cut} {second}");
            }
        }
    }

    #[test]
    fn what_is_no_utf8_is_shown_as_such_at_once_and_held_back_never() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(b"\xff\xc0a"), "\u{fffd}\u{fffd}a");
        assert_eq!(decoder.push(b"\xe2\x28"), "\u{fffd}(");
        assert_eq!(decoder.push(b"\xe2\x82"), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
    }

    #[test]
    fn what_a_person_saw_is_found_without_colours_and_titles() {
        assert_eq!(plain("\u{1b}]0;title\u{7}\u{1b}[1;31mred\u{1b}[0m te\u{8}\u{8}text\r\n"), "red text\n");
        assert_eq!(plain("a\u{1b}P1$r\u{1b}\\b\u{1b}(Bc"), "abc");
    }
}
