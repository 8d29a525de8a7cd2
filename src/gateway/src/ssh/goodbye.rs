//! What a client is told for whom there is no place: a DISCONNECT right after the identification, which OpenSSH's client shows.
//! Before keys are exchanged it goes in the clear, as all packets do then (RFC 4253, sections 6 and 11.1).

use std::{sync::Arc, time::Duration};

use russh::{Disconnect, SshId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

/// Clients that are told so at the same time; more are closed without a word.
const MOST: usize = 64;
/// How long one may take to read it. Closed at once, the connection would be reset, perhaps before that.
const READS_WITHIN: Duration = Duration::from_secs(1);
const SENTENCE: &str = "this gateway has as many connections as it can have: try again later";
const MSG_DISCONNECT: u8 = 1;
const BLOCK: usize = 8;
const LEAST_PADDING: usize = 4;

/// Says goodbye to clients for whom there is no place.
pub struct Goodbyes {
    packet: Arc<[u8]>,
    places: Arc<Semaphore>,
}

impl Goodbyes {
    /// From a server with this identification.
    pub fn new(id: &SshId) -> Self {
        let (SshId::Standard(id) | SshId::Raw(id)) = id;
        let all = [id.as_bytes(), b"\r\n", &disconnect(SENTENCE)].concat();
        Self { packet: all.into(), places: Arc::new(Semaphore::new(MOST)) }
    }

    /// Says it, on a task of its own.
    pub fn say(&self, mut stream: TcpStream) {
        let Ok(place) = self.places.clone().try_acquire_owned() else { return };
        let packet = self.packet.clone();
        tokio::spawn(async move {
            let said = async {
                stream.write_all(&packet).await?;
                stream.shutdown().await?;
                while stream.read(&mut [0; 1024]).await? > 0 {}
                std::io::Result::Ok(())
            };
            // A client that has gone needs to be told nothing.
            let _ = timeout(READS_WITHIN, said).await;
            drop(place);
        });
    }
}

fn disconnect(text: &str) -> Vec<u8> {
    let mut payload = vec![MSG_DISCONNECT];
    payload.extend((Disconnect::TooManyConnections as u32).to_be_bytes());
    for text in [text, ""] {
        payload.extend((text.len() as u32).to_be_bytes());
        payload.extend(text.as_bytes());
    }
    let unpadded = 5 + payload.len() + LEAST_PADDING;
    let padding = LEAST_PADDING + unpadded.next_multiple_of(BLOCK) - unpadded;
    let mut packet = ((1 + payload.len() + padding) as u32).to_be_bytes().to_vec();
    packet.push(padding as u8);
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}
