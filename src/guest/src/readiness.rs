//! Asks a service whether it is ready: one HTTP/1.1 GET on the loopback, of which only the status line is read.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Longest status line that is read.
const MAX_STATUS_LINE: u64 = 1024;

/// Why a service isn't ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Nobody listens, or the connection broke.
    #[error("GET {url} failed: {source}")]
    Connection {
        /// What was asked for.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("GET {0} was not answered within {n} s", n = TIMEOUT.as_secs())]
    Timeout(String),
    /// An answer other than 2xx and 3xx.
    #[error("GET {url} answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// Something else than HTTP.
    #[error("GET {0} was not answered with HTTP")]
    NotHttp(String),
    /// Would break the request line.
    #[error("the readiness path {0:?} must begin with / and have neither spaces nor control characters")]
    Path(String),
}

/// One question.
///
/// # Errors
/// [`NotReady`], unless the answer is 2xx or 3xx.
pub async fn probe(port: u16, path: &str) -> Result<(), NotReady> {
    if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(NotReady::Path(path.into()));
    }
    let url = format!("http://127.0.0.1:{port}{path}");
    let line = match tokio::time::timeout(TIMEOUT, ask(port, path)).await {
        Err(_) => return Err(NotReady::Timeout(url)),
        Ok(Err(source)) => return Err(NotReady::Connection { url, source }),
        Ok(Ok(line)) => line,
    };
    match status(&line) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(NotReady::Status { url, status }),
        None => Err(NotReady::NotHttp(url)),
    }
}

/// Sends the request and reads at least the status line, if one comes.
async fn ask(port: u16, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: sparks-guest\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::with_capacity(64);
    let mut answer = stream.take(MAX_STATUS_LINE);
    while !line.contains(&b'\n') && answer.read_buf(&mut line).await? > 0 {}
    Ok(line)
}

/// The status of an answer that begins with an HTTP/1 status line.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    let code = rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().get(..3)?;
    code.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers one connection with `answer` and returns what was asked.
    async fn against(answer: &'static [u8]) -> (Result<(), NotReady>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 1024];
            let n = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&asked[..n]).into_owned()
        };
        tokio::join!(probe(port, "/healthz?a=b"), serve)
    }

    #[tokio::test]
    async fn only_2xx_and_3xx_are_ready() {
        assert!(against(b"HTTP/1.1 204 No Content\r\n\r\n").await.0.is_ok());
        assert!(against(b"HTTP/1.0 302 Found\r\n").await.0.is_ok());
        assert!(matches!(against(b"HTTP/1.1 404 \r\n").await.0, Err(NotReady::Status { status: 404, .. })));
        assert!(matches!(against(b"HTTP/1.1 503\r\n").await.0, Err(NotReady::Status { status: 503, .. })));
        assert!(matches!(against(b"HTTP/1.1 100 Continue\r\n").await.0, Err(NotReady::Status { .. })));
    }

    #[tokio::test]
    async fn what_is_not_http_is_not_ready() {
        for answer in [&b""[..], b"220 mail ready\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 abc\r\n", b"\xff\xfe\r\n"]
        {
            assert!(matches!(against(answer).await.0, Err(NotReady::NotHttp(_))), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn the_request_is_complete_and_asks_to_close() {
        let (_, asked) = against(b"HTTP/1.1 200 OK\r\n").await;
        assert!(asked.starts_with("GET /healthz?a=b HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
        assert!(asked.contains("\r\nConnection: close\r\n") && asked.ends_with("\r\n\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn an_endless_status_line_is_cut() {
        static LONG: [u8; 4096] = [b'a'; 4096];
        assert!(matches!(against(&LONG).await.0, Err(NotReady::NotHttp(_) | NotReady::Connection { .. })));
    }

    #[tokio::test]
    async fn a_silent_service_is_not_ready_after_a_second() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let began = std::time::Instant::now();
        assert!(matches!(probe(port, "/").await, Err(NotReady::Timeout(_))));
        assert!(began.elapsed() < TIMEOUT * 3);
    }

    #[tokio::test]
    async fn a_path_cannot_add_headers() {
        for path in ["/ HTTP/1.0\r\nX: y", "healthz", "/a b", ""] {
            assert!(matches!(probe(1, path).await, Err(NotReady::Path(_))), "{path:?}");
        }
    }
}
