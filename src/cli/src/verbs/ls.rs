//! `spark ls`.

use futures::StreamExt;
use jiff::Timestamp;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use sparks_api::conditions::{self, READY};
use sparks_api::{Spark, SparkStatus};

use crate::cli::{Format, OutputArgs};
use crate::context::Context;
use crate::errors::Outcome;
use crate::human::{self, NONE};
use crate::output;
use crate::table::{Table, aligned};

/// List Sparks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    pub selector: String,
    /// Go on with whatever changes
    #[arg(short, long)]
    pub watch: bool,
    /// How to print them
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Lists them.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let columns = Columns { namespace: args.all_namespaces, wide: args.output.format == Some(Format::Wide) };
    if args.watch {
        return watch(context, &args, columns).await;
    }
    let sparks = match args.all_namespaces {
        true => context.sparks.list_all(&args.selector).await?,
        false => context.sparks.list(&args.selector).await?,
    };
    match args.output.format {
        Some(format @ (Format::Json | Format::Yaml | Format::Name)) => output::objects(format, &sparks)?,
        _ if context.quiet => sparks.iter().try_for_each(|spark| output::line(&spark.name_any()))?,
        _ if sparks.is_empty() && args.all_namespaces => anstream::eprintln!("There are no Sparks."),
        _ if sparks.is_empty() => {
            anstream::eprintln!("There are no Sparks in namespace {}.", context.sparks.namespace())
        }
        _ => output::lines(&columns.table(&sparks).lines())?,
    }
    Ok(0)
}

/// Prints the table, and a line for every change.
async fn watch(context: &Context, args: &Args, columns: Columns) -> Outcome {
    let client = context.sparks.client().clone();
    let namespace = context.sparks.namespace();
    let api: Api<Spark> =
        if args.all_namespaces { Api::all(client) } else { Api::namespaced(client, namespace) };
    let config = watcher::Config::default().labels(&args.selector);
    let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
    let (mut first, mut widths) = (Vec::new(), Vec::new());
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::InitApply(spark)) if widths.is_empty() => first.push(spark),
            Ok(watcher::Event::InitDone) if widths.is_empty() => {
                let table = columns.table(&first);
                widths = table.widths();
                output::lines(&table.lines())?;
            }
            Ok(watcher::Event::Apply(spark) | watcher::Event::InitApply(spark)) => {
                output::line(&aligned(&columns.cells(&spark, Timestamp::now()), &widths))?;
            }
            Ok(watcher::Event::Delete(spark)) => {
                let mut cells = columns.cells(&spark, Timestamp::now());
                cells[usize::from(columns.namespace) + 1] = "Deleted".into();
                output::line(&aligned(&cells, &widths))?;
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            // Before the first table there is nothing that a later try would go on with.
            Err(watcher::Error::InitialListFailed(error)) if widths.is_empty() => {
                return Err(context.sparks.error::<Spark>("", error).into());
            }
            Err(_) => {}
        }
    }
    Ok(0)
}

/// Which columns to print.
#[derive(Clone, Copy)]
struct Columns {
    namespace: bool,
    wide: bool,
}

impl Columns {
    fn table(self, sparks: &[Spark]) -> Table {
        let namespace = self.namespace.then_some("NAMESPACE");
        let wide: &[&str] = if self.wide { &["POD", "REASON"] } else { &[] };
        let columns = ["NAME", "PHASE", "READY", "FROM", "NODE", "ADDRESS", "AGE"];
        let mut table = Table::new(namespace.into_iter().chain(columns).chain(wide.iter().copied()));
        let now = Timestamp::now();
        sparks.iter().for_each(|spark| table.row(self.cells(spark, now)));
        table
    }

    fn cells(self, spark: &Spark, now: Timestamp) -> Vec<String> {
        let none = || NONE.to_owned();
        let status = spark.status.clone().unwrap_or_default();
        let ready = conditions::find(&status.conditions, READY);
        let mut cells = Vec::new();
        cells.extend(self.namespace.then(|| spark.namespace().unwrap_or_default()));
        cells.extend([
            spark.name_any(),
            phase(spark, &status),
            ready.map_or_else(|| "Unknown".into(), |ready| ready.status.clone()),
            status.origin.clone().unwrap_or_else(|| origin(spark)),
            status.node_name.clone().unwrap_or_else(none),
            status.address.clone().unwrap_or_else(none),
            human::age(spark.metadata.creation_timestamp.as_ref(), now),
        ]);
        if self.wide {
            cells.push(status.pod_name.clone().unwrap_or_else(none));
            cells.push(ready.map_or_else(none, |ready| ready.reason.clone()));
        }
        cells
    }
}

fn phase(spark: &Spark, status: &SparkStatus) -> String {
    if spark.metadata.deletion_timestamp.is_some() {
        "Deleting".into()
    } else {
        format!("{:?}", status.phase)
    }
}

/// Where its root comes from, as long as the controller has not said so.
pub fn origin(spark: &Spark) -> String {
    let from = spark.spec.from.as_ref();
    let image = spark.spec.image.as_ref().map(|image| format!("image/{image}"));
    let fork = from.and_then(|from| {
        let spark = from.spark.as_ref().map(|name| format!("spark/{name}"));
        spark.or_else(|| from.checkpoint.as_ref().map(|name| format!("checkpoint/{name}")))
    });
    fork.or(image).unwrap_or_else(|| NONE.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spark_client::Source;

    #[test]
    fn a_spark_that_nobody_has_seen_yet_has_a_full_row() {
        let spark = Spark::new("x", Source::checkpoint("v1").to_spec());
        let columns = Columns { namespace: false, wide: false };
        let row = ["x", "Pending", "Unknown", "checkpoint/v1", NONE, NONE, "<unknown>"];
        assert_eq!(columns.cells(&spark, Timestamp::UNIX_EPOCH), row);
    }
}
