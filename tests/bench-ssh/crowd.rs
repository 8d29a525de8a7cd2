//! Many connections, held.

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    logins::login,
    process::{GATEWAY, GUEST, Memory, Running, memory},
    route::Route,
    world::World,
};

/// Longest wait for those that have begun and aren't through.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of them in one Spark, which takes 256 at most.
const EACH: usize = 100;

/// What became of them.
pub struct Crowd {
    /// How many were wanted, and how many of them in a second.
    pub wanted: (usize, u32),
    /// How many authenticated and were there at the end.
    pub held: usize,
    /// What the first one that failed said.
    pub error: Option<String>,
    /// The gateway's memory: before, while all were there, after they went.
    pub gateway: [Memory; 3],
    /// The guests' memory: before, and while all were there.
    pub guests: [Memory; 2],
    /// Logins while all were there.
    pub logins: Vec<Duration>,
}

/// Opens them at this rate and holds them.
pub fn measure(world: &World, wanted: usize, rate: u32) -> anyhow::Result<Crowd> {
    let sparks: Vec<_> = (0..wanted.div_ceil(EACH)).map(|i| format!("crowd-{i}")).collect();
    world.enterable(&sparks)?;
    // What the first connection of all needs is not each one's.
    login(world.ssh(Route::Gateway))?;
    let before = (memory(GATEWAY)?, memory(GUEST)?);
    let (came, errors) = (world.path("came"), world.path("errors"));
    let mut clients = open(world, &sparks, (wanted, rate), &came, &errors)?;
    let begin = Instant::now();
    while lines(&came) < wanted && begin.elapsed() < PATIENCE {
        sleep(Duration::from_millis(200));
    }
    let during = (memory(GATEWAY)?, memory(GUEST)?);
    let logins = (0..10).map(|_| login(world.ssh(Route::Gateway))).collect::<anyhow::Result<_>>()?;
    let gone = clients.iter_mut().filter_map(|client| client.0.try_wait().ok().flatten()).count();
    let held = lines(&came).saturating_sub(gone);
    drop(clients);
    sleep(Duration::from_secs(3));
    for name in &sparks {
        sparks_tests::spark(world.namespace(), &["rm", name]).ok();
    }
    let error = std::fs::read_to_string(errors)?.lines().next().map(str::to_owned);
    Ok(Crowd {
        wanted: (wanted, rate),
        held,
        error,
        gateway: [before.0, during.0, memory(GATEWAY)?],
        guests: [before.1, during.1],
        logins,
    })
}

/// ssh runs the local command once it is authenticated: each adds a line to `came`.
fn open(
    world: &World,
    sparks: &[String],
    (wanted, rate): (usize, u32),
    came: &Path,
    errors: &Path,
) -> anyhow::Result<Vec<Running>> {
    let append = |path| OpenOptions::new().create(true).append(true).open(path);
    let (came, errors) = (append(came)?, append(errors)?);
    let begin = Instant::now();
    let mut clients = Vec::new();
    for (i, name) in (0..u32::try_from(wanted)?).zip(sparks.iter().cycle()) {
        let due = begin + Duration::from_secs(1) * i / rate;
        sleep(due.saturating_duration_since(Instant::now()));
        let mut ssh = world.ssh_to(name);
        ssh.args(["-N", "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo came"]);
        ssh.stdin(Stdio::null()).stdout(came.try_clone()?).stderr(errors.try_clone()?);
        clients.push(Running::start(&mut ssh)?);
    }
    (&came).flush()?;
    Ok(clients)
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}
