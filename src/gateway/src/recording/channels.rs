//! The numbers of a connection's channels: which are in use, and which of them are sessions.
//!
//! Both ends choose numbers, and either may be hostile. A number names one channel from its OPEN, or from the answer to
//! the other end's, until the channel is closed (RFC 4254, section 5), so that no session can be lost from sight behind
//! another channel.

use std::collections::HashMap;

use super::{RecordError, Side, session::Session};

/// Most channels of one connection. A guest allows 1024 that its client opens, and opens as many itself.
const MAX_CHANNELS: usize = 4096;

/// All channels of one connection.
#[derive(Default)]
pub struct Channels {
    /// By the client's number, to which all that the guest says is addressed.
    by_client: HashMap<u32, Channel>,
    /// The guest's number to the client's, for what the client says; none as long as the client has not answered the
    /// guest's OPEN.
    by_guest: HashMap<u32, Option<u32>>,
}

struct Channel {
    state: State,
    session: Option<Session>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client waits for the guest's answer.
    Pending,
    Open,
    ClosedBy(Side),
}

impl Channels {
    /// The client opens a channel.
    pub fn client_opens(&mut self, number: u32, session: Option<Session>) -> Result<(), RecordError> {
        self.check_room()?;
        self.add(number, Channel { state: State::Pending, session })
    }

    /// The guest opens a channel.
    pub fn guest_opens(&mut self, number: u32) -> Result<(), RecordError> {
        self.check_room()?;
        self.number_of_guest(number, None)
    }

    /// The guest agrees to a channel of the client, and gives it a number.
    pub fn guest_confirms(&mut self, client: u32, guest: u32) -> Result<(), RecordError> {
        if !self.is_pending(client) {
            return Err(RecordError::NotAsked(Side::Guest));
        }
        self.number_of_guest(guest, Some(client))?;
        if let Some(channel) = self.by_client.get_mut(&client) {
            channel.state = State::Open;
        }
        Ok(())
    }

    /// The guest refuses a channel of the client.
    pub fn guest_refuses(&mut self, client: u32) -> Result<(), RecordError> {
        if !self.is_pending(client) {
            return Err(RecordError::NotAsked(Side::Guest));
        }
        self.by_client.remove(&client);
        Ok(())
    }

    /// The client agrees to a channel of the guest, and gives it a number.
    pub fn client_confirms(&mut self, guest: u32, client: u32) -> Result<(), RecordError> {
        self.client_answers(guest)?;
        self.add(client, Channel { state: State::Open, session: None })?;
        self.number_of_guest(guest, Some(client))
    }

    /// The client refuses a channel of the guest.
    pub fn client_refuses(&mut self, guest: u32) -> Result<(), RecordError> {
        self.client_answers(guest)
    }

    /// The client closes its side, and so may not name the guest's number again. The guest gives it to another channel
    /// as soon as it reads this, which may be before its own CLOSE leaves. Gives the session of a channel that is over.
    pub fn client_closes(&mut self, guest: u32) -> Option<Session> {
        let client = self.by_guest.get(&guest).copied().flatten()?;
        self.by_guest.remove(&guest);
        self.close(client, Side::Client)
    }

    /// The guest closes its side. Gives the session of a channel that is over.
    pub fn guest_closes(&mut self, client: u32) -> Option<Session> {
        self.close(client, Side::Guest)
    }

    /// The session that the guest speaks of.
    pub fn of_client_number(&mut self, client: u32) -> Option<&mut Session> {
        self.by_client.get_mut(&client)?.session.as_mut()
    }

    /// The session that the client speaks of.
    pub fn of_guest_number(&mut self, guest: u32) -> Option<&mut Session> {
        let client = self.by_guest.get(&guest).copied().flatten()?;
        self.of_client_number(client)
    }

    /// All sessions that are left.
    pub fn into_sessions(self) -> impl Iterator<Item = Session> {
        self.by_client.into_values().filter_map(|channel| channel.session)
    }

    fn check_room(&self) -> Result<(), RecordError> {
        // An open channel is in both.
        if self.by_client.len() + self.by_guest.len() >= 2 * MAX_CHANNELS {
            return Err(RecordError::TooManyChannels);
        }
        Ok(())
    }

    fn add(&mut self, number: u32, channel: Channel) -> Result<(), RecordError> {
        if self.by_client.contains_key(&number) {
            return Err(RecordError::InUse(Side::Client, number));
        }
        self.by_client.insert(number, channel);
        Ok(())
    }

    fn number_of_guest(&mut self, guest: u32, client: Option<u32>) -> Result<(), RecordError> {
        if self.by_guest.contains_key(&guest) {
            return Err(RecordError::InUse(Side::Guest, guest));
        }
        self.by_guest.insert(guest, client);
        Ok(())
    }

    fn is_pending(&self, client: u32) -> bool {
        self.by_client.get(&client).is_some_and(|channel| channel.state == State::Pending)
    }

    fn client_answers(&mut self, guest: u32) -> Result<(), RecordError> {
        if self.by_guest.get(&guest) != Some(&None) {
            return Err(RecordError::NotAsked(Side::Client));
        }
        self.by_guest.remove(&guest);
        Ok(())
    }

    fn close(&mut self, client: u32, by: Side) -> Option<Session> {
        let channel = self.by_client.get_mut(&client)?;
        match channel.state {
            State::Open => channel.state = State::ClosedBy(by),
            State::ClosedBy(first) if first != by => return self.by_client.remove(&client)?.session,
            State::Pending | State::ClosedBy(_) => {}
        }
        None
    }
}
