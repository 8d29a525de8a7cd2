//! What of a request reaches the service, and what of an answer reaches the client.

use http::Request;
use sparks_gateway::http::Flags;

use super::{
    client::{Answer, Http1, ask, empty, full, get, http2, post, raw},
    service::{Service, answer, read_head, text},
    world::{State, World, host},
};

#[tokio::test]
async fn a_request_and_its_answer_pass() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let answer = ask(&world, post("api", "/a/b?c=%20d", full("hello"))).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("POST /a/b?c=%20d HTTP/1.1\n"), "{}", answer.body);
    assert!(answer.body.contains(&format!("\nhost: {}\n", host("api"))), "{}", answer.body);
    assert!(answer.body.ends_with("\nbody: Ok(5)"), "{}", answer.body);
    assert_eq!(world.sparks.active(), 1);
}

#[tokio::test]
async fn the_service_learns_where_a_request_comes_from_and_not_what_a_stranger_says() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let claims = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"), ("x-real-ip", "6.6.6.6")];
    let body = ask(&world, get("api", "/", &claims)).await.body;
    let host = host("api");
    for line in [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        &format!("x-forwarded-host: {host}"),
        &format!("forwarded: for=127.0.0.1;host=\"{host}\";proto=http"),
    ] {
        assert!(body.lines().any(|found| found == line), "{line} is not in {body}");
    }
    assert!(!body.contains("6.6.6.6"), "{body}");
}

#[tokio::test]
async fn behind_a_proxy_its_word_counts_for_host_address_and_scheme() {
    let service = Service::echo().await;
    let flags = Flags { http_trust_forwarded: true, ..Flags::default() };
    let world = World::with(flags, None).await;
    world.sparks.put("api", true, service.port, State::Up);
    let (public, claims) = (host("api"), [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https")]);
    let request = Request::get("/").header("host", "gateway.internal").header("x-forwarded-host", &public);
    let request = claims.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let body = ask(&world, request.body(empty()).unwrap()).await.body;
    for line in [
        "host: gateway.internal",
        "x-forwarded-for: 1.1.1.1, 127.0.0.1",
        "x-forwarded-proto: https",
        &format!("x-forwarded-host: {public}"),
    ] {
        assert!(body.lines().any(|found| found == line), "{line} is not in {body}");
    }
}

#[tokio::test]
async fn without_the_flag_a_forwarded_host_names_no_spark() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let request = Request::get("/").header("host", "x.org").header("x-forwarded-host", host("api"));
    assert_eq!(ask(&world, request.body(empty()).unwrap()).await.status, 404);
}

#[tokio::test]
async fn headers_of_one_connection_do_not_pass_to_the_other() {
    let service = Service::raw(|mut stream, _| {
        Box::pin(async move {
            let head = read_head(&mut stream).await.unwrap();
            let clean =
                !["keep-alive", "x-hop", "proxy-auth", "expect"].iter().any(|name| head.contains(name));
            let body = if clean { "clean" } else { &head };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-back\r\nx-back: 1\r\nkeep-alive: timeout=5\r\n\
                 x-kept: 1\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let headers = [
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "1"),
        ("proxy-authorization", "x"),
    ];
    let answer = ask(&world, get("api", "/", &headers)).await;
    assert_eq!(answer.body, "clean");
    assert_eq!(
        (answer.header("x-back"), answer.header("keep-alive"), answer.header("x-kept")),
        ("", "", "1")
    );
}

#[tokio::test]
async fn an_old_service_does_not_end_the_connection_of_a_new_client() {
    let service = Service::raw(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await.unwrap();
            let answer = b"HTTP/1.0 200 OK\r\n\r\nold";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let mut client = Http1::new(&world).await;
    for _ in 0..3 {
        assert_eq!(client.ask(get("api", "/", &[])).await.body, "old");
    }
    assert_eq!(service.connections(), 3);
}

#[tokio::test]
async fn a_get_may_have_a_body() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        host("api")
    );
    assert!(raw(&world, request).await.contains("body: Ok(3)"));
}

#[tokio::test]
async fn a_length_that_contradicts_the_encoding_does_not_reach_the_service() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n",
        host("api")
    );
    let answer = raw(&world, request).await;
    assert!(answer.contains("body: Ok(0)") && !answer.contains("content-length: 3"), "{answer}");
    assert!(!answer.contains("smuggled"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_continue_is_told() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        host("api")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("body: Ok(3)"), "{answer}");
}

#[tokio::test]
async fn a_client_that_may_not_enter_is_refused_before_it_sends_its_body() {
    let world = World::new().await;
    world.sparks.put("api", false, 1, State::Up);
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        host("api")
    );
    assert!(raw(&world, head).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn a_client_of_http_2_reaches_a_service_of_http_1() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    let mut client = http2(&world).await;
    let asked = (0..50).map(|index| {
        let request = Request::post(format!("http://{}/{index}", host("api")))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(full("hello"))
            .unwrap();
        let sent = client.send_request(request);
        async move { Answer::of(sent.await.unwrap()).await }
    });
    for (index, answer) in futures::future::join_all(asked.collect::<Vec<_>>()).await.iter().enumerate() {
        assert!(answer.body.starts_with(&format!("POST /{index} HTTP/1.1\n")), "{}", answer.body);
        assert!(answer.body.contains(&format!("\nhost: {}\n", host("api"))), "{}", answer.body);
        assert!(answer.body.contains("\ncookie: a=1; b=2\n"), "{}", answer.body);
        assert!(answer.body.ends_with("\nbody: Ok(5)"), "{}", answer.body);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let service = Service::raw(|mut stream, _| {
        Box::pin(async move {
            read_head(&mut stream).await.unwrap();
            let half = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, half).await.unwrap();
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let response = Http1::new(&world).await.send(get("api", "/", &[])).await;
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err());
}

#[tokio::test]
async fn answers_without_a_body_are_no_end_of_the_connection() {
    let service = Service::http(|request| {
        Box::pin(async move {
            let mut response = http::Response::new(text(""));
            *response.status_mut() = request.uri().path()[1..].parse().unwrap();
            response
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let mut client = Http1::new(&world).await;
    for status in [204, 304, 200, 404, 500] {
        assert_eq!(client.ask(get("api", &format!("/{status}"), &[])).await.status.as_u16(), status);
        let mut head = get("api", &format!("/{status}"), &[]);
        *head.method_mut() = http::Method::HEAD;
        assert_eq!(client.ask(head).await.status.as_u16(), status);
    }
    assert_eq!(service.connections(), 1);
}

#[tokio::test]
async fn what_is_in_flight_ends_well_when_the_gateway_stops() {
    let (seen, mut asked) = tokio::sync::mpsc::channel(1);
    let (go, gone) = tokio::sync::watch::channel(false);
    let service = Service::raw(move |mut stream, _| {
        let (seen, mut gone) = (seen.clone(), gone.clone());
        Box::pin(async move {
            read_head(&mut stream).await.unwrap();
            seen.send(()).await.unwrap();
            gone.wait_for(|go| *go).await.unwrap();
            answer(&mut stream, "done").await;
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let _idle = Http1::new(&world).await;
    let mut client = Http1::new(&world).await;
    let asking = tokio::spawn(async move { client.ask(get("api", "/", &[])).await.body });
    asked.recv().await.unwrap();
    world.stop.cancel();
    go.send_replace(true);
    assert_eq!(asking.await.unwrap(), "done");
    world.served.await.unwrap();
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err());
}
