//! The node agent.

use clap::Parser;
use sparks_node::{agent, config};

/// Host calls block. An attach takes well under a millisecond and a snapshot some, so that this many threads carry
/// several hundred forks a second, while an idle agent has none of them.
const BLOCKING_THREADS: usize = 32;

fn main() -> anyhow::Result<()> {
    let config = config::Config::parse();
    sparks_ops::init_tracing(config.log_format);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?
        .block_on(agent::run(config))
}
