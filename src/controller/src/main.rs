//! The controller.

use clap::Parser;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let config = sparks_controller::config::Config::parse();
    sparks_ops::init_tracing(config.log_format);
    sparks_controller::run::run(config).await
}
