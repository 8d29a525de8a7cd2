//! Measures what users wait for, on a real cluster, and stores the tables.
//!
//! Every duration is from the moment before the POST until a watch that was open before shows the object ready.

mod measure;
mod memory;
mod report;
mod watched;

use anyhow::Context as _;
use clap::Parser;
use kube::Client;

use measure::Bench;

/// Measures forks, wakes, bursts, cold starts and memory on the cluster of the current kubeconfig.
#[derive(Debug, Parser)]
struct Arguments {
    /// Image of the Sparks.
    #[arg(long, env = "SPARKS_BASE_IMAGE")]
    image: String,
    /// Forks, one after the other.
    #[arg(long, default_value_t = 100)]
    forks: usize,
    /// Plain pods, one after the other, between them.
    #[arg(long, default_value_t = 20)]
    pods: usize,
    /// Warm pods; more than the forks, so that none is made meanwhile.
    #[arg(long, default_value_t = 140)]
    pool: usize,
    /// Forks at once.
    #[arg(long, default_value_t = 20)]
    burst: usize,
    /// Folder for the results.
    #[arg(long, default_value = "benches/results")]
    results: std::path::PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let client = Client::try_default().await.context("no cluster: run `make bench`")?;
    let bench = Bench::prepare(client, &arguments.image, arguments.pool).await?;
    let measured = run(&bench, &arguments).await;
    bench.clean_up().await?;
    let report = report::Report { rows: measured?, memory: memory::resident()? };
    report.print_and_store(&arguments.results)
}

async fn run(bench: &Bench, arguments: &Arguments) -> anyhow::Result<Vec<report::Row>> {
    let (forks, pods) = bench.forks_and_pods(arguments.forks, arguments.pods).await?;
    let wakes = bench.wakes(10).await?;
    let burst = bench.burst(arguments.burst).await?;
    let cold = bench.cold(5).await?;
    let ratio = report::median(&pods) / report::median(&forks.total);
    Ok(vec![
        report::Row::new("plain pod, POST to Ready", &pods),
        report::Row::new("fork, POST to Ready, warm", &forks.total)
            .note(format!("{ratio:.0} times faster than the plain pod")),
        report::Row::new("  of it: the controller's claim", &forks.claim),
        report::Row::new("  of it: the snapshot", &forks.snapshot),
        report::Row::new("  of it: attach and pivot", &forks.attach),
        report::Row::new("wake of a stopped Spark, warm", &wakes),
        report::Row::new(&format!("{} forks at once, each", arguments.burst), &burst.each),
        report::Row::new(&format!("{} forks at once, all", arguments.burst), &burst.all),
        report::Row::new("fork without a warm pod", &cold),
    ])
}
