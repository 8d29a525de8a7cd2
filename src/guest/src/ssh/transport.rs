//! From the entrance to a login.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use sparks_proto::SshServer;
use sparks_ssh::Packets;
use sparks_ssh::context::Context;
use sparks_ssh::keys::Permissions;
use sparks_ssh::mux::{Connection, Limits};
use sparks_ssh::transport::{Entered, Farewell, Methods, Reason, Server, Session, tune};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::auth::{Admission, By, Door, Policy};
use super::descriptor::Descriptor;
use super::login::{Addresses, Login};
use super::stop::{self, Stop};
use super::{Entrance, SshError, config, connection, process};
use crate::{log, reception};

/// How long the last packets may take to leave once the connection has ended.
const FAREWELL: Duration = Duration::from_secs(30);

/// How clients log in by TCP.
const KEYS: Methods = Methods::Keys { attempts: 10 };

/// A client may take as long as it likes to log in: a person is asked for a passphrase meanwhile.
const UNHURRIED: Duration = Duration::MAX;

/// What the context of a gateway may take to arrive; it is on its way when the gateway has logged in.
const CONTEXT: Duration = Duration::from_secs(30);

/// Serves whoever comes in.
///
/// # Errors
/// [`SshError`].
pub async fn serve(entrance: Entrance) -> Result<(), SshError> {
    match entrance {
        Entrance::Connection(fd) => {
            let server = config::read()?;
            // SAFETY: PID 1 left this one open for us; whether it is a socket is checked by what follows.
            let socket = StdStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
            socket.set_nonblocking(true)?;
            let socket = TcpStream::from_std(socket)?;
            let addresses =
                Addresses { client: canonical(socket.peer_addr()?), server: canonical(socket.local_addr()?) };
            tune(&socket)?;
            speak(socket, transport(&server, KEYS)?, Policy::of(&server), Some(addresses)).await
        }
        Entrance::Stdio => {
            let server = reception::ask().await?;
            speak(Descriptor::stdio()?, transport(&server, Methods::Nothing)?, Policy::anybody(), None).await
        }
    }
}

fn transport(server: &SshServer, methods: Methods) -> Result<Server, SshError> {
    Ok(Server::new(vec![config::host_key(server)?], Vec::new(), methods))
}

/// An IPv4 address as such, and not as the IPv6 address that a socket of both families has for it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: Server,
    policy: Policy,
    addresses: Option<Addresses>,
) -> Result<(), SshError> {
    let door = Door::new(policy, addresses.map(|both| both.client.ip()));
    let Some(entered) = server.accept(stream, door, UNHURRIED).await? else { return Ok(()) };
    let Entered { mut session, farewell, identity: (admission, packets) } = entered;
    admit(admission, packets, addresses, &mut session, &farewell).await
}

/// Ends the transport with a sentence for the client, and waits for the end of what depends on it.
async fn disconnect<T>(farewell: &Farewell, end: impl Future<Output = T>) {
    let said = async {
        farewell.say(Reason::ByApplication, stop::SENTENCE).await;
        end.await;
    };
    // Who doesn't hear of it sees that the connection is closed.
    let _ = tokio::time::timeout(stop::PATIENCE, said).await;
}

async fn admit(
    Admission { user, by }: Admission,
    mut packets: Packets,
    addresses: Option<Addresses>,
    session: &mut Session,
    farewell: &Farewell,
) -> Result<(), SshError> {
    let by_tcp = addresses.is_some();
    let Some((permissions, key, addresses)) = identify(by, &mut packets, addresses).await? else {
        return Ok(());
    };
    // Not before: a gateway dials ahead for whoever offers a key, and until it says who comes that is a stranger.
    process::logged_in();
    if let Some(both) = addresses.filter(|_| by_tcp) {
        log::line(format_args!("ssh: {} from {} by {key:?}", user.name, both.client));
    }
    process::become_user(&user)?;
    let (requests, opener, driver) = Connection::start(packets, Limits::default());
    let login = Rc::new(Login { user, permissions, opener, addresses });
    let mut stop = Stop::listen()?;
    let mut life = pin!(async {
        connection::serve(requests, driver, login).await?;
        // The packets are out of our hands, and the transport sends what it has.
        match tokio::time::timeout(FAREWELL, session.ended()).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Ok(()),
        }
    });
    tokio::select! {
        ended = life.as_mut() => ended,
        () = stop.asked() => {
            disconnect(farewell, life).await;
            Ok(())
        }
    }
}

/// Who comes, from where, and what it may do; `None` when the gateway has gone.
async fn identify(
    by: By,
    packets: &mut Packets,
    addresses: Option<Addresses>,
) -> Result<Option<(Permissions, String, Option<Addresses>)>, SshError> {
    match by {
        By::Client { permissions, key } => Ok(Some((permissions, key, addresses))),
        By::Gateway => {
            let Ok(Some(first)) = tokio::time::timeout(CONTEXT, packets.incoming.recv()).await else {
                return Ok(None);
            };
            let Context { client, server, permissions, key } = Context::from_packet(first)?;
            Ok(Some((permissions, key, Some(Addresses { client, server }))))
        }
    }
}
