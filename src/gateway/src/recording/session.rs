//! What is recorded of one session.

use std::time::Instant;

use sparks_ssh::wire::{Pty, RequestKind, WindowSize};

use super::{
    RecordError, Recorder,
    cast::{Event, Header, Origin, Term},
    file::Recording,
    header::{bounded, pieces, short},
};

/// Most bytes of the output of a command without terminal that are recorded.
const PLAIN_LIMIT: usize = 1 << 20;

/// A session and its recording, which begins with the first program that the client asks for.
#[derive(Default)]
pub struct Session {
    term: Option<Term>,
    recording: Option<Recording>,
    /// Whether a program was asked for.
    is_started: bool,
    /// Bytes recorded of a command without terminal.
    plain: usize,
    /// No more of its output is recorded.
    is_muted: bool,
}

/// A program that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A login shell.
    Shell,
    /// A command.
    Command(String),
    /// A subsystem, by its name.
    Subsystem(String),
}

impl Start {
    /// What the request asks to start, if anything.
    pub fn of(request: &RequestKind) -> Option<Self> {
        match request {
            RequestKind::Shell => Some(Self::Shell),
            RequestKind::Exec { command } => {
                Some(Self::Command(String::from_utf8_lossy(command).into_owned()))
            }
            RequestKind::Subsystem { name } => {
                Some(Self::Subsystem(String::from_utf8_lossy(name).into_owned()))
            }
            _ => None,
        }
    }

    /// As a header has it: nothing for a shell.
    fn command(&self) -> Option<String> {
        match self {
            Self::Shell => None,
            Self::Command(command) => Some(command.clone()),
            Self::Subsystem(name) => Some(format!("subsystem {name}")),
        }
    }
}

impl Session {
    /// It gets a terminal.
    pub fn terminal(&mut self, pty: &Pty) {
        let kind = Some(short(String::from_utf8_lossy(&pty.term).into_owned()));
        self.term = Some(Term { kind, ..term(pty.size) });
    }

    /// The terminal has another size.
    pub fn resize(&mut self, size: WindowSize) -> Result<(), RecordError> {
        let Term { cols, rows, .. } = term(size);
        self.event(&Event::Resize { cols, rows })
    }

    /// The client asks for a program; whether the guest starts it is not known yet.
    pub fn start(&mut self, recorder: &Recorder, origin: &Origin, start: &Start) -> Result<(), RecordError> {
        let is_first = !std::mem::replace(&mut self.is_started, true);
        match &self.recording {
            Some(_) => self.further(start)?,
            None => self.begin(recorder, origin, start)?,
        }
        if is_first && matches!(start, Start::Subsystem(_)) {
            self.mute("what a subsystem transfers is not recorded")?;
        }
        Ok(())
    }

    fn begin(&mut self, recorder: &Recorder, origin: &Origin, start: &Start) -> Result<(), RecordError> {
        let header = Header {
            version: 3,
            term: self.term.clone().unwrap_or(Term { cols: 80, rows: 24, kind: None }),
            timestamp: Some(jiff::Timestamp::now().as_second()),
            command: start.command(),
            sparks: Origin { tty: self.term.is_some(), ..origin.clone() },
        };
        let (header, rest) = bounded(header);
        self.recording = Some(recorder.begin(&header)?);
        self.note("the command goes on: ", &rest.unwrap_or_default())
    }

    /// A guest that refuses one program may start the next one, so all that follows is recorded whatever came before.
    fn further(&mut self, start: &Start) -> Result<(), RecordError> {
        (self.is_muted, self.plain) = (false, 0);
        let what = start.command().unwrap_or_else(|| "a shell".into());
        self.note("the client asks for another program: ", &what)
    }

    /// Notes a text of any length.
    fn note(&mut self, what: &str, text: &str) -> Result<(), RecordError> {
        pieces(text).try_for_each(|piece| self.event(&Event::Marker(&format!("{what}{piece}"))))
    }

    /// The guest sends output.
    pub fn output(&mut self, data: &[u8]) -> Result<(), RecordError> {
        if self.is_muted {
            return Ok(());
        }
        if self.term.is_none() {
            self.plain += data.len();
            if data.contains(&0) {
                return self.mute("output that is no text is not recorded");
            }
            if self.plain > PLAIN_LIMIT {
                return self.mute("more than 1 MiB of output without a terminal is not recorded");
            }
        }
        self.event(&Event::Output(data))
    }

    /// The program has ended.
    pub fn exit(&mut self, status: &str) -> Result<(), RecordError> {
        self.event(&Event::Exit(status))
    }

    fn mute(&mut self, why: &str) -> Result<(), RecordError> {
        self.event(&Event::Marker(why))?;
        self.is_muted = true;
        Ok(())
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), RecordError> {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        recording.event(event, Instant::now())
    }

    /// Nothing more comes.
    pub async fn end(self, recorder: &Recorder) {
        if let Some(recording) = self.recording {
            recorder.end(recording).await;
        }
    }
}

fn term(size: WindowSize) -> Term {
    // A client without a terminal says 0; nobody has one of more than this, which a player would try to make.
    let sane = |n: u32, default: u32| if n == 0 { default } else { n.min(10_000) };
    Term { cols: sane(size.columns, 80), rows: sane(size.rows, 24), kind: None }
}
