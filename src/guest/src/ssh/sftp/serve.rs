//! The loop over standard input.

use std::io::{self, ErrorKind, Read, Write};

use super::packet::{MAX_PACKET, Replies};
use super::session::{Broken, Session};

/// A packet's length, which comes before it.
const LENGTH: usize = 4;

/// Room for the largest packet, and for those behind it that arrive with it.
const INPUT: usize = 2 * MAX_PACKET;

/// From how many bytes on replies are written although more requests wait: enough to be cheap, little enough that the
/// reader works at the same time.
const FLUSH: usize = 64 << 10;

/// From which size on nothing is read behind a packet but the next one's length: what follows would have to be moved to
/// the front of the buffer, which costs as much as a copy of half of all that is written.
const LARGE: usize = 32 << 10;

/// Why the session ended before its input did.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The client is gone, most likely.
    #[error("the connection to the client broke: {0}")]
    Io(#[from] io::Error),
    /// No such thing as a packet of nothing, or of that size.
    #[error("the client sent a packet of {0} bytes; 1 to {MAX_PACKET} are allowed")]
    Length(usize),
    /// It doesn't speak the protocol.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Answers requests until the input ends.
///
/// One thread, in the order of the requests, as OpenSSH's server: replies can be as large as a buffer, so that a client
/// that doesn't read is not read from either.
pub fn serve(input: &mut impl Read, output: &mut impl Write, mut session: Session) -> Result<(), ServeError> {
    let mut buffer = vec![0; INPUT];
    let mut end = 0;
    let mut replies = Replies::default();
    loop {
        let answered = answer_all(&mut session, &buffer[..end], &mut replies, output);
        flush(&mut replies, output)?;
        let answered = answered?;
        buffer.copy_within(answered..end, 0);
        end -= answered;
        let room = room(&buffer[..end]);
        match input.read(&mut buffer[end..room]) {
            Ok(0) => return Ok(()),
            Ok(read) => end += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Answers the packets that are complete, and says how many bytes those were.
fn answer_all(
    session: &mut Session,
    buffer: &[u8],
    replies: &mut Replies,
    output: &mut impl Write,
) -> Result<usize, ServeError> {
    let mut answered = 0;
    while let Some(packet) = next(&buffer[answered..])? {
        session.answer(packet, replies)?;
        answered += LENGTH + packet.len();
        if replies.bytes().len() >= FLUSH {
            flush(replies, output)?;
        }
    }
    Ok(answered)
}

/// The first packet, without its length, if all of it is there.
fn next(buffer: &[u8]) -> Result<Option<&[u8]>, ServeError> {
    let Some((length, rest)) = length(buffer) else { return Ok(None) };
    match length {
        1..=MAX_PACKET => Ok(rest.get(..length)),
        _ => Err(ServeError::Length(length)),
    }
}

/// How much the buffer may hold after the next read; `begun` is a packet of which more is to come.
fn room(begun: &[u8]) -> usize {
    match length(begun) {
        Some((length @ LARGE..=MAX_PACKET, _)) => LENGTH + length + LENGTH,
        _ => INPUT,
    }
}

/// The length of the packet that begins there, and what follows it.
fn length(buffer: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = buffer.split_first_chunk::<LENGTH>()?;
    Some((usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX), rest))
}

fn flush(replies: &mut Replies, output: &mut impl Write) -> io::Result<()> {
    if !replies.bytes().is_empty() {
        output.write_all(replies.bytes())?;
        replies.clear();
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::rules::Rules;
    use super::*;

    /// Gives a byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            (buffer[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    fn serve_all(mut input: impl Read) -> (Result<(), ServeError>, Vec<u8>) {
        let mut output = Vec::new();
        (serve(&mut input, &mut output, Session::new(None, Rules::default())), output)
    }

    /// INIT and two REALPATHs of ".".
    const REQUESTS: &[u8] = b"\0\0\0\x05\x01\0\0\0\x03\
        \0\0\0\x0a\x10\0\0\0\x01\0\0\0\x01.\
        \0\0\0\x0a\x10\0\0\0\x02\0\0\0\x01.";

    #[test]
    fn packets_are_found_however_they_are_cut() {
        let (result, at_once) = serve_all(REQUESTS);
        result.unwrap();
        let (result, dripping) = serve_all(Drip(REQUESTS));
        result.unwrap();
        assert_eq!(at_once, dripping);
    }

    #[test]
    fn behind_a_large_packet_only_the_length_of_the_next_is_read() {
        let begun = |length: u32| [&length.to_be_bytes()[..], &[0; 9]].concat();
        let (largest, large) = (u32::try_from(MAX_PACKET).unwrap(), u32::try_from(LARGE).unwrap());
        assert_eq!(room(&begun(largest)), MAX_PACKET + 8);
        assert_eq!(room(&begun(large)), LARGE + 8);
        for anything in [begun(large - 1), begun(largest + 1), vec![0; 3], vec![]] {
            assert_eq!(room(&anything), INPUT);
        }
    }

    #[test]
    fn a_packet_that_is_too_large_ends_the_session_after_what_came_before() {
        let (result, output) = serve_all(&[REQUESTS, &[0, 4, 0, 1]].concat()[..]);
        assert!(matches!(result, Err(ServeError::Length(262_145))));
        assert_eq!(output[4], 2);
        let (result, _) = serve_all(&[0; 4][..]);
        assert!(matches!(result, Err(ServeError::Length(0))));
    }

    #[test]
    fn an_input_that_ends_within_a_packet_is_an_end() {
        let (result, output) = serve_all(&REQUESTS[..REQUESTS.len() - 1]);
        result.unwrap();
        assert_eq!(output[4], 2);
    }
}
