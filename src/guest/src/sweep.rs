//! Ending every other process of the pod: asked first, then killed until none is left.

use std::time::{Duration, Instant};

/// How long processes have between being asked and being killed.
const ASKED: Duration = Duration::from_secs(1);

/// First pause between two looks; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// Longest pause. A process that sits in the kernel (state D) dies only when it comes out: waiting must cost nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What to send to all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// SIGTERM, with SIGHUP because interactive shells ignore SIGTERM, and SIGCONT because stopped ones hear nothing.
    Ask,
    /// SIGKILL. Sent again at every look, because a process may fork while it is being killed.
    Kill,
}

/// The sweep under way: pure, its caller looks and sends.
#[derive(Debug)]
pub struct Sweep {
    began: Instant,
    asked: bool,
    next: Instant,
    pause: Duration,
}

impl Sweep {
    /// A sweep that begins now.
    pub fn new(now: Instant) -> Self {
        Self { began: now, asked: false, next: now, pause: FIRST_PAUSE }
    }

    /// When to look next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// What to send after a look found processes, if anything.
    pub fn push(&mut self, now: Instant) -> Option<Push> {
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if !std::mem::replace(&mut self.asked, true) {
            return Some(Push::Ask);
        }
        let kill_at = self.began + ASKED;
        if now < kill_at {
            self.next = self.next.min(kill_at);
            return None;
        }
        Some(Push::Kill)
    }

    /// Whether it has been killing for so long that somebody should know what it waits for.
    pub fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) > ASKED * 5
    }
}

/// Sends to every process of the PID namespace but PID 1 itself.
pub fn send(push: Push) {
    let signals: &[i32] = match push {
        Push::Ask => &[libc::SIGTERM, libc::SIGHUP, libc::SIGCONT],
        Push::Kill => &[libc::SIGKILL],
    };
    for signal in signals {
        // SAFETY: kill has no memory effects. Only PID 1 gets here, for which -1 means its own PID namespace; that
        // there is nobody to send to (ESRCH) is fine.
        unsafe { libc::kill(-1, *signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_asked_once_and_killed_at_every_look_after_a_second() {
        let start = Instant::now();
        let mut sweep = Sweep::new(start);
        assert_eq!(sweep.push(start), Some(Push::Ask));
        assert_eq!(sweep.push(start + Duration::from_millis(999)), None);
        assert_eq!(sweep.push(start + ASKED), Some(Push::Kill));
        assert_eq!(sweep.push(start + ASKED * 2), Some(Push::Kill));
    }

    #[test]
    fn looks_become_rare_but_none_misses_the_kill() {
        let start = Instant::now();
        let mut sweep = Sweep::new(start);
        let mut looks = 0;
        while sweep.next() < start + ASKED {
            let now = sweep.next();
            sweep.push(now);
            looks += 1;
        }
        assert!(looks < 15, "{looks} looks in the first second");
        assert_eq!(sweep.next(), start + ASKED);
        for _ in 0..20 {
            let now = sweep.next();
            sweep.push(now);
        }
        let now = sweep.next();
        sweep.push(now);
        assert_eq!(sweep.next() - now, LONGEST_PAUSE);
        assert!(sweep.is_stuck(now));
    }
}
