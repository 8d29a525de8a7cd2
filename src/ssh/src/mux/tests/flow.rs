use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn all_bytes_arrive_in_both_directions_at_once() {
    let (client, mut server) = pair(Limits { window: 100_000, ..Limits::default() });
    let (here, there) = channel(&client, &mut server).await;
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 7) as u8).collect();
    let send = |mut writer: ChannelWriter, data: Vec<u8>| async move {
        writer.write_all(&data).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let receive = |mut reader: ChannelReader| async move {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        got
    };
    let (_, _, a, b) = tokio::join!(
        send(here.writer, data.clone()),
        send(there.writer, data.clone()),
        receive(here.reader),
        receive(there.reader)
    );
    assert!(a == data && b == data);
}

#[tokio::test]
async fn each_direction_ends_alone() {
    let (client, mut server) = pair(Limits::default());
    let (mut here, mut there) = channel(&client, &mut server).await;
    here.writer.write_all(b"question").await.unwrap();
    here.writer.shutdown().await.unwrap();
    let mut text = String::new();
    there.reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    assert_eq!(here.writer.write(b"more").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    there.writer.write_all(b"answer").await.unwrap();
    drop(there.writer);
    text.clear();
    here.reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test]
async fn a_writer_stops_at_the_window_and_goes_on_with_it() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, mut channel) = peer.open(5, 10, &mut end).await;
    let writing = tokio::spawn(async move {
        channel.writer.write_all(b"0123456789abc").await.unwrap();
        channel
    });
    assert_eq!(peer.receive().await, Message::Data { recipient: 5, data: Bytes::from_static(b"0123456789") });
    settle().await;
    assert_eq!(peer.received(), []);
    peer.send(Message::WindowAdjust { recipient: number, bytes: 2 }).await;
    assert_eq!(peer.receive().await, Message::Data { recipient: 5, data: Bytes::from_static(b"ab") });
    peer.send(Message::WindowAdjust { recipient: number, bytes: 100 }).await;
    assert_eq!(peer.receive().await, Message::Data { recipient: 5, data: Bytes::from_static(b"c") });
    writing.await.unwrap();
}

#[tokio::test]
async fn a_packet_is_no_larger_than_either_end_wants() {
    let (mut peer, mut end) = against(Limits { max_packet: 1000, ..Limits::default() });
    peer.send(Message::Open { sender: 1, window: 10_000, max_packet: 300, kind: ChannelKind::Session }).await;
    let mut small = accept(&mut end).await;
    peer.receive().await;
    assert_eq!(small.writer.write(&[0; 5000]).await.unwrap(), 300);
    peer.receive().await;
    let (_, mut large) = peer.open(2, 10_000, &mut end).await;
    assert_eq!(large.writer.write(&[0; 5000]).await.unwrap(), 1000);
    assert_eq!(large.writer.room().await.unwrap(), 1000);
}

#[tokio::test]
async fn the_window_is_given_back_as_data_is_read_and_not_before() {
    let (mut peer, mut end) = against(Limits { window: 1000, max_packet: 1000, ..Limits::default() });
    let (number, mut channel) = peer.open(5, 0, &mut end).await;
    peer.send(Message::Data { recipient: number, data: vec![0; 1000].into() }).await;
    settle().await;
    assert_eq!(peer.received(), []);
    let mut buffer = [0; 499];
    channel.reader.read_exact(&mut buffer).await.unwrap();
    assert_eq!(peer.received(), []);
    channel.reader.read_u8().await.unwrap();
    assert_eq!(peer.received(), [Message::WindowAdjust { recipient: 5, bytes: 500 }]);
    assert_eq!(channel.reader.next().await.unwrap().len(), 500);
    assert_eq!(peer.received(), [Message::WindowAdjust { recipient: 5, bytes: 500 }]);
}

#[tokio::test]
async fn data_that_nobody_wants_is_discarded_and_its_window_given_back() {
    let (mut peer, mut end) = against(Limits { window: 1000, max_packet: 1000, ..Limits::default() });
    let (number, mut channel) = peer.open(5, 0, &mut end).await;
    let extended =
        |code, size: usize| Message::ExtendedData { recipient: number, code, data: vec![0; size].into() };
    peer.send(extended(1, 600)).await;
    settle().await;
    assert_eq!(peer.received(), []);
    drop(channel.stderr);
    assert_eq!(peer.received(), [Message::WindowAdjust { recipient: 5, bytes: 600 }]);
    peer.send(extended(1, 500)).await;
    assert_eq!(peer.receive().await, Message::WindowAdjust { recipient: 5, bytes: 500 });
    peer.send(extended(2, 500)).await;
    assert_eq!(peer.receive().await, Message::WindowAdjust { recipient: 5, bytes: 500 });
    peer.send(Message::Data { recipient: number, data: Bytes::from_static(b"kept") }).await;
    assert_eq!(&channel.reader.next().await.unwrap()[..], b"kept");
}

#[tokio::test]
async fn standard_error_is_a_stream_of_its_own() {
    let (client, mut server) = pair(Limits::default());
    let (mut here, mut there) = channel(&client, &mut server).await;
    let mut stderr = there.writer.extended();
    stderr.write_all(b"oops").await.unwrap();
    there.writer.write_all(b"fine").await.unwrap();
    drop(there.writer);
    // The channel has no end as long as one of its writers has none.
    stderr.write_all(b"!").await.unwrap();
    drop(stderr);
    let (mut out, mut err) = (String::new(), String::new());
    here.reader.read_to_string(&mut out).await.unwrap();
    here.stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("fine", "oops!"));
}

/// By bytes, not by time: while one channel's window is full of unread data, the others move many windows' worth.
#[tokio::test]
async fn a_channel_that_nobody_reads_stops_no_other_one() {
    const WINDOW: usize = 2 << 20;
    let (client, mut server) = pair(Limits::default());
    let (mut stuck, _unread) = channel(&client, &mut server).await;
    let stalled = tokio::spawn(async move {
        let mut sent = 0;
        while sent < WINDOW {
            sent += stuck.writer.write(&[0; 32768]).await.unwrap();
        }
        // The window is full: this one waits.
        stuck.writer.write_all(b"x").await.unwrap();
    });
    let (here, mut there) = channel(&client, &mut server).await;
    let total = 4 * WINDOW;
    let mut writer = here.writer;
    let writing = tokio::spawn(async move {
        writer.write_all(&vec![1; total]).await.unwrap();
    });
    let mut got = 0;
    while let Some(data) = there.reader.next().await {
        got += data.len();
    }
    writing.await.unwrap();
    assert_eq!(got, total);
    assert!(!stalled.is_finished());
    stalled.abort();
}

#[tokio::test]
async fn a_writer_that_gives_up_waiting_holds_up_nobody() {
    let (mut peer, mut end) = against(Limits { packets: 4, ..Limits::default() });
    let mut idle = Vec::new();
    for number in 0..20 {
        idle.push(peer.open(number, 1 << 20, &mut end).await.1);
    }
    let (_, mut busy) = peer.open(20, 1 << 20, &mut end).await;
    // The transport takes nothing: after its queue and the line are full, all of these wait; then none cares.
    for channel in &mut idle {
        for _ in 0..2 {
            let write = channel.writer.write(b"x");
            tokio::select! { biased; result = write => drop(result), () = settle() => {} }
        }
    }
    let writing = tokio::spawn(async move {
        busy.writer.write_all(b"through").await.unwrap();
        busy
    });
    loop {
        if let Message::Data { recipient: 20, data } = peer.receive().await {
            assert_eq!(&data[..], b"through");
            break;
        }
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn busy_channels_take_turns() {
    let (mut peer, mut end) = against(Limits::default());
    let mut channels = Vec::new();
    for number in 0..4 {
        channels.push(peer.open(number, 10 << 20, &mut end).await.1);
    }
    let write = |mut channel: Channel| async move { channel.writer.write_all(&vec![0; 4 << 20]).await };
    let writing: Vec<_> = channels.into_iter().map(|channel| tokio::spawn(write(channel))).collect();
    settle().await;
    let mut counts = [0_usize; 4];
    for _ in 0..200 {
        if let Message::Data { recipient, .. } = peer.receive().await {
            counts[recipient as usize] += 1;
        }
    }
    assert!(counts.iter().all(|n| (40..=60).contains(n)), "{counts:?}");
    writing.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn one_more_packet_waits_only_for_those_in_line() {
    let (mut peer, mut end) = against(Limits::default());
    let (_, mut bulk) = peer.open(0, 10 << 20, &mut end).await;
    let (_, mut shell) = peer.open(1, 10 << 20, &mut end).await;
    let bulk = tokio::spawn(async move { bulk.writer.write_all(&vec![0; 8 << 20]).await });
    settle().await;
    shell.writer.write_all(b"x").await.unwrap();
    let mut before = 0;
    while !matches!(peer.receive().await, Message::Data { recipient: 1, .. }) {
        before += 1;
    }
    // The queue to the transport, and the one packet that a writer may have in the line.
    assert!(before <= QUEUE + 1, "{before}");
    bulk.abort();
}

#[tokio::test]
async fn packets_filled_in_place_arrive_whole() {
    let (client, mut server) = pair(Limits { window: 1000, max_packet: 300, ..Limits::default() });
    let (mut here, mut there) = channel(&client, &mut server).await;
    let data: Vec<u8> = (0..5000_u32).map(|i| i as u8).collect();
    let expected = data.clone();
    let writing = tokio::spawn(async move {
        let mut packet = PacketBuf::with_capacity(5000);
        (&data[..]).read_buf(&mut packet.spare()).await.unwrap();
        // Longer than a packet may be: goes nowhere at once, and in pieces when waited for.
        let packet = here.writer.send(packet).unwrap_err();
        here.writer.send_all(packet).await.unwrap();
        let room = here.writer.room().await.unwrap();
        assert!(here.writer.send(PacketBuf::from(&b"end"[..room.min(3)])).is_ok());
    });
    let mut got = Vec::new();
    there.reader.read_to_end(&mut got).await.unwrap();
    writing.await.unwrap();
    assert_eq!(got[..5000], expected);
    assert!(got.len() > 5000);
}
