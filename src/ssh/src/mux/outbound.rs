//! The line of packets to the transport.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Disconnected, lock};

/// Requests of this end's own that may wait in the line; whoever has more waits.
const OWN_REQUESTS: usize = 64;

/// A writer's place: at most one packet of it is in the line.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Place>);

#[derive(Debug, Default)]
struct Place {
    /// A packet is in the line.
    taken: bool,
    /// The writer waits for the line to become shorter.
    waiting: bool,
    waker: Option<Waker>,
}

impl Slot {
    /// Whoever polls next is the one to wake.
    pub(super) fn register(&self, context: &Context<'_>) {
        register(&mut lock(&self.0).waker, context);
    }

    pub(super) fn wake(&self) {
        let waker = lock(&self.0).waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn is_taken(&self) -> bool {
        lock(&self.0).taken
    }

    fn release(&self) -> Option<Waker> {
        let mut place = lock(&self.0);
        place.taken = false;
        place.waker.take()
    }

    fn called(&self) -> Option<Waker> {
        let mut place = lock(&self.0);
        place.waiting = false;
        place.waker.take()
    }
}

/// Remembers the task of `context` as the one to wake.
pub(super) fn register(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        None => *waker = Some(context.waker().clone()),
    }
}

/// What a packet in the line holds until it is handed over.
#[derive(Debug)]
enum Holds {
    Nothing,
    /// The place of a writer.
    Slot(Arc<Slot>),
    /// One of the answers that a peer may leave untaken.
    Answer,
    /// One of this end's own requests.
    Permit {
        _permit: OwnedSemaphorePermit,
    },
}

#[derive(Debug)]
struct Line {
    /// None once the connection has ended.
    transport: Option<mpsc::Sender<Bytes>>,
    packets: VecDeque<(Bytes, Holds)>,
    data: usize,
    answers: usize,
    /// Writers that wait for fewer packets of data in the line.
    writers: VecDeque<Arc<Slot>>,
    /// Nobody will add anything: the pump ends when the line is empty.
    finished: bool,
}

/// The line. Packets leave in the order in which they were pushed.
#[derive(Debug)]
pub(super) struct Outbound {
    line: Mutex<Line>,
    changed: Notify,
    own_requests: Arc<Semaphore>,
    most_data: usize,
}

impl Outbound {
    pub(super) fn new(transport: mpsc::Sender<Bytes>, most_data: usize) -> Self {
        let line = Line {
            transport: Some(transport),
            packets: VecDeque::new(),
            data: 0,
            answers: 0,
            writers: VecDeque::new(),
            finished: false,
        };
        Self {
            line: Mutex::new(line),
            changed: Notify::new(),
            own_requests: Arc::new(Semaphore::new(OWN_REQUESTS)),
            most_data: most_data.max(1),
        }
    }

    /// A packet that few others of its kind can wait with: a window, an end.
    pub(super) fn push(&self, packet: Bytes) {
        self.put(packet, Holds::Nothing);
    }

    /// An answer to the peer.
    pub(super) fn push_answer(&self, packet: Bytes) {
        self.put(packet, Holds::Answer);
    }

    /// A packet of data, from a writer for which `poll_room` is ready.
    pub(super) fn push_data(&self, packet: Bytes, slot: &Arc<Slot>) {
        self.put(packet, Holds::Slot(Arc::clone(slot)));
    }

    /// A request of this end's own.
    pub(super) fn push_request(&self, packet: Bytes, permit: OwnedSemaphorePermit) {
        self.put(packet, Holds::Permit { _permit: permit });
    }

    /// Waits for what `push_request` needs.
    pub(super) async fn request_permit(&self) -> Result<OwnedSemaphorePermit, Disconnected> {
        Arc::clone(&self.own_requests).acquire_owned().await.map_err(|_| Disconnected)
    }

    /// How many answers wait for the peer to read.
    pub(super) fn answers(&self) -> usize {
        lock(&self.line).answers
    }

    /// Ready when a writer may push a packet; else it is woken.
    pub(super) fn poll_room(&self, slot: &Arc<Slot>, context: &Context<'_>) -> Poll<()> {
        let mut line = lock(&self.line);
        let mut place = lock(&slot.0);
        if !place.taken && line.data < self.most_data {
            return Poll::Ready(());
        }
        register(&mut place.waker, context);
        if !place.taken && !place.waiting {
            place.waiting = true;
            line.writers.push_back(Arc::clone(slot));
        }
        Poll::Pending
    }

    /// Whether `poll_room` would be ready.
    pub(super) fn has_room(&self, slot: &Slot) -> bool {
        lock(&self.line).data < self.most_data && !slot.is_taken()
    }

    fn put(&self, packet: Bytes, holds: Holds) {
        let mut line = lock(&self.line);
        let Some(transport) = &line.transport else { return };
        // Data always waits its turn: else whoever runs first takes all places that are free.
        let packet = if line.packets.is_empty() && !matches!(holds, Holds::Slot(_)) {
            match transport.try_send(packet) {
                Err(mpsc::error::TrySendError::Full(packet)) => packet,
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        } else {
            packet
        };
        match &holds {
            Holds::Nothing | Holds::Permit { .. } => {}
            Holds::Answer => line.answers += 1,
            Holds::Slot(slot) => {
                line.data += 1;
                lock(&slot.0).taken = true;
            }
        }
        line.packets.push_back((packet, holds));
        self.changed.notify_one();
    }

    /// Hands over the first packet, if there is one.
    fn take(&self, room: mpsc::Permit<'_, Bytes>) {
        let mut wake = Vec::new();
        let mut line = lock(&self.line);
        let Some((packet, holds)) = line.packets.pop_front() else { return };
        room.send(packet);
        match &holds {
            Holds::Nothing | Holds::Permit { .. } => {}
            Holds::Answer => line.answers -= 1,
            Holds::Slot(slot) => {
                line.data -= 1;
                wake.extend(slot.release());
                wake.extend(line.writers.pop_front().and_then(|slot| slot.called()));
            }
        }
        if line.data == 0 {
            // One that was called may have gone away without using its place: nobody waits in front of an empty line.
            wake.extend(line.writers.drain(..).filter_map(|slot| slot.called()));
        }
        drop(line);
        drop(holds);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Hands packets over until the transport or the connection has ended.
    pub(super) async fn pump(&self) {
        let Some(transport) = lock(&self.line).transport.clone() else { return };
        loop {
            while !self.is_empty() {
                match transport.reserve().await {
                    Ok(room) => self.take(room),
                    Err(_) => return,
                }
            }
            if self.is_over() {
                return;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = transport.closed() => return,
            }
        }
    }

    fn is_empty(&self) -> bool {
        lock(&self.line).packets.is_empty()
    }

    fn is_over(&self) -> bool {
        let line = lock(&self.line);
        line.finished || line.transport.is_none()
    }

    /// The pump ends once all is handed over.
    pub(super) fn finish(&self) {
        lock(&self.line).finished = true;
        self.changed.notify_one();
    }

    /// Drops everything, and takes nothing from now on.
    pub(super) fn end(&self) {
        let mut line = lock(&self.line);
        line.transport = None;
        line.answers = 0;
        line.data = 0;
        let (packets, writers) = (std::mem::take(&mut line.packets), std::mem::take(&mut line.writers));
        drop(line);
        self.own_requests.close();
        for slot in packets.into_iter().filter_map(|(_, holds)| match holds {
            Holds::Slot(slot) => Some(slot),
            _ => None,
        }) {
            slot.release().into_iter().for_each(Waker::wake);
        }
        for slot in writers {
            slot.called().into_iter().for_each(Waker::wake);
        }
        self.changed.notify_one();
    }
}
