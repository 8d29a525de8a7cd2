//! The data types of RFC 4251, section 5.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A packet that ends before what it announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet ends within its {0}")]
pub struct Malformed(pub &'static str);

/// Reads a packet from its start; what it returns shares the packet's memory.
#[derive(Clone, Debug)]
pub struct Reader(Bytes);

impl Reader {
    /// A reader of all of `packet`.
    #[must_use]
    pub fn new(packet: Bytes) -> Self {
        Self(packet)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed("byte"))
    }

    /// A boolean: all values but 0 are true.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        self.0.try_get_u8().map(|byte| byte != 0).map_err(|_| Malformed("boolean"))
    }

    /// A uint32.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed("uint32"))
    }

    /// A uint64.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| Malformed("uint64"))
    }

    /// A string.
    pub fn string(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32().map_err(|_| Malformed("length of a string"))?;
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(self.0.split_to(length)),
            _ => Err(Malformed("string")),
        }
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.0
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Builds a packet.
#[derive(Clone, Debug, Default)]
pub struct Writer(BytesMut);

impl Writer {
    /// An empty packet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.put_u8(value);
        self
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// A uint32.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.put_u32(value);
        self
    }

    /// A uint64.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.put_u64(value);
        self
    }

    /// A string. One of 4 GiB or more can't be said and is cut; no packet is that long.
    pub fn string(&mut self, value: &[u8]) -> &mut Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.u32(length).raw(&value[..length as usize])
    }

    /// Bytes without a length.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.put_slice(value);
        self
    }

    /// The packet.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.0.freeze()
    }
}
