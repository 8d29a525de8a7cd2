//! How fast data goes through.

use std::{
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    route::{ALL, Route, succeed},
    world::{FAR_FILE, World},
};

/// The program to run, and the file that it makes here.
type Program = (Command, Option<PathBuf>);

/// A way of copying.
struct Copying {
    what: &'static str,
    program: fn(&World, Route) -> anyhow::Result<Program>,
}

/// All of them. What is sent ends in /dev/null, so that no disk is measured.
const COPYING: [Copying; 6] = [
    Copying { what: "`ssh cat`, from the Spark", program: cat_from },
    Copying { what: "`ssh cat`, into the Spark", program: cat_into },
    Copying { what: "`scp`, from the Spark", program: scp_from },
    Copying { what: "`scp`, into the Spark", program: scp_into },
    Copying { what: "`sftp`, from the Spark", program: sftp_from },
    Copying { what: "`sftp`, into the Spark", program: sftp_into },
];

/// All runs of one copying by one way.
pub struct Speeds {
    /// The copying.
    pub what: &'static str,
    /// The way.
    pub route: Route,
    /// MiB/s of each run.
    pub runs: Vec<f64>,
}

/// Every copying by every way, so many times, in turn.
pub fn measure(world: &World, mib: u64, runs: usize) -> anyhow::Result<Vec<Speeds>> {
    let mut all = Vec::new();
    for copying in &COPYING {
        let mut of_this: Vec<_> =
            ALL.map(|route| Speeds { what: copying.what, route, runs: Vec::new() }).into();
        for _ in 0..runs {
            for speeds in &mut of_this {
                let took = copy(world, copying, speeds.route, mib)?;
                #[allow(clippy::cast_precision_loss, reason = "sizes are small")]
                speeds.runs.push(mib as f64 / took.as_secs_f64());
            }
        }
        all.extend(of_this);
    }
    Ok(all)
}

/// From the start of the program to its end, the login included.
fn copy(world: &World, copying: &Copying, route: Route, mib: u64) -> anyhow::Result<Duration> {
    let (mut program, made) = (copying.program)(world, route)?;
    let begin = Instant::now();
    succeed(&mut program)?;
    let took = begin.elapsed();
    eprintln!("  {} through {}: {:.2} s", copying.what, route.title(), took.as_secs_f64());
    if let Some(path) = made {
        let length = std::fs::metadata(&path)?.len();
        anyhow::ensure!(length == mib << 20, "{} by {} gave {length} bytes", copying.what, route.title());
        std::fs::remove_file(path)?;
    }
    Ok(took)
}

fn cat_from(world: &World, route: Route) -> anyhow::Result<Program> {
    // Not /dev/null: it is to be seen that all has come.
    let made = world.path("received");
    let mut ssh = world.ssh(route);
    ssh.args(["cat", FAR_FILE]).stdin(Stdio::null()).stdout(File::create(&made)?);
    Ok((ssh, Some(made)))
}

fn cat_into(world: &World, route: Route) -> anyhow::Result<Program> {
    let mut ssh = world.ssh(route);
    ssh.arg("cat > /dev/null").stdin(File::open(world.near_file())?);
    Ok((ssh, None))
}

fn scp_from(world: &World, route: Route) -> anyhow::Result<Program> {
    let made = world.path("received");
    let mut scp = world.openssh("scp", route);
    scp.args(["-q", &format!("{}:{FAR_FILE}", route.host())]).arg(&made);
    Ok((scp, Some(made)))
}

fn scp_into(world: &World, route: Route) -> anyhow::Result<Program> {
    let mut scp = world.openssh("scp", route);
    scp.arg("-q").arg(world.near_file()).arg(format!("{}:/dev/null", route.host()));
    Ok((scp, None))
}

fn sftp_from(world: &World, route: Route) -> anyhow::Result<Program> {
    let made = world.path("received");
    let sftp = sftp(world, route, &format!("get {FAR_FILE} {}\n", made.display()))?;
    Ok((sftp, Some(made)))
}

fn sftp_into(world: &World, route: Route) -> anyhow::Result<Program> {
    let sftp = sftp(world, route, &format!("put {} /dev/null\n", world.near_file().display()))?;
    Ok((sftp, None))
}

fn sftp(world: &World, route: Route, batch: &str) -> anyhow::Result<Command> {
    let path = world.path("batch");
    std::fs::write(&path, batch)?;
    let mut sftp = world.openssh("sftp", route);
    sftp.arg("-q").arg("-b").arg(path).arg(route.host());
    Ok(sftp)
}
