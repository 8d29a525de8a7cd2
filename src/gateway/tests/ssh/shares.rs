//! Many connections that have authenticated.

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::{sleep, timeout},
};

use super::{
    ALICE, API, Behaviour, Duration, Gateway, MALLORY, Options, PATIENCE,
    gateway::{client::Said, stranger::Idle},
    public,
};

async fn with(all: usize, per_namespace: usize) -> Gateway {
    let mut options = Options::default();
    options.limits.ssh_max_connections = all;
    options.limits.ssh_max_connections_per_namespace = Some(per_namespace);
    Gateway::start(options).await
}

/// A client that stays.
async fn stays(gateway: &Gateway, arguments: &[&str]) -> Child {
    let mut client = gateway.ssh(&[arguments, &["wait"]].concat()).spawn().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("waiting"));
    client
}

fn assert_turned_away(said: &Said, sentence: &str) {
    assert_eq!(said.status, Some(255), "{said:?}");
    assert!(said.err.contains(":12: ") && said.err.contains(sentence), "{}", said.err);
}

async fn until_there_is_room(gateway: &Gateway, arguments: &[&str]) {
    let enters = async {
        while gateway.run(arguments).await.status != Some(0) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, enters).await.expect("there is room again");
}

#[tokio::test]
async fn a_namespace_has_its_share_of_connections_and_the_rest_is_for_others() {
    let gateway = with(8, 2).await;
    let _api = gateway.api().await;
    let _web = gateway.spark("web.team-b", &[public(ALICE)], Behaviour::Serve).await;
    let mut clients = [stays(&gateway, &[API]).await, stays(&gateway, &[API]).await];
    let uses = gateway.sparks.uses();
    let said = gateway.run(&[API, "exit 0"]).await;
    assert_turned_away(&said, "2 SSH connections lead to namespace team-a, which is its share");
    assert_eq!(gateway.sparks.uses(), uses, "it is neither woken nor said to be in use");
    assert_eq!(gateway.run(&["web.team-b@gw", "exit 0"]).await.status, Some(0));
    clients[0].kill().await.unwrap();
    until_there_is_room(&gateway, &[API, "exit 0"]).await;
}

#[tokio::test]
async fn a_jump_counts_for_the_namespace_that_it_reaches() {
    let gateway = with(8, 1).await;
    let _api = gateway.api().await;
    let _web = gateway.spark("web.team-b", &[public(ALICE)], Behaviour::Serve).await;
    let mut jumps = stays(&gateway, &["-J", "jump@gw", "root@api.team-a"]).await;
    assert_turned_away(&gateway.run(&[API, "exit 0"]).await, "namespace team-a, which is its share");
    assert_eq!(gateway.run(&["web.team-b@gw", "exit 0"]).await.status, Some(0));
    jumps.kill().await.unwrap();
    until_there_is_room(&gateway, &[API, "exit 0"]).await;
    let _enters = stays(&gateway, &[API]).await;
    let said = gateway.run(&["-J", "jump@gw", "root@api.team-a", "exit 0"]).await;
    assert!(said.err.contains("namespace team-a, which is its share"), "{}", said.err);
}

#[tokio::test]
async fn who_comes_when_the_gateway_is_full_is_told_so() {
    let gateway = with(1, 1).await;
    let _api = gateway.api().await;
    let mut client = stays(&gateway, &[API]).await;
    let said = gateway.run(&[API, "exit 0"]).await;
    assert_turned_away(&said, "this gateway has as many connections as it can have");
    client.kill().await.unwrap();
    until_there_is_room(&gateway, &[API, "exit 0"]).await;
}

#[tokio::test]
async fn whoever_may_jump_and_does_not_gives_way_as_those_who_have_not_authenticated() {
    let mut options = Options::default();
    options.limits.ssh_max_startups_per_source = 2;
    let gateway = Gateway::start(options).await;
    let _api = gateway.api().await;
    let _web = gateway.spark("web.team-b", &[public(MALLORY)], Behaviour::Serve).await;
    let mut jumps = stays(&gateway, &["-J", "jump@gw", "root@api.team-a"]).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(Idle::log_in(&gateway, "jump", MALLORY).await);
    }
    let given_way = async {
        while idle.iter().filter(|client| client.is_closed()).count() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, given_way).await.expect("the first ones give way");
    assert_eq!(gateway.run(&[API, "exit 0"]).await.status, Some(0));
    assert!(jumps.try_wait().unwrap().is_none(), "who has reached a Spark stays");
}
