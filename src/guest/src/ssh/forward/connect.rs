//! Connections that the client wants to be made from inside of the Spark.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use sparks_ssh::keys::Permissions;
use sparks_ssh::wire::{ChannelKind, OpenReason};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::socket::Socket;

/// Both addresses of this machine itself, in the order of getaddrinfo(3).
pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];

/// Why a connection was not made. Its text is what ssh(1) prints.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The key that was logged in with is restricted.
    #[error("this key may not connect to {0}")]
    NotPermitted(String),
    /// Nothing that can be connected to.
    #[error("not a host and a port: {0}")]
    NoAddress(String),
    /// There is no such host.
    #[error("{0}: {why}", why = words(.1))]
    Unknown(String, io::Error),
    /// It doesn't answer, or refuses.
    #[error("{}", words(.0))]
    Failed(#[from] io::Error),
}

impl ConnectError {
    /// How SSH calls it.
    pub fn reason(&self) -> OpenReason {
        match self {
            Self::NotPermitted(_) => OpenReason::AdministrativelyProhibited,
            Self::NoAddress(_) | Self::Unknown(..) | Self::Failed(_) => OpenReason::ConnectFailed,
        }
    }
}

/// Without the number that the standard library adds, and without what it says before the words of the resolver.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.trim_start_matches("failed to lookup address information: ").to_owned()
}

/// Connects to what a channel is to lead to.
pub async fn connect(kind: &ChannelKind, permissions: &Permissions) -> Result<Socket, ConnectError> {
    match kind {
        ChannelKind::DirectTcpip { host, port, .. } => tcp(host, *port, permissions).await,
        ChannelKind::DirectStreamlocal { path } => unix(path, permissions).await,
        other => Err(ConnectError::NoAddress(String::from_utf8_lossy(other.name()).into_owned())),
    }
}

async fn tcp(host: &Bytes, port: u32, permissions: &Permissions) -> Result<Socket, ConnectError> {
    let shown = || format!("{}:{port}", String::from_utf8_lossy(host));
    let name = std::str::from_utf8(host).map_err(|_| ConnectError::NoAddress(shown()))?;
    if !permissions.may_open(name, port) {
        return Err(ConnectError::NotPermitted(shown()));
    }
    let port = u16::try_from(port).map_err(|_| ConnectError::NoAddress(shown()))?;
    let mut failure = ConnectError::NoAddress(shown());
    for address in resolve(name, port).await.map_err(|error| ConnectError::Unknown(name.into(), error))? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(Socket::tcp(stream)),
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

async fn unix(path: &Bytes, permissions: &Permissions) -> Result<Socket, ConnectError> {
    // A list of hosts and ports has no sockets in it, as with sshd.
    if !permissions.port_forwarding || !permissions.permit_open.is_empty() {
        return Err(ConnectError::NotPermitted(String::from_utf8_lossy(path).into_owned()));
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    Ok(Socket::Unix(UnixStream::connect(path).await?))
}

/// The addresses of a host. This machine itself is known without asking anybody (RFC 6761, 6.3).
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(LOOPBACK.map(|ip| SocketAddr::new(ip, port)).into());
    }
    Ok(lookup_host((host, port)).await?.collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sparks_ssh::keys::HostPort;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn to(host: &'static [u8], port: u32) -> ChannelKind {
        let host = Bytes::from_static(host);
        ChannelKind::DirectTcpip { host, port, originator: Bytes::new(), originator_port: 0 }
    }

    /// A port at which nobody listens: tcpmux, which nobody has.
    const CLOSED: u32 = 1;

    #[test]
    fn a_refused_connection_has_openssh_s_words() {
        let error = run(connect(&to(b"localhost", CLOSED), &Permissions::all())).unwrap_err();
        assert_eq!(
            (error.reason(), error.to_string()),
            (OpenReason::ConnectFailed, "Connection refused".into())
        );
    }

    #[test]
    fn every_address_of_a_host_is_tried() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().into();
        run(connect(&to(b"localhost", port), &Permissions::all())).unwrap();
    }

    #[test]
    fn a_restricted_key_connects_to_nothing_but_what_it_may() {
        let here = HostPort { host: "localhost".into(), port: u16::try_from(CLOSED).ok() };
        let some = Permissions { permit_open: vec![here], ..Permissions::all() };
        let reason = |kind, permissions: &Permissions| run(connect(&kind, permissions)).unwrap_err().reason();
        assert_eq!(reason(to(b"localhost", CLOSED), &some), OpenReason::ConnectFailed);
        assert_eq!(reason(to(b"127.0.0.1", CLOSED), &some), OpenReason::AdministrativelyProhibited);
        assert_eq!(
            reason(to(b"localhost", CLOSED), &Permissions::none()),
            OpenReason::AdministrativelyProhibited
        );
        let socket = || ChannelKind::DirectStreamlocal { path: Bytes::from_static(b"/nowhere") };
        assert_eq!(reason(socket(), &Permissions::all()), OpenReason::ConnectFailed);
        assert_eq!(reason(socket(), &some), OpenReason::AdministrativelyProhibited);
        assert_eq!(reason(socket(), &Permissions::none()), OpenReason::AdministrativelyProhibited);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for kind in [to(b"\xff", 1), to(b"localhost", 65_536), to(b"127.0.0.1", u32::MAX), to(b"a b", 1)] {
            let error = run(connect(&kind, &Permissions::all())).unwrap_err();
            assert_eq!(error.reason(), OpenReason::ConnectFailed, "{error}");
        }
    }
}
