//! `spark checkpoint`.

use std::time::Instant;

use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use kube::ResourceExt;
use spark_client::Name;
use sparks_api::Checkpoint;

use crate::cli::{Format, OutputArgs, WaitArgs};
use crate::complete::{checkpoints, sparks};
use crate::context::{Context, each};
use crate::errors::{CliError, Outcome};
use crate::table::Table;
use crate::{human, output, parse};

/// Take, list and remove Checkpoints.
///
/// A Checkpoint is a named snapshot of all disks of a Spark, to fork from or to restore to.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// `ls` or `rm`
    #[command(subcommand)]
    pub action: Option<Action>,
    /// The Spark to take a Checkpoint of
    #[arg(required = true, value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub spark: Option<String>,
    /// Name of the Checkpoint [default: made from the Spark's, and printed]
    #[arg(value_parser = parse::name)]
    pub name: Option<String>,
    /// Time after which it is deleted, such as 720h
    #[arg(long, value_name = "DURATION", value_parser = parse::duration_text)]
    pub ttl: Option<String>,
    /// Whether to wait
    #[command(flatten)]
    pub wait: WaitArgs,
    /// How to print it
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What to do with Checkpoints that exist.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List Checkpoints
    #[command(alias = "list")]
    Ls {
        /// Only those of this Spark
        #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
        spark: Option<String>,
        /// How to print them
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Remove Checkpoints
    #[command(alias = "delete")]
    Rm {
        /// Names of the Checkpoints
        #[arg(required = true, value_parser = parse::name, add = ArgValueCandidates::new(checkpoints))]
        names: Vec<String>,
    },
}

/// Takes, lists or removes.
pub async fn run(context: &Context, args: Args) -> Outcome {
    match args.action {
        Some(Action::Ls { spark, output }) => list(context, spark.as_deref(), output.format).await,
        Some(Action::Rm { names }) => {
            each(&names, |name| async move {
                context.sparks.delete_object::<Checkpoint>(&name).await?;
                context.say(&format!("checkpoint/{name} deleted"))
            })
            .await
        }
        None => take(context, args).await,
    }
}

async fn take(context: &Context, args: Args) -> Outcome {
    let spark = args.spark.unwrap_or_default();
    let start = Instant::now();
    let name = args.name.map_or_else(|| Name::generated(&spark), Name::Exact);
    let mut taken = context.sparks.checkpoint(&spark, name, args.ttl).await?;
    let name = taken.name_any();
    if !args.wait.no_wait {
        let progress = context.progress();
        let line = progress.clone();
        let tell = move |step: &spark_client::Step| line.step(&format!("{name}: {step}"));
        let result = context.sparks.wait_for_checkpoint(&taken.name_any(), args.wait.timeout, tell).await;
        progress.clear();
        taken = result?;
    }
    let name = taken.name_any();
    match args.output.format {
        Some(format) => output::object(format, &taken)?,
        None if context.quiet => output::line(&name)?,
        None if args.wait.no_wait => output::line(&format!("checkpoint/{name} of {spark} is being taken"))?,
        None => {
            output::line(&format!("checkpoint/{name} of {spark} taken in {}", human::took(start.elapsed())))?
        }
    }
    Ok(0)
}

async fn list(context: &Context, spark: Option<&str>, format: Option<Format>) -> Outcome {
    let mut all: Vec<Checkpoint> = context.sparks.list_objects("").await?;
    all.retain(|checkpoint| spark.is_none_or(|spark| checkpoint.spec.spark == spark));
    match format {
        Some(format @ (Format::Json | Format::Yaml | Format::Name)) => output::objects(format, &all)?,
        _ if context.quiet => all.iter().try_for_each(|found| output::line(&found.name_any()))?,
        _ if all.is_empty() => say_none(context, spark)?,
        _ => output::lines(&table(&all).lines())?,
    }
    Ok(0)
}

fn say_none(context: &Context, spark: Option<&str>) -> Result<(), CliError> {
    let of = spark.map(|spark| format!(" of {spark}")).unwrap_or_default();
    anstream::eprintln!("There are no Checkpoints{of} in namespace {}.", context.sparks.namespace());
    Ok(())
}

fn table(all: &[Checkpoint]) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(["NAME", "SPARK", "PHASE", "NODE", "EXPIRES", "AGE"]);
    for checkpoint in all {
        let status = checkpoint.status.clone().unwrap_or_default();
        let expires =
            status.expires_at.map(|at| format!("in {}", human::span(at.0.duration_since(now).as_secs())));
        table.row([
            checkpoint.name_any(),
            checkpoint.spec.spark.clone(),
            format!("{:?}", status.phase),
            status.node_name.unwrap_or_else(|| human::NONE.into()),
            expires.unwrap_or_else(|| "never".into()),
            human::age(status.taken_at.as_ref().or(checkpoint.metadata.creation_timestamp.as_ref()), now),
        ]);
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from([&["checkpoint"], words].concat()).map(|line| line.args)
    }

    #[test]
    fn a_spark_is_checkpointed_and_ls_and_rm_are_told_apart_from_it() {
        let args = parsed(&["api", "v1", "--ttl", "2h"]).unwrap();
        assert_eq!((args.spark.as_deref(), args.name.as_deref()), (Some("api"), Some("v1")));
        assert!(matches!(parsed(&["ls"]).unwrap().action, Some(Action::Ls { spark: None, .. })));
        assert!(matches!(parsed(&["rm", "v1"]).unwrap().action, Some(Action::Rm { .. })));
        assert_eq!(parsed(&["spark/ls"]).unwrap().spark.as_deref(), Some("ls"));
        assert!(parsed(&[]).is_err() && parsed(&["rm"]).is_err());
    }
}
