//! What the gateway says when there is nothing to pass on.

use std::time::Duration;

use http::{Request, StatusCode};
use spark_client::access::Scope;
use sparks_gateway::{directory::WakeError, http::Flags};

use super::{
    client::{Http1, ask, empty, get, raw},
    service::{Service, read_head},
    world::{DOMAIN, NAMESPACE, State, World, good_token, host, token},
};

#[tokio::test]
async fn a_host_that_is_no_sparks_is_told_what_a_host_looks_like() {
    let world = World::new().await;
    for host in
        [DOMAIN, "localhost", "10.0.0.1:8080", "[::1]:8080", "a--b.evil.org", "a_b--c.sparks.example.com"]
    {
        let request = Request::get("/").header("host", host).body(empty()).unwrap();
        let answer = ask(&world, request).await;
        assert_eq!(answer.status, 404, "{host}");
        assert!(
            answer.body.ends_with("looks like http://SPARK--NAMESPACE.sparks.example.com\n"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let world = World::new().await;
    let api = host("api");
    for request in [
        "GET / HTTP/1.1\r\nconnection: close\r\n\r\n".into(),
        "GET / HTTP/1.0\r\n\r\n".into(),
        format!("GET / HTTP/1.1\r\nconnection: close\r\nhost: {api}\r\nhost: {api}\r\n\r\n"),
        format!("GET http://x.org/ HTTP/1.1\r\nconnection: close\r\nhost: {api}\r\n\r\n"),
    ] {
        let answer = raw(&world, &request).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{request}{answer}"
        );
    }
    let answer =
        raw(&world, format!("GET http://{api}/ HTTP/1.1\r\nconnection: close\r\nhost: {api}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn the_gateway_is_no_forward_proxy() {
    let world = World::new().await;
    let answer =
        raw(&world, "CONNECT 10.0.0.1:22 HTTP/1.1\r\nhost: 10.0.0.1:22\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn the_gateways_own_paths_never_reach_a_spark() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    for path in ["/.sparks", "/.sparks/", "/.sparks/health", "/.sparks/sessions/team"] {
        assert_eq!(ask(&world, get("api", path, &[])).await.status, 404, "{path}");
    }
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn hosts_that_are_no_sparks_have_health_and_sessions() {
    let sessions = std::sync::Arc::new(|request: Request<hyper::body::Incoming>| {
        let path = request.uri().path().to_owned();
        let answer = async { http::Response::new(sparks_gateway::http::Body::text(path)) };
        Box::pin(answer) as futures::future::BoxFuture<'static, _>
    });
    let world = World::with(Flags::default(), Some(sessions)).await;
    let asked = async |path: &str| {
        ask(&world, Request::get(path).header("host", "gateway").body(empty()).unwrap()).await
    };
    assert_eq!(asked("/.sparks/health").await.body, "ok\n");
    assert_eq!(asked("/.sparks/sessions/team/api").await.body, "/.sparks/sessions/team/api");
    assert_eq!(asked("/.sparks/other").await.status, 404);
}

#[tokio::test]
async fn a_service_that_does_not_listen_is_named_with_its_port() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let world = World::serving(port).await;
    let answer = ask(&world, get("api", "/", &[])).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(
        answer.body,
        format!("the service of api.team doesn't listen on port {port}, or only on 127.0.0.1\n")
    );
}

#[tokio::test]
async fn a_service_that_closes_or_speaks_something_else_is_said_to() {
    for (says, sentence) in [
        ("", "the service of api.team closed the connection without an answer\n"),
        ("SSH-2.0-OpenSSH_10.0\r\n", "the service of api.team answered with something that isn't HTTP\n"),
    ] {
        let service = Service::raw(move |mut stream, _| {
            Box::pin(async move {
                read_head(&mut stream).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut stream, says.as_bytes()).await.unwrap();
            })
        })
        .await;
        let world = World::serving(service.port).await;
        let answer = ask(&world, get("api", "/", &[])).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (502, sentence));
    }
}

fn stopped() -> WakeError {
    WakeError::Stopped { name: "api".into(), namespace: NAMESPACE.into() }
}

fn failed() -> WakeError {
    WakeError::Failed {
        spark: "api.team".into(),
        message: "the image registry.internal/secret is missing".into(),
    }
}

fn late() -> WakeError {
    WakeError::Timeout {
        spark: "api.team".into(),
        waited: Duration::from_secs(60),
        message: "PoolFull".into(),
    }
}

#[tokio::test]
async fn who_has_a_token_is_told_why_a_spark_does_not_run() {
    let world = World::new().await;
    let token = good_token();
    for (why, retry, sentence) in [
        (stopped(), "60", "api.team is stopped: spark start api -n team\n"),
        (failed(), "60", "api.team can't run: the image registry.internal/secret is missing\n"),
        (late(), "5", "api.team has not started within 60 s: PoolFull\n"),
    ] {
        world.sparks.put("api", false, 1, State::Down(why));
        let answer = ask(&world, get("api", "/", &[("sparks-token", &token)])).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, retry));
        assert_eq!(answer.body, sentence);
    }
}

#[tokio::test]
async fn a_spark_at_an_address_that_no_pod_can_have_does_not_answer_whoever_asks() {
    let world = World::new().await;
    let token = good_token();
    for is_public in [false, true] {
        let why = WakeError::Astray { spark: "api.team".into(), address: [127, 0, 0, 1].into() };
        world.sparks.put("api", is_public, 8081, State::Down(why));
        let answer = ask(&world, get("api", "/", &[("sparks-token", &token)])).await;
        assert_eq!(answer.status, 504);
        assert_eq!(answer.body, "api.team doesn't answer on port 8081\n");
    }
}

#[tokio::test]
async fn the_public_learns_nothing_of_the_inside_of_a_spark() {
    let world = World::new().await;
    for (why, retry, sentence) in [
        (stopped(), "60", "api.team is stopped\n"),
        (failed(), "60", "api.team is not available\n"),
        (late(), "5", "api.team is not up yet; try again\n"),
    ] {
        world.sparks.put("api", true, 1, State::Down(why));
        let answer = ask(&world, get("api", "/", &[])).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, retry));
        assert_eq!(answer.body, sentence);
    }
}

#[tokio::test]
async fn a_browser_gets_a_page_that_asks_again_while_a_spark_wakes() {
    let world = World::new().await;
    world.sparks.put("api", true, 1, State::Down(late()));
    let answer = ask(&world, get("api", "/", &[("accept", "text/html")])).await;
    assert!(answer.header("content-type").starts_with("text/html"));
    assert!(
        answer.body.contains("http-equiv=\"refresh\"") && answer.body.contains("<p>api.team is not up yet")
    );
    let answer = ask(&world, get("nope", "/", &[("accept", "text/html")])).await;
    assert!(
        !answer.body.contains("refresh") && answer.body.contains("<p>sign in: spark url nope -n team</p>")
    );
}

#[tokio::test]
async fn an_error_does_not_end_the_connection() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let mut client = Http1::new(&world).await;
    assert_eq!(client.ask(get("nope", "/", &[])).await.status, 401);
    assert_eq!(client.ask(get("api", "/", &[])).await.status, 200);
}

#[tokio::test]
async fn answers_are_counted_by_class_and_reason_and_by_no_name() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    ask(&world, get("api", "/", &[])).await;
    ask(&world, get("nope", "/", &[("sparks-token", &token(&Scope::namespace(NAMESPACE)))])).await;
    ask(&world, get("nope", "/", &[])).await;
    let text = world.metrics();
    for line in [
        "sparks_gateway_http_requests_total{class=\"2xx\"} 1",
        "sparks_gateway_http_requests_total{class=\"4xx\"} 2",
        "sparks_gateway_http_failures_total{reason=\"sign-in\"} 1",
        "sparks_gateway_http_failures_total{reason=\"unknown\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("nope") && !text.contains("team"), "{text}");
}
