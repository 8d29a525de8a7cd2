//! `spark ssh-proxy`: what OpenSSH runs to reach a Spark.

mod fd;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use futures::TryFutureExt;
use spark_client::{Condition, Error, Process};
use sparks_api::Spark;

use super::refuse_unrecorded;
use crate::cli::WaitArgs;
use crate::context::Context;
use crate::errors::{self, CliError, Outcome};
use crate::gateway::{self, DialError, GatewayArgs, Tunnel};
use crate::{identity, openssh};

/// How long the token of a connection is good.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// Connect standard input and output with the SSH server of a Spark: for ProxyCommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// NAME, NAME.NAMESPACE or NAME.NAMESPACE.spark
    #[arg(value_name = "HOST", value_parser = openssh::host)]
    pub host: (String, Option<String>),
    /// Private key that ssh logs in with; the way through the gateway needs one
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Give ssh the connection itself instead of copying: for ProxyUseFdpass. Other programs don't notice
    #[arg(long)]
    pub pass_fd: bool,
    /// Say which way is taken
    #[arg(short, long)]
    pub verbose: bool,
    /// Whether to wait for a Spark that is starting
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Connects until either end is through.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let (name, namespace) = &args.host;
    let context = &context.in_namespace(namespace.clone());
    let spark = context.sparks.get(name).await?;
    refuse_unrecorded(&spark, &context.sparks)?;
    if args.pass_fd && fd::is_wanted(std::io::stdin(), std::io::stdout()) {
        fd::pass(std::io::stdout(), connection(context, &spark, &args).await?)?;
        return Ok(0);
    }
    match connect(context, &spark, &args).await? {
        Way::Gateway(tunnel) => {
            tunnel.run().await?;
            Ok(0)
        }
        Way::ApiServer(process) => {
            let code = process.run(tokio::io::stdin(), tokio::io::stdout(), tokio::io::stderr()).await?;
            Ok(u8::try_from(code).unwrap_or(errors::FAILED))
        }
    }
}

/// A connection that ssh can go on with alone, or one to another process of this program, which copies.
async fn connection(context: &Context, spark: &Spark, args: &Args) -> Result<OwnedFd, CliError> {
    let identity = match by_gateway(context, spark, args).await {
        Ok(tunnel) => match tunnel.into_socket()? {
            Some(socket) => return Ok(socket),
            None => true,
        },
        // The other process wakes it, or waits, and tries again.
        Err(Closed::Client(Error::Sleeping(_) | Error::NotRunning { .. })) => true,
        Err(why) => {
            why.say(args);
            false
        }
    };
    Ok(fd::other_process(identity)?)
}

/// An open way to a Spark's SSH server.
enum Way {
    /// By TCP to the Spark's port, for which a key was admitted.
    Gateway(Tunnel),
    /// By a server of its own.
    ApiServer(Box<Process>),
}

/// A Spark that sleeps is woken, one that is on its way up is waited for.
async fn connect(context: &Context, spark: &Spark, args: &Args) -> Result<Way, CliError> {
    let name = &args.host.0;
    let spark = match enter(context, spark, args).await {
        Err(CliError::Client(Error::Sleeping(_))) => {
            eprintln!("Waking {name} ...");
            context.sparks.wake(name).await?;
            context.wait_awake(name, Condition::Running, &args.wait).await?
        }
        Err(CliError::Client(Error::NotRunning { .. })) if !args.wait.no_wait => {
            context.wait(name, Condition::Running, &args.wait).await?
        }
        result => return result,
    };
    enter(context, &spark, args).await
}

/// The faster way, or the one that is always there. What keeps a Spark from being entered at all, the second one tells.
async fn enter(context: &Context, spark: &Spark, args: &Args) -> Result<Way, CliError> {
    match by_gateway(context, spark, args).await {
        Ok(tunnel) => return Ok(Way::Gateway(tunnel)),
        Err(why) => why.say(args),
    }
    Ok(Way::ApiServer(Box::new(context.sparks.ssh(spark).await?)))
}

/// Why the gateway's way is closed.
#[derive(Debug, thiserror::Error)]
enum Closed {
    /// There is no key to log in with.
    #[error("no --identity is named")]
    NoIdentity,
    /// The key, the token or the address.
    #[error(transparent)]
    Cli(#[from] CliError),
    /// The Spark doesn't let the key in.
    #[error(transparent)]
    Client(#[from] Error),
    /// The gateway.
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl Closed {
    /// Who names no key did not ask for that way.
    fn say(&self, args: &Args) {
        if args.verbose && !matches!(self, Self::NoIdentity) {
            eprintln!("spark: not through the gateway: {self}");
        }
    }
}

/// Dials and has the key let in at the same time. What fails first ends both.
async fn by_gateway(context: &Context, spark: &Spark, args: &Args) -> Result<Tunnel, Closed> {
    let (sparks, name) = (&context.sparks, &args.host.0);
    let key = identity::public(args.identity.as_deref().ok_or(Closed::NoIdentity)?)?;
    let admitted = async { sparks.admit(spark, &key).await.map_err(Closed::from) };
    let dialed = async {
        let door = args.gateway.door(sparks, name).map_err(Closed::from);
        let token = gateway::token(sparks, name, TOKEN_LIFE).map_err(Closed::from);
        gateway::dial(door, token).await
    };
    let ((), tunnel) = futures::try_join!(admitted, dialed)?;
    if args.verbose {
        eprintln!("spark: through the gateway");
    }
    Ok(tunnel)
}
