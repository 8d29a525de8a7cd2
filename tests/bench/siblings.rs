//! A source with many forks.

use std::time::Duration;

use futures::future::try_join_all;

use crate::{
    contender::{Contender, names},
    forks::Forks,
    processor::{API_SERVER, Meter},
    turns::only_forks,
};

/// Between the first moments of two forks that are made stopped.
const PAUSE: Duration = Duration::from_millis(100);
/// Forks that are started before and after.
const FORKS: usize = 48;

/// Forks of a source without and with many others.
pub struct Siblings {
    /// Making the stopped forks, each until its status says so.
    pub made: Vec<Duration>,
    /// Milliseconds of processor of the API server for each of them.
    pub api_server: f64,
    /// Forks that are started before.
    pub without: Vec<Duration>,
    /// Forks that are started afterwards.
    pub with: Vec<Duration>,
}

/// Makes so many stopped forks of the source, and starts others before and afterwards.
pub async fn siblings(forks: &Forks, count: usize) -> anyhow::Result<Siblings> {
    let without = only_forks(forks, "alone", FORKS).await?;
    forks.fill(1).await?;
    let meter = Meter::start(&[]).await?;
    let names = names("sibling", count);
    let made = try_join_all(names.iter().zip(0..).map(|(name, before)| async move {
        tokio::time::sleep(PAUSE * before).await;
        forks.fork_stopped(name).await
    }));
    let made = made.await?;
    let spent = meter.spent()?.0.get(API_SERVER).copied().unwrap_or_default();
    let with = only_forks(forks, "one-more", FORKS).await?;
    Ok(Siblings { made, api_server: spent / count as f64, without, with })
}
