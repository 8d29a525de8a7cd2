//! What a client is told for whom there is no place, which OpenSSH's client shows.

use std::{sync::Arc, time::Duration};

use sparks_ssh::transport::{Reason, turned_away};
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

/// Says goodbye to clients for whom there is no place.
pub struct Goodbyes {
    words: Arc<[u8]>,
    places: Arc<Semaphore>,
}

impl Goodbyes {
    /// With all places.
    pub fn new() -> Self {
        let words = turned_away(Reason::TooManyConnections, SENTENCE);
        Self { words: words.into(), places: Arc::new(Semaphore::new(MOST)) }
    }

    /// Says it, on a task of its own.
    pub fn say(&self, mut stream: TcpStream) {
        let Ok(place) = self.places.clone().try_acquire_owned() else { return };
        let words = self.words.clone();
        tokio::spawn(async move {
            let said = async {
                stream.write_all(&words).await?;
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
