//! What is known of a container and its guest.

use std::time::Duration;

use jiff::Timestamp;
use sparks_proto::{Computer, FromGuest, ServiceState};
use tokio::time::Instant;

/// Longest message of a guest that is shown, in characters.
const MAX_MESSAGE: usize = 512;

/// What a container stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its own image: it is warm.
    Image,
    /// A disk of the Volume with this uid.
    Volume(String),
}

/// What is known of a guest, for one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuestView {
    /// What its container stands in; none until the machine was asked.
    pub standing: Option<Standing>,
    /// Whether the connection is open and the guest has introduced itself.
    pub connected: bool,
    /// The computer that it is, or was told to be.
    pub running: Option<Computer>,
    /// State of the service, once it has been said since the last Run.
    pub service: Option<ServiceState>,
    /// When the service was ready first since the last Run.
    pub ready_at: Option<Instant>,
    /// Since when it is idle.
    pub idle_since: Option<Timestamp>,
    /// When it was told to quiesce.
    pub quiesce_sent: Option<Instant>,
    /// Nothing of the old root is in use.
    pub quiesced: bool,
}

/// The same, as it is kept.
#[derive(Default)]
pub(super) struct State {
    pub standing: Option<Standing>,
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// The machine was asked about it once, with or without an answer.
    pub looked_at: bool,
    /// The container is gone.
    pub forgotten: bool,
    connected: bool,
    running: Option<Computer>,
    service: Option<ServiceState>,
    ready_at: Option<Instant>,
    idle_since: Option<Timestamp>,
    quiesce_sent: Option<Instant>,
    quiesced: bool,
}

impl State {
    pub fn view(&self) -> GuestView {
        GuestView {
            standing: self.standing.clone(),
            connected: self.connected,
            running: self.running.clone(),
            service: self.service.clone(),
            ready_at: self.ready_at,
            idle_since: self.idle_since,
            quiesce_sent: self.quiesce_sent,
            quiesced: self.quiesced,
        }
    }

    pub fn stands_in(&self, volume_uid: &str) -> bool {
        matches!(&self.standing, Some(Standing::Volume(uid)) if uid == volume_uid)
    }

    /// The guest introduced itself on a new connection.
    pub fn hello(&mut self, running: Option<Computer>) {
        self.connected = true;
        self.running = running;
        (self.service, self.ready_at, self.idle_since) = (None, None, None);
        (self.quiesce_sent, self.quiesced) = (None, false);
    }

    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// A guest whose SSH server alone is another goes on running the same service, of which it has nothing to say.
    pub fn told_to_run(&mut self, computer: Computer) {
        let body = |computer: &Computer| Computer { ssh: None, ..computer.clone() };
        let goes_on = self.running.as_ref().is_some_and(|old| body(old) == body(&computer));
        self.running = Some(computer);
        if !goes_on {
            (self.service, self.ready_at, self.idle_since) = (None, None, None);
        }
        (self.quiesce_sent, self.quiesced) = (None, false);
    }

    pub fn told_to_quiesce(&mut self) {
        self.quiesce_sent = Some(Instant::now());
        self.quiesced = false;
    }

    /// Takes in what the guest says; true if it is news.
    pub fn heard(&mut self, message: FromGuest, now: Timestamp) -> bool {
        match message {
            // Only the first message of a connection may be that.
            FromGuest::Hello { .. } => false,
            FromGuest::Service(mut service) => {
                service.message = service.message.map(|text| printable(&text));
                if service.ready {
                    self.ready_at.get_or_insert_with(Instant::now);
                }
                let news = self.service.as_ref() != Some(&service);
                self.service = Some(service);
                news
            }
            FromGuest::Quiesced => {
                // Unasked, it would make the agent believe that an old root is free.
                self.quiesced = self.quiesce_sent.is_some();
                self.running = None;
                true
            }
            FromGuest::Idle { for_seconds } => {
                let since = for_seconds
                    .and_then(|s| now.checked_sub(Duration::from_secs(s.min(u32::MAX.into()))).ok());
                // Whole seconds come late by a part of one; a moved start would be a write for nothing.
                let same = match (self.idle_since, since) {
                    (Some(old), Some(new)) => (old.as_second() - new.as_second()).abs() <= 2,
                    (old, new) => old == new,
                };
                if !same {
                    self.idle_since = since;
                }
                !same
            }
        }
    }
}

/// One line of at most [`MAX_MESSAGE`] characters.
fn printable(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn service(ready: bool, message: Option<&str>) -> FromGuest {
        FromGuest::Service(ServiceState { ready, restarts: 0, message: message.map(Into::into) })
    }

    #[test]
    fn a_guests_message_is_cut_and_stripped_of_control_characters() {
        let mut state = State::default();
        state.heard(service(false, Some(&format!("a\u{1b}[31m\n{}", "ä".repeat(2000)))), NOW);
        let message = state.view().service.unwrap().message.unwrap();
        assert_eq!(message.chars().count(), MAX_MESSAGE);
        assert!(message.starts_with("a [31m "));
    }

    #[test]
    fn what_was_said_before_a_run_does_not_count_after_it() {
        let mut state = State::default();
        state.heard(service(true, None), NOW);
        state.told_to_run(Computer::default());
        assert_eq!((state.view().service, state.view().ready_at), (None, None));
    }

    #[test]
    fn a_run_that_changes_only_the_ssh_server_takes_nothing_back() {
        let mut state = State::default();
        state.told_to_run(Computer::default());
        state.heard(service(true, None), NOW);
        state.heard(FromGuest::Idle { for_seconds: Some(1) }, NOW);
        let before = state.view();
        state.told_to_run(Computer { ssh: Some(sparks_proto::SshServer::default()), ..Default::default() });
        let after = state.view();
        assert_eq!(
            (after.service, after.ready_at, after.idle_since),
            (before.service, before.ready_at, before.idle_since)
        );
        state.told_to_run(Computer { hostname: "other".into(), ..Default::default() });
        assert_eq!((state.view().service, state.view().idle_since), (None, None));
    }

    #[test]
    fn quiesced_counts_only_when_it_was_asked_for() {
        let mut state = State::default();
        state.heard(FromGuest::Quiesced, NOW);
        assert!(!state.view().quiesced);
    }

    #[test]
    fn an_idle_time_that_only_ages_is_no_news() {
        let mut state = State::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(state.heard(FromGuest::Idle { for_seconds: Some(100) }, at(1000)));
        assert!(!state.heard(FromGuest::Idle { for_seconds: Some(160) }, at(1061)));
        assert!(state.heard(FromGuest::Idle { for_seconds: None }, at(1062)));
    }

    #[test]
    fn an_absurd_idle_time_does_no_harm() {
        State::default().heard(FromGuest::Idle { for_seconds: Some(u64::MAX) }, NOW);
    }
}
