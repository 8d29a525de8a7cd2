//! The first line of a recording, which is short whatever a client says: who lists recordings reads it of each.

use super::cast::{Header, Origin, Term};

/// Longest command in a header, and piece of one in a marker, in bytes. JSON may take six for each.
const MAX_COMMAND: usize = 4096;
/// Longest of the other texts that a client or a key's owner chooses.
const MAX_TEXT: usize = 512;
/// Stands where something was cut off.
const CUT: &str = "…";

/// The header with every text cut to a length that is enough for a reader, and what was cut off the command.
pub fn bounded(header: Header) -> (Header, Option<String>) {
    let Header { version, term, timestamp, command, sparks } = header;
    let (command, rest) = match command {
        Some(command) if command.len() > MAX_COMMAND => {
            let (begin, rest) = command.split_at(command.floor_char_boundary(MAX_COMMAND));
            (Some(format!("{begin}{CUT}")), Some(rest.to_owned()))
        }
        command => (command, None),
    };
    let term = Term { kind: term.kind.map(short), ..term };
    (Header { version, term, timestamp, command, sparks: origin(sparks) }, rest)
}

/// A text that a client chose, cut to a sensible length.
pub fn short(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push_str(CUT);
    }
    text
}

fn origin(origin: Origin) -> Origin {
    let Origin { namespace, spark, uid, user, key, client, connection, tty } = origin;
    // The others are the gateway's own, or Kubernetes'.
    Origin { namespace, spark, uid, user: short(user), key: short(key), client, connection, tty }
}

/// A text in pieces that each fit a line.
pub fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(MAX_COMMAND));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_short_whatever_the_client_says() {
        for nasty in ["\u{1}", "é", "\"", "\u{fffd}", "😀"] {
            let text = nasty.repeat(300_000 / nasty.len());
            let header = Header {
                term: Term { kind: Some(text.clone()), ..Default::default() },
                command: Some(text.clone()),
                sparks: Origin { user: text.clone(), key: text.clone(), ..Default::default() },
                ..Default::default()
            };
            let (header, rest) = bounded(header);
            assert!(serde_json::to_vec(&header).unwrap().len() < 48 * 1024);
            let whole = header.command.unwrap().strip_suffix(CUT).unwrap().to_owned() + &rest.unwrap();
            assert!(whole == text, "nothing of the command is lost");
        }
    }

    #[test]
    fn what_is_not_long_is_left_as_it_is() {
        let header = Header { command: Some("make".into()), ..Default::default() };
        assert_eq!(bounded(header.clone()), (header, None));
        assert_eq!(short("xterm".into()), "xterm");
    }

    #[test]
    fn pieces_are_the_text() {
        let text = "aé€😀".repeat(5000);
        assert!(pieces(&text).all(|piece| piece.len() <= MAX_COMMAND));
        assert!(pieces(&text).collect::<String>() == text && pieces("").next().is_none());
    }
}
