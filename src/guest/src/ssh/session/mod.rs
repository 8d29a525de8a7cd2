//! Sessions: a terminal, a command, or SFTP.

mod environment;
mod invocation;
mod modes;
mod motd;
mod program;
pub mod rc;
mod running;
mod signals;
mod terminal;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use sparks_ssh::mux::{Channel, ChannelRequest, ChannelWriter, Control};
use sparks_ssh::wire::{Pty, RequestKind};
use tokio::io::{AsyncWriteExt, Interest};

use self::environment::{Environment, Extras};
use self::invocation::{Invocation, Wish};
use self::program::{Program, Streams};
use self::running::{Client, Input};
use self::terminal::{Slave, Terminal};
use super::agent::Agent;
use super::descriptor::watched;
use super::login::Login;
use super::x11::Display;
use crate::launch::{self, ExecError};

/// What the sessions of a connection share.
pub struct Host {
    login: Rc<Login>,
    agent: RefCell<Option<Rc<Agent>>>,
}

impl Host {
    /// For that login.
    pub fn new(login: Rc<Login>) -> Self {
        Self { login, agent: RefCell::default() }
    }

    /// The connection's agent, from the first time that it is asked for.
    fn agent(&self) -> io::Result<Rc<Agent>> {
        let mut agent = self.agent.borrow_mut();
        if let Some(agent) = agent.as_ref() {
            return Ok(agent.clone());
        }
        Ok(agent.insert(Rc::new(Agent::listen(&self.login)?)).clone())
    }
}

/// Serves a session to its end.
pub async fn serve(channel: Channel, host: Rc<Host>) {
    let Channel { reader, stderr, writer, mut requests, control } = channel;
    // No client sends any.
    drop(stderr);
    let mut setup = Setup { host, env: Environment::default(), terminal: None, agent: None, display: None };
    let (wish, request) = loop {
        let Some(request) = requests.next().await else { return };
        match wish(&request.kind) {
            Some(wish) => break (wish, request),
            None => setup.ask(request).await,
        }
    };
    let is_forced = setup.host.login.permissions.force_command.is_some();
    let client = Client { reader, writer, requests, control };
    let started = setup.start(wish);
    request.reply(!matches!(started, Err(Failure::Streams(_))));
    match started {
        Ok(Started { program, streams, motd }) => {
            let Setup { terminal, agent, display, .. } = setup;
            // Our copy of the program's side goes: the terminal hangs up with the last of them.
            let terminal = terminal.map(|(terminal, _)| terminal);
            let mut client = client;
            if !motd.is_empty() && client.writer.write_all(&motd).await.is_err() {
                return;
            }
            running::run(program, streams, client, terminal, is_forced).await;
            // Until here somebody may use them.
            drop((agent, display));
        }
        Err(failure) => failure.tell(client.writer, &client.control, setup.terminal.is_some()).await,
    }
}

/// What a request wants to be started, if it does.
fn wish(kind: &RequestKind) -> Option<Wish> {
    match kind {
        RequestKind::Shell => Some(Wish::Shell),
        RequestKind::Exec { command } => Some(Wish::Command(command.clone())),
        RequestKind::Subsystem { name } if name == "sftp" => Some(Wish::Sftp(Vec::new())),
        _ => None,
    }
}

/// A session before its program.
struct Setup {
    host: Rc<Host>,
    env: Environment,
    terminal: Option<(Terminal, Slave)>,
    agent: Option<Rc<Agent>>,
    display: Option<Display>,
}

/// A session whose program was started.
struct Started {
    program: Program,
    streams: running::Streams,
    motd: Vec<u8>,
}

impl Setup {
    async fn ask(&mut self, request: ChannelRequest) {
        let permissions = &self.host.login.permissions;
        let done = match &request.kind {
            RequestKind::Pty(pty) => permissions.pty && self.open_terminal(pty),
            RequestKind::Env { name, value } => self.env.accept(name, value),
            RequestKind::WindowChange(size) => {
                self.terminal.as_ref().map(|(terminal, _)| terminal.resize(*size)).is_some()
            }
            RequestKind::AuthAgent => permissions.agent_forwarding && self.open_agent(),
            RequestKind::X11 { single_connection, protocol, cookie, screen }
                if permissions.x11 && self.display.is_none() =>
            {
                let login = &self.host.login;
                self.display =
                    Display::listen(login, *single_connection, protocol, cookie, *screen).await.ok();
                self.display.is_some()
            }
            _ => false,
        };
        request.reply(done);
    }

    fn open_terminal(&mut self, pty: &Pty) -> bool {
        if self.terminal.is_none() {
            self.terminal = Terminal::open(pty).ok();
            return self.terminal.is_some();
        }
        false
    }

    fn open_agent(&mut self) -> bool {
        self.agent = self.host.agent().ok();
        self.agent.is_some()
    }

    fn start(&mut self, wish: Wish) -> Result<Started, Failure> {
        let login = self.host.login.clone();
        let (wish, original) = match &login.permissions.force_command {
            Some(command) => wish.forced(command),
            None => (wish, None),
        };
        let display = self.display.as_ref().map(|display| {
            let mut env = display.environment();
            env.push(("DISPLAY".into(), display.name().into()));
            env
        });
        let extras = Extras {
            terminal: self.terminal.as_ref().map(|(terminal, _)| terminal.environment()),
            agent: self.agent.as_ref().map(|agent| agent.socket()),
            display: display.unwrap_or_default(),
            original_command: original.as_deref(),
        };
        let env = environment::of(&login, &self.env, &extras);
        let invocation = Invocation::of(&wish, login.user.shell.as_deref(), &env, &launch::is_program)?;
        let wants_rc =
            !matches!(wish, Wish::Sftp(_)) && login.permissions.user_rc && rc::exists(&login.user.home);
        let invocation = if wants_rc { rc::before(invocation) } else { invocation };
        let (theirs, ours) = self.streams()?;
        let program = program::start(&invocation, &env, &login.user.home, theirs)?;
        let is_login = self.terminal.is_some() && wish == Wish::Shell;
        let motd = if is_login { motd::of(&login.user.home) } else { Vec::new() };
        Ok(Started { program, streams: ours, motd })
    }

    fn streams(&mut self) -> io::Result<(Streams, running::Streams)> {
        if let Some((terminal, slave)) = &self.terminal {
            let (input, output) = (Input::Terminal(terminal.master()), terminal.master());
            return Ok((Streams::terminal(slave)?, running::Streams { input, output, complaints: None }));
        }
        let (theirs, pipes) = Streams::pipes()?;
        let ours = running::Streams {
            input: Input::Pipe(watched(pipes.stdin, Interest::WRITABLE)?),
            output: Rc::new(watched(pipes.stdout, Interest::READABLE)?),
            complaints: Some(Rc::new(watched(pipes.stderr, Interest::READABLE)?)),
        };
        Ok((theirs, ours))
    }
}

/// Why no program was started.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It has nothing to read and to write; the request is refused.
    #[error("no pipes can be had: {0}")]
    Streams(#[from] io::Error),
    /// What it should be is no program.
    #[error(transparent)]
    Wish(#[from] invocation::WishError),
    /// It can't be executed.
    #[error(transparent)]
    Exec(#[from] ExecError),
}

impl Failure {
    /// Says it where the program would have complained, with a shell's exit code.
    async fn tell(self, mut writer: ChannelWriter, control: &Control, has_terminal: bool) {
        let code = match &self {
            Self::Streams(_) => return control.close(),
            Self::Wish(_) => 127,
            Self::Exec(error) => error.exit_code(),
        };
        let text = format!("sparks: {self}\r\n");
        let mut stderr = if has_terminal { None } else { Some(writer.extended()) };
        let _ = stderr.as_mut().unwrap_or(&mut writer).write_all(text.as_bytes()).await;
        drop((writer, stderr));
        let _ = control.exit_status(code.into()).await;
        control.close();
    }
}
