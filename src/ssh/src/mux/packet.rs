//! Packets of data, built without moving the data.

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Limit};

use crate::wire::number;

/// Room for the longest header: that of extended data.
const HEADER: usize = 13;
/// Data this short is copied rather than sent in an allocation of a whole packet.
const SHORT: usize = 1024;

/// What a writer writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Data,
    Extended(u32),
}

/// A packet of data that is filled in place, as by `file.read_buf(&mut packet.spare())`, and then sent by
/// [`ChannelWriter::send`](super::ChannelWriter::send) without copying it.
#[derive(Debug)]
pub struct PacketBuf {
    /// A place for the header, then the data.
    bytes: BytesMut,
    capacity: usize,
}

impl PacketBuf {
    /// Takes up to `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER + capacity);
        bytes.put_bytes(0, HEADER);
        Self { bytes, capacity }
    }

    /// How much data is in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - HEADER
    }

    /// Whether no data is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where more data goes, as far as the capacity allows.
    pub fn spare(&mut self) -> Limit<&mut BytesMut> {
        let room = self.capacity.saturating_sub(self.len());
        (&mut self.bytes).limit(room)
    }

    /// Takes away all data after the first `length` bytes.
    pub(super) fn split_off(&mut self, length: usize) -> Self {
        let rest = Self::from(&self.as_ref()[length..]);
        self.bytes.truncate(HEADER + length);
        rest
    }

    /// Adds the data of another one.
    pub(super) fn join(&mut self, other: &Self) {
        self.bytes.extend_from_slice(other.as_ref());
    }

    /// The packet for the channel that the peer numbered `recipient`.
    pub(super) fn finish(mut self, recipient: u32, stream: Stream) -> Bytes {
        if self.len() <= SHORT && self.capacity > 2 * SHORT {
            self = Self::from(self.as_ref());
        }
        // Never 4 GiB: windows aren't.
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        match stream {
            Stream::Data => {
                self.bytes.advance(HEADER - 9);
                self.bytes[0] = number::CHANNEL_DATA;
                self.bytes[5..9].copy_from_slice(&length.to_be_bytes());
            }
            Stream::Extended(code) => {
                self.bytes[0] = number::CHANNEL_EXTENDED_DATA;
                self.bytes[5..9].copy_from_slice(&code.to_be_bytes());
                self.bytes[9..13].copy_from_slice(&length.to_be_bytes());
            }
        }
        self.bytes[1..5].copy_from_slice(&recipient.to_be_bytes());
        self.bytes.freeze()
    }
}

impl AsRef<[u8]> for PacketBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }
}

impl From<&[u8]> for PacketBuf {
    fn from(data: &[u8]) -> Self {
        let mut packet = Self::with_capacity(data.len());
        packet.bytes.extend_from_slice(data);
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    #[test]
    fn a_packet_is_what_the_messages_encode_to() {
        for length in [0, 1, 1024, 1025, 32768] {
            let data = vec![7; length];
            let mut packet = PacketBuf::with_capacity(32768);
            packet.spare().put_slice(&data);
            assert_eq!(
                packet.finish(9, Stream::Data),
                Message::Data { recipient: 9, data: data.clone().into() }.encode()
            );
            assert_eq!(
                PacketBuf::from(&data[..]).finish(9, Stream::Extended(1)),
                Message::ExtendedData { recipient: 9, code: 1, data: data.into() }.encode()
            );
        }
    }

    #[test]
    fn no_more_is_taken_than_the_capacity() {
        let mut packet = PacketBuf::with_capacity(10);
        assert_eq!(packet.spare().remaining_mut(), 10);
        packet.spare().put_slice(b"abcdef");
        assert_eq!(packet.spare().remaining_mut(), 4);
        let rest = packet.split_off(2);
        assert_eq!((packet.as_ref(), rest.as_ref()), (&b"ab"[..], &b"cdef"[..]));
    }
}
