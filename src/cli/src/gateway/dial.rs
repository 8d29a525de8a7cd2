//! A connection to a Spark's SSH server through the gateway, by an HTTP/1.1 upgrade.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_ok;
use rustls_platform_verifier::BuilderVerifierExt;
use spark_client::access::{SSH_PATH, SSH_PROTOCOL};
use spark_client::recordings::TOKEN_HEADER;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

use super::Tunnel;
use super::address::{Place, split};
use super::tunnel::Stream;

/// How long a connection may take. Whoever can't be reached by then goes by way of the API server.
const CONNECTS_WITHIN: Duration = Duration::from_millis(500);
/// How long a gateway that is there may take to answer; the Spark runs by then.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Longest head of an answer, and its most headers.
const MOST_HEAD: usize = 16 << 10;
const MOST_HEADERS: usize = 64;

/// Why there is no way through the gateway.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody is there.
    #[error("the gateway can't be reached at {0}: {1}")]
    Unreachable(Place, io::Error),
    /// Somebody is there.
    #[error("the gateway at {0} doesn't answer")]
    Silent(Place),
    /// The connection broke.
    #[error("the connection to the gateway broke: {0}")]
    Broken(#[from] io::Error),
    /// No TLS is spoken here.
    #[error("there is no TLS here: {0}")]
    Tls(#[from] rustls::Error),
    /// No certificate could be for that name.
    #[error("{0:?} is no name for a certificate")]
    Name(String),
    /// What answers is no web server.
    #[error("the gateway doesn't answer by HTTP: {0}")]
    NotHttp(#[from] httparse::Error),
    /// It is no gateway, or an old one, or it refuses.
    #[error("the gateway answered with status {0}")]
    Refused(u16),
}

/// Where a Spark's connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// What is connected to.
    pub place: Place,
    /// The Spark's host there, and perhaps a port.
    pub host: String,
}

/// Connects, and asks for the Spark's SSH server with that token. Door and token are looked for at the same time.
///
/// # Errors
/// [`DialError`], and what door and token fail with.
pub async fn dial<E: From<DialError>>(
    door: impl Future<Output = Result<Door, E>>,
    token: impl Future<Output = Result<String, E>>,
) -> Result<Tunnel, E> {
    let reached = async {
        let door = door.await?;
        let (stream, tls) = reach(&door.place).await?;
        Ok((door, stream, tls))
    };
    let ((Door { place, host }, stream, tls), token) = futures::try_join!(reached, token)?;
    let asked = timeout(ANSWERS_WITHIN, ask(stream, tls, &host, &token)).await;
    Ok(asked.unwrap_or(Err(DialError::Silent(place)))?)
}

async fn reach(place: &Place) -> Result<(TcpStream, Option<TlsConnector>), DialError> {
    let connected = async {
        let connected = timeout(CONNECTS_WITHIN, connect(place)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        connected.map_err(|error| DialError::Unreachable(place.clone(), error))
    };
    let tls = async { if place.is_tls { Ok(Some(connector().await?)) } else { Ok(None) } };
    futures::try_join!(connected, tls)
}

/// The first of all addresses that answers.
async fn connect(place: &Place) -> io::Result<TcpStream> {
    let all = addresses(&place.host, place.port).await?;
    let all: Vec<_> = all.into_iter().map(|address| TcpStream::connect(address).boxed()).collect();
    if all.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (stream, _) = select_ok(all).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        // RFC 6761, section 6.3; not every resolver keeps to it.
        Err(_) if host == "localhost" || host.ends_with(".localhost") => {
            Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
        }
        Err(error) => Err(error),
    }
}

/// TLS with the system's roots. Reading them takes a while.
async fn connector() -> Result<TlsConnector, DialError> {
    let config = tokio::task::spawn_blocking(|| {
        let config = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?;
        Ok::<_, rustls::Error>(config.with_no_client_auth())
    });
    let mut config = config.await.map_err(io::Error::other)??;
    // HTTP/2 has no upgrade.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

async fn ask(
    mut stream: TcpStream,
    tls: Option<TlsConnector>,
    host: &str,
    token: &str,
) -> Result<Tunnel, DialError> {
    let Some(tls) = tls else {
        request(&mut stream, host, token).await?;
        answered(&mut stream).await?;
        return Ok(Tunnel { stream: Stream::Plain(stream), ahead: Vec::new() });
    };
    let name = split(host).0.to_owned();
    let name = ServerName::try_from(name).map_err(|_| DialError::Name(host.to_owned()))?;
    let mut stream = tls.connect(name, stream).await?;
    let ahead = upgrade(&mut stream, host, token).await?;
    Ok(Tunnel { stream: Stream::Tls(Box::new(stream)), ahead })
}

async fn request(stream: &mut (impl AsyncWrite + Unpin), host: &str, token: &str) -> io::Result<()> {
    let request = format!(
        "GET {SSH_PATH} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: spark/{}\r\nConnection: Upgrade\r\n\
         Upgrade: {SSH_PROTOCOL}\r\n{TOKEN_HEADER}: {token}\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await
}

/// Reads the head of the answer and nothing of what follows it: whoever goes on with the connection finds all of that.
async fn answered(stream: &mut TcpStream) -> Result<(), DialError> {
    let (mut answer, mut next) = (Vec::new(), vec![0; MOST_HEAD]);
    while answer.len() < MOST_HEAD {
        let before = answer.len();
        let seen = stream.peek(&mut next).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        answer.extend_from_slice(&next[..seen]);
        let head = accepted(&answer)?;
        stream.read_exact(&mut next[..head.unwrap_or(answer.len()) - before]).await?;
        if head.is_some() {
            return Ok(());
        }
    }
    Err(httparse::Error::TooManyHeaders.into())
}

/// Makes HTTP an SSH connection. Gives what has come of it already.
async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    token: &str,
) -> Result<Vec<u8>, DialError> {
    request(stream, host, token).await?;
    let mut answer = Vec::with_capacity(MOST_HEAD);
    while answer.len() < MOST_HEAD {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some(length) = accepted(&answer)? {
            return Ok(answer.split_off(length));
        }
    }
    Err(httparse::Error::TooManyHeaders.into())
}

/// The length of the head of an answer, once all of it is there, if it says yes.
fn accepted(answer: &[u8]) -> Result<Option<usize>, DialError> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(answer)? else { return Ok(None) };
    let code = response.code.unwrap_or_default();
    let is_ours = |header: &httparse::Header<'_>| {
        header.name.eq_ignore_ascii_case("upgrade")
            && header.value.eq_ignore_ascii_case(SSH_PROTOCOL.as_bytes())
    };
    if code != 101 || !response.headers.iter().any(is_ours) {
        return Err(DialError::Refused(code));
    }
    Ok(Some(length))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const YES: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: sparks-ssh\r\n\r\n";

    #[test]
    fn only_an_answer_that_becomes_ssh_is_a_yes() {
        assert_eq!(accepted(YES.as_bytes()).unwrap(), Some(YES.len()));
        assert_eq!(accepted(format!("{YES}SSH-2.0-x").as_bytes()).unwrap(), Some(YES.len()));
        assert_eq!(accepted(&YES.as_bytes()[..40]).unwrap(), None);
        for no in
            ["HTTP/1.1 200 OK\r\nUpgrade: sparks-ssh\r\n\r\n", "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n"]
        {
            assert!(matches!(accepted(no.as_bytes()), Err(DialError::Refused(_))), "{no}");
        }
        assert!(matches!(accepted(b"SSH-2.0-OpenSSH_9.2\r\n"), Err(DialError::NotHttp(_))));
    }

    #[tokio::test]
    async fn what_comes_with_the_answer_is_not_lost_however_it_is_cut() {
        for cut in [1, 30, YES.len() - 1, YES.len(), YES.len() + 3] {
            let (mut near, mut far) = tokio::io::duplex(4096);
            let all = format!("{YES}SSH-2.0");
            let (first, rest) = all.split_at(cut);
            let gateway = async {
                let mut asked = [0; 1024];
                let length = far.read(&mut asked).await.unwrap();
                far.write_all(first.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
                far.write_all(rest.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&asked[..length]).into_owned()
            };
            let (ahead, asked) = tokio::join!(upgrade(&mut near, "a--b.x.org", "t.o.k"), gateway);
            let mut came = ahead.unwrap();
            let mut left = vec![0; "SSH-2.0".len() - came.len()];
            near.read_exact(&mut left).await.unwrap();
            came.extend(left);
            assert_eq!(came, b"SSH-2.0");
            for line in [
                "GET /.sparks/ssh HTTP/1.1",
                "Host: a--b.x.org",
                "sparks-token: t.o.k",
                "Upgrade: sparks-ssh",
            ] {
                assert!(asked.contains(&format!("{line}\r\n")), "{asked}");
            }
        }
    }

    #[tokio::test]
    async fn of_a_connection_without_tls_only_the_answer_is_read() {
        for cut in [1, 30, YES.len() - 1, YES.len(), YES.len() + 3] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut far, _) = listener.accept().await.unwrap();
            far.set_nodelay(true).unwrap();
            let all = format!("{YES}SSH-2.0");
            let (first, rest) = all.split_at(cut);
            far.write_all(first.as_bytes()).await.unwrap();
            let (answered, ()) = tokio::join!(answered(&mut near), async {
                tokio::task::yield_now().await;
                far.write_all(rest.as_bytes()).await.unwrap();
            });
            answered.unwrap();
            let mut left = [0; "SSH-2.0".len()];
            near.read_exact(&mut left).await.unwrap();
            assert_eq!(&left, b"SSH-2.0", "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_waited_for() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let endless = format!("HTTP/1.1 101 X\r\nX: {}", "x".repeat(2 * MOST_HEAD));
        far.write_all(endless.as_bytes()).await.unwrap();
        assert!(matches!(upgrade(&mut near, "h", "t").await, Err(DialError::NotHttp(_))));
    }

    #[tokio::test]
    async fn a_name_under_localhost_is_this_machine() {
        let all = addresses("api--team-a.localhost", 80).await.unwrap();
        assert!(!all.is_empty() && all.iter().all(|address| address.ip().is_loopback()), "{all:?}");
        assert!(addresses("api.invalid", 80).await.is_err());
    }
}
