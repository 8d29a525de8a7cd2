//! Requests that concern the whole connection.

use bytes::Bytes;

use super::{Malformed, Reader, Writer};

/// More keys than any host has: what is parsed stays about as small as the packet was.
const MOST_KEYS: usize = 64;

/// What is asked of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GlobalKind {
    /// Listen on a port.
    TcpipForward {
        /// Where to listen: empty, `localhost`, a name or an address.
        address: Bytes,
        /// The port; 0: any, which the answer tells.
        port: u32,
    },
    /// No longer listen on a port.
    CancelTcpipForward {
        /// As it was asked for.
        address: Bytes,
        /// The port that is listened on.
        port: u32,
    },
    /// Listen on a unix socket.
    StreamlocalForward {
        /// The socket's path.
        path: Bytes,
    },
    /// No longer listen on a unix socket.
    CancelStreamlocalForward {
        /// As it was asked for.
        path: Bytes,
    },
    /// The client will open no more sessions, and whoever tries is an intruder.
    NoMoreSessions,
    /// All keys of the host.
    HostKeys {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Asks for proof that the host has these keys.
    HostKeysProve {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Asks for any answer at all.
    Keepalive,
    /// Anything else.
    Unknown {
        /// The name.
        name: Bytes,
        /// What is said about it.
        payload: Bytes,
    },
}

impl GlobalKind {
    pub(super) fn parse(name: Bytes, payload: Bytes) -> Self {
        let mut reader = Reader::new(payload.clone());
        match Self::known(&name, &mut reader) {
            Ok(Some(kind)) if reader.is_empty() => kind,
            _ => Self::Unknown { name, payload },
        }
    }

    fn known(name: &[u8], reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        Ok(Some(match name {
            b"tcpip-forward" => Self::TcpipForward { address: reader.string()?, port: reader.u32()? },
            b"cancel-tcpip-forward" => {
                Self::CancelTcpipForward { address: reader.string()?, port: reader.u32()? }
            }
            b"streamlocal-forward@openssh.com" => Self::StreamlocalForward { path: reader.string()? },
            b"cancel-streamlocal-forward@openssh.com" => {
                Self::CancelStreamlocalForward { path: reader.string()? }
            }
            b"no-more-sessions@openssh.com" => Self::NoMoreSessions,
            b"hostkeys-00@openssh.com" => Self::HostKeys { keys: keys(reader)? },
            b"hostkeys-prove-00@openssh.com" => Self::HostKeysProve { keys: keys(reader)? },
            b"keepalive@openssh.com" => Self::Keepalive,
            _ => return Ok(None),
        }))
    }

    /// The name of the request.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match self {
            Self::TcpipForward { .. } => b"tcpip-forward",
            Self::CancelTcpipForward { .. } => b"cancel-tcpip-forward",
            Self::StreamlocalForward { .. } => b"streamlocal-forward@openssh.com",
            Self::CancelStreamlocalForward { .. } => b"cancel-streamlocal-forward@openssh.com",
            Self::NoMoreSessions => b"no-more-sessions@openssh.com",
            Self::HostKeys { .. } => b"hostkeys-00@openssh.com",
            Self::HostKeysProve { .. } => b"hostkeys-prove-00@openssh.com",
            Self::Keepalive => b"keepalive@openssh.com",
            Self::Unknown { name, .. } => name,
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        match self {
            Self::TcpipForward { address, port } | Self::CancelTcpipForward { address, port } => {
                writer.string(address).u32(*port);
            }
            Self::StreamlocalForward { path } | Self::CancelStreamlocalForward { path } => {
                writer.string(path);
            }
            Self::NoMoreSessions | Self::Keepalive => {}
            Self::HostKeys { keys } | Self::HostKeysProve { keys } => {
                for key in keys {
                    writer.string(key);
                }
            }
            Self::Unknown { payload, .. } => {
                writer.raw(payload);
            }
        }
    }
}

fn keys(reader: &mut Reader) -> Result<Vec<Bytes>, Malformed> {
    let mut keys = Vec::new();
    while !reader.is_empty() {
        if keys.len() == MOST_KEYS {
            return Err(Malformed("list of keys"));
        }
        keys.push(reader.string()?);
    }
    Ok(keys)
}
