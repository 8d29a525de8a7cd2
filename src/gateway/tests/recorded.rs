//! Recorded sessions of OpenSSH's client.
#![allow(clippy::unwrap_used)]

mod gateway;

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use gateway::{Gateway, Options};
use sparks_api::Recording;
use sparks_gateway::{
    recording::{self, Limits, Origin, Recorder, Store},
    ssh::{
        Record, Recorded,
        relay::{Side, Tap},
    },
};
use tokio::io::{AsyncBufReadExt, BufReader};

const API: &str = "api.team-a@gw";

/// As the gateway does it, without an API server.
struct Taps(Recorder);

struct Attached(recording::Tap);

impl Record for Taps {
    fn tap(&self, _: Recorded) -> BoxFuture<'_, Result<Box<dyn Tap>, String>> {
        let origin = Origin { namespace: "team-a".into(), spark: "api".into(), ..Default::default() };
        let tap: Box<dyn Tap> = Box::new(Attached(recording::Tap::new(self.0.clone(), origin, true)));
        Box::pin(std::future::ready(Ok(tap)))
    }
}

impl Tap for Attached {
    fn pass(&mut self, from: Side, packet: &Bytes) -> Result<(), String> {
        let from = match from {
            Side::Client => recording::Side::Client,
            Side::Guest => recording::Side::Guest,
        };
        self.0.pass(from, packet).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, ()> {
        // There is no API server to take the head of a chain.
        Box::pin(std::future::ready(()))
    }
}

async fn recorded(folder: &Path, limits: Limits) -> Gateway {
    let store = Store::limited(folder.to_owned(), limits).unwrap();
    let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let recorder = Recorder::new(Arc::new(store), kube::Client::try_from(nowhere).unwrap());
    let recorder: Arc<dyn Record> = Arc::new(Taps(recorder));
    Gateway::start(Options { recorder: Some(recorder), ..Options::default() }).await
}

fn require(gateway: &Gateway) {
    gateway.sparks.change("api.team-a", |spark| {
        spark.status.as_mut().unwrap().ssh.as_mut().unwrap().recording = Recording::Required;
    });
}

fn recordings(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder.join("team-a/api")).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

#[tokio::test]
async fn an_honest_client_with_many_channels_is_recorded_and_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = recorded(folder.path(), Limits { recordings_free_bytes: 0, ..Limits::default() }).await;
    let _guest = gateway.api().await;
    require(&gateway);
    let socket = gateway.path("master");
    let socket = socket.to_str().unwrap();
    let mut master = gateway.ssh(&["-M", "-S", socket, API, "wait"]).spawn().unwrap();
    let mut lines = BufReader::new(master.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "waiting");
    // More than once, so that numbers are used again.
    for round in 0..5 {
        let run = (0..8).map(|n| {
            let (gateway, word) = (&gateway, format!("word-{round}-{n}"));
            async move {
                // One channel whose type the guest refuses, beside the command.
                let refused = gateway.run(&["-S", socket, "-W", "nowhere:1", API]).await;
                assert_ne!(refused.status, Some(0), "{refused:?}");
                let said = gateway.run(&["-S", socket, API, &format!("echo {word}")]).await;
                assert_eq!((said.status, said.out.trim()), (Some(0), word.as_str()), "{said:?}");
                word
            }
        });
        for word in join_all(run).await {
            let all = recordings(folder.path());
            assert!(all.iter().any(|one| one.contains(&format!("\"{word}\\n\""))), "{word}");
        }
    }
    assert_eq!(recordings(folder.path()).len(), 41);
    master.kill().await.unwrap();
}

#[tokio::test]
async fn a_session_that_must_be_recorded_ends_at_a_limit_and_its_client_is_told_which() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { recordings_max_bytes: 10_000, recordings_free_bytes: 0, ..Limits::default() };
    let gateway = recorded(folder.path(), limits).await;
    let _guest = gateway.api().await;
    require(&gateway);
    let said = gateway.run_with(&[API, "cat"], "line\n".repeat(10_000).into_bytes()).await;
    assert_eq!(said.status, Some(255));
    assert!(said.err.contains("gateway.recordings.maxBytes"), "{}", said.err);
}
