//! When to ask a service whether it is ready.

use std::time::{Duration, Instant};

/// Growth of the pause between the first questions.
const STEP: Duration = Duration::from_millis(5);

/// Longest pause while a service is young.
const LONGEST_STEP: Duration = Duration::from_millis(200);

/// How long a service counts as young.
const YOUNG: Duration = Duration::from_secs(30);

/// Pause between questions to an older service that isn't ready.
const UNREADY: Duration = Duration::from_secs(2);

/// Pause between questions to a service that is ready.
const READY: Duration = Duration::from_secs(5);

/// So many failures in a row end readiness.
const FAILURES: u32 = 3;

/// The questions to one run of the service.
#[derive(Debug)]
pub struct Probing {
    began: Instant,
    /// `None` while a question is under way.
    next: Option<Instant>,
    asked: u32,
    failures: u32,
    ready: bool,
    /// Why the last question failed, while the service isn't ready.
    reason: Option<String>,
}

impl Probing {
    /// Questions to a service that was started now.
    pub fn new(now: Instant) -> Self {
        Self { began: now, next: Some(now), asked: 0, failures: 0, ready: false, reason: None }
    }

    /// When to ask next, unless a question is under way.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether to ask now; says so once for each question.
    pub fn take_due(&mut self, now: Instant) -> bool {
        self.next.take_if(|next| *next <= now).is_some()
    }

    /// Notes an answer.
    pub fn note(&mut self, answer: Result<(), String>, now: Instant) {
        self.asked = self.asked.saturating_add(1);
        match answer {
            Ok(()) => {
                self.failures = 0;
                self.ready = true;
                self.reason = None;
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                self.ready &= self.failures < FAILURES;
                self.reason = (!self.ready).then_some(reason);
            }
        }
        self.next = Some(now + self.pause(now));
    }

    /// Whether the service is ready.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Why it isn't, once that is known.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn pause(&self, now: Instant) -> Duration {
        if self.ready {
            READY
        } else if now.saturating_duration_since(self.began) < YOUNG {
            (STEP * self.asked).min(LONGEST_STEP)
        } else {
            UNREADY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<(), String> {
        Err("GET / failed".into())
    }

    /// Answers the question that is due next; returns when that was.
    fn answer(probing: &mut Probing, answer: Result<(), String>) -> Instant {
        let Some(now) = probing.next() else { panic!("no question is planned") };
        assert!(probing.take_due(now));
        probing.note(answer, now);
        now
    }

    #[test]
    fn a_young_service_is_asked_in_growing_steps_and_an_old_one_every_two_seconds() {
        let start = Instant::now();
        let mut probing = Probing::new(start);
        let mut times = Vec::new();
        while times.last().is_none_or(|last| *last < start + YOUNG + UNREADY * 2) {
            times.push(answer(&mut probing, failed()));
        }
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses[..3], [STEP, STEP * 2, STEP * 3]);
        assert_eq!(pauses[60], LONGEST_STEP);
        assert_eq!(pauses.last(), Some(&UNREADY));
    }

    #[test]
    fn there_is_one_question_at_a_time() {
        let start = Instant::now();
        let mut probing = Probing::new(start);
        assert!(probing.take_due(start));
        assert!(!probing.take_due(start + READY));
        assert_eq!(probing.next(), None);
    }

    #[test]
    fn readiness_ends_after_three_failures_in_a_row_and_returns_with_one_success() {
        let mut probing = Probing::new(Instant::now());
        let first = answer(&mut probing, Ok(()));
        assert!(probing.is_ready());
        assert_eq!(probing.next(), Some(first + READY));
        for _ in 0..2 {
            answer(&mut probing, failed());
            assert!(probing.is_ready() && probing.reason().is_none());
        }
        answer(&mut probing, Ok(()));
        for _ in 0..3 {
            answer(&mut probing, failed());
        }
        assert!(!probing.is_ready());
        assert_eq!(probing.reason(), Some("GET / failed"));
        answer(&mut probing, Ok(()));
        assert!(probing.is_ready() && probing.reason().is_none());
    }
}
