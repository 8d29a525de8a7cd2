use super::*;
use crate::wire::OpenReason;

async fn ended(end: End) -> Result<(), ConnectionError> {
    let End { running, connection: _connection, opener: _opener } = end;
    running.await.unwrap()
}

#[tokio::test]
async fn a_peer_that_overruns_a_window_is_disconnected() {
    let (mut peer, mut end) = against(Limits { window: 1000, ..Limits::default() });
    let (number, mut channel) = peer.open(1, 0, &mut end).await;
    peer.send(Message::Data { recipient: number, data: vec![0; 1000].into() }).await;
    assert_eq!(channel.reader.next().await.unwrap().len(), 1000);
    // The window was given back once; extended data counts as well.
    peer.send(Message::ExtendedData { recipient: number, code: 1, data: vec![0; 1000].into() }).await;
    peer.send(Message::ExtendedData { recipient: number, code: 7, data: vec![0; 1].into() }).await;
    assert_eq!(ended(end).await, Err(ConnectionError::WindowOverrun(number)));
    assert!(channel.requests.next().await.is_none());
}

#[tokio::test]
async fn a_window_can_not_be_made_larger_than_windows_are() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, _channel) = peer.open(1, u32::MAX - 1, &mut end).await;
    peer.send(Message::WindowAdjust { recipient: number, bytes: 1 }).await;
    peer.send(Message::WindowAdjust { recipient: number, bytes: 1 }).await;
    assert_eq!(ended(end).await, Err(ConnectionError::WindowOverflow(number)));
}

#[tokio::test]
async fn a_packet_that_can_not_be_read_ends_the_connection() {
    let (peer, end) = against(Limits::default());
    peer.sends.send(Bytes::from_static(b"\x5e\0\0")).await.unwrap();
    assert!(matches!(ended(end).await, Err(ConnectionError::Malformed(_))));
}

#[tokio::test]
async fn what_nobody_can_answer_is_ignored() {
    let (mut peer, mut end) = against(Limits::default());
    let data = Bytes::from_static(b"x");
    for message in [
        Message::Unknown(Bytes::from_static(&[200, 1])),
        Message::Unknown(Bytes::from_static(&[83])),
        Message::Data { recipient: 77, data: data.clone() },
        Message::ExtendedData { recipient: 77, code: 1, data },
        Message::Close { recipient: 77 },
        Message::Eof { recipient: 77 },
        Message::WindowAdjust { recipient: 77, bytes: 1 },
        Message::Success { recipient: 77 },
        Message::Failure { recipient: u32::MAX },
        Message::Request { recipient: 77, want_reply: true, kind: RequestKind::Shell },
        Message::OpenConfirmation {
            recipient: 77,
            sender: 0,
            window: 0,
            max_packet: 0,
            payload: Bytes::new(),
        },
        Message::OpenFailure {
            recipient: 77,
            reason: OpenReason::ConnectFailed,
            description: Bytes::new(),
            language: Bytes::new(),
        },
        Message::RequestSuccess { payload: Bytes::new() },
        Message::RequestFailure,
    ] {
        assert!(peer.send(message).await);
    }
    peer.open(0, 0, &mut end).await;
}

#[tokio::test]
async fn a_confirmation_of_an_open_channel_changes_nothing() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, mut channel) = peer.open(4, 10, &mut end).await;
    let payload = Bytes::new();
    peer.send(Message::OpenConfirmation { recipient: number, sender: 9, window: 0, max_packet: 0, payload })
        .await;
    settle().await;
    tokio::io::AsyncWriteExt::write_all(&mut channel.writer, b"x").await.unwrap();
    assert_eq!(peer.receive().await, Message::Data { recipient: 4, data: Bytes::from_static(b"x") });
}

/// Sends until the end has had enough.
async fn flood(peer: &mut Peer, message: impl Fn(usize) -> Message) -> usize {
    for i in 0..1_000_000 {
        if !peer.send(message(i)).await {
            return i;
        }
    }
    panic!("it takes everything");
}

#[tokio::test]
async fn a_flood_of_requests_that_nobody_has_taken_yet_disconnects() {
    for want_reply in [false, true] {
        let (mut peer, mut end) = against(Limits::default());
        let (recipient, _channel) = peer.open(1, 0, &mut end).await;
        let sent = flood(&mut peer, |i| Message::Request { recipient, want_reply, kind: env(i) }).await;
        assert!(sent <= 256 + QUEUE + 1, "{sent}");
        assert_eq!(ended(end).await, Err(ConnectionError::Flood("requests of a channel")));
    }
}

#[tokio::test]
async fn a_flood_of_requests_without_answers_disconnects() {
    let (mut peer, mut end) = against(Limits::default());
    let (recipient, channel) = peer.open(1, 0, &mut end).await;
    let mut requests = channel.requests;
    // Takes all of them and answers none.
    let hoarding = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(request) = requests.next().await {
            all.push(request);
        }
        all.len()
    });
    flood(&mut peer, |i| Message::Request { recipient, want_reply: true, kind: env(i) }).await;
    assert_eq!(ended(end).await, Err(ConnectionError::Flood("requests of a channel")));
    assert_eq!(hoarding.await.unwrap(), 256);
}

#[tokio::test]
async fn a_flood_of_large_requests_on_many_channels_disconnects() {
    let (mut peer, mut end) = against(Limits { request_bytes: 1 << 20, ..Limits::default() });
    let mut channels = Vec::new();
    for number in 0..10 {
        channels.push(peer.open(number, 0, &mut end).await);
    }
    let large = Bytes::from(vec![b'x'; 30_000]);
    let sent = flood(&mut peer, |i| Message::Request {
        recipient: channels[i % channels.len()].0,
        want_reply: false,
        kind: RequestKind::Exec { command: large.clone() },
    })
    .await;
    assert!(sent <= 35 + QUEUE + 1, "{sent}");
    assert_eq!(ended(end).await, Err(ConnectionError::Flood("bytes of requests")));
}

#[tokio::test]
async fn a_flood_of_requests_about_the_connection_disconnects() {
    for want_reply in [false, true] {
        let (mut peer, end) = against(Limits::default());
        flood(&mut peer, |_| Message::GlobalRequest { want_reply, kind: forward(1) }).await;
        assert_eq!(ended(end).await, Err(ConnectionError::Flood("requests")));
    }
}

#[tokio::test]
async fn a_peer_that_takes_no_answers_is_disconnected() {
    let keepalive = |_| Message::GlobalRequest { want_reply: true, kind: GlobalKind::Keepalive };
    let open = |i| Message::Open { sender: i as u32, window: 0, max_packet: 0, kind: ChannelKind::Session };
    let floods: [&dyn Fn(usize) -> Message; 2] = [&keepalive, &open];
    for message in floods {
        let (mut peer, mut end) = against(Limits::default());
        let (recipient, _channel) = peer.open(0, 0, &mut end).await;
        let opener = end.opener.clone();
        drop(end.connection);
        let sent = flood(&mut peer, message).await;
        assert!(sent <= 4096 + 3 * QUEUE, "{sent}");
        assert!(matches!(end.running.await.unwrap(), Err(ConnectionError::Flood(_))));
        opener.closed().await;
        let _ = recipient;
    }
}

#[tokio::test]
async fn opening_and_closing_without_reading_disconnects() {
    let (peer, mut end) = against(Limits::default());
    let accepting = tokio::spawn(async move {
        while let Some(Incoming::Open(request)) = end.connection.next().await {
            drop(request.accept());
        }
        end.running.await.unwrap()
    });
    loop {
        let open = Message::Open { sender: 0, window: 0, max_packet: 0, kind: ChannelKind::Session };
        // Numbers are easy to guess.
        if !peer.send(open).await || !peer.send(Message::Close { recipient: 0 }).await {
            break;
        }
    }
    assert!(matches!(accepting.await.unwrap(), Err(ConnectionError::Flood(_))));
}

#[tokio::test]
async fn channels_beyond_the_limit_are_refused_until_others_are_gone() {
    let limits = Limits { channels: 2, ..Limits::default() };
    let (mut peer, mut end) = against(limits);
    let (number, first) = peer.open(0, 0, &mut end).await;
    let (_, _second) = peer.open(1, 0, &mut end).await;
    let open = |sender| Message::Open { sender, window: 0, max_packet: 0, kind: ChannelKind::Session };
    let refused = |message| {
        matches!(message, Message::OpenFailure { recipient: 2, reason: OpenReason::ResourceShortage, .. })
    };
    peer.send(open(2)).await;
    assert!(refused(peer.receive().await));
    peer.send(Message::Close { recipient: number }).await;
    assert_eq!(peer.receive().await, Message::Close { recipient: 0 });
    // Whoever uses it is not finished yet, and may hold a window of data.
    peer.send(open(2)).await;
    assert!(refused(peer.receive().await));
    drop(first);
    let (again, _third) = peer.open(2, 0, &mut end).await;
    assert_eq!(again, number);
}

#[tokio::test]
async fn a_peer_that_answers_nothing_is_asked_no_more() {
    let (peer, end) = against(Limits { global_requests: 3, channels: 2, ..Limits::default() });
    let mut asking = Vec::new();
    for _ in 0..3 {
        let opener = end.opener.clone();
        asking.push(tokio::spawn(async move { opener.global(GlobalKind::Keepalive).await }));
    }
    settle().await;
    assert_eq!(end.opener.global(GlobalKind::Keepalive).await, Err(Disconnected));
    let opening: Vec<_> = (0..2)
        .map(|_| {
            let opener = end.opener.clone();
            tokio::spawn(async move { opener.open(ChannelKind::AuthAgent).await.map(drop) })
        })
        .collect();
    settle().await;
    assert_eq!(end.opener.open(ChannelKind::AuthAgent).await.map(drop), Err(OpenFailure::TooMany));
    drop(peer);
    for task in asking {
        assert_eq!(task.await.unwrap(), Err(Disconnected));
    }
    for task in opening {
        assert_eq!(task.await.unwrap(), Err(OpenFailure::Disconnected));
    }
}
