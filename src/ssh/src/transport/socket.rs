use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// An idle peer is probed after this time, and then this often. It also keeps the state of a NAT alive.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(30);

/// How long a peer may acknowledge nothing, probes included, or read nothing of what waits for it: since Linux 5.11
/// a window that stays closed counts too. Long, because a suspended `ssh` reads nothing and is to find its session
/// when it goes on; finite, because a peer that never reads must not hold memory for ever.
const GONE_AFTER: Duration = Duration::from_secs(600);

/// No more than this waits in the kernel before it is sent (tcp(7) has no TCP_NOTSENT_LOWAT, see Linux'
/// Documentation/networking/ip-sysctl.rst): what is in there can't be overtaken by a key stroke, and is memory.
const UNSENT: u32 = 128 * 1024;

/// The options of a socket with SSH on it.
///
/// # Errors
/// When the kernel refuses one of them.
pub fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY))?;
    socket.set_tcp_user_timeout(Some(GONE_AFTER))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}
