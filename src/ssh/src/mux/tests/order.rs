use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn requests_come_in_order_and_their_answers_leave_in_order() {
    let (client, mut server) = pair(Limits::default());
    let (here, mut there) = channel(&client, &mut server).await;
    let control = here.control.clone();
    let asking = tokio::spawn(async move {
        let replies = (0..4).map(|i| control.request_reply(env(i)));
        futures_join(replies.collect()).await
    });
    let mut requests = Vec::new();
    for i in 0..4 {
        let request = there.requests.next().await.unwrap();
        assert_eq!(request.kind, env(i));
        requests.push(request);
    }
    // Answered from the last to the first, one by being dropped.
    for (i, request) in requests.into_iter().enumerate().rev() {
        match i {
            1 => drop(request),
            i => request.reply(i % 2 == 0),
        }
    }
    assert_eq!(asking.await.unwrap(), [Ok(true), Ok(false), Ok(true), Ok(false)]);
}

/// All at once, in their order.
async fn futures_join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut pinned {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if pinned.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pinned.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn answers_about_the_connection_leave_in_order() {
    let (mut peer, mut end) = against(Limits::default());
    let mut requests = Vec::new();
    for port in 0..3 {
        peer.send(Message::GlobalRequest { want_reply: true, kind: forward(port) }).await;
        let Some(Incoming::Global(request)) = end.connection.next().await else { panic!("no request") };
        assert_eq!(request.kind, forward(port));
        requests.push(request);
    }
    // One without an answer is no gap, and a keepalive is answered without anybody's help.
    peer.send(Message::GlobalRequest { want_reply: false, kind: forward(9) }).await;
    peer.send(Message::GlobalRequest { want_reply: true, kind: GlobalKind::Keepalive }).await;
    settle().await;
    assert_eq!(peer.received(), []);
    let mut requests = requests.into_iter();
    let (first, second, third) =
        (requests.next().unwrap(), requests.next().unwrap(), requests.next().unwrap());
    third.reply(true, Bytes::from_static(b"3"));
    drop(second);
    settle().await;
    assert_eq!(peer.received(), []);
    first.reply(true, Bytes::from_static(b"1"));
    let success = |payload| Message::RequestSuccess { payload: Bytes::from_static(payload) };
    assert_eq!(
        peer.received(),
        [success(b"1"), Message::RequestFailure, success(b"3"), Message::RequestFailure]
    );
}

#[tokio::test]
async fn each_of_our_questions_gets_its_own_answer() {
    let (client, mut server) = pair(Limits::default());
    let asking = async {
        let questions = (0..5).map(|port| client.opener.global(forward(port))).collect();
        futures_join(questions).await
    };
    let answering = async {
        for _ in 0..5 {
            let Some(Incoming::Global(request)) = server.connection.next().await else {
                panic!("no request")
            };
            let GlobalKind::TcpipForward { port, .. } = request.kind else { panic!("another request") };
            request.reply(port != 2, port.to_string().into());
        }
    };
    let (answers, ()) = tokio::join!(asking, answering);
    let expected = (0..5_u32).map(|port| {
        Ok(if port == 2 { GlobalReply::Failure } else { GlobalReply::Success(port.to_string().into()) })
    });
    assert_eq!(answers, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_program_ends_with_its_data_then_eof_then_its_status_then_close() {
    let (mut peer, mut end) = against(Limits::default());
    let (_, channel) = peer.open(3, 1 << 20, &mut end).await;
    let ending = tokio::spawn(async move {
        let Channel { mut writer, control, .. } = channel;
        let mut stderr = writer.extended();
        writer.write_all(&[0; 400_000]).await.unwrap();
        stderr.write_all(b"bye").await.unwrap();
        drop((writer, stderr));
        control.exit_status(7).await.unwrap();
        control.close();
    });
    let mut data = 0;
    let rest = loop {
        match peer.receive().await {
            Message::Data { data: bytes, .. } => data += bytes.len(),
            other => break other,
        }
    };
    assert_eq!(data, 400_000);
    assert_eq!(rest, Message::ExtendedData { recipient: 3, code: 1, data: Bytes::from_static(b"bye") });
    assert_eq!(peer.receive().await, Message::Eof { recipient: 3 });
    let kind = RequestKind::ExitStatus { status: 7 };
    assert_eq!(peer.receive().await, Message::Request { recipient: 3, want_reply: false, kind });
    assert_eq!(peer.receive().await, Message::Close { recipient: 3 });
    ending.await.unwrap();
}

#[tokio::test]
async fn a_signal_overtakes_data_that_is_not_read() {
    let (client, mut server) = pair(Limits::default());
    let (mut here, mut there) = channel(&client, &mut server).await;
    here.writer.write_all(&[0; 1_000_000]).await.unwrap();
    let signal = RequestKind::Signal { name: Bytes::from_static(b"INT") };
    here.control.request(signal.clone()).await.unwrap();
    assert_eq!(there.requests.next().await.unwrap().kind, signal);
    drop(here.writer);
    let mut data = Vec::new();
    there.reader.read_to_end(&mut data).await.unwrap();
    assert_eq!(data.len(), 1_000_000);
}

#[tokio::test]
async fn requests_that_nobody_takes_fail() {
    let (client, mut server) = pair(Limits::default());
    let (here, there) = channel(&client, &mut server).await;
    let early = here.control.request_reply(env(0));
    let Channel { requests, control: _open, .. } = there;
    let dropping = async {
        settle().await;
        drop(requests);
    };
    let (early, ()) = tokio::join!(early, dropping);
    assert_eq!(early, Ok(false));
    assert_eq!(here.control.request_reply(env(1)).await, Ok(false));
}

#[tokio::test]
async fn a_keepalive_on_a_channel_is_answered_in_its_turn() {
    let (mut peer, mut end) = against(Limits::default());
    let (number, mut channel) = peer.open(1, 0, &mut end).await;
    let ask = |kind| Message::Request { recipient: number, want_reply: true, kind };
    peer.send(ask(env(0))).await;
    peer.send(ask(RequestKind::Keepalive)).await;
    let request = channel.requests.next().await.unwrap();
    settle().await;
    assert_eq!(peer.received(), []);
    request.reply(true);
    assert_eq!(peer.received(), [Message::Success { recipient: 1 }, Message::Failure { recipient: 1 }]);
}
