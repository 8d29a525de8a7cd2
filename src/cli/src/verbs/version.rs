//! `spark version`.

use spark_client::Sparks;

use crate::cli::Global;
use crate::errors::{CliError, Outcome};
use crate::output;

/// Print the versions of spark and of the cluster.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Don't ask the cluster
    #[arg(long)]
    pub client: bool,
}

/// Prints the versions.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    output::line(&format!("spark       {}", env!("CARGO_PKG_VERSION")))?;
    if args.client {
        return Ok(0);
    }
    let sparks = Sparks::connect(&global.connect_options()).await?;
    let server = sparks.client().apiserver_version().await;
    let server =
        server.map_err(|error| CliError::Client(spark_client::Error::Unreachable(Box::new(error))))?;
    output::line(&format!("Kubernetes  {}", server.git_version))?;
    let group = format!("{}/v1alpha1", sparks_api::GROUP);
    let kinds = sparks.client().list_api_group_resources(&group).await;
    output::line(&match kinds {
        Ok(_) => format!("Sparks      {group}"),
        Err(_) => "Sparks      not installed in this cluster".to_owned(),
    })?;
    Ok(0)
}
