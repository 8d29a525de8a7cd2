//! SSH and HTTP into every Spark: one address for all of them, which wakes those that sleep.

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = sparks_gateway::config::Config::parse();
    sparks_ops::init_tracing(config.log_format);
    sparks_gateway::run::run(config).await
}
