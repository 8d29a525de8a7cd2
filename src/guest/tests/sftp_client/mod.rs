//! The smallest SFTP client: it says what it is told and shows what comes back.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub const INIT: u8 = 1;
pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const LSTAT: u8 = 7;
pub const FSTAT: u8 = 8;
pub const SETSTAT: u8 = 9;
pub const OPENDIR: u8 = 11;
pub const READDIR: u8 = 12;
pub const MKDIR: u8 = 14;
pub const REALPATH: u8 = 16;
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

/// Fields of a packet.
#[derive(Clone, Default)]
pub struct Packet(pub Vec<u8>);

impl Packet {
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn string(mut self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self = self.u32(u32::try_from(value.len()).unwrap());
        self.0.extend(value);
        self
    }
}

pub fn fields() -> Packet {
    Packet::default()
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub kind: u8,
    pub id: u32,
    pub rest: Vec<u8>,
}

impl Reply {
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    pub fn string(&mut self) -> Vec<u8> {
        let length = self.u32() as usize;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.rest.drain(..length).collect()
    }

    /// Code and text of a status.
    pub fn status(mut self) -> (u32, String) {
        assert_eq!(self.kind, STATUS, "{self:?}");
        (self.u32(), String::from_utf8(self.string()).unwrap())
    }

    /// The first string of a reply of that kind.
    pub fn first(mut self, kind: u8) -> Vec<u8> {
        assert_eq!(self.kind, kind, "{self:?}");
        if kind == NAME {
            self.u32();
        }
        self.string()
    }
}

/// A session with the real program.
pub struct Sftp {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    next: u32,
    /// What the server said that it can do.
    pub extensions: Vec<(String, String)>,
}

/// The command that serves in `directory`.
pub fn server(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sparks-guest"));
    command.arg("sftp").current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

impl Sftp {
    pub fn start(directory: &Path) -> Self {
        Self::with(server(directory))
    }

    pub fn with(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut sftp = Self { child, input, output, next: 1, extensions: Vec::new() };
        sftp.send_raw(&[0, 0, 0, 5, INIT, 0, 0, 0, 3]);
        // The version is where other replies have their id.
        let mut version = sftp.receive().unwrap();
        assert_eq!((version.kind, version.id), (2, 3));
        while !version.rest.is_empty() {
            let text = |bytes| String::from_utf8(bytes).unwrap();
            let extension = (text(version.string()), text(version.string()));
            sftp.extensions.push(extension);
        }
        sftp
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Sends a request and doesn't wait.
    pub fn send(&mut self, kind: u8, fields: Packet) -> u32 {
        let id = self.next;
        self.next += 1;
        let mut packet = u32::try_from(fields.0.len() + 5).unwrap().to_be_bytes().to_vec();
        packet.push(kind);
        packet.extend(id.to_be_bytes());
        packet.extend(fields.0);
        self.send_raw(&packet);
        id
    }

    /// The next reply; none when the server has ended.
    pub fn receive(&mut self) -> Option<Reply> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).ok()?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        self.output.read_exact(&mut packet).unwrap();
        let rest = packet.split_off(5);
        let id = u32::from_be_bytes(packet[1..].try_into().unwrap());
        Some(Reply { kind: packet[0], id, rest })
    }

    pub fn ask(&mut self, kind: u8, fields: Packet) -> Reply {
        let id = self.send(kind, fields);
        let reply = self.receive().expect("the server ended");
        assert_eq!(reply.id, id);
        reply
    }

    pub fn extended(&mut self, name: &str, fields: Packet) -> Reply {
        let mut packet = Packet::default().string(name);
        packet.0.extend(fields.0);
        self.ask(EXTENDED, packet)
    }

    /// Opens a file with those flags of the protocol.
    pub fn open(&mut self, path: impl AsRef<[u8]>, flags: u32) -> Vec<u8> {
        self.ask(OPEN, fields().string(path).u32(flags).u32(0)).first(HANDLE)
    }

    /// Both ends of the pipes, for who wants to do without the above.
    pub fn into_parts(mut self) -> (Child, ChildStdin, File) {
        let input = self.input.take().unwrap();
        (self.child, input, std::os::fd::OwnedFd::from(self.output).into())
    }

    /// Ends the input, and says how the server ended.
    pub fn end(mut self) -> std::process::ExitStatus {
        drop(self.input.take());
        assert!(self.receive().is_none());
        self.child.wait().unwrap()
    }
}
