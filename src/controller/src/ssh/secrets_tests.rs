//! What the leader makes of Secrets that are there, missing or contended.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::{Client, client::Body};
use serde_json::Value;

use super::*;

/// An API server with one Secret, that refuses so many writes as coming too late.
#[derive(Default)]
struct Server {
    secret: Option<Value>,
    refuse: usize,
    writes: usize,
}

impl Server {
    fn answer(&mut self, method: &Method, body: &[u8]) -> (StatusCode, Value) {
        if *method == Method::GET {
            return self
                .secret
                .clone()
                .map_or((StatusCode::NOT_FOUND, no("NotFound", 404)), |s| (StatusCode::OK, s));
        }
        if self.refuse > 0 {
            self.refuse -= 1;
            return (StatusCode::CONFLICT, no("Conflict", 409));
        }
        self.writes += 1;
        let new: Value = serde_json::from_slice(body).unwrap();
        match &mut self.secret {
            None => self.secret = Some(new),
            Some(old) => {
                assert_eq!(new["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"]);
                for (key, value) in new["data"].as_object().unwrap() {
                    old["data"][key] = value.clone();
                }
            }
        }
        (StatusCode::OK, self.secret.clone().unwrap())
    }
}

fn no(reason: &str, code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason})
}

fn api(server: &Arc<Mutex<Server>>) -> Api<Secret> {
    let server = server.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let (status, value) = server.lock().unwrap().answer(&parts.method, &bytes);
            let body = Body::from(serde_json::to_vec(&value).unwrap());
            Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    Api::namespaced(Client::new(service, "sparks-system"), "sparks-system")
}

const WANTED: &[(&str, Make)] = &[(HOST_KEY, new_key), (LOGIN_KEY, new_key)];

#[tokio::test]
async fn keys_are_made_once_and_then_read() {
    let server = Arc::new(Mutex::new(Server::default()));
    let made = ensure(&api(&server), GATEWAY, WANTED).await.unwrap();
    assert_eq!(made.keys().collect::<Vec<_>>(), [LOGIN_KEY, HOST_KEY]);
    assert_eq!(ensure(&api(&server), GATEWAY, WANTED).await.unwrap(), made);
    assert_eq!(server.lock().unwrap().writes, 1);
}

#[tokio::test]
async fn what_an_administrator_put_there_stays_and_the_rest_is_added() {
    let there =
        json!({"metadata": {"name": GATEWAY, "resourceVersion": "7"}, "data": {HOST_KEY: "bWluZQ=="}});
    let server = Arc::new(Mutex::new(Server { secret: Some(there), ..Default::default() }));
    let data = ensure(&api(&server), GATEWAY, WANTED).await.unwrap();
    assert_eq!((data[HOST_KEY].0.as_slice(), data.contains_key(LOGIN_KEY)), (&b"mine"[..], true));
}

#[tokio::test]
async fn another_writers_keys_win_and_endless_contention_is_told() {
    let server = Arc::new(Mutex::new(Server { refuse: 2, ..Default::default() }));
    ensure(&api(&server), GATEWAY, WANTED).await.unwrap();
    let server = Arc::new(Mutex::new(Server { refuse: usize::MAX, ..Default::default() }));
    let error = ensure(&api(&server), GATEWAY, WANTED).await.unwrap_err();
    assert!(matches!(error, SecretError::Contended(GATEWAY)), "{error}");
}

#[test]
fn what_is_there_stays_and_what_is_missing_is_made() {
    let wanted: &[(&str, Make)] = &[(HOST_KEY, new_key), (LOGIN_KEY, new_key)];
    let there: Data = [(HOST_KEY.to_owned(), ByteString(b"mine".to_vec()))].into();
    assert_eq!(missing(Some(&there), wanted).unwrap().into_keys().collect::<Vec<_>>(), [LOGIN_KEY]);
    assert_eq!(missing(None, wanted).unwrap().len(), 2);
}

#[test]
fn a_key_that_was_made_can_be_read_and_its_public_half_is_one_line() {
    let data: Data = [(LOGIN_KEY.to_owned(), ByteString(new_key().unwrap()))].into();
    let line = login(&data).unwrap();
    assert!(line.starts_with("ssh-ed25519 AAAA") && line.lines().count() == 1, "{line}");
    assert_ne!(new_key().unwrap(), new_key().unwrap());
}

#[test]
fn what_can_not_be_used_says_what_to_do() {
    let bad: Data =
        [(SEED.to_owned(), ByteString(vec![1; 31])), (LOGIN_KEY.to_owned(), ByteString(b"x".to_vec()))]
            .into();
    for error in [seed(&bad).unwrap_err(), login(&bad).unwrap_err()] {
        assert!(error.to_string().ends_with("remove it, and a new one is made"), "{error}");
    }
}
