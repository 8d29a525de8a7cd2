//! PID 1's part of SSH: it accepts, and starts one process for each connection. SSH itself is spoken in there, so that
//! a bug in it ends one connection, and what it needs of memory goes with it.

mod admitted;
mod handout;
mod start;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, Signal, kill_process};
use sparks_proto::{SshAnswer, SshQuestion, SshServer};
use tokio::net::{TcpListener, TcpStream};

use crate::log;
use crate::processes::{self, Process};
use crate::reap::Exit;

use admitted::Admitted;

pub use handout::{AskError, admit, ask, listen};

/// So many connections at a time. A further one takes the place of the oldest that hasn't logged in yet.
const MOST_CONNECTIONS: usize = 256;

/// Pause after an accept failed, for instance because PID 1 is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Pause before the port is tried again that something else has.
const LISTEN_PAUSE: Duration = Duration::from_secs(5);

/// The listener and the connections under way.
#[derive(Debug, Default)]
pub struct Reception {
    server: Option<SshServer>,
    listener: Option<TcpListener>,
    /// When to try again to listen.
    retry_at: Option<Instant>,
    /// Nobody is let in while the guest is no computer; who comes then waits in the backlog.
    open: bool,
    /// Whom `ssh --admit` has announced.
    admitted: Admitted,
    connections: HashMap<Pid, Instant>,
}

impl Reception {
    /// Lets people in, as the computer says from now on. The port stays open across computers.
    pub fn open(&mut self, server: Option<SshServer>, now: Instant) {
        self.open = true;
        let port = |server: &Option<SshServer>| server.as_ref().map(|server| server.port);
        let moved = port(&self.server) != port(&server);
        self.server = server;
        if moved {
            self.listener = None;
        }
        if self.listener.is_none() {
            self.retry_at = Some(now);
            self.listen(now);
        }
    }

    /// Lets nobody in for now. Whoever was announced has to be announced again.
    pub fn close(&mut self) {
        self.open = false;
        self.admitted.clear();
    }

    /// When [`Reception::listen`] is to be called next.
    pub fn wake_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Listens if that is due.
    pub fn listen(&mut self, now: Instant) {
        if self.retry_at.is_none_or(|at| at > now) {
            return;
        }
        self.retry_at = None;
        let Some(server) = &self.server else { return };
        match listener(server.port) {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                log::line(format_args!("ssh cannot listen on port {}: {error}", server.port));
                self.retry_at = Some(now + LISTEN_PAUSE);
            }
        }
    }

    /// The next connection.
    pub async fn accept(&self) -> TcpStream {
        let Some(listener) = self.listener.as_ref().filter(|_| self.open) else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    log::line(format_args!("ssh could not accept: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Starts a process for a connection, or drops it.
    pub fn receive(&mut self, stream: TcpStream, now: Instant) {
        if self.connections.len() >= MOST_CONNECTIONS && !self.make_room() {
            return log::line(format_args!("ssh: refused one more than {MOST_CONNECTIONS} connections"));
        }
        let Some(server) = self.server(now) else { return };
        let started = stream.into_std().and_then(|stream| start::start(stream.into(), &server));
        match started {
            Ok(pid) => drop(self.connections.insert(pid, now)),
            Err(error) => log::line(format_args!("ssh: a connection could not be served: {error}")),
        }
    }

    /// Answers another process of the pod.
    pub fn answer(&mut self, question: SshQuestion, now: Instant) -> SshAnswer {
        let Some(server) = self.server(now) else { return SshAnswer::NotYet };
        match question {
            SshQuestion::Server => SshAnswer::Server(server),
            SshQuestion::Admit { key } => {
                self.admitted.admit(key, now);
                SshAnswer::Admitted
            }
        }
    }

    /// What an SSH server needs to know, while the guest is a computer.
    fn server(&mut self, now: Instant) -> Option<SshServer> {
        let server = self.server.clone().filter(|_| self.open)?;
        Some(SshServer { admitted_keys: self.admitted.valid(now), ..server })
    }

    /// Notes the end of a process.
    pub fn ended(&mut self, pid: Pid, exit: Exit) {
        if self.connections.remove(&pid).is_some()
            && let Exit::Signal(signal) = exit
        {
            log::line(format_args!("ssh: pid {pid} was ended by signal {signal}"));
        }
    }

    /// Whether a process serves a connection that hasn't logged in: whoever can reach the port could otherwise keep the
    /// Spark awake. Such a process makes itself a session of its own when somebody has logged in.
    pub fn is_stranger(&self, process: &Process) -> bool {
        process.session != process.pid
            && Pid::from_raw(process.pid).is_some_and(|pid| self.connections.contains_key(&pid))
    }

    /// Ends the oldest connection that hasn't logged in; false when there is none.
    fn make_room(&mut self) -> bool {
        let processes = processes::others().unwrap_or_default();
        let strangers = processes.iter().filter(|process| self.is_stranger(process));
        let pids = strangers.filter_map(|process| Pid::from_raw(process.pid));
        let Some(oldest) = pids.min_by_key(|pid| self.connections.get(pid).copied()) else { return false };
        let _ = kill_process(oldest, Signal::KILL);
        self.connections.remove(&oldest);
        true
    }
}

/// Listens on all addresses, of both families where there are two.
fn listener(port: u16) -> io::Result<TcpListener> {
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let four = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    bound(AddressFamily::INET6, both).or_else(|error| match error.kind() {
        // One that is in use is in use in the other family as well, or soon was.
        io::ErrorKind::AddrInUse => Err(error),
        _ => bound(AddressFamily::INET, four),
    })
}

fn bound(family: AddressFamily, address: SocketAddr) -> io::Result<TcpListener> {
    /// The kernel cuts it down to net.core.somaxconn.
    const BACKLOG: i32 = 1024;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn process(pid: i32, session: i32) -> Process {
        Process { pid, name: "sparks-guest".into(), parent: 1, session, zombie: false }
    }

    #[test]
    fn a_connection_counts_as_use_once_it_has_a_session_of_its_own() {
        let mut reception = Reception::default();
        let pid = Pid::from_raw(20).unwrap();
        reception.connections.insert(pid, Instant::now());
        assert!(reception.is_stranger(&process(20, 1)));
        assert!(!reception.is_stranger(&process(20, 20)));
        // Whatever else has PID 1's session is none.
        assert!(!reception.is_stranger(&process(21, 1)));
        reception.ended(pid, Exit::Status(0));
        assert!(!reception.is_stranger(&process(20, 1)));
    }

    #[test]
    fn whom_a_computer_admits_no_other_computer_knows() {
        let (mut reception, now) = (Reception::default(), Instant::now());
        let admit = || SshQuestion::Admit { key: "key".into() };
        assert_eq!(reception.answer(admit(), now), SshAnswer::NotYet);
        // Nothing listens: the port is not what this is about.
        (reception.server, reception.open) = (Some(SshServer::default()), true);
        let admitted = |reception: &mut Reception| match reception.answer(SshQuestion::Server, now) {
            SshAnswer::Server(server) => server.admitted_keys,
            answer => panic!("{answer:?}"),
        };
        assert!(admitted(&mut reception).is_empty(), "what was refused is not remembered");
        assert_eq!(reception.answer(admit(), now), SshAnswer::Admitted);
        assert_eq!(admitted(&mut reception), ["key"]);
        reception.close();
        assert_eq!(reception.answer(SshQuestion::Server, now), SshAnswer::NotYet);
        reception.open = true;
        assert!(admitted(&mut reception).is_empty());
    }

    #[tokio::test]
    async fn a_port_in_use_is_tried_again_and_kept_from_then_on() {
        let taken = std::net::TcpListener::bind("[::]:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let server = SshServer { port, ..SshServer::default() };
        let now = Instant::now();
        let mut reception = Reception::default();
        reception.open(Some(server.clone()), now);
        assert_eq!(reception.wake_at(), Some(now + LISTEN_PAUSE));
        drop(taken);
        reception.listen(now + LISTEN_PAUSE);
        assert!(reception.listener.is_some() && reception.wake_at().is_none());

        reception.close();
        assert!(reception.server(now).is_none());
        let waits = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        reception.open(Some(SshServer { host_key: "other".into(), ..server }), now);
        let accepted = reception.accept().await;
        assert_eq!(accepted.peer_addr().unwrap().port(), waits.local_addr().unwrap().port());
    }
}
