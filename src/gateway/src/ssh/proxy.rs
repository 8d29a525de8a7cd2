//! PROXY protocol, version 2: a load balancer says where a client comes from.
//!
//! <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and what may follow them; far more than any balancer sends.
const MOST: usize = 1024;

/// The two ends of a connection as the balancer saw them; none if it is the balancer's own, such as a health check.
pub type Ends = Option<(SocketAddr, SocketAddr)>;

/// Reads the header, and nothing after it.
///
/// # Errors
/// When the stream begins otherwise.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Ends> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    let [signature @ .., command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if &signature != SIGNATURE || command >> 4 != 2 || length > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol header of version 2"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (command & 15, family >> 4) {
        (1, 1) => v4(&rest).map(Some),
        (1, 2) => v6(&rest).map(Some),
        (0 | 1, _) => Ok(None),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn v4(rest: &[u8]) -> io::Result<(SocketAddr, SocketAddr)> {
    let Some((addresses, _)) = rest.split_first_chunk::<12>() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let [a, b, c, d, e, f, g, h, ports @ ..] = *addresses;
    Ok(ends(Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), ports))
}

fn v6(rest: &[u8]) -> io::Result<(SocketAddr, SocketAddr)> {
    let address = |at: usize| -> Option<Ipv6Addr> {
        let bytes: [u8; 16] = rest.get(at..at + 16)?.try_into().ok()?;
        Some(bytes.into())
    };
    let ports = rest.get(32..36).and_then(|ports| ports.try_into().ok());
    match (address(0), address(16), ports) {
        (Some(from), Some(to), Some(ports)) => Ok(ends(from.into(), to.into(), ports)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn ends(from: IpAddr, to: IpAddr, [a, b, c, d]: [u8; 4]) -> (SocketAddr, SocketAddr) {
    (SocketAddr::new(from, u16::from_be_bytes([a, b])), SocketAddr::new(to, u16::from_be_bytes([c, d])))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x20 | command, family << 4 | 1]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    #[tokio::test]
    async fn the_addresses_are_read_and_what_follows_the_header_is_left() {
        let mut v4 = header(1, 1, &[192, 0, 2, 1, 10, 0, 0, 1, 0x9c, 0x40, 0, 22, 4, 0, 0]);
        v4.extend(b"SSH");
        let mut stream = v4.as_slice();
        let ends = read(&mut stream).await.unwrap().unwrap();
        assert_eq!(ends, ("192.0.2.1:40000".parse().unwrap(), "10.0.0.1:22".parse().unwrap()));
        assert_eq!(stream, b"SSH");
        let mut addresses = [0; 36];
        addresses[15] = 1;
        addresses[31] = 2;
        addresses[33] = 7;
        let ends = read(&mut header(1, 2, &addresses).as_slice()).await.unwrap().unwrap();
        assert_eq!(ends, ("[::1]:7".parse().unwrap(), "[::2]:0".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_health_check_of_the_balancer_has_no_addresses() {
        assert_eq!(read(&mut header(0, 0, &[]).as_slice()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = header(1, 1, &[0; 2000]);
        let short = header(1, 1, &[0; 11]);
        for bytes in [b"SSH-2.0-OpenSSH_10.0\r\n".to_vec(), long, short, b"\r\n\r\n".to_vec()] {
            assert!(read(&mut bytes.as_slice()).await.is_err(), "{bytes:?}");
        }
    }
}
