//! What a channel is opened for, and why it isn't.

use bytes::Bytes;

use super::{Malformed, Reader, Writer};

/// Why a channel isn't opened (RFC 4254, section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenReason {
    /// It is not allowed.
    AdministrativelyProhibited,
    /// Where it should lead to didn't answer.
    ConnectFailed,
    /// Its type is not known.
    UnknownChannelType,
    /// There are too many.
    ResourceShortage,
    /// A number that RFC 4254 doesn't name.
    Other(u32),
}

impl From<u32> for OpenReason {
    fn from(reason: u32) -> Self {
        match reason {
            1 => Self::AdministrativelyProhibited,
            2 => Self::ConnectFailed,
            3 => Self::UnknownChannelType,
            4 => Self::ResourceShortage,
            other => Self::Other(other),
        }
    }
}

impl From<OpenReason> for u32 {
    fn from(reason: OpenReason) -> Self {
        match reason {
            OpenReason::AdministrativelyProhibited => 1,
            OpenReason::ConnectFailed => 2,
            OpenReason::UnknownChannelType => 3,
            OpenReason::ResourceShortage => 4,
            OpenReason::Other(other) => other,
        }
    }
}

/// What a channel is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// A program, by the requests that follow.
    Session,
    /// A TCP connection that the other end shall make.
    DirectTcpip {
        /// A name or an address.
        host: Bytes,
        /// A port of `host`.
        port: u32,
        /// The address that the connection came from.
        originator: Bytes,
        /// The port that the connection came from.
        originator_port: u32,
    },
    /// A connection to a unix socket that the other end shall make.
    DirectStreamlocal {
        /// The socket's path.
        path: Bytes,
    },
    /// A connection to a port that the other end asked to be listened on.
    ForwardedTcpip {
        /// The address in the request to listen.
        address: Bytes,
        /// The port that is listened on.
        port: u32,
        /// The address that the connection came from.
        originator: Bytes,
        /// The port that the connection came from.
        originator_port: u32,
    },
    /// A connection to a unix socket that the other end asked to be listened on.
    ForwardedStreamlocal {
        /// The socket's path.
        path: Bytes,
    },
    /// A connection to the user's authentication agent.
    AuthAgent,
    /// A connection to the user's X server.
    X11 {
        /// The address that the connection came from.
        originator: Bytes,
        /// The port that the connection came from.
        originator_port: u32,
    },
    /// Anything else.
    Unknown {
        /// The type.
        name: Bytes,
        /// What is said about it.
        payload: Bytes,
    },
}

impl ChannelKind {
    pub(super) fn parse(name: Bytes, payload: Bytes) -> Self {
        let mut reader = Reader::new(payload.clone());
        match Self::known(&name, &mut reader) {
            Ok(Some(kind)) if reader.is_empty() => kind,
            _ => Self::Unknown { name, payload },
        }
    }

    fn known(name: &[u8], reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        Ok(Some(match name {
            b"session" => Self::Session,
            b"direct-tcpip" => Self::DirectTcpip {
                host: reader.string()?,
                port: reader.u32()?,
                originator: reader.string()?,
                originator_port: reader.u32()?,
            },
            b"forwarded-tcpip" => Self::ForwardedTcpip {
                address: reader.string()?,
                port: reader.u32()?,
                originator: reader.string()?,
                originator_port: reader.u32()?,
            },
            b"direct-streamlocal@openssh.com" => {
                let path = reader.string()?;
                // Reserved, both (OpenSSH's PROTOCOL, 2.4).
                reader.string()?;
                reader.u32()?;
                Self::DirectStreamlocal { path }
            }
            b"forwarded-streamlocal@openssh.com" => {
                let path = reader.string()?;
                reader.string()?;
                Self::ForwardedStreamlocal { path }
            }
            b"auth-agent@openssh.com" => Self::AuthAgent,
            b"x11" => Self::X11 { originator: reader.string()?, originator_port: reader.u32()? },
            _ => return Ok(None),
        }))
    }

    /// The name of the type.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Session => b"session",
            Self::DirectTcpip { .. } => b"direct-tcpip",
            Self::DirectStreamlocal { .. } => b"direct-streamlocal@openssh.com",
            Self::ForwardedTcpip { .. } => b"forwarded-tcpip",
            Self::ForwardedStreamlocal { .. } => b"forwarded-streamlocal@openssh.com",
            Self::AuthAgent => b"auth-agent@openssh.com",
            Self::X11 { .. } => b"x11",
            Self::Unknown { name, .. } => name,
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Session | Self::AuthAgent => writer,
            Self::DirectTcpip { host: name, port, originator, originator_port }
            | Self::ForwardedTcpip { address: name, port, originator, originator_port } => {
                writer.string(name).u32(*port).string(originator).u32(*originator_port)
            }
            Self::DirectStreamlocal { path } => writer.string(path).string(b"").u32(0),
            Self::ForwardedStreamlocal { path } => writer.string(path).string(b""),
            Self::X11 { originator, originator_port } => writer.string(originator).u32(*originator_port),
            Self::Unknown { payload, .. } => writer.raw(payload),
        };
    }
}
