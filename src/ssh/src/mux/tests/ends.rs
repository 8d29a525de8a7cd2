use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::wire::OpenReason;

#[tokio::test]
async fn the_end_of_the_transport_reaches_everybody() {
    let (mut peer, mut end) = against(Limits { window: 100, ..Limits::default() });
    let (number, channel) = peer.open(0, 10, &mut end).await;
    peer.send(Message::Data { recipient: number, data: Bytes::from_static(b"last") }).await;
    let opener = end.opener.clone();
    let waiting = tokio::spawn(async move {
        let Channel { mut reader, mut stderr, mut writer, mut requests, control } = channel;
        let write = async { writer.write_all(&[0; 100]).await.map_err(|e| e.kind()) };
        let read = async {
            let mut data = Vec::new();
            reader.read_to_end(&mut data).await.map(|_| data)
        };
        let requests = async { requests.next().await.is_none() };
        let reply = control.request_reply(env(0));
        tokio::join!(write, read, stderr.next(), requests, reply, control.closed())
    });
    let asking = tokio::spawn(async move {
        let open = opener.open(ChannelKind::X11 { originator: Bytes::new(), originator_port: 0 });
        let (open, global, ()) = tokio::join!(open, opener.global(forward(0)), opener.closed());
        (open.map(drop), global)
    });
    settle().await;
    drop(peer);
    let (write, read, stderr, requests, reply, ()) = waiting.await.unwrap();
    assert_eq!(write, Err(ErrorKind::BrokenPipe));
    assert_eq!(read.unwrap(), b"last");
    assert_eq!(stderr, None);
    assert!(requests);
    assert_eq!(reply, Err(Disconnected));
    assert_eq!(asking.await.unwrap(), (Err(OpenFailure::Disconnected), Err(Disconnected)));
    assert!(end.connection.next().await.is_none());
    assert_eq!(end.running.await.unwrap(), Ok(()));
    // And whoever comes later.
    assert_eq!(end.opener.open(ChannelKind::Session).await.map(drop), Err(OpenFailure::Disconnected));
    assert_eq!(end.opener.global(forward(0)).await, Err(Disconnected));
    end.opener.closed().await;
}

#[tokio::test]
async fn a_channel_accepted_after_the_end_is_one_that_has_ended() {
    let (peer, mut end) = against(Limits::default());
    peer.send(Message::Open { sender: 0, window: 9, max_packet: 9, kind: ChannelKind::Session }).await;
    let Some(Incoming::Open(request)) = end.connection.next().await else { panic!("no request") };
    drop(peer);
    end.running.await.unwrap().unwrap();
    let mut channel = request.accept();
    assert!(channel.control.is_closed());
    assert_eq!(channel.reader.next().await, None);
    assert_eq!(channel.writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(channel.requests.next().await.is_none());
}

#[tokio::test]
async fn an_end_that_nobody_uses_says_all_it_has_to_say_and_ends() {
    let (mut peer, mut end) = against(Limits::default());
    let (_, channel) = peer.open(6, 1 << 20, &mut end).await;
    let Channel { mut writer, control, reader, stderr, requests } = channel;
    drop((reader, stderr, requests));
    let writing = tokio::spawn(async move {
        writer.write_all(&[0; 500_000]).await.unwrap();
        drop(writer);
        control.exit_status(0).await.unwrap();
    });
    drop((end.connection, end.opener));
    let mut last = Vec::new();
    let mut data = 0;
    while let Some(packet) = peer.receives.recv().await {
        match Message::parse(packet).unwrap() {
            Message::Data { data: bytes, .. } => data += bytes.len(),
            other => last.push(other),
        }
    }
    writing.await.unwrap();
    assert_eq!(data, 500_000);
    let kind = RequestKind::ExitStatus { status: 0 };
    assert_eq!(
        last,
        [
            Message::Eof { recipient: 6 },
            Message::Request { recipient: 6, want_reply: false, kind },
            Message::Close { recipient: 6 }
        ]
    );
    assert_eq!(end.running.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn disconnecting_ends_at_once_whatever_waits() {
    let (mut peer, mut end) = against(Limits::default());
    let (_, mut channel) = peer.open(0, 10 << 20, &mut end).await;
    let writing = tokio::spawn(async move { channel.writer.write_all(&vec![0; 5 << 20]).await });
    settle().await;
    end.opener.disconnect();
    assert_eq!(end.running.await.unwrap(), Ok(()));
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert!(peer.received().len() <= QUEUE);
    assert!(peer.receives.is_closed());
}

#[tokio::test]
async fn a_driver_that_is_dropped_ends_the_connection() {
    let (_peer, mut end) = against(Limits::default());
    end.running.abort();
    assert!(end.connection.next().await.is_none());
}

#[tokio::test]
async fn the_last_part_of_a_channel_closes_it_and_its_number_is_free_after_both_did() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, channel) = peer.open(4, 0, &mut end).await;
    let Channel { reader, stderr, writer, requests, control } = channel;
    drop((reader, stderr, requests));
    assert_eq!(peer.received(), []);
    drop(writer);
    assert_eq!(peer.received(), [Message::Eof { recipient: 4 }]);
    let other = control.clone();
    drop(control);
    assert_eq!(peer.received(), []);
    drop(other);
    assert_eq!(peer.received(), [Message::Close { recipient: 4 }]);
    let (next, _channel) = peer.open(5, 0, &mut end).await;
    assert_ne!(next, number);
    peer.send(Message::Close { recipient: number }).await;
    let (next, _channel) = peer.open(6, 0, &mut end).await;
    assert_eq!(next, number);
}

#[tokio::test]
async fn the_close_of_the_peer_is_answered_and_what_it_sent_stays_readable() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, mut channel) = peer.open(4, 1, &mut end).await;
    channel.writer.write_all(b"x").await.unwrap();
    assert!(matches!(peer.receive().await, Message::Data { .. }));
    peer.send(Message::Data { recipient: number, data: Bytes::from_static(b"rest") }).await;
    peer.send(Message::Request { recipient: number, want_reply: true, kind: env(1) }).await;
    let writing = tokio::spawn(async move {
        let error = channel.writer.write_all(b"blocked by the window").await.unwrap_err();
        (error.kind(), channel)
    });
    settle().await;
    peer.send(Message::Close { recipient: number }).await;
    assert_eq!(peer.receive().await, Message::Close { recipient: 4 });
    let (error, mut channel) = writing.await.unwrap();
    assert_eq!(error, ErrorKind::BrokenPipe);
    channel.control.closed().await;
    assert_eq!(channel.reader.next().await, Some(Bytes::from_static(b"rest")));
    assert_eq!(channel.reader.next().await, None);
    channel.requests.next().await.unwrap().reply(true);
    assert!(channel.requests.next().await.is_none());
    assert_eq!(channel.control.exit_status(0).await, Err(Disconnected));
    drop(channel);
    settle().await;
    assert_eq!(peer.received(), []);
}

#[tokio::test]
async fn nothing_is_sent_after_our_close() {
    let (mut peer, mut end) = against(Limits { window: 100, max_packet: 100, ..Limits::default() });
    let (number, mut channel) = peer.open(4, 1000, &mut end).await;
    peer.send(Message::Request { recipient: number, want_reply: true, kind: env(1) }).await;
    let request = channel.requests.next().await.unwrap();
    channel.control.close();
    assert_eq!(peer.receive().await, Message::Close { recipient: 4 });
    peer.send(Message::Data { recipient: number, data: vec![0; 100].into() }).await;
    assert_eq!(channel.reader.next().await.unwrap().len(), 100);
    request.reply(true);
    assert!(channel.writer.write(b"x").await.is_err());
    channel.control.eof();
    channel.control.close();
    assert_eq!(channel.control.exit_status(0).await, Err(Disconnected));
    drop(channel);
    settle().await;
    assert_eq!(peer.received(), []);
}

#[tokio::test]
async fn eof_at_once_breaks_the_writers_and_is_sent_once() {
    let (mut peer, mut end) = against(Limits::default());
    let (_, channel) = peer.open(4, 0, &mut end).await;
    let Channel { reader, stderr, mut writer, requests, control } = channel;
    drop((reader, stderr, requests));
    let writing = tokio::spawn(async move { writer.write(b"x").await.unwrap_err().kind() });
    settle().await;
    control.eof();
    assert_eq!(writing.await.unwrap(), ErrorKind::BrokenPipe);
    assert_eq!(peer.receive().await, Message::Eof { recipient: 4 });
    drop(control);
    assert_eq!(peer.receive().await, Message::Close { recipient: 4 });
}

#[tokio::test]
async fn data_after_eof_is_discarded() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, mut channel) = peer.open(4, 0, &mut end).await;
    peer.send(Message::Data { recipient: number, data: Bytes::from_static(b"x") }).await;
    peer.send(Message::Eof { recipient: number }).await;
    peer.send(Message::Data { recipient: number, data: Bytes::from_static(b"y") }).await;
    settle().await;
    let mut data = Vec::new();
    channel.reader.read_to_end(&mut data).await.unwrap();
    assert_eq!(data, b"x");
}

#[tokio::test]
async fn a_refusal_carries_its_reason() {
    let (client, mut server) = pair(Limits::default());
    for (explicit, expected) in [
        (true, (OpenReason::ConnectFailed, "port is closed")),
        (false, (OpenReason::AdministrativelyProhibited, "not possible here")),
    ] {
        let refusing = async {
            let Some(Incoming::Open(request)) = server.connection.next().await else { panic!("no request") };
            if explicit {
                request.reject(OpenReason::ConnectFailed, "port is closed");
            }
        };
        let (opened, ()) = tokio::join!(client.opener.open(ChannelKind::Session), refusing);
        let (reason, text) = (expected.0, expected.1.to_owned());
        assert_eq!(opened.map(drop), Err(OpenFailure::Refused { reason, text }));
    }
}

#[tokio::test]
async fn without_anybody_to_ask_everything_is_refused() {
    let (client, server) = pair(Limits::default());
    let _opener = server.opener;
    drop(server.connection);
    assert!(matches!(
        client.opener.open(ChannelKind::Session).await.map(drop),
        Err(OpenFailure::Refused { reason: OpenReason::AdministrativelyProhibited, .. })
    ));
    assert_eq!(client.opener.global(forward(1)).await, Ok(GlobalReply::Failure));
}

#[tokio::test]
async fn a_channel_that_nobody_waits_for_any_more_is_closed_when_it_opens() {
    let (client, mut server) = pair(Limits::default());
    let opener = client.opener.clone();
    let opening = tokio::spawn(async move { opener.open(ChannelKind::Session).await.map(drop) });
    let Some(Incoming::Open(request)) = server.connection.next().await else { panic!("no request") };
    opening.abort();
    let _ = opening.await;
    let mut channel = request.accept();
    channel.control.closed().await;
    assert_eq!(channel.reader.next().await, None);
}

#[tokio::test]
async fn data_that_follows_an_acceptance_at_once_is_not_lost() {
    let (client, mut server) = pair(Limits::default());
    let opener = client.opener.clone();
    let opening = tokio::spawn(async move { opener.open(ChannelKind::Session).await });
    let Channel { mut writer, .. } = accept(&mut server).await;
    writer.write_all(b"banner").await.unwrap();
    drop(writer);
    settle().await;
    let mut text = String::new();
    opening.await.unwrap().unwrap().reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "banner");
}

#[tokio::test]
async fn an_exit_status_still_follows_the_close_of_a_peer_that_has_our_eof() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, channel) = peer.open(4, 100, &mut end).await;
    let Channel { mut reader, stderr, mut writer, mut requests, control } = channel;
    control.hold();
    writer.write_all(b"all").await.unwrap();
    drop((writer, stderr));
    assert!(matches!(peer.receive().await, Message::Data { .. }));
    assert_eq!(peer.receive().await, Message::Eof { recipient: 4 });
    peer.send(Message::Eof { recipient: number }).await;
    peer.send(Message::Close { recipient: number }).await;
    assert_eq!(reader.next().await, None);
    assert!(requests.next().await.is_none());
    // Whatever comes after its CLOSE is nothing, and the number is still in use.
    peer.send(Message::Request { recipient: number, want_reply: true, kind: env(1) }).await;
    peer.send(Message::Close { recipient: number }).await;
    let (other, _other) = peer.open(5, 0, &mut end).await;
    assert_ne!(other, number);
    assert!(!control.is_closed());
    control.exit_status(7).await.unwrap();
    control.close();
    let kind = RequestKind::ExitStatus { status: 7 };
    assert_eq!(peer.receive().await, Message::Request { recipient: 4, want_reply: false, kind });
    assert_eq!(peer.receive().await, Message::Close { recipient: 4 });
    control.closed().await;
    drop((reader, requests, control));
    let (next, _next) = peer.open(6, 0, &mut end).await;
    assert_eq!(next, number);
    assert_eq!(peer.received(), []);
}

#[tokio::test]
async fn a_close_before_our_eof_is_answered_at_once_by_whoever_would_hold_it() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, channel) = peer.open(4, 0, &mut end).await;
    channel.control.hold();
    peer.send(Message::Close { recipient: number }).await;
    assert_eq!(peer.receive().await, Message::Close { recipient: 4 });
    channel.control.closed().await;
    assert_eq!(channel.control.exit_status(0).await, Err(Disconnected));
}
