//! The controller: one folder per kind.

mod api_error;
mod config;
mod context;
mod env;
mod hub;
mod memory;
mod metrics;
mod run;
mod watch;

mod checkpoint;
mod pool;
mod spark;
mod ssh;
mod volume;

use clap::Parser;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let config = config::Config::parse();
    sparks_ops::init_tracing(config.log_format);
    run::run(config).await
}
