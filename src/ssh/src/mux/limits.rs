//! What a peer may make this end hold, and the account of it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Bounds of what a peer may occupy. A peer that goes beyond those on requests and answers is disconnected.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The receive window of a channel, in bytes.
    pub window: u32,
    /// The largest data in one packet, in both directions.
    pub max_packet: u32,
    /// The receive windows of all channels together. When they come near to it, new channels get less than
    /// `window`, but never less than one packet.
    pub total_window: u32,
    /// Channels that the peer opened. One counts until its last part is dropped and its number is free. As many more
    /// may be opened by this end.
    pub channels: usize,
    /// Requests of one channel that wait for the consumer or for its answer, and also those of this end that the peer
    /// has not answered.
    pub requests: usize,
    /// The same for requests that concern the connection.
    pub global_requests: usize,
    /// The size of everything that waits for a consumer, data apart.
    pub request_bytes: usize,
    /// Answers that the peer made this end owe and doesn't take.
    pub answers: usize,
    /// Packets of data that wait in the line to the transport.
    pub packets: usize,
}

impl Default for Limits {
    /// Windows and packets as OpenSSH has them; the rest is more than an honest client needs.
    fn default() -> Self {
        Self {
            window: 2 << 20,
            max_packet: 32 << 10,
            total_window: 64 << 20,
            channels: 1024,
            requests: 256,
            global_requests: 256,
            request_bytes: 4 << 20,
            answers: 4096,
            packets: 64,
        }
    }
}

/// Who opened a channel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Peer,
    Own,
}

/// What is occupied now.
#[derive(Debug, Default)]
pub(super) struct Usage {
    peer_channels: AtomicUsize,
    own_channels: AtomicUsize,
    windows: AtomicU64,
    waiting: AtomicUsize,
}

impl Usage {
    fn channels(&self, side: Side) -> &AtomicUsize {
        match side {
            Side::Peer => &self.peer_channels,
            Side::Own => &self.own_channels,
        }
    }

    /// A place for one more channel.
    pub(super) fn channel(self: &Arc<Self>, side: Side, limits: &Limits) -> Option<Charge> {
        if self.channels(side).fetch_add(1, Ordering::Relaxed) >= limits.channels {
            self.channels(side).fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let left = u64::from(limits.total_window).saturating_sub(self.windows.load(Ordering::Relaxed));
        let share = u32::try_from(left / 4).unwrap_or(u32::MAX);
        let window = share.clamp(limits.window.min(limits.max_packet), limits.window);
        self.windows.fetch_add(u64::from(window), Ordering::Relaxed);
        Some(Charge { usage: Arc::clone(self), side, window })
    }

    /// A place for `bytes` that wait for a consumer.
    pub(super) fn waiting(self: &Arc<Self>, bytes: usize, limits: &Limits) -> Option<Weight> {
        /// About what a parsed request and its place in a queue take beside its strings.
        const OVERHEAD: usize = 256;
        let bytes = bytes.saturating_add(OVERHEAD);
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let weight = Weight { usage: Arc::clone(self), bytes };
        (before.saturating_add(bytes) <= limits.request_bytes).then_some(weight)
    }
}

/// The place of a channel; given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    usage: Arc<Usage>,
    side: Side,
    /// The receive window that the channel may have.
    pub(super) window: u32,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.usage.channels(self.side).fetch_sub(1, Ordering::Relaxed);
        self.usage.windows.fetch_sub(u64::from(self.window), Ordering::Relaxed);
    }
}

/// The place of something that waits for a consumer; given back when dropped.
#[derive(Debug)]
pub(super) struct Weight {
    usage: Arc<Usage>,
    bytes: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.usage.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_as_their_sum_nears_the_total_but_hold_a_packet() {
        let limits = Limits { window: 1000, max_packet: 10, total_window: 5000, ..Limits::default() };
        let usage = Arc::new(Usage::default());
        let charges: Vec<_> = std::iter::from_fn(|| usage.channel(Side::Peer, &limits)).take(100).collect();
        let windows: Vec<_> = charges.iter().map(|c| c.window).collect();
        assert_eq!(windows[..4], [1000, 1000, 750, 562]);
        assert_eq!(windows[99], 10);
        assert!(windows.iter().sum::<u32>() <= 5000 + 100 * 10);
        drop(charges);
        assert_eq!(usage.windows.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_side_has_its_own_number_of_channels() {
        let limits = Limits { channels: 1, ..Limits::default() };
        let usage = Arc::new(Usage::default());
        let peer = usage.channel(Side::Peer, &limits).unwrap();
        assert!(usage.channel(Side::Peer, &limits).is_none());
        assert!(usage.channel(Side::Own, &limits).is_some());
        drop(peer);
        assert!(usage.channel(Side::Peer, &limits).is_some());
    }
}
