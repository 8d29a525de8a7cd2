//! The bytes of a connection, between standard input and output and the gateway.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, dup, read, write};
use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What passes at once, and what a pipe may hold.
const CHUNK: usize = 256 << 10;

/// An open way to a Spark's SSH server. Nothing of SSH has been sent.
#[derive(Debug)]
pub struct Tunnel {
    /// The connection.
    pub(super) stream: Stream,
    /// What has come of it already.
    pub(super) ahead: Vec<u8>,
}

/// A connection to the gateway.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Tunnel {
    /// The connection itself, if nothing of it is encrypted on the way and so needs this process.
    pub fn into_socket(self) -> io::Result<Option<OwnedFd>> {
        let Stream::Plain(stream) = self.stream else { return Ok(None) };
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(Some(stream.into()))
    }

    /// Joins it with standard input and output until both sides have ended or one broke.
    pub async fn run(self) -> io::Result<()> {
        let (input, output) = standard()?;
        self.join(input, output).await
    }

    /// The same with other ends.
    pub async fn join(self, input: OwnedFd, output: OwnedFd) -> io::Result<()> {
        let mut output = File::from(output);
        output.write_all(&self.ahead)?;
        match self.stream {
            Stream::Plain(stream) => plain(&stream, input, output.into()).await,
            Stream::Tls(stream) => encrypted(*stream, File::from(input), output).await,
        }
    }
}

/// Standard input and output, which nothing else in this process has any more: whoever is at their other ends sees when
/// they are closed.
fn standard() -> io::Result<(OwnedFd, OwnedFd)> {
    let both = (dup(io::stdin())?, dup(io::stdout())?);
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok(both)
}

async fn plain(stream: &TcpStream, input: OwnedFd, output: OwnedFd) -> io::Result<()> {
    // Not all of them are pipes, and not every pipe may be as large.
    let _ = (fcntl_setpipe_size(&input, CHUNK), fcntl_setpipe_size(&output, CHUNK));
    let (near, far) = (stream.as_fd().try_clone_to_owned()?, stream.as_fd().try_clone_to_owned()?);
    let up = tokio::task::spawn_blocking(move || carry(input, &near));
    let down = tokio::task::spawn_blocking(move || {
        let carried = carry(&far, output);
        if carried.is_err() {
            // Whoever reads here has gone, or the connection: the other direction learns it.
            let _ = shutdown(&far, Shutdown::Both);
        }
        carried
    });
    down.await??;
    // What went wrong with what was sent, the far side has told.
    let _ = up.await?;
    Ok(())
}

/// Passes everything on, and then that it was all.
fn carry(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    pass(&from, &to)?;
    // A pipe ends when it is closed.
    let _ = shutdown(&to, Shutdown::Write);
    Ok(())
}

/// In the kernel where it can. The connection's descriptor must not block: splice(2) would hold the pipe's lock until the
/// far side reads on, and OpenSSH, which writes to that pipe, would stand still with it.
fn pass(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    loop {
        match splice(from, None, to, None, CHUNK, SpliceFlags::empty()) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                until(from, PollFlags::IN)?;
                until(to, PollFlags::OUT)?;
            }
            // Neither is a pipe, or the output is appended to.
            Err(Errno::INVAL) => return copy(from, to),
            Err(error) => return Err(error.into()),
        }
    }
}

fn copy(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = patiently(from, PollFlags::IN, || read(from, &mut chunk[..]))?;
        if length == 0 {
            return Ok(());
        }
        let mut left = &chunk[..length];
        while !left.is_empty() {
            let written = patiently(to, PollFlags::OUT, || write(to, left))?;
            left = &left[written..];
        }
    }
}

/// Tries until it doesn't have to wait any more.
fn patiently<T>(
    fd: &impl AsFd,
    ready: PollFlags,
    mut attempt: impl FnMut() -> rustix::io::Result<T>,
) -> io::Result<T> {
    loop {
        match attempt() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => until(fd, ready)?,
            result => return Ok(result?),
        }
    }
}

fn until(fd: &impl AsFd, ready: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(fd, ready)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn encrypted(stream: impl AsyncRead + AsyncWrite + Unpin, input: File, output: File) -> io::Result<()> {
    let (mut received, mut sent) = tokio::io::split(stream);
    let (mut input, mut output) = (tokio::fs::File::from_std(input), tokio::fs::File::from_std(output));
    let up = async {
        // What went wrong with what was sent, the far side tells.
        let _ = copy_tls(&mut input, &mut sent).await;
        let _ = sent.shutdown().await;
        Ok(())
    };
    let down = async move {
        copy_tls(&mut received, &mut output).await?;
        let output = output.into_std().await;
        let _ = shutdown(&output, Shutdown::Write);
        Ok(())
    };
    tokio::try_join!(up, down).map(drop)
}

/// Nothing waits in a buffer while nothing more comes.
async fn copy_tls(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match from.read(&mut chunk).await {
            // An end without TLS's own farewell. SSH has its own, which nobody can forge.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        if length == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..length]).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixStream as StdUnix;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use rustix::pipe::pipe;
    use tokio::net::TcpListener;

    use super::*;

    /// Longer than all pipes and sockets on the way hold.
    const LONG: usize = 8 << 20;

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// Pipes, as OpenSSH gives them, or sockets, as editors do.
    fn ends(are_pipes: bool) -> [(OwnedFd, OwnedFd); 2] {
        if are_pipes {
            return [pipe().unwrap(), pipe().unwrap()];
        }
        [(); 2].map(|()| StdUnix::pair().map(|(a, b)| (a.into(), b.into())).unwrap())
    }

    fn numbered() -> Vec<u8> {
        (0..LONG).map(|n| (n % 251) as u8).collect()
    }

    /// A client says much, and then that it was all; only then does the server say as much.
    async fn one_says_all_before_the_other_begins(
        tunnel: Tunnel,
        far: impl AsyncRead + AsyncWrite,
        are_pipes: bool,
    ) {
        let [(input, keys), (screen, output)] = ends(are_pipes);
        let client = tokio::task::spawn_blocking(move || {
            let mut keys = File::from(keys);
            keys.write_all(&numbered()).unwrap();
            drop(keys);
            let mut seen = Vec::new();
            std::io::Read::read_to_end(&mut File::from(screen), &mut seen).unwrap();
            seen
        });
        let server = async {
            let (mut from, mut to) = tokio::io::split(far);
            let mut heard = Vec::new();
            from.read_to_end(&mut heard).await.unwrap();
            to.write_all(&heard).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let (joined, (), seen) = tokio::join!(tunnel.join(input, output), server, client);
        joined.unwrap();
        assert!(seen.unwrap() == [b"ahead".as_slice(), &numbered()].concat());
    }

    #[tokio::test]
    async fn each_direction_ends_for_itself_and_nothing_is_lost() {
        for are_pipes in [true, false] {
            let (near, far) = connected().await;
            let tunnel = Tunnel { stream: Stream::Plain(near), ahead: b"ahead".to_vec() };
            one_says_all_before_the_other_begins(tunnel, far, are_pipes).await;
        }
    }

    #[tokio::test]
    async fn who_writes_to_a_tunnel_that_is_full_is_not_held_up() {
        let (near, unread) = connected().await;
        let [(input, keys), (_screen, output)] = ends(true);
        let tunnel = Tunnel { stream: Stream::Plain(near), ahead: Vec::new() };
        let joined = tokio::spawn(tunnel.join(input, output));
        let flags = fcntl_getfl(&keys).unwrap();
        fcntl_setfl(&keys, flags | OFlags::NONBLOCK).unwrap();
        let (told, refused) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            // As OpenSSH: it writes where there is room, and wants to hear at once if there is none.
            let mut sent = 0;
            while sent < LONG {
                match write(&keys, &[0; 4096]) {
                    Ok(length) => sent += length,
                    Err(error) => return told.send(error),
                }
                let a_while = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
                poll(&mut [PollFd::new(&keys, PollFlags::OUT)], Some(&a_while)).unwrap();
            }
            Ok(())
        });
        let refused = tokio::time::timeout(std::time::Duration::from_secs(20), refused).await;
        // Whatever stands still goes on to its end.
        drop(unread);
        let _ = joined.await;
        assert_eq!(refused.expect("it says so").expect("there is no room for all"), Errno::AGAIN);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_ends_it_though_the_input_goes_on() {
        let (near, far) = connected().await;
        let [(input, _keys), (_screen, output)] = ends(true);
        let tunnel = Tunnel { stream: Stream::Plain(near), ahead: Vec::new() };
        // A reset instead of an end.
        far.set_zero_linger().unwrap();
        drop(far);
        let error = tunnel.join(input, output).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_is_encrypted_ends_in_each_direction_for_itself_as_well() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let [(input, keys), (screen, output)] = ends(true);
        let joined = encrypted(near, input.into(), output.into());
        let client = tokio::task::spawn_blocking(move || {
            File::from(keys).write_all(b"all").unwrap();
            let mut seen = String::new();
            std::io::Read::read_to_string(&mut File::from(screen), &mut seen).unwrap();
            seen
        });
        let server = async {
            let (mut from, mut to) = tokio::io::split(far);
            let mut heard = String::new();
            from.read_to_string(&mut heard).await.unwrap();
            to.write_all(format!("heard {heard}").as_bytes()).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let (joined, (), seen) = tokio::join!(joined, server, client);
        joined.unwrap();
        assert_eq!(seen.unwrap(), "heard all");
    }
}
