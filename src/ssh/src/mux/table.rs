//! The channels of a connection, by the number that this end gave them.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Channel, OpenFailure, channel::Shared, limits::Charge};

/// A channel that the peer has not yet agreed to.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) reply: oneshot::Sender<Result<Channel, OpenFailure>>,
    pub(super) charge: Charge,
}

/// A number in use.
#[derive(Debug)]
pub(super) enum Entry {
    Opening(Opening),
    Open(Arc<Shared>),
}

impl Entry {
    /// The connection has ended.
    pub(super) fn end(self) {
        match self {
            Self::Opening(opening) => drop(opening.reply.send(Err(OpenFailure::Disconnected))),
            Self::Open(channel) => channel.end(),
        }
    }
}

/// All numbers.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    ended: bool,
}

impl Table {
    /// The lowest free number, for `set`; None after the end.
    pub(super) fn vacant(&self) -> Option<u32> {
        let free = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        u32::try_from(free).ok().filter(|_| !self.ended)
    }

    /// Takes a number that is vacant, or that an opening was taken from.
    pub(super) fn set(&mut self, number: u32, entry: Entry) {
        let place = number as usize;
        if place >= self.entries.len() {
            self.entries.resize_with(place + 1, || None);
        }
        self.entries[place] = Some(entry);
    }

    /// An open channel.
    pub(super) fn open(&self, number: u32) -> Option<Arc<Shared>> {
        match self.entries.get(number as usize)? {
            Some(Entry::Open(channel)) => Some(Arc::clone(channel)),
            _ => None,
        }
    }

    /// Takes what waits for the peer's answer out of its number.
    pub(super) fn take_opening(&mut self, number: u32) -> Option<Opening> {
        let entry = self.entries.get_mut(number as usize)?;
        match entry.take() {
            Some(Entry::Opening(opening)) => Some(opening),
            other => {
                *entry = other;
                None
            }
        }
    }

    /// Frees a number.
    pub(super) fn remove(&mut self, number: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(number as usize)?.take();
        while matches!(self.entries.last(), Some(None)) {
            self.entries.pop();
        }
        entry
    }

    /// Takes everything out, and nothing in from now on.
    pub(super) fn end(&mut self) -> Vec<Entry> {
        self.ended = true;
        std::mem::take(&mut self.entries).into_iter().flatten().collect()
    }
}
