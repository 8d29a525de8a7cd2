//! `spark pool`.

use std::collections::BTreeMap;
use std::time::Instant;

use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use sparks_api::conditions::{self, READY};
use sparks_api::{Resources, SparkPool};

use crate::cli::{Format, OutputArgs, WaitArgs};
use crate::complete::pools;
use crate::context::{Context, each};
use crate::errors::Outcome;
use crate::table::Table;
use crate::{human, output, parse};

/// Keep pods warm in the namespace, so that Sparks start, fork and wake in milliseconds.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do [default: ls]
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What to do with pools.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List pools
    #[command(alias = "list")]
    Ls {
        /// How to print them
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Make a pool, or change it
    Set(SetArgs),
    /// Remove pools and their warm pods
    #[command(alias = "delete")]
    Rm {
        /// Names of the pools
        #[arg(required = true, value_parser = parse::name, add = ArgValueCandidates::new(pools))]
        names: Vec<String>,
    },
}

/// Make a pool, or change it.
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// Name of the pool
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(pools))]
    pub name: String,
    /// Warm pods on each node
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=200))]
    pub size: i32,
    /// Most CPUs of a warm pod, until a Spark takes it
    #[arg(long, value_name = "CPUS", value_parser = parse::quantity)]
    pub cpu: Option<Quantity>,
    /// Most memory of a warm pod, until a Spark takes it
    #[arg(long, value_name = "SIZE", value_parser = parse::quantity)]
    pub memory: Option<Quantity>,
    /// Whether to wait
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Lists, makes or removes.
pub async fn run(context: &Context, args: Args) -> Outcome {
    match args.action {
        None => list(context, None).await,
        Some(Action::Ls { output }) => list(context, output.format).await,
        Some(Action::Set(args)) => set(context, args).await,
        Some(Action::Rm { names }) => {
            each(&names, |name| async move {
                context.sparks.delete_object::<SparkPool>(&name).await?;
                context.say(&format!("pool/{name} deleted"))
            })
            .await
        }
    }
}

async fn set(context: &Context, args: SetArgs) -> Outcome {
    let start = Instant::now();
    let limits = [("cpu", args.cpu), ("memory", args.memory)];
    let limits: BTreeMap<_, _> =
        limits.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), amount?))).collect();
    let resources = (!limits.is_empty()).then_some(Resources { requests: None, limits: Some(limits) });
    let (name, size) = (args.name, args.size);
    context.sparks.set_pool(&name, size, resources).await?;
    if args.wait.no_wait {
        context.say(&format!("pool/{name} keeps {size} warm pods on each node; they are starting"))?;
        return Ok(0);
    }
    let progress = context.progress();
    let (line, label) = (progress.clone(), name.clone());
    let tell = move |step: &spark_client::Step| line.step(&format!("{label}: {step}"));
    let result = context.sparks.wait_for_pool(&name, args.wait.timeout, tell).await;
    progress.clear();
    let warm = result?.status.unwrap_or_default().warm;
    context.say(&format!("pool/{name} has {warm} warm pods after {}", human::took(start.elapsed())))?;
    Ok(0)
}

async fn list(context: &Context, format: Option<Format>) -> Outcome {
    let all: Vec<SparkPool> = context.sparks.list_objects("").await?;
    match format {
        Some(format @ (Format::Json | Format::Yaml | Format::Name)) => output::objects(format, &all)?,
        _ if context.quiet => all.iter().try_for_each(|pool| output::line(&pool.name_any()))?,
        _ if all.is_empty() => anstream::eprintln!(
            "There are no pools in namespace {}; make one with: spark pool set warm --size 3",
            context.sparks.namespace()
        ),
        _ => output::lines(&table(&all).lines())?,
    }
    Ok(0)
}

fn table(all: &[SparkPool]) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(["NAME", "PER NODE", "WARM", "STARTING", "READY", "AGE"]);
    for pool in all {
        let status = pool.status.clone().unwrap_or_default();
        let ready = conditions::find(&status.conditions, READY);
        table.row([
            pool.name_any(),
            pool.spec.size.to_string(),
            status.warm.to_string(),
            status.starting.to_string(),
            ready.map_or_else(|| "Unknown".into(), |ready| ready.status.clone()),
            human::age(pool.metadata.creation_timestamp.as_ref(), now),
        ]);
    }
    table
}
