//! Packets: fields of a request, replies into one buffer.

use std::mem::MaybeUninit;

use rustix::io::Errno;

/// Largest packet without its length, in both directions; OpenSSH's limit.
pub const MAX_PACKET: usize = 256 << 10;

/// Largest read or write: what fits into a packet beside its other fields.
pub const MAX_DATA: usize = MAX_PACKET - 1024;

/// Kinds of packets.
pub mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// A packet that ends before its fields do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet is too short for its fields")]
pub struct Malformed;

/// The fields of a packet, taken from its front.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn new(packet: &'a [u8]) -> Self {
        Self(packet)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Bytes; a path of this protocol is no text.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }
}

/// Replies that wait to be written.
#[derive(Debug, Default)]
pub struct Replies(Vec<u8>);

impl Replies {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// One reply; its length is filled in afterwards.
    pub fn packet(&mut self, kind: u8, write: impl FnOnce(&mut Reply<'_>)) {
        let start = self.0.len();
        let mut reply = Reply(&mut self.0);
        reply.u32(0).u8(kind);
        write(&mut reply);
        self.finish(start);
    }

    /// One reply to `id` of up to `length` bytes that `read` puts straight into the buffer; nothing if it fails.
    /// Returns how many bytes it was.
    pub fn data(
        &mut self,
        id: u32,
        length: usize,
        read: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let start = self.0.len();
        Reply(&mut self.0).u32(0).u8(kind::DATA).u32(id).u32(0);
        let data = self.0.len();
        self.0.reserve(length);
        let count = match read(&mut self.0.spare_capacity_mut()[..length]) {
            Ok(count) if count > 0 => count.min(length),
            other => {
                self.0.truncate(start);
                return other;
            }
        };
        // SAFETY: the capacity was reserved, and `read` has initialised the first `count` bytes of it: its only
        // callers hand the buffer to the kernel, which says how many it wrote.
        unsafe { self.0.set_len(data + count) };
        self.patch(data - 4, count);
        self.finish(start);
        Ok(count)
    }

    fn finish(&mut self, start: usize) {
        self.patch(start, self.0.len() - start - 4);
    }

    fn patch(&mut self, at: usize, value: usize) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
}

/// The fields of one reply.
pub struct Reply<'a>(&'a mut Vec<u8>);

impl Reply<'_> {
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    pub fn string(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX)).raw(bytes)
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_longer_than_the_packet_is_malformed() {
        assert_eq!(Fields::new(&[0, 0, 0]).u32(), Err(Malformed));
        assert_eq!(Fields::new(&[0, 0, 0, 2, b'a']).string(), Err(Malformed));
        assert_eq!(Fields::new(&[0xff; 8]).string(), Err(Malformed));
        assert_eq!(Fields::new(&[0, 0, 0, 1, b'a', 9]).string(), Ok(&b"a"[..]));
    }

    #[test]
    fn a_reply_carries_the_length_of_what_follows() {
        let mut replies = Replies::default();
        replies.packet(kind::HANDLE, |reply| {
            reply.u32(7).string(b"abc");
        });
        assert_eq!(replies.bytes(), [0, 0, 0, 12, 102, 0, 0, 0, 7, 0, 0, 0, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn data_is_as_long_as_what_was_read_and_leaves_nothing_when_that_fails() {
        let mut replies = Replies::default();
        let read = replies.data(7, 100, |buffer| {
            buffer[0].write(b'x');
            Ok(1)
        });
        assert_eq!(read, Ok(1));
        assert_eq!(replies.bytes(), [0, 0, 0, 10, 103, 0, 0, 0, 7, 0, 0, 0, 1, b'x']);
        replies.clear();
        assert_eq!(replies.data(7, 100, |_| Err(Errno::IO)), Err(Errno::IO));
        assert_eq!(replies.data(7, 100, |_| Ok(0)), Ok(0));
        assert_eq!(replies.bytes(), b"");
    }
}
