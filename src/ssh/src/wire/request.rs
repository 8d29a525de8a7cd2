//! Requests that concern one channel.

use bytes::Bytes;

use super::{Malformed, Reader, Writer};

/// Ends the list of a terminal's modes.
const TTY_OP_END: u8 = 0;
/// From here on the arguments of opcodes are not known, so that reading has to stop (RFC 4254, section 8).
const FIRST_UNKNOWN_OPCODE: u8 = 160;
/// More modes than there are opcodes.
const MOST_MODES: usize = 256;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// In characters.
    pub columns: u32,
    /// In characters.
    pub rows: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl WindowSize {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self { columns: reader.u32()?, rows: reader.u32()?, width: reader.u32()?, height: reader.u32()? })
    }

    fn write(self, writer: &mut Writer) -> &mut Writer {
        writer.u32(self.columns).u32(self.rows).u32(self.width).u32(self.height)
    }
}

/// A terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pty {
    /// The value of `TERM`.
    pub term: Bytes,
    /// Its size at the start.
    pub size: WindowSize,
    /// Opcodes and arguments, as in RFC 4254, section 8.
    pub modes: Vec<(u8, u32)>,
}

/// What is asked of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Give the session a terminal.
    Pty(Pty),
    /// Give the session an X server.
    X11 {
        /// Whether the first connection is the last one.
        single_connection: bool,
        /// The name of the authentication protocol.
        protocol: Bytes,
        /// The cookie, in hexadecimal digits.
        cookie: Bytes,
        /// The number of the screen.
        screen: u32,
    },
    /// Give the session an authentication agent.
    AuthAgent,
    /// Give the session an environment variable.
    Env {
        /// The name.
        name: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Start the user's shell.
    Shell,
    /// Start a command by the user's shell.
    Exec {
        /// The command.
        command: Bytes,
    },
    /// Start a subsystem.
    Subsystem {
        /// The name.
        name: Bytes,
    },
    /// The terminal's size has changed.
    WindowChange(WindowSize),
    /// Whether the client may do the flow control of the terminal.
    XonXoff {
        /// Whether it may.
        client_can_do: bool,
    },
    /// Send a signal to the program.
    Signal {
        /// The name, without `SIG`.
        name: Bytes,
    },
    /// Send a break to the terminal (RFC 4335).
    Break {
        /// How long.
        milliseconds: u32,
    },
    /// The program has exited.
    ExitStatus {
        /// Its status.
        status: u32,
    },
    /// The program was killed.
    ExitSignal {
        /// The name of the signal, without `SIG`.
        name: Bytes,
        /// Whether a core was dumped.
        core_dumped: bool,
        /// For people.
        message: Bytes,
        /// The language of `message`.
        language: Bytes,
    },
    /// The sender reads no more, but still writes.
    Eow,
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

impl RequestKind {
    pub(super) fn parse(name: Bytes, payload: Bytes) -> Self {
        let mut reader = Reader::new(payload.clone());
        match Self::known(&name, &mut reader) {
            Ok(Some(kind)) if reader.is_empty() => kind,
            _ => Self::Unknown { name, payload },
        }
    }

    fn known(name: &[u8], reader: &mut Reader) -> Result<Option<Self>, Malformed> {
        Ok(Some(match name {
            b"pty-req" => Self::Pty(Pty {
                term: reader.string()?,
                size: WindowSize::read(reader)?,
                modes: modes(reader.string()?),
            }),
            b"x11-req" => Self::X11 {
                single_connection: reader.bool()?,
                protocol: reader.string()?,
                cookie: reader.string()?,
                screen: reader.u32()?,
            },
            b"auth-agent-req@openssh.com" => Self::AuthAgent,
            b"env" => Self::Env { name: reader.string()?, value: reader.string()? },
            b"shell" => Self::Shell,
            b"exec" => Self::Exec { command: reader.string()? },
            b"subsystem" => Self::Subsystem { name: reader.string()? },
            b"window-change" => Self::WindowChange(WindowSize::read(reader)?),
            b"xon-xoff" => Self::XonXoff { client_can_do: reader.bool()? },
            b"signal" => Self::Signal { name: reader.string()? },
            b"break" => Self::Break { milliseconds: reader.u32()? },
            b"exit-status" => Self::ExitStatus { status: reader.u32()? },
            b"exit-signal" => Self::ExitSignal {
                name: reader.string()?,
                core_dumped: reader.bool()?,
                message: reader.string()?,
                language: reader.string()?,
            },
            b"eow@openssh.com" => Self::Eow,
            b"keepalive@openssh.com" => Self::Keepalive,
            _ => return Ok(None),
        }))
    }

    /// The name of the request.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Pty(_) => b"pty-req",
            Self::X11 { .. } => b"x11-req",
            Self::AuthAgent => b"auth-agent-req@openssh.com",
            Self::Env { .. } => b"env",
            Self::Shell => b"shell",
            Self::Exec { .. } => b"exec",
            Self::Subsystem { .. } => b"subsystem",
            Self::WindowChange(_) => b"window-change",
            Self::XonXoff { .. } => b"xon-xoff",
            Self::Signal { .. } => b"signal",
            Self::Break { .. } => b"break",
            Self::ExitStatus { .. } => b"exit-status",
            Self::ExitSignal { .. } => b"exit-signal",
            Self::Eow => b"eow@openssh.com",
            Self::Keepalive => b"keepalive@openssh.com",
            Self::Unknown { name, .. } => name,
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Pty(pty) => {
                pty.size.write(writer.string(&pty.term)).string(&encode_modes(&pty.modes));
            }
            Self::X11 { single_connection, protocol, cookie, screen } => {
                writer.bool(*single_connection).string(protocol).string(cookie).u32(*screen);
            }
            Self::Env { name, value } => {
                writer.string(name).string(value);
            }
            Self::Exec { command: name } | Self::Subsystem { name } | Self::Signal { name } => {
                writer.string(name);
            }
            Self::WindowChange(size) => {
                size.write(writer);
            }
            Self::XonXoff { client_can_do } => {
                writer.bool(*client_can_do);
            }
            Self::Break { milliseconds: number } | Self::ExitStatus { status: number } => {
                writer.u32(*number);
            }
            Self::ExitSignal { name, core_dumped, message, language } => {
                writer.string(name).bool(*core_dumped).string(message).string(language);
            }
            Self::AuthAgent | Self::Shell | Self::Eow | Self::Keepalive => {}
            Self::Unknown { payload, .. } => {
                writer.raw(payload);
            }
        }
    }
}

/// The modes up to the end of the list, the first unknown opcode or a cut.
fn modes(encoded: Bytes) -> Vec<(u8, u32)> {
    let mut reader = Reader::new(encoded);
    let next = || {
        let opcode = reader.u8().ok()?;
        let known = opcode != TTY_OP_END && opcode < FIRST_UNKNOWN_OPCODE;
        known.then(|| reader.u32().ok()).flatten().map(|argument| (opcode, argument))
    };
    std::iter::from_fn(next).take(MOST_MODES).collect()
}

fn encode_modes(modes: &[(u8, u32)]) -> Bytes {
    let mut writer = Writer::new();
    for (opcode, argument) in modes {
        writer.u8(*opcode).u32(*argument);
    }
    writer.u8(TTY_OP_END);
    writer.finish()
}
