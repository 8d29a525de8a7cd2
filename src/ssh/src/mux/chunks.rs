//! Received data that nobody has read yet.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::ReadBuf;

/// Smaller data is gathered once some waits, so that a peer which sends single bytes can't make this end hold many
/// times its window in bookkeeping.
const SMALL: usize = 1024;
/// How many chunks wait before small ones are gathered: an interactive reader keeps up and copies nothing.
const UNGATHERED: usize = 8;
/// How much is gathered in one piece.
const PIECE: usize = 16 << 10;
/// A longer queue is given back when it is empty.
const KEEP: usize = 64;

#[derive(Debug)]
enum Chunk {
    Whole(Bytes),
    Gathered(BytesMut),
}

/// A queue of bytes in the pieces that they came in.
#[derive(Debug, Default)]
pub(super) struct Chunks(VecDeque<Chunk>);

impl Chunks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        if data.len() >= SMALL || self.0.len() < UNGATHERED {
            return self.0.push_back(Chunk::Whole(data));
        }
        match self.0.back_mut() {
            Some(Chunk::Gathered(piece)) if piece.len() + data.len() <= PIECE => {
                piece.extend_from_slice(&data);
            }
            _ => self.0.push_back(Chunk::Gathered(BytesMut::from(&data[..]))),
        }
    }

    /// The next piece.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.0.pop_front()?;
        self.tidy();
        Some(match chunk {
            Chunk::Whole(data) => data,
            Chunk::Gathered(data) => data.freeze(),
        })
    }

    /// Fills `buffer` as far as there is data, and tells how far.
    pub(super) fn read(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let before = buffer.remaining();
        while buffer.remaining() > 0 {
            let emptied = match self.0.front_mut() {
                None => break,
                Some(Chunk::Whole(data)) => copy(data, buffer),
                Some(Chunk::Gathered(data)) => copy(data, buffer),
            };
            if emptied {
                self.0.pop_front();
            }
        }
        self.tidy();
        before - buffer.remaining()
    }

    /// Drops everything, and tells how much it was.
    pub(super) fn clear(&mut self) -> usize {
        let length = |chunk: &Chunk| match chunk {
            Chunk::Whole(data) => data.len(),
            Chunk::Gathered(data) => data.len(),
        };
        std::mem::take(&mut self.0).iter().map(length).sum()
    }

    fn tidy(&mut self) {
        if self.0.is_empty() && self.0.capacity() > KEEP {
            self.0 = VecDeque::new();
        }
    }
}

/// Moves what fits; whether that was all.
fn copy(data: &mut impl Buf, buffer: &mut ReadBuf<'_>) -> bool {
    let fits = data.chunk().len().min(buffer.remaining());
    buffer.put_slice(&data.chunk()[..fits]);
    data.advance(fits);
    !data.has_remaining()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_whatever_the_sizes() {
        let (mut chunks, mut expected) = (Chunks::default(), Vec::new());
        for i in 0..500_u32 {
            let data = vec![i as u8; (i as usize * 37) % 2048];
            expected.extend_from_slice(&data);
            chunks.push(data.into());
        }
        let mut got = chunks.pop().unwrap().to_vec();
        let mut space = [0; 1000];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            if chunks.read(&mut buffer) == 0 {
                break;
            }
            got.extend_from_slice(buffer.filled());
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn single_bytes_are_gathered_once_some_wait() {
        let mut chunks = Chunks::default();
        for _ in 0..100_000 {
            chunks.push(Bytes::from_static(b"x"));
        }
        assert!(chunks.0.len() <= UNGATHERED + 100_000 / PIECE + 1);
        assert_eq!(chunks.clear(), 100_000);
        assert!(chunks.is_empty());
    }
}
