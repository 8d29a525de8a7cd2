//! CONNECT by HTTP/2: who opens no websocket by it, and what else it opens, which is nothing.

use http::Request;
use sparks_gateway::http::Flags;
use tokio::io::AsyncWriteExt;

use super::{
    client::{Answer, connect, empty, http2, open},
    service::{Service, read_head, text},
    world::{State, World, good_token, host},
};

async fn private() -> (Service, World) {
    let service = Service::websockets().await;
    let world = World::new().await;
    world.sparks.put("api", false, service.port, State::Up);
    (service, world)
}

/// The status of an answer, and its body.
fn said(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), &answer.body)
}

/// What a client is told that asks for a websocket of a service which answers so.
async fn told(answer: &'static str) -> Answer {
    let service = Service::raw(move |mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
    })
    .await;
    let world = World::serving(service.port).await;
    open(&mut http2(&world).await, &[]).await.unwrap_err()
}

#[tokio::test]
async fn a_websocket_of_a_private_spark_needs_a_token() {
    let (_service, world) = private().await;
    let mut client = http2(&world).await;
    let (token, page) = (good_token(), ("accept", "text/html"));
    // A client of gRPC would be told with the status 200.
    for more in [page, ("content-type", "application/grpc"), ("sparks-token", "x")] {
        let refused = open(&mut client, &[more]).await.unwrap_err();
        assert_eq!(refused.status, 401, "{more:?}");
        assert!(refused.body.contains("sign in: spark url api -n team"), "{}", refused.body);
    }
    open(&mut client, &[("sparks-token", &token), page]).await.unwrap();
    let link = connect("api", &format!("/socket?sparks-token={token}"), "websocket", &[page]);
    assert_eq!(client.send_request(link).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_spark_that_does_not_exist_answers_as_one_that_is_private() {
    let (_service, world) = private().await;
    let request = connect("nope", "/socket", "websocket", &[]);
    let answer = Answer::of(http2(&world).await.send_request(request).await.unwrap()).await;
    assert_eq!(said(&answer), (401, "sign in: spark url nope -n team\n"));
}

#[tokio::test]
async fn the_page_of_another_spark_opens_no_websocket_with_a_visitors_cookie() {
    let (service, world) = private().await;
    let mut client = http2(&world).await;
    let cookie = format!("a=1; sparks-token={}", good_token());
    let (own, other) = (format!("http://{}", host("api")), format!("http://{}", host("evil")));
    for more in [("origin", other.as_str()), ("origin", "null"), ("sec-fetch-site", "same-site")] {
        let refused = open(&mut client, &[("cookie", &cookie), more]).await.unwrap_err();
        assert_eq!(refused.status, 401, "{more:?}");
    }
    assert_eq!(service.connections(), 0);
    open(&mut client, &[("cookie", &cookie), ("origin", &own)]).await.unwrap();
}

#[tokio::test]
async fn a_refusal_of_the_spark_passes_as_it_is() {
    let refused = told("HTTP/1.1 403 Forbidden\r\nx-why: 1\r\ncontent-length: 7\r\n\r\nnot you").await;
    assert_eq!((said(&refused), refused.header("x-why")), ((403, "not you"), "1"));
}

#[tokio::test]
async fn what_a_client_would_take_for_an_open_websocket_and_is_none_does_not_pass() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    let without: &'static str = format!("{SWITCH}\r\n").leak();
    let wrong: &'static str =
        format!("{SWITCH}sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n").leak();
    for answer in
        ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "HTTP/1.1 204 No Content\r\n\r\n", without, wrong]
    {
        let refused = told(answer).await;
        assert_eq!(said(&refused), (502, "the service of api.team opened no websocket\n"), "{answer}");
    }
}

#[tokio::test]
async fn no_other_protocol_is_opened_by_connect() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    for protocol in ["connect-udp", "sparks-ssh", "h2c"] {
        let request = connect("api", "/", protocol, &[]);
        let answer = Answer::of(http2(&world).await.send_request(request).await.unwrap()).await;
        assert_eq!(said(&answer), (501, "the gateway opens websockets by CONNECT, and no other protocol\n"));
    }
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_connect_that_names_no_protocol_opens_no_tunnel() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    for kind in ["text/plain", "application/grpc"] {
        let request = Request::connect(format!("{}:80", host("api"))).header("content-type", kind);
        let request = request.body(empty()).unwrap();
        let answer = Answer::of(http2(&world).await.send_request(request).await.unwrap()).await;
        assert_eq!(said(&answer), (405, "the gateway opens no tunnels\n"));
    }
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn the_gateways_own_paths_open_no_websocket() {
    let sessions = std::sync::Arc::new(|_| {
        let answer = async { http::Response::new(sparks_gateway::http::Body::text("all")) };
        Box::pin(answer) as futures::future::BoxFuture<'static, _>
    });
    let flags = Flags { http_websockets_by_http2: true, ..Flags::default() };
    let world = World::with(flags, Some(sessions)).await;
    let mut client = http2(&world).await;
    let mut asked = async |uri: String| {
        let mut request = connect("api", "/", "websocket", &[]);
        *request.uri_mut() = uri.parse().unwrap();
        client.send_request(request).await.unwrap().status().as_u16()
    };
    assert_eq!(asked("http://gateway/.sparks/health".into()).await, 404);
    assert_eq!(asked("http://gateway/.sparks/sessions/team".into()).await, 404);
    assert_eq!(asked(format!("http://{}/.sparks/health", host("api"))).await, 404);
    assert_eq!(asked(format!("http://{}/.sparks/ssh", host("api"))).await, 426);
}

#[tokio::test]
async fn a_service_that_speaks_no_websocket_answers_in_its_own_words() {
    let service = Service::http(|_| {
        Box::pin(async {
            let mut response = http::Response::new(text("nothing here"));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            response
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let mut client = http2(&world).await;
    for _ in 0..3 {
        let refused = open(&mut client, &[]).await.unwrap_err();
        assert_eq!(said(&refused), (404, "nothing here"));
    }
    assert_eq!(service.connections(), 1, "its connection is used again");
}
