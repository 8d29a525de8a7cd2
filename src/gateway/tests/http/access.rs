//! Who reaches a private Spark, and that no Spark sees a token.

use http::{Method, Request};
use jiff::Timestamp;
use spark_client::access::Scope;

use super::{
    client::{Answer, Body, Http1, ask, empty, get},
    service::Service,
    world::{DOMAIN, NAMESPACE, State, World, good_token, host, hour, key, token},
};

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

async fn private() -> (Service, World) {
    let service = Service::echo().await;
    let world = World::new().await;
    world.sparks.put("api", false, service.port, State::Up);
    (service, world)
}

/// Asks with a token in each of the ways.
async fn in_all_ways(world: &World, token: &str) -> Vec<Answer> {
    let bearer = format!("Bearer {token}");
    let cookie = format!("a=1; sparks-token={token}; b=2");
    vec![
        ask(world, get("api", "/?a=1", &[("authorization", &bearer)])).await,
        ask(world, get("api", "/?a=1", &[("sparks-token", token)])).await,
        ask(world, get("api", "/?a=1", &[("cookie", &cookie)])).await,
        ask(world, get("api", &format!("/?a=1&sparks-token={token}"), &[])).await,
    ]
}

#[tokio::test]
async fn a_token_opens_in_every_way_and_the_spark_sees_it_in_none() {
    let (_service, world) = private().await;
    for token in [good_token(), token(&Scope::namespace(NAMESPACE))] {
        for answer in in_all_ways(&world, &token).await {
            assert_eq!(answer.status, 200);
            assert!(answer.body.starts_with("GET /?a=1 HTTP/1.1\n"), "{}", answer.body);
            assert!(
                !answer.body.contains(&token) && !answer.body.contains("sparks-token"),
                "{}",
                answer.body
            );
            assert!(!answer.body.contains("authorization"), "{}", answer.body);
        }
        let cookie = format!("a=1; sparks-token={token}; b=2");
        let answer = ask(&world, get("api", "/", &[("cookie", &cookie)])).await;
        assert!(answer.body.contains("\ncookie: a=1; b=2\n"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_token_that_is_not_for_this_spark_opens_nothing() {
    let (_service, world) = private().await;
    let mine = key(NAMESPACE).unwrap();
    for token in [
        token(&Scope::spark(NAMESPACE, "other")),
        token(&Scope::spark("other", "api")),
        // Signed with the key of another namespace.
        key("other").unwrap().mint(&Scope::spark(NAMESPACE, "api"), hour()),
        key("other").unwrap().mint(&Scope::namespace("other"), hour()),
        mine.mint(&Scope::spark(NAMESPACE, "api"), hour()) + "A",
        "x".into(),
        "..".into(),
        String::new(),
    ] {
        for answer in in_all_ways(&world, &token).await {
            assert_eq!(
                (answer.status.as_u16(), answer.body.as_str()),
                (401, "sign in: spark url api -n team\n")
            );
        }
    }
}

#[tokio::test]
async fn an_expired_token_is_told_so_only_if_it_was_valid() {
    let (_service, world) = private().await;
    let scope = Scope::spark(NAMESPACE, "api");
    let old = key(NAMESPACE).unwrap().mint(&scope, Timestamp::UNIX_EPOCH);
    for answer in in_all_ways(&world, &old).await {
        assert_eq!(answer.status, 401);
        assert_eq!(answer.body, "this link has expired; make a new one: spark url api -n team\n");
    }
    let forged = key("other").unwrap().mint(&scope, Timestamp::UNIX_EPOCH);
    for answer in in_all_ways(&world, &forged).await {
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (401, "sign in: spark url api -n team\n"));
    }
}

#[tokio::test]
async fn a_spark_that_does_not_exist_answers_as_one_that_is_private() {
    let (_service, world) = private().await;
    let said = async |request: Request<Body>| {
        let mut answer = ask(&world, request).await;
        answer.headers.remove("date");
        answer.headers.remove("content-length");
        format!("{answer:?}").replace("nope", "api").replace("elsewhere", NAMESPACE)
    };
    let forged = key("other").unwrap().mint(&Scope::spark(NAMESPACE, "nope"), hour());
    for headers in
        [vec![], vec![BROWSER], vec![("sparks-token", forged.as_str())], vec![("origin", "http://x")]]
    {
        for path in ["/", "/a?sparks-token=x"] {
            let there = said(get("api", path, &headers)).await;
            assert!(there.contains("401"), "{there}");
            assert_eq!(said(get("nope", path, &headers)).await, there);
            let mut elsewhere = get("api", path, &headers);
            elsewhere.headers_mut().insert("host", format!("api--elsewhere.{DOMAIN}").parse().unwrap());
            assert_eq!(said(elsewhere).await, there);
        }
    }
}

#[tokio::test]
async fn who_has_a_token_of_the_namespace_is_told_what_does_not_exist() {
    let (_service, world) = private().await;
    let all = token(&Scope::namespace(NAMESPACE));
    let answer = ask(&world, get("nope", "/", &[("sparks-token", &all)])).await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (404, "there is no Spark nope in namespace team\n")
    );
}

#[tokio::test]
async fn a_public_spark_sees_no_token_either() {
    let service = Service::echo().await;
    let world = World::serving(service.port).await;
    // A token for another Spark, which a hostile one would like to have.
    let token = token(&Scope::spark("other", "api"));
    for answer in in_all_ways(&world, &token).await {
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains(&token), "{}", answer.body);
    }
}

#[tokio::test]
async fn what_the_service_asks_of_its_own_users_reaches_it() {
    let (_service, world) = private().await;
    let headers = [("sparks-token", good_token()), ("authorization", "Bearer its.own.token".into())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = ask(&world, get("api", "/", &headers)).await;
    assert!(answer.body.contains("\nauthorization: Bearer its.own.token\n"), "{}", answer.body);
}

#[tokio::test]
async fn a_browser_that_follows_a_signed_link_gets_a_cookie_and_a_clean_address() {
    let (_service, world) = private().await;
    let token = good_token();
    let mut client = Http1::new(&world).await;
    let link = format!("/a?b=1&sparks-token={token}&c=2");
    let answer = client.ask(get("api", &link, &[BROWSER])).await;
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), format!("//{}/a?b=1&c=2", host("api")));
    assert_eq!(
        (answer.header("cache-control"), answer.header("referrer-policy")),
        ("no-store", "no-referrer")
    );
    let cookie = answer.header("set-cookie");
    let mut attributes = cookie.split("; ");
    let pair = attributes.next().unwrap().to_owned();
    assert_eq!(pair, format!("sparks-token={token}"));
    let mut attributes: Vec<_> = attributes.collect();
    attributes.retain(|attribute| !attribute.starts_with("Max-Age=35") && *attribute != "Max-Age=3600");
    assert_eq!(attributes, ["Path=/", "HttpOnly", "SameSite=Lax"]);
    let answer = client.ask(get("api", "/a?b=1&c=2", &[BROWSER, ("cookie", &pair)])).await;
    assert_eq!(answer.status, 200);
    let tls = client.ask(get("api", &link, &[BROWSER, ("x-forwarded-proto", "https")])).await;
    assert!(tls.header("set-cookie").ends_with("; Secure"));
}

#[tokio::test]
async fn a_link_that_opens_nothing_sets_no_cookie() {
    let (_service, world) = private().await;
    let answer = ask(&world, get("api", "/?sparks-token=x", &[BROWSER])).await;
    assert_eq!((answer.status.as_u16(), answer.header("set-cookie")), (401, ""));
}

#[tokio::test]
async fn a_program_that_follows_a_signed_link_is_answered_at_once() {
    let (_service, world) = private().await;
    let uri = format!("/a?sparks-token={}", good_token());
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header("host", host("api"))
        .header(BROWSER.0, BROWSER.1);
    let answer = ask(&world, request.body(empty()).unwrap()).await;
    assert!(answer.body.starts_with("POST /a HTTP/1.1\n"), "{}", answer.body);
}

#[tokio::test]
async fn a_cookie_that_a_page_of_another_spark_sends_does_not_count() {
    let (_service, world) = private().await;
    let cookie = format!("sparks-token={}", good_token());
    let other = format!("http://{}", host("evil"));
    let answer = ask(&world, get("api", "/", &[("cookie", &cookie), ("origin", &other)])).await;
    assert_eq!(answer.status, 401);
    let own = format!("https://{}", host("api"));
    let answer = ask(&world, get("api", "/", &[("cookie", &cookie), ("origin", &own)])).await;
    assert_eq!(answer.status, 200);
    // A header is no cookie: no browser adds it by itself.
    let answer = ask(&world, get("api", "/", &[("sparks-token", &good_token()), ("origin", &other)])).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn cookies_that_another_spark_set_for_the_whole_domain_lock_nobody_out() {
    let (_service, world) = private().await;
    let cookie = format!("sparks-token=x; sparks-token=y; sparks-token={}", good_token());
    assert_eq!(ask(&world, get("api", "/", &[("cookie", &cookie)])).await.status, 200);
}
