//! Bodies that are long, or that don't end.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::mpsc;

use super::{
    client::{Answer, Http1, full, get, post},
    service::{Service, text},
    world::World,
};

const GIBIBYTE: u64 = 1 << 30;
const CHUNK: usize = 64 << 10;
/// What the sockets of the system and the gateway may hold between sender and receiver.
const BETWEEN: u64 = 48 << 20;

/// A body of this many bytes, which counts what was taken of it.
struct Counted {
    left: u64,
    taken: Arc<AtomicU64>,
    chunk: Bytes,
}

impl Counted {
    fn new(length: u64, taken: &Arc<AtomicU64>) -> Self {
        Self { left: length, taken: taken.clone(), chunk: vec![b'x'; CHUNK].into() }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = self.left.min(CHUNK as u64);
        self.left -= length;
        self.taken.fetch_add(length, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(self.chunk.slice(..length as usize)))))
    }
}

/// Reads a body more slowly than it could be sent. Gives its length, and the most that was ever on its way.
async fn read_slowly(mut body: hyper::body::Incoming, sent: &AtomicU64) -> (u64, u64) {
    let (mut received, mut most) = (0, 0);
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
        most = most.max(sent.load(Ordering::SeqCst) - received);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    (received, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_down_passes_and_is_never_held() {
    let sent = Arc::<AtomicU64>::default();
    let count = sent.clone();
    let service = Service::http(move |_| {
        let body = Counted::new(GIBIBYTE, &count).boxed_unsync();
        Box::pin(async { Response::new(body) })
    })
    .await;
    let world = World::serving(service.port).await;
    let response = Http1::new(&world).await.send(get("api", "/", &[])).await;
    let (received, most) = read_slowly(response.into_body(), &sent).await;
    assert_eq!(received, GIBIBYTE);
    assert!(most < BETWEEN, "{most} bytes were on their way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_up_passes_and_is_never_held() {
    let sent = Arc::<AtomicU64>::default();
    let count = sent.clone();
    let service = Service::http(move |request| {
        let count = count.clone();
        Box::pin(async move {
            let (received, most) = read_slowly(request.into_body(), &count).await;
            Response::new(text(format!("{received} {}", most < BETWEEN)))
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let body = Counted::new(GIBIBYTE, &sent).boxed_unsync();
    let answer = Http1::new(&world).await.ask(post("api", "/", body)).await;
    assert_eq!(answer.body, format!("{GIBIBYTE} true"));
}

#[tokio::test]
async fn a_client_that_never_reads_stops_the_service() {
    let sent = Arc::<AtomicU64>::default();
    let count = sent.clone();
    let service = Service::http(move |_| {
        let body = Counted::new(u64::MAX, &count).boxed_unsync();
        Box::pin(async { Response::new(body) })
    })
    .await;
    let world = World::serving(service.port).await;
    let response = Http1::new(&world).await.send(get("api", "/", &[])).await;
    // As long as anything moves, somebody has something to do before this task's turn comes a thousand times.
    let (mut before, mut still) = (0, 0);
    while still < 1000 {
        tokio::task::yield_now().await;
        let now = sent.load(Ordering::SeqCst);
        still = if now == before { still + 1 } else { 0 };
        before = now;
        assert!(now < BETWEEN, "{now} bytes were taken for a client that reads none");
    }
    drop(response);
}

#[tokio::test]
async fn the_first_event_arrives_before_the_stream_ends() {
    let (events, receiver) = mpsc::channel::<Bytes>(1);
    let receiver = Arc::new(std::sync::Mutex::new(Some(receiver)));
    let service = Service::http(move |_| {
        let receiver = receiver.lock().unwrap().take().unwrap();
        let stream = futures::stream::unfold(receiver, |mut receiver| async {
            let event = receiver.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(event)), receiver))
        });
        Box::pin(async {
            let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
            response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            response
        })
    })
    .await;
    let world = World::serving(service.port).await;
    let response = Http1::new(&world).await.send(get("api", "/", &[])).await;
    let mut body = response.into_body();
    // Each event is sent only after the one before has come: a proxy that waited for more would wait forever.
    for number in 0..100 {
        let event = format!("data: {number}\n\n");
        events.send(event.clone().into()).await.unwrap();
        let mut came = Vec::new();
        while came.len() < event.len() {
            came.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(came, event.as_bytes());
    }
    drop(events);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn question_and_answer_may_flow_at_the_same_time() {
    let service = Service::http(|request| {
        Box::pin(async move { Response::new(request.into_body().map_err(|_| unreachable!()).boxed_unsync()) })
    })
    .await;
    let world = World::serving(service.port).await;
    let (parts, receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        Some((Ok::<_, Infallible>(Frame::data(receiver.recv().await?)), receiver))
    });
    let response =
        Http1::new(&world).await.send(post("api", "/", StreamBody::new(stream).boxed_unsync())).await;
    let mut body = response.into_body();
    for part in ["one", "two", "three"] {
        parts.send(part.into()).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), part);
    }
    drop(parts);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_by_the_service() {
    let (gone, mut noticed) = mpsc::channel::<()>(1);
    let service = Service::http(move |_| {
        let gone = gone.clone();
        let endless = futures::stream::unfold(gone, |gone| async {
            tokio::task::yield_now().await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), gone))
        });
        Box::pin(async { Response::new(StreamBody::new(endless).boxed_unsync()) })
    })
    .await;
    let world = World::serving(service.port).await;
    let mut client = Http1::new(&world).await;
    let mut response = client.send(get("api", "/", &[])).await;
    response.body_mut().frame().await.unwrap().unwrap();
    drop((response, client));
    // The only other sender is in the service's own function.
    drop(service);
    let aborted = post("api", "/", full("x"));
    drop(aborted);
    while noticed.try_recv() != Err(mpsc::error::TryRecvError::Disconnected)
        && noticed.sender_strong_count() > 1
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_question_is_over_passes() {
    let service = Service::http(|_| {
        Box::pin(async {
            let mut response = Response::new(text("too much"));
            *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
            response
        })
    })
    .await;
    let world = World::serving(service.port).await;
    // What the client sends after the head comes late or never.
    let (_never, receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures::stream::unfold(receiver, |mut receiver| async {
        Some((Ok::<_, Infallible>(Frame::data(receiver.recv().await?)), receiver))
    });
    let response =
        Http1::new(&world).await.send(post("api", "/", StreamBody::new(stream).boxed_unsync())).await;
    let answer = Answer::of(response).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (413, "too much"));
}
