//! Who may read recorded sessions.

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
    time::Duration,
};

use http::Request;
use spark_client::access::Scope;
use sparks_gateway::{
    http::{Flags, sessions},
    recording::Store,
};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    client::{Answer, Http1, ask, empty},
    world::{FixedKeys, NAMESPACE, World, good_token, hour, key, token},
};

const CAST: &str = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24},\"sparks\":{\"namespace\":\"team\",\"spark\":\"api\",\
    \"uid\":\"\",\"user\":\"root\",\"key\":\"\",\"client\":\"\",\"connection\":\"\",\"tty\":true}}\n[0.1,\"o\",\"hello\\r\\n\"]\n";
const ID: &str = "20260101T000000-01234567";

async fn world(folder: &tempfile::TempDir) -> World {
    let store = Store::open(folder.path().to_owned()).unwrap();
    World::with(Flags::default(), Some(sessions(Arc::new(store), Arc::new(FixedKeys)))).await
}

async fn read(world: &World, path: &str, token: &str) -> Answer {
    let request = Request::get(format!("/.sparks/sessions/{path}")).header("host", "gateway");
    ask(world, request.header("sparks-token", token).body(empty()).unwrap()).await
}

#[tokio::test]
async fn recordings_are_for_who_has_a_token_of_the_whole_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(&folder).await;
    let all = token(&Scope::namespace(NAMESPACE));
    assert_eq!(read(&world, "team", &all).await.status, 200);
    let foreign = key("other").unwrap().mint(&Scope::namespace(NAMESPACE), hour());
    let other = key("other").unwrap().mint(&Scope::namespace("other"), hour());
    for token in ["", "x", &good_token(), &foreign, &other] {
        for path in ["team", "team/api", "team/api/x", "nowhere", "..", "%2e%2e"] {
            assert_eq!(read(&world, path, token).await.status, 401, "{path}");
        }
    }
    assert_eq!(read(&world, "other/api", &all).await.status, 401);
}

#[tokio::test]
async fn a_recording_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let spark = folder.path().join("team/api");
    fs::create_dir_all(&spark).unwrap();
    let long = format!("{CAST}{}", "[0.1,\"o\",\"more\\r\\n\"]\n".repeat(20_000));
    fs::write(spark.join(format!("{ID}.cast")), &long).unwrap();
    let world = world(&folder).await;
    let all = token(&Scope::namespace(NAMESPACE));
    let answer = read(&world, &format!("team/api/{ID}"), &all).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/x-asciicast"));
    assert!(answer.body == long, "{} of {} bytes", answer.body.len(), long.len());
    assert_eq!(read(&world, "team/api/20260101T000000-01234568", &all).await.status, 404);
    let found = read(&world, "team?search=HELLO", &all).await;
    assert!(found.body.contains("\"line\":\"hello\""), "{}", found.body);
}

/// As many as questions are answered at the same time.
const CLIENTS: usize = 4;

#[test]
fn a_client_that_reads_slowly_holds_no_thread() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().worker_threads(2).max_blocking_threads(CLIENTS).build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let spark = folder.path().join("team/api");
        fs::create_dir_all(&spark).unwrap();
        let recording = File::create(spark.join(format!("{ID}.cast"))).unwrap();
        // More than the buffers between take.
        recording.set_len(64 << 20).unwrap();
        let world = world(&folder).await;
        let all = token(&Scope::namespace(NAMESPACE));
        let mut open = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = Http1::new(&world).await;
            let request = Request::get(format!("/.sparks/sessions/team/api/{ID}")).header("host", "gateway");
            let answer = client.send(request.header("sparks-token", &all).body(empty()).unwrap()).await;
            open.push((client, answer));
        }
        sleep(Duration::from_millis(200)).await;
        let answer = timeout(Duration::from_secs(30), read(&world, "team/other", &all)).await;
        assert_eq!(answer.expect("no thread is left").status, 200);
    });
}

/// How many times this process has a file open.
fn times_open(path: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter(|one| fs::read_link(one.as_ref().unwrap().path()).is_ok_and(|to| to == path)).count()
}

#[tokio::test]
async fn a_search_keeps_its_turn_until_it_ends_though_its_client_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let spark = folder.path().join("team/api");
    fs::create_dir_all(&spark).unwrap();
    // Whoever reads it waits for as long as it is open for writing.
    let endless = spark.join(format!("{ID}.cast"));
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &endless, fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let written = File::options().read(true).write(true).open(&endless).unwrap();
    let world = world(&folder).await;
    let all = token(&Scope::namespace(NAMESPACE));
    let request = format!(
        "GET /.sparks/sessions/team?search=x HTTP/1.1\r\nhost: gateway\r\nsparks-token: {all}\r\n\r\n"
    );
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(world.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    while times_open(&endless) < 1 + CLIENTS {
        sleep(Duration::from_millis(5)).await;
    }
    drop(clients);
    let next = read(&world, "team/other", &all);
    tokio::pin!(next);
    assert!(timeout(Duration::from_millis(500), &mut next).await.is_err(), "all turns are taken");
    drop(written);
    assert_eq!(timeout(Duration::from_secs(30), next).await.unwrap().status, 200);
}

#[tokio::test]
async fn version_2_of_a_long_recording_is_given_whole() {
    let folder = tempfile::tempdir().unwrap();
    let spark = folder.path().join("team/api");
    fs::create_dir_all(&spark).unwrap();
    let long = format!("{CAST}{}", "[0.1,\"o\",\"more\\r\\n\"]\n".repeat(20_000));
    fs::write(spark.join(format!("{ID}.cast")), &long).unwrap();
    let world = world(&folder).await;
    let answer =
        read(&world, &format!("team/api/{ID}?version=2"), &token(&Scope::namespace(NAMESPACE))).await;
    assert_eq!((answer.status.as_u16(), answer.body.lines().count()), (200, 20_002));
    assert!(answer.body.starts_with("{\"command\":null,"));
    assert_eq!(answer.body.lines().last(), Some("[2000.100, \"o\", \"more\\r\\n\"]"));
}
