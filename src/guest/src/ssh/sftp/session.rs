//! From a request to its reply.

use rustix::fs::Stat;

use super::handles::Handles;
use super::packet::{Fields, Malformed, Replies, kind};
use super::people::People;
use super::rules::Rules;
use super::status::{Refusal, Status};
use super::{attributes, extensions, tree};

/// The version that is spoken: 3, that of OpenSSH.
const VERSION: u32 = 3;

/// How a request ended that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing more to say than that.
    Ok,
    /// Its reply is written.
    Replied,
}

/// What a handler of a request returns.
pub type Answer = Result<Done, Refusal>;

/// Why the session can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Without an id there is nothing to answer to.
    #[error("the client sent a packet without a request id")]
    NoId,
    /// The first packet must be INIT.
    #[error("the client sent a request before the protocol version was agreed on")]
    NoVersion,
}

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Self {
        Self::NoId
    }
}

/// State of one client's session.
#[derive(Debug)]
pub struct Session {
    pub(super) handles: Handles,
    pub(super) people: People,
    pub(super) rules: Rules,
    /// The client's.
    version: Option<u32>,
}

/// One request: its id, and where its reply goes.
pub struct Request<'a> {
    pub id: u32,
    pub fields: Fields<'a>,
    pub replies: &'a mut Replies,
}

impl Session {
    /// For a process that may have `files` open, by these rules.
    pub fn new(files: Option<u64>, rules: Rules) -> Self {
        Self { handles: Handles::new(files), people: People::default(), rules, version: None }
    }

    /// Answers one packet. A request that can't be understood is refused; the next one is unharmed, because packets
    /// carry their length.
    pub fn answer(&mut self, packet: &[u8], replies: &mut Replies) -> Result<(), Broken> {
        let mut fields = Fields::new(packet);
        let kind = fields.u8()?;
        if kind == kind::INIT {
            self.version = Some(fields.u32()?);
            replies.packet(kind::VERSION, |reply| {
                reply.u32(VERSION);
                extensions::advertise(reply, &self.rules);
            });
            return Ok(());
        }
        let version = self.version.ok_or(Broken::NoVersion)?;
        let id = fields.u32()?;
        let (status, text) = match self.handle(kind, Request { id, fields, replies: &mut *replies }) {
            Ok(Done::Replied) => return Ok(()),
            Ok(Done::Ok) => (Status::Ok, Status::Ok.text().to_owned()),
            Err(refusal) => (refusal.status(), refusal.to_string()),
        };
        replies.packet(kind::STATUS, |reply| {
            reply.u32(id).u32(status as u32);
            if version >= 3 {
                reply.string(text.as_bytes()).string(b"");
            }
        });
        Ok(())
    }

    fn handle(&mut self, kind: u8, request: Request<'_>) -> Answer {
        self.rules.check(kind, request.extension(kind)?)?;
        match kind {
            kind::OPEN => self.open(request),
            kind::CLOSE => self.close(request),
            kind::READ => self.read(request),
            kind::WRITE => self.write(request),
            kind::FSTAT => self.fstat(request),
            kind::FSETSTAT => self.fsetstat(request),
            kind::OPENDIR => self.opendir(request),
            kind::READDIR => self.readdir(request),
            kind::LSTAT => tree::lstat(request),
            kind::STAT => tree::stat(request),
            kind::SETSTAT => tree::setstat(request),
            kind::REMOVE => tree::remove(request),
            kind::MKDIR => tree::mkdir(request),
            kind::RMDIR => tree::rmdir(request),
            kind::REALPATH => tree::realpath(request),
            kind::RENAME => tree::rename(request),
            kind::READLINK => tree::readlink(request),
            kind::SYMLINK => tree::symlink(request),
            kind::EXTENDED => self.extended(request),
            _ => Err(Refusal::Status(Status::Unsupported)),
        }
    }
}

impl<'a> Request<'a> {
    /// The name in a packet of that kind; nothing where it has none.
    fn extension(&self, kind: u8) -> Result<&'a [u8], Malformed> {
        let mut fields = self.fields;
        if kind == kind::EXTENDED { fields.string() } else { Ok(b"") }
    }

    pub fn reply_handle(self, handle: [u8; 4]) -> Answer {
        self.replies.packet(kind::HANDLE, |reply| {
            reply.u32(self.id).string(&handle);
        });
        Ok(Done::Replied)
    }

    /// One name without attributes, which stands for itself.
    pub fn reply_name(self, name: &[u8]) -> Answer {
        self.replies.packet(kind::NAME, |reply| {
            reply.u32(self.id).u32(1).string(name).string(name);
            attributes::put_none(reply);
        });
        Ok(Done::Replied)
    }

    pub fn reply_attributes(self, stat: &Stat) -> Answer {
        self.replies.packet(kind::ATTRS, |reply| {
            reply.u32(self.id);
            attributes::put(reply, stat);
        });
        Ok(Done::Replied)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn init(session: &mut Session, version: u8) {
        session.answer(&[kind::INIT, 0, 0, 0, version], &mut Replies::default()).unwrap();
    }

    fn status(session: &mut Session, packet: &[u8]) -> u8 {
        let mut replies = Replies::default();
        session.answer(packet, &mut replies).unwrap();
        assert_eq!(replies.bytes()[4], kind::STATUS);
        replies.bytes()[12]
    }

    #[test]
    fn nothing_is_done_before_the_version_is_agreed_on() {
        let mut session = Session::new(None, Rules::default());
        let mut replies = Replies::default();
        let realpath = [kind::REALPATH, 0, 0, 0, 1, 0, 0, 0, 1, b'.'];
        assert_eq!(session.answer(&realpath, &mut replies), Err(Broken::NoVersion));
        init(&mut session, 3);
        assert_eq!(session.answer(&realpath, &mut replies), Ok(()));
        assert_eq!(replies.bytes()[4], kind::NAME);
    }

    #[test]
    fn a_request_that_cannot_be_understood_is_refused_and_the_next_one_answered() {
        let mut session = Session::new(None, Rules::default());
        init(&mut session, 3);
        assert_eq!(status(&mut session, &[kind::STAT, 0, 0, 0, 1, 0, 0, 0, 9, b'.']), 5);
        assert_eq!(status(&mut session, &[99, 0, 0, 0, 1]), 8);
        assert_eq!(status(&mut session, &[kind::STAT, 0, 0, 0, 1, 0, 0, 0, 2, b'a', 0]), 5);
        assert_eq!(status(&mut session, &[kind::READ, 0, 0, 0, 1, 0, 0, 0, 0]), 5);
    }

    #[test]
    fn a_status_has_a_text_only_for_clients_that_know_of_it() {
        let mut session = Session::new(None, Rules::default());
        let mut replies = Replies::default();
        init(&mut session, 2);
        session.answer(&[99, 0, 0, 0, 1], &mut replies).unwrap();
        assert_eq!(replies.bytes(), [0, 0, 0, 9, kind::STATUS, 0, 0, 0, 1, 0, 0, 0, 8]);
    }
}
