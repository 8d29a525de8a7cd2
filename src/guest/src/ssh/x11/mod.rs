//! X11: a display inside of the Spark whose windows appear at the client.

mod xauth;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use sparks_ssh::wire::ChannelKind;
use tokio::net::TcpListener;

use super::forward::{Accepting, LOOPBACK, Listener, bind_tcp, originator};
use super::login::Login;

/// The first display, as sshd's X11DisplayOffset: those before it may be real ones.
const FIRST_DISPLAY: u16 = 10;

/// So many are tried.
const DISPLAYS: u16 = 1000;

/// The port of display 0.
const FIRST_PORT: u16 = 6000;

/// The display of a session; it goes when this does.
#[derive(Debug)]
pub struct Display {
    name: String,
    _accepting: Vec<Accepting>,
}

impl Display {
    /// Begins to listen, and tells xauth(1) the cookie that the client's connections are known by.
    ///
    /// # Errors
    /// `InvalidInput` for a protocol or a cookie that is none, `NotFound` without xauth, `AddrInUse` without a free
    /// display; else the kernel's.
    pub async fn listen(
        login: &Rc<Login>,
        single_connection: bool,
        protocol: &[u8],
        cookie: &[u8],
        screen: u32,
    ) -> io::Result<Self> {
        let (number, listeners) = free_display()?;
        xauth::add(&login.user, &format!("unix:{number}.{screen}"), protocol, cookie).await?;
        let opener = login.opener.clone();
        let listeners = listeners.into_iter().map(Listener::Tcp);
        let accepting = if single_connection {
            vec![Accepting::start_once(listeners.collect(), opener, channel)]
        } else {
            listeners.map(|listener| Accepting::start(listener, opener.clone(), channel)).collect()
        };
        Ok(Self { name: format!("localhost:{number}.{screen}"), _accepting: accepting })
    }

    /// For `DISPLAY`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// More variables: none. The cookie is in the user's own `~/.Xauthority`, so that what lives longer than a session,
    /// such as tmux, finds those of later sessions too.
    #[allow(clippy::unused_self)]
    pub fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

fn free_display() -> io::Result<(u16, Vec<TcpListener>)> {
    for number in FIRST_DISPLAY..FIRST_DISPLAY + DISPLAYS {
        match bind_tcp(&LOOPBACK, FIRST_PORT + number) {
            Ok((_, listeners)) => return Ok((number, listeners)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(ErrorKind::AddrInUse, "all X11 displays are in use"))
}

fn channel(peer: Option<SocketAddr>) -> ChannelKind {
    let (originator, originator_port) = originator(peer);
    ChannelKind::X11 { originator, originator_port }
}
