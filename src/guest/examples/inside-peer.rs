//! A process inside a Spark that dials the guest and writes down what it hears: `inside-peer SOCKET RESULT`. The test
//! `a_peer_inside_the_pod_is_refused` runs it.

use std::{
    io::{ErrorKind, Read, Result},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    time::Duration,
};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let (socket, result) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(socket)?)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Closing with something unread resets the connection, which is a refusal as well.
    let heard = match stream.read(&mut [0; 1]) {
        Ok(n) => n.to_string(),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => "0".into(),
        Err(error) => error.to_string(),
    };
    std::fs::write(result, format!("{heard}\n"))
}
