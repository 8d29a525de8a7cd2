//! gRPC: HTTP/2 up to the service, with trailers.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Frame, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

use super::{
    client::{Body, empty, full, http2 as connect},
    service::Service,
    world::{State, World, host},
};

fn request(path: &str, body: Body) -> Request<Body> {
    Request::post(format!("http://{}{path}", host("api")))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

/// Sends back what comes, message by message, and ends with trailers.
async fn grpc() -> Service {
    Service::raw(|stream, _| {
        Box::pin(async move {
            let answer = service_fn(|request: Request<hyper::body::Incoming>| async move {
                assert_eq!(request.version(), http::Version::HTTP_2);
                assert_eq!(request.headers()["te"], "trailers");
                let authority = request.uri().authority().unwrap().to_string();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let body = request.into_body().with_trailers(async move { Some(Ok(trailers)) });
                let mut response = Response::new(body);
                response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
                response.headers_mut().insert("x-authority", authority.parse().unwrap());
                Ok::<_, Infallible>(response)
            });
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        })
    })
    .await
}

#[tokio::test]
async fn messages_flow_both_ways_and_trailers_come_at_the_end() {
    let service = grpc().await;
    let world = World::serving(service.port).await;
    let (messages, receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        Some((Ok::<_, Infallible>(Frame::data(receiver.recv().await?)), receiver))
    });
    let body = StreamBody::new(stream).boxed_unsync();
    let response = connect(&world).await.send_request(request("/chat", body)).await.unwrap();
    assert_eq!(response.headers()["x-authority"].to_str().unwrap(), host("api"));
    let mut body = response.into_body();
    for message in ["one", "two", "three"] {
        messages.send(message.into()).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    drop(messages);
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn many_calls_share_a_connection_and_more_than_it_takes_get_another() {
    let service = grpc().await;
    let world = World::serving(service.port).await;
    // Each client may have 128 calls at once; the service's connections take 100.
    let (mut first, mut second) = (connect(&world).await, connect(&world).await);
    let (hold, receivers): (Vec<_>, Vec<_>) = (0..150).map(|_| mpsc::channel::<Bytes>(1)).unzip();
    let mut open = Vec::new();
    for (index, receiver) in receivers.into_iter().enumerate() {
        let stream = futures::stream::unfold(receiver, |mut receiver| async {
            Some((Ok::<_, Infallible>(Frame::data(receiver.recv().await?)), receiver))
        });
        let client = if index % 2 == 0 { &mut first } else { &mut second };
        let body = StreamBody::new(stream).boxed_unsync();
        open.push(client.send_request(request("/", body)).await.unwrap());
    }
    assert_eq!(service.connections(), 2);
    for (hold, response) in hold.into_iter().zip(open) {
        hold.send("x".into()).await.unwrap();
        drop(hold);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), "x");
    }
}

#[tokio::test]
async fn a_service_that_restarted_gets_the_next_call() {
    let (end, ended) = mpsc::unbounded_channel::<mpsc::UnboundedSender<()>>();
    let ended = std::sync::Arc::new(tokio::sync::Mutex::new(ended));
    let service = Service::raw(move |stream, _| {
        let ended = ended.clone();
        Box::pin(async move {
            let answer = service_fn(|request: Request<hyper::body::Incoming>| async move {
                Ok::<_, Infallible>(Response::new(request.into_body()))
            });
            let serve =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
            let mut ended = ended.lock().await;
            tokio::select! {
                _ = serve => {}
                done = ended.recv() => drop(done),
            }
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let mut client = connect(&world).await;
    for round in 1..=5 {
        let response = client.send_request(request("/", full("x"))).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "x");
        assert_eq!(service.connections(), round);
        let (done, mut is_done) = mpsc::unbounded_channel();
        end.send(done).unwrap();
        assert!(is_done.recv().await.is_none());
    }
}

#[tokio::test]
async fn errors_of_the_gateway_are_errors_of_grpc() {
    let world = World::new().await;
    world.sparks.put("api", false, 1, State::Up);
    let response = connect(&world).await.send_request(request("/", empty())).await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((header("content-type"), header("grpc-status")), ("application/grpc".into(), "16".into()));
    assert_eq!(header("grpc-message"), "sign in: spark url api -n team");
}
