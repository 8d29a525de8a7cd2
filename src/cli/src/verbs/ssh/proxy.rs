//! `spark ssh-proxy`: what OpenSSH runs to reach a Spark.

use spark_client::{Condition, Error, Process};

use super::refuse_unrecorded;
use crate::cli::WaitArgs;
use crate::context::Context;
use crate::errors::{self, CliError, Outcome};
use crate::openssh;

/// Connect standard input and output with the SSH server of a Spark: for ProxyCommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAME, NAME.NAMESPACE or NAME.NAMESPACE.spark
    #[arg(value_name = "HOST", value_parser = openssh::host)]
    pub host: (String, Option<String>),
    /// Whether to wait for a Spark that is starting
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Connects until either end is through.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let (name, namespace) = args.host;
    let context = &context.in_namespace(namespace);
    refuse_unrecorded(&context.sparks.get(&name).await?, &context.sparks)?;
    let process = connect(context, &name, &args.wait).await?;
    let code = process.run(tokio::io::stdin(), tokio::io::stdout(), tokio::io::stderr()).await?;
    Ok(u8::try_from(code).unwrap_or(errors::FAILED))
}

/// A Spark that sleeps is woken, one that is on its way up is waited for.
async fn connect(context: &Context, name: &str, wait: &WaitArgs) -> Result<Process, CliError> {
    match context.sparks.ssh(name).await {
        Err(Error::Sleeping(_)) => {
            eprintln!("Waking {name} ...");
            context.sparks.wake(name).await?;
        }
        Err(Error::NotRunning { .. }) if !wait.no_wait => {}
        result => return Ok(result?),
    }
    context.wait(name, Condition::Attached, wait).await?;
    Ok(context.sparks.ssh(name).await?)
}
