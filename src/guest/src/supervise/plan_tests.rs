//! Rules of the supervision, with a clock of their own.

use super::*;

/// A plan, the time, and what runs.
struct World {
    plan: Plan,
    now: Instant,
    pids: i32,
}

impl World {
    fn new(service: Option<Service>) -> Self {
        let mut world = Self { plan: Plan::new(), now: Instant::now(), pids: 10 };
        world.plan.run(service, world.now);
        world
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn step(&mut self) -> Option<Step> {
        self.plan.step(self.now)
    }

    /// Does the start that must be due.
    fn start(&mut self) -> Pid {
        let pid = self.fork();
        assert!(self.plan.started(self.now));
        pid
    }

    /// Does the first half of it: nothing is executed yet.
    fn fork(&mut self) -> Pid {
        let step = self.step();
        assert!(matches!(step, Some(Step::Start(_))), "{step:?}");
        self.pids += 1;
        let Some(pid) = Pid::from_raw(self.pids) else { panic!("zero") };
        self.plan.forked(pid, self.now);
        pid
    }

    /// Lets the service exit and returns the pause before its restart.
    fn exit_and_restart(&mut self, pid: Pid) -> (Duration, Pid) {
        assert!(self.plan.ended(pid, Exit::Status(1), self.now));
        let Some(at) = self.plan.wake_at() else { panic!("no restart is planned") };
        assert_eq!(self.step(), None, "restarted without a pause");
        let pause = at - self.now;
        self.now = at;
        (pause, self.start())
    }
}

fn service() -> Service {
    Service { command: vec!["serve".into()], grace_seconds: 10, port: 8080, ..Service::default() }
}

fn probed_service() -> Service {
    Service { readiness_path: Some("/ready".into()), ..service() }
}

#[test]
fn a_guest_that_is_no_computer_is_not_ready() {
    assert_eq!(Plan::new().state(), ServiceState::default());
}

#[test]
fn a_computer_without_a_service_is_ready_at_once() {
    let mut world = World::new(None);
    assert_eq!(world.step(), None);
    assert!(world.plan.state().ready);
}

#[test]
fn a_service_without_a_readiness_path_is_ready_once_it_was_executed() {
    let mut world = World::new(Some(service()));
    assert!(!world.plan.state().ready);
    world.start();
    assert!(world.plan.state().ready);
}

#[test]
fn restarts_back_off_from_100_ms_to_30_s() {
    let mut world = World::new(Some(service()));
    let mut pid = world.start();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let (pause, next) = world.exit_and_restart(pid);
        pauses.push(pause.as_millis());
        pid = next;
    }
    assert_eq!(pauses[..10], [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000]);
    assert_eq!(pauses[11], 30000);
    assert_eq!(world.plan.state().restarts, 12);
}

#[test]
fn a_minute_of_running_forgives_earlier_failures() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    let (_, pid) = world.exit_and_restart(pid);
    world.pass(STABLE - Duration::from_millis(1));
    let (pause, pid) = world.exit_and_restart(pid);
    assert_eq!(pause, FIRST_DELAY * 2);
    world.pass(STABLE);
    assert_eq!(world.exit_and_restart(pid).0, FIRST_DELAY);
}

#[test]
fn an_end_is_told_with_the_time_of_the_restart() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    world.plan.ended(pid, Exit::Status(3), world.now);
    let state = world.plan.state();
    assert!(!state.ready);
    assert_eq!(state.message.as_deref(), Some("the service exited with status 3; it is restarted in 0.1 s"));
    world.pass(FIRST_DELAY);
    world.start();
    assert_eq!(world.plan.state(), ServiceState { ready: true, restarts: 1, message: None });
}

#[test]
fn a_service_that_is_killed_is_told_once_of_the_memory_limit() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    world.plan.ended(pid, Exit::Signal(9), world.now);
    let told = "the service was killed (signal 9), as happens at the memory limit; it is restarted in 0.1 s";
    assert_eq!(world.plan.state().message.as_deref(), Some(told));
}

#[test]
fn a_program_that_cannot_be_executed_backs_off_as_well() {
    let mut world = World::new(Some(service()));
    assert!(matches!(world.step(), Some(Step::Start(_))));
    world.plan.failed_to_start("command not found: serve", world.now);
    assert_eq!(world.step(), None);
    assert_eq!(
        world.plan.state().message.as_deref(),
        Some("command not found: serve; it is restarted in 0.1 s")
    );
    world.pass(FIRST_DELAY);
    assert!(matches!(world.step(), Some(Step::Start(_))));
    world.plan.failed_to_start("command not found: serve", world.now);
    assert_eq!(world.plan.state().restarts, 1);
    assert_eq!(world.plan.wake_at(), Some(world.now + FIRST_DELAY * 2));
}

#[test]
fn a_program_that_is_not_executed_in_time_is_killed_and_tried_again() {
    let mut world = World::new(Some(service()));
    let pid = world.fork();
    assert!(!world.plan.state().ready && world.plan.is_starting());
    assert_eq!((world.step(), world.plan.pid()), (None, Some(pid)));
    let patience = world.plan.wake_at().unwrap_or(world.now) - world.now;
    assert_eq!(patience, START_PATIENCE);
    world.pass(patience);
    assert_eq!(world.step(), Some(Step::Kill(pid)));
    assert_eq!((world.step(), world.plan.wake_at()), (None, None));
    assert!(!world.plan.started(world.now));
    assert!(world.plan.ended(pid, Exit::Signal(9), world.now));
    let message = world.plan.state().message.unwrap_or_default();
    assert_eq!(message, "the service could not be executed within 30 s; it is restarted in 0.1 s");
    world.pass(FIRST_DELAY);
    world.start();
    assert_eq!(world.plan.state(), ServiceState { ready: true, restarts: 1, message: None });
}

#[test]
fn a_process_that_ends_before_its_program_was_executed_is_a_failed_start() {
    let mut world = World::new(Some(service()));
    let pid = world.fork();
    assert!(world.plan.ended(pid, Exit::Signal(9), world.now));
    assert_eq!(world.plan.wake_at(), Some(world.now + FIRST_DELAY));
    assert!(!world.plan.ended(pid, Exit::Signal(9), world.now));
}

#[test]
fn a_stop_does_not_wait_for_a_program_to_be_executed() {
    let mut world = World::new(Some(service()));
    let pid = world.fork();
    world.plan.stop(world.now);
    assert_eq!(world.step(), Some(Step::Kill(pid)));
    // What comes too late says nothing about what follows.
    assert!(!world.plan.started(world.now));
    world.plan.failed_to_start("command not found: serve", world.now);
    assert_eq!((world.step(), world.plan.is_off()), (None, false));
    world.plan.ended(pid, Exit::Signal(9), world.now);
    assert_eq!((world.step(), world.plan.is_off()), (None, true));
}

#[test]
fn an_equal_service_is_left_alone() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    world.plan.run(Some(service()), world.now);
    assert_eq!(world.step(), None);
    assert_eq!(world.plan.pid(), Some(pid));
    assert!(world.plan.state().ready);
}

#[test]
fn an_equal_service_does_not_shorten_the_pause() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    world.plan.ended(pid, Exit::Status(1), world.now);
    world.plan.run(Some(service()), world.now);
    assert_eq!(world.step(), None);
}

#[test]
fn a_changed_service_replaces_the_old_one_after_its_end() {
    let mut world = World::new(Some(service()));
    let old = world.start();
    let changed = Service { port: 9090, ..service() };
    world.plan.run(Some(changed.clone()), world.now);
    assert_eq!(world.step(), Some(Step::Terminate(old)));
    assert_eq!(world.step(), None);
    assert!(!world.plan.state().ready);
    world.plan.ended(old, Exit::Signal(15), world.now);
    assert_eq!(world.step(), Some(Step::Start(Box::new(changed))));
    assert_eq!(world.plan.state().restarts, 0);
}

#[test]
fn a_service_changed_back_while_it_ends_is_started_again() {
    let mut world = World::new(Some(service()));
    let old = world.start();
    world.plan.run(None, world.now);
    world.plan.run(Some(service()), world.now);
    assert_eq!(world.step(), Some(Step::Terminate(old)));
    world.plan.ended(old, Exit::Signal(15), world.now);
    world.start();
}

#[test]
fn a_service_that_is_no_longer_wanted_is_ended() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    world.plan.run(None, world.now);
    assert_eq!(world.step(), Some(Step::Terminate(pid)));
    world.plan.ended(pid, Exit::Status(0), world.now);
    assert_eq!(world.step(), None);
    assert!(world.plan.is_off() && world.plan.state().ready);
}

#[test]
fn a_stopped_service_is_killed_after_its_grace_and_not_restarted() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    world.plan.stop(world.now);
    assert_eq!(world.step(), Some(Step::Terminate(pid)));
    world.pass(Duration::from_millis(9_999));
    assert_eq!(world.step(), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.step(), Some(Step::Kill(pid)));
    assert_eq!((world.step(), world.plan.wake_at()), (None, None));
    assert!(!world.plan.is_off());
    world.plan.ended(pid, Exit::Signal(9), world.now);
    assert!(world.plan.is_off());
    assert_eq!((world.step(), world.plan.wake_at()), (None, None));
}

#[test]
fn stopping_between_two_runs_starts_nothing() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    world.plan.ended(pid, Exit::Status(1), world.now);
    world.plan.stop(world.now);
    world.pass(LONGEST_DELAY);
    assert_eq!(world.step(), None);
    assert!(world.plan.is_off());
}

#[test]
fn restarts_count_from_when_the_guest_became_this_computer() {
    let mut world = World::new(Some(service()));
    let pid = world.start();
    let (_, pid) = world.exit_and_restart(pid);
    world.plan.stop(world.now);
    world.plan.ended(pid, Exit::Signal(15), world.now);
    world.plan.run(Some(service()), world.now);
    world.start();
    assert_eq!(world.plan.state().restarts, 0);
}

#[test]
fn a_readiness_path_decides_over_readiness() {
    let mut world = World::new(Some(probed_service()));
    let pid = world.start();
    assert!(!world.plan.state().ready);
    assert_eq!(world.step(), Some(Step::Probe { pid, port: 8080, path: "/ready".into() }));
    world.plan.probed(pid, Err("GET / answered 503".into()), world.now);
    let state = world.plan.state();
    assert!(!state.ready && state.message.is_some_and(|message| message.ends_with("answered 503")));
    world.pass(Duration::from_millis(5));
    assert!(matches!(world.step(), Some(Step::Probe { .. })));
    world.plan.probed(pid, Ok(()), world.now);
    assert_eq!(world.plan.state(), ServiceState { ready: true, restarts: 0, message: None });
}

#[test]
fn an_answer_about_an_earlier_run_is_dropped() {
    let mut world = World::new(Some(probed_service()));
    let old = world.start();
    assert!(matches!(world.step(), Some(Step::Probe { .. })));
    let (_, _) = world.exit_and_restart(old);
    world.plan.probed(old, Ok(()), world.now);
    assert!(!world.plan.state().ready);
}

#[test]
fn another_process_that_ends_is_not_the_service() {
    let mut world = World::new(Some(service()));
    world.start();
    let Some(orphan) = Pid::from_raw(4711) else { panic!("zero") };
    assert!(!world.plan.ended(orphan, Exit::Status(0), world.now));
    assert!(world.plan.state().ready);
}
