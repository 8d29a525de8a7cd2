//! `spark ssh-known-hosts`: what OpenSSH runs to learn a Spark's host key.

use crate::context::Context;
use crate::errors::{CliError, Outcome};
use crate::{openssh, output};

/// Print the line of known_hosts for a Spark: for KnownHostsCommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAME, NAME.NAMESPACE or NAME.NAMESPACE.spark
    #[arg(value_name = "HOST")]
    pub host: String,
}

/// Prints it.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let (name, namespace) = openssh::host(&args.host).map_err(CliError::Usage)?;
    let context = &context.in_namespace(namespace);
    let spark = context.sparks.get(&name).await?;
    let ssh = spark.status.and_then(|status| status.ssh);
    let key = ssh.and_then(|ssh| ssh.host_key).ok_or_else(|| {
        CliError::Usage(format!(
            "spark \"{name}\" has no host key yet: `spark show {name}` says how far it is"
        ))
    })?;
    output::line(&format!("{} {key}", args.host))?;
    Ok(0)
}
