//! Who may read recorded sessions.

use std::{fs, sync::Arc};

use http::Request;
use spark_client::access::Scope;
use sparks_gateway::{
    http::{Flags, sessions},
    recording::Store,
};

use super::{
    client::{Answer, ask, empty},
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
