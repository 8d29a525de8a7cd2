//! The beginning of a connection, as a server: its first packet is looked at before the transport is.
//!
//! Of ciphers, the client's order counts (RFC 4253, section 7.1). For ours to count, the server's KEXINIT has to wait for the client's,
//! and to announce no other cipher than the first of ours that the client has.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use russh::cipher;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};

use super::ID;
use crate::wire::Reader;

/// The longest identification (RFC 4253, section 4.2), which russh bounds as well.
const LONGEST_LINE: usize = 255;
/// A KEXINIT that is longer is left to russh. OpenSSH's has 1.5 KiB.
const LONGEST_KEXINIT: usize = 8 << 10;
const MSG_KEXINIT: u8 = 20;
const COOKIE: usize = 16;

/// Introduces us, hears who the client is, and waits so long for its KEXINIT. Tells the first of the ciphers that it has in both
/// directions, if it was there in time.
///
/// # Errors
/// The stream's. [`io::ErrorKind::InvalidData`] when the client begins with an empty line: it isn't waited for.
pub async fn hear<S>(
    mut stream: S,
    ciphers: &[cipher::Name],
    patience: Duration,
) -> io::Result<(Heard<S>, Option<cipher::Name>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let introduction = [ID.as_bytes(), b"\r\n"].concat();
    stream.write_all(&introduction).await?;
    let mut said = Vec::with_capacity(2 << 10);
    let line = read_until(&mut stream, &mut said, end_of_line).await?;
    if line.is_some_and(|end| matches!(said.get(..end), Some(b"\n" | b"\r\n"))) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it begins with an empty line"));
    }
    let mut cipher = None;
    if let Some(start) = line {
        let kexinit = read_until(&mut stream, &mut said, |said| end_of_packet(said.get(start..)?));
        if let Ok(Some(end)) = timeout(patience, kexinit).await.unwrap_or(Ok(None)) {
            cipher = said.get(start..start + end).and_then(|packet| first_common(packet, ciphers));
        }
    }
    Ok((Heard { stream, said, replayed: 0, unsaid: introduction.len() }, cipher))
}

/// Reads until `end` tells where what is read for ends; without a result it never will. Cancel-safe: what was read stays.
async fn read_until<S: AsyncRead + Unpin>(
    stream: &mut S,
    said: &mut Vec<u8>,
    end: impl Fn(&[u8]) -> Option<Seen>,
) -> io::Result<Option<usize>> {
    loop {
        match end(said) {
            Some(Seen::Until(end)) => return Ok(Some(end)),
            Some(Seen::Never) => return Ok(None),
            None if stream.read_buf(said).await? == 0 => return Ok(None),
            None => {}
        }
    }
}

enum Seen {
    Until(usize),
    Never,
}

fn end_of_line(said: &[u8]) -> Option<Seen> {
    match said.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some(Seen::Until(end + 1)),
        None => (said.len() > LONGEST_LINE).then_some(Seen::Never),
    }
}

fn end_of_packet(said: &[u8]) -> Option<Seen> {
    let (length, rest) = said.split_first_chunk()?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > LONGEST_KEXINIT {
        return Some(Seen::Never);
    }
    (rest.len() >= length).then_some(Seen::Until(4 + length))
}

/// The first of these ciphers that the sender of this KEXINIT (RFC 4253, section 7.1) has in both directions.
fn first_common(packet: &[u8], ciphers: &[cipher::Name]) -> Option<cipher::Name> {
    // The packet's length and that of its padding come first.
    let mut kexinit = Reader::new(Bytes::copy_from_slice(packet.get(5..)?));
    if kexinit.u8().ok()? != MSG_KEXINIT {
        return None;
    }
    let mut lists = Reader::new(kexinit.rest().get(COOKIE..).map(Bytes::copy_from_slice)?);
    // Key exchanges and host keys come before.
    let [_, _, to_server, to_client] = [(); 4].map(|()| lists.string().ok());
    let (to_server, to_client) = (to_server?, to_client?);
    ciphers.iter().find(|name| has(&to_server, name) && has(&to_client, name)).copied()
}

fn has(list: &[u8], name: &cipher::Name) -> bool {
    list.split(|byte| *byte == b',').any(|theirs| theirs == name.as_ref().as_bytes())
}

/// A stream of which the beginning has been heard: it is read once more, and our introduction is not said again.
#[derive(Debug)]
pub struct Heard<S> {
    stream: S,
    said: Vec<u8>,
    replayed: usize,
    unsaid: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, said, replayed, .. } = &mut *self;
        if said.is_empty() {
            return Pin::new(stream).poll_read(cx, buf);
        }
        let rest = said.get(*replayed..).unwrap_or_default();
        let now = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(now);
        *replayed += now.len();
        if *replayed == said.len() {
            *said = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let again = self.unsaid.min(buf.len());
        if again > 0 {
            self.unsaid -= again;
            return Poll::Ready(Ok(again));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
