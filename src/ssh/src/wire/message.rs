//! The messages.

use bytes::Bytes;

use super::{ChannelKind, GlobalKind, Malformed, OpenReason, Reader, RequestKind, Writer};

/// The first byte of every message (RFC 4250, section 4.1.2).
#[expect(missing_docs, reason = "the names are the documentation")]
pub mod number {
    pub const GLOBAL_REQUEST: u8 = 80;
    pub const REQUEST_SUCCESS: u8 = 81;
    pub const REQUEST_FAILURE: u8 = 82;
    pub const CHANNEL_OPEN: u8 = 90;
    pub const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
    pub const CHANNEL_OPEN_FAILURE: u8 = 92;
    pub const CHANNEL_WINDOW_ADJUST: u8 = 93;
    pub const CHANNEL_DATA: u8 = 94;
    pub const CHANNEL_EXTENDED_DATA: u8 = 95;
    pub const CHANNEL_EOF: u8 = 96;
    pub const CHANNEL_CLOSE: u8 = 97;
    pub const CHANNEL_REQUEST: u8 = 98;
    pub const CHANNEL_SUCCESS: u8 = 99;
    pub const CHANNEL_FAILURE: u8 = 100;
}

/// A message. `recipient` is the number that the receiver gave a channel, `sender` the one that the sender gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "RFC 4254 has these very names")]
pub enum Message {
    GlobalRequest {
        want_reply: bool,
        kind: GlobalKind,
    },
    RequestSuccess {
        payload: Bytes,
    },
    RequestFailure,
    Open {
        sender: u32,
        window: u32,
        max_packet: u32,
        kind: ChannelKind,
    },
    OpenConfirmation {
        recipient: u32,
        sender: u32,
        window: u32,
        max_packet: u32,
        payload: Bytes,
    },
    OpenFailure {
        recipient: u32,
        reason: OpenReason,
        description: Bytes,
        language: Bytes,
    },
    WindowAdjust {
        recipient: u32,
        bytes: u32,
    },
    Data {
        recipient: u32,
        data: Bytes,
    },
    ExtendedData {
        recipient: u32,
        code: u32,
        data: Bytes,
    },
    Eof {
        recipient: u32,
    },
    Close {
        recipient: u32,
    },
    Request {
        recipient: u32,
        want_reply: bool,
        kind: RequestKind,
    },
    Success {
        recipient: u32,
    },
    Failure {
        recipient: u32,
    },
    /// A message of another number: all of it.
    Unknown(Bytes),
}

impl Message {
    /// Reads a message; what it holds shares the memory of `packet`.
    pub fn parse(packet: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet.clone());
        Ok(match reader.u8()? {
            number::GLOBAL_REQUEST => {
                let (name, want_reply) = (reader.string()?, reader.bool()?);
                Self::GlobalRequest { want_reply, kind: GlobalKind::parse(name, reader.rest()) }
            }
            number::REQUEST_SUCCESS => Self::RequestSuccess { payload: reader.rest() },
            number::REQUEST_FAILURE => Self::RequestFailure,
            number::CHANNEL_OPEN => {
                let name = reader.string()?;
                Self::Open {
                    sender: reader.u32()?,
                    window: reader.u32()?,
                    max_packet: reader.u32()?,
                    kind: ChannelKind::parse(name, reader.rest()),
                }
            }
            number => Self::of_channel(number, reader)?.unwrap_or(Self::Unknown(packet)),
        })
    }

    /// The messages that begin with the number of a channel.
    fn of_channel(number: u8, mut reader: Reader) -> Result<Option<Self>, Malformed> {
        if !(number::CHANNEL_OPEN_CONFIRMATION..=number::CHANNEL_FAILURE).contains(&number) {
            return Ok(None);
        }
        let recipient = reader.u32()?;
        Ok(Some(match number {
            number::CHANNEL_OPEN_CONFIRMATION => Self::OpenConfirmation {
                recipient,
                sender: reader.u32()?,
                window: reader.u32()?,
                max_packet: reader.u32()?,
                payload: reader.rest(),
            },
            number::CHANNEL_OPEN_FAILURE => Self::OpenFailure {
                recipient,
                reason: reader.u32()?.into(),
                // Optional in practice: some peers end here, and OpenSSH takes that from old ones.
                description: reader.string().unwrap_or_default(),
                language: reader.string().unwrap_or_default(),
            },
            number::CHANNEL_WINDOW_ADJUST => Self::WindowAdjust { recipient, bytes: reader.u32()? },
            number::CHANNEL_DATA => Self::Data { recipient, data: reader.string()? },
            number::CHANNEL_EXTENDED_DATA => {
                Self::ExtendedData { recipient, code: reader.u32()?, data: reader.string()? }
            }
            number::CHANNEL_EOF => Self::Eof { recipient },
            number::CHANNEL_CLOSE => Self::Close { recipient },
            number::CHANNEL_REQUEST => {
                let (name, want_reply) = (reader.string()?, reader.bool()?);
                Self::Request { recipient, want_reply, kind: RequestKind::parse(name, reader.rest()) }
            }
            number::CHANNEL_SUCCESS => Self::Success { recipient },
            _ => Self::Failure { recipient },
        }))
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        match self {
            Self::GlobalRequest { want_reply, kind } => {
                writer.u8(number::GLOBAL_REQUEST).string(kind.name()).bool(*want_reply);
                kind.write(&mut writer);
            }
            Self::RequestSuccess { payload } => {
                writer.u8(number::REQUEST_SUCCESS).raw(payload);
            }
            Self::RequestFailure => {
                writer.u8(number::REQUEST_FAILURE);
            }
            Self::Open { sender, window, max_packet, kind } => {
                writer.u8(number::CHANNEL_OPEN).string(kind.name());
                writer.u32(*sender).u32(*window).u32(*max_packet);
                kind.write(&mut writer);
            }
            Self::Unknown(packet) => return packet.clone(),
            _ => self.write_of_channel(&mut writer),
        }
        writer.finish()
    }

    fn write_of_channel(&self, writer: &mut Writer) {
        match self {
            Self::OpenConfirmation { recipient, sender, window, max_packet, payload } => {
                writer.u8(number::CHANNEL_OPEN_CONFIRMATION).u32(*recipient);
                writer.u32(*sender).u32(*window).u32(*max_packet).raw(payload);
            }
            Self::OpenFailure { recipient, reason, description, language } => {
                writer.u8(number::CHANNEL_OPEN_FAILURE).u32(*recipient).u32((*reason).into());
                writer.string(description).string(language);
            }
            Self::WindowAdjust { recipient, bytes } => {
                writer.u8(number::CHANNEL_WINDOW_ADJUST).u32(*recipient).u32(*bytes);
            }
            Self::Data { recipient, data } => {
                writer.u8(number::CHANNEL_DATA).u32(*recipient).string(data);
            }
            Self::ExtendedData { recipient, code, data } => {
                writer.u8(number::CHANNEL_EXTENDED_DATA).u32(*recipient).u32(*code).string(data);
            }
            Self::Eof { recipient } => {
                writer.u8(number::CHANNEL_EOF).u32(*recipient);
            }
            Self::Close { recipient } => {
                writer.u8(number::CHANNEL_CLOSE).u32(*recipient);
            }
            Self::Request { recipient, want_reply, kind } => {
                writer.u8(number::CHANNEL_REQUEST).u32(*recipient);
                writer.string(kind.name()).bool(*want_reply);
                kind.write(writer);
            }
            Self::Success { recipient } => {
                writer.u8(number::CHANNEL_SUCCESS).u32(*recipient);
            }
            Self::Failure { recipient } => {
                writer.u8(number::CHANNEL_FAILURE).u32(*recipient);
            }
            Self::GlobalRequest { .. }
            | Self::RequestSuccess { .. }
            | Self::RequestFailure
            | Self::Open { .. }
            | Self::Unknown(_) => {}
        }
    }
}
