//! Whoever offers somebody's public key and can't sign.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{
    ALICE, API, Behaviour, Gateway, Options, PATIENCE,
    gateway::{guest::Guest, stranger::Stranger},
    public,
};

const SHORT: Duration = Duration::from_millis(300);

async fn until_connected(guest: &Guest, count: usize) {
    let connected = async {
        while guest.connections() < count {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, connected).await.expect("connected");
}

#[tokio::test]
async fn the_way_to_the_guest_is_made_while_the_client_signs_and_ends_with_a_client_that_does_not() {
    let gateway = Gateway::start(Options::default()).await;
    let mut guest = gateway.api().await;
    let mut stranger = Stranger::connect(&gateway).await;
    assert!(stranger.offers("api.team-a", ALICE).await);
    until_connected(&guest, 1).await;
    assert!(
        timeout(SHORT, guest.ended.recv()).await.is_err(),
        "it stays as long as the client may still sign"
    );
    drop(stranger);
    timeout(PATIENCE, guest.ended.recv()).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_client_that_signs_nothing_connects_to_no_more_than_one_guest() {
    let gateway = Gateway::start(Options::default()).await;
    let mut guest = gateway.api().await;
    let web = gateway.spark("web.team-a", &[public(ALICE)], Behaviour::Serve).await;
    let mut stranger = Stranger::connect(&gateway).await;
    for name in ["x+api.team-a", "y+api.team-a", "web.team-a", "x+api.team-a", "x+web.team-a"] {
        assert!(stranger.offers(name, ALICE).await);
        sleep(SHORT / 10).await;
    }
    until_connected(&guest, 1).await;
    drop(stranger);
    timeout(PATIENCE, guest.ended.recv()).await.expect("it ends").unwrap();
    sleep(SHORT).await;
    assert_eq!((guest.connections(), web.connections()), (1, 0));
    assert_eq!(gateway.run(&["web.team-a@gw", "exit 0"]).await.status, Some(0));
}

#[tokio::test]
async fn a_refused_offer_ends_the_way_that_was_made_for_another() {
    let mut options = Options::default();
    options.limits.ssh_login_grace = 2 * PATIENCE;
    let gateway = Gateway::start(options).await;
    let mut guest = gateway.api().await;
    let mut stranger = Stranger::connect(&gateway).await;
    assert!(stranger.offers("api.team-a", ALICE).await);
    until_connected(&guest, 1).await;
    assert!(!stranger.offers("none.team-a", ALICE).await);
    timeout(PATIENCE, guest.ended.recv()).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn many_who_sign_nothing_make_few_connections_to_a_guest_and_hold_up_nobody_who_does() {
    let gateway = Gateway::start(Options::default()).await;
    let guest = gateway.api().await;
    let mut strangers = Vec::new();
    for _ in 0..8 {
        let mut stranger = Stranger::connect(&gateway).await;
        assert!(stranger.offers("api.team-a", ALICE).await);
        strangers.push(stranger);
    }
    until_connected(&guest, 4).await;
    sleep(SHORT).await;
    assert_eq!(guest.connections(), 4);
    assert_eq!(gateway.run(&[API, "exit 0"]).await.status, Some(0));
    assert_eq!(guest.connections(), 5);
}

#[tokio::test]
async fn an_offer_wakes_nothing_and_is_no_activity() {
    let gateway = Gateway::start(Options::default()).await;
    let guest = gateway.api().await;
    // A pod that has gone, and nobody has said so yet.
    drop(guest);
    let mut stranger = Stranger::connect(&gateway).await;
    assert!(stranger.offers("api.team-a", ALICE).await);
    sleep(SHORT).await;
    assert_eq!(gateway.sparks.uses(), 0);
    gateway.sparks.fall_asleep("api.team-a");
    let mut another = Stranger::connect(&gateway).await;
    assert!(another.offers("api.team-a", ALICE).await);
    sleep(SHORT).await;
    assert_eq!(gateway.sparks.uses(), 0);
}

#[tokio::test]
async fn whoever_offers_keys_without_end_is_shown_out() {
    let gateway = Gateway::start(Options::default()).await;
    let _guest = gateway.api().await;
    let mut stranger = Stranger::connect(&gateway).await;
    let mut accepted = 0;
    for _ in 0..100 {
        accepted += usize::from(stranger.offers("api.team-a", ALICE).await);
        if stranger.is_closed() {
            break;
        }
    }
    assert!(stranger.is_closed());
    assert_eq!(accepted, 20, "an agent may hold many keys, but not any number");
}
