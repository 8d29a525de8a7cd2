//! Connections to services: used again, and no request lost by one that was closed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{Method, Request};

use super::{
    client::{Http1, ask, empty, full, get, post},
    service::{Service, answer, read_head},
    world::{World, host},
};

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let mut client = Http1::new(&world).await;
    for _ in 0..10 {
        client.ask(get("api", "/", &[])).await;
        client.ask(post("api", "/", full("x"))).await;
        ask(&world, get("api", "/", &[])).await;
    }
    assert_eq!(service.connections(), 1);
}

/// Answers the first request of each connection, and closes it when the second one has come.
async fn closing_at_the_worst_moment() -> (Service, Arc<AtomicUsize>) {
    let swallowed = Arc::<AtomicUsize>::default();
    let count = swallowed.clone();
    let service = Service::raw(move |mut stream, _| {
        let count = count.clone();
        Box::pin(async move {
            read_head(&mut stream).await.unwrap();
            answer(&mut stream, "fine").await;
            if read_head(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
    })
    .await;
    (service, swallowed)
}

#[tokio::test]
async fn a_request_that_may_be_repeated_survives_a_connection_that_closes_under_it() {
    let (service, swallowed) = closing_at_the_worst_moment().await;
    let world = World::serving(service.port).await;
    let mut client = Http1::new(&world).await;
    for round in 0..20 {
        let method = [Method::GET, Method::DELETE, Method::PUT, Method::OPTIONS][round % 4].clone();
        let request = Request::builder().method(method).uri("/").header("host", host("api"));
        let answer = client.ask(request.body(empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "fine"), "round {round}");
    }
    assert!(swallowed.load(Ordering::SeqCst) > 0, "the service has swallowed none: this test shows nothing");
}

#[tokio::test]
async fn a_request_that_may_not_be_repeated_is_sent_once() {
    let (service, swallowed) = closing_at_the_worst_moment().await;
    let world = World::serving(service.port).await;
    let mut client = Http1::new(&world).await;
    assert_eq!(client.ask(get("api", "/", &[])).await.status, 200);
    let answer = client.ask(post("api", "/", empty())).await;
    assert_eq!((answer.status.as_u16(), swallowed.load(Ordering::SeqCst)), (502, 1));
    assert_eq!(answer.body, "the service of api.team closed the connection without an answer\n");
}

#[tokio::test]
async fn no_request_is_sent_into_a_connection_that_the_service_has_closed() {
    // Says nothing of closing, and closes.
    let service = Service::raw(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await.unwrap();
            answer(&mut stream, "fine").await;
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let mut client = Http1::new(&world).await;
    for _ in 0..50 {
        assert_eq!(client.ask(post("api", "/", empty())).await.status, 200);
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_gives_no_connection_to_the_next() {
    let service = Service::raw(|mut stream, number| {
        Box::pin(async move {
            while read_head(&mut stream).await.is_some() {
                answer(&mut stream, &format!("{number}{}", " ".repeat(1 << 20))).await;
            }
        })
    })
    .await;
    let world = World::serving(service.port).await;
    for _ in 0..5 {
        let response = Http1::new(&world).await.send(get("api", "/", &[])).await;
        drop(response);
    }
    let answer = ask(&world, get("api", "/", &[])).await;
    assert_eq!(answer.body.len(), answer.body.trim_end().len() + (1 << 20));
}
