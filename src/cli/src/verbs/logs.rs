//! `spark logs`.

use std::io::Write;
use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use futures::AsyncReadExt;
use spark_client::LogOptions;

use crate::complete::sparks;
use crate::context::Context;
use crate::errors::Outcome;
use crate::parse;

/// Print the logs of a Spark's service, since the Spark was started last.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark
    #[arg(value_parser = parse::name, add = ArgValueCandidates::new(sparks))]
    pub name: String,
    /// Go on with what is written later
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many lines from the end
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(i64).range(0..))]
    pub tail: Option<i64>,
    /// Only what is not older than this
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    pub since: Option<Duration>,
}

/// Prints the logs.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let options = LogOptions { follow: args.follow, tail: args.tail, since: args.since };
    let logs = context.sparks.logs(&args.name, &options).await?;
    let mut logs = std::pin::pin!(logs);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match logs.read(&mut buffer).await? {
            0 => return Ok(0),
            n => {
                let mut out = std::io::stdout().lock();
                out.write_all(&buffer[..n])?;
                out.flush()?;
            }
        }
    }
}
