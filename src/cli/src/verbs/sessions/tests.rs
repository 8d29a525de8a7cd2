//! The way past the API server, with one server that is both it and the gateway.

use clap::Parser;
use kube::{Client, Config};
use spark_client::Sparks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(words: &[&str]) -> Result<Args, clap::Error> {
    Line::try_parse_from([&["sessions"], words].concat()).map(|line| line.args)
}

const FORBIDDEN: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"pods is forbidden","metadata":{}}"#;
const SECRET: &str = r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"sparks-access"},"data":{"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}"#;

/// Answers one request.
async fn serve(mut stream: TcpStream, sessions: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let (status, body) = match path {
        "/api/v1/namespaces/team-a/secrets/sparks-access" => ("200 OK", SECRET),
        "/.sparks/sessions/team-a/none" => ("200 OK", "[]"),
        "/.sparks/sessions/team-a" if head.contains("sparks-token: ") => ("200 OK", sessions),
        path if path.starts_with("/.sparks/") => ("401 Unauthorized", "a token is needed\n"),
        _ => ("403 Forbidden", FORBIDDEN),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// A cluster in which nobody may list pods, and the address of its gateway.
async fn cluster(sessions: &'static str) -> (Context, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, sessions));
        }
    });
    let client = Client::try_from(Config::new(address.parse().unwrap())).unwrap();
    let sparks = Sparks::new(client, "team-a");
    (Context { sparks, options: Default::default(), quiet: true }, address)
}

#[tokio::test]
async fn who_may_not_list_the_gateways_asks_them_at_their_own_address() {
    let (context, address) = cluster("[]").await;
    let there = args(&["ls", "--gateway-url", &address]).unwrap();
    assert_eq!(run(&context, there).await.unwrap(), 0);
    let said = run(&context, args(&["show", "none", "--gateway-url", &address]).unwrap()).await.unwrap_err();
    assert!(said.to_string().starts_with("spark \"none\" has no such session"), "{said}");
}

#[tokio::test]
async fn where_no_way_leads_to_the_recordings_one_sentence_names_both() {
    let (context, _) = cluster("[]").await;
    let error = run(&context, args(&["ls", "--gateway-url", "127.0.0.1:1"]).unwrap()).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("(pods is forbidden)"), "{said}");
    assert!(said.contains("the gateway can't be reached at http://127.0.0.1:1"), "{said}");
    assert_eq!(error.exit_code(), 1);
    // Nothing tells where it is.
    let said = run(&context, args(&["ls"]).unwrap()).await.unwrap_err().to_string();
    assert!(said.contains("(pods is forbidden)") && said.contains("--gateway-url"), "{said}");
}

#[tokio::test]
async fn what_is_no_gateway_is_told_from_one_that_refuses() {
    let (context, address) = cluster("<html>").await;
    let said = |words: &'static [&'static str]| {
        let args = args(&[words, &["--gateway-url", &address]].concat()).unwrap();
        let context = context.clone();
        async move { run(&context, args).await.unwrap_err().to_string() }
    };
    assert!(said(&["ls"]).await.contains("no gateway of Sparks"));
    let refused = said(&["ls", "api"]).await;
    assert!(refused.contains("answered with status 401: a token is needed"), "{refused}");
}

#[test]
fn to_search_for_nothing_is_a_wrong_command_line() {
    let error = args(&["search", ""]).unwrap_err();
    assert!(error.to_string().contains("write what is to be found"), "{error}");
    assert!(args(&["search", "x"]).is_ok());
}
