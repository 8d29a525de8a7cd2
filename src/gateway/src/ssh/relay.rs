//! Between the client's transport and the guest's.
//!
//! Without a tap the packets of the two are crossed: what one receives the other one sends, and the bounded queues
//! between them make a slow side hold up the other one. Channels, windows and requests are a matter between client
//! and guest. With a tap they pass through a task that sees each.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use sparks_ssh::{Packets, TransportEnds, crossed, queues};
use tokio::sync::mpsc::{Receiver, Sender};

/// How long a side that is left may take for what the other one said last.
const FINISHES_WITHIN: Duration = Duration::from_secs(30);

/// From where a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The guest.
    Guest,
}

/// Sees every packet of a connection before it is passed on.
pub trait Tap: Send + 'static {
    /// Sees one packet. An error is a sentence for the client: the packet is not passed on, and the connection ends.
    ///
    /// # Errors
    /// When the connection must end.
    fn pass(&mut self, from: Side, packet: &Bytes) -> Result<(), String>;

    /// Waits until it can see a further packet.
    fn ready(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The connection is over.
    fn finish(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A slot with a transport's ends of the queues, from which that transport takes them once it is authenticated. As long
/// as they are in it, somebody else may speak to the other transport.
#[derive(Clone, Debug)]
pub struct Slot(Arc<Mutex<Option<TransportEnds>>>);

impl Slot {
    fn new(ends: TransportEnds) -> Self {
        Self(Arc::new(Mutex::new(Some(ends))))
    }

    /// Takes them.
    pub fn take(&self) -> Option<TransportEnds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether they have been taken.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// The queues between a client and a guest, neither of which needs to be there yet.
pub struct Link {
    /// The client's ends.
    pub client: TransportEnds,
    /// The guest's ends.
    pub guest: Slot,
    /// What goes to the guest before all that the client sends.
    pub first: Sender<Bytes>,
    /// What has to be passed on by [`pump`]; nothing when the queues are crossed.
    pub between: Option<Between>,
}

/// The other ends of both transports' queues.
pub struct Between {
    /// Of the client.
    pub client: Packets,
    /// Of the guest.
    pub guest: Packets,
}

impl Link {
    /// Queues with, or without, room for a tap.
    #[must_use]
    pub fn new(tapped: bool) -> Self {
        if tapped {
            let (client, client_packets) = queues();
            let (guest, guest_packets) = queues();
            let first = guest_packets.outgoing.clone();
            let between = Some(Between { client: client_packets, guest: guest_packets });
            return Self { client, guest: Slot::new(guest), first, between };
        }
        let (client, guest) = crossed();
        let first = client.0.clone();
        Self { client, guest: Slot::new(guest), first, between: None }
    }

    /// Whether the guest had been there and has gone, before a client used it.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.first.is_closed()
    }
}

/// The client's packets, for somebody who speaks to it in place of a guest that could not be reached.
#[must_use]
pub fn instead_of_guest(slot: &Slot) -> Option<Packets> {
    slot.take().map(|(outgoing, incoming)| Packets { incoming, outgoing })
}

/// How passing on has ended.
#[derive(Debug)]
pub enum Ended {
    /// One of the sides has gone; the other one follows.
    Gone,
    /// The tap wants the connection to end; its sentence, and the client's packets to say it.
    Refused(String, Packets),
}

/// Passes the packets on, each direction as fast as its receiver takes them, and shows them to the tap.
pub async fn pump(between: Between, mut tap: Option<Box<dyn Tap>>) -> Ended {
    let ended = pass(between, tap.as_mut()).await;
    if let Some(tap) = tap {
        tap.finish().await;
    }
    ended
}

async fn pass(between: Between, mut tap: Option<&mut Box<dyn Tap>>) -> Ended {
    let Between { mut client, mut guest } = between;
    let mut to_guest = Way::default();
    let mut to_client = Way::default();
    loop {
        if let Some(tap) = &mut tap {
            tap.ready().await;
        }
        let (from, step) = tokio::select! {
            step = to_guest.step(&mut client.incoming, &guest.outgoing), if to_guest.is_open => (Side::Client, step),
            step = to_client.step(&mut guest.incoming, &client.outgoing), if to_client.is_open => (Side::Guest, step),
            else => return Ended::Gone,
        };
        let way = if from == Side::Client { &mut to_guest } else { &mut to_client };
        match step {
            Step::Packet(packet) => {
                if let Some(tap) = &mut tap
                    && let Err(sentence) = tap.pass(from, &packet)
                {
                    return Ended::Refused(sentence, client);
                }
                way.held = Some(packet);
            }
            // The other direction may still have what that side said last.
            Step::NoReceiver => way.is_open = false,
            Step::NoSender => break,
        }
    }
    let rest = async {
        tokio::join!(to_guest.finish(&guest.outgoing), to_client.finish(&client.outgoing));
    };
    // A transport whose peer takes nothing gives up by itself, after the same time.
    let _ = tokio::time::timeout(FINISHES_WITHIN, rest).await;
    Ended::Gone
}

/// One direction.
struct Way {
    held: Option<Bytes>,
    is_open: bool,
}

enum Step {
    Packet(Bytes),
    NoSender,
    NoReceiver,
}

impl Default for Way {
    fn default() -> Self {
        Self { held: None, is_open: true }
    }
}

impl Way {
    /// Hands over what is held, then takes the next packet. Cancel-safe: what is held stays so until there is room.
    async fn step(&mut self, from: &mut Receiver<Bytes>, to: &Sender<Bytes>) -> Step {
        if self.held.is_some() {
            let Ok(room) = to.reserve().await else { return Step::NoReceiver };
            if let Some(packet) = self.held.take() {
                room.send(packet);
            }
        }
        from.recv().await.map_or(Step::NoSender, Step::Packet)
    }

    async fn finish(self, to: &Sender<Bytes>) {
        if let Some(packet) = self.held {
            let _ = to.send(packet).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Counts packets, and refuses the one that says so.
    struct Counter(tokio::sync::mpsc::UnboundedSender<(Side, Bytes)>);

    impl Tap for Counter {
        fn pass(&mut self, from: Side, packet: &Bytes) -> Result<(), String> {
            self.0.send((from, packet.clone())).unwrap();
            if packet.ends_with(b"stop") { Err("no".into()) } else { Ok(()) }
        }

        fn finish(self: Box<Self>) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    fn packet(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn what_was_put_first_reaches_the_guest_before_the_clients_packets() {
        for tapped in [false, true] {
            let link = Link::new(tapped);
            let (_to_client, mut guest) = link.guest.take().unwrap();
            link.first.try_send(packet("context")).unwrap();
            if let Some(between) = link.between {
                tokio::spawn(pump(between, None));
            }
            link.client.0.send(packet("a")).await.unwrap();
            assert_eq!(guest.recv().await.unwrap(), "context");
            assert_eq!(guest.recv().await.unwrap(), "a");
        }
    }

    #[tokio::test]
    async fn what_a_guest_said_last_reaches_the_client_though_the_guest_takes_nothing_any_more() {
        let Link { client: (to_guest, mut from_guest), guest, between, first } = Link::new(true);
        drop(first);
        let (to_client, taken_by_guest) = guest.take().unwrap();
        drop(taken_by_guest);
        to_guest.send(packet("lost")).await.unwrap();
        to_guest.send(packet("lost")).await.unwrap();
        for _ in 0..sparks_ssh::QUEUE {
            to_client.send(packet("data")).await.unwrap();
        }
        drop(to_client);
        let pump = tokio::spawn(pump(between.unwrap(), None));
        for _ in 0..sparks_ssh::QUEUE {
            assert_eq!(from_guest.recv().await.unwrap(), "data");
        }
        assert!(from_guest.recv().await.is_none(), "then the client is let go");
        assert!(matches!(pump.await.unwrap(), Ended::Gone));
    }

    #[tokio::test]
    async fn a_side_that_takes_nothing_does_not_hold_up_the_other_direction() {
        let Link { client: (to_guest, _stuck), guest, between, .. } = Link::new(true);
        let (to_client, mut from_client) = guest.take().unwrap();
        tokio::spawn(pump(between.unwrap(), None));
        // As many as fit into both queues and the hand of the pump.
        for _ in 0..2 * sparks_ssh::QUEUE + 1 {
            to_client.send(packet("data")).await.unwrap();
        }
        for _ in 0..100 {
            to_guest.send(packet("key")).await.unwrap();
            assert_eq!(from_client.recv().await.unwrap(), "key");
        }
    }

    #[tokio::test]
    async fn a_tap_sees_both_directions_and_what_it_refuses_is_not_passed_on() {
        let Link { client: (to_guest, mut from_guest), guest, between, first } = Link::new(true);
        drop(first);
        let (to_client, mut from_client) = guest.take().unwrap();
        let (seen, mut all) = tokio::sync::mpsc::unbounded_channel();
        let pump = tokio::spawn(pump(between.unwrap(), Some(Box::new(Counter(seen)))));
        to_guest.send(packet("in")).await.unwrap();
        assert_eq!(from_client.recv().await.unwrap(), "in");
        to_client.send(packet("out")).await.unwrap();
        assert_eq!(from_guest.recv().await.unwrap(), "out");
        to_guest.send(packet("stop")).await.unwrap();
        assert!(from_client.recv().await.is_none(), "the guest is let go");
        let Ended::Refused(sentence, client) = pump.await.unwrap() else { panic!("it has to be refused") };
        assert_eq!(sentence, "no");
        client.outgoing.send(packet("bye")).await.unwrap();
        assert_eq!(from_guest.recv().await.unwrap(), "bye");
        let sides: Vec<_> = std::iter::from_fn(|| all.try_recv().ok()).map(|(side, _)| side).collect();
        assert_eq!(sides, [Side::Client, Side::Guest, Side::Client]);
    }
}
