//! Measures what users wait for, on a real cluster, and stores the tables.
//!
//! Every duration is from the moment before the POST until a watch that was open before shows the object ready.

// Counts of what was measured are small.
#![allow(clippy::cast_precision_loss)]

mod claims;
mod contender;
mod forks;
mod memory;
mod processor;
mod report;
mod siblings;
mod turns;
mod watched;
mod world;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use kube::Client;

use claims::Claims;
use contender::Contender as _;
use forks::Forks;
use report::Report;
use world::Cold;

/// Measures forks, wakes, bursts, cold starts, processor time and memory on the cluster of the current kubeconfig.
#[derive(Debug, Parser)]
struct Arguments {
    /// Image of the Sparks and of the sandboxes.
    #[arg(long, env = "SPARKS_BASE_IMAGE")]
    image: String,
    /// Only these parts, with commas between them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Measure claims of agent-sandbox beside the forks; `cluster/agent-sandbox install` installs it.
    #[arg(long)]
    agent_sandbox: bool,
    /// Forks, one after the other.
    #[arg(long, default_value_t = 100)]
    forks: usize,
    /// Forks at once.
    #[arg(long, default_value_t = 20)]
    burst: usize,
    /// Other forks of the source.
    #[arg(long, default_value_t = 1000)]
    siblings: usize,
    /// Folder for the results.
    #[arg(long, default_value = "benches/results")]
    results: std::path::PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Forks, claims and plain pods in turn.
    Turns,
    /// Many at once.
    Bursts,
    /// Processor time of a fork and a claim.
    Processor,
    /// Wakes of a stopped Spark.
    Wakes,
    /// Forks without a pool.
    Cold,
    /// Forks of a source that has many others.
    Siblings,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let client = Client::try_default().await.context("no cluster: run `make bench`")?;
    world::make_namespaces(&client).await?;
    let measured = measure(&client, &arguments).await;
    world::remove_namespaces(&client).await?;
    measured?.print_and_store(&arguments.results)
}

async fn measure(client: &Client, arguments: &Arguments) -> anyhow::Result<Report> {
    let forks = Forks::prepare(client.clone(), &arguments.image).await?;
    let claims = match arguments.agent_sandbox {
        true => Some(Claims::prepare(client.clone(), &arguments.image).await?),
        false => None,
    };
    let (claims, cold) = (claims.as_ref(), Cold::open(client.clone()).await);
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut report = Report::default();
    if wanted(Part::Turns) {
        report.turns = Some(turns::turns(&forks, claims, &cold, arguments.forks).await?);
    }
    if wanted(Part::Bursts) {
        report.bursts = Some(turns::bursts(&forks, claims, arguments.burst).await?);
    }
    if wanted(Part::Processor) {
        report.processor = Some(processor::processor(&forks, claims).await?);
    }
    if let Some(claims) = claims {
        claims.fill(0).await?;
    }
    if wanted(Part::Wakes) {
        report.wakes = Some(forks.wakes(10).await?);
    }
    if wanted(Part::Cold) {
        report.cold = Some(cold.forks(5).await?);
    }
    if wanted(Part::Siblings) {
        report.siblings = Some(siblings::siblings(&forks, arguments.siblings).await?);
    }
    report.memory = memory::resident()?;
    Ok(report)
}
