#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;
use crate::recording::{
    Store,
    cast::{Header, Origin},
    file::Recording,
};

/// An API server with one Spark, and so many writes that it refuses because somebody else was quicker.
#[derive(Default)]
struct Server {
    recordings: Option<Value>,
    conflicts: usize,
}

type Shared = Arc<Mutex<Server>>;

async fn answer(server: Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_write = request.method() == Method::PATCH;
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut server = server.lock().unwrap();
    if is_write && server.conflicts > 0 {
        server.conflicts -= 1;
        // The other one's recording.
        server.recordings = Some(json!({"count": 1, "head": "other", "last": "other"}));
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "", "reason": "Conflict", "code": 409});
        let conflict = Response::builder().status(StatusCode::CONFLICT);
        return Ok(conflict.body(status.to_string().into()).unwrap());
    }
    if is_write {
        let patch: Value = serde_json::from_slice(&body).unwrap();
        server.recordings = Some(patch["status"]["recordings"].clone());
    }
    let mut spark = serde_json::to_value(Spark::new("api", sparks_api::SparkSpec::default())).unwrap();
    spark["metadata"] = json!({"name": "api", "namespace": "team-a", "uid": "u", "resourceVersion": "1"});
    spark["status"] = json!({"recordings": server.recordings});
    Ok(Response::new(spark.to_string().into()))
}

async fn serve(server: Shared) -> Chain {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = server.clone();
            let service = service_fn(move |request| answer(server.clone(), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    let config = kube::Config::new(format!("http://{address}").parse().unwrap());
    Chain::new(Client::try_from(config).unwrap())
}

fn begin(store: &Store) -> Recording {
    let sparks =
        Origin { namespace: "team-a".into(), spark: "api".into(), uid: "u".into(), ..Default::default() };
    store.begin(&Header { version: 3, sparks, ..Default::default() }).unwrap()
}

fn sha256(path: &Path) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, &fs::read(path).unwrap());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_recording_whose_head_another_one_outran_is_chained_behind_that() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_owned()).unwrap();
    let server = Shared::new(Mutex::new(Server { conflicts: 1, ..Default::default() }));
    let chain = serve(server.clone()).await;
    let recording = begin(&store);
    let id = recording.id().to_owned();
    chain.close(recording.into_ended().unwrap()).await.unwrap();
    let path = store.path("team-a", "api", &id).unwrap().unwrap();
    let recordings = server.lock().unwrap().recordings.clone().unwrap();
    assert_eq!((&recordings["count"], &recordings["last"]), (&json!(2), &json!(id)));
    assert_eq!(recordings["head"], sha256(&path));
    let text = fs::read_to_string(path).unwrap();
    assert!(text.lines().last().unwrap().contains("\"previous\":\"other\""), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[tokio::test]
async fn what_is_changed_behind_the_recorders_back_does_not_have_the_hash_in_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_owned()).unwrap();
    let server = Shared::default();
    let chain = serve(server.clone()).await;
    let recording = begin(&store);
    let id = recording.id().to_owned();
    let path = store.path("team-a", "api", &id).unwrap().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("team-a", "team-b")).unwrap();
    chain.close(recording.into_ended().unwrap()).await.unwrap();
    let path = store.path("team-a", "api", &id).unwrap().unwrap();
    assert_ne!(server.lock().unwrap().recordings.clone().unwrap()["head"], sha256(&path));
}

#[test]
fn the_last_line_waits_for_the_disk_on_no_thread_that_serves_connections() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_owned()).unwrap();
        let (free, is_free) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || is_free.recv());
        let mut ended = begin(&store).into_ended().unwrap();
        let written = ended.write_trailer(String::new());
        tokio::pin!(written);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut written).await;
        assert!(early.is_err(), "the only thread that may wait for the disk is taken");
        free.send(()).unwrap();
        written.await.unwrap();
        busy.await.unwrap().unwrap();
    });
}
