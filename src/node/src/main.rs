//! The node agent: it makes the disks of Volumes on this node and attaches them to pods that already run.
//!
//! Start at [`agent`] for what runs, and at [`volume`] for what happens to one Volume:
//! `gather` (observe) → `plan` (pure) → `apply` (act) → `status` (pure) → one write.

mod agent;
mod computer;
mod config;
mod events;
mod exits;
mod guest;
mod heartbeat;
mod import;
mod inventory;
mod metrics;
mod pods;
mod seal;
mod trash;
mod triggers;
mod usage;
mod volume;
mod watch;

use clap::Parser;

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
