use std::collections::HashMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::random::Random;

/// What one end of a channel sends, from its number alone, so that the other end can tell.
fn content(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let length = random.below(60_000);
    (0..length).map(|_| random.next() as u8).collect()
}

/// Writes all of `data` in pieces of any size, with pauses.
async fn write(mut writer: ChannelWriter, data: Vec<u8>, seed: u64) {
    let mut random = Random::new(seed);
    let mut rest = &data[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + random.below(5000)));
        if random.below(3) == 0 {
            writer.send_all(PacketBuf::from(piece)).await.unwrap();
        } else {
            writer.write_all(piece).await.unwrap();
        }
        rest = after;
        if random.below(2) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn read(mut reader: ChannelReader, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    loop {
        if random.below(2) == 0 {
            let Some(data) = reader.next().await else { return all };
            all.extend_from_slice(&data);
        } else {
            let mut buffer = vec![0; 1 + random.below(3000)];
            match reader.read(&mut buffer).await.unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
        for _ in 0..random.below(4) {
            tokio::task::yield_now().await;
        }
    }
}

/// One end of one channel: everything it sends arrives, and it gets everything the other end sends.
async fn converse(channel: Channel, number: u64, client: bool) {
    let Channel { reader, stderr, writer, mut requests, control } = channel;
    let (mine, other) = if client { (number * 2, number * 2 + 1) } else { (number * 2 + 1, number * 2) };
    let extended = writer.extended();
    let sending = async {
        tokio::join!(write(writer, content(mine), mine), write(extended, content(mine + 1_000_000), mine));
    };
    let asking = async {
        for i in 0..5 {
            assert_eq!(control.request_reply(env(i)).await, Ok(i % 2 == 0));
        }
        control.request(RequestKind::Eow).await.unwrap();
    };
    let answering = async {
        for i in 0..5 {
            let request = requests.next().await.unwrap();
            assert_eq!(request.kind, env(i));
            request.reply(i % 2 == 0);
        }
        assert_eq!(requests.next().await.unwrap().kind, RequestKind::Eow);
    };
    let ((), (), (), data, errors) =
        tokio::join!(sending, asking, answering, read(reader, other), read(stderr, other));
    assert!(data == content(other) && errors == content(other + 1_000_000));
    control.close();
    control.closed().await;
}

async fn conversations(seed: u64) {
    let mut random = Random::new(seed);
    let max_packet = 1 + random.below(3000) as u32;
    let window = max_packet + random.below(10_000) as u32;
    let limits = Limits { window, max_packet, packets: 1 + random.below(8), ..Limits::default() };
    let (client, mut server) = pair(limits);
    let count = 1 + random.below(12) as u64;
    let accepting = tokio::spawn(async move {
        let mut tasks = HashMap::new();
        for _ in 0..count {
            let Some(Incoming::Open(request)) = server.connection.next().await else { panic!("no request") };
            let ChannelKind::X11 { originator_port, .. } = request.kind else { panic!("another kind") };
            let number = u64::from(originator_port);
            tasks.insert(number, tokio::spawn(converse(request.accept(), number, false)));
        }
        for (_, task) in tasks {
            task.await.unwrap();
        }
        server
    });
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let opener = client.opener.clone();
            let originator_port = number as u32;
            tokio::spawn(async move {
                let kind = ChannelKind::X11 { originator: Bytes::new(), originator_port };
                converse(opener.open(kind).await.unwrap(), number, true).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let server = accepting.await.unwrap();
    drop((client.connection, client.opener));
    assert_eq!(client.running.await.unwrap(), Ok(()));
    assert_eq!(server.running.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn channels_do_not_mix_whatever_the_sizes_and_the_order() {
    for seed in 0..25 {
        conversations(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn channels_do_not_mix_on_many_threads() {
    for seed in 100..125 {
        conversations(seed).await;
    }
}

/// Any valid messages in any order: the end answers or disconnects, and never panics or hangs.
#[tokio::test]
async fn no_order_of_messages_breaks_an_end() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (mut peer, mut end) = against(Limits { window: 500, ..Limits::default() });
        let opener = end.opener.clone();
        let serving = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(incoming) = end.connection.next().await {
                match incoming {
                    Incoming::Open(request) if kept.len() < 5 => kept.push(request.accept()),
                    Incoming::Open(request) => drop(request.accept()),
                    Incoming::Global(request) => request.reply(true, Bytes::new()),
                }
            }
            end.running.await.unwrap()
        });
        let opening = tokio::spawn(async move {
            while let Ok(_) | Err(OpenFailure::Refused { .. }) = opener.open(ChannelKind::AuthAgent).await {}
        });
        for _ in 0..300 {
            peer.received();
            if !peer.send(message(&mut random)).await {
                break;
            }
        }
        let Peer { sends, mut receives } = peer;
        drop(sends);
        while receives.recv().await.is_some() {}
        serving.await.unwrap().ok();
        opening.await.unwrap();
    }
}

fn message(random: &mut Random) -> Message {
    let (recipient, sender) = (random.below(4) as u32, random.below(4) as u32);
    let data = Bytes::from(vec![0; random.below(40)]);
    let want_reply = random.below(2) == 0;
    match random.below(13) {
        0 | 1 => Message::Open { sender, window: 100, max_packet: 50, kind: ChannelKind::Session },
        2 => Message::OpenConfirmation {
            recipient,
            sender,
            window: 100,
            max_packet: 50,
            payload: Bytes::new(),
        },
        3 => Message::OpenFailure { recipient, reason: 2.into(), description: data, language: Bytes::new() },
        4 => Message::WindowAdjust { recipient, bytes: 100 },
        5 => Message::Data { recipient, data },
        6 => Message::ExtendedData { recipient, code: sender, data },
        7 => Message::Eof { recipient },
        8 => Message::Close { recipient },
        9 => Message::Request { recipient, want_reply, kind: env(1) },
        10 => Message::Success { recipient },
        11 => Message::GlobalRequest { want_reply, kind: forward(1) },
        _ => Message::RequestFailure,
    }
}
