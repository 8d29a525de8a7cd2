//! Bodies that pass through, a frame at a time, and what is done when they end.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::{Computers, host::Target, phase::Open, pool::Lease};

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How often a stream that flows, or for which somebody waits, says so to the directory, which itself writes far less often.
const BEAT: Duration = Duration::from_secs(1);

/// Records activity for as long as bytes flow, or somebody waits for them.
#[derive(Clone)]
pub struct Pulse {
    computers: Arc<dyn Computers>,
    target: Target,
    next: Instant,
}

impl Pulse {
    /// Records activity now, and from now on.
    pub fn start(computers: Arc<dyn Computers>, target: Target) -> Self {
        computers.active(&target.namespace, &target.name);
        Self { computers, target, next: Instant::now() + BEAT }
    }

    /// Bytes flowed.
    pub fn beat(&mut self) {
        if Instant::now() >= self.next {
            self.wait();
        }
    }

    /// Somebody waits for what a service has yet to say.
    fn wait(&mut self) {
        self.next = Instant::now() + BEAT;
        self.computers.active(&self.target.namespace, &self.target.name);
    }

    /// Waits for an answer.
    pub async fn until<T>(&mut self, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        loop {
            match timeout(BEAT, answer.as_mut()).await {
                Ok(answer) => return answer,
                Err(_) => self.wait(),
            }
        }
    }
}

/// The rest of an answer, for which somebody waits.
struct Rest {
    pulse: Pulse,
    /// None where that somebody waits for things to happen, which is no use of the service until they do.
    beats: Option<Option<Pin<Box<Sleep>>>>,
}

impl Rest {
    fn flows(&mut self) {
        self.pulse.beat();
        if let Some(beat) = &mut self.beats {
            *beat = None;
        }
    }

    fn waits(&mut self, cx: &mut Context<'_>) {
        let Some(beat) = &mut self.beats else { return };
        while beat.get_or_insert_with(|| Box::pin(sleep(BEAT))).as_mut().poll(cx).is_ready() {
            *beat = None;
            self.pulse.wait();
        }
    }
}

/// Body of a request on its way to a Spark.
pub struct Upload {
    body: Option<Incoming>,
    pulse: Pulse,
}

impl Upload {
    /// The body that the client sends.
    pub fn new(body: Incoming, pulse: Pulse) -> Self {
        Self { body: (!body.is_end_stream()).then_some(body), pulse }
    }

    /// No body.
    pub fn empty(pulse: Pulse) -> Self {
        Self { body: None, pulse }
    }

    /// The pulse, for what comes after.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        self.pulse.beat();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// Body of an answer.
pub struct Body {
    frames: Frames,
    /// The request is open until this is dropped.
    _open: Option<Open>,
}

enum Frames {
    Empty,
    Text(Option<Bytes>),
    Own(UnsyncBoxBody<Bytes, BoxError>),
    Spark { body: Incoming, lease: Lease, rest: Rest },
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self { frames: Frames::Empty, _open: None }
    }

    /// A short text.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self { frames: Frames::Text(Some(text.into())), _open: None }
    }

    /// What another part of the gateway answers.
    pub fn own<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        use http_body_util::BodyExt;
        Self { frames: Frames::Own(body.map_err(Into::into).boxed_unsync()), _open: None }
    }

    /// What a Spark answers; events come when they happen. Its connection is free for the next request when this has come
    /// to its end.
    pub(super) fn of_spark(body: Incoming, mut lease: Lease, pulse: Pulse, are_events: bool) -> Self {
        if body.is_end_stream() {
            lease.end();
        }
        let rest = Rest { pulse, beats: (!are_events).then_some(None) };
        Self { frames: Frames::Spark { body, lease, rest }, _open: None }
    }

    /// Keeps the request open until the body is dropped.
    pub(super) fn hold(&mut self, open: Open) {
        self._open = Some(open);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.frames {
            Frames::Empty => Poll::Ready(None),
            Frames::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Frames::Own(body) => Pin::new(body).poll_frame(cx),
            Frames::Spark { body, lease, rest } => {
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                    rest.waits(cx);
                    return Poll::Pending;
                };
                rest.flows();
                match &frame {
                    Some(Err(_)) => lease.spoil(),
                    None => lease.end(),
                    Some(Ok(_)) if body.is_end_stream() => lease.end(),
                    Some(Ok(_)) => {}
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.frames {
            Frames::Empty => true,
            Frames::Text(text) => text.as_ref().is_none_or(Bytes::is_empty),
            Frames::Own(body) => body.is_end_stream(),
            Frames::Spark { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.frames {
            Frames::Empty => SizeHint::with_exact(0),
            Frames::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Frames::Own(body) => body.size_hint(),
            Frames::Spark { body, .. } => body.size_hint(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;
    use sparks_api::Spark;

    use super::*;
    use crate::directory::{Awake, WakeError};

    /// Counts how often activity is recorded.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Computers for Counting {
        fn get(&self, _: &str, _: &str) -> Option<Arc<Spark>> {
            None
        }

        fn awake<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Awake, WakeError>> {
            Box::pin(async { Err(WakeError::Unknown { spark: String::new() }) })
        }

        fn serving<'a>(
            &'a self,
            namespace: &'a str,
            name: &'a str,
        ) -> BoxFuture<'a, Result<Awake, WakeError>> {
            self.awake(namespace, name)
        }

        fn active(&self, _: &str, _: &str) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pulse(computers: Arc<Counting>) -> Pulse {
        Pulse::start(computers, Target { namespace: "b".into(), name: "a".into() })
    }

    impl Upload {
        /// No body, of nobody.
        pub fn nothing() -> Self {
            Self::empty(pulse(Arc::default()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_records_activity_while_it_flows_and_not_for_every_byte() {
        let computers = Arc::new(Counting::default());
        let mut pulse = pulse(computers.clone());
        let recorded = || computers.0.load(Ordering::Relaxed);
        assert_eq!(recorded(), 1);
        (0..1000).for_each(|_| pulse.beat());
        assert_eq!(recorded(), 1);
        tokio::time::advance(BEAT * 10).await;
        assert_eq!(recorded(), 1, "a stream on which nothing flows is not active");
        (0..1000).for_each(|_| pulse.beat());
        assert_eq!(recorded(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_an_answer_or_the_rest_of_it_uses_the_spark_and_who_waits_for_events_does_not()
    {
        let computers = Arc::new(Counting::default());
        let recorded = || computers.0.load(Ordering::Relaxed);
        let mut pulse = pulse(computers.clone());
        pulse.until(sleep(BEAT * 10 + BEAT / 2)).await;
        assert_eq!(recorded(), 11);
        for (beats, expected) in [(Some(None), 21), (None, 21)] {
            let mut rest = Rest { pulse: pulse.clone(), beats };
            let waits = std::future::poll_fn(|cx| {
                rest.waits(cx);
                Poll::<()>::Pending
            });
            let _ = timeout(BEAT * 10 + BEAT / 2, waits).await;
            assert_eq!(recorded(), expected);
        }
    }
}
