//! How soon a typed letter is on the screen.

use std::{
    fs::File,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use sparks_tests::eventually;

use crate::{process::Running, route::Route, terminal::Terminal, world::World};

/// Between two letters.
const PAUSE: Duration = Duration::from_millis(10);
/// Until a load is at its full speed.
const WARM_UP: Duration = Duration::from_secs(1);
/// Letters in one connection; then it is another's turn.
const BLOCK: usize = 50;
/// Who is compared.
const ROUTES: [Route; 3] = [Route::Sshd, Route::SshdAlike, Route::Gateway];

/// What else goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Nothing.
    Idle,
    /// A channel of the same connection receives as much as it can.
    SameConnectionFrom,
    /// A channel of the same connection sends as much as it can.
    SameConnectionInto,
    /// Another connection receives as much as it can.
    OtherConnection,
}

/// All of them.
pub const LOADS: [Load; 4] =
    [Load::Idle, Load::SameConnectionFrom, Load::SameConnectionInto, Load::OtherConnection];

/// The echoes of one way under one load.
pub struct Echoes {
    /// The load.
    pub load: Load,
    /// The way.
    pub route: Route,
    /// How long each took.
    pub times: Vec<Duration>,
}

/// This many letters by every way under every load.
pub fn measure(world: &World, letters: usize) -> anyhow::Result<Vec<Echoes>> {
    let mut all = Vec::new();
    for load in LOADS {
        let mut of_this = ROUTES.map(|route| Echoes { load, route, times: Vec::new() });
        while of_this[0].times.len() < letters {
            let block = BLOCK.min(letters - of_this[0].times.len());
            for echoes in &mut of_this {
                echoes.times.extend(type_in(world, echoes.route, load, block)?);
            }
        }
        all.extend(of_this);
    }
    Ok(all)
}

fn type_in(world: &World, route: Route, load: Load, letters: usize) -> anyhow::Result<Vec<Duration>> {
    let shared = Shared::start(world, route)?;
    let load = match load {
        Load::Idle => None,
        Load::SameConnectionFrom => Some(flood_from(shared.ssh(world, route))?),
        Load::SameConnectionInto => Some(flood_into(shared.ssh(world, route))?),
        Load::OtherConnection => Some(flood_from(world.ssh(route))?),
    };
    let mut ssh = shared.ssh(world, route);
    ssh.args(["-tt", "stty raw -echo; echo ready; exec cat"]);
    let mut terminal = Terminal::start(ssh)?;
    terminal.until("ready")?;
    sleep(WARM_UP);
    let mut times = Vec::new();
    for letter in (b'a'..=b'z').cycle().take(letters) {
        times.push(terminal.echo(letter)?);
        sleep(PAUSE);
    }
    drop((terminal, load, shared));
    Ok(times)
}

fn flood_from(mut ssh: Command) -> anyhow::Result<Running> {
    ssh.args(["cat", "/dev/zero"]).stdin(Stdio::null()).stdout(Stdio::null());
    Running::start(&mut ssh)
}

fn flood_into(mut ssh: Command) -> anyhow::Result<Running> {
    ssh.arg("cat > /dev/null").stdin(File::open("/dev/zero")?).stdout(Stdio::null());
    Running::start(&mut ssh)
}

/// A connection that several programs share.
struct Shared {
    path: String,
    _master: Running,
}

impl Shared {
    fn start(world: &World, route: Route) -> anyhow::Result<Self> {
        let socket = world.path("control");
        let path = format!("ControlPath={}", socket.display());
        let mut ssh = world.ssh(route);
        ssh.args(["-M", "-N", "-o", &path]).stdin(Stdio::null());
        let master = Running::start(&mut ssh)?;
        eventually("a connection", || socket.exists().then_some(()));
        Ok(Self { path, _master: master })
    }

    fn ssh(&self, world: &World, route: Route) -> Command {
        let mut ssh = world.openssh("ssh", route);
        ssh.args(["-o", &self.path, route.host()]);
        ssh
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A master that is killed leaves its socket.
        let _ = std::fs::remove_file(self.path.trim_start_matches("ControlPath="));
    }
}
