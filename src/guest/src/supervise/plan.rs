//! What is to happen to the service next. Pure: time and events come in, steps go out.

use std::time::{Duration, Instant};

use rustix::process::Pid;
use sparks_proto::{Service, ServiceState};

use super::probing::Probing;
use crate::reap::Exit;

/// Pause before the first restart; it doubles with every further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Longest pause before a restart.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// A service that ran for so long begins with [`FIRST_DELAY`] again.
const STABLE: Duration = Duration::from_secs(60);

/// How long a program may take to be executed, which its own users can hold up.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What the caller must do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start the service, and answer with [`Plan::forked`] or [`Plan::failed_to_start`].
    Start(Box<Service>),
    /// Ask the service's first process to end.
    Terminate(Pid),
    /// Kill the service's process group.
    Kill(Pid),
    /// Ask whether it is ready, and answer with [`Plan::probed`].
    Probe {
        /// The run that the answer is about.
        pid: Pid,
        /// Where.
        port: u16,
        /// What.
        path: String,
    },
}

/// What should be.
#[derive(Debug)]
enum Goal {
    /// Nothing: the guest is no computer.
    Stopped,
    /// A computer without a service.
    NoService,
    /// This service.
    Service(Box<Service>),
}

/// What is.
#[derive(Debug)]
enum Phase {
    /// No process, and none is planned.
    Off,
    /// No process; one is to be started then.
    Waiting { until: Instant },
    /// A step to start it was handed out.
    Starting,
    /// It has a process, and its program was not executed yet.
    Forked { pid: Pid, kill_at: Instant, killed: bool },
    /// It runs.
    Running { pid: Pid, since: Instant, grace: Duration, probing: Option<Probing> },
    /// It was, or is about to be, told to end.
    Stopping { pid: Pid, kill_at: Instant, told: Told },
}

/// How far the end of a service got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Terminate,
    Kill,
}

/// The supervision of one service.
#[derive(Debug)]
pub struct Plan {
    goal: Goal,
    phase: Phase,
    /// Starts that ended or failed since the last stable run.
    failures: u32,
    /// Whether the next start is a restart.
    again: bool,
    restarts: u32,
    problem: Option<String>,
}

impl Plan {
    /// Nothing is to run yet.
    pub fn new() -> Self {
        Self { goal: Goal::Stopped, phase: Phase::Off, failures: 0, again: false, restarts: 0, problem: None }
    }

    /// Wants that service, or a computer without one. A service equal to the one that is wanted is left alone.
    pub fn run(&mut self, service: Option<Service>, now: Instant) {
        if let (Goal::Service(wanted), Some(service)) = (&self.goal, &service)
            && **wanted == *service
        {
            return;
        }
        if matches!(self.goal, Goal::Stopped) {
            self.restarts = 0;
        }
        self.goal = service.map_or(Goal::NoService, |service| Goal::Service(Box::new(service)));
        self.begin_anew(now);
    }

    /// Wants nothing to run.
    pub fn stop(&mut self, now: Instant) {
        if !matches!(self.goal, Goal::Stopped) {
            self.goal = Goal::Stopped;
            self.begin_anew(now);
        }
    }

    /// Ends what runs; what is wanted follows without a pause.
    fn begin_anew(&mut self, now: Instant) {
        self.failures = 0;
        self.again = false;
        self.problem = None;
        match self.phase {
            Phase::Running { pid, grace, .. } => {
                self.phase = Phase::Stopping { pid, kill_at: now + grace, told: Told::Nothing };
            }
            // Nothing of the service has run that could end in good order.
            Phase::Forked { pid, .. } => {
                self.phase = Phase::Stopping { pid, kill_at: now, told: Told::Terminate };
            }
            Phase::Stopping { .. } => {}
            Phase::Off | Phase::Waiting { .. } | Phase::Starting => self.phase = self.after_end(now),
        }
    }

    /// What follows when no process is left.
    fn after_end(&self, until: Instant) -> Phase {
        match self.goal {
            Goal::Service(_) => Phase::Waiting { until },
            Goal::Stopped | Goal::NoService => Phase::Off,
        }
    }

    /// Notes that there is a process, which will answer with [`Plan::started`] or [`Plan::failed_to_start`].
    pub fn forked(&mut self, pid: Pid, now: Instant) {
        self.phase = Phase::Forked { pid, kill_at: now + START_PATIENCE, killed: false };
    }

    /// Notes that the program was executed; `false` when it is being killed, which looks the same.
    pub fn started(&mut self, now: Instant) -> bool {
        let Phase::Forked { pid, killed: false, .. } = self.phase else { return false };
        let Goal::Service(service) = &self.goal else { return false };
        self.restarts += u32::from(self.again);
        self.problem = None;
        self.phase = Phase::Running {
            pid,
            since: now,
            grace: Duration::from_secs(service.grace_seconds.into()),
            probing: service.readiness_path.as_ref().map(|_| Probing::new(now)),
        };
        true
    }

    /// Notes that the program could not be executed, with a sentence (no full stop) on why.
    pub fn failed_to_start(&mut self, why: &str, now: Instant) {
        if !matches!(self.phase, Phase::Starting | Phase::Forked { .. }) {
            return;
        }
        self.restarts += u32::from(self.again);
        self.retry(why, now);
    }

    /// Notes the end of a process; `false` when it isn't the service's first one.
    pub fn ended(&mut self, ended: Pid, exit: Exit, now: Instant) -> bool {
        match self.phase {
            Phase::Running { pid, since, .. } if pid == ended => {
                if now.saturating_duration_since(since) >= STABLE {
                    self.failures = 0;
                }
                // Nobody but the kernel and the Spark's own users kills a service that isn't being ended.
                let hint =
                    if exit == Exit::Signal(libc::SIGKILL) { ", as happens at the memory limit" } else { "" };
                self.retry(&format!("the service {exit}{hint}"), now);
            }
            Phase::Forked { pid, killed, .. } if pid == ended => {
                let late = format!("the service could not be executed within {} s", START_PATIENCE.as_secs());
                let why = if killed { late } else { format!("the service {exit}") };
                self.failed_to_start(&why, now);
            }
            Phase::Stopping { pid, .. } if pid == ended => self.phase = self.after_end(now),
            _ => return false,
        }
        true
    }

    fn retry(&mut self, why: &str, now: Instant) {
        let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(16)).min(LONGEST_DELAY);
        self.failures = self.failures.saturating_add(1);
        self.again = true;
        self.problem = Some(format!("{why}; it is restarted in {} s", delay.as_secs_f32()));
        self.phase = self.after_end(now + delay);
    }

    /// Notes an answer to [`Step::Probe`]; one about an earlier run is dropped.
    pub fn probed(&mut self, about: Pid, answer: Result<(), String>, now: Instant) {
        if let Phase::Running { pid, probing: Some(probing), .. } = &mut self.phase
            && *pid == about
        {
            probing.note(answer, now);
        }
    }

    /// The next thing that is due. To be called until it returns `None`.
    pub fn step(&mut self, now: Instant) -> Option<Step> {
        match (&mut self.phase, &self.goal) {
            (Phase::Waiting { until }, Goal::Service(service)) if *until <= now => {
                let step = Step::Start(service.clone());
                self.phase = Phase::Starting;
                Some(step)
            }
            (Phase::Forked { pid, kill_at, killed: killed @ false }, _) if *kill_at <= now => {
                *killed = true;
                Some(Step::Kill(*pid))
            }
            (Phase::Stopping { pid, told: told @ Told::Nothing, .. }, _) => {
                *told = Told::Terminate;
                Some(Step::Terminate(*pid))
            }
            (Phase::Stopping { pid, kill_at, told: told @ Told::Terminate }, _) if *kill_at <= now => {
                *told = Told::Kill;
                Some(Step::Kill(*pid))
            }
            (Phase::Running { pid, probing: Some(probing), .. }, Goal::Service(service)) => {
                let path = service.readiness_path.as_ref().filter(|_| probing.take_due(now))?;
                Some(Step::Probe { pid: *pid, port: service.port, path: path.clone() })
            }
            _ => None,
        }
    }

    /// When [`Plan::step`] is to be called next, if no event comes before.
    pub fn wake_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting { until } => Some(*until),
            Phase::Forked { kill_at, killed: false, .. } => Some(*kill_at),
            Phase::Stopping { kill_at, told, .. } if *told != Told::Kill => Some(*kill_at),
            Phase::Running { probing: Some(probing), .. } => probing.next(),
            Phase::Off
            | Phase::Starting
            | Phase::Forked { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. } => None,
        }
    }

    /// Whether a program is about to be executed, or not to be: what is said of the service then would not last.
    pub fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Forked { .. })
    }

    /// Whether nothing runs and nothing will.
    pub fn is_off(&self) -> bool {
        matches!(self.phase, Phase::Off)
    }

    /// The service's first process, while there is one.
    pub fn pid(&self) -> Option<Pid> {
        match self.phase {
            Phase::Forked { pid, .. } | Phase::Running { pid, .. } | Phase::Stopping { pid, .. } => Some(pid),
            Phase::Off | Phase::Waiting { .. } | Phase::Starting => None,
        }
    }

    /// What the agent is told.
    pub fn state(&self) -> ServiceState {
        let (ready, message) = match (&self.goal, &self.phase) {
            (Goal::NoService, _) => (true, None),
            (Goal::Service(_), Phase::Running { probing: None, .. }) => (true, None),
            (Goal::Service(_), Phase::Running { probing: Some(probing), .. }) => {
                let why = probing.reason().map(|why| format!("the service runs, but is not ready: {why}"));
                (probing.is_ready(), why)
            }
            (Goal::Service(_), Phase::Stopping { .. }) => {
                (false, Some("the service before this one is being ended".into()))
            }
            (Goal::Stopped | Goal::Service(_), _) => (false, self.problem.clone()),
        };
        ServiceState { ready, restarts: self.restarts, message }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
