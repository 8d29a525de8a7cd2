//! Measures SSH and HTTP into Sparks against OpenSSH's sshd, with the real OpenSSH client, and stores the tables.
//!
//! The sshd runs in a Spark as well: a pod of the same kind, on the same node, with the same disk. It needs a route to
//! the addresses of pods, as this machine has to those of the local cluster.

mod crowd;
mod http;
mod keystrokes;
mod logins;
mod process;
mod report;
mod route;
mod sleeping;
mod stalled;
mod terminal;
mod throughput;
mod world;

use clap::{Parser, ValueEnum};

use report::Report;
use world::World;

/// Measures throughput, keystrokes, logins, wakes and many connections.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// Image of the Sparks, of Debian: the sshd is installed in one of them.
    #[arg(long, env = "SPARKS_BASE_IMAGE")]
    image: String,
    /// The gateway's address for SSH.
    #[arg(long, env = "SPARKS_GATEWAY_SSH", value_name = "HOST:PORT")]
    gateway_ssh: String,
    /// The gateway's address for HTTP.
    #[arg(long, env = "SPARKS_GATEWAY_HTTP", value_name = "HOST:PORT")]
    gateway_http: String,
    /// Domain under which the gateway serves Sparks.
    #[arg(long, env = "SPARKS_DOMAIN", default_value = "localhost")]
    domain: String,
    /// What to measure; everything when nothing is named.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Size of a transfer.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Transfers of each kind.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Keystrokes by each way under each load.
    #[arg(long, default_value_t = 500)]
    keystrokes: usize,
    /// Logins by each way, and HTTP requests.
    #[arg(long, default_value_t = 30)]
    logins: usize,
    /// Wakes by SSH, and by HTTP.
    #[arg(long, default_value_t = 10)]
    wakes: usize,
    /// Connections held at once.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// How many of them begin in a second.
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Folder for the results.
    #[arg(long, default_value = "benches/results")]
    results: std::path::PathBuf,
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Crowd,
    Logins,
    Sleeping,
    Http,
    Keystrokes,
    Throughput,
    Stalled,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let world = World::prepare(&arguments)?;
    let mut report = Report::new(&world);
    for part in Part::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(part) {
            eprintln!("measuring: {part:?}");
            measure(*part, &world, &arguments, &mut report)?;
        }
    }
    report.print_and_store(&arguments.results)
}

/// The crowd comes first, because a gateway that has been busy keeps memory that a newcomer can use.
fn measure(part: Part, world: &World, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    match part {
        Part::Crowd => report.crowd(&crowd::measure(world, arguments.connections, arguments.rate)?),
        Part::Logins => report.logins(&logins::measure(world, arguments.logins)?),
        Part::Sleeping => report.sleeping(&sleeping::measure(world, arguments.wakes)?),
        Part::Http => report.http(&http::measure(world, arguments)?),
        Part::Keystrokes => report.keystrokes(&keystrokes::measure(world, arguments.keystrokes)?),
        Part::Throughput => report.throughput(&throughput::measure(world, arguments.mib, arguments.runs)?),
        Part::Stalled => report.stalled(&stalled::measure(world)?),
    }
    Ok(())
}
