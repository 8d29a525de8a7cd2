//! Abstract Unix sockets in a container's network namespace.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::ThreadNameSpaceType;

use super::{Container, ContainerError, Result};

/// How long a full backlog of the listener is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl Container {
    /// Connects to the abstract socket `name` (without its leading NUL) in the container's network namespace. The
    /// kernel tells who listens (`SO_PEERCRED`), and only the container's own init process will do: other processes
    /// of the pod can bind any free name.
    ///
    /// # Errors
    /// [`ContainerError::System`] with `ECONNREFUSED` while nobody listens yet, [`ContainerError::WrongPeer`].
    pub fn connect_abstract(&self, name: &str) -> Result<UnixStream> {
        let connected = self.enter(ThreadNameSpaceType::NETWORK, || connect_here(name));
        let stream = connected.and_then(|stream| stream).map_err(self.because("connect to its socket"))?;
        let peer =
            socket_peercred(&stream).map_err(|error| self.because("identify its socket")(error.into()))?;
        self.check_alive()?;
        if peer.pid != self.pid {
            return Err(ContainerError::WrongPeer {
                id: self.id.clone(),
                name: name.to_owned(),
                expected: self.pid(),
                found: peer.pid.as_raw_pid(),
            });
        }
        Ok(stream)
    }
}

/// A socket belongs to the network namespace it was made in, also after its thread is gone.
fn connect_here(name: &str) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_TIMEOUT))?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    set_socket_timeout(&socket, Timeout::Send, None)?;
    Ok(socket.into())
}
