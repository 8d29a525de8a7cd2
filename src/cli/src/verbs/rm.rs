//! `spark rm`.

use clap_complete::engine::ArgValueCandidates;
use kube::ResourceExt;
use sparks_api::Spark;

use crate::cli::WaitArgs;
use crate::complete::sparks;
use crate::context::{Context, each};
use crate::errors::{CliError, Outcome};
use crate::parse;

/// Delete Sparks into the trash, from which `spark undelete` takes them back for a while (24 h by default).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of the Sparks
    #[arg(required = true, value_name = "NAME", value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub names: Vec<String>,
    /// Remove their disks at once; nothing can be undeleted then
    #[arg(long)]
    pub now: bool,
    /// Don't complain about Sparks that don't exist
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Whether to wait
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Deletes them.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let args = &args;
    each(&args.names, |name| async move {
        match one(context, args, &name).await {
            Err(CliError::Client(spark_client::Error::NotFound { .. })) if args.ignore_not_found => Ok(()),
            result => result,
        }
    })
    .await
}

async fn one(context: &Context, args: &Args, name: &str) -> Result<(), CliError> {
    let sparks = &context.sparks;
    let uid = sparks.get(name).await?.uid().unwrap_or_default();
    sparks.delete(name).await?;
    // The disks come into the trash only after the Spark is gone, so this can't be left to the background.
    if args.now || !args.wait.no_wait {
        let progress = context.progress();
        progress.step(&format!("{name}: deleting"));
        let gone = sparks.wait_until_gone::<Spark>(name, &uid, args.wait.timeout).await;
        let purged = match gone {
            Ok(()) if args.now => sparks.purge_when_trashed(name, &uid, args.wait.timeout).await,
            gone => gone,
        };
        progress.clear();
        purged?;
    }
    if args.now {
        return context.say(&format!("spark/{name} deleted for good"));
    }
    context
        .say(&format!("spark/{name} deleted; take it back with: spark undelete {name}{}", namespace(context)))
}

/// The option that a command to copy needs.
fn namespace(context: &Context) -> String {
    match context.sparks.namespace() {
        namespace if namespace == context.sparks.client().default_namespace() => String::new(),
        namespace => format!(" -n {namespace}"),
    }
}
