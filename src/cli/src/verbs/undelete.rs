//! `spark undelete`.

use std::time::Instant;

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use jiff::Timestamp;
use kube::ResourceExt;
use spark_client::{Condition, Trashed};

use crate::cli::{OutputArgs, WaitArgs};
use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::table::Table;
use crate::{human, output, parse};

/// Take a deleted Spark out of the trash, with its disks as they were.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name that the Spark had
    #[arg(required_unless_present = "list", value_parser = parse::name,
          add = ArgValueCandidates::new(Vec::<CompletionCandidate>::new))]
    pub name: Option<String>,
    /// Show what can be undeleted
    #[arg(long)]
    pub list: bool,
    /// Uid that the Spark had [default: the one deleted last]
    #[arg(long)]
    pub uid: Option<String>,
    /// Give it another name
    #[arg(long = "as", value_name = "NEW_NAME", value_parser = parse::name)]
    pub new_name: Option<String>,
    /// Whether to wait
    #[command(flatten)]
    pub wait: WaitArgs,
    /// How to print it
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Undeletes, or lists what can be.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let name = match args.name {
        Some(name) if !args.list => name,
        name => return list(context, name.as_deref()).await,
    };
    let start = Instant::now();
    let mut spark = context.sparks.undelete(&name, args.uid.as_deref(), args.new_name.as_deref()).await?;
    if !args.wait.no_wait {
        let wanted = if spark.spec.lifecycle.running { Condition::Ready } else { Condition::Stopped };
        spark = context.wait(&spark.name_any(), wanted, &args.wait).await?;
    }
    let now = spark.name_any();
    match args.output.format {
        Some(format) => output::object(format, &spark)?,
        None if context.quiet => output::line(&now)?,
        None if args.wait.no_wait => output::line(&format!("spark/{now} is coming out of the trash"))?,
        None => output::line(&format!("spark/{now} undeleted in {}", human::took(start.elapsed())))?,
    }
    Ok(0)
}

async fn list(context: &Context, name: Option<&str>) -> Outcome {
    let mut all = context.sparks.trashed().await?;
    all.retain(|trashed| name.is_none_or(|name| trashed.name == name));
    if context.quiet {
        all.iter().try_for_each(|trashed| output::line(&trashed.name))?;
    } else if all.is_empty() {
        anstream::eprintln!("The trash of namespace {} is empty.", context.sparks.namespace());
    } else {
        table(&all)?;
    }
    Ok(0)
}

fn table(all: &[Trashed]) -> Result<(), CliError> {
    let now = Timestamp::now();
    let mut table = Table::new(["NAME", "DELETED", "KEPT FOR", "OWN BYTES", "NODE", "UID"]);
    for trashed in all {
        let ago =
            trashed.trashed_at.map(|at| format!("{} ago", human::span(now.duration_since(at).as_secs())));
        let left = trashed.deadline.map(|at| human::span(at.duration_since(now).as_secs()));
        table.row([
            trashed.name.clone(),
            ago.unwrap_or_else(|| human::NONE.into()),
            left.unwrap_or_else(|| human::NONE.into()),
            human::bytes(trashed.exclusive_bytes),
            trashed.node.clone(),
            trashed.uid.clone(),
        ]);
    }
    output::lines(&table.lines())
}
