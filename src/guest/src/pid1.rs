//! PID 1: one loop that owns all state. Everything else reports to it or is asked by it.

use std::io;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sparks_proto::{Computer, FromGuest, ServiceState, ToGuest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::awake::Awake;
use crate::control::{self, Connection, ControlError, Event};
use crate::idle::{self, IdleWatch};
use crate::reception::{self, Reception};
use crate::supervise::{self, Launch, Plan, StartError, Step};
use crate::sweep::{self, Sweep};
use crate::{log, processes, readiness, reap};

/// Room in the queues to the loop; who sends waits when they are full.
const QUEUE: usize = 16;

/// Why PID 1 could not begin its work.
#[derive(Debug, thiserror::Error)]
pub enum Pid1Error {
    /// Run by hand.
    #[error(
        "without arguments this is PID 1 of a Spark's pod, and here it is PID {0}; see `sparks-guest --help`"
    )]
    NotPid1(i32),
    /// The runtime or its signal handlers.
    #[error("PID 1 cannot begin: {0}")]
    Begin(#[from] io::Error),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`Pid1Error`], only at the beginning.
pub fn main() -> Result<(), Pid1Error> {
    let pid = rustix::process::getpid();
    // Besides being of no use elsewhere, it kills everything that it can see.
    if pid != Pid::INIT {
        return Err(Pid1Error::NotPid1(pid.as_raw_pid()));
    }
    close_inherited_on_exec();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::chdir("/").map_err(io::Error::from)?;
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(run())
}

/// Marks whatever else the runtime left open as close-on-exec, so that the service gets the standard three only.
fn close_inherited_on_exec() {
    // SAFETY: changes flags of file descriptors only; kernels before 5.11 answer EINVAL, which costs nothing but the
    // precaution.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

async fn run() -> Result<(), Pid1Error> {
    let mut child = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (events, mut happened) = mpsc::channel(QUEUE);
    let (probes, mut probed) = mpsc::channel(QUEUE);
    let (questions, mut asked) = mpsc::channel(1);
    control::listen(events)?;
    reception::listen(questions)?;
    let mut guest = Guest::new(probes);
    loop {
        if guest.settle(Instant::now()) {
            return Ok(());
        }
        let wake = guest.wake_at();
        tokio::select! {
            _ = child.recv() => guest.reap(),
            _ = terminate.recv() => guest.end(Ending::Exit),
            _ = interrupt.recv() => guest.end(Ending::Exit),
            Some(event) = happened.recv() => guest.control(event),
            stream = guest.reception.accept() => guest.reception.receive(stream, Instant::now()),
            Some(asked) = asked.recv() => {
                asked.answer_by(|question| guest.reception.answer(question, Instant::now()));
            }
            outcome = outcome(guest.launch.as_ref()) => guest.launched(outcome),
            Some((pid, answer)) = probed.recv() => guest.plan.probed(pid, answer, Instant::now()),
            () = sleep_until(wake) => {}
        }
    }
}

/// How the start of the service under way ends; never without one.
async fn outcome(launch: Option<&Launch>) -> Result<(), StartError> {
    match launch {
        Some(launch) => launch.outcome().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until then; for ever without a time.
async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

/// Why everything is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Ending {
    /// The root is about to be swapped.
    Quiesce,
    /// The pod ends.
    Exit,
}

/// An answer to a readiness question.
type Probed = (Pid, Result<(), String>);

/// All state of PID 1.
struct Guest {
    plan: Plan,
    /// The start of the service under way.
    launch: Option<Launch>,
    computer: Option<Computer>,
    idle: Option<IdleWatch>,
    awake: Option<Awake>,
    reception: Reception,
    connection: Option<Connection>,
    /// What the agent knows of the service.
    told: Option<ServiceState>,
    ending: Option<Ending>,
    sweep: Option<Sweep>,
    /// What processes that don't die keep the ending waiting for.
    stuck: Option<String>,
    /// A computer to become after the ending.
    next: Option<Computer>,
    probes: mpsc::Sender<Probed>,
}

impl Guest {
    fn new(probes: mpsc::Sender<Probed>) -> Self {
        Self {
            plan: Plan::new(),
            launch: None,
            computer: None,
            idle: None,
            awake: None,
            reception: Reception::default(),
            connection: None,
            told: None,
            ending: None,
            sweep: None,
            stuck: None,
            next: None,
            probes,
        }
    }

    /// Does whatever is due; true when PID 1 is to exit.
    fn settle(&mut self, now: Instant) -> bool {
        while let Some(step) = self.plan.step(now) {
            self.execute(step);
        }
        if self.ending.is_some() && self.plan.is_off() && self.swept(now) {
            match self.ending.take() {
                Some(Ending::Exit) => return true,
                _ => self.quiesced(),
            }
            return self.settle(now);
        }
        self.reception.listen(now);
        self.watch_idle(now);
        self.report();
        false
    }

    fn wake_at(&self) -> Option<Instant> {
        let sweep = self.sweep.as_ref().map(Sweep::next);
        let idle = self.idle.as_ref().map(IdleWatch::next);
        [self.plan.wake_at(), self.reception.wake_at(), sweep, idle].into_iter().flatten().min()
    }

    fn execute(&mut self, step: Step) {
        match step {
            Step::Start(service) => {
                let hostname = self.computer.as_ref().map_or("", |computer| &computer.hostname);
                match supervise::start(&service, hostname) {
                    Ok(launch) => {
                        self.plan.forked(launch.pid, Instant::now());
                        self.launch = Some(launch);
                    }
                    Err(error) => self.failed_to_start(&error),
                }
            }
            // Only the first process is asked: it knows how to end its own ones (as with systemd's KillMode=mixed).
            Step::Terminate(pid) => {
                log::line(format_args!("service asked to end, pid {pid}"));
                let _ = kill_process(pid, Signal::TERM);
            }
            Step::Kill(pid) => {
                log::line(format_args!("service killed after its time, pid {pid}"));
                let _ = kill_process_group(pid, Signal::KILL);
                // One that was not executed yet may have no group of its own.
                let _ = kill_process(pid, Signal::KILL);
            }
            Step::Probe { pid, port, path } => {
                let probes = self.probes.clone();
                tokio::spawn(async move {
                    let answer = readiness::probe(port, &path).await.map_err(|error| error.to_string());
                    let _ = probes.send((pid, answer)).await;
                });
            }
        }
    }

    /// The program of the service was executed, or could not be.
    fn launched(&mut self, outcome: Result<(), StartError>) {
        let Some(launch) = self.launch.take() else { return };
        match outcome {
            Ok(()) => {
                if self.plan.started(Instant::now()) {
                    log::line(format_args!("service started, pid {}", launch.pid));
                }
            }
            Err(error) => self.failed_to_start(&error),
        }
    }

    fn failed_to_start(&mut self, error: &StartError) {
        log::line(format_args!("service not started: {error}"));
        self.plan.failed_to_start(&error.to_string(), Instant::now());
    }

    /// What has ended may have said that it could not be executed, and not be heard yet.
    fn hear_last_words(&mut self, ended: Pid) {
        let launch = self.launch.take_if(|launch| launch.pid == ended);
        if let Some(Err(error)) = launch.map(|launch| launch.last_words()) {
            self.failed_to_start(&error);
        }
    }

    /// Collects the ended; what a service left in its process group goes with it.
    fn reap(&mut self) {
        let now = Instant::now();
        reap::collect(|pid, exit| {
            self.reception.ended(pid, exit);
            self.hear_last_words(pid);
            if self.plan.ended(pid, exit, now) {
                let _ = kill_process_group(pid, Signal::KILL);
                log::line(format_args!("service pid {pid} {exit}"));
            }
        });
    }

    fn control(&mut self, event: Event) {
        match event {
            Event::Connected(connection) => {
                self.connection = Some(connection);
                self.send(FromGuest::Hello {
                    version: sparks_proto::VERSION,
                    running: self.computer.clone(),
                });
                self.told = None;
                self.report();
                self.report_idle(Instant::now());
            }
            Event::Closed(id) => drop(self.connection.take_if(|connection| connection.id == id)),
            Event::Message(id, message) if self.connection.as_ref().is_some_and(|now| now.id == id) => {
                match *message {
                    ToGuest::Run(computer) => self.run(computer),
                    ToGuest::Quiesce => self.end(Ending::Quiesce),
                }
            }
            // A newer connection has taken over.
            Event::Message(..) => {}
        }
    }

    fn run(&mut self, computer: Computer) {
        match self.ending {
            Some(Ending::Exit) => {}
            Some(Ending::Quiesce) => self.next = Some(computer),
            None => {
                let now = Instant::now();
                // Before the service runs, which could take the port.
                self.reception.open(computer.ssh.clone(), now);
                self.plan.run(computer.service.clone(), now);
                if self.awake.is_none() {
                    self.awake = Awake::open();
                }
                self.computer = Some(computer);
                self.idle.get_or_insert_with(|| IdleWatch::new(now));
                self.told = None;
                // The agent forgot it along with the old computer.
                self.report_idle(now);
            }
        }
    }

    /// Begins to end everything. That the pod ends outweighs that the root is swapped.
    fn end(&mut self, ending: Ending) {
        if self.ending < Some(ending) {
            self.ending = Some(ending);
        }
        // Whoever asks for the end after a new computer was announced doesn't want that one any more.
        self.next = None;
        self.idle = None;
        self.reception.close();
        self.plan.stop(Instant::now());
    }

    /// Goes on ending all other processes; true when none is left, or when exiting will end the rest.
    fn swept(&mut self, now: Instant) -> bool {
        let sweep = self.sweep.get_or_insert_with(|| Sweep::new(now));
        if sweep.next() > now {
            return false;
        }
        let left = processes::others();
        if left.as_ref().is_ok_and(Vec::is_empty) {
            self.sweep = None;
            return true;
        }
        let push = sweep.push(now);
        if let Some(push) = push {
            sweep::send(push);
        }
        // The kernel kills the rest, and waits for it, when PID 1 of a namespace exits.
        if push == Some(sweep::Push::Kill) && self.ending == Some(Ending::Exit) {
            return true;
        }
        if sweep.is_stuck(now) && self.stuck.is_none() {
            let what = match left {
                Ok(left) => left.first().map(|p| format!("process {} ({}) does not die", p.pid, p.name)),
                Err(error) => Some(format!("/proc cannot be listed: {error}")),
            };
            self.stuck = what.map(|what| format!("the computer cannot be put down: {what}"));
            log::line(format_args!("{}", self.stuck.as_deref().unwrap_or_default()));
        }
        false
    }

    /// Everything has ended: this is no computer any more, and nothing of its root may be held.
    fn quiesced(&mut self) {
        self.computer = None;
        self.awake = None;
        self.stuck = None;
        let next = self.next.take();
        if let Err(error) = rustix::process::chdir("/") {
            log::line(format_args!("cannot stand in /: {error}"));
        }
        log::line(format_args!("quiesced"));
        self.send(FromGuest::Quiesced);
        if let Some(next) = next {
            self.run(next);
        }
    }

    fn watch_idle(&mut self, now: Instant) {
        let Some(watch) = self.idle.as_mut().filter(|watch| watch.next() <= now) else { return };
        let awake = self.awake.as_ref().is_some_and(Awake::is_held);
        // What can't be seen can't be called idle.
        let in_use = awake
            || processes::others().map_or(true, |mut others| {
                others.retain(|process| !self.reception.is_stranger(process));
                idle::in_use(&others, self.plan.pid(), idle::terminals())
            });
        if watch.note(in_use, now) {
            self.report_idle(now);
        }
    }

    fn report_idle(&mut self, now: Instant) {
        if let Some(for_seconds) = self.idle.as_ref().and_then(|watch| watch.report(now)) {
            self.send(FromGuest::Idle { for_seconds });
        }
    }

    /// Tells the agent about the service when it knows something else, or nothing yet.
    fn report(&mut self) {
        if self.connection.is_none() || self.plan.is_starting() {
            return;
        }
        let mut state = self.plan.state();
        if let Some(stuck) = &self.stuck {
            state.message = Some(stuck.clone());
        }
        if self.told.as_ref() != Some(&state) {
            self.send(FromGuest::Service(state.clone()));
            self.told = Some(state);
        }
    }

    /// Sends to the current agent, if there is one; one that doesn't keep up is hung up on and will dial again.
    fn send(&mut self, message: FromGuest) {
        self.connection.take_if(|connection| !connection.send(message));
    }
}
