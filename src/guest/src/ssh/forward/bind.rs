//! Sockets that are listened on.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::connect::resolve;

/// Connections that may wait to be accepted, as with sshd.
const BACKLOG: u32 = 128;

/// All addresses of this machine.
const WILDCARD: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// The addresses that a client means by `host`, as sshd has them with `GatewayPorts clientspecified`: nothing and `*` are
/// all addresses, `localhost`, which ssh(1) sends unless told otherwise, is this machine alone.
pub async fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    match host {
        "" | "*" => Ok(WILDCARD.into()),
        _ => Ok(resolve(host, 0).await?.iter().map(SocketAddr::ip).collect()),
    }
}

/// Listens at one port of all these addresses; at a free one if it is 0.
///
/// An address family that the machine lacks is left out. A port that is taken at one of the addresses is taken: else
/// the client would believe that it has what somebody else has.
pub fn tcp(addresses: &[IpAddr], port: u16) -> io::Result<(u16, Vec<TcpListener>)> {
    let (mut bound, mut listeners) = (port, Vec::new());
    let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses {
        match listen(SocketAddr::new(*address, bound)) {
            Ok(listener) => {
                bound = listener.local_addr()?.port();
                listeners.push(listener);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse && port != 0 => return Err(error),
            Err(error) => failure = error,
        }
    }
    if listeners.is_empty() { Err(failure) } else { Ok((bound, listeners)) }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The file of a socket, which goes when this does.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: somebody may have put another one in its place.
    identity: (u64, u64),
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Listens at a path, for the user alone. A socket that nobody listens on any more is replaced: it was left behind by a
/// connection that broke, and would otherwise stay in the way for ever.
pub fn unix(path: &Path) -> io::Result<(SocketFile, UnixListener)> {
    let listener = match bind_private(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_abandoned(path) => {
            std::fs::remove_file(path)?;
            bind_private(path)
        }
        other => other,
    }?;
    Ok((SocketFile { path: path.into(), identity: identity(path)? }, listener))
}

/// The file gets the mode that the socket has when it is bound (Linux, `unix_bind_bsd`), so that there is no moment at
/// which others could connect; and the umask, which is all threads', stays as it is.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG.cast_signed())?;
    UnixListener::from_std(socket.into())
}

/// Whether this is a socket that no process has. Asked with a datagram socket, which is refused by all others as being of
/// the wrong type, so that nobody who listens there ever sees a connection of ours.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    is_socket && connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::connect::LOOPBACK;
    use super::*;

    fn inside<T>(work: impl FnOnce() -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { work() })
    }

    #[test]
    fn a_free_port_is_the_same_one_on_every_address() {
        inside(|| {
            let (port, listeners) = tcp(&LOOPBACK, 0).unwrap();
            assert!(port != 0 && !listeners.is_empty());
            for listener in listeners {
                assert_eq!(listener.local_addr().unwrap().port(), port);
            }
        });
    }

    #[test]
    fn a_port_that_is_taken_at_one_address_is_taken() {
        inside(|| {
            let (port, _taken) = tcp(&LOOPBACK[1..], 0).unwrap();
            assert_eq!(tcp(&LOOPBACK, port).unwrap_err().kind(), ErrorKind::AddrInUse);
        });
    }

    #[test]
    fn a_socket_is_the_users_alone_and_goes_with_its_listener() {
        inside(|| {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("socket");
            let (file, _listener) = unix(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            drop(file);
            assert!(!path.exists());
        });
    }

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        inside(|| {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("socket");
            drop(UnixListener::bind(&path).unwrap());
            let (first, _listener) = unix(&path).unwrap();
            assert_eq!(unix(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "precious").unwrap();
            assert_eq!(unix(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
            // Not its file any more.
            drop(first);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        });
    }
}
