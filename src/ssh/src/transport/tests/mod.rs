//! The transport below the packets: both sides are ours, over TCP or, where time or memory is proven, over a pipe.

mod support;

use std::time::Duration;

use bytes::Bytes;
use russh::{Limits, cipher, compression};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::timeout,
};

use self::support::{
    OneUser, WITHIN, client, client_config, connected, dial, exchange, key, packet, receive,
    recording_client, send, serve, server, server_with, tcp, usual, wait,
};
use super::{Authenticator, Client, Credential, LoginError, Peer, Reason, Verdict};
use crate::{Packets, crossed, queues};

const MIB: usize = 1024 * 1024;

/// Longer than anything that the transport waits for. Only ever used with a clock that stands still while anything
/// can move, so that it has passed when nothing does.
const STANDSTILL: Duration = Duration::from_secs(3600);

/// What a pipe, two transports and their queues may hold at most in one direction.
const HELD_AT_MOST: usize = 2 * MIB;

fn limits(bytes: usize) -> Limits {
    Limits { rekey_write_limit: bytes, rekey_read_limit: bytes, rekey_time_limit: Duration::MAX }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_in_order_while_both_sides_send_and_exchange_keys() {
    let (a, b) = tcp().await;
    let server = server(server_with(|config| config.limits = limits(7 * MIB)), a);
    let mut config = client_config();
    config.limits = limits(5 * MIB);
    let (seen, client) = recording_client(config, b).await;
    exchange(client, server.await, 200 * MIB).await;
    let exchanges = seen.lock().expect("seen").iter().filter(|seen| *seen == "key exchange").count();
    assert!(exchanges > 200 / 7, "there were {exchanges} key exchanges");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_in_order_through_a_relay_whose_neighbours_exchange_keys() {
    let (outer_server, outer_client) = tcp().await;
    let (inner_server, inner_client) = tcp().await;
    let (up, down) = crossed();
    let entrance = server_with(|config| config.limits = limits(3 * MIB));
    let entrance = serve(entrance, outer_server, OneUser { ends: up, banner: None });
    let exit = dial(client_config(), inner_client, down);

    let server = server(server_with(|config| config.limits = limits(2 * MIB)), inner_server);
    let client = client(client_config(), outer_client).await;
    exchange(client, server.await, 64 * MIB).await;

    // Both ends have left, and the relay with them.
    wait(entrance).await;
    wait(exit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cipher_carries_packets_both_ways() {
    for cipher in [
        cipher::AES_256_GCM,
        cipher::AES_128_GCM,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
        cipher::CHACHA20_POLY1305,
    ] {
        let (a, b) = tcp().await;
        let server = server(server_with(|config| config.preferred.cipher = vec![cipher].into()), a);
        let mut config = client_config();
        config.preferred.cipher = vec![cipher].into();
        exchange(client(config, b).await, server.await, MIB).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_order_of_ciphers_counts_in_every_key_exchange() {
    let (a, b) = tcp().await;
    let mut patient = server_with(|config| {
        config.limits = limits(MIB);
        config.preferred.cipher =
            vec![cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_128_CTR].into();
    });
    patient.patience = STANDSTILL;
    let server = server(patient, a);
    let mut config = client_config();
    config.preferred.cipher = vec![cipher::AES_192_CTR, cipher::AES_128_CTR, cipher::AES_256_GCM].into();
    let (seen, client) = recording_client(config, b).await;
    exchange(client, server.await, 4 * MIB).await;
    let seen = seen.lock().expect("seen");
    let ciphers: Vec<_> = seen.iter().filter_map(|seen| seen.strip_prefix("cipher: ")).collect();
    assert!(ciphers.len() > 2 && ciphers.iter().all(|name| *name == "aes256-gcm@openssh.com"), "{ciphers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_the_servers_ciphers_is_told_them_all() {
    let (a, mut b) = duplex(64 * 1024);
    let _server = server(usual(), a).await;
    b.write_all(b"SSH-2.0-patient\r\n").await.expect("a server");
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr")
    {
        assert_ne!(b.read_buf(&mut said).await.expect("a server"), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_that_begins_with_the_login_lasts_through_key_exchanges() {
    let (a, b) = tcp().await;
    let compressing = server_with(|config| {
        config.limits = limits(MIB / 64);
        config.preferred.compression = vec![compression::ZLIB_LEGACY].into();
    });
    let server = server(compressing, a);
    let mut config = client_config();
    config.preferred.compression = vec![compression::ZLIB_LEGACY].into();
    exchange(client(config, b).await, server.await, 2 * MIB).await;
}

#[tokio::test]
async fn a_client_without_a_cipher_in_common_is_told_all_of_ours() {
    let (a, mut b) = tcp().await;
    let server = serve(usual(), a, OneUser::alone());
    b.write_all(b"SSH-2.0-stranger\r\n").await.expect("a server");
    b.write_all(&support::kexinit(["k", "h", "c", "c", "m", "m", "none", "none", "", ""]))
        .await
        .expect("a server");
    let mut said = Vec::new();
    b.read_to_end(&mut said).await.expect("a server");
    assert!(
        String::from_utf8_lossy(&said).contains("aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr")
    );
    assert!(server.await.expect("a session").is_err());
}

#[tokio::test(start_paused = true)]
async fn who_begins_with_an_empty_line_is_not_waited_for() {
    for line in ["\n", "\r\n"] {
        let (a, mut b) = duplex(64 * 1024);
        b.write_all(line.as_bytes()).await.expect("a server");
        let error = usual().accept(a, OneUser::alone(), WITHIN).await.err().expect("an error");
        assert!(!error.is_timeout(), "{line:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_holds_up_its_sender_and_nothing_else() {
    let (mut client, mut server) = connected(duplex(64 * 1024)).await;
    let mut sent = 0;
    while timeout(STANDSTILL, send(&server.packets, sent)).await.is_ok() {
        sent += 1;
        assert!(
            packet(0).len() * sent < HELD_AT_MOST,
            "{sent} packets were taken for a peer that doesn't read"
        );
    }
    // The other direction goes on.
    for n in 0..100 {
        send(&client.packets, n).await;
        receive(&mut server.packets, n).await;
    }
    // And nothing is lost once it reads.
    for n in 0..sent {
        receive(&mut client.packets, n).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_given_up_when_its_session_ends() {
    let (client, server) = connected(duplex(64 * 1024)).await;
    let mut sent = 0;
    while timeout(STANDSTILL, send(&server.packets, sent)).await.is_ok() {
        sent += 1;
    }
    drop(server.packets);
    timeout(Duration::from_secs(60), server.end)
        .await
        .expect("ends in bounded time")
        .expect("a session")
        .expect("cleanly");
    drop(client);
}

#[tokio::test]
async fn what_was_queued_is_sent_before_the_goodbye() {
    let (mut client, server) = connected(tcp().await).await;
    for n in 0..8 {
        send(&server.packets, n).await;
    }
    drop(server.packets);
    for n in 0..8 {
        receive(&mut client.packets, n).await;
    }
    assert_eq!(client.packets.incoming.recv().await, None);
    client.packets.outgoing.closed().await;
    wait(server.end).await;
    wait(client.end).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_server() {
    let (client, mut server) = connected(tcp().await).await;
    drop(client.packets);
    assert_eq!(server.packets.incoming.recv().await, None);
    server.packets.outgoing.closed().await;
    wait(client.end).await;
    wait(server.end).await;
}

#[tokio::test]
async fn a_session_ends_when_nobody_receives() {
    let (mut client, server) = connected(tcp().await).await;
    let Packets { incoming, outgoing } = server.packets;
    send(&Packets { incoming: queues().1.incoming, outgoing: outgoing.clone() }, 0).await;
    drop(incoming);
    receive(&mut client.packets, 0).await;
    assert_eq!(client.packets.incoming.recv().await, None);
    outgoing.closed().await;
    wait(server.end).await;
}

#[tokio::test]
async fn a_broken_connection_ends_both_queues() {
    let (a, b) = duplex(64 * 1024);
    let (broken, cut) = support::breakable(b);
    let (mut client, server) = connected((a, broken)).await;
    cut.send(()).expect("a connection");
    assert_eq!(client.packets.incoming.recv().await, None);
    client.packets.outgoing.closed().await;
    server.packets.outgoing.closed().await;
    assert!(client.end.await.expect("a session").is_err());
}

#[tokio::test]
async fn a_banner_comes_before_the_success() {
    let (a, b) = tcp().await;
    let banner = Some("Waking api\r\n".into());
    let _server = serve(usual(), a, OneUser { banner, ..OneUser::alone() });
    let (ends, _packets) = queues();
    let (seen, mut client) = support::recording(client_config(), b, ends).await;
    support::log_in(&mut client).await;
    let seen = seen.lock().expect("seen").clone();
    let seen: Vec<_> = seen.iter().filter(|seen| !seen.starts_with("cipher: ")).collect();
    assert_eq!(seen[..3], ["key exchange", "banner: Waking api\r\n", "success"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_authenticate_in_time_is_cut_off() {
    let (a, _silent) = duplex(64 * 1024);
    let session = timeout(STANDSTILL, usual().accept(a, OneUser::alone(), WITHIN)).await.expect("ends");
    assert!(session.err().expect("an error").is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_in_the_middle_of_a_login_is_cut_off() {
    let (a, b) = duplex(64 * 1024);
    let server = serve(usual(), a, OneUser::alone());
    let (ends, _packets) = queues();
    let (_seen, _client) = support::recording(client_config(), b, ends).await;
    let error = timeout(STANDSTILL, server).await.expect("ends").expect("a session").expect_err("an error");
    assert!(error.is_timeout());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_in_time_is_silent() {
    let (a, _silent) = duplex(64 * 1024);
    let peer = Peer::new(key(1).public_key().clone(), queues().0);
    let connected = timeout(STANDSTILL, Client::default().connect(a, peer, WITHIN)).await.expect("ends");
    assert!(matches!(connected, Err(LoginError::Silent)));
}

#[tokio::test(start_paused = true)]
async fn who_has_authenticated_in_time_may_stay() {
    let (client, mut server) = connected(duplex(64 * 1024)).await;
    send(&server.packets, 0).await;
    tokio::time::advance(STANDSTILL).await;
    send(&client.packets, 0).await;
    receive(&mut server.packets, 0).await;
}

#[tokio::test]
async fn a_client_refuses_a_host_key_that_it_was_not_told() {
    let (a, b) = tcp().await;
    let _server = serve(usual(), a, OneUser::alone());
    let (ends, mut packets) = queues();
    let peer = Peer::new(key(9).public_key().clone(), ends);
    let refused = Client::default().connect(b, peer, WITHIN).await;
    assert!(matches!(refused, Err(LoginError::WrongHostKey)));
    assert_eq!(packets.incoming.recv().await, None::<Bytes>);
}

#[tokio::test]
async fn a_key_can_be_offered_without_a_login_and_one_that_is_not_known_is_refused() {
    let (a, b) = tcp().await;
    let _server = serve(usual(), a, OneUser::alone());
    let peer = Peer::new(key(1).public_key().clone(), queues().0);
    let mut stranger = Client::default().connect(b, peer, WITHIN).await.expect("a server");
    assert!(stranger.offer("api", key(9).public_key().clone()).await.expect("an answer"));
    let refused = stranger.log_in("api", key(9).into()).await;
    assert!(matches!(refused, Err(LoginError::Refused)));
}

#[tokio::test]
async fn whoever_is_sent_away_is_told_why_and_has_not_entered() {
    struct Away;
    impl Authenticator for Away {
        type Identity = ();

        async fn nothing(self, _: &str) -> Verdict<Self> {
            Verdict::Refused(self)
        }

        async fn offered(&mut self, _: &str, _: Credential) -> bool {
            true
        }

        async fn proven(self, _: &str, _: Credential) -> Verdict<Self> {
            Verdict::SentAway(Reason::TooManyConnections, "there are too many".into())
        }
    }
    let (a, b) = tcp().await;
    let server = tokio::spawn(async move { usual().accept(a, Away, WITHIN).await });
    let (seen, client) = support::recording_client(client_config(), b).await;
    drop(client.packets);
    assert!(server.await.expect("a session").expect("a clean end").is_none());
    client.end.await.expect("a session").expect("a clean end");
    let seen = seen.lock().expect("seen").clone();
    assert!(seen.contains(&"goodbye: TooManyConnections, there are too many".into()), "{seen:?}");
}
