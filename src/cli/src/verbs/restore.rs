//! `spark restore`.

use std::time::Instant;

use clap_complete::engine::ArgValueCandidates;
use spark_client::Condition;

use crate::cli::WaitArgs;
use crate::complete::{checkpoints, sparks};
use crate::context::Context;
use crate::errors::Outcome;
use crate::{human, parse};

/// Put all disks of a Spark back to a Checkpoint, in place: same pod, same address.
///
/// What the disks held before goes into the trash. To look at a Checkpoint without that, fork it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub spark: String,
    /// The Checkpoint
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(checkpoints))]
    pub checkpoint: String,
    /// Whether to wait
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Restores.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let Args { spark, checkpoint, wait } = args;
    let start = Instant::now();
    let patched = context.sparks.restore(&spark, &checkpoint).await?;
    if wait.no_wait {
        context.say(&format!("spark/{spark} is being restored to {checkpoint}"))?;
        return Ok(0);
    }
    let wanted = if patched.spec.lifecycle.running { Condition::Ready } else { Condition::Stopped };
    context.wait(&spark, wanted, &wait).await?;
    context.say(&format!("spark/{spark} restored to {checkpoint} in {}", human::took(start.elapsed())))?;
    Ok(0)
}
