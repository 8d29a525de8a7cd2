//! Forks, claims and plain pods in turn, in one run.

use std::time::Duration;

use crate::{
    claims::Claims,
    contender::{Contender, names},
    forks::{Forks, Steps},
    world::Cold,
};

/// Starts of each kind before they are deleted.
const ROUND: usize = 12;
/// Warm pods of each pool.
const WARM: usize = 3;
/// Plain pods after each round.
const PODS: usize = 2;

/// What was started one after the other.
#[derive(Default)]
pub struct Turns {
    /// Forks, until Ready.
    pub forks: Vec<Duration>,
    /// The steps of these forks.
    pub steps: Steps,
    /// Claims, until Ready.
    pub claims: Vec<Duration>,
    /// Plain pods, until Ready.
    pub pods: Vec<Duration>,
}

/// What was started at once.
#[derive(Default)]
pub struct Bursts {
    /// How many at once.
    pub size: usize,
    /// Each fork.
    pub forks: Vec<Duration>,
    /// Until the last fork was ready.
    pub all_forks: Vec<Duration>,
    /// Each claim.
    pub claims: Vec<Duration>,
    /// Until the last claim was ready.
    pub all_claims: Vec<Duration>,
}

/// Starts so many of each in turn, each when the pools are full again.
pub async fn turns(
    forks: &Forks,
    claims: Option<&Claims>,
    cold: &Cold,
    count: usize,
) -> anyhow::Result<Turns> {
    let mut measured = Turns::default();
    forks.take_steps();
    for (round, names) in names("turn", count).chunks(ROUND).enumerate() {
        fill(forks, claims, WARM).await?;
        for name in names {
            measured.forks.push(forks.start_and_refill(name, WARM).await?);
            if let Some(claims) = claims {
                measured.claims.push(claims.start_and_refill(name, WARM).await?);
            }
        }
        forks.delete(names).await?;
        if let Some(claims) = claims {
            claims.delete(names).await?;
        }
        fill(forks, claims, WARM).await?;
        for i in 0..PODS {
            measured.pods.push(cold.plain_pod(&format!("plain-{round}-{i}")).await?);
        }
    }
    measured.steps = forks.take_steps();
    Ok(measured)
}

/// So many forks one after the other, without others between them.
pub async fn only_forks(forks: &Forks, prefix: &str, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut measured = Vec::new();
    for names in names(prefix, count).chunks(ROUND) {
        forks.fill(WARM).await?;
        for name in names {
            measured.push(forks.start_and_refill(name, WARM).await?);
        }
        forks.delete(names).await?;
    }
    Ok(measured)
}

/// So many at once, three times in turn.
pub async fn bursts(forks: &Forks, claims: Option<&Claims>, size: usize) -> anyhow::Result<Bursts> {
    let mut measured = Bursts { size, ..Default::default() };
    for round in 0..3 {
        let names = names(&format!("burst-{round}"), size);
        fill(forks, claims, size).await?;
        let (each, all) = forks.burst(&names).await?;
        measured.forks.extend(each);
        measured.all_forks.push(all);
        fill(forks, claims, size).await?;
        if let Some(claims) = claims {
            let (each, all) = claims.burst(&names).await?;
            measured.claims.extend(each);
            measured.all_claims.push(all);
        }
    }
    Ok(measured)
}

/// Fills both pools, so that neither makes pods while the other is measured.
async fn fill(forks: &Forks, claims: Option<&Claims>, size: usize) -> anyhow::Result<()> {
    if let Some(claims) = claims {
        claims.fill(size).await?;
    }
    forks.fill(size).await
}
