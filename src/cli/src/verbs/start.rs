//! `spark start`.

use std::time::Instant;

use clap_complete::engine::ArgValueCandidates;
use spark_client::Condition;

use crate::cli::WaitArgs;
use crate::complete::sparks;
use crate::context::{Context, each};
use crate::errors::Outcome;
use crate::{human, parse};

/// Start stopped Sparks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the Sparks
    #[arg(required = true, value_name = "NAME", value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub names: Vec<String>,
    /// Whether to wait
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Starts them.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let wait = &args.wait;
    each(&args.names, |name| async move {
        let start = Instant::now();
        context.sparks.start(&name).await?;
        if wait.no_wait {
            return context.say(&format!("spark/{name} is starting"));
        }
        context.wait_awake(&name, Condition::Ready, wait).await?;
        context.say(&format!("spark/{name} started in {}", human::took(start.elapsed())))
    })
    .await
}
